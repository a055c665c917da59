//! Pods: defaults, rules, what may change, and rows of tables.

use crate::common;

use common::Api;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn one(name: &str) -> String {
    format!("{PODS}/{name}")
}

/// The pod of the documentation's first example, with its specification changed by a merge patch.
fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "nginx", "image": "nginx:1.14.2", "ports": [{"containerPort": 80}]}]},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

#[tokio::test]
async fn a_pod_of_the_documentation_gets_every_default() {
    let api = Api::new().await;
    let made = api.post(PODS, pod("nginx", json!({}))).await.good();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let spec = &made["spec"];
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    let container = &spec["containers"][0];
    for (key, value) in [
        ("imagePullPolicy", json!("IfNotPresent")),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("resources", json!({})),
        ("ports", json!([{"containerPort": 80, "protocol": "TCP"}])),
    ] {
        assert_eq!(container[key], value, "{key}");
    }
}

#[tokio::test]
async fn a_grace_below_zero_is_one_second_for_a_pod_and_as_it_is_for_a_template() {
    let api = Api::new().await;
    let negative = json!({"terminationGracePeriodSeconds": -1});
    let made = api.post(PODS, pod("a", negative.clone())).await.good();
    assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 1);
    let mut again = made;
    again["spec"]["terminationGracePeriodSeconds"] = json!(-1);
    let changed = api.put(&one("a"), again).await.good();
    assert_eq!(changed["spec"]["terminationGracePeriodSeconds"], 1);
    let mut template = pod("", negative);
    template["metadata"] = json!({"labels": {"app": "a"}});
    let set =
        json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template}});
    let made = api.post("/apis/apps/v1/namespaces/default/replicasets", set).await.good();
    assert_eq!(made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], -1);
}

#[tokio::test]
async fn requests_follow_limits_in_canonical_form_and_make_the_class() {
    let api = Api::new().await;
    let limits = json!({"cpu": "1000m", "memory": "1024Mi"});
    let containers = json!([{"name": "a", "image": "a", "resources": {"limits": limits}}]);
    let made = api.post(PODS, pod("a", json!({"containers": containers}))).await.good();
    let resources = &made["spec"]["containers"][0]["resources"];
    let canonical = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(*resources, json!({"limits": canonical, "requests": canonical}));
    assert_eq!(made["status"]["qosClass"], "Guaranteed");
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
}

#[tokio::test]
async fn broken_pods_are_refused_with_the_known_path_and_words() {
    let api = Api::new().await;
    let c = |more: Value| {
        let mut container = json!({"name": "a", "image": "b"});
        for (key, value) in more.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        json!({"containers": [container]})
    };
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
                 with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let bad_name = format!("spec.containers[0].name: Invalid value: \"A\": {label}");
    let cases = [
        (json!({"containers": []}), "spec.containers: Required value"),
        (c(json!({"name": "A"})), bad_name.as_str()),
        (c(json!({"image": ""})), "spec.containers[0].image: Required value"),
        (
            c(json!({"image": " b"})),
            "spec.containers[0].image: Invalid value: \" b\": must not have leading or trailing whitespace",
        ),
        (
            c(json!({"ports": [{"containerPort": 70000}]})),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            c(json!({"ports": [{"containerPort": 1, "protocol": "X"}]})),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            c(json!({"env": [{"name": "A=B"}]})),
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of \
             printable ASCII characters other than '='",
        ),
        (
            c(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]})),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting \
             fieldPath: field label not supported: spec.nope",
        ),
        (
            c(json!({"envFrom": [{}]})),
            "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            c(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            c(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            c(json!({"resources": {"limits": {"hugepages-2Mi": "4Mi"}}})),
            "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
        ),
        (
            c(json!({"resources": {"requests": {"example.com/dongle": "1"}}})),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            c(json!({"livenessProbe": {}})),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            c(json!({"livenessProbe": {"httpGet": {"port": 80}, "successThreshold": 2}})),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            c(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}})),
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
             terminationGracePeriodSeconds (30)",
        ),
        (
            c(json!({"securityContext": {"runAsUser": -1}})),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]}),
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (json!({"volumes": [{"name": "v", "configMap": {}}]}), "spec.volumes[0].configMap.name: Required value"),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]}),
            "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"restartPolicy": "Sometimes"}),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            json!({"tolerations": [{"operator": "Equal"}]}),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \
             \"match all values and all keys\"",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must \
             have at least one node selector term",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "i", "readinessProbe": {"exec": {"command": ["a"]}}}]}),
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without \
             restartPolicy=Always",
        ),
        (
            json!({"ephemeralContainers": [{"name": "e", "image": "e"}]}),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
        (
            json!({"nodeName": "n", "schedulingGates": [{"name": "example.com/a"}]}),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            json!({"hostAliases": [{"ip": "1.2.3", "hostnames": ["a"]}]}),
            "spec.hostAliases[0].ip: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_forward", "value": "1"}]}, "hostNetwork": true}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.ip_forward\": may not be specified when \
             'hostNetwork' is true",
        ),
    ];
    for (spec, cause) in cases {
        let answer = api.post(PODS, pod("bad", spec.clone())).await;
        assert_eq!(answer.causes(), [cause], "{spec}");
    }
}

#[tokio::test]
async fn a_running_pod_changes_in_its_images_and_in_little_else() {
    let api = Api::new().await;
    let made = api.post(PODS, pod("a", json!({}))).await.good();
    let p = json!({"spec": {"containers": [{"name": "nginx", "image": "nginx:1.16.1"}]}});
    let changed = api.patch("strategic-merge", &one("a"), p).await.good();
    assert_eq!(changed["metadata"]["generation"], 2);
    let mut bad = changed.clone();
    bad["spec"]["hostname"] = json!("other");
    let found = api.put(&one("a"), bad).await.causes();
    let start = "spec: Forbidden: pod updates may not change fields other than \
                 `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
                 additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                 previously negative)\n";
    assert!(found.len() == 1 && found[0].starts_with(start), "{found:?}");
    let mut more = changed.clone();
    more["spec"]["containers"].as_array_mut().unwrap().push(made["spec"]["containers"][0].clone());
    more["spec"]["containers"][1]["name"] = json!("b");
    let found = api.put(&one("a"), more).await.causes();
    assert_eq!(found, ["spec.containers: Forbidden: pod updates may not add or remove containers"]);
    let mut bears = changed;
    bears["spec"]["tolerations"].as_array_mut().unwrap().push(json!({"key": "a", "operator": "Exists"}));
    api.put(&one("a"), bears.clone()).await.good();
    bears["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    bears["spec"]["tolerations"] = json!([]);
    let found = api.put(&one("a"), bears).await.causes();
    assert_eq!(
        found,
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
}

#[tokio::test]
async fn gates_say_why_a_pod_waits_and_can_only_go() {
    let api = Api::new().await;
    let gates = json!({"schedulingGates": [{"name": "example.com/a"}]});
    let made = api.post(PODS, pod("a", gates)).await.good();
    assert_eq!(made["status"]["conditions"][0]["reason"], "SchedulingGated");
    let p = json!({"spec": {"schedulingGates": [{"name": "example.com/b"}]}});
    let found = api.patch("merge", &one("a"), p).await.causes();
    let why = "only deletion is allowed, but found new scheduling gate 'example.com/b'";
    assert_eq!(found, [format!("spec.schedulingGates[0].name: Forbidden: {why}")]);
    api.patch("merge", &one("a"), json!({"spec": {"schedulingGates": []}})).await.good();
}

#[tokio::test]
async fn a_status_says_nothing_that_the_past_contradicts() {
    let api = Api::new().await;
    api.post(PODS, pod("a", json!({"restartPolicy": "Never"}))).await.good();
    let status = format!("{}/status", one("a"));
    let ended = json!({"name": "nginx", "state": {"terminated": {"exitCode": 0}}});
    let done = api.patch("merge", &status, json!({"status": {"containerStatuses": [ended]}})).await.good();
    assert_eq!(done["status"]["qosClass"], "BestEffort");
    assert_eq!(done["metadata"]["generation"], 1);
    let again = json!({"name": "nginx", "state": {"running": {}}});
    let found = api.patch("merge", &status, json!({"status": {"containerStatuses": [again]}})).await.causes();
    assert_eq!(
        found,
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    let found = api.patch("merge", &status, json!({"status": {"qosClass": "Guaranteed"}})).await.causes();
    assert_eq!(found, ["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"]);
    // The pod's own address is the first of its addresses, whichever is told.
    let told = api.patch("merge", &status, json!({"status": {"podIPs": [{"ip": "10.0.0.7"}]}})).await.good();
    assert_eq!(told["status"]["podIP"], "10.0.0.7");
    let kept = api.patch("merge", &one("a"), json!({"status": {"phase": "Running"}})).await.good();
    assert_eq!(kept["status"]["phase"], "Pending");
}

#[tokio::test]
async fn fields_behind_closed_gates_are_dropped_and_old_annotations_become_fields() {
    let api = Api::new().await;
    let containers = json!([{"name": "a", "image": "a",
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}, "stopSignal": "SIGTERM"}}]);
    let mut object = pod("a", json!({"containers": containers}));
    object["metadata"]["annotations"] = json!({"container.apparmor.security.beta.kubernetes.io/a": "runtime/default"});
    let made = api.post(PODS, object).await.good();
    let container = &made["spec"]["containers"][0];
    assert!(container["lifecycle"].get("stopSignal").is_none());
    assert_eq!(container["securityContext"]["appArmorProfile"], json!({"type": "RuntimeDefault"}));
}

#[tokio::test]
async fn a_row_says_in_one_word_how_a_pod_goes() {
    let api = Api::new().await;
    let init = json!([{"name": "i", "image": "i"}, {"name": "side", "image": "s", "restartPolicy": "Always"}]);
    api.post(PODS, pod("a", json!({"initContainers": init}))).await.good();
    let ready = json!({"name": "nginx", "ready": true, "restartCount": 3, "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-02T02:59:05Z"}}});
    let back_off = json!({"name": "nginx", "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    let done = json!({"name": "nginx", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let init = |states: Value| {
        json!([
        {"name": "i", "state": states}, {"name": "side", "started": true, "ready": true, "state": {"running": {}}}])
    };
    let ended = init(json!({"terminated": {"exitCode": 0}}));
    let cases = [
        (json!({"phase": "Pending"}), ["0/2", "Pending", "0"]),
        (json!({"initContainerStatuses": init(json!({"running": {}}))}), ["0/2", "Init:0/2", "0"]),
        (
            json!({"initContainerStatuses": init(json!({"waiting": {"reason": "ErrImagePull"}}))}),
            ["0/2", "Init:ErrImagePull", "0"],
        ),
        (
            json!({"initContainerStatuses": ended, "containerStatuses": [ready], "phase": "Running"}),
            ["2/2", "Running", "3 (5m ago)"],
        ),
        (json!({"initContainerStatuses": ended, "containerStatuses": [back_off]}), ["1/2", "CrashLoopBackOff", "0"]),
        (
            json!({"initContainerStatuses": ended, "containerStatuses": [done], "phase": "Succeeded"}),
            ["1/2", "Completed", "0"],
        ),
    ];
    for (mut status, cells) in cases {
        let mut object = api.get(&one("a")).await.good();
        status["qosClass"] = object["status"]["qosClass"].clone();
        object["status"] = status.clone();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("resourceVersion");
        let answer = api.put(&format!("{}/status", one("a")), object).await;
        answer.good();
        let row = api.row(&one("a")).await;
        let row = ["Ready", "Status", "Restarts"].map(|name| row[name].clone());
        assert_eq!(row, cells.map(Value::from), "{status}");
    }
}
