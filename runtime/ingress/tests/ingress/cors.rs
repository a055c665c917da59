//! CORS filters of HTTPRoutes: the scenario of the conformance test for it.

use serde_json::json;

use crate::gateways::{ask, route, to, until, world};

#[tokio::test]
async fn scripts_of_other_origins_may_do_what_a_rule_says() {
    let world = world(&["web"]).await;
    let rule = |path: &str, cors| {
        let matched = json!({"path": {"type": "PathPrefix", "value": path}});
        json!({"matches": [matched], "filters": [{"type": "CORS", "cors": cors}], "backendRefs": to("web")})
    };
    let named = json!({
        "allowOrigins": ["https://www.foo.com", "https://*.bar.com"],
        "allowMethods": ["GET", "OPTIONS"],
        "allowHeaders": ["x-header-1", "x-header-2"],
        "exposeHeaders": ["x-header-3", "x-header-4"],
        "allowCredentials": true,
        "maxAge": 3600,
    });
    let any = json!({"allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"]});
    route(&world.api, "cors", json!({"rules": [rule("/named", named), rule("/any", any)]}));
    until(&world, "a.com", "/named", "web").await;

    // Rows: what is asked for; by whom; headers that the script wants to send; what is told: the origin, methods, headers, headers that
    // it may see, credentials and seconds.
    for (target, origin, wants, expected) in [
        (
            "OPTIONS /named",
            "https://www.foo.com",
            "x-header-1, x-header-2",
            "https://www.foo.com|GET, OPTIONS|x-header-1, x-header-2|x-header-3, x-header-4|true|3600",
        ),
        (
            "OPTIONS /named",
            "https://xpto.www.bar.com",
            "",
            "https://xpto.www.bar.com|GET, OPTIONS|x-header-1, x-header-2|x-header-3, x-header-4|true|3600",
        ),
        ("OPTIONS /named", "https://foobar.com", "", "|||||"),
        ("OPTIONS /any", "https://foobar.com:12345", "x-a", "https://foobar.com:12345|PUT|x-a|||5"),
        ("GET /named", "https://www.bar.com", "", "https://www.bar.com|||x-header-3, x-header-4|true|"),
        ("GET /named", "https://foobar.com", "", "|||||"),
        ("PUT /any", "https://foobar.com", "", "https://foobar.com|||||"),
    ] {
        let asks =
            [("origin", origin), ("access-control-request-method", "PUT"), ("access-control-request-headers", wants)];
        let reply = ask(&world, "a.com", target, &asks[..if wants.is_empty() { 2 } else { 3 }]).await;
        let told = ["allow-origin", "allow-methods", "allow-headers", "expose-headers", "allow-credentials", "max-age"];
        let told = told.map(|name| {
            let value = reply.headers.get(format!("access-control-{name}"));
            value.map_or("", |value| value.to_str().unwrap())
        });
        assert_eq!(told.join("|"), expected, "{target} {origin}");
        assert_eq!((reply.status, &reply.headers["vary"]), (http::StatusCode::OK, &"Origin".parse().unwrap()));
        assert_eq!(reply.text.is_empty(), target.starts_with("OPTIONS"), "{target}");
    }
    // Without an origin it is a request as any other.
    assert_eq!(ask(&world, "a.com", "OPTIONS /named", &[]).await.served_by(), "web");
}
