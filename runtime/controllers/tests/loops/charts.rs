//! HelmCharts, against a real API server in memory.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_charts::gzip;
use kiln_client::{ListParams, PatchKind};
use kiln_controllers::charts::{self, Config};
use serde_json::{Value, json};
use tar::{Builder, Header};

use crate::addons::served;
use crate::real::{MAPS, World};

pub(crate) const CHARTS: &str = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts";
const CONFIGS: &str = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmchartconfigs";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A small chart: a ConfigMap or two, a definition with an object of its kind, and hooks.
pub(crate) const FILES: [(&str, &str); 6] = [
    ("Chart.yaml", "apiVersion: v2\nname: small\nversion: 1.0.0\nappVersion: \"7\"\n"),
    ("values.yaml", "colour: red\nextra: true\n"),
    ("templates/_helpers.tpl", "{{- define \"small.name\" -}}{{ .Release.Name }}-{{ .Chart.Name }}{{- end -}}"),
    (
        "templates/maps.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include \"small.name\" . }}\ndata:\n  a: {{ .Values.colour | quote }}\n\
         {{- if .Values.extra }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\n{{- end }}\n",
    ),
    (
        "templates/hook.yaml",
        "{{- $known := lookup \"v1\" \"ConfigMap\" \"default\" \"hook\" }}\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: hook\n  \
         annotations: {helm.sh/hook: \"pre-install,pre-upgrade\"}\ndata: {known: {{ empty $known | not | quote }}}\n",
    ),
    ("templates/NOTES.txt", "Have fun with {{ .Release.Name }}."),
];

pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, Path::new("small").join(name), text.as_bytes()).expect("in memory");
    }
    gzip::pack(&tar.into_inner().expect("in memory"))
}

pub(crate) async fn start() -> World {
    let world = World::new().await;
    for name in ["default", "kube-system"] {
        let namespace = json!({"metadata": {"name": name}});
        _ = world.client.create::<Value>("/api/v1/namespaces", &namespace).await;
    }
    let config = Config { client: world.client.clone() };
    world.run(|informers, context| charts::build(informers, context, config));
    served(&world, "helmcharts.helm.cattle.io").await;
    served(&world, "helmchartconfigs.helm.cattle.io").await;
    world
}

pub(crate) fn chart(spec: Value) -> Value {
    let mut chart =
        json!({"apiVersion": "helm.cattle.io/v1", "kind": "HelmChart", "metadata": {"name": "app"}, "spec": spec});
    chart["spec"]["targetNamespace"] = json!("default");
    chart
}

pub(crate) fn has(key: &'static str, value: &'static str) -> impl Fn(Option<&Value>) -> bool {
    move |map| map.is_some_and(|map| map["data"][key] == value)
}

pub(crate) async fn releases(world: &World) -> Vec<(String, String)> {
    let params = ListParams { labels: "owner=helm,name=app".to_owned(), ..ListParams::default() };
    let list = world.client.list::<Value>(SECRETS, &params).await.expect("a list").items;
    let label = |secret: &Value, name: &str| secret["metadata"]["labels"][name].as_str().expect("a text").to_owned();
    list.iter().map(|secret| (label(secret, "version"), label(secret, "status"))).collect()
}

#[tokio::test]
async fn a_chart_is_installed_upgraded_by_its_config_and_uninstalled() {
    let world = start().await;
    let spec = json!({"chartContent": STANDARD.encode(archive(&FILES)), "valuesContent": "colour: blue\n"});
    world.client.create::<Value>(CHARTS, &chart(spec)).await.unwrap();
    let map = world.until(MAPS, "app-small", has("a", "blue")).await.unwrap();
    assert_eq!(map["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
    assert_eq!(map["metadata"]["annotations"]["meta.helm.sh/release-name"], "app");
    world.until(MAPS, "hook", has("known", "false")).await;
    let fine = |chart: Option<&Value>| chart.is_some_and(|chart| chart["status"]["conditions"][0]["status"] == "False");
    world.until(CHARTS, "app", fine).await;
    assert_eq!(releases(&world).await, [("1".to_owned(), "deployed".to_owned())]);

    let config = json!({"metadata": {"name": "app"}, "spec": {"valuesContent": "colour: green\nextra: false\n"}});
    world.client.create::<Value>(CONFIGS, &config).await.unwrap();
    world.until(MAPS, "app-small", has("a", "green")).await;
    world.gone("extra").await;
    world.until(MAPS, "hook", has("known", "true")).await;
    let status = |status: &'static str| {
        move |secret: Option<&Value>| secret.is_some_and(|secret| secret["metadata"]["labels"]["status"] == status)
    };
    world.until(SECRETS, "sh.helm.release.v1.app.v2", status("deployed")).await;
    let old = world.until(SECRETS, "sh.helm.release.v1.app.v1", status("superseded")).await.unwrap();
    let packed = STANDARD.decode(STANDARD.decode(old["data"]["release"].as_str().unwrap()).unwrap()).unwrap();
    let release: Value = serde_json::from_slice(&gzip::unpack(&packed, 1 << 20).unwrap()).unwrap();
    assert_eq!(release["info"]["notes"], "Have fun with app.");
    assert_eq!(release["chart"]["metadata"]["appVersion"], "7");

    world.client.delete(&format!("{CHARTS}/app"), &Value::Null).await.unwrap();
    world.until(CHARTS, "app", |chart| chart.is_none()).await;
    assert!(!world.is_there("app-small").await);
    assert!(releases(&world).await.is_empty());
}

#[tokio::test]
async fn a_chart_that_fails_says_why_and_is_installed_once_it_is_right() {
    let world = start().await;
    let mut files = FILES;
    files[3].1 = "{{ required \"a size is needed\" .Values.size }}";
    let mut object = chart(json!({"chartContent": STANDARD.encode(archive(&files)), "failurePolicy": "abort"}));
    world.client.create::<Value>(CHARTS, &object).await.unwrap();
    let failed =
        |chart: Option<&Value>| chart.is_some_and(|chart| chart["status"]["conditions"][0]["status"] == "True");
    let told = world.until(CHARTS, "app", failed).await.unwrap();
    let message = told["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.ends_with("error calling required: a size is needed"), "{message}");
    object["spec"]["chartContent"] = json!(STANDARD.encode(archive(&FILES)));
    object["spec"]["set"] = json!({"colour": "grey"});
    world.client.patch::<Value>(&format!("{CHARTS}/app"), PatchKind::Merge, &object).await.unwrap();
    world.until(MAPS, "app-small", has("a", "grey")).await;
}

#[tokio::test]
async fn values_that_do_not_fit_the_charts_schema_install_nothing() {
    let world = start().await;
    let schema = ("values.schema.json", "{\"properties\": {\"colour\": {\"type\": \"string\"}}}");
    let files: Vec<(&str, &str)> = FILES.into_iter().chain([schema]).collect();
    let mut object = chart(json!({"chartContent": STANDARD.encode(archive(&files)), "values": {"colour": 7}}));
    world.client.create::<Value>(CHARTS, &object).await.unwrap();
    let failed =
        |chart: Option<&Value>| chart.is_some_and(|chart| chart["status"]["conditions"][0]["status"] == "True");
    let told = world.until(CHARTS, "app", failed).await.unwrap();
    let what = "values don't meet the specifications of the schema(s) in the following chart(s):\n\
                small:\n- at '/colour': got number, want string\n";
    assert_eq!(told["status"]["conditions"][0]["message"], what);
    assert!(!world.is_there("hook").await && !world.is_there("app-small").await);
    object["spec"]["values"]["colour"] = json!("7");
    world.client.patch::<Value>(&format!("{CHARTS}/app"), PatchKind::Merge, &object).await.unwrap();
    world.until(MAPS, "app-small", has("a", "7")).await;
}

#[tokio::test]
async fn a_secret_with_values_that_changes_is_an_upgrade_unless_it_is_optional() {
    let world = start().await;
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let secret = |name: &str, key: &str, text: &str| json!({"metadata": {"name": name}, "stringData": {key: text}});
    let spec = json!({
        "chartContent": STANDARD.encode(archive(&FILES)), "failurePolicy": "abort",
        "valuesSecrets": [{"name": "needed", "keys": ["a.yaml"]}, {"name": "may-be", "keys": ["b.yaml"], "ignoreUpdates": true}],
    });
    world.client.create::<Value>(CHARTS, &chart(spec)).await.unwrap();
    let failed =
        |chart: Option<&Value>| chart.is_some_and(|chart| chart["status"]["conditions"][0]["status"] == "True");
    let told = world.until(CHARTS, "app", failed).await.unwrap();
    let message = &told["status"]["conditions"][0]["message"];
    assert_eq!(*message, "the Secret kube-system/needed is not there");
    // It comes, and nothing else has to change.
    world.client.create::<Value>(secrets, &secret("needed", "a.yaml", "colour: one\n")).await.unwrap();
    world.until(MAPS, "app-small", has("a", "one")).await;
    let change = async |name: &str, key: &str, text: &str| {
        let path = format!("{secrets}/{name}");
        world.client.patch::<Value>(&path, PatchKind::Merge, &secret(name, key, text)).await.unwrap();
    };
    world.client.create::<Value>(secrets, &secret("may-be", "b.yaml", "extra: false\n")).await.unwrap();
    change("may-be", "b.yaml", "extra: false\ncolour: other\n").await;
    change("needed", "a.yaml", "colour: two\n").await;
    world.until(MAPS, "app-small", has("a", "other")).await;
    world.gone("extra").await;
    let deployed = |secret: Option<&Value>| secret.is_some_and(|s| s["metadata"]["labels"]["status"] == "deployed");
    world.until(SECRETS, "sh.helm.release.v1.app.v2", deployed).await;
    // Two wishes were two releases: the optional Secret alone is none.
    assert_eq!(releases(&world).await.len(), 2);
}

#[tokio::test]
async fn what_is_anothers_is_not_taken_over_unless_that_is_wished() {
    let world = start().await;
    world.make("extra", json!([]), &[]).await;
    let mut object = chart(json!({"chartContent": STANDARD.encode(archive(&FILES)), "failurePolicy": "abort"}));
    world.client.create::<Value>(CHARTS, &object).await.unwrap();
    let failed =
        |chart: Option<&Value>| chart.is_some_and(|chart| chart["status"]["conditions"][0]["status"] == "True");
    let told = world.until(CHARTS, "app", failed).await.unwrap();
    assert!(told["status"]["conditions"][0]["message"].as_str().unwrap().contains("invalid ownership metadata"));
    object["spec"]["takeOwnership"] = json!(true);
    world.client.patch::<Value>(&format!("{CHARTS}/app"), PatchKind::Merge, &object).await.unwrap();
    let ours = |map: Option<&Value>| {
        map.is_some_and(|map| map["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm")
    };
    world.until(MAPS, "extra", ours).await;
}
