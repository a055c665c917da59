//! Claims to devices.

use kiln_controllers::resource_claims;
use serde_json::{Value, json};

use crate::world::{World, pass, pod_path};

const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
const TEMPLATES: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates";

#[tokio::test(start_paused = true)]
async fn a_pod_gets_its_claim_by_a_template_and_gives_it_back_when_it_ends() {
    let world = World::new().await;
    world.run(resource_claims::build);
    let containers = json!([{"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}]);
    let claims = json!([{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]);
    let spec = json!({"containers": containers, "resourceClaims": claims, "restartPolicy": "Never"});
    world.create("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "p"}, "spec": spec})).await;
    pass(1).await;
    assert_eq!(world.list(CLAIMS).await.len(), 0, "there is no template yet");
    let requests = json!([{"name": "r", "exactly": {"deviceClassName": "gpu.example.com"}}]);
    let template = json!({"metadata": {"labels": {"l": "v"}}, "spec": {"devices": {"requests": requests}}});
    world.create(TEMPLATES, json!({"metadata": {"name": "one-gpu"}, "spec": template})).await;
    pass(2).await;
    let made = world.list(CLAIMS).await;
    assert_eq!(made.len(), 1);
    let (pod, claim) = (world.get(&pod_path("p", "")).await, &made[0]);
    let name = claim["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("p-gpu-"), "{name}");
    assert_eq!(claim["metadata"]["annotations"]["resource.kubernetes.io/pod-claim-name"], "gpu");
    assert_eq!(
        (&claim["metadata"]["labels"]["l"], &claim["metadata"]["ownerReferences"][0]["uid"]),
        (&json!("v"), &pod["metadata"]["uid"])
    );
    assert_eq!(pod["status"]["resourceClaimStatuses"], json!([{"name": "gpu", "resourceClaimName": name}]));
    // The scheduler's part.
    let path = format!("{CLAIMS}/{name}");
    world.patch(&path, json!({"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}})).await;
    let results = json!([{"request": "r", "driver": "gpu.example.com", "pool": "a", "device": "gpu-0"}]);
    let consumer = json!({"resource": "pods", "name": "p", "uid": pod["metadata"]["uid"]});
    let status = json!({"allocation": {"devices": {"results": results}}, "reservedFor": [consumer]});
    world.patch(&format!("{path}/status"), json!({"status": status})).await;
    pass(60).await;
    assert_eq!(world.get(&path).await["status"]["reservedFor"], json!([consumer]));
    world.end_pod("p", 0).await;
    pass(2).await;
    assert_eq!(world.find(&path).await, None::<Value>, "what was made for the Pod goes with it");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_users_made_stays_and_loses_its_allocation() {
    let world = World::new().await;
    world.run(resource_claims::build);
    let requests = json!([{"name": "r", "exactly": {"deviceClassName": "gpu.example.com"}}]);
    world.create(CLAIMS, json!({"metadata": {"name": "shared"}, "spec": {"devices": {"requests": requests}}})).await;
    let path = format!("{CLAIMS}/shared");
    world.patch(&path, json!({"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}})).await;
    let results = json!([{"request": "r", "driver": "gpu.example.com", "pool": "a", "device": "gpu-0"}]);
    let gone = json!({"resource": "pods", "name": "gone", "uid": "00000000-0000-0000-0000-000000000001"});
    let status = json!({"allocation": {"devices": {"results": results}}, "reservedFor": [gone]});
    world.patch(&format!("{path}/status"), json!({"status": status})).await;
    pass(2).await;
    let free = world.get(&path).await;
    assert_eq!((&free["status"]["allocation"], &free["status"]["reservedFor"]), (&Value::Null, &Value::Null));
    assert_eq!(free["metadata"]["finalizers"], Value::Null);
}
