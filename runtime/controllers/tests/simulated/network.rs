//! Who stands behind a Service.

use kiln_controllers::{endpoint_slice, endpoint_slice_mirroring, endpoints, service_cidrs};
use serde_json::{Value, json};

use crate::world::{World, pass};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
pub(crate) const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";

pub(crate) async fn start() -> World {
    let world = World::new().await;
    world.run(|informers, context| {
        let slices = endpoint_slice::build(informers, context);
        let endpoints = endpoints::build(informers, context);
        let mirroring = endpoint_slice_mirroring::build(informers, context);
        let networks = service_cidrs::build(informers, context);
        async move { _ = tokio::join!(slices, endpoints, mirroring, networks) }
    });
    world.node("a", "za").await;
    world.node("b", "zb").await;
    world
}

/// A Service of Pods labelled `app: web`; `more` is merged into its spec.
pub(crate) async fn service(world: &World, name: &str, more: Value) -> Value {
    let mut spec = json!({"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    world.create(SERVICES, json!({"metadata": {"name": name, "labels": {"team": "x"}}, "spec": spec})).await
}

pub(crate) async fn slices(world: &World, service: &str) -> Vec<Value> {
    world.labelled(SLICES, &format!("kubernetes.io/service-name={service}")).await
}

/// Address, and the conditions ready, serving and terminating as letters.
fn endpoints_of(slices: &[Value]) -> Vec<String> {
    let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let mut found: Vec<String> = endpoints
        .map(|endpoint| {
            let letters: String = [("ready", 'r'), ("serving", 's'), ("terminating", 't')]
                .into_iter()
                .filter(|(condition, _)| endpoint["conditions"][condition] == true)
                .map(|(_, letter)| letter)
                .collect();
            format!("{} {letters}", endpoint["addresses"][0].as_str().unwrap())
        })
        .collect();
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn a_service_has_the_endpoints_of_its_pods() {
    let world = start().await;
    let made = service(&world, "web", json!({})).await;
    pass(1).await;
    let empty = slices(&world, "web").await;
    assert_eq!(empty.len(), 1, "one without endpoints, so that readers know there is nobody");
    assert_eq!((&empty[0]["ports"], &empty[0]["endpoints"]), (&Value::Null, &Value::Null));

    world.pod("p1", "a", json!({"app": "web"}), &["10.42.0.5"], true).await;
    world.pod("p2", "b", json!({"app": "web"}), &["10.42.1.6"], false).await;
    world.pod("p3", "b", json!({"app": "other"}), &["10.42.1.7"], true).await;
    pass(1).await;
    let found = slices(&world, "web").await;
    assert_eq!(found.len(), 1);
    let slice = &found[0];
    assert_eq!(slice["metadata"]["name"], empty[0]["metadata"]["name"], "it is put to use");
    assert!(slice["metadata"]["generateName"] == "web-", "{slice}");
    let labels = json!({"team": "x", "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    assert_eq!(slice["metadata"]["labels"], labels);
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    assert_eq!(slice["ports"], json!([{"name": "web", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(endpoints_of(&found), ["10.42.0.5 rs", "10.42.1.6 "]);
    let first = slice["endpoints"].as_array().unwrap().iter().find(|e| e["addresses"][0] == "10.42.0.5").unwrap();
    assert_eq!(
        (&first["nodeName"], &first["zone"], &first["targetRef"]["name"]),
        (&json!("a"), &json!("za"), &json!("p1"))
    );

    let endpoints = world.get(&format!("{ENDPOINTS}/web")).await;
    let subset = &endpoints["subsets"][0];
    assert_eq!(
        (&subset["addresses"][0]["ip"], &subset["notReadyAddresses"][0]["ip"]),
        (&json!("10.42.0.5"), &json!("10.42.1.6"))
    );
    assert_eq!(
        endpoints["metadata"]["labels"],
        json!({"team": "x", "endpoints.kubernetes.io/managed-by": "endpoint-controller"})
    );

    // Ready, then going, then gone.
    world.run_pod("p2", &["10.42.1.6"], true).await;
    pass(1).await;
    assert_eq!(endpoints_of(&slices(&world, "web").await), ["10.42.0.5 rs", "10.42.1.6 rs"]);
    world.delete("/api/v1/namespaces/default/pods/p2").await;
    pass(1).await;
    assert_eq!(endpoints_of(&slices(&world, "web").await), ["10.42.0.5 rs", "10.42.1.6 st"]);
    assert_eq!(world.get(&format!("{ENDPOINTS}/web")).await["subsets"][0]["notReadyAddresses"], Value::Null);
    world.stop_pod("p2").await;
    pass(1).await;
    assert_eq!(endpoints_of(&slices(&world, "web").await), ["10.42.0.5 rs"]);
    assert_eq!(slices(&world, "web").await[0]["metadata"]["uid"], empty[0]["metadata"]["uid"], "changed in place");

    world.delete(&format!("{SERVICES}/web")).await;
    pass(1).await;
    assert!(world.find(&format!("{ENDPOINTS}/web")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_show_in_a_slice_leads_to_no_write() {
    let world = start().await;
    service(&world, "web", json!({})).await;
    world.pod("p1", "a", json!({"app": "web"}), &["10.42.0.5"], true).await;
    pass(2).await;
    let before = slices(&world, "web").await;
    world
        .patch(
            "/api/v1/namespaces/default/pods/p1",
            json!({"metadata": {"annotations": {"x": "y"}, "labels": {"z": "z"}}}),
        )
        .await;
    world.patch("/api/v1/nodes/a", json!({"metadata": {"annotations": {"x": "y"}}})).await;
    pass(600).await;
    assert_eq!(slices(&world, "web").await, before);
}

#[tokio::test(start_paused = true)]
async fn slices_that_others_break_are_mended() {
    let world = start().await;
    service(&world, "web", json!({})).await;
    world.pod("p1", "a", json!({"app": "web"}), &["10.42.0.5"], true).await;
    pass(2).await;
    let name = slices(&world, "web").await[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch(&format!("{SLICES}/{name}"), json!({"endpoints": [{"addresses": ["10.42.0.99"]}]})).await;
    pass(3).await;
    assert_eq!(endpoints_of(&slices(&world, "web").await), ["10.42.0.5 rs"]);
    world.delete(&format!("{SLICES}/{name}")).await;
    pass(3).await;
    assert_eq!(endpoints_of(&slices(&world, "web").await), ["10.42.0.5 rs"]);
    world.patch(&format!("{SERVICES}/web"), json!({"metadata": {"labels": {"team": "y"}}})).await;
    pass(3).await;
    let slice = &slices(&world, "web").await[0];
    assert_eq!(slice["metadata"]["labels"]["team"], "y");
    world.delete(&format!("{ENDPOINTS}/web")).await;
    pass(3).await;
    assert_eq!(world.get(&format!("{ENDPOINTS}/web")).await["subsets"][0]["addresses"][0]["ip"], "10.42.0.5");
}

#[tokio::test(start_paused = true)]
async fn a_slice_holds_a_hundred_endpoints_and_those_that_go_leave_room() {
    let world = start().await;
    service(&world, "web", json!({})).await;
    for n in 0..150 {
        world.pod(&format!("p{n}"), "a", json!({"app": "web"}), &[&format!("10.42.0.{n}")], true).await;
    }
    pass(5).await;
    let sizes = |slices: &[Value]| {
        let mut sizes: Vec<usize> = slices.iter().map(|s| s["endpoints"].as_array().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    };
    let made = sizes(&slices(&world, "web").await);
    assert!(made.len() == 2 && made.iter().sum::<usize>() == 150 && made[1] <= 100, "{made:?}");
    for n in 0..110 {
        world.stop_pod(&format!("p{n}")).await;
    }
    pass(5).await;
    let found = slices(&world, "web").await;
    assert_eq!(sizes(&found).iter().sum::<usize>(), 40);
    for n in 0..30 {
        world.pod(&format!("q{n}"), "a", json!({"app": "web"}), &[&format!("10.42.2.{n}")], true).await;
    }
    pass(5).await;
    assert_eq!(sizes(&slices(&world, "web").await).iter().sum::<usize>(), 70);
    assert_eq!(slices(&world, "web").await.len(), found.len(), "no new slice is made while there is room");
}

#[tokio::test(start_paused = true)]
async fn services_of_each_kind_have_the_slices_that_the_documentation_tells() {
    let world = start().await;
    world.pod("p1", "a", json!({"app": "web"}), &["10.42.0.5", "fd00:42::5"], true).await;
    world.pod("p2", "b", json!({"app": "web"}), &["10.42.1.6", "fd00:42::6"], false).await;
    let rows = [
        ("single", json!({}), vec![("IPv4", vec!["10.42.0.5 rs", "10.42.1.6 "])]),
        (
            "six",
            json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}),
            vec![("IPv6", vec!["fd00:42::5 rs", "fd00:42::6 "])],
        ),
        (
            "dual",
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            vec![("IPv4", vec!["10.42.0.5 rs", "10.42.1.6 "]), ("IPv6", vec!["fd00:42::5 rs", "fd00:42::6 "])],
        ),
        ("early", json!({"publishNotReadyAddresses": true}), vec![("IPv4", vec!["10.42.0.5 rs", "10.42.1.6 r"])]),
        ("headless", json!({"clusterIP": "None", "ports": null}), vec![("IPv4", vec!["10.42.0.5 rs", "10.42.1.6 "])]),
        ("nobody", json!({"selector": {"app": "none"}}), vec![("IPv4", vec![])]),
        ("by-hand", json!({"selector": null}), vec![]),
        ("elsewhere", json!({"type": "ExternalName", "externalName": "example.org", "ports": null}), vec![]),
        (
            "wrong-port",
            json!({"ports": [{"port": 80, "targetPort": "nowhere"}]}),
            vec![("IPv4", vec!["10.42.0.5 rs", "10.42.1.6 "])],
        ),
    ];
    for (name, spec, _) in &rows {
        service(&world, name, spec.clone()).await;
    }
    pass(2).await;
    for (name, _, wanted) in rows {
        let mut found = slices(&world, name).await;
        found.sort_by_key(|slice| slice["addressType"].to_string());
        let found: Vec<(String, Vec<String>)> = found
            .iter()
            .map(|s| (s["addressType"].as_str().unwrap().to_owned(), endpoints_of(std::slice::from_ref(s))))
            .collect();
        let found: Vec<(&str, Vec<&str>)> =
            found.iter().map(|(family, e)| (family.as_str(), e.iter().map(String::as_str).collect())).collect();
        assert_eq!(found, wanted, "{name}");
    }
    let headless = &slices(&world, "headless").await[0];
    assert_eq!(headless["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    assert_eq!(slices(&world, "wrong-port").await[0]["ports"], Value::Null);
    assert_eq!(world.get(&format!("{ENDPOINTS}/six")).await["subsets"][0]["addresses"][0]["ip"], "fd00:42::5");
}

#[tokio::test(start_paused = true)]
async fn a_service_follows_its_selector_and_its_ports() {
    let world = start().await;
    service(&world, "web", json!({})).await;
    world.pod("p1", "a", json!({"app": "web"}), &["10.42.0.5"], true).await;
    world.pod("p2", "a", json!({"app": "api"}), &["10.42.0.6"], true).await;
    pass(2).await;
    world.patch(&format!("{SERVICES}/web"), json!({"spec": {"selector": {"app": "api"}}})).await;
    pass(2).await;
    assert_eq!(endpoints_of(&slices(&world, "web").await), ["10.42.0.6 rs"]);
    world.patch("/api/v1/namespaces/default/pods/p1", json!({"metadata": {"labels": {"app": "api"}}})).await;
    pass(2).await;
    assert_eq!(endpoints_of(&slices(&world, "web").await), ["10.42.0.5 rs", "10.42.0.6 rs"]);
    let uid = slices(&world, "web").await[0]["metadata"]["uid"].clone();
    world
        .patch(
            &format!("{SERVICES}/web"),
            json!({"spec": {"ports": [{"name": "web", "port": 80, "targetPort": 9090}]}}),
        )
        .await;
    pass(2).await;
    let found = slices(&world, "web").await;
    assert_eq!((found.len(), &found[0]["ports"][0]["port"]), (1, &json!(9090)));
    assert_eq!(found[0]["metadata"]["uid"], uid, "the slice is put to the use of the new ports");
}

#[tokio::test(start_paused = true)]
async fn traffic_is_kept_near_where_a_service_asks_for_it() {
    let world = start().await;
    world.pod("p1", "a", json!({"app": "web"}), &["10.42.0.5"], true).await;
    world.pod("p2", "b", json!({"app": "web"}), &["10.42.1.6"], true).await;
    service(&world, "web", json!({})).await;
    let zone = |zone: &str| json!([{"name": zone}]);
    let rows = [
        (json!(null), [json!(null), json!(null)]),
        (json!("PreferClose"), [json!({"forZones": zone("za")}), json!({"forZones": zone("zb")})]),
        (
            json!("PreferSameNode"),
            [
                json!({"forZones": zone("za"), "forNodes": [{"name": "a"}]}),
                json!({"forZones": zone("zb"), "forNodes": [{"name": "b"}]}),
            ],
        ),
        (json!("PreferSameZone"), [json!({"forZones": zone("za")}), json!({"forZones": zone("zb")})]),
        (json!(null), [json!(null), json!(null)]),
    ];
    for (distribution, hints) in rows {
        world.patch(&format!("{SERVICES}/web"), json!({"spec": {"trafficDistribution": distribution}})).await;
        pass(2).await;
        let mut endpoints = slices(&world, "web").await[0]["endpoints"].as_array().unwrap().clone();
        endpoints.sort_by_key(|endpoint| endpoint["addresses"][0].to_string());
        let found: Vec<Value> = endpoints.iter().map(|endpoint| endpoint["hints"].clone()).collect();
        assert_eq!(found, hints, "{distribution}");
    }
    // The older way: zones by their share of the CPUs.
    world
        .patch(
            &format!("{SERVICES}/web"),
            json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}}),
        )
        .await;
    pass(2).await;
    let hinted = slices(&world, "web").await;
    assert!(
        hinted[0]["endpoints"].as_array().unwrap().iter().all(|e| e["hints"]["forZones"][0]["name"] == e["zone"]),
        "{hinted:?}"
    );
    // Three in one zone and none in the other: two of them are lent.
    world.stop_pod("p2").await;
    for n in 2..=4 {
        world.pod(&format!("n{n}"), "a", json!({"app": "web"}), &[&format!("10.42.0.1{n}")], true).await;
    }
    pass(2).await;
    let hinted = slices(&world, "web").await;
    let lent =
        hinted[0]["endpoints"].as_array().unwrap().iter().filter(|e| e["hints"]["forZones"][0]["name"] == "zb").count();
    assert_eq!(lent, 2, "{hinted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_network_of_services_stays_while_they_have_addresses_of_it() {
    let world = start().await;
    let networks = "/apis/networking.k8s.io/v1/servicecidrs";
    world.create(networks, json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.44.0.0/24"]}})).await;
    pass(1).await;
    let ready = |network: &Value| network["status"]["conditions"][0].clone();
    let network = world.get(&format!("{networks}/more")).await;
    assert_eq!(
        (&ready(&network)["status"], &ready(&network)["message"]),
        (&json!("True"), &json!("Kubernetes Service CIDR is ready"))
    );
    assert_eq!(network["metadata"]["finalizers"], json!(["networking.k8s.io/service-cidr-finalizer"]));
    service(&world, "web", json!({"clusterIP": "10.44.0.7"})).await;
    pass(1).await;
    world.delete(&format!("{networks}/more")).await;
    pass(60).await;
    let blocked = world.get(&format!("{networks}/more")).await;
    assert_eq!((&ready(&blocked)["status"], &ready(&blocked)["reason"]), (&json!("False"), &json!("Terminating")));
    world.delete(&format!("{SERVICES}/web")).await;
    pass(2).await;
    assert!(world.find(&format!("{networks}/more")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_bad_line_leaves_the_endpoints_right_in_the_end() {
    let world = World::new().await;
    let _running = world.run_badly(|informers, context| {
        let (slices, endpoints) = (endpoint_slice::build(informers, context), endpoints::build(informers, context));
        async move { _ = tokio::join!(slices, endpoints) }
    });
    world.node("a", "za").await;
    service(&world, "web", json!({})).await;
    for n in 0..30 {
        world.pod(&format!("p{n}"), "a", json!({"app": "web"}), &[&format!("10.42.0.{n}")], true).await;
        if n % 3 == 2 {
            world.stop_pod(&format!("p{}", n - 1)).await;
        }
        pass(1).await;
    }
    pass(120).await;
    let wanted: Vec<String> = (0..30).filter(|n| n % 3 != 1).map(|n| format!("10.42.0.{n} rs")).collect();
    let mut wanted = wanted;
    wanted.sort();
    assert_eq!(endpoints_of(&slices(&world, "web").await), wanted);
    let subsets = world.get(&format!("{ENDPOINTS}/web")).await["subsets"].clone();
    assert_eq!(subsets[0]["addresses"].as_array().unwrap().len(), 20);
}
