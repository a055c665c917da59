//! APIs that another server answers for: whether they are available, what is passed on and what discovery tells of them.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, in their helpers too")]

mod sample;

use crate::common;

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use common::{Answer, admin, map, user};
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sample::{BASE, NAME, SERVICES, World, aggregated, becomes, group};
use serde_json::{Value, json};
use tokio::sync::mpsc;

fn plain(answer: &Answer, code: u16) -> String {
    assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (code, "text/plain; charset=utf-8"));
    answer.text()
}

#[tokio::test]
async fn an_api_is_available_once_its_service_is_there_has_the_port_and_an_endpoint_that_answers() {
    let world = World::new().await;
    world.register("wardle.example.com", "v1alpha1", world.trusted()).await;
    let mut watch = world.watch(NAME).await;
    let message = becomes(&mut watch, "ServiceNotFound").await;
    assert_eq!(message, "service/sample in \"default\" is not present");
    assert_eq!(plain(&world.api.get(&format!("{BASE}/flunders")).await, 503), "service unavailable\n");
    let service = json!({"metadata": {"name": "sample"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
    world.api.post("/api/v1/namespaces/default/services", service).await.good();
    let message = becomes(&mut watch, "ServicePortError").await;
    assert_eq!(message, "service/sample in \"default\" is not listening on port 7443");
    world.api.delete("/api/v1/namespaces/default/services/sample").await.good();
    becomes(&mut watch, "ServiceNotFound").await;
    world.service().await;
    let message = becomes(&mut watch, "EndpointsNotFound").await;
    assert_eq!(message, "cannot find endpointslices for service/sample in \"default\"");
    world.slice(false).await;
    let message = becomes(&mut watch, "MissingEndpoints").await;
    let expected = "endpointslices for service/sample in \"default\" have no addresses with port name \"https\"";
    assert_eq!(message, expected);
    // Nobody listens where the node leads.
    let port = world.sample.port.swap(1, Ordering::Relaxed);
    world.endpoint(true).await;
    let message = becomes(&mut watch, "FailedDiscoveryCheck").await;
    let url = format!("https://10.42.0.5:443{BASE}");
    assert!(
        message.starts_with(&format!("failing or missing response from {url}: Get \"{url}\": connect: ")),
        "{message}"
    );
    let metrics = world.api.get("/metrics").await.text();
    assert!(metrics.contains(&format!("aggregator_unavailable_apiservice{{name=\"{NAME}\"}} 1")), "{metrics}");
    world.sample.port.store(port, Ordering::Relaxed);
    let message = becomes(&mut watch, "Passed").await;
    assert_eq!(message, "all checks passed");
    let row = world.api.row(&format!("{SERVICES}/{NAME}")).await;
    assert_eq!((&row["Service"], &row["Available"]), (&json!("default/sample"), &json!("True")));
    world.api.delete("/api/v1/namespaces/default/services/sample").await.good();
    becomes(&mut watch, "ServiceNotFound").await;
    let metrics = world.api.get("/metrics").await.text();
    let turned =
        "aggregator_unavailable_apiservice_total{name=\"v1alpha1.wardle.example.com\",reason=\"ServiceNotFound\"}";
    assert!(metrics.contains(turned), "{metrics}");
}

#[tokio::test]
async fn a_request_is_passed_on_in_the_name_of_who_made_it() {
    let world = World::ready().await;
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": ["wardle.example.com"], "resources": ["flunders"], "verbs": ["*"]}]});
    world.api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await.good();
    let flunders = format!("{BASE}/namespaces/default/flunders");
    let refused = world.api.send(user("jane"), "GET", &flunders, &[], Value::Null).await;
    assert!(refused.failed(403).contains("cannot list resource \"flunders\" in API group \"wardle.example.com\""));
    let binding = json!({
        "metadata": {"name": "r"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "r", "apiGroup": "rbac.authorization.k8s.io"},
    });
    world.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.good();
    let headers = [("x-remote-user", "root"), ("x-remote-group", "system:masters"), ("authorization", "Bearer x")];
    let answer = world.api.send(user("jane"), "POST", &format!("{flunders}?a=%20b"), &headers, map("x")).await.good();
    let expected = format!("POST {flunders}?a=%20b jane system:authenticated front-proxy-client");
    assert_eq!((&answer["line"], &answer["length"]), (&json!(expected), &json!(map("x").to_string().len())));
    let headers = [("impersonate-user", "jane")];
    let answer = world.api.send(admin(), "GET", &flunders, &headers, Value::Null).await.good();
    assert_eq!(answer["line"], format!("GET {flunders} jane system:authenticated front-proxy-client"));
    let checked = format!("GET {BASE} system:kube-aggregator system:masters,system:authenticated front-proxy-client");
    assert!(world.sample.seen.lock().unwrap().contains(&checked));
    // What leads away is not followed, and the server's own refusals stay as they are.
    let moved = world.api.get(&format!("{BASE}/moved")).await;
    assert_eq!(plain(&moved, 502), "the backend attempted to redirect this request, which is not permitted");
    assert_eq!(world.api.get(&format!("{BASE}/nothing")).await.text(), "404 page not found");
}

#[tokio::test]
async fn watches_flow_and_upgrades_are_granted() {
    let world = World::ready().await;
    let (lines, received) = mpsc::unbounded_channel();
    *world.sample.lines.lock().unwrap() = Some(received);
    let mut watch = world.api.watch(&format!("{BASE}/flunders?watch=1")).await;
    for name in ["a", "b"] {
        let event = json!({"type": "ADDED", "object": {"metadata": {"name": name}}});
        lines.send(Bytes::from(format!("{event}\n"))).unwrap();
        assert_eq!(watch.brief().await, format!("ADDED {name}"));
    }
    world.api.server.end_watches();
    assert!(watch.next().await.is_none());
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = world.api.server.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(server.call(admin(), request.map(|_| Bytes::new())).await) }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(served.with_upgrades());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder().uri(format!("{BASE}/flunders/x/console")).header("host", "hub");
    let request = request.header("connection", "Upgrade").header("upgrade", "echo").body(Full::<Bytes>::default());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["upgrade"]), (101, &"echo".parse().unwrap()));
}

#[tokio::test]
async fn discovery_and_openapi_tell_of_it_until_it_is_deleted() {
    let world = World::ready().await;
    let found = world.discovered().await;
    assert_eq!(found["versions"][0]["freshness"], "Current");
    let resource = &found["versions"][0]["resources"][0];
    let none = json!({"group": "", "version": "", "kind": ""});
    assert_eq!((&resource["resource"], &resource["responseKind"]), (&json!("flunders"), &none));
    // A priority of 2,000 is before that of metrics, and after all of Kubernetes' own.
    let names = |list: &Value| -> Vec<String> {
        list["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = names(&world.api.get("/apis").await.good());
    assert_eq!(all[all.len() - 2..], ["wardle.example.com", "metrics.k8s.io"]);
    let one = world.api.get("/apis/wardle.example.com").await.good();
    assert_eq!((&one["kind"], &one["preferredVersion"]["version"]), (&json!("APIGroup"), &json!("v1alpha1")));
    assert_eq!(world.api.get(BASE).await.good()["resources"][0]["name"], "flunders");
    let index = world.api.get("/openapi/v3").await.good();
    let address = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(world.api.get(address).await.good(), json!({"openapi": "3.0.0"}));
    // Another priority is another place.
    world.api.patch("merge", &format!("{SERVICES}/{NAME}"), json!({"spec": {"groupPriorityMinimum": 20}})).await.good();
    while names(&world.api.get("/apis").await.good()).last().unwrap() != "wardle.example.com" {
        tokio::task::yield_now().await;
    }
    world.api.delete(&format!("{SERVICES}/{NAME}")).await.good();
    while group(&aggregated(&world.api).await, "wardle.example.com").is_some() {
        tokio::task::yield_now().await;
    }
    world.api.get(&format!("{BASE}/flunders")).await.failed(404);
}

/// A document of OpenAPI 2 of a server that has one of Kubernetes' definitions in another form.
fn swagger(description: &str) -> Value {
    let status = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
    let answers =
        |name: &str| json!({"200": {"description": "OK", "schema": {"$ref": format!("#/definitions/{name}")}}});
    json!({
        "swagger": "2.0",
        "definitions": {
            "com.example.wardle.Flunder": {"description": description, "type": "object"},
            (status): {"description": "of wardle", "type": "object"},
            "Other": {},
        },
        "parameters": {"pretty-1": {"in": "query", "name": "pretty", "type": "string", "uniqueItems": true}},
        "paths": {
            "/apis/wardle.example.com/v1alpha1/flunders": {
                "get": {"responses": answers("com.example.wardle.Flunder")},
                "delete": {"responses": answers(status)},
                "parameters": [{"$ref": "#/parameters/pretty-1"}],
            },
            "/apis/wardle.example.com/v1beta1/flunders": {"get": {"responses": answers("Other")}},
        },
    })
}

#[tokio::test]
async fn openapi_2_has_the_documents_of_others_while_they_are_away_too() {
    let world = World::new().await;
    *world.sample.swagger.lock().unwrap() = swagger("first");
    let before = world.api.get("/openapi/v2").await;
    world.all_ready().await;
    let tag = |answer: &Answer| answer.headers["etag"].to_str().unwrap().to_owned();
    let flunder = |answer: &Answer| answer.json()["definitions"]["com.example.wardle.Flunder"]["description"].clone();
    let until = async |text: Value| loop {
        let answer = world.api.get("/openapi/v2").await;
        if flunder(&answer) == text {
            return answer;
        }
        tokio::task::yield_now().await;
    };
    let first = until(json!("first")).await;
    assert_ne!(tag(&first), tag(&before));
    let document = first.json();
    let (definitions, paths) = (&document["definitions"], &document["paths"]);
    let status = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
    assert_eq!(definitions[status], before.json()["definitions"][status]);
    assert_eq!(definitions[format!("{status}_v2")]["description"], "of wardle");
    assert_eq!(definitions["Other"], Value::Null);
    let flunders = &paths[format!("{BASE}/flunders")];
    let reference = &flunders["delete"]["responses"]["200"]["schema"]["$ref"];
    assert_eq!(*reference, json!(format!("#/definitions/{status}_v2")));
    assert_eq!(flunders["parameters"][0]["name"], "pretty");
    assert_eq!(paths["/apis/wardle.example.com/v1beta1/flunders"], Value::Null);
    assert!(paths["/api/v1/pods"].is_object());
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let protobuf = world.api.send(admin(), "GET", "/openapi/v2", &protobuf, Value::Null).await;
    assert!(
        protobuf.text().contains("com.example.wardle.Flunder") && protobuf.text().contains(&format!("{status}_v2"))
    );
    // It goes away, and what it told stays; it comes back with something else.
    let mut watch = world.watch(NAME).await;
    world.endpoint(false).await;
    becomes(&mut watch, "MissingEndpoints").await;
    let away = world.api.get("/openapi/v2").await;
    assert_eq!((tag(&away), flunder(&away)), (tag(&first), json!("first")));
    let known = tag(&first);
    assert_eq!(
        world.api.send(admin(), "GET", "/openapi/v2", &[("if-none-match", &known)], Value::Null).await.code,
        304
    );
    *world.sample.swagger.lock().unwrap() = swagger("second");
    world.endpoint(true).await;
    let second = until(json!("second")).await;
    assert_ne!(tag(&second), tag(&first));
    world.api.delete(&format!("{SERVICES}/{NAME}")).await.good();
    assert_eq!(tag(&until(Value::Null).await), tag(&before));
}

#[tokio::test]
async fn an_older_server_is_discovered_by_what_it_has() {
    let world = World::with(true, "sample.default.svc").await;
    world.all_ready().await;
    let found = world.discovered().await;
    let kind = json!({"group": "", "version": "", "kind": "Flunder"});
    assert_eq!(found["versions"][0]["resources"][0]["responseKind"], kind);
    let index = world.api.get("/openapi/v3").await.good();
    assert!(index["paths"].get("apis/wardle.example.com/v1alpha1").is_none());
    world.api.get("/openapi/v3/apis/wardle.example.com/v1alpha1").await.failed(404);
}

#[tokio::test]
async fn a_server_that_is_another_is_trusted_only_by_who_does_not_care() {
    let world = World::with(false, "other.default.svc").await;
    world.service().await;
    world.slice(true).await;
    world.register("wardle.example.com", "v1alpha1", world.trusted()).await;
    let mut watch = world.watch(NAME).await;
    let message = becomes(&mut watch, "FailedDiscoveryCheck").await;
    assert!(message.contains("tls: failed to verify certificate: x509: "), "{message}");
    assert_eq!(plain(&world.api.get(&format!("{BASE}/flunders")).await, 503), "service unavailable\n");
    let careless = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    world.api.patch("merge", &format!("{SERVICES}/{NAME}"), careless).await.good();
    becomes(&mut watch, "Passed").await;
}

#[tokio::test]
async fn metrics_of_a_server_of_ones_own_take_the_place_of_the_built_in_ones_and_give_it_back() {
    let world = World::new().await;
    let name = "v1beta1.metrics.k8s.io";
    let mut watch = world.watch(name).await;
    becomes(&mut watch, "Local").await;
    world.service().await;
    world.slice(true).await;
    let mut spec = world.trusted();
    spec["service"] = json!({"namespace": "default", "name": "sample", "port": 7443});
    world.api.patch("merge", &format!("{SERVICES}/{name}"), json!({"spec": spec})).await.good();
    becomes(&mut watch, "Passed").await;
    let nodes = "/apis/metrics.k8s.io/v1beta1/nodes";
    assert!(world.api.get(nodes).await.good()["line"].as_str().unwrap().starts_with(&format!("GET {nodes} admin")));
    let local = json!({"spec": {"service": null, "caBundle": null}});
    world.api.patch("merge", &format!("{SERVICES}/{name}"), local).await.good();
    let message = becomes(&mut watch, "Local").await;
    assert_eq!(message, "Local APIServices are always available");
    assert_eq!(world.api.get(nodes).await.good()["kind"], "NodeMetricsList");
    world.api.delete(&format!("{SERVICES}/{name}")).await.good();
    let again = loop {
        let event = watch.next().await.unwrap();
        if event["type"] == "ADDED" {
            break event;
        }
    };
    assert_eq!(again["object"]["spec"]["groupPriorityMinimum"], 100);
}

#[tokio::test]
async fn servers_of_apis_learn_whom_to_believe_and_it_stays_so() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let made = world.api.get(path).await.good();
    let data = &made["data"];
    assert!(data["requestheader-client-ca-file"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let lists = [
        ("requestheader-allowed-names", "[\"front-proxy-client\"]"),
        ("requestheader-username-headers", "[\"X-Remote-User\"]"),
        ("requestheader-uid-headers", "[\"X-Remote-Uid\"]"),
        ("requestheader-group-headers", "[\"X-Remote-Group\"]"),
        ("requestheader-extra-headers-prefix", "[\"X-Remote-Extra-\"]"),
    ];
    for (key, expected) in lists {
        assert_eq!(data[key], expected, "{key}");
    }
    assert_eq!(data["client-ca-file"], "PEM");
    let mut watch = world
        .api
        .watch(&format!(
            "{}?watch=1&resourceVersion={}",
            path.rsplit_once('/').unwrap().0,
            made["metadata"]["resourceVersion"].as_str().unwrap()
        ))
        .await;
    world.api.delete(path).await.good();
    assert_eq!(watch.brief().await, "DELETED extension-apiserver-authentication");
    let again = watch.next().await.unwrap();
    assert_eq!((&again["type"], &again["object"]["data"]), (&json!("ADDED"), data));
}
