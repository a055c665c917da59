//! Objects nested so deep that readers of JSON would stop: they are refused, so that what is stored can always be read back.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::common;

use common::{Api, admin};
use serde_json::{Value, json};

const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

fn nest(depth: usize) -> Value {
    (0..depth).fold(json!({}), |inner, _| json!({"n": inner}))
}

fn revision(depth: usize) -> Value {
    json!({"metadata": {"name": "r"}, "revision": 1, "data": nest(depth)})
}

#[tokio::test]
async fn an_object_as_deep_as_may_be_is_read_and_written_in_every_way() {
    let api = Api::new().await;
    api.send(admin(), "POST", REVISIONS, &[], revision(98)).await.good();
    let one = format!("{REVISIONS}/r");
    let merge = [("content-type", "application/merge-patch+json")];
    api.send(admin(), "PATCH", &one, &merge, json!({"revision": 2})).await.good();
    let apply = [("content-type", "application/apply-patch+yaml")];
    let config = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 2, "data": nest(98)});
    api.send(admin(), "PATCH", &format!("{one}?fieldManager=m&force=true"), &apply, config).await.good();
    api.get(REVISIONS).await.good();
    api.send(admin(), "DELETE", &one, &[], Value::Null).await.good();
}

#[tokio::test]
async fn a_deeper_one_is_refused_however_it_comes() {
    let api = Api::new().await;
    let why = api.send(admin(), "POST", REVISIONS, &[], revision(110)).await.failed(400);
    assert!(why.ends_with("exceeded max depth"), "{why}");
    api.send(admin(), "POST", REVISIONS, &[], revision(60)).await.good();
    let one = format!("{REVISIONS}/r");
    let merge = [("content-type", "application/merge-patch+json")];
    api.send(admin(), "PATCH", &one, &merge, json!({"data": nest(110)})).await.failed(422);
    let patch = [("content-type", "application/json-patch+json")];
    let under = format!("/data{}", "/n".repeat(60));
    let add = json!([{"op": "add", "path": under, "value": nest(60)}]);
    api.send(admin(), "PATCH", &one, &patch, add).await.failed(422);
    let mut deeper = vec![json!({"op": "test", "path": "/revision", "value": 1})];
    deeper.extend((0..2000).map(|_| json!({"op": "copy", "from": "/data", "path": "/data/n"})));
    api.send(admin(), "PATCH", &one, &patch, deeper.into()).await.failed(422);
}
