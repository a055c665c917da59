//! Resources as paths with operations.

use kiln_apimachinery::gvk::api_version;
use serde_json::{Map, Value, json};

use super::schemas::model;
use super::verbs::{FLAG, NUMBER, TEXT, VERBS, Verb};
use super::{Dialect, Served, ServedPart, custom, root};
use crate::lookup;
use crate::table::Code;

/// What objects are written as.
const ENCODINGS: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// What patches are written as.
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// The same of kinds whose lists nobody knows to merge.
const PLAIN_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// Verbs of a path without an object's name, and of one with.
const OF_ALL: &[&str] = &["list", "create", "deletecollection"];
const OF_ONE: &[&str] = &["get", "update", "patch", "delete"];
/// Verbs of a part of an object.
const OF_PART: &[&str] = &["get", "create", "update", "patch", "delete"];

/// How operations' ids end whose path goes on behind the subresource.
const WITH_PATH: &str = "WithPath";
/// Subresources that are passed on to what stands behind the object.
const CONNECTED: &[&str] = &["attach", "exec", "portforward", "proxy"];

/// A path before it is written.
enum Plan<'a> {
    /// Wanted verbs, verbs that there are, whether a name is in the path, and how operations' ids end.
    Item(Place<'a>, &'static [&'static str], &'a [&'a str], bool, &'static str),
    /// What tells the resources of a group and version.
    Resources(&'a str, &'a str),
}

/// The paths of resources and of their groups and versions, in order, made one by one.
pub(super) fn of<'a>(
    resources: &'a [Served<'a>],
    versions: &[(&'a str, &'a str)],
    dialect: Dialect,
) -> impl Iterator<Item = (String, Value)> {
    let mut plans: Vec<(String, Plan<'a>)> = resources.iter().flat_map(|r| plans(r, dialect)).collect();
    plans.extend(versions.iter().map(|(g, v)| (format!("/{}/", root(g, v)), Plan::Resources(g, v))));
    plans.sort_by(|a, b| a.0.cmp(&b.0));
    plans.into_iter().map(move |(path, plan)| {
        let item = match plan {
            Plan::Item(place, wanted, has, named, suffix) => place.item(wanted, has, named, suffix),
            Plan::Resources(group, version) => discovery(group, version, dialect),
        };
        (path, item)
    })
}

fn plans<'a>(resource: &'a Served<'a>, dialect: Dialect) -> Vec<(String, Plan<'a>)> {
    let root = root(resource.group, resource.version);
    let base = match resource.namespaced {
        true => format!("/{root}/namespaces/{{namespace}}/{}", resource.plural),
        false => format!("/{root}/{}", resource.plural),
    };
    let own = (resource.group, resource.version, resource.kind);
    let (place, verbs) = (Place { resource, dialect, part: "", kind: own }, resource.verbs);
    let mut out = vec![
        (base.clone(), Plan::Item(place, OF_ALL, verbs, false, "")),
        (format!("{base}/{{name}}"), Plan::Item(place, OF_ONE, verbs, true, "")),
    ];
    if resource.namespaced {
        let path = format!("/{root}/{}", resource.plural);
        out.push((path, Plan::Item(place, &["list"], verbs, false, "ForAllNamespaces")));
    }
    for ServedPart { name, verbs, kind } in &resource.subresources {
        let place = Place { part: name, kind: kind.unwrap_or(own), ..place };
        out.push((format!("{base}/{{name}}/{name}"), Plan::Item(place, OF_PART, verbs, true, "")));
        if *name == "proxy" {
            out.push((format!("{base}/{{name}}/{name}/{{path}}"), Plan::Item(place, OF_PART, verbs, true, WITH_PATH)));
        }
    }
    out.retain(|(_, plan)| match plan {
        Plan::Item(_, wanted, has, ..) => wanted.iter().any(|verb| has.contains(verb)),
        Plan::Resources(..) => true,
    });
    out
}

fn discovery(group: &str, version: &str, dialect: Dialect) -> Value {
    let list = lookup("v1", "APIResourceList").map(model).unwrap_or_default();
    let operation = with_responses(
        json!({
            "description": "get available resources",
            "operationId": format!("get{}APIResources", title(group, version)),
            "tags": [tag(group, version)],
        }),
        &[("200", "OK", &list)],
        dialect,
    );
    json!({"get": operation})
}

/// `CoreV1`, `RbacAuthorizationV1`.
fn title(group: &str, version: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    group.split('.').chain([version]).map(capital).collect()
}

/// `core_v1`, `rbacAuthorization_v1`.
fn tag(group: &str, version: &str) -> String {
    let title = title(group, "");
    let mut letters = title.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    format!("{}{}_{version}", first.map(String::from).unwrap_or_default(), letters.as_str())
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.map(String::from).unwrap_or_default() + letters.as_str()
}

#[derive(Clone, Copy)]
struct Place<'a> {
    resource: &'a Served<'a>,
    dialect: Dialect,
    /// The subresource, if it is one.
    part: &'a str,
    /// What is read and written here.
    kind: (&'a str, &'a str, &'a str),
}

impl Place<'_> {
    fn item(&self, wanted: &[&str], has: &[&str], named: bool, suffix: &str) -> Value {
        let mut out = Map::new();
        for verb in VERBS.iter().filter(|v| wanted.contains(&v.name) && has.contains(&v.name)) {
            out.insert(verb.method.into(), self.operation(verb, suffix));
        }
        let mut shared = Vec::new();
        if named {
            shared.push(self.parameter("name", "path", TEXT));
        }
        if self.resource.namespaced && matches!(suffix, "" | WITH_PATH) {
            shared.push(self.parameter("namespace", "path", TEXT));
        }
        if suffix == WITH_PATH {
            shared.push(self.parameter("path", "path", TEXT));
        }
        if self.is_connected() {
            shared.extend(self.options());
        } else {
            shared.push(self.parameter("pretty", "query", TEXT));
        }
        out.insert("parameters".into(), shared.into());
        out.into()
    }

    fn parameter(&self, name: &str, place: &str, kind: &str) -> Value {
        let mut out = json!({"name": name, "in": place});
        if place == "path" {
            out["required"] = true.into();
        }
        match self.dialect {
            Dialect::V2 => {
                out["type"] = kind.into();
                out["uniqueItems"] = true.into();
            }
            Dialect::V3 => out["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        out
    }

    /// True if requests are passed on.
    fn is_connected(&self) -> bool {
        CONNECTED.contains(&self.part)
    }

    /// The fields of the kind that a connection is asked for with, as query parameters.
    fn options(&self) -> Vec<Value> {
        let (group, version, kind) = self.kind;
        let Some(ty) = lookup(&api_version(group, version), kind).filter(|_| kind.ends_with("Options")) else {
            return Vec::new();
        };
        let fields = ty.fields().iter().filter(|f| f.number != 0);
        let kind = |code| match code {
            Code::Bool => FLAG,
            Code::Int32 | Code::Int64 => NUMBER,
            _ => TEXT,
        };
        fields.map(|f| self.parameter(ty.table.str(f.name), "query", kind(ty.to(f.node).code()))).collect()
    }

    fn id(&self, verb: &Verb, suffix: &str) -> String {
        let r = self.resource;
        let (what, how) =
            if self.is_connected() { ("connect", capital(verb.method)) } else { (verb.id, String::new()) };
        let mut id = format!("{what}{}{how}", title(r.group, r.version));
        if verb.name == "deletecollection" {
            id.push_str("Collection");
        }
        if r.namespaced && matches!(suffix, "" | WITH_PATH) {
            id.push_str("Namespaced");
        }
        id + r.kind + &capital(self.part) + suffix
    }

    /// An operation that is passed on: what comes back is anybody's guess.
    fn connection(&self, verb: &Verb, suffix: &str) -> Value {
        let (r, (group, version, kind)) = (self.resource, self.kind);
        let text = json!({"type": "string"});
        let answer = match self.dialect {
            Dialect::V2 => json!({"description": "OK", "schema": text}),
            Dialect::V3 => json!({"description": "OK", "content": {"*/*": {"schema": text}}}),
        };
        let mut out = json!({
            "description": format!("connect {} requests to {} of {}", capital(verb.method), self.part, r.kind),
            "operationId": self.id(verb, suffix),
            "tags": [tag(r.group, r.version)],
            "x-kubernetes-action": "connect",
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            "responses": {"200": answer, "401": {"description": "Unauthorized"}},
        });
        if self.dialect == Dialect::V2 {
            out["consumes"] = json!(["*/*"]);
            out["produces"] = json!(["*/*"]);
            out["schemes"] = json!(["https"]);
        }
        out
    }

    fn operation(&self, verb: &Verb, suffix: &str) -> Value {
        if self.is_connected() {
            return self.connection(verb, suffix);
        }
        let r = self.resource;
        let (group, version, kind) = self.kind;
        let known = |kind: &str| lookup(&api_version(group, version), kind).map(model).unwrap_or_default();
        let (own, list) = match &r.custom {
            Some(custom) if kind == r.kind => (custom::model(r, kind), custom::model(r, custom.list_kind)),
            _ => (known(kind), known(&format!("{kind}List"))),
        };
        let own = own.as_str();
        let of_meta = |kind: &str| lookup("v1", kind).map(model).unwrap_or_default();
        let (status, options) = (of_meta("Status"), of_meta("DeleteOptions"));
        let patch = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
        let mut operation = json!({
            "description": format!("{} {kind}", verb.name),
            "operationId": self.id(verb, suffix),
            "tags": [tag(r.group, r.version)],
            "x-kubernetes-action": verb.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let parameters: Vec<Value> =
            verb.query.iter().map(|(name, kind)| self.parameter(name, "query", kind)).collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let (body, answers) = match verb.name {
            "list" => (None, vec![("200", "OK", list.as_str())]),
            "create" => {
                (Some((own, true)), vec![("200", "OK", own), ("201", "Created", own), ("202", "Accepted", own)])
            }
            "update" => (Some((own, true)), vec![("200", "OK", own), ("201", "Created", own)]),
            "patch" => (Some((patch, true)), vec![("200", "OK", own), ("201", "Created", own)]),
            "delete" => (
                Some((options.as_str(), false)),
                vec![("200", "OK", status.as_str()), ("202", "Accepted", status.as_str())],
            ),
            "deletecollection" => (Some((options.as_str(), false)), vec![("200", "OK", status.as_str())]),
            _ => (None, vec![("200", "OK", own)]),
        };
        let media = match (verb.name, &r.custom) {
            ("patch", None) => PATCHES,
            ("patch", Some(_)) => PLAIN_PATCHES,
            (_, None) => &["*/*"][..],
            (_, Some(_)) => &["application/json", "application/yaml"],
        };
        if self.dialect == Dialect::V2 {
            operation["consumes"] = json!(media);
        }
        if let Some((name, required)) = body.filter(|(name, _)| !name.is_empty()) {
            self.body(&mut operation, name, required, media);
        }
        with_responses(operation, &answers, self.dialect)
    }

    fn body(&self, operation: &mut Value, name: &str, required: bool, media: &[&str]) {
        let schema = self.dialect.reference(name);
        match self.dialect {
            Dialect::V2 => {
                let mut body = json!({"in": "body", "name": "body", "schema": schema});
                if required {
                    body["required"] = true.into();
                }
                match &mut operation["parameters"] {
                    Value::Array(list) => list.insert(0, body),
                    other => *other = json!([body]),
                }
            }
            Dialect::V3 => {
                let content: Map<_, _> = media.iter().map(|m| ((*m).to_owned(), json!({"schema": schema}))).collect();
                operation["requestBody"] = json!({"content": content});
                if required {
                    operation["requestBody"]["required"] = true.into();
                }
            }
        }
    }
}

/// Adds what may be answered: codes with a description and a type.
fn with_responses(mut operation: Value, answers: &[(&str, &str, &str)], dialect: Dialect) -> Value {
    let mut responses = Map::new();
    for (code, text, name) in answers {
        let mut answer = json!({"description": text});
        if !name.is_empty() {
            let schema = dialect.reference(name);
            match dialect {
                Dialect::V2 => answer["schema"] = schema,
                Dialect::V3 => {
                    let content: Map<_, _> =
                        ENCODINGS.iter().map(|m| ((*m).to_owned(), json!({"schema": schema}))).collect();
                    answer["content"] = content.into();
                }
            }
        }
        responses.insert((*code).into(), answer);
    }
    responses.insert("401".into(), json!({"description": "Unauthorized"}));
    operation["responses"] = responses.into();
    if dialect == Dialect::V2 {
        operation["produces"] = json!(ENCODINGS);
        operation["schemes"] = json!(["https"]);
    }
    operation
}
