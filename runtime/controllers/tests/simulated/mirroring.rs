//! Slices of Endpoints that others write.

use serde_json::{Value, json};

use crate::network::{ENDPOINTS, service, slices, start};
use crate::world::pass;

#[tokio::test(start_paused = true)]
async fn addresses_beyond_a_thousand_are_left_out_and_that_is_told() {
    let world = start().await;
    service(&world, "db", json!({"selector": null})).await;
    let addresses: Vec<Value> =
        (0..1_003).map(|n| json!({"ip": format!("192.0.{}.{}", n / 250, n % 250 + 1)})).collect();
    let subsets = json!([{"addresses": addresses, "ports": [{"name": "sql", "port": 9376}]}]);
    world.create(ENDPOINTS, json!({"metadata": {"name": "db"}, "subsets": subsets})).await;
    pass(2).await;
    let found = slices(&world, "db").await;
    assert_eq!(found.iter().map(|slice| slice["endpoints"].as_array().unwrap().len()).collect::<Vec<_>>(), [1_000]);
    let text =
        "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 3 addresses were skipped";
    let told = world.list("/api/v1/namespaces/default/events").await;
    assert!(
        told.iter().any(|event| event["reason"] == "TooManyAddressesToMirror" && event["message"] == text),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_a_service_without_selector_are_mirrored() {
    let world = start().await;
    service(&world, "db", json!({"selector": null})).await;
    let subsets = json!([{"addresses": [{"ip": "192.0.2.42"}, {"ip": "2001:db8::1"}], "notReadyAddresses": [{"ip": "192.0.2.43"}],
        "ports": [{"name": "sql", "port": 9376}]}]);
    let endpoints =
        json!({"metadata": {"name": "db", "labels": {"l": "v"}, "annotations": {"a": "b"}}, "subsets": subsets});
    world.create(ENDPOINTS, endpoints).await;
    pass(2).await;
    let found = slices(&world, "db").await;
    assert_eq!(found.len(), 2);
    let four = found.iter().find(|slice| slice["addressType"] == "IPv4").unwrap();
    assert_eq!(four["ports"], json!([{"name": "sql", "port": 9376, "protocol": "TCP"}]));
    assert_eq!(
        four["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );
    assert_eq!((&four["metadata"]["labels"]["l"], &four["metadata"]["annotations"]), (&json!("v"), &json!({"a": "b"})));
    assert_eq!(four["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
    let all = |slices: &[Value]| -> Vec<String> {
        let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().unwrap().clone());
        let mut all: Vec<_> = endpoints
            .map(|e| format!("{} {}", e["addresses"][0].as_str().unwrap(), e["conditions"]["ready"]))
            .collect();
        all.sort();
        all
    };
    assert_eq!(all(&found), ["192.0.2.42 true", "192.0.2.43 false", "2001:db8::1 true"]);
    world
        .patch(
            &format!("{ENDPOINTS}/db"),
            json!({"subsets": [{"addresses": [{"ip": "192.0.2.44"}], "ports": [{"name": "sql", "port": 9376}]}]}),
        )
        .await;
    pass(2).await;
    assert_eq!(all(&slices(&world, "db").await), ["192.0.2.44 true"]);
    world
        .patch(
            &format!("{ENDPOINTS}/db"),
            json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}),
        )
        .await;
    pass(2).await;
    assert_eq!(slices(&world, "db").await.len(), 0);
}
