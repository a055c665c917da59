//! Extenders have a say in who leaves for a more important pod.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod extender;
mod real;

use std::sync::{Arc, Mutex};

use extender::{config, serve};
use real::{PODS, World};
use serde_json::{Value, json};

/// Two nodes, each full of one less important pod, `on-a` and `on-b`; it is `on-a` that leaves if nobody objects. Answers their uids.
async fn full(extenders: &[&str]) -> (World, [Value; 2]) {
    let world = World::with(&config(extenders)).await;
    for (name, value) in [("low", 1), ("medium", 100), ("high", 1000)] {
        let class = json!({"metadata": {"name": name}, "value": value});
        world.make("/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
    }
    let mut uids = Vec::new();
    for (node, class) in [("a", "low"), ("b", "medium")] {
        world.four(node).await;
        let further = of_class(class, json!({"nodeSelector": {"kubernetes.io/hostname": node}}));
        let pod = world.pod(&format!("on-{node}"), json!({"cpu": "3"}), further).await;
        world.node_of(&format!("on-{node}")).await;
        uids.push(pod["metadata"]["uid"].clone());
    }
    (world, uids.try_into().unwrap())
}

fn of_class(class: &str, further: Value) -> Value {
    let mut spec = further;
    spec["priorityClassName"] = json!(class);
    // Nobody runs these pods: with no grace they are gone when they are deleted.
    spec["terminationGracePeriodSeconds"] = json!(0);
    spec
}

async fn high(world: &World) {
    world.pod("high", json!({"cpu": "3"}), of_class("high", json!({}))).await;
}

type Asked = Arc<Mutex<Vec<Value>>>;

/// An extender that answers each question with what `answer` makes of it; and what it was asked.
fn asked(answer: impl Fn(&Value) -> Value + Send + 'static) -> (String, Asked) {
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    let url = serve(move |_, question| {
        let answer = answer(&question);
        noted.lock().unwrap().push(question);
        answer
    });
    (url, asked)
}

/// Leaves only the node `b` of those it is asked about.
fn only_b(question: &Value) -> Value {
    json!({"NodeNameToMetaVictims": {"b": question["NodeNameToMetaVictims"]["b"]}})
}

#[tokio::test]
async fn one_that_knows_nodes_is_asked_by_uid_and_has_another_node_chosen() {
    let (url, questions) = asked(only_b);
    let (world, [on_a, on_b]) =
        full(&[&format!("{{urlPrefix: '{url}', preemptVerb: preempt, nodeCacheCapable: true}}")]).await;
    high(&world).await;
    assert_eq!(world.node_of("high").await, "b");
    world.node_of("on-a").await;
    let question = questions.lock().unwrap()[0].clone();
    let offered = json!({
        "a": {"Pods": [{"UID": on_a}], "NumPDBViolations": 0},
        "b": {"Pods": [{"UID": on_b}], "NumPDBViolations": 0},
    });
    assert_eq!((&question["NodeNameToMetaVictims"], &question["NodeNameToVictims"]), (&offered, &Value::Null));
    assert_eq!(question["Pod"]["metadata"]["name"], "high");
}

#[tokio::test]
async fn one_that_knows_no_nodes_sees_whole_pods_and_the_next_sees_only_what_it_left() {
    let (first, questions) = asked(|question| {
        let uid = &question["NodeNameToVictims"]["b"]["Pods"][0]["metadata"]["uid"];
        json!({"nodeNameToMetaVictims": {"b": {"pods": [{"uid": uid}], "numPDBViolations": 1}}})
    });
    let (second, later) = asked(only_b);
    let second = format!("{{urlPrefix: '{second}', preemptVerb: p, nodeCacheCapable: true}}");
    let unconcerned = "{urlPrefix: 'http://127.0.0.1:1', preemptVerb: p, managedResources: [{name: example.com/gpu}]}";
    let (world, [_, on_b]) = full(&[unconcerned, &format!("{{urlPrefix: '{first}', preemptVerb: p}}"), &second]).await;
    high(&world).await;
    assert_eq!(world.node_of("high").await, "b");
    let question = questions.lock().unwrap()[0].clone();
    assert_eq!(question["NodeNameToVictims"]["a"]["Pods"][0]["metadata"]["name"], "on-a");
    assert_eq!(question["NodeNameToMetaVictims"], Value::Null);
    let left = json!({"b": {"Pods": [{"UID": on_b}], "NumPDBViolations": 1}});
    assert_eq!(later.lock().unwrap()[0]["NodeNameToMetaVictims"], left);
}

#[tokio::test]
async fn one_that_answers_wrongly_is_passed_over_if_it_may_be_and_else_nobody_leaves() {
    let nobody = |node: &str| json!({"NodeNameToMetaVictims": {node: null}});
    let stranger = json!({"NodeNameToMetaVictims": {"b": {"Pods": [{"UID": "x"}]}}});
    let words = |url: &str| {
        format!("extender: {url} claims to preempt pod (UID: x) on node: b, but the pod is not found on that node")
    };
    type Words = fn(&str) -> String;
    let rows: [(Value, Option<&str>, Words); 4] = [
        (nobody("a"), None, |_| "expected at least one victim pod on node \"a\"".to_owned()),
        (nobody("z"), Some("a"), |_| "nodeinfo not found for node name \"z\"".to_owned()),
        (stranger, Some("a"), words),
        (json!({"NodeNameToMetaVictims": null}), None, |_| "no candidate node for preemption".to_owned()),
    ];
    for (answer, ignored, why) in rows {
        for ignorable in [true, false] {
            let answer = answer.clone();
            let (url, _) = asked(move |_| answer.clone());
            let extender = format!("{{urlPrefix: '{url}', preemptVerb: preempt, ignorable: {ignorable}}}");
            let (world, _) = full(&[&extender]).await;
            high(&world).await;
            match ignored.filter(|_| ignorable) {
                Some(node) => assert_eq!(world.node_of("high").await, node),
                None => {
                    let why = if ignorable { "no candidate node for preemption".to_owned() } else { why(&url) };
                    let words = format!("0/2 nodes are available: 2 Insufficient cpu. preemption: {why}");
                    world.refused_with("high", &words).await;
                    world.until(PODS, "on-a", |pod| pod.is_some()).await;
                }
            }
        }
    }
}

/// An extender whose filter answers so for important pods and lets others go anywhere.
fn filter(answer: impl Fn(Vec<String>) -> Value + Send + 'static) -> String {
    let url = serve(move |_, asked| {
        if asked["Pod"]["spec"]["priorityClassName"] != "high" {
            return json!({"NodeNames": asked["NodeNames"]});
        }
        answer(serde_json::from_value(asked["NodeNames"].clone()).unwrap())
    });
    format!("{{urlPrefix: '{url}', filterVerb: filter, nodeCacheCapable: true}}")
}

#[tokio::test]
async fn pods_may_leave_a_node_that_a_filter_failed_but_not_one_that_it_says_is_hopeless() {
    // What fails a node that another failed before counts; and what is hopeless is.
    let hopeless = filter(|names| json!({"NodeNames": names, "FailedAndUnresolvableNodes": {"a": "never"}}));
    let failing =
        filter(|_| json!({"FailedNodes": {"a": "no", "b": "no"}, "FailedAndUnresolvableNodes": {"a": "never"}}));
    let (world, _) = full(&[&hopeless, &failing]).await;
    // By the plugins a small pod fits either.
    world.pod("small", json!({"cpu": "1"}), of_class("high", json!({}))).await;
    let words = "0/2 nodes are available: 1 never, 1 no. preemption: 0/2 nodes are available: \
                 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.";
    world.refused_with("small", words).await;
    world.until(PODS, "on-a", |pod| pod.is_some()).await;
}

#[tokio::test]
async fn a_pod_goes_elsewhere_if_an_extender_refuses_the_node_that_was_made_free_for_it() {
    // Only its filter objects, and it is not asked whose leaving is right.
    let extender = filter(|names| {
        let left: Vec<_> = names.into_iter().filter(|name| name != "a").collect();
        json!({"NodeNames": left, "FailedNodes": {"a": "too old"}})
    });
    let (world, _) = full(&[&extender]).await;
    high(&world).await;
    world.until(PODS, "on-a", |pod| pod.is_none()).await;
    assert_eq!(world.node_of("high").await, "b");
}
