//! Ingresses, policies, endpoints and ranges: what they are given and what they may not say.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::Api;
use serde_json::{Value, json};

const NETWORKING: &str = "/apis/networking.k8s.io/v1";

/// Posts each body, which must be refused with the complaint.
async fn all_refused(api: &Api, path: &str, kind: &str, name: &str, table: &[(Value, &str)]) {
    for (body, wanted) in table {
        let text = api.post(path, body.clone()).await.failed(422);
        assert_eq!(text, format!("{kind} {name:?} is invalid: {wanted}"), "{body}");
    }
}

fn ingress(spec: &Value) -> Value {
    json!({"metadata": {"name": "i"}, "spec": spec})
}

fn backend() -> Value {
    json!({"service": {"name": "web", "port": {"number": 80}}})
}

fn with_path(path: &str, kind: &str) -> Value {
    ingress(&json!({"rules": [{"http": {"paths": [{"path": path, "pathType": kind, "backend": backend()}]}}]}))
}

#[tokio::test]
async fn an_ingress_names_backends_hosts_and_paths_that_make_sense() {
    let api = Api::new().await;
    let path = format!("{NETWORKING}/namespaces/default/ingresses");
    let at = "spec.rules[0].http.paths[0]";
    let table = [
        (
            ingress(&json!({})),
            "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified".to_owned(),
        ),
        (
            ingress(&json!({"defaultBackend": {}})),
            "spec.defaultBackend: Invalid value: \"\": resource or service backend is required".into(),
        ),
        (
            ingress(&json!({"defaultBackend": {"service": {"name": "web"}}})),
            "spec.defaultBackend: Required value: port name or number is required".into(),
        ),
        (
            ingress(&json!({"defaultBackend": backend(), "rules": [{"host": "10.0.0.1"}]})),
            "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address".into(),
        ),
        (with_path("x", "Prefix"), format!("{at}.path: Invalid value: \"x\": must be an absolute path")),
        (with_path("/a/../b", "Exact"), format!("{at}.path: Invalid value: \"/a/../b\": must not contain '/../'")),
        (with_path("/a/..", "Exact"), format!("{at}.path: Invalid value: \"/a/..\": cannot end with '/..'")),
        (
            with_path("/a", "Best"),
            format!(
                "{at}.pathType: Unsupported value: \"Best\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""
            ),
        ),
        (ingress(&json!({"rules": [{"http": {"paths": []}}]})), "spec.rules[0].http.paths: Required value".into()),
    ];
    for (body, wanted) in table {
        let text = api.post(&path, body.clone()).await.failed(422);
        assert_eq!(text, format!("Ingress.networking.k8s.io \"i\" is invalid: {wanted}"), "{body}");
    }
    let star = ingress(
        &json!({"rules": [{"host": "*.example.org"}], "tls": [{"hosts": ["*.example.org"], "secretName": "s"}]}),
    );
    let made = api.post(&path, star).await.good();
    assert_eq!((&made["metadata"]["generation"], &made["status"]), (&json!(1), &json!({"loadBalancer": {}})));
    let changed = api.patch("merge", &format!("{path}/i"), json!({"spec": {"ingressClassName": "c"}})).await.good();
    assert_eq!(changed["metadata"]["generation"], 2);
    let labelled = api.patch("merge", &format!("{path}/i"), json!({"metadata": {"labels": {"a": "b"}}})).await.good();
    assert_eq!(labelled["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_class_of_ingresses_keeps_its_controller() {
    let api = Api::new().await;
    let path = format!("{NETWORKING}/ingressclasses");
    let class = |spec: Value| json!({"metadata": {"name": "c"}, "spec": spec});
    let parameters = |p: Value| class(json!({"controller": "example.org/c", "parameters": p}));
    all_refused(
        &api,
        &path,
        "IngressClass.networking.k8s.io",
        "c",
        &[
            (class(json!({})), "spec.controller: Required value"),
            (
                class(json!({"controller": "c"})),
                "spec.controller: Invalid value: \"c\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                parameters(json!({"kind": "K", "name": "n", "scope": "Namespace"})),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                parameters(json!({"kind": "K", "name": "n", "namespace": "x"})),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
        ],
    )
    .await;
    let made = api.post(&path, parameters(json!({"kind": "K", "name": "n"}))).await.good();
    assert_eq!(made["spec"]["parameters"]["scope"], "Cluster");
    let text =
        api.patch("merge", &format!("{path}/c"), json!({"spec": {"controller": "example.org/d"}})).await.failed(422);
    assert!(text.ends_with("spec.controller: Invalid value: \"example.org/d\": field is immutable"), "{text}");
}

#[tokio::test]
async fn a_policy_without_types_is_about_what_it_has_rules_for() {
    let api = Api::new().await;
    let path = format!("{NETWORKING}/namespaces/default/networkpolicies");
    let policy = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let made = api.post(&path, policy("a", json!({"egress": [{"ports": [{"port": 53}]}]}))).await.good();
    assert_eq!(made["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(
        (&made["spec"]["podSelector"], &made["spec"]["egress"][0]["ports"][0]["protocol"]),
        (&json!({}), &json!("TCP"))
    );
    let from = |peer: Value| policy("p", json!({"ingress": [{"from": [peer]}]}));
    let port = |port: Value| policy("p", json!({"ingress": [{"ports": [port]}]}));
    all_refused(&api, &path, "NetworkPolicy.networking.k8s.io", "p", &[
        (from(json!({})), "spec.ingress[0].from[0]: Required value: must specify a peer"),
        (
            from(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (
            from(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}})),
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ),
        (
            from(json!({"ipBlock": {"cidr": "10.0.0.1/8"}})),
            "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
        ),
        (
            port(json!({"port": "web", "endPort": 90})),
            "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric",
        ),
        (
            port(json!({"port": 100, "endPort": 90})),
            "spec.ingress[0].ports[0].endPort: Invalid value: 100: must be greater than or equal to `port`",
        ),
        (
            policy("p", json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})),
            "spec.podSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        (
            policy("p", json!({"policyTypes": ["All"]})),
            "spec.policyTypes[0]: Unsupported value: \"All\": supported values: \"Ingress\", \"Egress\"",
        ),
    ]).await;
}

#[tokio::test]
async fn a_slice_of_endpoints_counts_changes_of_labels_too() {
    let api = Api::new().await;
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = |more: Value| {
        let mut body = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": []});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let of = |address: &str| slice(json!({"endpoints": [{"addresses": [address]}]}));
    all_refused(&api, path, "EndpointSlice.discovery.k8s.io", "s", &[
        (
            slice(json!({"addressType": "X"})),
            "addressType: Unsupported value: \"X\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
        ),
        (
            slice(json!({"endpoints": [{"addresses": []}]})),
            "endpoints[0].addresses: Required value: must contain at least 1 address",
        ),
        (of("fd00::1"), "endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address"),
        (
            of("127.0.0.1"),
            "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (slice(json!({"ports": [{"name": "a"}, {"name": "a"}]})), "ports[1].name: Duplicate value: \"a\""),
    ]).await;
    let made = api.post(path, slice(json!({"ports": [{"port": 80}]}))).await.good();
    assert_eq!(made["ports"][0], json!({"name": "", "port": 80, "protocol": "TCP"}));
    let generation = |o: &Value| o["metadata"]["generation"].as_i64().unwrap();
    let one = format!("{path}/s");
    let labelled = api.patch("merge", &one, json!({"metadata": {"labels": {"a": "b"}}})).await.good();
    let noted = api.patch("merge", &one, json!({"metadata": {"annotations": {"a": "b"}}})).await.good();
    assert_eq!((generation(&made), generation(&labelled), generation(&noted)), (1, 2, 2));
    let text = api.patch("merge", &one, json!({"addressType": "IPv6"})).await.failed(422);
    assert!(text.ends_with("addressType: Invalid value: \"IPv6\": field is immutable"), "{text}");
}

#[tokio::test]
async fn endpoints_have_addresses_that_can_be_reached() {
    let api = Api::new().await;
    let path = "/api/v1/namespaces/default/endpoints";
    let of = |subset: Value| json!({"metadata": {"name": "e"}, "subsets": [subset]});
    all_refused(&api, path, "Endpoints", "e", &[
        (of(json!({"ports": [{"port": 80}]})), "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"),
        (
            of(json!({"addresses": [{"ip": "169.254.1.1"}]})),
            "subsets[0].addresses[0].ip: Invalid value: \"169.254.1.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            of(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}, {"port": 81, "name": "b"}]})),
            "subsets[0].ports[0].name: Required value",
        ),
    ]).await;
    let made = api.post(path, of(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}))).await.good();
    assert_eq!(made["subsets"][0]["ports"][0]["protocol"], "TCP");
}

#[tokio::test]
async fn ranges_may_gain_a_family_and_change_nothing_else() {
    let api = Api::new().await;
    let path = format!("{NETWORKING}/servicecidrs");
    let range = |cidrs: Value| json!({"metadata": {"name": "r"}, "spec": {"cidrs": cidrs}});
    all_refused(&api, &path, "ServiceCIDR.networking.k8s.io", "r", &[
        (range(json!([])), "spec.cidrs: Required value: at least one CIDR required"),
        (
            range(json!(["10.5.0.0/24", "10.6.0.0/24"])),
            "spec.cidrs: Invalid value: [\"10.5.0.0/24\",\"10.6.0.0/24\"]: may specify no more than one IP for each IP family, i.e \
             192.168.0.0/24 and 2001:db8::/64",
        ),
        (range(json!(["FD00::/64"])), "spec.cidrs[0]: Invalid value: \"FD00::/64\": must be in canonical form (\"fd00::/64\")"),
    ]).await;
    api.post(&path, range(json!(["10.5.0.0/24"]))).await.good();
    // The new range is used at once.
    let services = "/api/v1/namespaces/default/services";
    let spec = json!({"clusterIP": "10.5.0.9", "ports": [{"port": 80}]});
    api.post(services, json!({"metadata": {"name": "s"}, "spec": spec})).await.good();
    let one = format!("{path}/r");
    let text = api.patch("merge", &one, json!({"spec": {"cidrs": ["10.6.0.0/24"]}})).await.failed(422);
    assert!(text.ends_with("spec.cidrs[0]: Invalid value: \"10.6.0.0/24\": field is immutable"), "{text}");
    api.patch("merge", &one, json!({"spec": {"cidrs": ["10.5.0.0/24", "fd00::/112"]}})).await.good();
}

#[tokio::test]
async fn an_address_is_named_as_it_is_written_and_keeps_its_parent() {
    let api = Api::new().await;
    let path = format!("{NETWORKING}/ipaddresses");
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "s"});
    let address = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let text = api.post(&path, address("fd00::0:1", json!({"parentRef": parent}))).await.failed(422);
    let why = "metadata.name: Invalid value: \"fd00::0:1\": must be in canonical form (\"fd00::1\")";
    assert_eq!(text, format!("IPAddress.networking.k8s.io \"fd00::0:1\" is invalid: {why}"));
    let text = api.post(&path, address("10.0.0.9", json!({}))).await.failed(422);
    assert!(text.ends_with("spec.parentRef: Required value"), "{text}");
    api.post(&path, address("10.0.0.9", json!({"parentRef": parent}))).await.good();
    let other = json!({"spec": {"parentRef": {"name": "t"}}});
    let text = api.patch("merge", &format!("{path}/10.0.0.9"), other).await.failed(422);
    assert!(text.contains("spec.parentRef: Invalid value") && text.ends_with("field is immutable"), "{text}");
}
