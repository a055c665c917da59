//! Which requests a webhook or a policy is about.

use std::sync::Arc;

use kiln_apimachinery::{LabelSelector, Status, meta};
use kiln_cel::{EvalError, Field, ObjectType, Program, Type, Value as Cel};
use serde_json::{Value, json};

use crate::admission::host::Authorizer;
use crate::apiextensions::versions;
use crate::audit::user_value;
use crate::registry::Resource;
use crate::verbs::{Cx, encode};

/// A request as admission sees it. Objects are in stored form, or, of custom kinds, in the request's version.
pub(crate) struct Asked<'a> {
    pub(crate) cx: &'a Cx<'a>,
    pub(crate) operation: &'static str,
    pub(crate) object: Option<Value>,
    pub(crate) old: Option<&'a Value>,
}

/// How a rule is met: by the request's own resource, or by another version of it.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) resource: Arc<Resource>,
}

/// Configurations of admission itself, which nothing may lock anybody out of.
pub(crate) fn is_exempt(cx: &Cx<'_>) -> bool {
    cx.resource.group == "admissionregistration.k8s.io"
}

impl<'a> Asked<'a> {
    pub(crate) fn new(cx: &'a Cx<'a>, operation: &'static str, object: Option<&Value>, old: Option<&'a Value>) -> Self {
        Self { cx, operation, object: object.cloned(), old }
    }

    /// The object's name, which a create that lets the server choose has not.
    pub(crate) fn name(&self) -> &str {
        match self.cx.info.name.as_str() {
            "" => self.object.as_ref().map_or("", |o| meta::name(o)),
            name => name,
        }
    }

    /// The labels that a selector of namespaces is about; `None` for what is in no namespace.
    pub(crate) async fn namespace(&self) -> Result<Option<Value>, Status> {
        let cx = self.cx;
        if cx.resource.group.is_empty() && cx.resource.plural == "namespaces" && cx.info.subresource.is_empty() {
            let own = if self.operation == "DELETE" { self.old } else { self.object.as_ref() };
            return Ok(own.cloned());
        }
        if !cx.resource.namespaced {
            return Ok(None);
        }
        let found = cx.server.store().read("", "namespaces", "", cx.namespace()).await?;
        Ok(Some(found.map(|n| n.object).unwrap_or_default()))
    }

    /// An object in the shape of a version.
    pub(crate) async fn shaped(&self, matched: &Matched, object: Option<&Value>) -> Result<Value, Status> {
        let Some(object) = object else { return Ok(Value::Null) };
        let row = &matched.resource;
        let mut out = object.clone();
        if self.operation == "CONNECT" {
            return Ok(out);
        }
        if row.custom.is_some() {
            return versions::converted(self.cx.server, row, out).await;
        }
        if let Some(conversion) = row.conversion {
            (conversion.from_stored)(&mut out);
        }
        encode::complete(row, &mut out);
        let map = meta::object_mut(&mut out);
        map.insert("kind".into(), row.kind.as_str().into());
        map.insert("apiVersion".into(), row.api_version().into());
        Ok(out)
    }

    /// The opposite: an object in a version, as the request has it.
    pub(crate) async fn taken_back(&self, matched: &Matched, mut object: Value) -> Result<Value, Status> {
        let row = &matched.resource;
        if row.custom.is_some() {
            return versions::converted(self.cx.server, &self.cx.resource, object).await;
        }
        if let Some(ty) = row.schema {
            kiln_schema::decode::check(ty, &mut object).map_err(Status::internal)?;
        }
        if let Some(conversion) = row.conversion {
            (conversion.to_stored)(&mut object);
        }
        Ok(object)
    }

    /// The request as reviews and expressions see it.
    pub(crate) fn request(&self, matched: &Matched, uid: &str) -> Value {
        let (cx, of) = (self.cx, &matched.resource);
        let kind = |row: &Resource| {
            let part = row.has_subresource(&cx.info.subresource).and_then(|s| s.kind);
            match part {
                Some((group, version, kind)) => json!({"group": group, "version": version, "kind": kind}),
                None => json!({"group": row.group, "version": row.version, "kind": row.kind}),
            }
        };
        let resource = |row: &Resource| json!({"group": row.group, "version": row.version, "resource": row.plural});
        let options = match self.operation {
            "CREATE" => "CreateOptions",
            "UPDATE" if cx.info.verb == "patch" => "PatchOptions",
            "UPDATE" => "UpdateOptions",
            "DELETE" => "DeleteOptions",
            _ => "",
        };
        let mut out = json!({
            "uid": uid,
            "kind": kind(of), "resource": resource(of),
            "requestKind": kind(&cx.resource), "requestResource": resource(&cx.resource),
            "operation": self.operation,
            "userInfo": user_value(cx.user),
            "dryRun": cx.dry_run,
        });
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                out[key] = value.into();
            }
        };
        put("name", self.name());
        put("namespace", cx.namespace());
        put("subResource", &cx.info.subresource);
        put("requestSubResource", &cx.info.subresource);
        if cx.resource.plural == "namespaces" && cx.resource.group.is_empty() {
            out["namespace"] = self.name().into();
        }
        if !options.is_empty() {
            let mut told = json!({"kind": options, "apiVersion": "meta.k8s.io/v1"});
            if let Some(manager) = cx.query.get("fieldManager") {
                told["fieldManager"] = manager.into();
            }
            if let Some(validation) = cx.query.get("fieldValidation") {
                told["fieldValidation"] = validation.into();
            }
            if cx.dry_run {
                told["dryRun"] = json!(["All"]);
            }
            out["options"] = told;
        }
        out
    }
}

/// Operations on resources.
#[derive(Debug)]
pub(crate) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    scope: String,
}

impl Rule {
    pub(crate) fn read(rule: &Value) -> Self {
        let list = |key: &str| meta::strings(rule.get(key)).into_iter().map(str::to_owned).collect();
        Self {
            operations: list("operations"),
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources"),
            names: list("resourceNames"),
            scope: meta::text(rule, &["scope"]).to_owned(),
        }
    }

    /// True if the rule is about an operation on a resource in this version.
    fn fits(&self, asked: &Asked<'_>, row: &Resource) -> bool {
        let any = |list: &[String], wanted: &str| list.iter().any(|l| l == "*" || l == wanted);
        let part = asked.cx.info.subresource.as_str();
        let resource = |rule: &String| {
            let (resource, sub) = rule.split_once('/').unwrap_or((rule, ""));
            (resource == "*" || resource == row.plural) && (sub == part || (sub == "*" && rule.contains('/')))
        };
        let namespaced = row.namespaced;
        // Namespaces themselves are of the cluster.
        let scope = match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        };
        scope
            && any(&self.operations, asked.operation)
            && any(&self.groups, &row.group)
            && any(&self.versions, &row.version)
            && self.resources.iter().any(resource)
            && (self.names.is_empty() || self.names.iter().any(|n| n == asked.name()))
    }
}

/// How the rules are met, if they are: exactly, or, if that is asked for, by another version of the same objects.
pub(crate) fn matched(asked: &Asked<'_>, rules: &[Rule], equivalent: bool) -> Option<Matched> {
    let own = &asked.cx.resource;
    if rules.iter().any(|rule| rule.fits(asked, own)) {
        return Some(Matched { resource: own.clone() });
    }
    if !equivalent {
        return None;
    }
    let mut others = asked.cx.server.registry().others(own).into_iter();
    others.find(|row| rules.iter().any(|rule| rule.fits(asked, row))).map(|resource| Matched { resource })
}

/// A selector of labels; one that is not there selects all.
#[derive(Debug)]
pub(crate) struct Selector(Option<LabelSelector>);

impl Selector {
    pub(crate) fn read(selector: Option<&Value>) -> Self {
        let found = selector.filter(|s| s.is_object()).and_then(|s| LabelSelector::from_object(s).ok());
        Self(found.filter(|s| !s.is_empty()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.as_ref().is_none_or(|s| s.matches(&meta::labels(object)))
    }
}

/// True if selectors let the request's objects and their namespace pass.
pub(crate) async fn selected(asked: &Asked<'_>, namespaces: &Selector, objects: &Selector) -> Result<bool, Status> {
    if !namespaces.is_empty()
        && let Some(namespace) = asked.namespace().await?
        && !namespaces.matches(&namespace)
    {
        return Ok(false);
    }
    if objects.is_empty() {
        return Ok(true);
    }
    // Either state will do.
    let states = asked.object.iter().chain(asked.old);
    Ok(states.into_iter().any(|object| object.is_object() && objects.matches(object)))
}

/// The types of what expressions about requests may name.
pub(crate) fn variables() -> Vec<(&'static str, Type)> {
    let text = || Type::TEXT;
    let object = |name: &str, fields: &[(&str, Type)]| {
        let fields = fields.iter().map(|(n, ty)| Field::new(n, ty.clone())).collect();
        Type::Object(Arc::new(ObjectType::new(name, fields)))
    };
    let kind = object("kubernetes.GroupVersionKind", &[("group", text()), ("version", text()), ("kind", text())]);
    let resource =
        object("kubernetes.GroupVersionResource", &[("group", text()), ("version", text()), ("resource", text())]);
    let user = object(
        "kubernetes.UserInfo",
        &[
            ("username", text()),
            ("uid", text()),
            ("groups", Type::list(text())),
            ("extra", Type::map(Type::list(text()))),
        ],
    );
    let request = object(
        "kubernetes.AdmissionRequest",
        &[
            ("uid", text()),
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    );
    let authority = Type::Named("kubernetes.authorization.Authorizer");
    vec![
        ("object", Type::Dyn),
        ("oldObject", Type::Dyn),
        ("request", request),
        ("authorizer", authority.clone()),
        ("authorizer.requestResource", authority),
    ]
}

/// Conditions in CEL, each with its name.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<(String, Result<Program, String>)>);

/// What conditions say of a request.
pub(crate) enum Verdict {
    Holds,
    No,
    /// None is false, and these can't be told.
    Failed(String),
}

impl Conditions {
    pub(crate) fn read(conditions: &[Value]) -> Self {
        Self::with(conditions, &variables())
    }

    pub(crate) fn with(conditions: &[Value], variables: &[(&str, Type)]) -> Self {
        let read = |condition: &Value| {
            let program = Program::compile(meta::text(condition, &["expression"]), variables);
            (meta::text(condition, &["name"]).to_owned(), program.map_err(|why| format!("compilation failed: {why}")))
        };
        Self(conditions.iter().map(read).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks the conditions.
    pub(crate) fn ask<'v>(&'v self, variables: &[(&str, Cel<'v>)], host: &Authorizer<'_>, budget: &mut u64) -> Verdict {
        let mut failed = Vec::new();
        for (name, program) in &self.0 {
            let found = match program {
                Ok(program) => program.run(variables, Some(host), budget),
                Err(why) => Err(EvalError::Failed(why.clone())),
            };
            match found {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Verdict::No,
                Ok(other) => failed.push(format!("match condition {name:?} gives a {}", other.type_name())),
                Err(why) => failed.push(why.to_string()),
            }
        }
        if failed.is_empty() { Verdict::Holds } else { Verdict::Failed(failed.join(", ")) }
    }
}
