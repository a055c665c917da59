//! Lists and watches of a part of the objects, and what they hold while others write.

use crate::common;

use std::collections::BTreeSet;

use common::{Api, MAPS, admin, labelled, map, names};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, node: &str) -> Value {
    let containers = json!([{"name": "c", "image": "i"}]);
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": containers}})
}

async fn bind(api: &Api, name: &str, phase: &str) {
    let status = json!({"status": {"phase": phase}});
    api.patch("merge", &format!("{PODS}/{name}/status"), status).await.good();
}

#[tokio::test]
async fn a_list_that_goes_on_shows_its_snapshot_while_others_write() {
    let api = Api::new().await;
    for i in 0..40 {
        api.post(MAPS, map(&format!("m{i:02}"))).await.good();
    }
    let walk = async {
        let first = api.get(&format!("{MAPS}?limit=7")).await.good();
        let revision = first["metadata"]["resourceVersion"].clone();
        let mut seen: Vec<String> = names(&first).into_iter().map(str::to_owned).collect();
        let mut next = first["metadata"]["continue"].as_str().map(str::to_owned);
        while let Some(token) = next {
            tokio::task::yield_now().await;
            let page = api.get(&format!("{MAPS}?limit=7&continue={token}")).await.good();
            assert_eq!(page["metadata"]["resourceVersion"], revision);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            next = page["metadata"]["continue"].as_str().map(str::to_owned);
        }
        seen
    };
    let write = async {
        for i in 0..40 {
            api.delete(&format!("{MAPS}/m{i:02}")).await.good();
            api.post(MAPS, map(&format!("n{i:02}"))).await.good();
            tokio::task::yield_now().await;
        }
    };
    let (seen, ()) = futures_util::future::join(walk, write).await;
    let unique: BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), unique.len()), (40, 40));
    let at = api.get(&format!("{MAPS}?limit=500")).await.good();
    assert!(names(&at).iter().all(|n| n.starts_with('n')));
}

#[tokio::test]
async fn remaining_items_are_told_only_where_nothing_is_left_out() {
    let api = Api::new().await;
    for i in 0..5 {
        api.post(MAPS, labelled(&format!("m{i}"), "x")).await.good();
    }
    let all = api.get(&format!("{MAPS}?limit=2")).await.good();
    assert_eq!(all["metadata"]["remainingItemCount"], 3);
    let some = api.get(&format!("{MAPS}?limit=2&labelSelector=l%3Dx")).await.good();
    assert_eq!(some["metadata"].get("remainingItemCount"), None);
    let last = api.get(&format!("{MAPS}?limit=5")).await.good();
    assert_eq!((last["metadata"].get("remainingItemCount"), last["metadata"].get("continue")), (None, None));
}

#[tokio::test]
async fn options_of_lists_and_watches_that_contradict_each_other_are_invalid() {
    let api = Api::new().await;
    for (query, code, says) in [
        ("sendInitialEvents=true", 422, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        (
            "resourceVersion=1&resourceVersionMatch=Newer",
            422,
            "resourceVersionMatch: Unsupported value: \"Newer\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        ("resourceVersion=x", 400, "Invalid value: \"x\""),
        ("limit=many", 400, "strconv.ParseInt: parsing \"many\": invalid syntax"),
        (
            "fieldSelector=data%3Dx",
            400,
            "\"data\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        (
            "watch=1&resourceVersionMatch=NotOlderThan",
            422,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        ("watch=1&timeoutSeconds=long", 400, "strconv.ParseInt"),
    ] {
        let said = api.get(&format!("{MAPS}?{query}")).await.failed(code);
        assert!(said.contains(says), "{query}: {said}");
    }
    assert_eq!(
        api.get(&format!("{PODS}?fieldSelector=spec.nope%3Dx")).await.failed(400),
        "field label not supported: spec.nope"
    );
    assert_eq!(
        api.get("/api/v1/nodes?fieldSelector=metadata.namespace%3Dx").await.failed(400),
        "field label not supported: metadata.namespace"
    );
}

#[tokio::test]
async fn field_selectors_look_into_objects_and_know_what_absence_means() {
    let api = Api::new().await;
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "")] {
        api.post(PODS, pod(name, node)).await.good();
    }
    let select = async |selector: &str| {
        let list = api.get(&format!("/api/v1/pods?fieldSelector={selector}")).await.good();
        names(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(select("spec.nodeName%3Dn1").await, ["a"]);
    assert_eq!(select("spec.nodeName%3D").await, ["c"]);
    assert_eq!(select("spec.nodeName!%3Dn1,spec.nodeName!%3D").await, ["b"]);
    assert_eq!(select("spec.hostNetwork%3Dfalse,status.phase%3DPending").await, ["a", "b", "c"]);
    assert_eq!(select("metadata.name%3Db,metadata.namespace%3Ddefault").await, ["b"]);
    assert_eq!(select("metadata.name%3Db,metadata.namespace%3Dother").await, [""; 0]);
    assert_eq!(select("spec.host%3Dn2").await, ["b"]);
}

#[tokio::test]
async fn an_event_is_selected_by_its_source_or_else_by_who_reported_it() {
    let api = Api::new().await;
    let event = |name: &str| {
        json!({"metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "type": "Normal", "reason": "r"})
    };
    let mut old = event("old");
    old["source"] = json!({"component": "one"});
    let mut new = event("new");
    new["reportingComponent"] = json!("one");
    for event in [old, new, event("none")] {
        api.post("/api/v1/namespaces/default/events", event).await.good();
    }
    let select = async |selector: &str| {
        let list = api.get(&format!("/api/v1/events?fieldSelector={selector}")).await.good();
        names(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(select("source%3Done").await, ["new", "old"]);
    assert_eq!(select("source%3Done,reportingComponent%3D").await, ["old"]);
    assert_eq!(select("source%3D").await, ["none"]);
    let of_new = "/apis/events.k8s.io/v1/events?fieldSelector=reportingController%3Done,regarding.name%3Dp";
    assert_eq!(names(&api.get(of_new).await.good()), ["new"]);
}

#[tokio::test]
async fn an_object_comes_and_goes_with_the_fields_that_a_watch_selects() {
    let api = Api::new().await;
    api.post(PODS, pod("a", "n1")).await.good();
    let mut watch = api.watch(&format!("{PODS}?watch=1&fieldSelector=status.phase%3DRunning")).await;
    for phase in ["Running", "Failed", "Running"] {
        bind(&api, "a", phase).await;
    }
    for kind in ["ADDED", "DELETED", "ADDED"] {
        assert_eq!(watch.brief().await, format!("{kind} a"));
    }
}

#[tokio::test]
async fn a_watch_of_one_name_is_not_told_of_longer_ones() {
    let api = Api::new().await;
    let from = api.storage.current_revision();
    let selected = format!("{MAPS}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Da");
    let by_path = format!("/api/v1/watch/namespaces/default/configmaps/a?resourceVersion={from}");
    for path in [selected, by_path] {
        let mut watch = api.watch(&path).await;
        for name in ["aa", "b", "a"] {
            api.post(MAPS, map(name)).await.good();
        }
        assert_eq!(watch.brief().await, "ADDED a");
        for name in ["aa", "b", "a"] {
            api.delete(&format!("{MAPS}/{name}")).await.good();
        }
        assert_eq!(watch.brief().await, "DELETED a");
    }
    let mismatch = "/api/v1/watch/namespaces/default/configmaps/a?fieldSelector=metadata.name%3Db";
    assert_eq!(api.get(mismatch).await.failed(400), "fieldSelector metadata.name doesn't match requested name");
}

#[tokio::test]
async fn a_watch_may_leave_out_what_is_there() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let query = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let mut watch = api.watch(&format!("{MAPS}?{query}")).await;
    api.post(MAPS, map("b")).await.good();
    assert_eq!(watch.brief().await, "ADDED b");
}

#[tokio::test]
async fn watches_of_the_same_share_what_is_sent_and_others_have_their_own_shape() {
    let api = Api::new().await;
    let path = format!("{MAPS}?watch=1&resourceVersion={}&timeoutSeconds=1", api.storage.current_revision());
    let open = async |accept: &str| api.raw(admin(), "GET", &path, &[("accept", accept)], "").await;
    let plain = open("application/json").await;
    let part = open("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    let table = open("application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let again = open("application/json").await;
    let made = api.post(MAPS, map("a")).await.good();
    let mut objects = Vec::new();
    for response in [plain, part, table, again] {
        let text = common::read(response).await.text();
        let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((events.len(), &events[0]["type"]), (1, &json!("ADDED")));
        objects.push(events[0]["object"].clone());
    }
    assert_eq!(objects[0], made);
    assert_eq!(objects[3], made);
    assert_eq!((&objects[1]["kind"], objects[1].get("data")), (&json!("PartialObjectMetadata"), None));
    assert_eq!(objects[2]["rows"][0]["cells"][0], "a");
}

#[tokio::test]
async fn a_review_is_no_table() {
    let api = Api::new().await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"), ("content-type", "application/json")];
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let answer = api.send(admin(), "POST", path, &table, review).await;
    assert!(answer.failed(406).starts_with("only the following media types are accepted: application/json"));
}
