//! sprig's functions of patterns.

use regex_lite::{NoExpand, Regex};

use super::{Made, exactly, int, text};
use crate::value::Value;

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "regexMatch" | "mustRegexMatch" => |given| {
            let [pattern, what] = exactly::<2>(given)?;
            Ok(Value::Bool(regex(pattern)?.is_match(text(what)?)))
        },
        "regexFind" | "mustRegexFind" => |given| {
            let [pattern, what] = exactly::<2>(given)?;
            Ok(Value::str(regex(pattern)?.find(text(what)?).map_or("", |found| found.as_str())))
        },
        "regexFindAll" | "mustRegexFindAll" => |given| {
            let [pattern, what, count] = exactly::<3>(given)?;
            let (regex, what) = (regex(pattern)?, text(what)?);
            let found = regex.find_iter(what).take(limit(count)?).map(|found| found.as_str());
            Ok(Value::strings(found))
        },
        "regexReplaceAll" | "mustRegexReplaceAll" => |given| {
            let [pattern, what, with] = exactly::<3>(given)?;
            Ok(Value::str(regex(pattern)?.replace_all(text(what)?, text(with)?)))
        },
        "regexReplaceAllLiteral" | "mustRegexReplaceAllLiteral" => |given| {
            let [pattern, what, with] = exactly::<3>(given)?;
            Ok(Value::str(regex(pattern)?.replace_all(text(what)?, NoExpand(text(with)?))))
        },
        "regexSplit" | "mustRegexSplit" => |given| {
            let [pattern, what, count] = exactly::<3>(given)?;
            let (regex, what) = (regex(pattern)?, text(what)?);
            Ok(Value::strings(regex.splitn(what, limit(count)?)))
        },
        "regexQuoteMeta" => |given| Ok(Value::str(regex_lite::escape(text(&exactly::<1>(given)?[0])?))),
        _ => return None,
    })
}

fn regex(pattern: &Value) -> Result<Regex, String> {
    Regex::new(text(pattern)?).map_err(|error| format!("error parsing regexp: {error}"))
}

/// Below zero is without a limit.
fn limit(count: &Value) -> Result<usize, String> {
    Ok(usize::try_from(int(count)?).unwrap_or(usize::MAX))
}
