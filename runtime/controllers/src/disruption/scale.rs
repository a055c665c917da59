//! How many pods the controllers of some pods are to have.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kiln_apimachinery::meta;
use kiln_client::{Client, Informers, Object as _, ObjectRef, Store};
use serde_json::Value;

use crate::mapper::Mapper;
use crate::owned::{controller, name, namespace};
use crate::reconcile::Failure;

/// The controllers that scale.
pub(super) struct Scales {
    client: Client,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    stateful: Store<StatefulSet>,
    controllers: Store<ReplicationController>,
    mapper: Mapper,
}

impl Scales {
    pub(super) fn new(informers: &mut Informers) -> Self {
        Self {
            client: informers.client(),
            mapper: Mapper::new(informers.client()),
            deployments: informers.of::<Deployment>().store(),
            sets: informers.of::<ReplicaSet>().store(),
            stateful: informers.of::<StatefulSet>().store(),
            controllers: informers.of::<ReplicationController>().store(),
        }
    }

    pub(super) async fn synced(&self) {
        self.deployments.synced().await;
        self.sets.synced().await;
        self.stateful.synced().await;
        self.controllers.synced().await;
    }

    /// The sum of what all controllers of the pods are to have, and whether some pods have none.
    pub(super) async fn of(&self, pods: &[Arc<Pod>]) -> Result<(i32, bool), Failure> {
        let (mut scales, mut has_unmanaged) = (HashMap::<String, i32>::new(), false);
        let mut seen = HashSet::<&str>::new();
        for pod in pods {
            let Some(owner) = controller(&pod.metadata) else {
                has_unmanaged = true;
                continue;
            };
            if !seen.insert(&owner.uid) {
                continue;
            }
            let scale = match self.known(namespace(&**pod), owner) {
                Some(scale) => Some(scale),
                None => self.asked(namespace(&**pod), owner).await?,
            };
            let (uid, replicas) =
                scale.ok_or_else(|| Failure::Waiting(format!("found no controllers for pod \"{}\"", name(&**pod))))?;
            scales.insert(uid, replicas);
        }
        Ok((scales.values().sum(), has_unmanaged))
    }

    /// The uid and count of a controller that is mirrored; of a Deployment in place of its ReplicaSet.
    fn known(&self, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        let key = ObjectRef::namespaced(namespace, &owner.name);
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let set = self.sets.get(&key).filter(|set| set.uid() == owner.uid)?;
                match controller(&set.metadata).filter(|above| above.kind == "Deployment") {
                    Some(above) => {
                        let key = ObjectRef::namespaced(namespace, &above.name);
                        let deployment = self.deployments.get(&key).filter(|found| found.uid() == above.uid)?;
                        let replicas = deployment.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1));
                        Some((above.uid.clone(), replicas))
                    }
                    None => {
                        let replicas = set.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1));
                        Some((owner.uid.clone(), replicas))
                    }
                }
            }
            ("apps", "StatefulSet") => {
                let set = self.stateful.get(&key).filter(|set| set.uid() == owner.uid)?;
                Some((owner.uid.clone(), set.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))))
            }
            ("", "ReplicationController") => {
                let found = self.controllers.get(&key).filter(|found| found.uid() == owner.uid)?;
                Some((owner.uid.clone(), found.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))))
            }
            _ => None,
        }
    }

    /// The same of any kind, by its scale.
    async fn asked(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, Failure> {
        let OwnerReference { api_version, kind, name, uid, .. } = owner;
        let place = self.mapper.place(api_version, kind).await?;
        let Some(place) = place else {
            let group = api_version.rsplit_once('/').map_or(api_version.as_str(), |(group, _)| group);
            return Err(Failure::Waiting(format!("no matches for kind \"{kind}\" in group \"{group}\"")));
        };
        let path = place.path(api_version, namespace, name);
        match self.client.find::<Value>(&format!("{path}/scale")).await? {
            Some(scale) if meta::uid(&scale) == uid => {
                let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
                Ok(Some((uid.clone(), i32::try_from(replicas).unwrap_or(i32::MAX))))
            }
            Some(_) => Ok(None),
            None if self.client.find::<Value>(&path).await?.is_some() => {
                let resource = match api_version.rsplit_once('/') {
                    Some((group, _)) => format!("{}.{group}", place.plural),
                    None => place.plural,
                };
                Err(Failure::Waiting(format!("{resource} does not implement the scale subresource")))
            }
            None => Ok(None),
        }
    }
}
