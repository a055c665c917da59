//! What pods ask of a node: sums of their containers' requests and limits, their quality-of-service class, and whether they are
//! critical. In flows a pod as the API has it (with the resources that the node has allocated to it), out flow amounts; nothing
//! here looks at the machine.

mod qos;
mod sums;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kiln_apimachinery::quantity::Quantity;

pub use qos::{Qos, qos};
pub use sums::{Overhead, pod_limits, pod_requests};

/// The resource's name of processor time.
pub const CPU: &str = "cpu";
/// The resource's name of memory.
pub const MEMORY: &str = "memory";
/// The resource's name of the disk that goes with the pod.
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// What the names of huge pages begin with; their size follows.
pub const HUGE_PAGES: &str = "hugepages-";
/// The least priority of critical pods.
pub const SYSTEM_CRITICAL: i32 = 2_000_000_000;

/// The annotation that says where the kubelet has a pod from: `api` or `file`.
const SOURCE: &str = "kubernetes.io/config.source";
/// The annotation of a pod that shows a static pod in the API.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Amounts by the resources' names.
pub type Amounts = BTreeMap<String, Quantity>;

/// Amounts as objects have them.
pub(crate) type Texts = BTreeMap<String, Text>;

/// An amount as it stands in an object; nothing if it cannot be read, which the API's validation rules out.
pub(crate) fn read(text: &Text) -> Quantity {
    Quantity::parse(&text.0).unwrap_or(Quantity::ZERO)
}

/// One amount of a list; `None` if it is not there.
pub(crate) fn find(list: Option<&Texts>, name: &str) -> Option<Quantity> {
    list?.get(name).map(read)
}

/// One amount of a list; nothing if it is not there.
pub(crate) fn amount(list: Option<&Texts>, name: &str) -> Quantity {
    find(list, name).unwrap_or(Quantity::ZERO)
}

/// What a container requests.
pub(crate) fn requests(container: &Container) -> Option<&Texts> {
    container.resources.as_ref()?.requests.as_ref()
}

/// What a container is limited to.
pub(crate) fn limits(container: &Container) -> Option<&Texts> {
    container.resources.as_ref()?.limits.as_ref()
}

/// The resources that a pod has as a whole (KEP-2837), if it names any that pods can have.
pub(crate) fn pod_level(pod: &Pod) -> Option<&ResourceRequirements> {
    let resources = pod.spec.as_ref()?.resources.as_ref()?;
    let named = |list: &Option<Texts>| list.iter().flat_map(BTreeMap::keys).any(|name| is_pod_level(name));
    (named(&resources.requests) || named(&resources.limits)).then_some(resources)
}

/// Whether a pod as a whole can have a resource.
pub(crate) fn is_pod_level(name: &str) -> bool {
    name == CPU || name == MEMORY || name.starts_with(HUGE_PAGES)
}

/// Whether an init container is one that goes on running (a sidecar).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether a pod comes from a file of the node, not from the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE).is_some_and(|source| source != "api")
}

/// Whether a pod is needed for the node or the cluster to work: it is never evicted, and room is made for it.
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    is_static(pod) || annotation(pod, MIRROR).is_some() || priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL)
}

/// Whether the node itself cannot do without a pod.
pub fn is_node_critical(pod: &Pod) -> bool {
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    is_critical(pod) && class == Some("system-node-critical")
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The page size in bytes that the name of a resource or a medium of huge pages ends in.
pub(crate) fn page_size(name: &str) -> Option<u64> {
    let size = Quantity::parse(name.split_once('-')?.1).ok()?;
    u64::try_from(size.value()).ok().filter(|size| *size > 0)
}
