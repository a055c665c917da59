//! HTTPRoutes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Meta, or_default};

fields! {
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
        /// Answers after which they are sent again.
        retry: Option<Retry>,
        /// How clients are kept at an endpoint.
        session_persistence: Option<Value>,
    }

    /// After which answers requests are sent again (GEP-1731); after none they are too.
    pub struct Retry {
        /// Their statuses.
        codes: Vec<u16>,
        /// How often at most.
        attempts: Option<u32>,
        /// How long that waits at least, as a duration of GEP-2257.
        backoff: Option<String>,
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
        /// What scripts of other origins may.
        cors: Option<Cors>,
        /// Who gets a copy of the request.
        request_mirror: Option<Mirror>,
    }

    /// Who gets copies of requests; what it answers is nobody's.
    pub struct Mirror {
        /// The Service.
        backend_ref: BackendRef,
        /// So many of a hundred requests.
        percent: Option<u32>,
        /// The same more finely. If neither is there, it gets all.
        fraction: Option<Fraction>,
    }

    /// A part of a whole.
    pub struct Fraction {
        /// So many.
        numerator: u32,
        /// Of so many; of a hundred if there is none.
        denominator: Option<u32>,
    }

    /// What scripts of other origins may.
    pub struct Cors {
        /// Origins that they may be of; `*` is for all, or for a part of the host.
        allow_origins: Vec<String>,
        /// Methods that they may use; `*` is for all.
        allow_methods: Vec<String>,
        /// Headers that they may send; `*` is for all.
        allow_headers: Vec<String>,
        /// Headers of answers that they may see.
        expose_headers: Vec<String>,
        /// Whether their requests may carry cookies and the like.
        allow_credentials: Option<bool>,
        /// Seconds that browsers may keep this.
        max_age: Option<i64>,
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
}

impl Rule {
    /// All Services that it names: those that answer, and those that get copies.
    pub fn backends(&self) -> impl Iterator<Item = &BackendRef> {
        self.backend_refs.iter().chain(self.mirrors().map(|mirror| &mirror.backend_ref))
    }

    /// Who gets copies of its requests.
    pub fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.filters.iter().filter_map(|filter| filter.request_mirror.as_ref())
    }
}

impl Mirror {
    /// How many of how many requests it gets.
    pub fn share(&self) -> (u32, u32) {
        match (self.percent, &self.fraction) {
            (Some(percent), _) => (percent, 100),
            (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
            (None, None) => (1, 1),
        }
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
