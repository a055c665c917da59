//! `metadata.managedFields`: who owns which fields, read and written.

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::set::Set;
use crate::time;
use crate::typed::Type;

/// Most owners by update; the oldest beyond are put together.
const MAX_UPDATERS: usize = 10;
/// The manager under which they are put together.
const ANCIENT: &str = "ancient-changes";

/// How an owner came to own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns: entries with the same of these are one. An applier is the same in every version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Id {
    pub(super) fn is(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The owner as messages about conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut out = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }
}

/// One owner and what it owns.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) time: Option<String>,
    pub(super) fields: Set,
    /// As it was read, as long as it is unchanged.
    raw: Option<Value>,
}

impl Entry {
    pub(super) fn new(id: Id, fields: Set, time: Option<String>) -> Self {
        Self { id, time, fields, raw: None }
    }

    fn seconds(&self) -> i64 {
        self.time.as_deref().and_then(time::parse).map_or(0, |t| t.as_second())
    }

    fn read(raw: &Value, index: usize) -> Result<Self, String> {
        let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
        }
        let fields = match raw.get("fieldsV1") {
            None | Some(Value::Null) => Set::default(),
            Some(fields) => Set::from_value(fields).map_err(|e| format!("error decoding set: {e}"))?,
        };
        let id = Id {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
        };
        let time = Some(text("time")).filter(|t| !t.is_empty()).map(str::to_owned);
        Ok(Self { id, time, fields, raw: Some(raw.clone()) })
    }

    fn write(self) -> Value {
        if let Some(raw) = self.raw {
            return raw;
        }
        let mut map = Map::new();
        map.insert("apiVersion".into(), self.id.api_version.into());
        map.insert("fieldsType".into(), "FieldsV1".into());
        map.insert("fieldsV1".into(), self.fields.to_value());
        map.insert("operation".into(), self.id.operation.as_str().into());
        let optional = [("manager", self.id.manager), ("subresource", self.id.subresource)];
        for (key, text) in optional.into_iter().chain(self.time.map(|t| ("time", t))).filter(|(_, t)| !t.is_empty()) {
            map.insert(key.into(), text.into());
        }
        Value::Object(map)
    }

    /// Takes fields away.
    pub(super) fn lose(&mut self, fields: &Set) {
        if self.fields.subtract(fields) {
            self.raw = None;
        }
    }
}

/// All owners of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(pub(super) Vec<Entry>);

impl Owners {
    /// Reads `managedFields`; absent means nobody.
    pub(super) fn read(list: Option<&Value>) -> Result<Self, String> {
        let mut out: Vec<Entry> = Vec::new();
        for (i, raw) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let entry = Entry::read(raw, i)?;
            match out.iter_mut().find(|e| e.id.is(&entry.id)) {
                Some(known) => *known = entry,
                None => out.push(entry),
            }
        }
        Ok(Self(out))
    }

    /// Writes `managedFields`; nothing if nobody owns anything. Appliers come first, then by time, then by name.
    pub(super) fn write(mut self) -> Option<Value> {
        self.0.retain(|e| !e.fields.is_empty());
        self.0.sort_by(|a, b| {
            let key = |e: &Entry| (e.id.operation, e.seconds());
            let names = |e: &'_ Entry| [e.id.manager.clone(), e.id.api_version.clone(), e.id.subresource.clone()];
            key(a).cmp(&key(b)).then_with(|| names(a).cmp(&names(b)))
        });
        (!self.0.is_empty()).then(|| Value::Array(self.0.into_iter().map(Entry::write).collect()))
    }

    /// Drops who owns in a version that is served no more, and follows changes of the schema.
    pub(super) fn reconcile<T: Type>(&mut self, ty: T, known: impl Fn(&str) -> bool) {
        self.0.retain_mut(|entry| {
            if !known(&entry.id.api_version) {
                return false;
            }
            if entry.fields.reconcile(ty) {
                entry.raw = None;
            }
            true
        });
    }

    /// Takes the entry of an owner out.
    pub(super) fn take(&mut self, id: &Id) -> Option<Entry> {
        let at = self.0.iter().position(|e| e.id.is(id))?;
        Some(self.0.remove(at))
    }

    /// Puts the oldest owners by update together until there are few enough, by version.
    pub(super) fn cap(&mut self) {
        let is_updater = |e: &Entry| e.id.operation == Operation::Update;
        let mut over = self.0.iter().filter(|e| is_updater(e)).count().saturating_sub(MAX_UPDATERS);
        if over == 0 {
            return;
        }
        self.0.sort_by_cached_key(|e| {
            let id = &e.id;
            (e.seconds(), id.manager.clone(), Reverse(id.operation), id.api_version.clone(), id.subresource.clone())
        });
        // The first of a version waits for a second one to be put together with.
        let mut waiting: Vec<Entry> = Vec::new();
        let mut buckets: Vec<Entry> = Vec::new();
        let mut rest = Vec::with_capacity(self.0.len());
        for entry in std::mem::take(&mut self.0) {
            if over == 0 || !is_updater(&entry) {
                rest.push(entry);
                continue;
            }
            let same = |e: &Entry| e.id.api_version == entry.id.api_version;
            if let Some(bucket) = buckets.iter_mut().find(|e| same(e)) {
                bucket.fields = std::mem::take(&mut bucket.fields).union(entry.fields);
                bucket.time = entry.time;
                over -= 1;
            } else if let Some(at) = waiting.iter().position(same) {
                let first = waiting.remove(at);
                let id = Id { manager: ANCIENT.into(), subresource: String::new(), ..entry.id };
                buckets.push(Entry::new(id, first.fields.union(entry.fields), entry.time));
                over -= 1;
            } else {
                waiting.push(entry);
            }
        }
        rest.extend(waiting);
        for bucket in buckets {
            // An older bucket of the same version that was not among the oldest.
            match rest.iter_mut().find(|e| e.id.is(&bucket.id)) {
                Some(known) => {
                    *known = Entry::new(bucket.id, std::mem::take(&mut known.fields).union(bucket.fields), bucket.time);
                }
                None => rest.push(bucket),
            }
        }
        self.0 = rest;
    }
}

/// True if a writer asks to forget all owners: an empty list, or one with a single empty entry.
pub(super) fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => *only == json!({}),
        _ => false,
    }
}
