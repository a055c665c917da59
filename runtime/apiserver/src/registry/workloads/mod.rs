//! Pods and what makes, scales, starts and spares them. Every kind is a row and a strategy; defaults and validation of pods
//! are shared by all that hold a template.

mod apps;
mod autoscaling;
mod batch;
pub(crate) mod cells;
mod check;
mod columns;
mod controllers;
pub(crate) mod defaults;
mod pod;
mod policy;
pub(crate) mod view;

use columns as c;

use crate::registry::resource::{Resource, core, v1};

const APPS: &str = "apps";
const BATCH: &str = "batch";
const AUTOSCALING: &str = "autoscaling";

/// How replicas are scaled, wherever they are.
const SCALE: (&str, &str, &str) = (AUTOSCALING, "v1", "Scale");
const WRITE: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// A kind of `apps` that makes pods.
fn workload(kind: &str, plural: &str, short: &str) -> Resource {
    v1(APPS, kind, plural).short(&[short]).in_all().with_status().generations()
}

fn pods() -> Resource {
    let options = |kind: &'static str| ("", "v1", kind);
    core("Pod", "pods")
        .short(&["po"])
        .in_all()
        .with_status()
        .generations()
        .subresource_as("attach", CONNECT, options("PodAttachOptions"))
        .subresource_as("binding", &["create"], options("Binding"))
        .subresource("ephemeralcontainers", WRITE)
        .subresource_as("eviction", &["create"], ("policy", "v1", "Eviction"))
        .subresource_as("exec", CONNECT, options("PodExecOptions"))
        .subresource("log", &["get"])
        .subresource_as("portforward", CONNECT, options("PodPortForwardOptions"))
        .subresource_as("proxy", PROXY, options("PodProxyOptions"))
        .subresource("resize", WRITE)
        .selectable(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ])
        .columns(c::POD)
        .strategy(pod::Pods)
}

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("Binding", "bindings").verbs(&["create"]),
        pods(),
        core("PodTemplate", "podtemplates").generations()
            .columns(c::POD_TEMPLATE).strategy(controllers::PodTemplates),
        core("ReplicationController", "replicationcontrollers").short(&["rc"]).in_all().with_status()
            .subresource_as("scale", WRITE, SCALE).generations().selectable(&["status.replicas"])
            .columns(c::REPLICATION_CONTROLLER).strategy(controllers::ReplicationControllers),
        v1(APPS, "ControllerRevision", "controllerrevisions")
            .columns(c::CONTROLLER_REVISION).strategy(apps::Revisions),
        workload("DaemonSet", "daemonsets", "ds").columns(c::DAEMON_SET).strategy(apps::DaemonSets),
        workload("Deployment", "deployments", "deploy").subresource_as("scale", WRITE, SCALE)
            .columns(c::DEPLOYMENT).strategy(apps::Deployments),
        workload("ReplicaSet", "replicasets", "rs").subresource_as("scale", WRITE, SCALE).selectable(&["status.replicas"])
            .columns(c::REPLICA_SET).strategy(apps::ReplicaSets),
        workload("StatefulSet", "statefulsets", "sts").subresource_as("scale", WRITE, SCALE)
            .columns(c::STATEFUL_SET).strategy(apps::StatefulSets),
        v1(BATCH, "CronJob", "cronjobs").short(&["cj"]).in_all().with_status().generations()
            .columns(c::CRON_JOB).strategy(batch::CronJobs),
        v1(BATCH, "Job", "jobs").in_all().with_status().generations()
            .selectable(&["status.successful"]).columns(c::JOB).strategy(batch::Jobs),
        Resource::new(AUTOSCALING, "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers").short(&["hpa"]).in_all()
            .with_status().columns(c::AUTOSCALER).strategy(autoscaling::Autoscalers),
        v1(AUTOSCALING, "HorizontalPodAutoscaler", "horizontalpodautoscalers").short(&["hpa"]).in_all()
            .with_status().columns(c::AUTOSCALER).strategy(autoscaling::Autoscalers)
            .stored_as(AUTOSCALING, "horizontalpodautoscalers", autoscaling::CONVERSION),
        v1("policy", "PodDisruptionBudget", "poddisruptionbudgets").short(&["pdb"]).with_status()
            .generations().conditional_update().columns(c::DISRUPTION_BUDGET).strategy(policy::Budgets),
    ]
}
