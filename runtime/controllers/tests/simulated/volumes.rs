//! Claims and volumes.

use kiln_controllers::volumes::{attach, binder, ephemeral, expand, local_path, protection};
use serde_json::{Value, json};

use crate::world::{World, pass, pod_path};

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";

async fn start() -> World {
    let world = World::new().await;
    world.run(|informers, context| {
        let binder = binder::build(informers, context);
        let local = local_path::build(informers, context, "/var/lib/kiln/storage".to_owned());
        let (claims, volumes) = (protection::claims(informers, context), protection::volumes(informers, context));
        let attributes = protection::attributes(informers, context);
        let ephemeral = ephemeral::build(informers, context);
        let (attach, expand) = (attach::build(informers, context), expand::build(informers, context));
        async move { _ = tokio::join!(binder, local, claims, volumes, attributes, ephemeral, attach, expand) }
    });
    world.node("a", "za").await;
    pass(1).await;
    world
}

async fn claim(world: &World, name: &str, spec: Value) {
    let mut whole = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    world.create(CLAIMS, json!({"metadata": {"name": name}, "spec": whole})).await;
}

async fn volume(world: &World, name: &str, spec: Value) {
    let mut whole =
        json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "hostPath": {"path": "/mnt/data"}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    world.create(VOLUMES, json!({"metadata": {"name": name}, "spec": whole})).await;
}

async fn phase(world: &World, collection: &str, name: &str) -> String {
    let object = world.find(&format!("{collection}/{name}")).await.unwrap_or_default();
    object["status"]["phase"].as_str().unwrap_or("gone").to_owned()
}

async fn tells(world: &World, text: &str) -> bool {
    let events = world.list("/api/v1/namespaces/default/events").await;
    events.iter().any(|event| event["message"].as_str().unwrap().contains(text))
}

/// A Pod that uses a claim, on the node `a` if it is bound.
async fn pod(world: &World, name: &str, claim: &str, bound: bool) {
    let node = bound.then_some("a");
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
    let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}], "volumes": volumes});
    world.create("/api/v1/namespaces/default/pods", json!({"metadata": {"name": name}, "spec": spec})).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_a_volume_that_suits_it_and_leaves_it_released() {
    let world = start().await;
    volume(&world, "v", json!({})).await;
    pass(1).await;
    assert_eq!(phase(&world, VOLUMES, "v").await, "Available");
    claim(&world, "c", json!({})).await;
    pass(1).await;
    let bound = world.get(&format!("{CLAIMS}/c")).await;
    assert_eq!((&bound["spec"]["volumeName"], &bound["status"]["phase"]), (&json!("v"), &json!("Bound")));
    assert_eq!(
        (&bound["status"]["capacity"]["storage"], &bound["status"]["accessModes"]),
        (&json!("2Gi"), &json!(["ReadWriteOnce"]))
    );
    let yes = json!("yes");
    let annotations = &bound["metadata"]["annotations"];
    assert_eq!(
        (&annotations["pv.kubernetes.io/bind-completed"], &annotations["pv.kubernetes.io/bound-by-controller"]),
        (&yes, &yes)
    );
    let volume = world.get(&format!("{VOLUMES}/v")).await;
    assert_eq!(
        (&volume["spec"]["claimRef"]["uid"], &volume["status"]["phase"]),
        (&bound["metadata"]["uid"], &json!("Bound"))
    );
    world.delete(&format!("{CLAIMS}/c")).await;
    pass(1).await;
    assert_eq!(phase(&world, VOLUMES, "v").await, "Released");
    claim(&world, "c", json!({})).await;
    pass(60).await;
    assert_eq!(phase(&world, CLAIMS, "c").await, "Pending", "what was retained is nobody else's");
    assert!(tells(&world, "no persistent volumes available for this claim and no storage class is set").await);
    world.patch(&format!("{VOLUMES}/v"), json!({"spec": {"claimRef": null}})).await;
    pass(1).await;
    assert_eq!(phase(&world, CLAIMS, "c").await, "Bound", "until the administrator frees it");
}

#[tokio::test(start_paused = true)]
async fn a_claim_and_a_volume_may_name_each_other() {
    let world = start().await;
    // The volume is reserved; the claim comes later.
    volume(&world, "reserved", json!({"claimRef": {"namespace": "default", "name": "c1"}})).await;
    volume(&world, "small", json!({"capacity": {"storage": "1Mi"}})).await;
    claim(&world, "other", json!({})).await;
    pass(1).await;
    assert_eq!(
        (phase(&world, VOLUMES, "reserved").await, phase(&world, CLAIMS, "other").await),
        ("Available".to_owned(), "Pending".to_owned())
    );
    claim(&world, "c1", json!({})).await;
    claim(&world, "c2", json!({"volumeName": "later"})).await;
    claim(&world, "c3", json!({"volumeName": "small"})).await;
    claim(&world, "c4", json!({"volumeName": "reserved"})).await;
    pass(1).await;
    assert_eq!(phase(&world, CLAIMS, "c1").await, "Bound");
    assert_eq!(world.get(&format!("{CLAIMS}/c1")).await["spec"]["volumeName"], "reserved");
    for name in ["c2", "c3", "c4"] {
        assert_eq!(phase(&world, CLAIMS, name).await, "Pending", "{name}");
    }
    assert!(tells(&world, "Cannot bind to requested volume \"small\": requested PV is too small").await);
    assert!(tells(&world, "volume \"reserved\" already bound to a different claim.").await);
    volume(&world, "later", json!({"claimRef": {"namespace": "default", "name": "c2"}})).await;
    pass(1).await;
    assert_eq!(phase(&world, CLAIMS, "c2").await, "Bound");
}

#[tokio::test(start_paused = true)]
async fn a_bound_claim_without_its_volume_is_lost() {
    let world = start().await;
    volume(&world, "v", json!({})).await;
    claim(&world, "c", json!({})).await;
    pass(1).await;
    world.delete(&format!("{VOLUMES}/v")).await;
    pass(1).await;
    assert_eq!(phase(&world, VOLUMES, "v").await, "Bound", "kept while it is bound");
    world.patch(&format!("{VOLUMES}/v"), json!({"metadata": {"finalizers": null}})).await;
    pass(1).await;
    assert_eq!(phase(&world, CLAIMS, "c").await, "Lost");
    assert!(tells(&world, "Bound claim has lost its PersistentVolume. Data on the volume is lost!").await);
}

#[tokio::test(start_paused = true)]
async fn many_claims_and_volumes_are_paired_without_doubles() {
    let world = start().await;
    for n in 0..20 {
        volume(&world, &format!("v{n}"), json!({})).await;
        claim(&world, &format!("c{n}"), json!({})).await;
    }
    pass(10).await;
    let mut used: Vec<String> =
        world.list(CLAIMS).await.iter().map(|claim| claim["spec"]["volumeName"].as_str().unwrap().to_owned()).collect();
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn local_path_is_the_default_class_and_makes_a_volume_where_the_pod_goes() {
    let world = start().await;
    let class = world.get(&format!("{CLASSES}/local-path")).await;
    assert_eq!(
        (&class["provisioner"], &class["volumeBindingMode"], &class["reclaimPolicy"]),
        (&json!("rancher.io/local-path"), &json!("WaitForFirstConsumer"), &json!("Delete"))
    );
    claim(&world, "c", json!({"storageClassName": "local-path"})).await;
    pass(1).await;
    assert_eq!(phase(&world, CLAIMS, "c").await, "Pending");
    assert!(tells(&world, "waiting for first consumer to be created before binding").await);
    pod(&world, "p", "c", false).await;
    // The scheduler's part.
    world
        .patch(
            &format!("{CLAIMS}/c"),
            json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "a"}}}),
        )
        .await;
    pass(2).await;
    let bound = world.get(&format!("{CLAIMS}/c")).await;
    assert_eq!(bound["status"]["phase"], "Bound", "{bound}");
    let name = format!("pvc-{}", bound["metadata"]["uid"].as_str().unwrap());
    assert_eq!(bound["spec"]["volumeName"], name);
    let volume = world.get(&format!("{VOLUMES}/{name}")).await;
    let spec = &volume["spec"];
    assert_eq!(
        spec["hostPath"],
        json!({"path": format!("/var/lib/kiln/storage/{name}_default_c"), "type": "DirectoryOrCreate"})
    );
    assert_eq!(spec["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"], json!(["a"]));
    assert_eq!(
        (&spec["persistentVolumeReclaimPolicy"], &spec["storageClassName"]),
        (&json!("Delete"), &json!("local-path"))
    );
    assert_eq!(volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"], "rancher.io/local-path");
    // With the claim goes the volume, once its node has removed the folder.
    world.stop_pod("p").await;
    world.delete(&format!("{CLAIMS}/c")).await;
    pass(2).await;
    let going = world.get(&format!("{VOLUMES}/{name}")).await;
    assert_eq!(
        (going["metadata"]["deletionTimestamp"].is_string(), &going["status"]["phase"]),
        (true, &json!("Released"))
    );
    assert_eq!(going["metadata"]["finalizers"], json!(["kiln.dev/local-path"]));
    world.patch(&format!("{VOLUMES}/{name}"), json!({"metadata": {"finalizers": null}})).await;
    assert!(world.find(&format!("{VOLUMES}/{name}")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_volumes_of_a_node_that_is_gone_are_let_go() {
    let world = start().await;
    claim(&world, "c", json!({"storageClassName": "local-path"})).await;
    world
        .patch(
            &format!("{CLAIMS}/c"),
            json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "a"}}}),
        )
        .await;
    pass(2).await;
    world.delete(&format!("{CLAIMS}/c")).await;
    pass(2).await;
    assert_eq!(world.list(VOLUMES).await.len(), 1);
    world.delete("/api/v1/nodes/a").await;
    pass(45).await;
    assert_eq!(world.list(VOLUMES).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_a_class_gets_the_default_one_and_others_wait_for_their_provisioner() {
    let world = start().await;
    let class =
        json!({"metadata": {"name": "csi"}, "provisioner": "csi.example.com", "volumeBindingMode": "Immediate"});
    world.create(CLASSES, class).await;
    claim(&world, "c", json!({"storageClassName": "csi"})).await;
    claim(&world, "d", json!({"storageClassName": "nowhere"})).await;
    claim(&world, "e", json!({"storageClassName": null})).await;
    pass(1).await;
    let waiting = world.get(&format!("{CLAIMS}/c")).await;
    let annotations = &waiting["metadata"]["annotations"];
    assert_eq!(annotations["volume.kubernetes.io/storage-provisioner"], "csi.example.com");
    assert_eq!(annotations["volume.beta.kubernetes.io/storage-provisioner"], "csi.example.com");
    assert!(tells(&world, "by the external provisioner 'csi.example.com'").await);
    assert!(tells(&world, "storageclass.storage.k8s.io \"nowhere\" not found").await);
    assert_eq!(world.get(&format!("{CLAIMS}/e")).await["spec"]["storageClassName"], "local-path");
    let uid = waiting["metadata"]["uid"].clone();
    let reference = json!({"namespace": "default", "name": "c", "uid": uid});
    volume(&world, "made", json!({"storageClassName": "csi", "claimRef": reference})).await;
    pass(1).await;
    assert_eq!(phase(&world, CLAIMS, "c").await, "Bound");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_a_pod_uses_goes_after_the_pod() {
    let world = start().await;
    volume(&world, "v", json!({})).await;
    claim(&world, "c", json!({})).await;
    pod(&world, "p", "c", true).await;
    pass(1).await;
    assert_eq!(
        world.get(&format!("{CLAIMS}/c")).await["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    world.delete(&format!("{CLAIMS}/c")).await;
    pass(5).await;
    assert!(world.find(&format!("{CLAIMS}/c")).await.is_some());
    world.stop_pod("p").await;
    pass(1).await;
    assert!(world.find(&format!("{CLAIMS}/c")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_class_of_attributes_goes_once_no_claim_and_no_volume_has_it() {
    const VACS: &str = "/apis/storage.k8s.io/v1/volumeattributesclasses";
    let world = start().await;
    let csi = json!({"driver": "d.io", "volumeHandle": "h"});
    volume(&world, "v", json!({"hostPath": null, "csi": csi, "volumeAttributesClassName": "gold"})).await;
    claim(&world, "c", json!({"storageClassName": "none", "volumeAttributesClassName": "gold"})).await;
    let status = format!("{CLAIMS}/c/status");
    let turns = |change: Value| json!({"status": {"modifyVolumeStatus": change}});
    let to_silver = json!({"targetVolumeAttributesClassName": "silver", "status": "Pending"});
    world.patch(&status, turns(to_silver)).await;
    pass(1).await;
    for name in ["gold", "silver", "free"] {
        world.create(VACS, json!({"metadata": {"name": name}, "driverName": "d", "parameters": {"k": "v"}})).await;
        world.delete(&format!("{VACS}/{name}")).await;
    }
    let left = async || {
        pass(5).await;
        world.list(VACS).await.iter().map(|c| c["metadata"]["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(left().await, ["gold", "silver"]);
    world.patch(&status, turns(Value::Null)).await;
    assert_eq!(left().await, ["gold"], "the claim has let go of silver");
    world.delete(&format!("{CLAIMS}/c")).await;
    assert_eq!(left().await, ["gold"], "the volume has it still");
    world.delete(&format!("{VOLUMES}/v")).await;
    assert!(left().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_brings_its_own_claim_gets_it() {
    let world = start().await;
    let template = json!({"metadata": {"labels": {"type": "my-frontend-volume"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path", "resources": {"requests": {"storage": "1Gi"}}}});
    let volumes = json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]);
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "volumes": volumes});
    world.create("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "my-app"}, "spec": spec})).await;
    pass(1).await;
    let claim = world.get(&format!("{CLAIMS}/my-app-scratch")).await;
    let pod = world.get(&pod_path("my-app", "")).await;
    assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], pod["metadata"]["uid"]);
    assert_eq!(
        (&claim["metadata"]["labels"]["type"], &claim["spec"]["storageClassName"]),
        (&json!("my-frontend-volume"), &json!("local-path"))
    );
    pass(1).await;
    assert!(tells(&world, "waiting for pod my-app to be scheduled").await);
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_a_csi_driver_is_attached_where_its_pod_is_and_to_one_node_only() {
    let world = start().await;
    world.node("b", "zb").await;
    let csi = json!({"driver": "csi.example.com", "volumeHandle": "disk-1"});
    volume(&world, "v", json!({"hostPath": null, "csi": csi})).await;
    claim(&world, "c", json!({})).await;
    pod(&world, "p", "c", true).await;
    pass(2).await;
    let attachments = "/apis/storage.k8s.io/v1/volumeattachments";
    let made = world.list(attachments).await;
    assert_eq!(made.len(), 1);
    assert_eq!(
        made[0]["spec"],
        json!({"attacher": "csi.example.com", "nodeName": "a", "source": {"persistentVolumeName": "v"}})
    );
    let path = format!("{attachments}/{}", made[0]["metadata"]["name"].as_str().unwrap());
    assert_eq!(world.get("/api/v1/nodes/a").await["status"]["volumesAttached"], Value::Null);
    // The attacher's part.
    world.patch(&format!("{path}/status"), json!({"status": {"attached": true}})).await;
    pass(1).await;
    let attached = json!([{"name": "kubernetes.io/csi/csi.example.com^disk-1", "devicePath": ""}]);
    assert_eq!(world.get("/api/v1/nodes/a").await["status"]["volumesAttached"], attached);
    assert!(tells(&world, "AttachVolume.Attach succeeded for volume \"v\"").await);
    // The kubelet's part.
    let in_use = json!({"status": {"volumesInUse": ["kubernetes.io/csi/csi.example.com^disk-1"]}});
    world.patch("/api/v1/nodes/a/status", in_use).await;
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let spec = json!({"nodeName": "b", "containers": [{"name": "c", "image": "i"}], "volumes": volumes});
    world.create("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "q"}, "spec": spec})).await;
    world.stop_pod("p").await;
    pass(30).await;
    assert_eq!(world.list(attachments).await.len(), 1, "the node still has it mounted");
    assert!(tells(&world, "Multi-Attach error for volume \"v\"").await);
    world.patch("/api/v1/nodes/a/status", json!({"status": {"volumesInUse": null}})).await;
    pass(2).await;
    assert_eq!(world.get("/api/v1/nodes/a").await["status"]["volumesAttached"], Value::Null);
    let moved = world.list(attachments).await;
    assert_eq!((moved.len(), &moved[0]["spec"]["nodeName"]), (1, &json!("b")));
    // What somebody else attaches is theirs to detach, whether the volume is known or not.
    for (name, volume) in [("theirs", "v"), ("theirs-too", "unknown")] {
        let source = json!({"persistentVolumeName": volume});
        let spec = json!({"attacher": "csi.example.com", "nodeName": "a", "source": source});
        world.create(attachments, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    pass(30).await;
    assert_eq!(world.list(attachments).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_asks_for_more_waits_for_its_driver_and_shows_what_its_file_system_has() {
    let world = start().await;
    let class = json!({"metadata": {"name": "fast"}, "provisioner": "csi.example.com", "allowVolumeExpansion": true});
    world.create(CLASSES, class).await;
    let driver = json!({"csi": {"driver": "csi.example.com", "volumeHandle": "1"}, "hostPath": null, "storageClassName": "fast"});
    volume(&world, "v", driver.clone()).await;
    claim(&world, "c", json!({"storageClassName": "fast", "volumeName": "v"})).await;
    pass(1).await;
    assert_eq!(phase(&world, CLAIMS, "c").await, "Bound");
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    world.patch(&format!("{CLAIMS}/c"), more).await;
    pass(1).await;
    assert!(!tells(&world, "to expand").await, "it has as much already");
    let more = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
    world.patch(&format!("{CLAIMS}/c"), more).await;
    pass(1).await;
    assert!(tells(&world, "waiting for an external controller to expand this PVC").await);
    assert_eq!(world.get(&format!("{CLAIMS}/c")).await["status"]["capacity"]["storage"], "2Gi");

    // One that is bound between the growth of its volume and that of the file system.
    let mut grown = driver;
    grown["capacity"] = json!({"storage": "4Gi"});
    volume(&world, "w", grown).await;
    let before = json!({"metadata": {"annotations": {"volume.alpha.kubernetes.io/pre-resize-capacity": "1Gi"}}});
    world.patch(&format!("{VOLUMES}/w"), before).await;
    claim(&world, "d", json!({"storageClassName": "fast", "volumeName": "w"})).await;
    pass(1).await;
    assert_eq!(world.get(&format!("{CLAIMS}/d")).await["status"]["capacity"]["storage"], "1Gi");
}
