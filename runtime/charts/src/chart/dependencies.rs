//! Which of the charts in a chart are used, under which names, and what it imports from their values.

use serde_json::{Map, Value};

use super::coalesce::tables;
use super::{Chart, Dependency, coalesce};
use crate::semver::{Version, satisfies};

/// Drops what is disabled, makes aliases, and imports values.
///
/// # Errors
/// When values do not fit.
pub(crate) fn process(chart: &mut Chart, values: &Map<String, Value>) -> Result<(), String> {
    enable(chart, values, "")?;
    import(chart)
}

fn is_compatible(constraint: &str, version: &str) -> bool {
    if constraint.is_empty() {
        return true;
    }
    Version::parse(version).is_some_and(|version| satisfies(constraint, &version) == Some(true))
}

fn enable(chart: &mut Chart, values: &Map<String, Value>, path: &str) -> Result<(), String> {
    if chart.dependencies.is_empty() {
        return Ok(());
    }
    let is_listed = |child: &Chart, dependencies: &[Dependency]| {
        dependencies.iter().any(|d| d.name == child.name && is_compatible(&d.version, child.version()))
    };
    let (mut listed, mut children): (Vec<Chart>, Vec<Chart>) = (Vec::new(), Vec::new());
    for child in std::mem::take(&mut chart.children) {
        if is_listed(&child, &chart.dependencies) { listed.push(child) } else { children.push(child) }
    }
    for dependency in &mut chart.dependencies {
        let fits =
            |child: &&Chart| child.name == dependency.name && is_compatible(&dependency.version, child.version());
        if let Some(child) = listed.iter().find(fits) {
            let mut child = child.clone();
            if !dependency.alias.is_empty() {
                child.name.clone_from(&dependency.alias);
                child.metadata.insert("name".to_owned(), Value::String(dependency.alias.clone()));
            }
            children.push(child);
        }
        if !dependency.alias.is_empty() {
            dependency.name.clone_from(&dependency.alias);
        }
        dependency.enabled = true;
    }
    chart.children = children;
    let mut whole = values.clone();
    coalesce(chart, &mut whole, false)?;
    let tags = whole.get("tags").and_then(Value::as_object).cloned();
    for dependency in &mut chart.dependencies {
        if let Some(tags) = &tags {
            let said = |wanted: bool| dependency.tags.iter().any(|tag| tags.get(tag) == Some(&Value::Bool(wanted)));
            dependency.enabled = said(true) || !said(false);
        }
        for condition in dependency.condition.trim().split(',').filter(|condition| !condition.is_empty()) {
            let found = at(&whole, &format!("{path}{}", condition.trim()));
            if let Some(Value::Bool(value)) = found {
                dependency.enabled = *value;
                break;
            }
        }
    }
    let dropped: Vec<String> =
        chart.dependencies.iter().filter(|d| !d.enabled).map(|dependency| dependency.name.clone()).collect();
    chart.children.retain(|child| !dropped.contains(&child.name));
    chart.dependencies.retain(|dependency| dependency.enabled);
    for child in &mut chart.children {
        let path = format!("{path}{}.", child.name);
        enable(child, &whole, &path)?;
    }
    Ok(())
}

/// What is at a path with dots.
fn at<'a>(values: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = values.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_object()?.get(part))
}

fn import(chart: &mut Chart) -> Result<(), String> {
    for child in &mut chart.children {
        import(child)?;
    }
    if chart.dependencies.iter().all(|dependency| dependency.imports.is_empty()) {
        return Ok(());
    }
    let mut whole = Map::new();
    coalesce(chart, &mut whole, true)?;
    let mut imported = Map::new();
    for dependency in &chart.dependencies {
        for wanted in &dependency.imports {
            let text = |field: &str| wanted.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (child, parent) = match wanted {
                Value::String(name) => (format!("exports.{name}"), ".".to_owned()),
                Value::Object(_) => (text("child"), text("parent")),
                _ => continue,
            };
            let Some(Value::Object(found)) = at(&whole, &format!("{}.{child}", dependency.name)) else { continue };
            let placed = match parent.as_str() {
                "." => found.clone(),
                parent => parent
                    .rsplit('.')
                    .fold(found.clone(), |inner, part| Map::from_iter([(part.to_owned(), Value::Object(inner))])),
            };
            tables(&mut imported, placed, true);
        }
    }
    tables(&mut whole, imported, true);
    chart.values = whole;
    Ok(())
}
