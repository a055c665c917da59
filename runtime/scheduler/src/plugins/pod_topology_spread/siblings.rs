//! Which pods a pod is to be spread among if it says nothing itself.

use std::collections::BTreeMap;

use kiln_client::ObjectRef;

use crate::listers::Listers;
use crate::model::{Name, Owner, Pod, Selector, selector_of};

/// Selects the pods of a pod's Services and of its controller; everything if it has neither.
pub(super) fn siblings(listers: &Listers, pod: &Pod) -> Selector {
    let mut labels = BTreeMap::new();
    for service in listers.services.in_namespace(&pod.namespace) {
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { continue };
        if selector.iter().all(|(key, value)| pod.labels.get(key).is_some_and(|own| **own == **value)) {
            labels.extend(selector.clone());
        }
    }
    let place = |name: &Name| ObjectRef::namespaced(&*pod.namespace, &**name);
    let mut further = None;
    match &pod.spec.owner {
        Some(Owner::ReplicationController(name)) => {
            let owner = listers.replication_controllers.get(&place(name));
            labels.extend(owner.and_then(|owner| owner.spec.as_ref()?.selector.clone()).unwrap_or_default());
        }
        Some(Owner::ReplicaSet(name)) => {
            let owner = listers.replica_sets.get(&place(name));
            further = owner.and_then(|owner| Some(selector_of(Some(&owner.spec.as_ref()?.selector), Name::new)));
        }
        Some(Owner::StatefulSet(name)) => {
            let owner = listers.stateful_sets.get(&place(name));
            further = owner.and_then(|owner| Some(selector_of(Some(&owner.spec.as_ref()?.selector), Name::new)));
        }
        None => {}
    }
    let selector = Selector::all_of(labels.iter().map(|(key, value)| (&**key, &**value)), Name::new);
    match further {
        Some(further) => selector.and(further),
        None => selector,
    }
}
