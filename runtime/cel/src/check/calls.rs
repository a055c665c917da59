//! What functions take and give, and what calls of them may cost.

use std::sync::Arc;

use super::{joined, size};
use crate::cost::{Size, walk};
use crate::types::Type;

/// The price of a call beside that of its values.
pub(super) fn price(name: &str, sizes: &[u64]) -> u64 {
    let of = |at: usize| sizes.get(at).copied().unwrap_or(1);
    let price = match name {
        "contains" => walk(of(0)).saturating_mul(walk(of(1))),
        "matches" | "find" | "findAll" => walk(of(0)).saturating_mul(of(1).div_ceil(4)),
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => walk(of(0).min(of(1))),
        "_+_" => walk(of(0).saturating_add(of(1))),
        "@in" => of(1),
        "startsWith" | "endsWith" => walk(of(1)),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "distinct" | "sort" | "flatten" => of(0),
        "split" | "replace" | "join" | "lowerAscii" | "upperAscii" | "trim" | "substring" | "url" | "isURL"
        | "string" | "bytes" | "quantity" | "isQuantity" | "ip" | "isIP" | "cidr" | "isCIDR" | "format" | "reverse" => {
            walk(of(0))
        }
        "sets.contains" | "sets.equivalent" | "sets.intersects" => of(0).saturating_mul(of(1)),
        "check" => 350_000,
        _ => 0,
    };
    price.saturating_add(1)
}

const QUANTITY: Type = Type::Named("kubernetes.Quantity");
const URL: Type = Type::Named("kubernetes.URL");
const IP: Type = Type::Named("net.IP");
const CIDR: Type = Type::Named("net.CIDR");
const SEMVER: Type = Type::Named("kubernetes.Semver");
const FORMAT: Type = Type::Named("kubernetes.NamedFormat");
const AUTHORITY: Type = Type::Named("kubernetes.authorization.Authorizer");

/// Names of functions, for telling a wrong use from a wrong name.
pub(super) fn is_function(name: &str) -> bool {
    const NAMES: &str = " size dyn type int uint double string bool bytes timestamp duration matches contains startsWith \
        endsWith charAt indexOf lastIndexOf lowerAscii upperAscii trim reverse replace split substring join format find \
        findAll isSorted sum min max distinct sort slice flatten url isURL getScheme getHost getHostname getPort \
        getEscapedPath getQuery quantity isQuantity isInteger asInteger asApproximateFloat sign add sub compareTo \
        isLessThan isGreaterThan ip isIP cidr isCIDR containsIP containsCIDR masked prefixLength family isUnspecified \
        isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast semver isSemver major minor patch validate \
        hasValue value or orValue getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours \
        getMinutes getSeconds getMilliseconds check allowed reason errored error path group resource subresource \
        namespace name serviceAccount ";
    name.starts_with('_')
        || matches!(name, "@in" | "!_" | "-_")
        || name.contains('.')
        || NAMES.contains(&format!(" {name} "))
}

/// The type of a call; `None` if there is no such function for these types.
pub(super) fn result(name: &str, target: Option<&Type>, args: &[Type]) -> Option<Type> {
    let fits = |wanted: &[Type]| args.len() == wanted.len() && args.iter().zip(wanted).all(|(a, w)| a.fits(w));
    match target {
        None => of_plain(name, args, &fits),
        Some(Type::Dyn) => Some(of_any(name)),
        Some(target) => of_method(name, target, args, &fits),
    }
}

/// The type of a method of what is not known.
fn of_any(name: &str) -> Type {
    match name {
        "contains" | "startsWith" | "endsWith" | "matches" | "hasValue" | "isSorted" | "allowed" => Type::Bool,
        "size" | "indexOf" | "lastIndexOf" => Type::Int,
        "lowerAscii" | "upperAscii" | "trim" | "replace" | "substring" | "join" | "charAt" | "format" => Type::TEXT,
        _ => Type::Dyn,
    }
}

fn of_plain(name: &str, args: &[Type], fits: &dyn Fn(&[Type]) -> bool) -> Option<Type> {
    let numbers = |args: &[Type]| args.iter().all(|a| a.is_number() || *a == Type::Dyn);
    let one = |ty: Type, ok: bool| (args.len() == 1 && ok).then_some(ty);
    let text = || args.first().is_some_and(|a| a.fits(&Type::TEXT));
    Some(match (name, args) {
        ("_==_" | "_!=_", [a, b]) => return (a.fits(b) || numbers(args)).then_some(Type::Bool),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => {
            let ordered = |t: &Type| {
                t.is_number()
                    || matches!(
                        t,
                        Type::Bool | Type::Text(_) | Type::Bytes(_) | Type::Time | Type::Duration | Type::Dyn
                    )
            };
            return (ordered(a) && ordered(b) && (a.fits(b) || numbers(args))).then_some(Type::Bool);
        }
        ("!_", _) => return fits(&[Type::Bool]).then_some(Type::Bool),
        ("-_", [a @ (Type::Int | Type::Double | Type::Duration | Type::Dyn)]) => a.clone(),
        ("@in", [key, Type::List(of, _)]) => return key.fits(of).then_some(Type::Bool),
        ("@in", [key, Type::Map(of, _)]) => return key.fits(&of.0).then_some(Type::Bool),
        ("@in", [_, Type::Dyn | Type::Object(_)]) => Type::Bool,
        ("_+_", [Type::Text(a), Type::Text(b)]) => Type::Text(a.plus(*b)),
        ("_+_", [Type::Bytes(a), Type::Bytes(b)]) => Type::Bytes(a.plus(*b)),
        ("_+_", [Type::List(a, n), Type::List(b, m)]) => {
            Type::List(Arc::new(joined((**a).clone(), (**b).clone())), n.plus(*m))
        }
        ("_+_", [Type::Time, Type::Duration] | [Type::Duration, Type::Time])
        | ("_-_", [Type::Time, Type::Duration]) => Type::Time,
        ("_-_", [Type::Time, Type::Time]) | ("_+_" | "_-_", [Type::Duration, Type::Duration]) => Type::Duration,
        ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [Type::Dyn, b]) => b.clone(),
        ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [a, Type::Dyn]) => a.clone(),
        ("_+_" | "_-_" | "_*_" | "_/_", [a, b]) if a == b && a.is_number() => a.clone(),
        ("_%_", [a @ (Type::Int | Type::Uint), b]) if a == b => a.clone(),
        ("size", [Type::Text(_) | Type::Bytes(_) | Type::List(..) | Type::Map(..) | Type::Dyn]) => Type::Int,
        ("dyn", [_]) => Type::Dyn,
        ("type", [_]) => Type::Type,
        ("int", [a]) => return one(Type::Int, numbers(args) || text() || *a == Type::Time),
        ("uint", _) => return one(Type::Uint, numbers(args) || text()),
        ("double", _) => return one(Type::Double, numbers(args) || text()),
        ("bool", [a]) => return one(Type::Bool, text() || *a == Type::Bool),
        ("bytes", [Type::Text(n) | Type::Bytes(n)]) => Type::Bytes(*n),
        ("string", [Type::Text(n) | Type::Bytes(n)]) => Type::Text(*n),
        ("string", [Type::List(..) | Type::Map(..) | Type::Object(_)]) => return None,
        ("string", [_]) => Type::Text(Size(64)),
        ("timestamp", [a]) => return one(Type::Time, text() || matches!(a, Type::Int | Type::Time)),
        ("duration", [a]) => return one(Type::Duration, text() || *a == Type::Duration),
        ("matches", _) => return fits(&[Type::TEXT, Type::TEXT]).then_some(Type::Bool),
        ("url", _) => return one(URL, text()),
        ("quantity", _) => return one(QUANTITY, text()),
        ("ip", _) => return one(IP, text()),
        ("cidr", _) => return one(CIDR, text()),
        ("semver", _) => return one(SEMVER, text()),
        ("isURL" | "isQuantity" | "isIP" | "isCIDR" | "isSemver" | "ip.isCanonical", _) => {
            return one(Type::Bool, text());
        }
        ("optional.of" | "optional.ofNonZeroValue", [a]) => Type::Optional(Arc::new(a.clone())),
        ("optional.none", []) => Type::Optional(Arc::new(Type::Dyn)),
        ("sets.contains" | "sets.equivalent" | "sets.intersects", [a, b]) => return a.fits(b).then_some(Type::Bool),
        ("format.named", _) => return one(Type::Optional(Arc::new(FORMAT)), text()),
        ("jsonpatch.escapeKey" | "strings.quote", _) => return one(Type::TEXT, text()),
        (name, []) if name.starts_with("format.") => FORMAT,
        (name, [Type::Dyn]) if is_function(name) && !name.starts_with('_') => Type::Dyn,
        _ => return None,
    })
}

fn of_method(name: &str, target: &Type, args: &[Type], fits: &dyn Fn(&[Type]) -> bool) -> Option<Type> {
    let (text, int) = (Type::TEXT, Type::Int);
    let same = || Some(target.clone());
    let when = |ok: bool, ty: Type| ok.then_some(ty);
    match (target, name) {
        (Type::Text(_) | Type::Bytes(_) | Type::List(..) | Type::Map(..), "size") => when(args.is_empty(), Type::Int),
        (Type::Text(_), "contains" | "startsWith" | "endsWith" | "matches") => when(fits(&[text]), Type::Bool),
        (Type::Text(_), "indexOf" | "lastIndexOf") => {
            when(fits(std::slice::from_ref(&text)) || fits(&[text, int]), Type::Int)
        }
        (Type::Text(_), "charAt") => when(fits(&[int]), Type::Text(Size(1))),
        (Type::Text(_), "lowerAscii" | "upperAscii" | "trim" | "reverse") => same().filter(|_| args.is_empty()),
        (Type::Text(n), "replace") => {
            let grown = args.get(1).map_or(1, size).max(1);
            let ok = fits(&[text.clone(), text.clone()]) || fits(&[text.clone(), text, int]);
            when(ok, Type::Text(Size(n.0.saturating_mul(grown))))
        }
        (Type::Text(n), "split") => {
            let ok = fits(std::slice::from_ref(&text)) || fits(&[text, int]);
            when(ok, Type::List(Arc::new(Type::Text(*n)), *n))
        }
        (Type::Text(_), "substring") => {
            same().filter(|_| fits(std::slice::from_ref(&int)) || fits(&[int.clone(), int.clone()]))
        }
        (Type::Text(_), "format") => when(matches!(args, [Type::List(..) | Type::Dyn]), Type::TEXT),
        (Type::Text(n), "find") => when(fits(&[text]), Type::Text(*n)),
        (Type::Text(n), "findAll") => {
            let ok = fits(std::slice::from_ref(&text)) || fits(&[text, int]);
            when(ok, Type::List(Arc::new(Type::Text(*n)), *n))
        }
        (Type::List(of, n), "join") => {
            let each = size(of).saturating_add(args.first().map_or(0, size));
            when((**of).fits(&text) && (args.is_empty() || fits(&[text])), Type::Text(Size(n.0.saturating_mul(each))))
        }
        (Type::List(..), "isSorted") => when(args.is_empty(), Type::Bool),
        (Type::List(of, _), "sum" | "min" | "max") => when(args.is_empty(), (**of).clone()),
        (Type::List(of, _), "indexOf" | "lastIndexOf") => when(fits(&[(**of).clone()]), Type::Int),
        (Type::List(..), "reverse" | "distinct" | "sort") => same().filter(|_| args.is_empty()),
        (Type::List(..), "slice") => same().filter(|_| fits(&[int.clone(), int])),
        (Type::List(..), "flatten") => Some(Type::list(Type::Dyn)),
        (Type::Optional(_), "hasValue") => when(args.is_empty(), Type::Bool),
        (Type::Optional(of), "value") => when(args.is_empty(), (**of).clone()),
        (Type::Optional(of), "orValue") => when(fits(&[(**of).clone()]), joined((**of).clone(), args.first()?.clone())),
        (Type::Optional(_), "or") => same().filter(|_| args.len() == 1),
        (Type::Time, name) if name.starts_with("get") => when(args.is_empty() || fits(&[text]), Type::Int),
        (Type::Duration, "getHours" | "getMinutes" | "getSeconds" | "getMilliseconds") => Some(Type::Int),
        (Type::Named(named), name) => library(named, name, args, fits),
        (_, "optMap") => None,
        _ => None,
    }
}

fn library(named: &str, name: &str, args: &[Type], fits: &dyn Fn(&[Type]) -> bool) -> Option<Type> {
    let none = args.is_empty();
    let when = |ok: bool, ty: Type| ok.then_some(ty);
    match (named, name) {
        ("kubernetes.URL", "getQuery") => when(none, Type::map(Type::list(Type::TEXT))),
        ("kubernetes.URL", name) if name.starts_with("get") => when(none, Type::TEXT),
        ("kubernetes.Quantity", "isInteger") => when(none, Type::Bool),
        ("kubernetes.Quantity", "asInteger" | "sign") => when(none, Type::Int),
        ("kubernetes.Quantity", "asApproximateFloat") => when(none, Type::Double),
        ("kubernetes.Quantity", "add" | "sub") => when(fits(&[QUANTITY]) || fits(&[Type::Int]), QUANTITY),
        ("kubernetes.Quantity", "compareTo") => when(fits(&[QUANTITY]), Type::Int),
        ("kubernetes.Quantity", "isLessThan" | "isGreaterThan") => when(fits(&[QUANTITY]), Type::Bool),
        ("kubernetes.Semver", "major" | "minor" | "patch") => when(none, Type::Int),
        ("kubernetes.Semver", "compareTo") => when(fits(&[SEMVER]), Type::Int),
        ("kubernetes.Semver", "isLessThan" | "isGreaterThan") => when(fits(&[SEMVER]), Type::Bool),
        ("net.IP", "family") => when(none, Type::Int),
        ("net.IP", name) if name.starts_with("is") => when(none, Type::Bool),
        ("net.CIDR", "containsIP") => when(fits(&[IP]) || fits(&[Type::TEXT]), Type::Bool),
        ("net.CIDR", "containsCIDR") => when(fits(&[CIDR]) || fits(&[Type::TEXT]), Type::Bool),
        ("net.CIDR", "ip") => when(none, IP),
        ("net.CIDR", "masked") => when(none, CIDR),
        ("net.CIDR", "prefixLength") => when(none, Type::Int),
        ("kubernetes.NamedFormat", "validate") => {
            when(fits(&[Type::TEXT]), Type::Optional(Arc::new(Type::list(Type::TEXT))))
        }
        ("kubernetes.authorization.Authorizer", "allowed" | "errored") => when(none, Type::Bool),
        ("kubernetes.authorization.Authorizer", "reason" | "error") => when(none, Type::TEXT),
        ("kubernetes.authorization.Authorizer", "serviceAccount") => when(fits(&[Type::TEXT, Type::TEXT]), AUTHORITY),
        (
            "kubernetes.authorization.Authorizer",
            "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "check" | "fieldSelector"
            | "labelSelector",
        ) => when(fits(&[Type::TEXT]), AUTHORITY),
        _ => None,
    }
}
