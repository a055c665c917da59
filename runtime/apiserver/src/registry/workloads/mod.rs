//! Pods and what makes them.

mod cells;
mod columns;
mod pod;

use columns as c;

use crate::registry::resource::{Resource, core, v1};

const APPS: &str = "apps";

/// A workload kind of `apps`.
fn workload(kind: &str, plural: &str, short: &str) -> Resource {
    v1(APPS, kind, plural).short(&[short]).in_all().with_status().fields(&["spec", "status"]).generations()
}

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("Pod", "pods").short(&["po"]).in_all().with_status().fields(&["spec", "status"]).generations()
            .selectable(&["spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
                "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"])
            .columns(c::POD).strategy(pod::Pods),
        core("ReplicationController", "replicationcontrollers").short(&["rc"]).in_all().with_status().fields(&["spec", "status"]).generations(),
        workload("Deployment", "deployments", "deploy"),
        workload("ReplicaSet", "replicasets", "rs"),
        workload("StatefulSet", "statefulsets", "sts"),
        workload("DaemonSet", "daemonsets", "ds"),
        v1(APPS, "ControllerRevision", "controllerrevisions").fields(&["data", "revision"]),
    ]
}
