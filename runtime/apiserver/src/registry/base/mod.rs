//! Namespaces, nodes, settings, events, leases, classes and quotas.

mod cells;
mod classes;
mod columns;
mod config;
mod event;
mod lease;
mod limits;
mod namespace;
mod node;

use columns as c;

use crate::registry::resource::{PROXY_VERBS, Resource, core, v1};

const COORDINATION: &str = "coordination.k8s.io";
const EVENTS: &str = "events.k8s.io";

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("Namespace", "namespaces").cluster().short(&["ns"]).with_status().subresource("finalize", &["update"])
            .selectable(&["status.phase"]).columns(c::NAMESPACE).strategy(namespace::Namespaces)
            .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"]),
        core("Node", "nodes").cluster().short(&["no"]).with_status().subresource_as("proxy", PROXY_VERBS, ("", "v1", "NodeProxyOptions"))
            .selectable(&["spec.unschedulable"]).columns(c::NODE).strategy(node::Nodes),
        core("ConfigMap", "configmaps").short(&["cm"])
            .columns(c::CONFIG_MAP).strategy(config::ConfigMaps),
        core("Secret", "secrets").selectable(&["type"])
            .columns(c::SECRET).strategy(config::Secrets),
        core("Event", "events").short(&["ev"]).selectable(event::SELECTABLE).columns(c::EVENT)
            .create_on_update().strategy(event::Events),
        core("ResourceQuota", "resourcequotas").short(&["quota"]).with_status()
            .columns(c::RESOURCE_QUOTA).strategy(limits::ResourceQuotas),
        core("LimitRange", "limitranges").short(&["limits"])
            .columns(c::LIMIT_RANGE).create_on_update().strategy(limits::LimitRanges),
        core("ComponentStatus", "componentstatuses").cluster().short(&["cs"])
            .columns(c::COMPONENT_STATUS).verbs(&["get", "list"]),
        v1(COORDINATION, "Lease", "leases").columns(c::LEASE).create_on_update().conditional_update()
            .strategy(lease::Leases),
        v1(EVENTS, "Event", "events").short(&["ev"]).selectable(event::SELECTABLE).columns(c::EVENT)
            .create_on_update().stored_as("", "events", event::CONVERSION).strategy(event::Events),
        v1("scheduling.k8s.io", "PriorityClass", "priorityclasses").cluster().short(&["pc"])
            .columns(c::PRIORITY_CLASS).strategy(classes::PriorityClasses),
        v1("node.k8s.io", "RuntimeClass", "runtimeclasses").cluster()
            .columns(c::RUNTIME_CLASS).create_on_update().conditional_update().strategy(classes::RuntimeClasses),
    ]
}
