//! sprig's functions of paths and URLs.

use super::{Made, exactly, text};
use crate::value::Value;

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "base" | "osBase" => |given| Ok(Value::str(base(text(&exactly::<1>(given)?[0])?))),
        "dir" | "osDir" => |given| {
            let path = text(&exactly::<1>(given)?[0])?;
            Ok(Value::str(clean(path.rfind('/').map_or("", |at| &path[..=at]))))
        },
        "clean" | "osClean" => |given| Ok(Value::str(clean(text(&exactly::<1>(given)?[0])?))),
        "ext" | "osExt" => |given| {
            let path = text(&exactly::<1>(given)?[0])?;
            let last = path.rsplit('/').next().unwrap_or_default();
            Ok(Value::str(last.rfind('.').map_or("", |at| &last[at..])))
        },
        "isAbs" | "osIsAbs" => |given| Ok(Value::Bool(text(&exactly::<1>(given)?[0])?.starts_with('/'))),
        "urlParse" => |given| Ok(url(text(&exactly::<1>(given)?[0])?)),
        "urlJoin" => |given| {
            let [parts] = exactly::<1>(given)?;
            let part = |name: &str| parts.get(name).map(|value| value.to_string()).unwrap_or_default();
            let mut out = String::new();
            if !part("scheme").is_empty() {
                out += &format!("{}:", part("scheme"));
            }
            if !part("host").is_empty() {
                out += "//";
                if !part("userinfo").is_empty() {
                    out += &format!("{}@", part("userinfo"));
                }
                out += &part("host");
            }
            out += &part("path");
            for (mark, name) in [('?', "query"), ('#', "fragment")] {
                if !part(name).is_empty() {
                    out.push(mark);
                    out += &part(name);
                }
            }
            Ok(Value::str(out))
        },
        // Names are not looked up for charts, as Helm does not unless it is told to.
        "getHostByName" => |given| {
            exactly::<1>(given)?;
            Ok(Value::str(""))
        },
        _ => return None,
    })
}

fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/" } else { path.rsplit('/').next().unwrap_or(path) }
}

/// `path.Clean`
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn url(text: &str) -> Value {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (scheme, rest) = rest.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).unwrap_or(("", rest));
    let (authority, path, opaque) = match rest.strip_prefix("//") {
        Some(rest) => {
            let at = rest.find('/').unwrap_or(rest.len());
            (&rest[..at], &rest[at..], "")
        }
        None if !scheme.is_empty() && !rest.starts_with('/') => ("", "", rest),
        None => ("", rest, ""),
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let hostname = match host.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or(inner),
        None => host.split(':').next().unwrap_or(host),
    };
    Value::of([
        ("scheme", Value::str(scheme.to_lowercase())),
        ("host", Value::str(host)),
        ("hostname", Value::str(hostname)),
        ("path", Value::str(path)),
        ("query", Value::str(query)),
        ("opaque", Value::str(opaque)),
        ("fragment", Value::str(fragment)),
        ("userinfo", Value::str(user)),
    ])
}
