//! The part of kubectl's JSONPath that columns are written in: fields, indexes, wildcards and filters on one comparison.

use serde_json::Value;

/// A path that has been read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Range(Option<i64>, Option<i64>),
    All,
    /// Anything below, at any depth.
    Below,
    Filter(Vec<Step>, Option<(Comparison, Operand)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Constant(Value),
    Path(Vec<Step>),
}

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        steps(text.strip_prefix('$').unwrap_or(text)).map(Self)
    }

    /// The first value that the path leads to.
    pub(super) fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        let mut found = Vec::new();
        follow(&self.0, value, &mut found);
        found.into_iter().next()
    }
}

fn steps(text: &str) -> Option<Vec<Step>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match first {
            '.' if rest.starts_with("..") => {
                out.push(Step::Below);
                rest = &rest[1..];
                if rest.len() == 1 {
                    return None;
                }
            }
            '.' => {
                rest = &rest[1..];
                if rest.is_empty() || rest.starts_with('[') {
                    continue;
                }
                let (name, after) = name(rest);
                out.push(if name == "*" { Step::All } else { Step::Field(name) });
                rest = after;
            }
            '[' => {
                let end = closing(rest)?;
                out.push(bracket(rest[1..end].trim())?);
                rest = &rest[end + 1..];
            }
            _ if out.is_empty() => {
                let (name, after) = name(rest);
                out.push(Step::Field(name));
                rest = after;
            }
            _ => return None,
        }
    }
    Some(out)
}

/// A field's name, in which a backslash takes the meaning from a dot, and what follows it.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket that opens a text is closed.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))
}

fn bracket(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(text) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return filter_of(filter.trim());
    }
    if let Some((from, to)) = text.split_once(':') {
        let bound = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        return Some(Step::Range(bound(from.trim())?, bound(to.trim())?));
    }
    text.parse().ok().map(Step::Index)
}

fn filter_of(text: &str) -> Option<Step> {
    const SIGNS: [(&str, Comparison); 6] = [
        ("==", Comparison::Equal),
        ("!=", Comparison::Unequal),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let found = SIGNS.iter().filter_map(|(sign, comparison)| Some((text.find(sign)?, *sign, *comparison)));
    let Some((at, sign, comparison)) = found.min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len()))) else {
        return Some(Step::Filter(steps(text.strip_prefix('@')?)?, None));
    };
    let left = steps(text[..at].trim().strip_prefix('@')?)?;
    let right = text[at + sign.len()..].trim();
    let operand = match (quoted(right), right.strip_prefix('@')) {
        (Some(text), _) => Operand::Constant(text.into()),
        (_, Some(path)) => Operand::Path(steps(path)?),
        _ => Operand::Constant(serde_json::from_str(right).ok()?),
    };
    Some(Step::Filter(left, Some((comparison, operand))))
}

fn follow<'v>(steps: &[Step], value: &'v Value, found: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match step {
        Step::Field(name) => {
            if let Some(value) = value.get(name) {
                follow(rest, value, found);
            }
        }
        Step::Index(at) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let at =
                if *at < 0 { list.len().checked_sub(at.unsigned_abs() as usize) } else { usize::try_from(*at).ok() };
            if let Some(value) = at.and_then(|at| list.get(at)) {
                follow(rest, value, found);
            }
        }
        Step::Range(from, to) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let place = |at: i64| if at < 0 { list.len() as i64 + at } else { at }.clamp(0, list.len() as i64) as usize;
            let (from, to) = (place(from.unwrap_or(0)), to.map_or(list.len(), place));
            list.get(from..to).into_iter().flatten().for_each(|value| follow(rest, value, found));
        }
        Step::All => match value {
            Value::Array(list) => list.iter().for_each(|value| follow(rest, value, found)),
            Value::Object(map) => map.values().for_each(|value| follow(rest, value, found)),
            _ => {}
        },
        Step::Below => {
            follow(rest, value, found);
            match value {
                Value::Array(list) => list.iter().for_each(|value| follow(steps, value, found)),
                Value::Object(map) => map.values().for_each(|value| follow(steps, value, found)),
                _ => {}
            }
        }
        Step::Filter(left, comparison) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            list.iter().filter(|item| holds(left, comparison.as_ref(), item)).for_each(|v| follow(rest, v, found));
        }
    }
}

fn holds(left: &[Step], comparison: Option<&(Comparison, Operand)>, item: &Value) -> bool {
    let at = |steps: &[Step]| {
        let mut found = Vec::new();
        follow(steps, item, &mut found);
        found.first().map(|v| (*v).clone())
    };
    let Some(left) = at(left) else { return false };
    let Some((comparison, operand)) = comparison else { return true };
    let right = match operand {
        Operand::Constant(value) => value.clone(),
        Operand::Path(steps) => match at(steps) {
            Some(value) => value,
            None => return false,
        },
    };
    let order = match (&left, &right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => (a == b).then_some(std::cmp::Ordering::Equal),
    };
    match comparison {
        Comparison::Equal => order.is_some_and(|o| o.is_eq()),
        Comparison::Unequal => !order.is_some_and(|o| o.is_eq()),
        Comparison::Less => order.is_some_and(|o| o.is_lt()),
        Comparison::LessOrEqual => order.is_some_and(|o| o.is_le()),
        Comparison::Greater => order.is_some_and(|o| o.is_gt()),
        Comparison::GreaterOrEqual => order.is_some_and(|o| o.is_ge()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_fields_elements_and_what_a_filter_lets_through() {
        let object = json!({
            "a": {"b.c/d": 1, "list": [{"type": "Up", "n": 1}, {"type": "Ready", "n": 2}]},
            "top": "x",
        });
        let cases = [
            (".a['b.c/d']", Some(json!(1))),
            (".a.b\\.c/d", Some(json!(1))),
            ("{.a.list[0].n}", Some(json!(1))),
            (".a.list[-1].type", Some(json!("Ready"))),
            (".a.list[*].n", Some(json!(1))),
            (".a.list[?(@.type==\"Ready\")].n", Some(json!(2))),
            (".a.list[?(@.type=='No')].n", None),
            (".a.list[?(@.n>1)].type", Some(json!("Ready"))),
            (".a.list[1:].n", Some(json!(2))),
            ("..n", Some(json!(1))),
            ("$.top", Some(json!("x"))),
            (".a.none.deeper", None),
        ];
        for (path, wanted) in cases {
            let read = JsonPath::read(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(read.first(&object).cloned(), wanted, "{path}");
        }
        assert_eq!(JsonPath::read(".a[b"), None);
    }
}
