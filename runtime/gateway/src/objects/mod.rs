//! The API's objects, with just the fields that are read here. Their shapes are seen to by the definitions.

use std::collections::BTreeMap;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use kiln_client::{Object, ObjectRef};
use serde::{Deserialize, Deserializer};

/// What is null is as if it were not there: the API shows both.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

macro_rules! fields {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $($(#[$field_doc])* #[serde(deserialize_with = "or_default")] pub $field: $kind,)*
        })*
    };
}

mod gateways;
mod grants;
mod routes;

pub use gateways::{
    AllowedRoutes, Gateway, GatewayClass, GatewayClassSpec, GatewaySpec, Infrastructure, Listener, ListenerTls,
    RouteKind, RouteNamespaces, SecretRef,
};
pub use grants::{GrantFrom, GrantTo, ReferenceGrant, ReferenceGrantSpec};
pub use routes::{
    BackendRef, Cors, Filter, Fraction, HeaderModifier, HttpRoute, HttpRouteSpec, Match, Mirror, NameValue, ParentRef,
    PathMatch, PathModifier, Redirect, Retry, Rule, Timeouts, UrlRewrite, ValueMatch,
};

fields! {
    /// What of an object's metadata matters.
    pub struct Meta {
        /// Its name.
        name: String,
        /// Its namespace, if it is in one.
        namespace: String,
        /// Its identity.
        uid: String,
        /// Its revision.
        resource_version: String,
        /// Counts changes of the specification.
        generation: i64,
        /// When it was made, as a text that sorts by time.
        creation_timestamp: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
    }

    /// A Namespace with its labels.
    pub struct NamespaceView {
        /// Its metadata.
        metadata: Meta,
    }

    /// A definition of resources.
    pub struct Definition {
        /// Its metadata.
        metadata: Meta,
        /// Whether it is in use.
        status: DefinitionStatus,
    }

    /// The status of a definition.
    pub struct DefinitionStatus {
        /// Its conditions.
        conditions: Vec<DefinitionCondition>,
    }

    /// A condition of a definition.
    pub struct DefinitionCondition {
        /// Which.
        #[serde(rename = "type")]
        kind: String,
        /// `True` or not.
        status: String,
    }
}

impl Definition {
    /// Whether its resources are served.
    pub(crate) fn is_established(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Established" && condition.status == "True")
    }
}

macro_rules! objects {
    ($($name:ty, $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ty;)*) => {
        $(impl Object for $name {
            fn key(&self) -> ObjectRef {
                ObjectRef { namespace: self.metadata.namespace.clone(), name: self.metadata.name.clone() }
            }

            fn uid(&self) -> &str {
                &self.metadata.uid
            }

            fn resource_version(&self) -> &str {
                &self.metadata.resource_version
            }
        }

        impl Resource for $name {
            type Scope = $scope;
            const API_VERSION: &'static str = if $group.is_empty() { $version } else { concat!($group, "/", $version) };
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
        })*
    };
}

objects! {
    GatewayClass, "gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses", ClusterResourceScope;
    Gateway, "gateway.networking.k8s.io", "v1", "Gateway", "gateways", NamespaceResourceScope;
    HttpRoute, "gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", NamespaceResourceScope;
    // The version that all releases of the API have.
    ReferenceGrant, "gateway.networking.k8s.io", "v1beta1", "ReferenceGrant", "referencegrants", NamespaceResourceScope;
    NamespaceView, "", "v1", "Namespace", "namespaces", ClusterResourceScope;
    Definition, "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", ClusterResourceScope;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_null_is_as_if_it_were_not_there() {
        let route = json!({
            "metadata": {"name": "a", "namespace": "ns", "labels": null},
            "spec": {"parentRefs": null, "hostnames": null, "rules": [{"matches": [{"path": {"type": "Exact", "value": "/x"}}], "filters": null}]},
            "status": null,
        });
        let route: HttpRoute = serde_json::from_value(route).expect("a route");
        assert_eq!(route.spec.rules[0].matches[0].path.as_ref().and_then(|path| path.value.as_deref()), Some("/x"));
        assert!(route.spec.parent_refs.is_empty() && route.spec.rules[0].filters.is_empty());
        let definition: Definition =
            serde_json::from_value(json!({"status": {"conditions": null}})).expect("a definition");
        assert!(!definition.is_established());
    }
}
