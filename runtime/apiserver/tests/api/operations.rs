//! What operators see and rely on: health, metrics, priorities, limits.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, in their helpers too")]

use crate::common;

use std::time::Duration;

use common::{Api, MAPS, admin, map, revision, user};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

#[tokio::test]
async fn health_is_told_in_a_word_in_all_words_and_check_by_check() {
    let api = Api::new().await;
    let plain = api.get("/readyz").await;
    assert_eq!((plain.code, plain.text().as_str()), (200, "ok"));
    assert_eq!(plain.headers["x-content-type-options"], "nosniff");
    let long = api.get("/livez?verbose").await.text();
    assert!(long.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "{long}");
    assert!(long.ends_with("\nlivez check passed\n"), "{long}");
    assert_eq!(api.get("/healthz/poststarthook/rbac/bootstrap-roles").await.text(), "ok");
    assert_eq!(api.get("/healthz/nope").await.code, 404);
    let excluded = api.get("/readyz?verbose&exclude=etcd&exclude=nope").await.text();
    assert!(excluded.contains("[+]etcd excluded: ok\n"));
    assert!(excluded.contains("warn: some health checks cannot be excluded: no matches for \"nope\"\n"));
}

#[tokio::test]
async fn health_has_the_checks_that_conformance_asks_for() {
    const STARTED: [&str; 19] = [
        "poststarthook/start-apiserver-admission-initializer",
        "poststarthook/generic-apiserver-start-informers",
        "poststarthook/start-apiextensions-informers",
        "poststarthook/start-apiextensions-controllers",
        "poststarthook/crd-informer-synced",
        "poststarthook/bootstrap-controller",
        "poststarthook/start-system-namespaces-controller",
        "poststarthook/start-service-ip-repair-controllers",
        "poststarthook/scheduling/bootstrap-system-priority-classes",
        "poststarthook/start-cluster-authentication-info-controller",
        "poststarthook/start-kube-aggregator-informers",
        "poststarthook/apiservice-registration-controller",
        "poststarthook/apiservice-status-local-available-controller",
        "poststarthook/apiservice-status-remote-available-controller",
        "poststarthook/kube-apiserver-autoregistration",
        "autoregister-completion",
        "poststarthook/apiservice-openapi-controller",
        "poststarthook/storage-readiness",
        "ping",
    ];
    let api = Api::new().await;
    let own: [(&str, &[&str]); 3] = [
        ("healthz", &["log", "etcd"]),
        ("livez", &["log", "etcd"]),
        ("readyz", &["log", "etcd", "informer-sync", "shutdown"]),
    ];
    for (kind, own) in own {
        let told = api.get(&format!("/{kind}?verbose=1")).await.text();
        for check in STARTED.iter().chain(own) {
            assert!(told.lines().any(|line| line == format!("[+]{check} ok")), "{check}: {told}");
            assert_eq!(api.get(&format!("/{kind}/{check}")).await.text(), "ok");
        }
    }
}

#[tokio::test]
async fn every_answer_has_an_audit_id_and_must_not_be_kept() {
    let api = Api::new().await;
    let answer = api.send(admin(), "GET", MAPS, &[("audit-id", "mine")], Value::Null).await;
    assert_eq!(
        (&answer.headers["audit-id"], &answer.headers["cache-control"]),
        (&"mine".parse().unwrap(), &"no-cache, private".parse().unwrap())
    );
    let refused = api.get("/api/v1/nope").await;
    assert_eq!(refused.headers["audit-id"].len(), 36);
}

#[tokio::test]
async fn requests_watches_and_objects_are_counted_under_upstreams_names() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    api.get(&format!("{MAPS}/a")).await.good();
    api.get("/apis/made.up/v1/things").await.failed(404);
    let mut watch = api.watch(&format!("{MAPS}?watch=1")).await;
    watch.next().await.unwrap();
    let text = api.get("/metrics").await.text();
    let line = |name: &str, labels: &[&str]| {
        let found = text.lines().find(|l| l.starts_with(&format!("{name}{{")) && labels.iter().all(|x| l.contains(x)));
        found.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
    };
    let maps = "resource=\"configmaps\"";
    let post =
        ["verb=\"POST\"", maps, "code=\"201\"", "scope=\"resource\"", "component=\"apiserver\"", "version=\"v1\""];
    assert_eq!(line("apiserver_request_total", &post), Some(1.0));
    assert_eq!(line("apiserver_request_duration_seconds_count", &["verb=\"GET\"", maps]), Some(1.0));
    assert_eq!(line("apiserver_longrunning_requests", &["verb=\"WATCH\"", maps, "scope=\"namespace\""]), Some(1.0));
    assert_eq!(line("apiserver_watch_events_total", &[maps]), Some(1.0));
    // One is the server's own, of whom servers of aggregated APIs believe.
    assert_eq!(line("apiserver_storage_objects", &[maps]), Some(2.0));
    assert_eq!(line("apiserver_resource_objects", &["group=\"\"", maps]), Some(2.0));
    assert_eq!(line("kubernetes_build_info", &["major=\"1\""]), Some(1.0));
    assert!(line("apiserver_request_total", &["code=\"404\""]).is_some());
    assert!(!text.contains("made.up"));
    assert!(text.contains("\nprocess_resident_memory_bytes "));
    drop(watch);
    let text = api.get("/metrics").await.text();
    assert!(text.lines().any(|l| l.starts_with("apiserver_longrunning_requests{") && l.ends_with(" 0")), "{text}");
    let slis = api.get("/metrics/slis").await.text();
    assert!(slis.contains("kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1\n"), "{slis}");
}

fn level(name: &str, limited: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}})
}

fn schema(name: &str, level: &str, precedence: i64, subjects: Value) -> Value {
    let rules = json!([{
        "subjects": subjects,
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
    }]);
    json!({"metadata": {"name": name}, "spec": {"priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence, "distinguisherMethod": {"type": "ByUser"}, "rules": rules}})
}

#[tokio::test]
async fn a_request_falls_under_the_first_schema_that_fits_and_is_told_so() {
    let api = Api::new().await;
    let level = api
        .post(
            &format!("{FLOW}/prioritylevelconfigurations"),
            level("mine", json!({"limitResponse": {"type": "Reject"}})),
        )
        .await
        .good();
    let subjects = json!([{"kind": "User", "user": {"name": "bob"}}]);
    let schema = api.post(&format!("{FLOW}/flowschemas"), schema("mine", "mine", 50, subjects)).await.good();
    let answer = api.send(user("bob"), "GET", MAPS, &[], Value::Null).await;
    assert_eq!(answer.code, 403);
    assert_eq!(answer.headers["x-kubernetes-pf-flowschema-uid"], schema["metadata"]["uid"].as_str().unwrap());
    assert_eq!(answer.headers["x-kubernetes-pf-prioritylevel-uid"], level["metadata"]["uid"].as_str().unwrap());
    api.delete(&format!("{FLOW}/flowschemas/mine")).await.good();
    let answer = api.send(user("bob"), "GET", MAPS, &[], Value::Null).await;
    assert_ne!(
        answer.headers.get("x-kubernetes-pf-flowschema-uid"),
        Some(&schema["metadata"]["uid"].as_str().unwrap().parse().unwrap())
    );
}

#[tokio::test]
async fn a_schema_tells_whether_its_level_is_there_and_servers_on_one_store_say_it_once() {
    let api = Api::new().await;
    let schemas = format!("{FLOW}/flowschemas");
    let told = |schema: &Value| {
        let text = |key: &str| schema["status"]["conditions"][0][key].as_str().unwrap_or_default().to_owned();
        [text("type"), text("status"), text("reason"), text("message")]
    };
    let says = |level: &str, status: &str, reason: &str, rest: &str| {
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {rest}");
        ["Dangling".to_owned(), status.to_owned(), reason.to_owned(), message]
    };
    let first = api.get(&schemas).await.good();
    for schema in first["items"].as_array().unwrap() {
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap();
        assert_eq!(told(schema), says(level, "False", "Found", "and it exists"));
    }
    let other = Api::on(api.storage.clone(), |_| {}).await;
    let second = other.get(&schemas).await.good();
    assert_eq!(second["items"], first["items"]);

    let mut watch = api.watch(&format!("{schemas}?watch=1&resourceVersion={}", revision(&second))).await;
    let subjects = json!([{"kind": "User", "user": {"name": "bob"}}]);
    api.post(&schemas, schema("mine", "mine", 50, subjects)).await.good();
    assert_eq!(watch.brief().await, "ADDED mine");
    let missing = says("mine", "True", "NotFound", "but there is no such object");
    assert_eq!(told(&watch.next().await.unwrap()["object"]), missing);
    let levels = format!("{FLOW}/prioritylevelconfigurations");
    api.post(&levels, level("mine", json!({"limitResponse": {"type": "Reject"}}))).await.good();
    assert_eq!(told(&watch.next().await.unwrap()["object"]), says("mine", "False", "Found", "and it exists"));
    api.delete(&format!("{levels}/mine")).await.good();
    assert_eq!(told(&watch.next().await.unwrap()["object"]), missing);
    let label = json!({"metadata": {"labels": {"l": "last"}}});
    api.patch("merge", &format!("{schemas}/mine"), label).await.good();
    assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["labels"]["l"], "last");
}

#[tokio::test]
async fn a_level_without_seats_turns_requests_away_and_leaves_others_alone() {
    let api = Api::new().await;
    let none = json!({"nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"}});
    api.post(&format!("{FLOW}/prioritylevelconfigurations"), level("none", none)).await.good();
    let subjects = json!([{"kind": "User", "user": {"name": "noisy"}}]);
    api.post(&format!("{FLOW}/flowschemas"), schema("noisy", "none", 50, subjects)).await.good();
    let turned_away = api.send(user("noisy"), "GET", MAPS, &[], Value::Null).await;
    assert_eq!((turned_away.code, &turned_away.headers["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(turned_away.text(), "Too many requests, please try again later.\n");
    assert_eq!(api.send(user("bob"), "GET", MAPS, &[], Value::Null).await.code, 403);
    let text = api.get("/metrics").await.text();
    let rejected = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"noisy\",priority_level=\"none\",reason=\"concurrency-limit\"} 1\n";
    assert!(text.contains(rejected), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_request_in_a_queue_without_end_is_turned_away_after_a_while() {
    let api = Api::new().await;
    let queue = json!({"nominalConcurrencyShares": 0, "limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 2, "queueLengthLimit": 1}}});
    api.post(&format!("{FLOW}/prioritylevelconfigurations"), level("slow", queue)).await.good();
    let subjects = json!([{"kind": "User", "user": {"name": "slow"}}]);
    api.post(&format!("{FLOW}/flowschemas"), schema("slow", "slow", 50, subjects)).await.good();
    let began = tokio::time::Instant::now();
    let waits = (0..3).map(|_| api.send(user("slow"), "GET", MAPS, &[], Value::Null));
    let answers = futures_util::future::join_all(waits).await;
    assert_eq!(began.elapsed().as_secs(), 15);
    assert!(answers.iter().all(|a| a.code == 429));
    let text = api.get("/metrics").await.text();
    for (reason, count) in [("queue-full", 1), ("time-out", 2)] {
        let line = format!("priority_level=\"slow\",reason=\"{reason}\"}} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[tokio::test]
async fn a_timeout_of_ones_own_must_be_a_duration() {
    let api = Api::new().await;
    api.get(&format!("{MAPS}?timeout=10s")).await.good();
    assert_eq!(
        api.get(&format!("{MAPS}?timeout=soon")).await.failed(400),
        "invalid timeout specified in the request URL"
    );
}

#[tokio::test(start_paused = true)]
async fn watches_that_name_no_timeout_end_at_different_times() {
    let mut lengths = Vec::new();
    for _ in 0..2 {
        let api = Api::with(|config| config.watch_timeout = Duration::from_secs(600)).await;
        let response = api.raw(admin(), "GET", &format!("{MAPS}?watch=1"), &[], "").await;
        let began = tokio::time::Instant::now();
        response.into_body().collect().await.unwrap();
        lengths.push(began.elapsed());
    }
    assert!(lengths.iter().all(|l| (600..=1201).contains(&l.as_secs())), "{lengths:?}");
    assert_ne!(lengths[0], lengths[1]);
}
