//! How a change is rolled out.

use kiln_apimachinery::path::Path;
use serde_json::Value;

use crate::registry::workloads::check::{Report, amount};
use crate::registry::workloads::view::{get, text};

fn parts<'a>(rolling: &'a Value, none: &'a Value) -> (&'a Value, &'a Value) {
    (rolling.get("maxUnavailable").unwrap_or(none), rolling.get("maxSurge").unwrap_or(none))
}

pub(super) fn deployment(strategy: &Value, path: &Path<'_>, r: &mut Report) {
    let at = path.child("rollingUpdate");
    let rolling = get(strategy, "rollingUpdate");
    match text(strategy, "type") {
        "Recreate" if rolling.is_some() => {
            r.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let Some(rolling) = rolling else { return r.required(&at, "this should be defaulted and never be nil") };
            let none = Value::Null;
            let (unavailable, surge) = parts(rolling, &none);
            let unavailable_at = at.child("maxUnavailable");
            r.number_or_percent(unavailable, &unavailable_at);
            r.number_or_percent(surge, &at.child("maxSurge"));
            if amount(unavailable) == 0 && amount(surge) == 0 {
                r.invalid(&unavailable_at, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            r.at_most_all(unavailable, &unavailable_at);
        }
        _ => r.unsupported(path, strategy.clone(), &["Recreate", "RollingUpdate"]),
    }
}

pub(super) fn daemon_set(strategy: &Value, path: &Path<'_>, r: &mut Report) {
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let at = path.child("rollingUpdate");
            let Some(rolling) = get(strategy, "rollingUpdate") else { return r.required(&at, "") };
            let none = Value::Null;
            let (unavailable, surge) = parts(rolling, &none);
            let (unavailable_at, surge_at) = (at.child("maxUnavailable"), at.child("maxSurge"));
            r.number_or_percent(unavailable, &unavailable_at);
            r.number_or_percent(surge, &surge_at);
            r.at_most_all(unavailable, &unavailable_at);
            r.at_most_all(surge, &surge_at);
            match (amount(unavailable) != 0, amount(surge) != 0) {
                (true, true) => {
                    r.invalid(&surge_at, surge.clone(), "may not be set when maxUnavailable is non-zero");
                }
                (false, false) => r.required(&unavailable_at, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => r.unsupported(path, strategy.clone(), &["RollingUpdate", "OnDelete"]),
    }
}

pub(super) fn stateful_set(strategy: &Value, path: &Path<'_>, r: &mut Report) {
    let rolling = get(strategy, "rollingUpdate");
    let at = path.child("rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("", _) => r.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            r.invalid(&at, rolling.clone(), "only allowed for updateStrategy 'RollingUpdate'");
        }
        ("RollingUpdate", Some(rolling)) => {
            r.nonnegative(rolling, "partition", &at);
            if let Some(unavailable) = get(rolling, "maxUnavailable") {
                let at = at.child("maxUnavailable");
                r.number_or_percent(unavailable, &at);
                if amount(unavailable) == 0 {
                    r.invalid(&at, unavailable.clone(), "cannot be 0");
                }
                r.at_most_all(unavailable, &at);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => r.invalid(path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}
