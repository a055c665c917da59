//! Columns of workloads, in the order that `kubectl get` shows them.

use super::cells::{self, autoscaler, job, pod};
use crate::registry::columns::Cell::{Count, Path, With};
use crate::registry::columns::{AGE, Column, NAME, number, text, wide};

const NAMES: Column = wide("Containers", With(cells::names));
const IMAGES: Column = wide("Images", With(cells::images));
const SELECTOR: Column = wide("Selector", With(cells::selector));

pub(super) const POD: &[Column] = &[
    NAME,
    text("Ready", With(pod::ready)),
    text("Status", With(pod::word)),
    text("Restarts", With(pod::restarts)),
    AGE,
    wide("IP", With(pod::ip)),
    wide("Node", With(pod::node)),
    wide("Nominated Node", With(pod::nominated)),
    wide("Readiness Gates", With(pod::gates)),
];

pub(super) const POD_TEMPLATE: &[Column] = &[
    NAME,
    text("Containers", With(cells::bare_names)),
    text("Images", With(cells::bare_images)),
    text("Pod Labels", With(cells::bare_labels)),
];

pub(super) const REPLICATION_CONTROLLER: &[Column] = &[
    NAME,
    number("Desired", Path(&["spec", "replicas"])),
    number("Current", Path(&["status", "replicas"])),
    number("Ready", Path(&["status", "readyReplicas"])),
    AGE,
    NAMES,
    IMAGES,
    wide("Selector", With(cells::plain_selector)),
];

pub(super) const REPLICA_SET: &[Column] = &[
    NAME,
    number("Desired", Path(&["spec", "replicas"])),
    number("Current", Path(&["status", "replicas"])),
    number("Ready", Path(&["status", "readyReplicas"])),
    AGE,
    NAMES,
    IMAGES,
    SELECTOR,
];

pub(super) const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", With(cells::ready)),
    text("Up-to-date", With(cells::updated)),
    text("Available", With(cells::available)),
    AGE,
    NAMES,
    IMAGES,
    SELECTOR,
];

pub(super) const STATEFUL_SET: &[Column] = &[NAME, text("Ready", With(cells::ready)), AGE, NAMES, IMAGES];

pub(super) const DAEMON_SET: &[Column] = &[
    NAME,
    number("Desired", Path(&["status", "desiredNumberScheduled"])),
    number("Current", Path(&["status", "currentNumberScheduled"])),
    number("Ready", Path(&["status", "numberReady"])),
    number("Up-to-date", Path(&["status", "updatedNumberScheduled"])),
    number("Available", Path(&["status", "numberAvailable"])),
    text("Node Selector", With(cells::node_selector)),
    AGE,
    NAMES,
    IMAGES,
    SELECTOR,
];

pub(super) const CONTROLLER_REVISION: &[Column] =
    &[NAME, text("Controller", With(cells::controller)), text("Revision", With(cells::revision)), AGE];

pub(super) const JOB: &[Column] = &[
    NAME,
    text("Status", With(job::status)),
    text("Completions", With(job::completions)),
    text("Duration", With(job::duration)),
    AGE,
    NAMES,
    IMAGES,
    SELECTOR,
];

pub(super) const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule", Path(&["spec", "schedule"])),
    text("Timezone", With(job::time_zone)),
    Column { kind: "boolean", ..text("Suspend", With(job::suspended)) },
    number("Active", Count(&["status", "active"])),
    text("Last Schedule", With(job::last_schedule)),
    AGE,
    wide("Containers", With(cells::job_names)),
    wide("Images", With(cells::job_images)),
    wide("Selector", With(cells::job_selector)),
];

pub(super) const AUTOSCALER: &[Column] = &[
    NAME,
    text("Reference", With(autoscaler::reference)),
    text("Targets", With(autoscaler::targets)),
    text("MinPods", With(autoscaler::minimum)),
    text("MaxPods", With(cells::maximum)),
    text("Replicas", With(cells::current)),
    AGE,
];

pub(super) const DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    text("Min Available", With(cells::min_available)),
    text("Max Unavailable", With(cells::max_unavailable)),
    number("Allowed Disruptions", Path(&["status", "disruptionsAllowed"])),
    AGE,
];
