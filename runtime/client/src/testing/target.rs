//! What a path names.

use std::borrow::Cow;

use kiln_apimachinery::{FieldSelector, meta};
use serde_json::Value;

/// A collection, an object or a subresource, and the part of the query that matters.
#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    /// `/api/v1` or `/apis/<group>/<version>`.
    pub(super) api: String,
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) subresource: String,
    pub(super) fields: String,
    pub(super) watch_after: Option<u64>,
}

impl Target {
    pub(super) fn parse(uri: &str) -> Self {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let api_segments = if segments[0] == "api" { 2 } else { 3 };
        let rest = segments.split_off(api_segments.min(segments.len()));
        let mut target = Self { api: format!("/{}", segments.join("/")), ..Self::default() };
        let mut rest = rest.as_slice();
        if let ["namespaces", namespace, resource, ..] = rest
            && !["status", "finalize"].contains(resource)
        {
            (*namespace).clone_into(&mut target.namespace);
            rest = &rest[2..];
        }
        let mut rest = rest.iter().map(|segment| (*segment).to_owned());
        target.resource = rest.next().unwrap_or_default();
        target.name = rest.next().unwrap_or_default();
        target.subresource = rest.next().unwrap_or_default();
        let mut watch = false;
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "watch" => watch = value == "1",
                "resourceVersion" if watch => target.watch_after = Some(value.parse().unwrap_or(0)),
                "fieldSelector" => target.fields = unescape(value),
                _ => {}
            }
        }
        target
    }

    /// The name of the collection over all namespaces.
    pub(super) fn collection(&self) -> String {
        format!("{}/{}", self.api, self.resource)
    }

    /// Where an object is kept: collection, namespace, name.
    pub(super) fn key(&self) -> (String, String, String) {
        (self.collection(), self.namespace.clone(), self.name.clone())
    }

    /// Whether an object of the collection is meant.
    pub(super) fn selects(&self, object: &Value) -> bool {
        let here = self.namespace.is_empty() || meta::namespace(object) == self.namespace;
        here && FieldSelector::parse(&self.fields).is_ok_and(|selector| {
            selector.matches(|field| Cow::Borrowed(meta::text(object, &field.split('.').collect::<Vec<_>>())))
        })
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
