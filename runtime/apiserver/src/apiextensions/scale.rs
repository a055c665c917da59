//! Where the objects of a custom kind keep what their scale shows.

use kiln_apimachinery::{FieldError, meta, type_of};
use serde_json::{Value, json};

/// The paths of a definition's `scale`.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    spec: Vec<String>,
    status: Vec<String>,
    selector: Option<Vec<String>>,
}

fn split(path: &str) -> Vec<String> {
    path.trim_start_matches('.').split('.').map(str::to_owned).collect()
}

fn dotted(path: &[String]) -> String {
    format!(".{}", path.join("."))
}

fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

impl Paths {
    /// Those of a version, if it has a scale.
    pub(super) fn of(version: &Value) -> Option<Self> {
        let scale = meta::at(version, &["subresources", "scale"]).filter(|s| s.is_object())?;
        let path = |key: &str| split(meta::text(scale, &[key]));
        let selector = Some(meta::text(scale, &["labelSelectorPath"])).filter(|s| !s.is_empty()).map(split);
        Some(Self { spec: path("specReplicasPath"), status: path("statusReplicasPath"), selector })
    }

    /// The replicas that are wanted; `None` if the object says nothing of them.
    pub(crate) fn wanted(&self, object: &Value) -> Option<i64> {
        at(object, &self.spec).and_then(Value::as_i64)
    }

    /// Where the replicas that are wanted stand, in words.
    pub(crate) fn wanted_path(&self) -> String {
        dotted(&self.spec)
    }

    /// The replicas that there are.
    pub(crate) fn found(&self, object: &Value) -> i64 {
        at(object, &self.status).and_then(Value::as_i64).unwrap_or(0)
    }

    /// The text of the selector.
    pub(crate) fn selector<'v>(&self, object: &'v Value) -> &'v str {
        let found = self.selector.as_ref().and_then(|path| at(object, path));
        found.and_then(Value::as_str).unwrap_or_default()
    }

    /// Puts the replicas that are wanted into an object.
    pub(crate) fn set(&self, object: &mut Value, replicas: &Value) {
        let Some((last, path)) = self.spec.split_last() else { return };
        let parent = path.iter().fold(object, |value, key| meta::object_mut(value).entry(key).or_insert(json!({})));
        meta::object_mut(parent).insert(last.clone(), replicas.clone());
    }

    /// Complaints about numbers of replicas and selectors that are none.
    pub(super) fn validate(&self, object: &Value, spec: bool, status: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (path, _) in [(&self.spec, spec), (&self.status, status)].iter().filter(|(_, asked)| *asked) {
            let Some(found) = at(object, path) else { continue };
            let why = match found.as_i64() {
                None => {
                    format!("{} accessor error: {found} is of the type {}, expected int64", dotted(path), go(found))
                }
                Some(n) if n < 0 => "should be a non-negative integer".to_owned(),
                Some(n) if n > i64::from(i32::MAX) => format!("should be less than or equal to {}", i32::MAX),
                Some(_) => continue,
            };
            let shown = if found.is_i64() { found.clone() } else { 0.into() };
            errors.push(FieldError::invalid(dotted(path), &shown, &why));
        }
        if let (true, Some(path)) = (status, &self.selector)
            && let Some(found) = at(object, path).filter(|v| !v.is_string())
        {
            let why = format!("{} accessor error: {found} is of the type {}, expected string", dotted(path), go(found));
            errors.push(FieldError::invalid(dotted(path), &"".into(), &why));
        }
        errors
    }
}

/// What Go calls the type of a JSON value.
fn go(value: &Value) -> &'static str {
    if value.is_null() { "<nil>" } else { type_of(value) }
}
