//! The targets, by their names.

mod dns;
mod doors;
mod objects;
mod patches;
mod server;
mod text;

use serde_json::Value;

/// What a fuzzer calls.
pub(crate) type Target = fn(&[u8]);

/// All of them.
pub(crate) const ALL: &[(&str, Target)] = &[
    ("json", objects::json),
    ("yaml", doors::yaml),
    ("protobuf", objects::protobuf),
    ("fields", objects::fields),
    ("labels", text::labels),
    ("field_selector", text::fields),
    ("quantity", text::quantity),
    ("json_patch", patches::json),
    ("merge_patch", patches::merge),
    ("strategic_patch", patches::strategic),
    ("apply", patches::apply),
    ("request", doors::request),
    ("accept", doors::accept),
    ("audit_policy", doors::audit_policy),
    ("token", doors::token),
    ("certificate", doors::certificate),
    ("spdy", doors::spdy),
    ("continue_token", doors::continue_token),
    ("etcd", doors::etcd),
    ("server", server::server),
    ("dns_question", dns::question),
    ("dns_answer", dns::answer),
    ("dns_corefile", dns::corefile),
];

/// The parts of an input, which line breaks around a line of dashes part.
fn parts<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(data).ok()?;
    text.splitn(N, "\n---\n").collect::<Vec<_>>().try_into().ok()
}

/// An object of a kind that is served, checked as a write is.
fn object(text: &str) -> Option<(kiln_schema::TypeRef<'static>, Value)> {
    let mut value = kiln_apimachinery::decode::json(text.as_bytes()).ok()?.value;
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let ty = kiln_schema::lookup(word("apiVersion"), word("kind"))?;
    if kiln_apimachinery::decode::deeper_than(&value, kiln_apimachinery::decode::MAX_DEPTH) {
        return None;
    }
    kiln_schema::decode::check(ty, &mut value).ok()?;
    Some((ty, value))
}

/// What every stored object must be: text that reads back as what it was.
fn survives(value: &Value) {
    let again: Value = serde_json::from_str(&value.to_string()).expect("what was written is read");
    assert_eq!(&again, value);
}
