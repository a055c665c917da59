//! Two operators of the field: what they define and the webhooks that they register, and a controller in kube-rs that does one's
//! work.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;
#[path = "../../../runtime/apiserver/tests/common/hooks.rs"]
mod hooks;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use common::{Cluster, refused, soon};
use futures::StreamExt as _;
use hooks::{Hook, patched};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::controller::Action;
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

/// Applies the documents of a file as kubectl does, and waits until their kinds are served.
async fn apply(client: &Client, file: &str, hook: &Hook) {
    let of = hook.client();
    let file =
        file.replace("HOOK_URL", of["url"].as_str().unwrap()).replace("HOOK_CA", of["caBundle"].as_str().unwrap());
    for document in file.split("\n---\n") {
        let line = |start: &str| document.lines().find_map(|l| l.strip_prefix(start)).unwrap();
        let (kind, name) = (line("kind: "), line("  name: "));
        let group = line("apiVersion: ");
        let plural = format!("{}s", kind.to_lowercase());
        let request = http::Request::patch(format!("/apis/{group}/{plural}/{name}?fieldManager=kubectl"))
            .header("content-type", "application/apply-patch+yaml")
            .body(document.as_bytes().to_vec());
        client.request::<Value>(request.unwrap()).await.unwrap();
        if kind == "CustomResourceDefinition" {
            let all =
                Api::<DynamicObject>::all_with(client.clone(), &resource("apiextensions.k8s.io", "v1", kind, &plural));
            let events =
                watcher(all, watcher::Config::default().fields(&format!("metadata.name={name}"))).applied_objects();
            let established = |c: &Value| c["type"] == "Established" && c["status"] == "True";
            let mut served = pin!(events.filter(|d| {
                let conditions = d.as_ref().unwrap().data["status"]["conditions"].as_array().cloned();
                futures::future::ready(conditions.unwrap_or_default().iter().any(established))
            }));
            soon(name, served.next()).await;
        }
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn objects(client: &Client, group: &str, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "default", &resource(group, version, kind, plural))
}

fn of_cert_manager(client: &Client, kind: &str) -> Api<DynamicObject> {
    objects(client, "cert-manager.io", "v1", kind, &format!("{}s", kind.to_lowercase()))
}

fn of_monitoring(client: &Client, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    objects(client, "monitoring.coreos.com", version, kind, plural)
}

fn object(api: &Api<DynamicObject>, version: &str, kind: &str, name: &str, spec: Value) -> DynamicObject {
    let group = api.resource_url().split('/').nth(2).unwrap().to_owned();
    common::object(json!({
        "apiVersion": format!("{group}/{version}"), "kind": kind, "metadata": {"name": name}, "spec": spec,
    }))
}

async fn create(
    api: &Api<DynamicObject>,
    version: &str,
    kind: &str,
    name: &str,
    spec: Value,
) -> kube::Result<DynamicObject> {
    api.create(&PostParams::default(), &object(api, version, kind, name, spec)).await
}

/// cert-manager's part for one Certificate: a request, its signature, the Secret, the condition.
async fn issue(certificate: Arc<DynamicObject>, client: Arc<Client>) -> kube::Result<Action> {
    let (name, spec) = (certificate.name_any(), &certificate.data["spec"]);
    let owner =
        certificate.controller_owner_ref(&resource("cert-manager.io", "v1", "Certificate", "certificates")).unwrap();
    let manager = PatchParams::apply("cert-manager").force();
    let requests = of_cert_manager(&client, "CertificateRequest");
    let mut request = object(
        &requests,
        "v1",
        "CertificateRequest",
        &format!("{name}-1"),
        json!({"request": "Q1NS", "issuerRef": spec["issuerRef"]}),
    );
    request.metadata.owner_references = Some(vec![owner.clone()]);
    requests.patch(&request.name_any(), &manager, &Patch::Apply(&request)).await?;
    let signed = json!({"status": {"certificate": "Q0VSVA==", "conditions": [{"type": "Ready", "status": "True", "reason": "Issued"}]}});
    requests.patch_status(&request.name_any(), &PatchParams::default(), &Patch::Merge(signed)).await?;
    let secret_name = spec["secretName"].as_str().unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": secret_name, "ownerReferences": [owner]},
        "data": {"tls.crt": "Q0VSVA==", "tls.key": "S0VZ"},
    });
    Api::<Secret>::namespaced((*client).clone(), "default").patch(secret_name, &manager, &Patch::Apply(secret)).await?;
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "Certificate is up to date and has not expired",
        "observedGeneration": certificate.metadata.generation,
    });
    let status = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "status": {"revision": 1, "conditions": [condition]},
    });
    of_cert_manager(&client, "Certificate").patch_status(&name, &manager, &Patch::Apply(status)).await?;
    Ok(Action::await_change())
}

#[tokio::test]
async fn certificates_are_checked_issued_and_kept_as_cert_manager_does() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let hook = Hook::serve(|review| {
        let request = &review["request"];
        let spec = &request["object"]["spec"];
        if request["resource"]["resource"] == "certificaterequests" && spec.get("username").is_none() {
            let user = &request["userInfo"];
            return patched(json!([
                {"op": "add", "path": "/spec/username", "value": user["username"]},
                {"op": "add", "path": "/spec/groups", "value": user["groups"]},
            ]));
        }
        let both = spec.get("commonName").is_some() && spec.get("literalSubject").is_some();
        let why =
            "spec.commonName: Invalid value: \"a\": When providing a `LiteralSubject` no `commonName` may be provided.";
        json!({"allowed": !both, "status": {"message": why, "code": 400}})
    })
    .await;
    apply(client, include_str!("operators/cert-manager.yaml"), &hook).await;
    let certificates = of_cert_manager(client, "Certificate");
    let owned = watcher::Config::default();
    let kind = resource("cert-manager.io", "v1", "Certificate", "certificates");
    let controller = Controller::new_with(certificates.clone(), owned.clone(), kind)
        .owns(Api::<Secret>::namespaced(client.clone(), "default"), owned)
        .run(issue, |_, error, _| panic!("{error}"), Arc::new(client.clone()));
    let running = tokio::spawn(controller.for_each(|done| async move {
        // An object that went before its turn is no fault.
        if let Err(error) = done {
            assert!(matches!(error, kube::runtime::controller::Error::ObjectNotFound(_)), "{error}");
        }
    }));

    let issuer = json!({"name": "ca"});
    for (name, spec, code, why) in [
        ("none", json!({"secretName": "s"}), 422, "spec.issuerRef: Required value"),
        (
            "odd",
            json!({"secretName": "s", "issuerRef": issuer, "privateKey": {"algorithm": "DSA"}}),
            422,
            "spec.privateKey.algorithm: Unsupported value: \"DSA\": supported values: \"RSA\", \"ECDSA\", \"Ed25519\"",
        ),
        (
            "two",
            json!({"secretName": "s", "issuerRef": issuer, "commonName": "a", "literalSubject": "CN=b"}),
            400,
            "admission webhook \"webhook.cert-manager.io\" denied the request: spec.commonName",
        ),
    ] {
        let (found, _, message) = refused(create(&certificates, "v1", "Certificate", name, spec).await);
        assert!(found == code && message.contains(why), "{found} {message}");
    }
    let spec = json!({"secretName": "web-tls", "issuerRef": issuer, "dnsNames": ["web.example.com"], "usages": ["server auth"]});
    create(&certificates, "v1", "Certificate", "web", spec).await.unwrap();
    let is_ready = |o: Option<&DynamicObject>| o.is_some_and(|o| o.data["status"]["conditions"][0]["status"] == "True");
    let ready = kube::runtime::wait::await_condition(certificates.clone(), "web", is_ready);
    soon("the certificate is ready", ready).await.unwrap();
    let request = of_cert_manager(client, "CertificateRequest").get("web-1").await.unwrap();
    assert_eq!(request.data["spec"]["groups"], json!(["system:masters", "system:authenticated"]));
    assert_eq!(request.data["status"]["conditions"][0]["reason"], "Issued");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let secret = secrets.get("web-tls").await.unwrap();
    assert_eq!(
        (secret.type_.as_deref(), secret.owner_references()[0].kind.as_str()),
        (Some("kubernetes.io/tls"), "Certificate")
    );
    // A Secret that is lost is made again.
    secrets.delete("web-tls", &Default::default()).await.unwrap();
    let other = |s: Option<&Secret>| s.is_some_and(|s| s.uid() != secret.uid());
    soon("the Secret is back", kube::runtime::wait::await_condition(secrets, "web-tls", other)).await.unwrap();
    // What kubectl prints and selects.
    let selected = certificates.list(&ListParams::default().fields("spec.issuerRef.name=ca")).await.unwrap();
    assert_eq!(selected.items.len(), 1);
    let table = http::Request::get("/apis/cert-manager.io/v1/namespaces/default/certificates")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new());
    let table: Value = client.request(table.unwrap()).await.unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..4], [json!("web"), json!("True"), json!("web-tls"), json!("ca")]);
    assert!(!running.is_finished());
    running.abort();
}

#[tokio::test]
async fn rules_and_configurations_are_defaulted_refused_and_converted_as_prometheus_operators() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let hook = Hook::serve(|review| {
        let request = &review["request"];
        if review["kind"] == "ConversionReview" {
            let convert = |o: &Value| {
                let (mut o, wanted) = (o.clone(), request["desiredAPIVersion"].clone());
                let names = ("muteTimeIntervals", "timeIntervals");
                let (from, to) = if wanted.as_str().unwrap().ends_with("v1beta1") { names } else { (names.1, names.0) };
                if let Some(list) = o["spec"].as_object_mut().unwrap().remove(from) {
                    o["spec"][to] = list;
                }
                o["apiVersion"] = wanted;
                o
            };
            let converted: Vec<Value> = request["objects"].as_array().unwrap().iter().map(convert).collect();
            return json!({"result": {"status": "Success"}, "convertedObjects": converted});
        }
        let object = &request["object"];
        let key = "prometheus-operator-validated";
        if object["metadata"]["annotations"].get(key).is_none() {
            return patched(json!([{"op": "add", "path": "/metadata/annotations", "value": {key: "true"}}]));
        }
        let wrong = object["spec"]["groups"][0]["rules"][0]["expr"] == "rate(";
        json!({"allowed": !wrong, "status": {"message": "Rules are not valid", "reason": "Invalid", "code": 406}})
    })
    .await;
    apply(client, include_str!("operators/prometheus-operator.yaml"), &hook).await;

    let rules = of_monitoring(client, "v1", "PrometheusRule", "prometheusrules");
    let group =
        |name: &str, expr: Value| json!({"name": name, "rules": [{"alert": "Down", "expr": expr, "for": "5m"}]});
    let made = create(
        &rules,
        "v1",
        "PrometheusRule",
        "good",
        json!({"groups": [group("a", json!(1)), group("b", json!("up == 0"))]}),
    )
    .await;
    let expected = BTreeMap::from([("prometheus-operator-validated".to_owned(), "true".to_owned())]);
    assert_eq!(*made.unwrap().annotations(), expected);
    for (name, groups, code, why) in [
        ("bad", json!([group("a", json!("rate("))]), 406, "denied the request: Rules are not valid"),
        ("twice", json!([group("a", json!(1)), group("a", json!(2))]), 422, "spec.groups[1]: Duplicate value"),
        ("type", json!([group("a", json!(true))]), 422, "spec.groups[0].rules[0].expr"),
        (
            "strategy",
            json!([{"name": "a", "partial_response_strategy": "panic"}]),
            422,
            "spec.groups[0].partial_response_strategy",
        ),
    ] {
        let (found, _, message) =
            refused(create(&rules, "v1", "PrometheusRule", name, json!({"groups": groups})).await);
        assert!(found == code && message.contains(why), "{name}: {found} {message}");
    }
    // Groups are merged by their names.
    let more = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
        "spec": {"groups": [{"name": "b", "limit": 3}, {"name": "c", "partial_response_strategy": "WARN"}]},
    });
    let merged = rules.patch("good", &PatchParams::apply("other"), &Patch::Apply(more)).await.unwrap();
    let names: Vec<&str> =
        merged.data["spec"]["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!((names, &merged.data["spec"]["groups"][1]["limit"]), (vec!["a", "b", "c"], &json!(3)));

    let prometheuses = of_monitoring(client, "v1", "Prometheus", "prometheuses");
    let spec = json!({"replicas": 2, "shards": 1, "resources": {"limits": {"cpu": 1, "memory": "400Mi"}}});
    let made = create(&prometheuses, "v1", "Prometheus", "main", spec).await.unwrap();
    for (key, expected) in [("portName", "web"), ("evaluationInterval", "30s"), ("scrapeInterval", "30s")] {
        assert_eq!(made.data["spec"][key], expected, "{key}");
    }
    prometheuses
        .patch_scale("main", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}})))
        .await
        .unwrap();
    assert_eq!(prometheuses.get("main").await.unwrap().data["spec"]["shards"], 3);

    let alpha = of_monitoring(client, "v1alpha1", "AlertmanagerConfig", "alertmanagerconfigs");
    let beta = of_monitoring(client, "v1beta1", "AlertmanagerConfig", "alertmanagerconfigs");
    let intervals = json!([{"name": "night"}]);
    create(&alpha, "v1alpha1", "AlertmanagerConfig", "one", json!({"muteTimeIntervals": intervals})).await.unwrap();
    create(&beta, "v1beta1", "AlertmanagerConfig", "two", json!({"timeIntervals": intervals})).await.unwrap();
    for (api, key) in [(&alpha, "muteTimeIntervals"), (&beta, "timeIntervals")] {
        for object in api.list(&ListParams::default()).await.unwrap() {
            assert_eq!(object.data["spec"], json!({key: intervals}), "{}", object.name_any());
        }
    }
    let (code, _, why) =
        refused(create(&beta, "v1beta1", "AlertmanagerConfig", "bad", json!({"timeIntervals": [{}]})).await);
    assert!(code == 422 && why.contains("spec.timeIntervals[0].name: Required value"), "{code} {why}");
}
