//! What the cluster is told of this node's drivers: the CSINode of the node's name, and an annotation of the Node.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kiln_client::{Client, ClientError, PatchKind, collection, path};
use serde_json::{Value, json};

use super::messages::NodeGetInfoResponse;

/// The ids that drivers know a Node by, as JSON.
const IDS: &str = "csi.volume.kubernetes.io/nodeid";
/// The plugins whose volumes are left to CSI drivers.
const MIGRATED: (&str, &str) = (
    "storage.alpha.kubernetes.io/migrated-plugins",
    "kubernetes.io/aws-ebs,kubernetes.io/azure-disk,kubernetes.io/azure-file,kubernetes.io/cinder,kubernetes.io/gce-pd,\
     kubernetes.io/portworx-volume,kubernetes.io/vsphere-volume",
);

/// Sees that the node has its CSINode, and answers it.
pub(super) async fn initialize(client: &Client, node: &str) -> Result<CSINode, String> {
    let failed = |error: ClientError| error.to_string();
    let owner: Node = client.get(&path::<Node>("", node)).await.map_err(failed)?;
    let uid = owner.metadata.uid.unwrap_or_default();
    let place = path::<CSINode>("", node);
    let Some(found) = client.find::<CSINode>(&place).await.map_err(failed)? else {
        return create(client, node, &uid).await.map_err(failed);
    };
    let owners = found.metadata.owner_references.iter().flatten();
    if !owners.clone().any(|owner| owner.kind == "Node" && owner.uid == uid) {
        // That of a node that had the name before.
        let id = json!({"preconditions": {"uid": found.metadata.uid}});
        client
            .delete(&place, &id)
            .await
            .map(drop)
            .or_else(|error| error.is_not_found().then_some(()).ok_or(error))
            .map_err(failed)?;
        return create(client, node, &uid).await.map_err(failed);
    }
    let annotation = found.metadata.annotations.as_ref().and_then(|annotations| annotations.get(MIGRATED.0));
    if annotation.is_none_or(|value| value != MIGRATED.1) {
        let patch = json!({"metadata": {"annotations": {MIGRATED.0: MIGRATED.1}}});
        return client.patch(&place, PatchKind::Merge, &patch).await.map_err(failed);
    }
    Ok(found)
}

async fn create(client: &Client, node: &str, uid: &str) -> Result<CSINode, ClientError> {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: Some(node.to_owned()),
        owner_references: Some(vec![owner]),
        annotations: Some([(MIGRATED.0.to_owned(), MIGRATED.1.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let object = CSINode { metadata, spec: CSINodeSpec { drivers: Vec::new() } };
    client.create(&collection::<CSINode>(), &object).await
}

/// Tells of a driver.
pub(super) async fn install(
    client: &Client,
    node: &str,
    driver: &str,
    info: &NodeGetInfoResponse,
) -> Result<(), String> {
    if info.node_id.is_empty() {
        return Err("error adding CSI driver node info: driverNodeID must not be empty".to_owned());
    }
    let topology = info.accessible_topology.as_ref().map(|topology| &topology.segments);
    let updated = update_node(client, node, topology, |ids| ids.insert(driver.to_owned(), info.node_id.clone())).await;
    updated.map_err(|error| format!("error updating Node object with CSI driver node info: {error}"))?;
    let entry = entry(driver, info);
    let updated = update_csi_node(client, node, |drivers| {
        if drivers.contains(&entry) {
            return false;
        }
        drivers.retain(|known| known.name != driver);
        drivers.push(entry.clone());
        true
    });
    updated.await.map_err(|error| format!("error updating CSINode object with CSI driver node info: {error}"))
}

/// Takes back what was told of a driver.
pub(super) async fn uninstall(client: &Client, node: &str, driver: &str) -> Result<(), String> {
    let updated = update_csi_node(client, node, |drivers| {
        let before = drivers.len();
        drivers.retain(|known| known.name != driver);
        drivers.len() != before
    });
    updated.await.map_err(|error| format!("error uninstalling CSI driver from CSINode object {error}"))?;
    let updated = update_node(client, node, None, |ids| ids.remove(driver)).await;
    updated.map_err(|error| format!("error removing CSI driver node info from Node object {error}"))
}

fn entry(driver: &str, info: &NodeGetInfoResponse) -> CSINodeDriver {
    let segments = info.accessible_topology.iter().flat_map(|topology| topology.segments.keys().cloned());
    let mut keys: Vec<String> = segments.collect();
    keys.sort();
    let count = (info.max_volumes_per_node > 0).then(|| i32::try_from(info.max_volumes_per_node).unwrap_or(i32::MAX));
    CSINodeDriver {
        name: driver.to_owned(),
        node_id: info.node_id.clone(),
        topology_keys: (!keys.is_empty()).then_some(keys),
        allocatable: count.map(|count| VolumeNodeResources { count: Some(count) }),
    }
}

async fn update_csi_node(
    client: &Client,
    node: &str,
    change: impl Fn(&mut Vec<CSINodeDriver>) -> bool,
) -> Result<(), String> {
    let mut object = initialize(client, node).await?;
    if !change(&mut object.spec.drivers) {
        return Ok(());
    }
    // The revision is in the object: who changed it meanwhile is not overwritten, and this is tried again.
    let updated: Result<CSINode, _> = client.update(&path::<CSINode>("", node), &object).await;
    updated.map(drop).map_err(|error| error.to_string())
}

async fn update_node<T>(
    client: &Client,
    node: &str,
    topology: Option<&HashMap<String, String>>,
    change: impl FnOnce(&mut BTreeMap<String, String>) -> T,
) -> Result<(), String> {
    let place = path::<Node>("", node);
    let known: Node = client.get(&place).await.map_err(|error| error.to_string())?;
    let text = known.metadata.annotations.as_ref().and_then(|annotations| annotations.get(IDS));
    let text = text.map_or("{}", String::as_str);
    let mut ids: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|error| format!("failed to parse node's {IDS:?} annotation value ({text:?}) err={error}"))?;
    let before = ids.clone();
    change(&mut ids);
    let labels = known.metadata.labels.clone().unwrap_or_default();
    let mut wanted: BTreeMap<&String, &String> = BTreeMap::new();
    for (key, value) in topology.into_iter().flatten() {
        match labels.get(key) {
            Some(existing) if existing != value => {
                return Err(format!(
                    "detected topology value collision: driver reported {key:?}:{value:?} but existing label is {key:?}:{existing:?}"
                ));
            }
            Some(_) => {}
            None => _ = wanted.insert(key, value),
        }
    }
    if ids == before && wanted.is_empty() {
        return Ok(());
    }
    let text = if ids.is_empty() { Value::Null } else { json!(json!(ids).to_string()) };
    let patch = json!({"metadata": {
        "resourceVersion": known.metadata.resource_version,
        "annotations": {IDS: text},
        "labels": wanted,
    }});
    let patched: Result<Node, _> = client.patch(&place, PatchKind::Merge, &patch).await;
    patched.map(drop).map_err(|error| error.to_string())
}
