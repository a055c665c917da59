//! What is sent and answered in other forms than plain JSON: protobuf both ways, strict decoding, OpenAPI.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, in their helpers too")]

use crate::common;

use std::io::Read as _;

use common::{Answer, Api, MAPS, admin, map, read};
use http_body_util::BodyExt as _;
use kiln_schema::protobuf;
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const CLIENT_GO: &str = "application/vnd.kubernetes.protobuf,application/json";

async fn get(api: &Api, path: &str, accept: &str) -> Answer {
    api.send(admin(), "GET", path, &[("accept", accept)], Value::Null).await
}

fn decoded(answer: &Answer) -> Value {
    assert_eq!(answer.headers["content-type"], PROTOBUF);
    protobuf::decode(&answer.bytes).unwrap()
}

#[tokio::test]
async fn a_go_client_creates_reads_and_lists_in_protobuf() {
    let api = Api::new().await;
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let headers = [("content-type", PROTOBUF), ("accept", CLIENT_GO)];
    let body = protobuf::encode(&object).unwrap();
    let created = read(api.raw(admin(), "POST", MAPS, &headers, body).await).await;
    assert_eq!(created.code, 201);
    assert_eq!(decoded(&created)["data"], json!({"k": "v"}));
    assert_eq!(decoded(&created)["metadata"]["uid"].as_str().unwrap().len(), 36);

    let json = api.get(&format!("{MAPS}/a")).await.good();
    assert_eq!(decoded(&get(&api, &format!("{MAPS}/a"), CLIENT_GO).await), json);
    let list = decoded(&get(&api, MAPS, CLIENT_GO).await);
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["metadata"]["resourceVersion"], api.get(MAPS).await.good()["metadata"]["resourceVersion"]);
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
}

#[tokio::test]
async fn refusals_and_deletions_are_protobuf_statuses_for_who_takes_those() {
    let api = Api::new().await;
    let refused = get(&api, &format!("{MAPS}/nobody"), CLIENT_GO).await;
    assert_eq!(refused.code, 404);
    let status = decoded(&refused);
    assert_eq!(status["reason"], "NotFound");
    assert_eq!(status["details"]["name"], "nobody");
    api.post(MAPS, map("a")).await.good();
    let deleted = api.send(admin(), "DELETE", &format!("{MAPS}/a"), &[("accept", CLIENT_GO)], Value::Null).await;
    assert_eq!(decoded(&deleted)["status"], "Success");
}

#[tokio::test]
async fn metadata_alone_comes_in_protobuf_and_tables_only_in_json() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let partial =
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let list = decoded(&get(&api, MAPS, partial).await);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert!(list["items"][0].get("data").is_none());
    let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    assert_eq!(decoded(&get(&api, &format!("{MAPS}/a"), partial).await)["kind"], "PartialObjectMetadata");
    let table =
        "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1";
    assert_eq!(get(&api, MAPS, table).await.good()["kind"], "Table");
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
    assert_eq!(get(&api, MAPS, table).await.code, 406);
}

#[tokio::test]
async fn a_watch_in_protobuf_is_frames_with_lengths() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let path = format!("{MAPS}?watch=1&resourceVersion=0");
    let response = api.raw(admin(), "GET", &path, &[("accept", CLIENT_GO)], "").await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut body = response.into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    assert!(frame[4..].starts_with(b"\x0a\x05ADDED"));
    let at = frame.windows(4).position(|w| w == b"k8s\0").unwrap();
    assert_eq!(protobuf::decode(&frame[at..]).unwrap()["metadata"]["name"], "a");
}

#[tokio::test]
async fn fields_that_a_kind_has_not_are_told_at_any_depth() {
    let api = Api::new().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [
        {"operator": "Exists", "scopeName": "Terminating", "value": 1}]}, "hardly": 2}});
    let path = "/api/v1/namespaces/default/resourcequotas";
    let strict = api.post(&format!("{path}?fieldValidation=Strict"), quota.clone()).await;
    assert_eq!(
        strict.failed(400),
        "ResourceQuota in version \"v1\" cannot be handled as a ResourceQuota: strict decoding error: \
         unknown field \"spec.hardly\", unknown field \"spec.scopeSelector.matchExpressions[0].value\""
    );
    let warned = api.post(path, quota).await;
    let unknown = ["spec.hardly", "spec.scopeSelector.matchExpressions[0].value"];
    assert_eq!(warned.warnings(), unknown.map(|field| format!("unknown field {field:?}")));
    assert!(warned.good()["spec"].get("hardly").is_none());
    let wrong = api.post(path, json!({"metadata": {"name": "r"}, "spec": {"scopes": "x"}})).await;
    assert_eq!(
        wrong.failed(400),
        "ResourceQuota in version \"v1\" cannot be handled as a ResourceQuota: json: cannot unmarshal string into Go struct \
         field ResourceQuotaSpec.spec.scopes of type []v1.ResourceQuotaScope"
    );
}

#[tokio::test]
async fn nulls_go_except_where_they_are_somebodys_data() {
    let api = Api::new().await;
    let path = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let data = json!({"spec": {"paused": null}});
    let revision = json!({"metadata": {"name": "r", "labels": null}, "revision": 1, "data": data});
    let mut made = api.post(path, revision).await.good();
    assert_eq!((&made["data"], made["metadata"].get("labels")), (&data, None));
    made["metadata"]["labels"] = json!({"a": "b"});
    made["metadata"]["annotations"] = Value::Null;
    let changed = api.put(&format!("{path}/r"), made).await.good();
    assert_eq!((&changed["data"], changed["metadata"].get("annotations")), (&data, None));
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused_as_upstream_refuses_it() {
    let api = Api::new().await;
    let with = |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}});
    assert_eq!(
        api.post(MAPS, with("v1", "Nonsense")).await.failed(400),
        "Nonsense in version \"v1\" cannot be handled as a ConfigMap: no kind \"Nonsense\" is registered for version \"v1\" in \
         scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\""
    );
    assert_eq!(
        api.post(MAPS, with("apps/v1", "Deployment")).await.failed(400),
        "the API version in the data (apps/v1) does not match the expected API version (v1)"
    );
    let refused = api.send(admin(), "POST", MAPS, &[("content-type", PROTOBUF)], json!({})).await;
    assert!(
        refused
            .failed(400)
            .starts_with("the object provided is unrecognized (must be of type ConfigMap): provided data")
    );
}

#[tokio::test]
async fn openapi_documents_have_hashes_by_which_they_are_kept() {
    let api = Api::new().await;
    let index = api.get("/openapi/v3").await.good();
    let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let found = api.get(&address).await;
    assert_eq!(found.headers["cache-control"], "public, immutable");
    assert!(found.headers.contains_key("expires"));
    let tag = found.headers["etag"].to_str().unwrap().to_owned();
    assert!(address.ends_with(tag.trim_matches('"')));
    let schemas = &found.good()["components"]["schemas"];
    assert!(schemas["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]["description"].is_string());

    let known = api.send(admin(), "GET", &address, &[("if-none-match", &tag)], Value::Null).await;
    assert_eq!((known.code, known.bytes.len()), (304, 0));
    let moved = api.get("/openapi/v3/apis/apps/v1?hash=OLD").await;
    assert_eq!((moved.code, moved.headers["location"].to_str().unwrap()), (301, address.as_str()));
    assert_eq!(api.get("/openapi/v3/apis/nobody/v1").await.code, 404);

    let zipped = api.send(admin(), "GET", &address, &[("accept-encoding", "gzip")], Value::Null).await;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&zipped.bytes[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, api.get(&address).await.bytes);
}

#[tokio::test]
async fn version_two_is_had_in_json_and_in_protobuf() {
    let api = Api::new().await;
    let two = api.get("/openapi/v2").await.good();
    assert_eq!(two["swagger"], "2.0");
    assert!(two["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    assert!(two["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"].is_object());
    let old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let found = get(&api, "/openapi/v2", old).await;
    assert_eq!(found.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert!(found.bytes.starts_with(b"\x0a\x032.0"));
    assert_eq!(get(&api, "/openapi/v2", "text/html").await.code, 406);
}

#[tokio::test]
async fn keys_that_stand_twice_in_yaml_are_told_by_their_line() {
    let api = Api::new().await;
    let yaml = "\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  foo: foo1\n  foo: foo2\n";
    let go = async |how: &str| {
        let path = format!("{MAPS}/a?fieldManager=me&fieldValidation={how}");
        read(api.raw(admin(), "PATCH", &path, &[("content-type", "application/apply-patch+yaml")], yaml).await).await
    };
    assert_eq!(
        go("Strict").await.failed(400),
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 8: key \"foo\" already set in \
         map"
    );
    let warned = go("Warn").await;
    assert_eq!(warned.good()["data"]["foo"], "foo2");
    assert!(warned.warnings()[0].contains("line 8: key"), "{:?}", warned.warnings());
    assert!(go("Ignore").await.warnings().is_empty());
}

#[tokio::test]
async fn a_json_patch_is_held_to_its_own_fields() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let patch = |how: &str, body: &'static str| {
        let path = format!("{MAPS}/a?fieldValidation={how}");
        let api = &api;
        async move {
            let json = [("content-type", "application/json-patch+json")];
            read(api.raw(admin(), "PATCH", &path, &json, body).await).await
        }
    };
    let odd = r#"[{"op": "add", "path": "/data/j", "path": "/data/j", "value": "1", "what": 1}, {"op": "add", "path": "/x", "value": 1}]"#;
    let text = patch("Strict", odd).await.failed(422);
    assert!(
        text.ends_with(
            "strict decoding error: json patch unknown field \"[0].what\", json patch duplicate field \"[0].path\", unknown \
             field \"x\""
        ),
        "{text}"
    );
    assert_eq!(patch("Warn", odd).await.warnings().len(), 3);
    assert_eq!(
        patch("Strict", "{}").await.failed(400),
        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
    );
}

#[tokio::test]
async fn a_reference_to_an_owner_that_stands_twice_is_kept_once_with_a_warning() {
    let api = Api::new().await;
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"});
    let mut object = map("a");
    object["metadata"]["ownerReferences"] = json!([reference, reference]);
    let made = api.post(MAPS, object).await;
    assert_eq!(made.good()["metadata"]["ownerReferences"], json!([reference]));
    assert!(made.warnings()[0].ends_with("duplicate UID(s) observed: u"), "{:?}", made.warnings());
}
