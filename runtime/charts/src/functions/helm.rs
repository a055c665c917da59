//! Helm's own functions: what other templates and the cluster say, and the chart's files.

use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Made, exactly, text};
use crate::template::Engine;
use crate::value::{Entries, Object, Value};

pub(super) fn find(name: &str) -> Option<fn(&mut Engine<'_>, &[Value]) -> Made> {
    Some(match name {
        "include" => |engine, given| {
            let [name, dot] = exactly::<2>(given)?;
            engine.include(text(name)?, dot).map(Value::str)
        },
        "tpl" => |engine, given| {
            let [what, dot] = exactly::<2>(given)?;
            engine.tpl(text(what)?, dot).map(Value::str)
        },
        "lookup" => |engine, given| {
            let [api_version, kind, namespace, name] = exactly::<4>(given)?;
            let found = engine.host.lookup(text(api_version)?, text(kind)?, text(namespace)?, text(name)?)?;
            Ok(found.map_or_else(|| Value::map(Entries::new()), |found| Value::from_json(&found)))
        },
        _ => return None,
    })
}

/// A method of `.Files`; a file's name is a field of it too.
pub(super) fn file_method(files: &[(Rc<str>, Rc<[u8]>)], name: &str, given: &[Value]) -> Option<Made> {
    let content = |bytes: &[u8]| Value::str(String::from_utf8_lossy(bytes));
    let find = |name: &str| files.iter().find(|(known, _)| &**known == name).map_or(&[][..], |(_, bytes)| bytes);
    Some(match name {
        "Get" | "GetBytes" => exactly::<1>(given).and_then(|[name]| Ok(content(find(text(name)?)))),
        "Glob" => exactly::<1>(given).and_then(|[pattern]| {
            let pattern = text(pattern)?;
            let found = files.iter().filter(|(name, _)| glob(pattern, name)).cloned();
            Ok(Value::object(Object::Files(found.collect())))
        }),
        "Lines" => exactly::<1>(given).and_then(|[name]| {
            let content = String::from_utf8_lossy(find(text(name)?)).into_owned();
            if content.is_empty() {
                return Ok(Value::list(Vec::new()));
            }
            let content = content.strip_suffix('\n').unwrap_or(&content);
            Ok(Value::strings(content.split('\n')))
        }),
        "AsConfig" => Ok(as_yaml(files, |bytes| String::from_utf8_lossy(bytes).into_owned())),
        "AsSecrets" => Ok(as_yaml(files, |bytes| BASE64_STANDARD.encode(bytes))),
        name => Ok(files.iter().find(|(known, _)| &**known == name).map_or(Value::Nil, |(_, bytes)| content(bytes))),
    })
}

/// The files by the last parts of their names.
fn as_yaml(files: &[(Rc<str>, Rc<[u8]>)], content: fn(&[u8]) -> String) -> Value {
    if files.is_empty() {
        return Value::str("");
    }
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let map = files.iter().map(|(name, bytes)| (last(name), content(bytes).into())).collect();
    let text = crate::yaml::to_string(&serde_json::Value::Object(map)).unwrap_or_default();
    Value::str(text.strip_suffix('\n').unwrap_or(&text))
}

/// gobwas' patterns with `/` between: `*`, `**`, `?`, `[a-z]`, `{a,b}`.
pub(crate) fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Each step of a match takes some of this: patterns can be made to take for ever.
    matches(&pattern, &name, &mut 100_000)
}

fn matches(pattern: &[char], name: &[char], fuel: &mut u32) -> bool {
    let Some(left) = fuel.checked_sub(1) else { return false };
    *fuel = left;
    match pattern {
        [] => name.is_empty(),
        ['*', '*', rest @ ..] => (0..=name.len()).any(|at| matches(rest, &name[at..], fuel)),
        ['*', rest @ ..] => {
            let reach = name.iter().position(|c| *c == '/').unwrap_or(name.len());
            (0..=reach).any(|at| matches(rest, &name[at..], fuel))
        }
        ['?', rest @ ..] => name.first().is_some_and(|c| *c != '/') && matches(rest, &name[1..], fuel),
        ['\\', c, rest @ ..] => name.first() == Some(c) && matches(rest, &name[1..], fuel),
        ['[', rest @ ..] => {
            let Some(end) = rest.iter().position(|c| *c == ']') else { return false };
            let (negated, set) = match &rest[..end] {
                ['!', set @ ..] => (true, set),
                set => (false, set),
            };
            let Some(c) = name.first() else { return false };
            let within = match set {
                [from, '-', to] => (from..=to).contains(&c),
                set => set.contains(c),
            };
            within != negated && matches(&rest[end + 1..], &name[1..], fuel)
        }
        ['{', rest @ ..] => {
            let Some(end) = rest.iter().position(|c| *c == '}') else { return false };
            rest[..end].split(|c| *c == ',').any(|choice| {
                let whole: Vec<char> = choice.iter().chain(&rest[end + 1..]).copied().collect();
                matches(&whole, name, fuel)
            })
        }
        [c, rest @ ..] => name.first() == Some(c) && matches(rest, &name[1..], fuel),
    }
}
