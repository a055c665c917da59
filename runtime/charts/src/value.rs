//! What flows through templates: Go's `interface{}` as far as charts see it. Maps are shared and changed in place, as Go's are; lists are
//! shared and never changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use crate::number;
use crate::semver::Version;

/// How deep values are followed; what lies deeper is cut off. Maps may hold themselves.
const DEPTH: usize = 200;

/// A map's entries, in the order that Go prints and ranges over them.
pub(crate) type Entries = BTreeMap<Rc<str>, Value>;

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    List(Rc<Vec<Value>>),
    Map(Rc<RefCell<Entries>>),
    Object(Rc<Object>),
}

/// Values with methods.
#[derive(Debug)]
pub(crate) enum Object {
    /// `.Files`: names and contents.
    Files(Vec<(Rc<str>, Rc<[u8]>)>),
    /// `.Capabilities.APIVersions`.
    Versions(Vec<String>),
    /// `.Capabilities.KubeVersion`: version, major, minor.
    KubeVersion(Rc<str>, Rc<str>, Rc<str>),
    /// What `semver` gives.
    Semver(Version),
    /// A time, in seconds since the epoch.
    Time(i64),
}

impl Value {
    pub(crate) fn str(text: impl AsRef<str>) -> Self {
        Self::Str(text.as_ref().into())
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    pub(crate) fn map(entries: Entries) -> Self {
        Self::Map(Rc::new(RefCell::new(entries)))
    }

    /// A map of these.
    pub(crate) fn of<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    pub(crate) fn strings<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::list(texts.into_iter().map(Self::str).collect())
    }

    pub(crate) fn object(object: Object) -> Self {
        Self::Object(Rc::new(object))
    }

    /// JSON as Go reads it into an `interface{}`: all numbers are floats.
    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Float(number.as_f64().unwrap_or_default()),
            serde_json::Value::String(text) => Self::str(text),
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => {
                Self::map(map.iter().map(|(key, value)| (key.as_str().into(), Self::from_json(value))).collect())
            }
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        self.json_at(0)
    }

    fn json_at(&self, depth: usize) -> serde_json::Value {
        if depth > DEPTH {
            return serde_json::Value::Null;
        }
        match self {
            Self::Nil => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            // Go's JSON has no point in whole numbers.
            Self::Float(value) if *value == value.trunc() && value.abs() < 9e15 => (*value as i64).into(),
            Self::Float(value) => serde_json::Number::from_f64(*value).map_or(serde_json::Value::Null, Into::into),
            Self::Str(text) => text.as_ref().into(),
            Self::List(items) => items.iter().map(|item| item.json_at(depth + 1)).collect(),
            Self::Map(map) => {
                let entries = map.borrow();
                entries.iter().map(|(key, value)| (key.to_string(), value.json_at(depth + 1))).collect()
            }
            Self::Object(object) => match &**object {
                Object::Files(files) => files
                    .iter()
                    .map(|(name, bytes)| (name.to_string(), String::from_utf8_lossy(bytes).into_owned()))
                    .collect::<serde_json::Value>(),
                Object::Versions(versions) => versions.iter().map(String::as_str).collect(),
                Object::KubeVersion(version, major, minor) => {
                    serde_json::json!({"Version": &**version, "Major": &**major, "Minor": &**minor})
                }
                Object::Semver(_) | Object::Time(_) => self.to_string().into(),
            },
        }
    }

    /// Whether `if` takes it for true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.borrow().is_empty(),
            Self::Object(object) => match &**object {
                Object::Files(files) => !files.is_empty(),
                Object::Versions(versions) => !versions.is_empty(),
                _ => true,
            },
        }
    }

    /// `reflect.Kind`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "invalid",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Object(object) => match &**object {
                Object::Files(_) => "map",
                Object::Versions(_) => "slice",
                Object::KubeVersion(..) | Object::Time(_) => "struct",
                Object::Semver(_) => "ptr",
            },
        }
    }

    /// `%T`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Object(object) => match &**object {
                Object::Files(_) => "engine.files",
                Object::Versions(_) => "chartutil.VersionSet",
                Object::KubeVersion(..) => "chartutil.KubeVersion",
                Object::Semver(_) => "*semver.Version",
                Object::Time(_) => "time.Time",
            },
            _ => self.kind(),
        }
    }

    /// An entry of a map.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        match self {
            Self::Map(map) => map.borrow().get(key).cloned(),
            _ => None,
        }
    }

    /// Sets an entry of a map.
    pub(crate) fn set(&self, key: &str, value: Self) {
        if let Self::Map(map) = self {
            map.borrow_mut().insert(key.into(), value);
        }
    }

    /// A copy that shares no map with this.
    pub(crate) fn deep_copy(&self) -> Self {
        self.copy_at(0)
    }

    fn copy_at(&self, depth: usize) -> Self {
        match self {
            _ if depth > DEPTH => Self::Nil,
            Self::List(items) => Self::list(items.iter().map(|item| item.copy_at(depth + 1)).collect()),
            Self::Map(map) => {
                let entries = map.borrow();
                Self::map(entries.iter().map(|(key, value)| (key.clone(), value.copy_at(depth + 1))).collect())
            }
            other => other.clone(),
        }
    }

    /// `reflect.DeepEqual`.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        self.equals_at(other, 0)
    }

    fn equals_at(&self, other: &Self, depth: usize) -> bool {
        match (self, other) {
            _ if depth > DEPTH => true,
            (Self::Nil, Self::Nil) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.equals_at(b, depth + 1))
            }
            (Self::Map(a), Self::Map(b)) => {
                Rc::ptr_eq(a, b) || {
                    let (a, b) = (a.borrow(), b.borrow());
                    a.len() == b.len()
                        && a.iter()
                            .zip(b.iter())
                            .all(|((a_key, a), (b_key, b))| a_key == b_key && a.equals_at(b, depth + 1))
                }
            }
            (Self::Object(a), Self::Object(b)) => Rc::ptr_eq(a, b) || self.to_string() == other.to_string(),
            _ => false,
        }
    }

    fn print(&self, into: &mut String, depth: usize) {
        if depth > DEPTH {
            return;
        }
        match self {
            Self::Nil => into.push_str("<nil>"),
            Self::Bool(value) => into.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => _ = write!(into, "{value}"),
            Self::Float(value) => into.push_str(&number::shortest(*value)),
            Self::Str(text) => into.push_str(text),
            Self::List(items) => {
                into.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        into.push(' ');
                    }
                    item.print(into, depth + 1);
                }
                into.push(']');
            }
            Self::Map(map) => {
                into.push_str("map[");
                for (at, (key, value)) in map.borrow().iter().enumerate() {
                    if at > 0 {
                        into.push(' ');
                    }
                    into.push_str(key);
                    into.push(':');
                    value.print(into, depth + 1);
                }
                into.push(']');
            }
            Self::Object(object) => match &**object {
                Object::Files(files) => {
                    let names: Vec<&str> = files.iter().map(|(name, _)| &**name).collect();
                    _ = write!(into, "map[{}]", names.join(" "));
                }
                Object::Versions(versions) => _ = write!(into, "[{}]", versions.join(" ")),
                Object::KubeVersion(version, ..) => into.push_str(version),
                Object::Semver(version) => _ = write!(into, "{version}"),
                Object::Time(seconds) => into.push_str(&crate::functions::dates::printed(*seconds)),
            },
        }
    }
}

/// As `%v`.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.print(&mut text, 0);
        f.write_str(&text)
    }
}
