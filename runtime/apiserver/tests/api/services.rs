//! Services: what they are given, what they are refused, what they leave.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use std::collections::BTreeSet;

use common::Api;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn one(name: &str) -> String {
    format!("{SERVICES}/{name}")
}

fn service(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"ports": [{"port": 80}], "selector": {"app": "web"}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": whole})
}

async fn dual() -> Api {
    Api::with(|config| config.service_cidrs = vec!["10.43.0.0/16".parse().unwrap(), "fd00:43::/112".parse().unwrap()])
        .await
}

#[tokio::test]
async fn a_service_gets_its_defaults_and_an_address_of_its_own() {
    let api = Api::new().await;
    let made = api.post(SERVICES, service("web", &json!({}))).await.good();
    let spec = &made["spec"];
    assert_eq!(spec["type"], "ClusterIP");
    assert_eq!(spec["ports"], json!([{"port": 80, "targetPort": 80, "protocol": "TCP"}]));
    assert_eq!((&spec["sessionAffinity"], &spec["internalTrafficPolicy"]), (&json!("None"), &json!("Cluster")));
    assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    let ip = spec["clusterIP"].as_str().unwrap();
    assert!(ip.starts_with("10.43.") && spec["clusterIPs"] == json!([ip]), "{ip}");
    let address = api.get(&format!("{ADDRESSES}/{ip}")).await.good();
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "web"});
    assert_eq!(address["spec"]["parentRef"], parent);
    assert_eq!(address["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
}

#[tokio::test]
async fn two_hundred_services_at_once_get_as_many_addresses_and_ports() {
    let api = Api::new().await;
    let all: Vec<(String, Value)> =
        (0..200).map(|i| (SERVICES.to_owned(), service(&format!("s{i}"), &json!({"type": "NodePort"})))).collect();
    let made = futures_util::future::join_all(all.iter().map(|(path, body)| api.post(path, body.clone()))).await;
    let made: Vec<Value> = made.iter().map(common::Answer::good).collect();
    let ips: BTreeSet<String> = made.iter().map(|s| s["spec"]["clusterIP"].to_string()).collect();
    let ports: BTreeSet<i64> = made.iter().map(|s| s["spec"]["ports"][0]["nodePort"].as_i64().unwrap()).collect();
    assert_eq!((ips.len(), ports.len()), (200, 200));
    assert!(ports.iter().all(|p| (30000..=32767).contains(p)));
}

#[tokio::test]
async fn a_range_is_given_out_to_its_last_address_and_then_is_full() {
    let api = Api::with(|config| config.service_cidrs = vec!["10.9.0.0/29".parse().unwrap()]).await;
    // Six addresses, of which the first is the API's own.
    for i in 0..5 {
        api.post(SERVICES, service(&format!("s{i}"), &json!({}))).await.good();
    }
    let text = api.post(SERVICES, service("more", &json!({}))).await.failed(500);
    assert_eq!(text, "Internal error occurred: failed to allocate a serviceIP for Service \"more\": range is full");
    api.delete(&one("s3")).await.good();
    api.post(SERVICES, service("more", &json!({}))).await.good();
}

#[tokio::test]
async fn an_address_that_is_taken_or_of_no_range_is_refused_and_leaves_nothing_behind() {
    let api = Api::new().await;
    api.post(SERVICES, service("a", &json!({"clusterIP": "10.43.0.77"}))).await.good();
    let taken = api.post(SERVICES, service("b", &json!({"clusterIP": "10.43.0.77"}))).await;
    assert_eq!(
        taken.failed(422),
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.0.77\"]: failed to allocate IP 10.43.0.77: \
         provided IP is already allocated"
    );
    let text = api.post(SERVICES, service("b", &json!({"clusterIP": "10.50.0.1"}))).await.failed(422);
    assert!(text.ends_with("the provided network does not match the current range"), "{text}");
    let text = api.post(SERVICES, service("b", &json!({"clusterIP": "10.43.0.0"}))).await.failed(422);
    let why = "the provided IP (10.43.0.0) is not in the valid range. The range of valid IPs is 10.43.0.0/16";
    assert!(text.ends_with(why), "{text}");
    // A port that is taken fails after the address was: it must be free again.
    api.post(SERVICES, service("n", &json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30500}]})))
        .await
        .good();
    let both = json!({"type": "NodePort", "clusterIP": "10.43.0.88", "ports": [{"port": 80, "nodePort": 30500}]});
    assert_eq!(
        api.post(SERVICES, service("m", &both)).await.failed(422),
        "Service \"m\" is invalid: spec.ports[0].nodePort: Invalid value: 30500: provided port is already allocated"
    );
    api.post(SERVICES, service("m", &json!({"clusterIP": "10.43.0.88"}))).await.good();
    // So must be what a second create of a name took.
    api.post(SERVICES, service("m", &json!({"clusterIP": "10.43.0.99"}))).await.failed(409);
    api.post(SERVICES, service("o", &json!({"clusterIP": "10.43.0.99"}))).await.good();
}

#[tokio::test]
async fn what_a_deleted_service_had_can_be_had_again() {
    let api = Api::new().await;
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "clusterIP": "10.43.1.1",
        "ports": [{"port": 80, "nodePort": 30111}], "healthCheckNodePort": 30222});
    for name in ["a", "b"] {
        api.post(SERVICES, service(name, &spec)).await.good();
        api.delete(&one(name)).await.good();
    }
    api.get(&format!("{ADDRESSES}/10.43.1.1")).await.failed(404);
}

#[tokio::test]
async fn ports_are_given_kept_and_freed_with_the_type() {
    let api = Api::new().await;
    let two = json!([{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]);
    let made = api.post(SERVICES, service("dns", &json!({"type": "NodePort", "ports": two}))).await.good();
    let port = made["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert_eq!(made["spec"]["ports"][1]["nodePort"], port, "one number, two protocols");
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Cluster");
    // A writer that knows nothing of node ports changes nothing about them.
    let kept =
        api.put(&one("dns"), service("dns", &json!({"type": "NodePort", "ports": [two[0].clone()]}))).await.good();
    assert_eq!(
        (&kept["spec"]["ports"][0]["nodePort"], &kept["spec"]["clusterIP"]),
        (&json!(port), &made["spec"]["clusterIP"])
    );
    let plain = api.patch("merge", &one("dns"), json!({"spec": {"type": "ClusterIP"}})).await.good();
    assert!(
        plain["spec"]["ports"][0].get("nodePort").is_none() && plain["spec"].get("externalTrafficPolicy").is_none()
    );
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    api.post(SERVICES, service("next", &spec)).await.good();
    let out = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
    let text = api.post(SERVICES, service("out", &out)).await.failed(422);
    let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    assert_eq!(text, format!("Service \"out\" is invalid: spec.ports[0].nodePort: Invalid value: 80: {why}"));
}

#[tokio::test]
async fn a_name_elsewhere_has_no_address_and_a_change_of_type_gives_and_takes_one() {
    let api = Api::new().await;
    let spec = json!({"type": "ExternalName", "externalName": "example.org.", "ports": null});
    let made = api.post(SERVICES, service("x", &spec)).await.good();
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
        assert!(made["spec"].get(key).is_none(), "{key}");
    }
    let inside = json!({"spec": {"type": "ClusterIP", "externalName": null, "ports": [{"port": 80}]}});
    let inside = api.patch("merge", &one("x"), inside).await.good();
    let ip = inside["spec"]["clusterIP"].as_str().unwrap().to_owned();
    api.get(&format!("{ADDRESSES}/{ip}")).await.good();
    let outside = json!({"spec": {"type": "ExternalName", "externalName": "example.org"}});
    let outside = api.patch("merge", &one("x"), outside).await.good();
    assert!(outside["spec"].get("clusterIP").is_none());
    api.get(&format!("{ADDRESSES}/{ip}")).await.failed(404);
}

#[tokio::test]
async fn families_follow_the_policy_and_the_cluster() {
    let api = dual().await;
    let families = |s: &Value| s["spec"]["ipFamilies"].clone();
    let count = |s: &Value| s["spec"]["clusterIPs"].as_array().unwrap().len();
    let single = api.post(SERVICES, service("s", &json!({}))).await.good();
    assert_eq!((families(&single), count(&single)), (json!(["IPv4"]), 1));
    let prefer = api.post(SERVICES, service("p", &json!({"ipFamilyPolicy": "PreferDualStack"}))).await.good();
    assert_eq!((families(&prefer), count(&prefer)), (json!(["IPv4", "IPv6"]), 2));
    let v6 = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]});
    let require = api.post(SERVICES, service("r", &v6)).await.good();
    assert_eq!(families(&require), json!(["IPv6", "IPv4"]));
    assert!(require["spec"]["clusterIP"].as_str().unwrap().starts_with("fd00:43::"));
    let bare = json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}});
    let bare = api.post(SERVICES, bare).await.good();
    assert_eq!(
        (families(&bare), &bare["spec"]["ipFamilyPolicy"]),
        (json!(["IPv4", "IPv6"]), &json!("RequireDualStack"))
    );
    // Up, and down again.
    let up = api.patch("merge", &one("s"), json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}})).await.good();
    assert_eq!(
        (families(&up), count(&up), &up["spec"]["clusterIP"]),
        (json!(["IPv4", "IPv6"]), 2, &single["spec"]["clusterIP"])
    );
    let second = up["spec"]["clusterIPs"][1].as_str().unwrap().to_owned();
    let down = api.patch("merge", &one("s"), json!({"spec": {"ipFamilyPolicy": "SingleStack"}})).await.good();
    assert_eq!((families(&down), count(&down)), (json!(["IPv4"]), 1));
    api.get(&format!("{ADDRESSES}/{second}")).await.failed(404);
}

#[tokio::test]
async fn a_cluster_of_one_family_says_so() {
    let api = Api::new().await;
    let refused = async |spec: Value| api.post(SERVICES, service("s", &spec)).await.failed(422);
    assert_eq!(
        refused(json!({"ipFamilyPolicy": "RequireDualStack"})).await,
        "Service \"s\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured \
         for dual-stack services"
    );
    assert_eq!(
        refused(json!({"ipFamilies": ["IPv6"]})).await,
        "Service \"s\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"
    );
    assert_eq!(
        refused(json!({"clusterIP": "fd00::1"})).await,
        "Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster"
    );
}

#[tokio::test]
async fn a_dry_run_takes_nothing() {
    let api = Api::new().await;
    let before = api.get(ADDRESSES).await.good()["items"].as_array().unwrap().len();
    let spec = json!({"type": "NodePort"});
    let made = api.post(&format!("{SERVICES}?dryRun=All"), service("d", &spec)).await.good();
    assert_eq!(made["spec"]["clusterIP"], "10.43.0.0");
    assert!(made["spec"]["ports"][0]["nodePort"].as_i64().unwrap() >= 30000);
    assert_eq!(api.get(ADDRESSES).await.good()["items"].as_array().unwrap().len(), before);
}

#[tokio::test]
async fn what_a_service_may_not_say_is_told_with_its_path() {
    let api = Api::new().await;
    let table: &[(Value, &str)] = &[
        (json!({"ports": []}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 0, "targetPort": 80}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "X"}]}),
            "spec.ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (json!({"ports": [{"port": 80}, {"port": 81, "name": "b"}]}), "spec.ports[0].name: Required value"),
        (
            json!({"ports": [{"port": 80, "name": "b"}, {"port": 81, "name": "b"}]}),
            "spec.ports[1].name: Duplicate value: \"b\"",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30001}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": "a--b"}]}),
            "spec.ports[0].targetPort: Invalid value: \"a--b\": must not contain consecutive hyphens",
        ),
        (
            json!({"type": "Best"}),
            "spec.type: Unsupported value: \"Best\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
             \"NodePort\"",
        ),
        (
            json!({"externalIPs": ["127.0.0.1"]}),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None"}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (json!({"type": "ExternalName", "externalName": ""}), "spec.externalName: Required value"),
        (
            json!({"clusterIPs": ["10.43.0.5"]}),
            "spec.clusterIPs: Invalid value: [\"10.43.0.5\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            json!({"trafficDistribution": "Near"}),
            "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \
            \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
        ),
    ];
    for (spec, wanted) in table {
        let text = api.post(SERVICES, service("s", spec)).await.failed(422);
        assert_eq!(text, format!("Service \"s\" is invalid: {wanted}"), "{spec}");
    }
}

#[tokio::test]
async fn an_address_is_never_changed() {
    let api = Api::new().await;
    api.post(SERVICES, service("s", &json!({"clusterIP": "10.43.0.9"}))).await.good();
    let text = api.patch("merge", &one("s"), json!({"spec": {"clusterIP": "10.43.0.8"}})).await.failed(422);
    assert_eq!(
        text,
        "Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.43.0.8\"]: may not change once set"
    );
}

#[tokio::test]
async fn a_load_balancers_status_names_how_its_addresses_are_meant() {
    let api = Api::new().await;
    api.post(SERVICES, service("s", &json!({"type": "LoadBalancer"}))).await.good();
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let done = api.patch("merge", &format!("{}/status", one("s")), status.clone()).await.good();
    assert_eq!(done["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    api.post(SERVICES, service("c", &json!({}))).await.good();
    let text = api.patch("merge", &format!("{}/status", one("c")), status).await.failed(422);
    assert_eq!(
        text,
        "Service \"c\" is invalid: status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    );
}

#[tokio::test]
async fn an_address_whose_writer_was_cut_off_is_had_by_the_next_who_asks() {
    let api = Api::new().await;
    let orphan = |name: &str, service: &str| {
        let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": service});
        json!({"metadata": {"name": name}, "spec": {"parentRef": parent}})
    };
    api.post(ADDRESSES, orphan("10.43.2.2", "gone")).await.good();
    // It may still be on its way.
    api.post(SERVICES, service("s", &json!({"clusterIP": "10.43.2.2"}))).await.failed(422);
    api.advance(61);
    api.post(SERVICES, service("s", &json!({"clusterIP": "10.43.2.2"}))).await.good();
    let address = api.get(&format!("{ADDRESSES}/10.43.2.2")).await.good();
    assert_eq!(address["spec"]["parentRef"]["name"], "s");
}

#[tokio::test]
async fn the_apis_own_service_has_the_first_address() {
    let api = Api::new().await;
    let own = api.get(&one("kubernetes")).await.good();
    assert_eq!(
        (&own["spec"]["clusterIP"], &own["spec"]["ports"][0]["targetPort"]),
        (&json!("10.43.0.1"), &json!(6443))
    );
    api.get(&format!("{ADDRESSES}/10.43.0.1")).await.good();
    let range = api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await.good();
    assert_eq!(range["spec"]["cidrs"], json!(["10.43.0.0/16"]));
    assert_eq!(range["status"]["conditions"][0]["type"], "Ready");
}

#[tokio::test]
async fn what_stands_behind_a_service_is_told_as_far_as_it_is_known() {
    let api = Api::new().await;
    let spec = json!({"ports": [{"port": 80, "name": "http"}]});
    api.post(SERVICES, service("s", &spec)).await.good();
    let proxy = async |id: &str, code: u16| api.get(&format!("{SERVICES}/{id}/proxy/path")).await.failed(code);
    assert_eq!(proxy("a:b:c:d", 400).await, "invalid service request \"a:b:c:d\"");
    assert_eq!(proxy("none:80", 404).await, "services \"none\" not found");
    assert_eq!(proxy("s:81", 503).await, "no service port 81 found for service \"s\"");
    assert_eq!(proxy("s:80", 404).await, "endpoints \"s\" not found");
    let endpoints = json!({"metadata": {"name": "s"}, "subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "name": "http"}]}]});
    api.post("/api/v1/namespaces/default/endpoints", endpoints).await.good();
    assert_eq!(proxy("s:80", 503).await, "no endpoints available for service \"s:80\"");
    assert_eq!(api.get("/api/v1/nodes/none/proxy/metrics").await.failed(404), "nodes \"none\" not found");
    let api_nodes = "/api/v1/nodes";
    api.post(api_nodes, json!({"metadata": {"name": "n"}})).await.good();
    api.get(&format!("{api_nodes}/n:10250/proxy/metrics")).await.failed(503);
}
