//! The API's objects, with just the fields that are read here. Their shapes are seen to by the definitions.

use std::collections::BTreeMap;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use kiln_client::{Object, ObjectRef};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

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

    /// Who serves Gateways of a class.
    pub struct GatewayClass {
        /// Its metadata.
        metadata: Meta,
        /// What is wanted.
        spec: GatewayClassSpec,
        /// What was told about it.
        status: Value,
    }

    /// The specification of a GatewayClass.
    pub struct GatewayClassSpec {
        /// The controller that serves it.
        controller_name: String,
        /// Further settings, of which none are known here.
        parameters_ref: Option<Value>,
    }

    /// Listeners that are served together.
    pub struct Gateway {
        /// Its metadata.
        metadata: Meta,
        /// What is wanted.
        spec: GatewaySpec,
        /// What was told about it.
        status: Value,
    }

    /// The specification of a Gateway.
    pub struct GatewaySpec {
        /// Its class.
        gateway_class_name: String,
        /// Where it listens.
        listeners: Vec<Listener>,
        /// Addresses that it is to have.
        addresses: Vec<Value>,
        /// Settings of what serves it.
        infrastructure: Option<Infrastructure>,
    }

    /// Settings of what serves a Gateway.
    pub struct Infrastructure {
        /// Further settings, of which none are known here.
        parameters_ref: Option<Value>,
    }

    /// A port and hostname that is listened for.
    pub struct Listener {
        /// Its name in its Gateway.
        name: String,
        /// Which hosts it is for; all if there is none.
        hostname: Option<String>,
        /// The TCP port.
        port: u16,
        /// `HTTP`, `HTTPS`, or one that is not served here.
        protocol: String,
        /// Its certificates.
        tls: Option<ListenerTls>,
        /// Which routes may be attached.
        allowed_routes: AllowedRoutes,
    }

    /// TLS of a listener.
    pub struct ListenerTls {
        /// `Terminate`, or one that is not served here.
        mode: Option<String>,
        /// Secrets with certificates.
        certificate_refs: Vec<SecretRef>,
    }

    /// Names a Secret.
    pub struct SecretRef {
        /// The group of its kind.
        group: Option<String>,
        /// Its kind.
        kind: Option<String>,
        /// Its name.
        name: String,
        /// Its namespace, if it is another.
        namespace: Option<String>,
    }

    /// Which routes may be attached to a listener.
    pub struct AllowedRoutes {
        /// From which namespaces.
        namespaces: RouteNamespaces,
        /// Of which kinds; those of the protocol if there are none.
        kinds: Vec<RouteKind>,
    }

    /// Namespaces of routes.
    pub struct RouteNamespaces {
        /// `Same`, `All`, `Selector` or `None`.
        from: Option<String>,
        /// Which, if it is `Selector`.
        selector: Option<Value>,
    }

    /// A kind of routes.
    pub struct RouteKind {
        /// Its group.
        group: Option<String>,
        /// Its name.
        kind: String,
    }

    /// Rules for requests.
    pub struct HttpRoute {
        /// Its metadata.
        metadata: Meta,
        /// What is wanted.
        spec: HttpRouteSpec,
        /// What was told about it.
        status: Value,
    }

    /// The specification of an HTTPRoute.
    pub struct HttpRouteSpec {
        /// What it is to be attached to.
        parent_refs: Vec<ParentRef>,
        /// Which hosts it is for; all of the listener's if there are none.
        hostnames: Vec<String>,
        /// Its rules.
        rules: Vec<Rule>,
    }

    /// What to do with some requests.
    pub struct Rule {
        /// Which requests: all if there are none, else those that any of these matches.
        matches: Vec<Match>,
        /// What to change.
        filters: Vec<Filter>,
        /// Where they go.
        backend_refs: Vec<BackendRef>,
        /// How long they may take.
        timeouts: Option<Timeouts>,
    }

    /// Requests: those that all of this is true of.
    pub struct Match {
        /// Their path.
        path: Option<PathMatch>,
        /// Headers that they have.
        headers: Vec<ValueMatch>,
        /// Parameters of their query.
        query_params: Vec<ValueMatch>,
        /// Their method.
        method: Option<String>,
    }

    /// A path.
    pub struct PathMatch {
        /// `Exact`, `PathPrefix` or `RegularExpression`.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// The path.
        value: Option<String>,
    }

    /// A header or parameter with its value.
    pub struct ValueMatch {
        /// `Exact` or `RegularExpression`.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    }

    /// A change of a request or its answer.
    pub struct Filter {
        /// Which of these it is.
        #[serde(rename = "type")]
        kind: String,
        /// Of the headers of the request.
        request_header_modifier: Option<HeaderModifier>,
        /// Of the headers of the answer.
        response_header_modifier: Option<HeaderModifier>,
        /// Another place for the client to ask.
        request_redirect: Option<Redirect>,
        /// Of what is asked for.
        url_rewrite: Option<UrlRewrite>,
    }

    /// Changes of headers.
    pub struct HeaderModifier {
        /// In place of what there is.
        set: Vec<NameValue>,
        /// Besides what there is.
        add: Vec<NameValue>,
        /// Away with these.
        remove: Vec<String>,
    }

    /// A header.
    pub struct NameValue {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    }

    /// Another place for the client to ask.
    pub struct Redirect {
        /// `http` or `https`; that of the request if there is none.
        scheme: Option<String>,
        /// The host; that of the request if there is none.
        hostname: Option<String>,
        /// The path; that of the request if there is none.
        path: Option<PathModifier>,
        /// The port.
        port: Option<u16>,
        /// The answer's status; 302 if there is none.
        status_code: Option<u16>,
    }

    /// A change of what is asked for.
    pub struct UrlRewrite {
        /// The host for the endpoint.
        hostname: Option<String>,
        /// The path for the endpoint.
        path: Option<PathModifier>,
    }

    /// A change of a path.
    pub struct PathModifier {
        /// `ReplaceFullPath` or `ReplacePrefixMatch`.
        #[serde(rename = "type")]
        kind: String,
        /// In place of the whole path.
        replace_full_path: Option<String>,
        /// In place of the prefix that matched.
        replace_prefix_match: Option<String>,
    }

    /// Where requests go.
    pub struct BackendRef {
        /// The group of its kind.
        group: Option<String>,
        /// Its kind: a Service.
        kind: Option<String>,
        /// Its name.
        name: String,
        /// Its namespace, if it is another.
        namespace: Option<String>,
        /// Its port.
        port: Option<u16>,
        /// Its share of the requests.
        weight: Option<u32>,
        /// What to change of these.
        filters: Vec<Filter>,
    }

    /// How long requests may take, as durations of GEP-2257.
    pub struct Timeouts {
        /// The whole.
        request: Option<String>,
        /// One try at an endpoint.
        backend_request: Option<String>,
    }

    /// Lets objects of other namespaces refer to some of this one.
    pub struct ReferenceGrant {
        /// Its metadata.
        metadata: Meta,
        /// What is let.
        spec: ReferenceGrantSpec,
    }

    /// The specification of a ReferenceGrant.
    pub struct ReferenceGrantSpec {
        /// Who may refer.
        from: Vec<GrantFrom>,
        /// To what.
        to: Vec<GrantTo>,
    }

    /// Objects that may refer.
    pub struct GrantFrom {
        /// Their group.
        group: String,
        /// Their kind.
        kind: String,
        /// Their namespace.
        namespace: String,
    }

    /// Objects that may be referred to.
    pub struct GrantTo {
        /// Their group.
        group: String,
        /// Their kind.
        kind: String,
        /// The only one; all if there is none.
        name: Option<String>,
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

/// What a route is to be attached to. It is told again in the status just as it was said.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ParentRef {
    /// The group of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind: a Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The only listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Listeners of this port only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl Definition {
    /// Whether its resources are served.
    pub(crate) fn is_established(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Established" && condition.status == "True")
    }
}

impl GatewayClass {
    /// Whether it is one of those that are served here.
    pub fn is_ours(&self) -> bool {
        self.spec.controller_name == crate::CONTROLLER
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
