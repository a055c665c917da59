use kiln_apimachinery::patch::merge_patch;
use serde_json::json;

use super::*;

/// What is told of a pod with a change, by a standard.
fn tells(base: &Value, change: &Value, level: Level, minor: Option<u64>) -> String {
    let mut pod = base.clone();
    merge_patch(&mut pod, change.clone());
    told(&evaluate(Standard { level, minor }, &Pod { metadata: &pod["metadata"], spec: &pod["spec"] }))
}

fn baseline(change: &Value, minor: Option<u64>) -> String {
    tells(&json!({"spec": {"containers": [{"name": "a"}]}}), change, Level::Baseline, minor)
}

/// A pod that every level allows.
fn strict() -> Value {
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({"spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": security}],
    }})
}

/// Containers with what their security contexts say, beside what the strict one says.
fn containers(contexts: &[Value]) -> Value {
    let one = |(name, context): (char, &Value)| {
        let mut container = strict()["spec"]["containers"][0].clone();
        merge_patch(&mut container, json!({"name": name.to_string(), "securityContext": context}));
        container
    };
    json!({"spec": {"containers": ('a'..).zip(contexts).map(one).collect::<Vec<_>>()}})
}

#[test]
fn baseline_closes_the_known_ways_out_in_upstreams_words() {
    let of =
        |context: Value| json!({"spec": {"containers": [{"name": "a", "securityContext": context}, {"name": "b"}]}});
    let pod = |context: Value| json!({"spec": {"securityContext": context}});
    let rows = [
        (json!({}), ""),
        (of(json!({"privileged": true})), "privileged (container \"a\" must not set securityContext.privileged=true)"),
        (
            of(json!({"capabilities": {"add": ["NET_RAW", "CHOWN", "BPF"]}})),
            "non-default capabilities (container \"a\" must not include \"BPF\", \"NET_RAW\" in securityContext.capabilities.add)",
        ),
        (
            json!({"spec": {"hostNetwork": true, "hostPID": true, "hostIPC": true}}),
            "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ),
        (
            json!({"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}, {"name": "y", "emptyDir": {}}]}}),
            "hostPath volumes (volume \"x\")",
        ),
        (
            json!({"spec": {"containers": [
                {"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 0}]}, {"name": "b", "ports": [{"hostPort": 443}]}]}}),
            "hostPort (containers \"a\", \"b\" use hostPorts 443, 80)",
        ),
        (
            json!({"spec": {"initContainers": [{"name": "i", "lifecycle": {"preStop": {"tcpSocket": {"host": "x"}}}}],
                "containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "127.0.0.1"}}}]}}),
            "probe or lifecycle host (containers \"a\", \"i\" use probe or lifecycle hosts \"127.0.0.1\", \"x\")",
        ),
        (
            of(json!({"procMount": "Unmasked"})),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            pod(json!({"seLinuxOptions": {"type": "spc_t", "user": "u", "role": "r"}})),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)",
        ),
        (
            of(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            pod(json!({"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_wmem"}]})),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"spec": {"securityContext": {"windowsOptions": {"hostProcess": true}},
                "containers": [{"name": "a", "securityContext": {"windowsOptions": {"hostProcess": true}}}]}}),
            "hostProcess (pod and container \"a\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}},
                "spec": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}}),
            "forbidden AppArmor profiles (pod and annotation must not set AppArmor profile type to \"Unconfined\", \
             \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")",
        ),
    ];
    for (change, expected) in rows {
        assert_eq!(baseline(&change, None), expected, "{change}");
    }
}

#[test]
fn restricted_wants_to_hear_that_a_pod_has_no_more_rights_than_it_needs() {
    let rows = [
        (json!({}), ""),
        (
            containers(&[json!({}), json!({"allowPrivilegeEscalation": true})]),
            "allowPrivilegeEscalation != false (container \"b\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            containers(&[
                json!({"capabilities": {"drop": ["KILL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}}),
                json!({"capabilities": null}),
            ]),
            "unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]; \
             container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            json!({"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}, {"name": "y", "nfs": {}}, {"name": "z", "image": {}}]}}),
            "restricted volume types (volumes \"x\", \"y\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            json!({"spec": {"securityContext": {"runAsNonRoot": null}}}),
            "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
        ),
        (
            containers(&[json!({"runAsNonRoot": false}), json!({})]),
            "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        ),
        (json!({"spec": {"securityContext": {"runAsUser": 0}}}), "runAsUser=0 (pod must not set runAsUser=0)"),
        (
            json!({"spec": {"securityContext": {"seccompProfile": null}}}),
            "seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
        (
            json!({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (json!({"spec": {"hostUsers": false, "securityContext": {"runAsNonRoot": null, "runAsUser": 0}}}), ""),
    ];
    for (change, expected) in rows {
        assert_eq!(tells(&strict(), &change, Level::Restricted, None), expected, "{change}");
    }
}

#[test]
fn a_version_is_as_its_kubernetes_was() {
    use Level::{Baseline, Restricted};
    let sysctl = |name: &str| json!({"spec": {"securityContext": {"sysctls": [{"name": name}]}}});
    let unmasked = {
        let mut pod = containers(&[json!({"procMount": "Unmasked"})]);
        pod["spec"]["hostUsers"] = json!(false);
        pod
    };
    let windows = json!({"spec": {"os": {"name": "windows"}, "securityContext": {"seccompProfile": null},
        "containers": [{"name": "a"}]}});
    let annotated = json!({"metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}});
    let probe = json!({"spec": {"containers": [{"name": "a", "startupProbe": {"tcpSocket": {"host": "h"}}}]}});
    // The first minor version that allows it, or that does not any more.
    let rows = [
        (sysctl("net.ipv4.ip_local_reserved_ports"), Baseline, 27, true),
        (sysctl("net.ipv4.tcp_fin_timeout"), Baseline, 29, true),
        (sysctl("net.ipv4.tcp_rmem"), Baseline, 32, true),
        (json!({"spec": {"securityContext": {"seLinuxOptions": {"type": "container_engine_t"}}}}), Baseline, 31, true),
        (
            json!({"spec": {"hostUsers": false, "securityContext": {"runAsNonRoot": null, "runAsUser": 0}}}),
            Restricted,
            35,
            true,
        ),
        (unmasked.clone(), Baseline, 35, true),
        (windows, Restricted, 25, true),
        (annotated, Baseline, 19, true),
        (probe, Baseline, 34, false),
        (containers(&[json!({"allowPrivilegeEscalation": null})]), Restricted, 8, false),
        (containers(&[json!({"capabilities": null})]), Restricted, 22, false),
        (json!({"spec": {"securityContext": {"runAsUser": 0}}}), Restricted, 23, false),
        (json!({"spec": {"securityContext": {"seccompProfile": null}}}), Restricted, 19, false),
    ];
    for (change, level, since, allows) in rows {
        let is_allowed = |minor| tells(&strict(), &change, level, minor).is_empty();
        assert_eq!(
            (is_allowed(Some(since - 1)), is_allowed(Some(since)), is_allowed(None)),
            (!allows, allows, allows),
            "{change}"
        );
    }
    let masked = "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")";
    assert_eq!(
        tells(&strict(), &unmasked, Restricted, None),
        masked,
        "restricted never relaxes it, and tells of it once"
    );
}
