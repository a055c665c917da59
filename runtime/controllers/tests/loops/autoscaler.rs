//! HorizontalPodAutoscalers against the real API server, with simulated nodes and metrics APIs.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::apps_world;

use apps_world::{DEPLOYMENTS, PODS, World, pass, start_nodes};
use kiln_controllers::{Autoscaling, autoscaler, deployment, replica_set};
use serde_json::{Value, json};

const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const WEB: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/web";
const METRICS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";

async fn start(replicas: u32) -> World {
    let world = World::paused().await;
    start_nodes(&world, 3).await;
    world.run(|informers, context| {
        let sets = replica_set::replica_sets(informers, context);
        let (deployments, autoscalers) =
            (deployment::build(informers, context), autoscaler::build(informers, context, Autoscaling::default()));
        async move { _ = tokio::join!(sets, deployments, autoscalers) }
    });
    let web = json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx",
            "resources": {"requests": {"cpu": "200m", "memory": "64Mi"}}}]}}}});
    world.create(DEPLOYMENTS, web).await;
    // Past the time in which a pod's CPU tells of its start.
    pass(400).await;
    world
}

fn autoscaler(metrics: Value, more: Value) -> Value {
    let mut object = json!({"metadata": {"name": "web"}, "spec": {"minReplicas": 1, "maxReplicas": 10,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "metrics": metrics}});
    for (key, value) in more.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn cpu(percent: u32) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": percent}}}])
}

/// Has every pod use so much.
async fn use_cpu(world: &World, cpu: &str) {
    let now = kiln_apimachinery::time::rfc3339(world.clock.now());
    let pods = world.list(PODS, "app=web").await;
    let items: Vec<_> = pods
        .iter()
        .map(|pod| {
            json!({"metadata": {"name": pod["metadata"]["name"], "namespace": "default"}, "timestamp": now,
                "window": "30s", "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "32Mi"}}]})
        })
        .collect();
    world.serve(
        METRICS,
        json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {},
        "items": items}),
    );
}

async fn replicas(world: &World) -> i64 {
    world.get(&format!("{DEPLOYMENTS}/web")).await["spec"]["replicas"].as_i64().unwrap()
}

fn condition<'a>(object: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null);
    (found["status"].as_str().unwrap_or_default(), found["reason"].as_str().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_deployment_grows_with_its_load_and_shrinks_five_minutes_after_it() {
    // The documentation's walk-through: half of the requested CPU is the target.
    let world = start(1).await;
    use_cpu(&world, "500m").await;
    world.create(AUTOSCALERS, autoscaler(cpu(50), json!({}))).await;
    pass(2).await;
    assert_eq!(replicas(&world).await, 4);
    let web = world.get(WEB).await;
    assert_eq!(
        (web["status"]["currentReplicas"].as_i64(), web["status"]["desiredReplicas"].as_i64()),
        (Some(1), Some(4))
    );
    let current = json!({"averageUtilization": 250, "averageValue": "500m"});
    assert_eq!(
        web["status"]["currentMetrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}])
    );
    assert!(!web["status"]["lastScaleTime"].is_null());
    assert_eq!(condition(&web, "AbleToScale"), ("True", "SucceededRescale"));
    assert_eq!(condition(&web, "ScalingActive"), ("True", "ValidMetricFound"));
    assert_eq!(condition(&web, "ScalingLimited"), ("True", "ScaleUpLimit"));
    let told = world.events("HorizontalPodAutoscaler").await;
    let text = "New size: 4; reason: cpu resource utilization (percentage of request) above target";
    assert!(told.contains(&("SuccessfulRescale".to_owned(), text.to_owned())), "{told:?}");
    use_cpu(&world, "20m").await;
    pass(200).await;
    use_cpu(&world, "20m").await;
    pass(60).await;
    // What was recommended at first is what holds, now that four are not the limit any more.
    assert_eq!(replicas(&world).await, 5);
    assert_eq!(condition(&world.get(WEB).await, "AbleToScale"), ("True", "ScaleDownStabilized"));
    let web = world.becomes(WEB, |web| web["status"]["currentReplicas"] == 1).await;
    assert_eq!(condition(&web, "ScalingLimited").0, "False");
}

#[tokio::test(start_paused = true)]
async fn a_scale_outside_of_its_bounds_is_brought_within() {
    for (count, expected, reason) in [
        (12, 10, "Current number of replicas above Spec.MaxReplicas"),
        (1, 3, "Current number of replicas below Spec.MinReplicas"),
    ] {
        let world = start(count).await;
        use_cpu(&world, "100m").await;
        world.create(AUTOSCALERS, autoscaler(cpu(50), json!({"minReplicas": 3}))).await;
        pass(2).await;
        assert_eq!(replicas(&world).await, expected);
        let told = world.events("HorizontalPodAutoscaler").await;
        let text = format!("New size: {expected}; reason: {reason}");
        assert!(told.contains(&("SuccessfulRescale".to_owned(), text)), "{told:?}");
    }
    let world = start(0).await;
    world.create(AUTOSCALERS, autoscaler(cpu(50), json!({}))).await;
    pass(60).await;
    assert_eq!(replicas(&world).await, 0);
    assert_eq!(condition(&world.get(WEB).await, "ScalingActive"), ("False", "ScalingDisabled"));
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_metric_calls_for_its_own_and_the_most_counts() {
    let time = "2026-03-01T12:06:00Z";
    let metric = |value: &str| {
        json!({"metadata": {}, "items": [{"describedObject": {"kind": "Service", "name": "s"},
        "metricName": "m", "timestamp": time, "value": value}]})
    };
    let about = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"});
    let target = |kind: &str, field: &str, value: &str| json!({"type": kind, field: value});
    let rows = [
        // Twice its memory's target: from two to four.
        (
            json!({"type": "Resource", "resource": {"name": "memory",
            "target": target("AverageValue", "averageValue", "16Mi")}}),
            4,
        ),
        (
            json!({"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c",
            "target": {"type": "Utilization", "averageUtilization": 25}}}),
            4,
        ),
        (
            json!({"type": "Object", "object": {"describedObject": about, "metric": {"name": "requests"},
            "target": target("Value", "value", "2k")}}),
            3,
        ),
        (
            json!({"type": "Object", "object": {"describedObject": about, "metric": {"name": "requests"},
            "target": target("AverageValue", "averageValue", "1k")}}),
            3,
        ),
        (
            json!({"type": "External", "external": {"metric": {"name": "queue", "selector": {"matchLabels": {"q": "a"}}},
            "target": target("AverageValue", "averageValue", "30")}}),
            4,
        ),
        (
            json!({"type": "External", "external": {"metric": {"name": "queue"},
            "target": target("Value", "value", "50")}}),
            4,
        ),
    ];
    for (source, expected) in rows {
        let world = start(2).await;
        use_cpu(&world, "10m").await;
        world.serve(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/ingresses.networking.k8s.io/main/requests",
            metric("3k"),
        );
        world.serve("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue", metric("100"));
        world.create(AUTOSCALERS, autoscaler(json!([source.clone()]), json!({}))).await;
        pass(2).await;
        assert_eq!(replicas(&world).await, expected, "{source}: {}", world.get(WEB).await["status"]);
        // Beside one that cannot be read it still counts, since it calls for more.
        let lost = json!({"type": "Pods", "pods": {"metric": {"name": "lost"},
            "target": target("AverageValue", "averageValue", "1")}});
        let world = start(2).await;
        use_cpu(&world, "300m").await;
        let both = json!([lost, cpu(50)[0]]);
        world.create(AUTOSCALERS, autoscaler(both, json!({}))).await;
        pass(2).await;
        assert_eq!(replicas(&world).await, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_that_cannot_be_read_leave_the_scale_alone_and_are_told() {
    let world = start(2).await;
    world.create(AUTOSCALERS, autoscaler(cpu(50), json!({}))).await;
    pass(2).await;
    let web = world.get(WEB).await;
    assert_eq!(condition(&web, "AbleToScale"), ("True", "SucceededGetScale"));
    assert_eq!(condition(&web, "ScalingActive"), ("False", "FailedGetResourceMetric"));
    let told = world.events("HorizontalPodAutoscaler").await;
    assert!(told.iter().any(|(reason, _)| reason == "FailedComputeMetricsReplicas"), "{told:?}");
    assert_eq!(replicas(&world).await, 2);
    world.patch(WEB, json!({"spec": {"scaleTargetRef": {"name": "gone"}}})).await;
    pass(2).await;
    assert_eq!(condition(&world.get(WEB).await, "AbleToScale"), ("False", "FailedGetScale"));
}

#[tokio::test(start_paused = true)]
async fn pods_of_two_autoscalers_are_scaled_by_neither() {
    let world = start(2).await;
    use_cpu(&world, "300m").await;
    world.create(AUTOSCALERS, autoscaler(cpu(50), json!({"maxReplicas": 2}))).await;
    pass(2).await;
    assert_eq!(condition(&world.get(WEB).await, "ScalingActive"), ("True", "ValidMetricFound"));
    let mut other = autoscaler(cpu(50), json!({}));
    other["metadata"]["name"] = json!("other");
    world.create(AUTOSCALERS, other).await;
    pass(20).await;
    for name in ["web", "other"] {
        let object = world.get(&format!("{AUTOSCALERS}/{name}")).await;
        assert_eq!(condition(&object, "ScalingActive"), ("False", "AmbiguousSelector"), "{name}");
    }
    assert_eq!(replicas(&world).await, 2);
    let told = world.events("HorizontalPodAutoscaler").await;
    let text = "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]";
    assert!(told.contains(&("AmbiguousSelector".to_owned(), text.to_owned())), "{told:?}");
    // One that is left scales again.
    world.client.delete(WEB, &Value::Null).await.unwrap();
    pass(20).await;
    assert_eq!(replicas(&world).await, 4);
}

#[tokio::test(start_paused = true)]
async fn each_metric_has_its_place_in_the_status_and_none_is_kept_that_was_not_asked_for() {
    let world = start(2).await;
    use_cpu(&world, "100m").await;
    let lost = json!({"type": "External", "external": {"metric": {"name": "lost", "selector": {"matchLabels": {"q": "a"}}},
        "target": {"type": "Value", "value": "1"}}});
    world.create(AUTOSCALERS, autoscaler(json!([lost, cpu(50)[0]]), json!({}))).await;
    pass(2).await;
    let metrics = &world.get(WEB).await["status"]["currentMetrics"];
    assert_eq!((&metrics[0], &metrics[1]["type"]), (&json!({"type": ""}), &json!("Resource")));
    // Kubernetes tells of a selector as Go prints it.
    let told = world.events("HorizontalPodAutoscaler").await;
    let selector =
        "&LabelSelector{MatchLabels:map[string]string{q: a,},MatchExpressions:[]LabelSelectorRequirement{},}";
    let text = format!("unable to get external metric default/lost/{selector}: unable to fetch metrics from external");
    assert!(
        told.iter().any(|(reason, said)| reason == "FailedGetExternalMetric" && said.starts_with(&text)),
        "{told:?}"
    );
    // Both fail, and each says at which step.
    world.serve(METRICS, json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "items": []}));
    pass(20).await;
    let told = world.events("HorizontalPodAutoscaler").await;
    let text = "invalid metrics (2 invalid out of 2), first error is: failed to get lost external metric value: \
                failed to get external metric lost: unable to get external metric default/lost/";
    let failed = |(reason, said): &(String, String)| reason == "FailedComputeMetricsReplicas" && said.starts_with(text);
    assert!(told.iter().any(failed), "{told:?}");
    world.patch(&format!("{DEPLOYMENTS}/web"), json!({"spec": {"replicas": 0}})).await;
    let web = world.becomes(WEB, |web| condition(web, "ScalingActive").1 == "ScalingDisabled").await;
    assert!(web["status"]["currentMetrics"].is_null(), "{}", web["status"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_does_not_end_the_time_for_which_a_recommendation_holds() {
    for jump in [3600, -3600] {
        let world = start(4).await;
        // Pods that start in the future would not be counted.
        pass(3600).await;
        use_cpu(&world, "20m").await;
        world.create(AUTOSCALERS, autoscaler(cpu(50), json!({}))).await;
        pass(30).await;
        world.jumps.jump(jump);
        use_cpu(&world, "20m").await;
        pass(255).await;
        assert_eq!(replicas(&world).await, 4, "{jump}");
        pass(50).await;
        assert_eq!(replicas(&world).await, 1, "{jump}");
    }
}
