//! Lists: pages, selectors, shapes.

use crate::common;

use common::{Api, MAPS, admin, labelled, map, names};
use serde_json::{Value, json};

async fn with_maps(count: usize) -> Api {
    let api = Api::new().await;
    for i in 0..count {
        api.post(MAPS, map(&format!("m{i}"))).await.good();
    }
    api
}

#[tokio::test]
async fn pages_show_one_snapshot_whatever_is_written_between() {
    let api = with_maps(5).await;
    let first = api.get(&format!("{MAPS}?limit=2")).await.good();
    assert_eq!(names(&first), ["m0", "m1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    api.delete(&format!("{MAPS}/m2")).await.good();
    api.post(MAPS, map("m21")).await.good();
    let mut seen = Vec::new();
    let mut token = first["metadata"]["continue"].as_str().map(str::to_owned);
    while let Some(t) = token {
        let page = api.get(&format!("{MAPS}?limit=2&continue={t}")).await.good();
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        token = page["metadata"]["continue"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, ["m2", "m3", "m4"]);
}

#[tokio::test]
async fn objects_of_a_list_leave_their_kind_to_the_list() {
    let api = with_maps(2).await;
    let list = api.get(MAPS).await.good();
    assert_eq!(names(&list), ["m0", "m1"]);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    for item in list["items"].as_array().unwrap() {
        assert_eq!((item.get("kind"), item.get("apiVersion")), (None, None), "{item}");
    }
    let empty = api.get("/api/v1/namespaces/default/secrets").await.good();
    assert_eq!(empty["items"], json!([]));
}

#[tokio::test]
async fn a_token_of_a_compacted_snapshot_expires_with_another_to_go_on_with() {
    let api = with_maps(3).await;
    let first = api.get(&format!("{MAPS}?limit=1")).await.good();
    api.post(MAPS, map("m9")).await.good();
    api.storage.compact(api.storage.current_revision()).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = api.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert!(expired.failed(410).starts_with("The provided continue parameter is too old"));
    let token = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(names(&api.get(&format!("{MAPS}?continue={token}")).await.good()), ["m1", "m2", "m9"]);
    assert!(
        api.get(&format!("{MAPS}?continue=nonsense"))
            .await
            .failed(400)
            .starts_with("invalid continue token: continue key")
    );
}

#[tokio::test]
async fn selectors_thin_pages_and_lists() {
    let api = Api::new().await;
    for i in 0..6 {
        api.post(MAPS, labelled(&format!("m{i}"), if i % 2 == 0 { "even" } else { "odd" })).await.good();
    }
    assert_eq!(names(&api.get(&format!("{MAPS}?labelSelector=l+in+(odd)")).await.good()), ["m1", "m3", "m5"]);
    let page = api.get(&format!("{MAPS}?labelSelector=l%3Dodd&limit=2")).await.good();
    assert_eq!(names(&page), ["m1", "m3"]);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{MAPS}?labelSelector=l%3Dodd&limit=2&continue={token}")).await.good();
    assert_eq!(names(&rest), ["m5"]);
    assert_eq!(names(&api.get("/api/v1/configmaps?fieldSelector=metadata.name%3Dm4").await.good()), ["m4"]);
    assert!(api.get(&format!("{MAPS}?labelSelector=a+b")).await.failed(400).starts_with("unable to parse requirement"));
}

#[tokio::test]
async fn revision_rules_of_a_list_hold() {
    let api = with_maps(2).await;
    let old = api.storage.current_revision();
    api.post(MAPS, map("m2")).await.good();
    let exact = api.get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await.good();
    assert_eq!((names(&exact), &exact["metadata"]["resourceVersion"]), (vec!["m0", "m1"], &json!(old.to_string())));
    let newer = api.get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=NotOlderThan")).await.good();
    assert_eq!(names(&newer).len(), 3);
    let future = api.get(&format!("{MAPS}?resourceVersion=99999")).await;
    assert!(future.failed(504).starts_with("Timeout: Too large resource version: 99999"));
    assert!(
        api.get(&format!("{MAPS}?resourceVersionMatch=Exact"))
            .await
            .failed(422)
            .contains("is forbidden unless resourceVersion is provided")
    );
}

#[tokio::test]
async fn a_table_has_the_columns_that_kubectl_prints() {
    let api = Api::new().await;
    let status = json!({"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.0"},
        "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}]});
    let labels = json!({"node-role.kubernetes.io/control-plane": ""});
    api.post("/api/v1/nodes", json!({"metadata": {"name": "n", "labels": labels}, "status": status})).await.good();
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = api.send(admin(), "GET", "/api/v1/nodes", &accept, Value::Null).await.good();
    assert_eq!(table["kind"], "Table");
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        *cells,
        json!([
            "n",
            "Ready",
            "control-plane",
            "0s",
            "v1.36.0",
            "10.0.0.9",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>"
        ])
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["columnDefinitions"][2]["name"], "Roles");
}

#[tokio::test]
async fn metadata_yaml_and_gzip_are_had_for_the_asking() {
    let api = with_maps(1).await;
    let accept = |a: &'static str| [("accept", a)];
    let part = api
        .send(
            admin(),
            "GET",
            MAPS,
            &accept("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
            Value::Null,
        )
        .await
        .good();
    assert_eq!((&part["kind"], part["items"][0].get("data")), (&json!("PartialObjectMetadataList"), None));
    let yaml = api.send(admin(), "GET", &format!("{MAPS}/m0"), &accept("application/yaml"), Value::Null).await;
    assert!(yaml.text().contains("\n  name: m0\n"), "{}", yaml.text());
    let body = "metadata: {name: y}\ndata: {a: b}\n";
    let made =
        common::read(api.raw(admin(), "POST", MAPS, &[("content-type", "application/yaml")], body).await).await.good();
    assert_eq!(made["data"]["a"], "b");
    api.post(MAPS, json!({"metadata": {"name": "big"}, "data": {"k": "x".repeat(300_000)}})).await.good();
    let zipped = api.send(admin(), "GET", MAPS, &[("accept-encoding", "gzip")], Value::Null).await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    assert!(zipped.bytes.len() < 10_000);
    assert_eq!(api.send(admin(), "GET", MAPS, &accept("text/html"), Value::Null).await.code, 406);
}

#[tokio::test]
async fn discovery_tells_every_row_in_both_shapes() {
    let api = Api::new().await;
    let core = api.get("/api/v1").await.good();
    let node = core["resources"].as_array().unwrap().iter().find(|r| r["name"] == "nodes").unwrap();
    assert_eq!((&node["shortNames"], &node["namespaced"]), (&json!(["no"]), &json!(false)));
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let all = api.send(admin(), "GET", "/apis", &accept, Value::Null).await;
    assert_eq!(all.headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let tag = all.headers["etag"].to_str().unwrap();
    let again = api.send(admin(), "GET", "/apis", &[accept[0], ("if-none-match", tag)], Value::Null).await;
    assert_eq!(again.code, 304);
    let index = api.get("/openapi/v3").await.good();
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    let doc = api.get(url).await.good();
    let patch = &doc["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    assert_eq!(api.get("/apis/nope/v1").await.failed(404), "the server could not find the requested resource");
}
