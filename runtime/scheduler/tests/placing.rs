//! Pods find their nodes, against the real API server. The first five are the conformance suite's SchedulerPredicates.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod real;

use real::{PODS, World, condition};
use serde_json::{Value, json};

#[tokio::test]
async fn a_pod_that_asks_for_more_than_is_left_waits_until_another_leaves() {
    let world = World::new().await;
    world.four("a").await;
    world.four("b").await;
    for name in ["filler-1", "filler-2"] {
        world.pod(name, json!({"cpu": "3"}), json!({})).await;
    }
    let mut nodes = [world.node_of("filler-1").await, world.node_of("filler-2").await];
    nodes.sort();
    assert_eq!(nodes, ["a", "b"]);
    world.pod("additional", json!({"cpu": "2"}), json!({})).await;
    let words = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
                 2 No preemption victims found for incoming pod.";
    assert_eq!(world.refusal_of("additional").await, words);
    let event = world.event("additional", "FailedScheduling").await;
    assert_eq!((&event["note"], &event["type"]), (&json!(words), &json!("Warning")));
    assert_eq!((&event["action"], &event["reportingController"]), (&json!("Scheduling"), &json!("default-scheduler")));
    world.delete(&format!("{PODS}/filler-1")).await;
    world.node_of("additional").await;
}

#[tokio::test]
async fn a_node_selector_is_respected_when_it_matches() {
    let world = World::new().await;
    world.four("plain").await;
    world.node("labelled", json!({"kubernetes.io/e2e-x": "42"}), json!({"cpu": "4", "memory": "8Gi"})).await;
    world.pod("a", json!({}), json!({"nodeSelector": {"kubernetes.io/e2e-x": "42"}})).await;
    assert_eq!(world.node_of("a").await, "labelled");
    let event = world.event("a", "Scheduled").await;
    assert_eq!(
        (&event["note"], &event["type"]),
        (&json!("Successfully assigned default/a to labelled"), &json!("Normal"))
    );
    let pod: Value = world.client.get(&format!("{PODS}/a")).await.unwrap();
    assert_eq!(condition(&pod, "PodScheduled")["status"], "True");
}

#[tokio::test]
async fn a_node_selector_that_matches_nothing_leaves_the_pod_waiting_until_a_node_matches() {
    let world = World::new().await;
    world.four("a").await;
    world.pod("restricted", json!({}), json!({"nodeSelector": {"label": "nonempty"}})).await;
    let words = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: \
                 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(world.refusal_of("restricted").await, words);
    world.change("/api/v1/nodes/a", json!({"metadata": {"labels": {"label": "nonempty"}}})).await;
    assert_eq!(world.node_of("restricted").await, "a");
}

#[tokio::test]
async fn host_ports_conflict_on_one_node_also_with_those_on_all_addresses() {
    let world = World::new().await;
    world.four("a").await;
    let with_port = |name: &str, ip: Value| {
        let mut pod = real::pod(name, json!({}), json!({}));
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 54322, "hostIP": ip}]);
        pod
    };
    world.make(PODS, with_port("all", json!("0.0.0.0"))).await;
    world.node_of("all").await;
    world.make(PODS, with_port("one", json!("127.0.0.1"))).await;
    let words = world.refusal_of("one").await;
    assert!(
        words.starts_with("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."),
        "{words}"
    );
}

#[tokio::test]
async fn a_tainted_node_takes_only_pods_that_tolerate_it() {
    let world = World::new().await;
    world.four("a").await;
    let taint = json!([{"key": "kubernetes.io/e2e-taint", "value": "x", "effect": "NoSchedule"}]);
    world.change("/api/v1/nodes/a", json!({"spec": {"taints": taint}})).await;
    let tolerations = json!([{"key": "kubernetes.io/e2e-taint", "value": "x", "effect": "NoSchedule"}]);
    world.pod("tolerant", json!({}), json!({"tolerations": tolerations})).await;
    world.node_of("tolerant").await;
    world.pod("other", json!({}), json!({})).await;
    let words = world.refusal_of("other").await;
    assert!(words.starts_with("0/1 nodes are available: 1 node(s) had untolerated taint(s)."), "{words}");
    world.change("/api/v1/nodes/a", json!({"spec": {"taints": null}})).await;
    world.node_of("other").await;
}

#[tokio::test]
async fn without_nodes_a_pod_waits_for_the_first() {
    let world = World::new().await;
    world.pod("a", json!({}), json!({})).await;
    assert_eq!(world.refusal_of("a").await, "no nodes available to schedule pods");
    world.four("n").await;
    assert_eq!(world.node_of("a").await, "n");
}

#[tokio::test]
async fn a_gated_pod_is_left_alone_until_its_gates_are_gone() {
    let world = World::new().await;
    world.four("n").await;
    let made = world.pod("gated", json!({}), json!({"schedulingGates": [{"name": "example.com/foo"}]})).await;
    assert_eq!(condition(&made, "PodScheduled")["reason"], "SchedulingGated");
    // One that came later has its node, and the gated one has none.
    world.pod("later", json!({}), json!({})).await;
    world.node_of("later").await;
    let gated: Value = world.client.get(&format!("{PODS}/gated")).await.unwrap();
    assert!(gated["spec"]["nodeName"].is_null());
    world.change(&format!("{PODS}/gated"), json!({"spec": {"schedulingGates": null}})).await;
    world.node_of("gated").await;
}

#[tokio::test]
async fn pods_of_other_schedulers_are_not_touched_and_each_profile_has_its_own() {
    let config = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
                  profiles:\n- schedulerName: default-scheduler\n- schedulerName: packer\n  pluginConfig:\n  \
                  - name: NodeResourcesFit\n    args: {scoringStrategy: {type: MostAllocated}}\n";
    let world = World::with(&kiln_scheduler::Config::parse(config).unwrap()).await;
    world.four("a").await;
    world.four("b").await;
    world.pod("foreign", json!({}), json!({"schedulerName": "another"})).await;
    world.pod("first", json!({"cpu": "1", "memory": "2Gi"}), json!({})).await;
    let first = world.node_of("first").await;
    world.pod("spread", json!({"cpu": "1", "memory": "2Gi"}), json!({})).await;
    assert_ne!(world.node_of("spread").await, first, "the emptier node is better");
    world.pod("third", json!({"cpu": "1", "memory": "2Gi"}), json!({"nodeName": "a"})).await;
    world.pod("packed", json!({"cpu": "1", "memory": "2Gi"}), json!({"schedulerName": "packer"})).await;
    assert_eq!(world.node_of("packed").await, "a", "the fuller node is better");
    assert_eq!(world.event("packed", "Scheduled").await["reportingController"], "packer");
    let foreign: Value = world.client.get(&format!("{PODS}/foreign")).await.unwrap();
    assert!(foreign["spec"]["nodeName"].is_null());
}

#[tokio::test]
async fn pods_that_want_to_be_apart_or_together_are() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.four(name).await;
    }
    let term = json!([{"labelSelector": {"matchLabels": {"name": "first"}}, "topologyKey": "kubernetes.io/hostname"}]);
    world.pod("first", json!({}), json!({})).await;
    let first = world.node_of("first").await;
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
    world.pod("near", json!({}), near).await;
    assert_eq!(world.node_of("near").await, first);
    let far = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
    world.pod("far", json!({}), far).await;
    assert_ne!(world.node_of("far").await, first);
}

#[tokio::test]
async fn pods_are_spread_over_zones_as_their_constraint_says() {
    let world = World::new().await;
    for (name, zone) in [("a", "z1"), ("b", "z1"), ("c", "z2")] {
        world.node(name, json!({"topology.kubernetes.io/zone": zone}), json!({"cpu": "4", "memory": "8Gi"})).await;
    }
    let spread = json!([{
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "spread"}},
    }]);
    let mut in_z2 = 0;
    for at in 0..4 {
        let name = format!("p{at}");
        let mut pod = real::pod(&name, json!({}), json!({"topologySpreadConstraints": spread}));
        pod["metadata"]["labels"] = json!({"app": "spread"});
        world.make(PODS, pod).await;
        in_z2 += usize::from(world.node_of(&name).await == "c");
    }
    assert_eq!(in_z2, 2);
}

#[tokio::test]
async fn a_claim_that_waits_for_its_consumer_gets_the_node_and_holds_the_pod_until_it_is_bound() {
    let world = World::new().await;
    world.four("a").await;
    world.four("b").await;
    let class = |name: &str, provisioner: &str| json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"});
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    world.make(classes, class("made", "example.com/disk")).await;
    world.make(classes, class("local", "kubernetes.io/no-provisioner")).await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |name: &str, class: &str| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let using = |claim: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]});

    // A volume that is to be made: the claim names the node, and once it is bound the pod follows.
    world.pod("needs-made", json!({}), using("made")).await;
    let words = world.refusal_of("needs-made").await;
    assert!(words.starts_with("0/2 nodes are available: persistentvolumeclaim \"made\" not found."), "{words}");
    world.make(claims, claim("made", "made")).await;
    const SELECTED: &str = "volume.kubernetes.io/selected-node";
    let chosen =
        |claim: Option<&Value>| claim.is_some_and(|claim| claim["metadata"]["annotations"][SELECTED].is_string());
    let chosen = world.until(claims, "made", chosen).await.unwrap();
    let node = chosen["metadata"]["annotations"][SELECTED].as_str().unwrap().to_owned();
    // Until then others, an autoscaler of nodes for one, see where the pod is about to go.
    let expected = |pod: Option<&Value>| pod.is_some_and(|pod| pod["status"]["nominatedNodeName"] == *node);
    world.until(PODS, "needs-made", expected).await;
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "pv-made"}});
    world.change(&format!("{claims}/made"), bound).await;
    assert_eq!(world.node_of("needs-made").await, node);
    let pod: Value = world.client.get(&format!("{PODS}/needs-made")).await.unwrap();
    assert!(pod["status"]["nominatedNodeName"].is_null(), "{}", pod["status"]);

    // A volume that is there, on one node.
    let terms = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}]}]);
    let volume = json!({"metadata": {"name": "pv-local"}, "spec": {
        "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
        "local": {"path": "/mnt"}, "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}});
    world.make("/api/v1/persistentvolumes", volume).await;
    let available = json!({"status": {"phase": "Available"}});
    world.change("/api/v1/persistentvolumes/pv-local/status", available).await;
    world.make(claims, claim("local", "local")).await;
    world.pod("needs-local", json!({}), using("local")).await;
    let reserved = |volume: Option<&Value>| volume.is_some_and(|volume| volume["spec"]["claimRef"]["name"] == "local");
    world.until("/api/v1/persistentvolumes", "pv-local", reserved).await;
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "pv-local"}});
    world.change(&format!("{claims}/local"), bound).await;
    assert_eq!(world.node_of("needs-local").await, "b");
}

#[tokio::test]
async fn a_claim_that_only_one_pod_may_have_keeps_a_second_waiting() {
    let world = World::new().await;
    world.four("a").await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "one", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"accessModes": ["ReadWriteOncePod"], "storageClassName": "", "volumeName": "pv",
        "resources": {"requests": {"storage": "1Gi"}}}});
    world.make(claims, claim).await;
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOncePod"], "hostPath": {"path": "/mnt"}}});
    world.make("/api/v1/persistentvolumes", volume).await;
    let using = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "one"}}]});
    world.pod("first", json!({}), using.clone()).await;
    world.node_of("first").await;
    world.pod("second", json!({}), using).await;
    let words = world.refusal_of("second").await;
    let expected = "1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
    assert!(words.contains(expected), "{words}");
    world.delete(&format!("{PODS}/first")).await;
    world.node_of("second").await;
}

#[tokio::test]
async fn a_binding_that_is_lost_is_told_and_tried_again() {
    let world = World::new().await;
    world.four("a").await;
    world.lost_bindings.store(1, std::sync::atomic::Ordering::SeqCst);
    world.pod("p", json!({"cpu": "3"}), json!({})).await;
    let event = world.event("p", "FailedScheduling").await;
    let note = event["note"].as_str().unwrap();
    assert!(note.starts_with("running Bind plugin \"DefaultBinder\": "), "{note}");
    // What it was assumed to take is free again: it fits in the same place.
    assert_eq!(world.node_of("p").await, "a");
}

#[tokio::test]
async fn devices_are_given_to_claims_where_they_are_and_to_one_claim_only() {
    let world = World::new().await;
    world.four("plain").await;
    world.four("gpus").await;
    let group = "/apis/resource.k8s.io/v1";
    world
        .make(
            &format!("{group}/deviceclasses"),
            json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [
        {"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}}),
        )
        .await;
    let device = |name: &str, model: &str, memory: &str| json!({"name": name, "attributes": {"model": {"string": model}}, "capacity": {"memory": {"value": memory}}});
    let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "gpu.example.com", "nodeName": "gpus",
        "pool": {"name": "gpus", "generation": 1, "resourceSliceCount": 1},
        "devices": [device("small", "a", "4Gi"), device("large", "b", "16Gi")]}});
    world.make(&format!("{group}/resourceslices"), slice).await;
    let claims = format!("{group}/namespaces/default/resourceclaims");
    let wants = "device.capacity['gpu.example.com'].memory.compareTo(quantity('8Gi')) >= 0 \
                 && device.attributes['gpu.example.com'].model == 'b'";
    let claim = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"devices": {"requests": [{"name": "r", "exactly":
            {"deviceClassName": "gpu", "selectors": [{"cel": {"expression": wants}}]}}]}}})
    };
    let using = |claim: &str| json!({"resourceClaims": [{"name": "c", "resourceClaimName": claim}]});
    // The pod is kept until its claim is there.
    world.pod("first", json!({}), using("one")).await;
    world.make(&claims, claim("one")).await;
    assert_eq!(world.node_of("first").await, "gpus");
    let one: Value = world.client.get(&format!("{claims}/one")).await.unwrap();
    let given = &one["status"]["allocation"]["devices"]["results"][0];
    assert_eq!((&given["device"], &given["request"], &given["pool"]), (&json!("large"), &json!("r"), &json!("gpus")));
    assert_eq!(one["status"]["reservedFor"][0]["name"], "first");
    assert_eq!(one["metadata"]["finalizers"], json!(["resource.kubernetes.io/delete-protection"]));

    world.make(&claims, claim("two")).await;
    world.pod("second", json!({}), using("two")).await;
    let words = world.refusal_of("second").await;
    assert!(words.starts_with("0/2 nodes are available: 2 cannot allocate all claims."), "{words}");
    // A claim that has its device can be used by more pods, on its node.
    world.pod("sharing", json!({}), using("one")).await;
    assert_eq!(world.node_of("sharing").await, "gpus");
    // A driver that offers another device helps the one that waits.
    let more = json!({"metadata": {"name": "t"}, "spec": {"driver": "gpu.example.com", "nodeName": "plain",
        "pool": {"name": "plain", "generation": 1, "resourceSliceCount": 1}, "devices": [device("large", "b", "16Gi")]}});
    world.make(&format!("{group}/resourceslices"), more).await;
    assert_eq!(world.node_of("second").await, "plain");
}
