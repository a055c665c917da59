//! What annotations do.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Reply, World, api, config, echo, ingress, rule, service};

/// A world with one Service, whose pods are called `a` and `b`, and one Ingress.
async fn world(annotations: Value, path: &str) -> World {
    let api = api();
    service(&api, "web", &[echo("a").await, echo("b").await], None);
    ingress(&api, "x", annotations, json!({"rules": [rule("x.com", &[("Prefix", path, "web")])]}));
    World::start(api).await
}

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path).header("host", "x.com");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Full::<Bytes>::default()).unwrap()).await
}

#[tokio::test]
async fn the_client_and_how_it_came_are_told_to_the_pod() {
    let world = world(json!(null), "/").await;
    let reply =
        get(&world, "/", &[("x-forwarded-for", "1.2.3.4"), ("connection", "close, x-secret"), ("x-secret", "1")]).await;
    for (header, expected) in [
        ("x-forwarded-for", "127.0.0.1".to_owned()),
        ("x-real-ip", "127.0.0.1".to_owned()),
        ("x-forwarded-proto", "http".to_owned()),
        ("x-forwarded-host", "x.com".to_owned()),
        ("x-forwarded-port", world.http.port().to_string()),
        ("x-secret", "none".to_owned()),
        ("connection", "none".to_owned()),
    ] {
        assert_eq!(reply.saw(header), expected, "{header}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_trusted_is_believed() {
    let api = api();
    service(&api, "web", &[echo("a").await], None);
    ingress(&api, "x", json!(null), json!({"rules": [rule("x.com", &[("Prefix", "/", "web")])]}));
    let config = kiln_ingress::Config { trusted: vec!["127.0.0.0/8".parse().unwrap()], ..config() };
    let world = World::start_with(api, config).await;
    let reply = get(&world, "/", &[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")]).await;
    assert_eq!(reply.saw("x-forwarded-for"), "1.2.3.4, 127.0.0.1");
    assert_eq!(reply.saw("x-forwarded-proto"), "https");
}

#[tokio::test]
async fn paths_are_rewritten_as_asked() {
    for (annotation, value, asked, expected, prefix) in [
        ("strip-prefix", "true", "/api/v1?q=1", "/v1?q=1", "/api"),
        ("strip-prefix", "true", "/api", "/", "/api"),
        ("rewrite-target", "/new", "/api/v1", "/new/v1", "/api"),
        ("strip-prefix", "false", "/api/v1", "/api/v1", "none"),
    ] {
        let world = world(json!({format!("kiln.dev/{annotation}"): value}), "/api").await;
        let reply = get(&world, asked, &[]).await;
        assert_eq!(reply.echo()["target"], json!(expected), "{annotation} {asked}");
        assert_eq!(reply.saw("x-forwarded-prefix"), prefix);
    }
}

#[tokio::test]
async fn requests_are_sent_to_https_if_asked_for() {
    let world = world(json!({"kiln.dev/ssl-redirect": "true"}), "/").await;
    let reply = get(&world, "/a?b=c", &[]).await;
    assert_eq!(reply.status.as_u16(), 308);
    // The port is the one that was configured.
    assert_eq!(reply.headers["location"], "https://x.com:0/a?b=c");
}

#[tokio::test]
async fn a_cookie_keeps_a_client_at_its_pod() {
    let world = world(json!({"kiln.dev/affinity": "cookie", "kiln.dev/session-cookie-name": "route"}), "/").await;
    let first = get(&world, "/", &[]).await;
    let cookie = first.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("route=") && cookie.ends_with("; Path=/; HttpOnly"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    for _ in 0..6 {
        let reply = get(&world, "/", &[("cookie", &format!("other=1; {cookie}"))]).await;
        assert_eq!(reply.served_by(), first.served_by());
        assert!(!reply.headers.contains_key("set-cookie"));
    }
    let stranger = get(&world, "/", &[("cookie", "route=0123456789abcdef")]).await;
    assert!(stranger.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn a_canary_gets_its_part() {
    let api = api();
    for name in ["stable", "canary"] {
        service(&api, name, &[echo(name).await], None);
    }
    let spec = |service: &str| json!({"rules": [rule("x.com", &[("Prefix", "/", service)])]});
    ingress(&api, "stable", json!(null), spec("stable"));
    let part =
        json!({"kiln.dev/canary": "true", "kiln.dev/canary-weight": "50", "kiln.dev/canary-by-header": "x-canary"});
    ingress(&api, "canary", part, spec("canary"));
    let world = World::start(api).await;
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        *seen.entry(get(&world, "/", &[]).await.served_by()).or_default() += 1;
    }
    // That one of them gets none has a chance of one in 2^59.
    assert!(seen.len() == 2, "{seen:?}");
    for (word, expected) in [("always", "canary"), ("never", "stable")] {
        assert_eq!(get(&world, "/", &[("x-canary", word)]).await.served_by(), expected);
    }
}

#[tokio::test]
async fn who_may_not_and_what_is_too_large_is_refused() {
    let elsewhere = world(json!({"kiln.dev/allowlist-source-range": "10.0.0.0/8"}), "/").await;
    assert_eq!(get(&elsewhere, "/", &[]).await.status.as_u16(), 403);
    let small = world(json!({"kiln.dev/proxy-body-size": "1k"}), "/").await;
    for (size, status) in [(1024, 200), (1025, 413)] {
        let request = Request::post("/").header("host", "x.com").body(Full::from(vec![b'x'; size])).unwrap();
        assert_eq!(small.send(request).await.status.as_u16(), status, "{size}");
    }
}

#[tokio::test]
async fn a_wrong_annotation_is_told_by_an_event_and_the_ingress_served() {
    let world = world(json!({"kiln.dev/proxy-read-timeout": "soon"}), "/").await;
    assert_eq!(get(&world, "/", &[]).await.status.as_u16(), 200);
    let path = "/api/v1/namespaces/ns/events";
    let waiting = async {
        loop {
            let list = world.api.client().list::<Value>(path, &kiln_client::ListParams::default()).await.unwrap();
            match list.items.into_iter().next() {
                Some(event) => return event,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let event = tokio::time::timeout(crate::support::LONG, waiting).await.unwrap();
    assert_eq!((&event["reason"], &event["involvedObject"]["name"]), (&json!("InvalidAnnotation"), &json!("x")));
    assert_eq!(event["message"], json!("annotation kiln.dev/proxy-read-timeout: \"soon\" can't be understood"));
}
