//! From a chart and values to manifests.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use crate::chart::{Chart, coalesce, process};
use crate::host::Host;
use crate::manifests::{Hook, Manifest, sorted};
use crate::semver::{Version, satisfies};
use crate::template::{Engine, Limits};
use crate::value::{Entries, Object, Value};
use crate::{ChartError, schema, yaml};

const LIMITS: Limits = Limits { depth: 200, steps: 20_000_000, bytes: 256 << 20 };
/// What a thread that renders has for its stack: each call of a template takes some of it. It is there only where it is used.
const STACK: usize = 64 << 20;

/// What is installed.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Where it is installed.
    pub namespace: String,
    /// How often it was, this time with it.
    pub revision: i64,
    /// Whether it was installed before.
    pub is_upgrade: bool,
}

/// What the cluster can do.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// As `v1.36.0`.
    pub version: String,
    /// As `1`.
    pub major: String,
    /// As `36`.
    pub minor: String,
    /// `apps/v1` and `apps/v1/Deployment` and the others.
    pub api_versions: Vec<String>,
}

/// What a chart comes to.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// The definitions in its `crds/` folders.
    pub definitions: Vec<Json>,
    /// Its objects, in the order that they are installed in.
    pub manifests: Vec<Manifest>,
    /// What is made at events.
    pub hooks: Vec<Hook>,
    /// What it has to say to people.
    pub notes: String,
    /// The values that it was rendered with.
    pub values: Map<String, Json>,
}

/// Renders a chart in a thread of its own, and waits for it: callers that must not wait call this where they may.
///
/// # Errors
/// When values do not fit, a template fails, or what it makes is no manifest.
pub fn render(
    chart: Chart,
    values: Map<String, Json>,
    release: &Release,
    capabilities: &Capabilities,
    host: &(dyn Host + Sync),
) -> Result<Rendered, ChartError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("charts".to_owned()).stack_size(STACK);
        let running = thread.spawn_scoped(scope, || rendered(chart, values, release, capabilities, host));
        let lost = |what: &str| Err(ChartError::Template(what.to_owned()));
        match running {
            Ok(running) => running.join().unwrap_or_else(|_| lost("rendering template failed")),
            Err(error) => lost(&format!("there is no thread to render in: {error}")),
        }
    })
}

fn rendered(
    mut chart: Chart,
    mut values: Map<String, Json>,
    release: &Release,
    capabilities: &Capabilities,
    host: &dyn Host,
) -> Result<Rendered, ChartError> {
    if chart.is_library() {
        return Err(ChartError::Chart("library charts are not installable".to_owned()));
    }
    let constraint = chart.text("kubeVersion");
    let version = Version::parse(&capabilities.version);
    if !constraint.is_empty() && version.is_some_and(|version| satisfies(constraint, &version) != Some(true)) {
        return Err(ChartError::Chart(format!(
            "chart requires kubeVersion: {constraint} which is incompatible with Kubernetes {}",
            capabilities.version
        )));
    }
    process(&mut chart, &values).map_err(ChartError::Values)?;
    coalesce(&chart, &mut values, false).map_err(ChartError::Values)?;
    schema::check(&chart, &values)?;
    let mut definitions = Vec::new();
    for text in chart.definitions() {
        let documents = yaml::documents(&String::from_utf8_lossy(text));
        let documents = documents.map_err(|error| ChartError::Manifest(format!("crds/: {error}")))?;
        definitions.extend(documents.into_iter().filter(Json::is_object));
    }
    let top = Top {
        release: Value::of([
            ("Name", Value::str(&release.name)),
            ("Namespace", Value::str(&release.namespace)),
            ("IsUpgrade", Value::Bool(release.is_upgrade)),
            ("IsInstall", Value::Bool(!release.is_upgrade)),
            ("Revision", Value::Int(release.revision)),
            ("Service", Value::str("Helm")),
        ]),
        capabilities: Value::of([
            ("APIVersions", Value::object(Object::Versions(capabilities.api_versions.clone()))),
            ("KubeVersion", {
                let part = |text: &str| Rc::from(text);
                let (version, major, minor) = (&capabilities.version, &capabilities.major, &capabilities.minor);
                Value::object(Object::KubeVersion(part(version), part(major), part(minor)))
            }),
            ("HelmVersion", Value::of([("Version", Value::str("v3.18.0")), ("GoVersion", Value::str("go1.24"))])),
        ]),
    };
    let mut templates = BTreeMap::new();
    let root = Value::from_json(&Json::Object(values.clone()));
    top.gather(&chart, &chart.name, &root, true, &mut templates);
    let files = execute(&templates, host)?;
    let notes_name = format!("{}/templates/NOTES.txt", chart.name);
    let mut notes = String::new();
    let mut rest = Vec::new();
    for (name, text) in files {
        if name == notes_name {
            notes = text;
        } else if !name.ends_with("NOTES.txt") && !text.trim().is_empty() {
            rest.push((name, text));
        }
    }
    let (manifests, hooks) = sorted(rest)?;
    Ok(Rendered { definitions, manifests, hooks, notes, values })
}

/// What all charts of a release see.
struct Top {
    release: Value,
    capabilities: Value,
}

/// A template with what it is rendered with.
struct Renderable<'a> {
    text: &'a str,
    dot: Value,
    base: String,
}

impl Top {
    /// Gathers the templates of a chart and of those in it; answers what they are rendered with.
    fn gather<'a>(
        &self,
        chart: &'a Chart,
        path: &str,
        values: &Value,
        is_root: bool,
        into: &mut BTreeMap<String, Renderable<'a>>,
    ) -> Value {
        let files = chart.files.iter().map(|(name, bytes)| (Rc::from(name.as_str()), Rc::from(bytes.as_slice())));
        let below = Value::map(Entries::new());
        let dot = Value::of([
            ("Chart", metadata(chart, is_root)),
            ("Files", Value::object(Object::Files(files.collect()))),
            ("Release", self.release.clone()),
            ("Capabilities", self.capabilities.clone()),
            ("Values", values.clone()),
            ("Subcharts", below.clone()),
        ]);
        for child in &chart.children {
            let inner = values.get(&child.name).filter(|inner| matches!(inner, Value::Map(_)));
            let inner = inner.unwrap_or_else(|| Value::map(Entries::new()));
            let seen = self.gather(child, &format!("{path}/charts/{}", child.name), &inner, false, into);
            below.set(&child.name, seen);
        }
        for (name, text) in &chart.templates {
            let is_partial = name.rsplit('/').next().is_some_and(|last| last.starts_with('_'));
            if chart.is_library() && !is_partial {
                continue;
            }
            let base = format!("{path}/templates");
            into.insert(format!("{path}/{name}"), Renderable { text, dot: dot.clone(), base });
        }
        dot
    }
}

/// `.Chart`: what Chart.yaml says, with capital letters.
fn metadata(chart: &Chart, is_root: bool) -> Value {
    let mut entries = Entries::new();
    // They are there even if Chart.yaml does not say them.
    for field in
        ["Name", "Version", "AppVersion", "Description", "Home", "Icon", "KubeVersion", "Type", "Condition", "Tags"]
    {
        entries.insert(field.into(), Value::str(""));
    }
    for (key, value) in &chart.metadata {
        let mut chars = key.chars();
        let Some(first) = chars.next() else { continue };
        let name = match key.as_str() {
            "apiVersion" => "APIVersion".to_owned(),
            _ => first.to_uppercase().chain(chars).collect(),
        };
        entries.insert(name.into(), Value::from_json(value));
    }
    entries.insert("IsRoot".into(), Value::Bool(is_root));
    Value::map(entries)
}

fn execute(templates: &BTreeMap<String, Renderable<'_>>, host: &dyn Host) -> Result<Vec<(String, String)>, ChartError> {
    let mut engine = Engine::new(host, LIMITS);
    let mut names: Vec<&String> = templates.keys().collect();
    // Those of charts above are read last: of two definitions of one name theirs holds.
    names.sort_by_key(|name| std::cmp::Reverse((name.matches('/').count(), name.as_str())));
    for name in &names {
        engine.add(name, templates[*name].text).map_err(|error| parse_error(name, &error))?;
    }
    let mut made = Vec::new();
    for (name, template) in templates {
        if name.rsplit('/').next().is_some_and(|last| last.starts_with('_')) {
            continue;
        }
        let about = Value::of([("Name", Value::str(name)), ("BasePath", Value::str(&template.base))]);
        template.dot.set("Template", about);
        let text = engine.execute(name, &template.dot).map_err(ChartError::Template)?;
        made.push((name.clone(), text.replace("<no value>", "")));
    }
    Ok(made)
}

/// As Helm tells of a template that cannot be read.
fn parse_error(name: &str, error: &str) -> ChartError {
    let parts: Vec<&str> = error.split(": ").collect();
    ChartError::Template(match parts.as_slice() {
        [_, place, .., last] => format!("parse error at ({place}): {last}"),
        _ => format!("parse error in ({name}): {error}"),
    })
}
