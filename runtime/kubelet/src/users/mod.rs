//! User ids of pods that have their own (`hostUsers: false`, KEP-127): root in such a pod is nobody on the node. Each gets a
//! range that no other pod has, kept in a file of the pod's folder, so that a kubelet after this one knows it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::cri::{IdMapping, NamespaceMode, RuntimeHandlerFeatures, UserNamespace};
use crate::volumes::Dirs;

/// Ids of each pod, and where ranges begin: ids below are the node's own.
const LENGTH: u32 = 65_536;
/// Ranges that there are.
const RANGES: u32 = u32::MAX / LENGTH;
const FILE: &str = "userns";

/// A pod cannot have users of its own.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The runtime cannot do it.
    #[error("can't set `spec.hostUsers: false`, {} does not support user namespaces", runtime(.0))]
    Unsupported(String),
    /// All ranges are taken.
    #[error("could not find an empty slot to allocate a user namespace")]
    Exhausted,
    /// The range could not be written down.
    #[error("cannot keep the user namespace of pod {uid}: {why}")]
    File {
        /// The pod's uid.
        uid: String,
        /// What failed.
        why: io::Error,
    },
}

fn runtime(handler: &str) -> String {
    if handler.is_empty() { "runtime".to_owned() } else { format!("RuntimeClass handler {handler:?}") }
}

/// The ranges in use. Cloning it is cheap and shares them.
#[derive(Debug, Clone)]
pub struct Users {
    dirs: Dirs,
    /// The numbers of ranges by the pods' uids.
    taken: Arc<Mutex<BTreeMap<String, u32>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mappings {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

impl Users {
    /// The ranges that the pods on disk have.
    pub fn restore(dirs: Dirs) -> Self {
        let pods = fs::read_dir(dirs.pods()).into_iter().flatten().flatten();
        let uids = pods.map(|pod| pod.file_name().to_string_lossy().into_owned());
        let taken = uids.filter_map(|uid| Some((uid.clone(), read(&dirs, &uid)?))).collect();
        Self { dirs, taken: Arc::new(Mutex::new(taken)) }
    }

    /// What the runtime is told of a pod's users: the node's, or a range of its own. The pod's folder must be there.
    ///
    /// # Errors
    /// If the pod wants users of its own and cannot have them.
    pub fn of(
        &self,
        pod: &Pod,
        handler: &str,
        features: Option<&RuntimeHandlerFeatures>,
    ) -> Result<UserNamespace, UsersError> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if pod.spec.as_ref().and_then(|spec| spec.host_users) != Some(false) {
            return Ok(UserNamespace { mode: NamespaceMode::Node as i32, ..UserNamespace::default() });
        }
        if !features.is_some_and(|features| features.user_namespaces) {
            return Err(UsersError::Unsupported(handler.to_owned()));
        }
        let range = self.take(uid)?;
        let mapping = IdMapping { host_id: range * LENGTH, container_id: 0, length: LENGTH };
        Ok(UserNamespace { mode: NamespaceMode::Pod as i32, uids: vec![mapping], gids: vec![mapping] })
    }

    /// Gives back what a pod has.
    pub fn release(&self, uid: &str) {
        if self.taken().remove(uid).is_some() {
            // The pod's folder may be gone already.
            _ = fs::remove_file(self.dirs.pod(uid).join(FILE));
        }
    }

    fn take(&self, uid: &str) -> Result<u32, UsersError> {
        let mut taken = self.taken();
        if let Some(range) = taken.get(uid) {
            return Ok(*range);
        }
        let is_free = |range: &u32| taken.values().all(|other| other != range);
        let range = (1..=RANGES).find(is_free).ok_or(UsersError::Exhausted)?;
        self.write(uid, range).map_err(|why| UsersError::File { uid: uid.to_owned(), why })?;
        taken.insert(uid.to_owned(), range);
        Ok(range)
    }

    /// On disk before the range is used: two pods must never have the same.
    fn write(&self, uid: &str, range: u32) -> io::Result<()> {
        let mapping = vec![Mapping { host_id: range * LENGTH, container_id: 0, length: LENGTH }];
        let mappings = Mappings { uid_mappings: mapping.clone(), gid_mappings: mapping };
        let (folder, text) = (self.dirs.pod(uid), serde_json::to_vec(&mappings)?);
        let new = folder.join("..userns");
        fs::write(&new, text)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, folder.join(FILE))?;
        fs::File::open(folder)?.sync_all()
    }

    /// No code panics while it holds the lock, so a poisoned lock still guards a whole map.
    fn taken(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The range in a pod's file, if it is one of ours.
fn read(dirs: &Dirs, uid: &str) -> Option<u32> {
    let text = fs::read(dirs.pod(uid).join(FILE)).ok()?;
    let mappings: Mappings = serde_json::from_slice(&text).ok()?;
    let [mapping] = mappings.uid_mappings[..] else { return None };
    let is_ours = mapping.container_id == 0 && mapping.length == LENGTH && mapping.host_id % LENGTH == 0;
    (is_ours && mapping.host_id >= LENGTH).then_some(mapping.host_id / LENGTH)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ABLE: RuntimeHandlerFeatures =
        RuntimeHandlerFeatures { recursive_read_only_mounts: false, user_namespaces: true };

    fn pod(uid: &str, host_users: Value) -> Pod {
        let pod = json!({"metadata": {"uid": uid}, "spec": {"hostUsers": host_users, "containers": []}});
        serde_json::from_value(pod).expect("a pod")
    }

    fn first(users: &Users, uid: &str) -> u32 {
        let found = users.of(&pod(uid, json!(false)), "", Some(&ABLE)).expect("a range");
        assert_eq!((found.uids.len(), found.uids == found.gids), (1, true));
        found.uids[0].host_id
    }

    #[test]
    fn no_two_pods_have_the_same_ids_and_a_restart_changes_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::new(root.path());
        for uid in ["a", "b", "c"] {
            dirs.make_pod(uid).expect("folders");
        }
        let users = Users::restore(dirs.clone());
        assert_eq!((first(&users, "a"), first(&users, "b"), first(&users, "a")), (65_536, 131_072, 65_536));
        let again = Users::restore(dirs);
        assert_eq!((first(&again, "b"), first(&again, "c")), (131_072, 196_608));
        again.release("b");
        again.release("b");
        assert!(!root.path().join("pods/b/userns").exists());
        assert_eq!(first(&again, "b"), 131_072, "the lowest that is free");
    }

    #[test]
    fn pods_have_the_nodes_users_unless_they_say_otherwise() {
        let root = tempfile::tempdir().expect("a folder");
        let users = Users::restore(Dirs::new(root.path()));
        for host_users in [Value::Null, json!(true)] {
            let of_node = users.of(&pod("a", host_users), "", None).expect("fine");
            assert_eq!((of_node.mode, of_node.uids.len()), (NamespaceMode::Node as i32, 0));
        }
        let unable = users.of(&pod("a", json!(false)), "kata", None).expect_err("it cannot");
        assert_eq!(
            unable.to_string(),
            "can't set `spec.hostUsers: false`, RuntimeClass handler \"kata\" does not support user namespaces"
        );
        let unable = users.of(&pod("a", json!(false)), "", None).expect_err("it cannot");
        assert_eq!(unable.to_string(), "can't set `spec.hostUsers: false`, runtime does not support user namespaces");
    }
}
