//! In what form answers come: tables, metadata, YAML, for readers; and what is no answer.

use crate::common;

use common::{Answer, Api, MAPS, admin, map};
use serde_json::{Value, json};

async fn get(api: &Api, path: &str, headers: &[(&str, &str)]) -> Answer {
    api.send(admin(), "GET", path, headers, Value::Null).await
}

#[tokio::test]
async fn a_table_holds_as_much_of_the_objects_as_is_asked_for() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let row = async |query: &str| get(&api, &format!("{MAPS}{query}"), &accept).await.good()["rows"][0].clone();
    assert_eq!(row("").await["object"]["kind"], "PartialObjectMetadata");
    assert!(row("?includeObject=None").await.get("object").is_none());
    assert_eq!(row("?includeObject=Object").await["object"]["data"], json!({"k": "v"}));
    let one = get(&api, &format!("{MAPS}/a"), &accept).await.good();
    assert_eq!((&one["kind"], one["rows"].as_array().unwrap().len()), (&json!("Table"), 1));
    assert_eq!(get(&api, &format!("{MAPS}?includeObject=Some"), &accept).await.code, 400);
    // A Status is no row.
    let gone = api.send(admin(), "DELETE", &format!("{MAPS}/a"), &accept, Value::Null).await.good();
    assert_eq!(gone["kind"], "Status");
}

#[tokio::test]
async fn metadata_alone_is_an_object_of_its_own_kind() {
    let api = Api::new().await;
    let made = api.post(MAPS, map("a")).await.good();
    let accept = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let part = get(&api, &format!("{MAPS}/a"), &accept).await.good();
    let expected =
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"]});
    assert_eq!(part, expected);
}

#[tokio::test]
async fn readers_get_json_with_line_breaks() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let path = format!("{MAPS}/a");
    let pretty = get(&api, &format!("{path}?pretty=true"), &[]).await;
    assert!(
        pretty.text().starts_with("{\n  \"kind\": \"ConfigMap\",\n  \"apiVersion\": \"v1\",\n"),
        "{}",
        pretty.text()
    );
    assert!(
        get(&api, &path, &[("user-agent", "curl/8.14.1")]).await.text().contains("\n  \"data\": {\n    \"k\": \"v\"")
    );
    assert!(!get(&api, &path, &[("user-agent", "kubectl/v1.36.0")]).await.text().contains("\n "));
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let api = Api::new().await;
    let code = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let answer = api.send(admin(), method, path, headers, json!({})).await;
        (answer.code, answer.json()["reason"].as_str().unwrap().to_owned())
    };
    let status = |code: u16, reason: &str| (code, reason.to_owned());
    assert_eq!(code("GET", MAPS, &[("accept", "image/png")]).await, status(406, "NotAcceptable"));
    assert_eq!(code("POST", MAPS, &[("content-type", "text/html")]).await, status(415, "UnsupportedMediaType"));
    assert_eq!(code("PUT", MAPS, &[]).await, status(405, "MethodNotAllowed"));
    assert_eq!(code("DELETE", "/version", &[]).await, status(405, "MethodNotAllowed"));
    assert_eq!(code("GET", "/api/v1/nothing", &[]).await, status(404, "NotFound"));
    let yaml = get(&api, &format!("{MAPS}?watch=1"), &[("accept", "application/yaml")]).await;
    assert_eq!(yaml.code, 406);
}

#[tokio::test]
async fn small_answers_are_not_compressed_and_large_ones_only_on_request() {
    let api = Api::new().await;
    api.post(MAPS, json!({"metadata": {"name": "big"}, "data": {"k": "x".repeat(200_000)}})).await.good();
    api.post(MAPS, map("small")).await.good();
    let gzip = [("accept-encoding", "gzip, deflate")];
    let encoding = |answer: &Answer| answer.headers.get("content-encoding").cloned();
    assert_eq!(encoding(&get(&api, &format!("{MAPS}/small"), &gzip).await), None);
    assert_eq!(encoding(&get(&api, &format!("{MAPS}/big"), &gzip).await).unwrap(), "gzip");
    assert_eq!(encoding(&get(&api, &format!("{MAPS}/big"), &[]).await), None);
}
