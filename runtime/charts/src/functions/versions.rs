//! sprig's functions of semantic versions.

use super::{Made, exactly, text};
use crate::semver::{Version, satisfies};
use crate::value::{Object, Value};

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "semver" => |given| Ok(Value::object(Object::Semver(parse(text(&exactly::<1>(given)?[0])?)?))),
        "semverCompare" => |given| {
            let [constraint, version] = exactly::<2>(given)?;
            let (constraint, version) = (text(constraint)?, parse(text(version)?)?);
            let within = satisfies(constraint, &version);
            within.map(Value::Bool).ok_or_else(|| format!("improper constraint: {constraint}"))
        },
        _ => return None,
    })
}

fn parse(text: &str) -> Result<Version, String> {
    Version::parse(text).ok_or_else(|| "invalid semantic version".to_owned())
}

pub(super) fn method(version: &Version, name: &str, given: &[Value]) -> Option<Made> {
    let number = |value: u64| Ok(Value::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    Some(match name {
        "Major" => number(version.major),
        "Minor" => number(version.minor),
        "Patch" => number(version.patch),
        "Prerelease" => Ok(Value::str(&version.prerelease)),
        "Metadata" => Ok(Value::str(&version.metadata)),
        "Original" => Ok(Value::str(&version.original)),
        "String" => Ok(Value::str(version.to_string())),
        "Compare" => exactly::<1>(given).and_then(|[other]| match other {
            Value::Object(object) => match &**object {
                Object::Semver(other) => Ok(Value::Int(version.compare(other) as i64)),
                _ => Err("no version to compare with".to_owned()),
            },
            _ => Err("no version to compare with".to_owned()),
        }),
        _ => return None,
    })
}
