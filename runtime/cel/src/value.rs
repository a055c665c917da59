//! Values of a run. What comes from JSON stays there until it is asked for.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kiln_apimachinery::duration;
use kiln_apimachinery::quantity::Quantity;
use serde_json::Value as Json;

use crate::eval::EvalError;
use crate::libraries::{Authority, Format, Semver, Url};
use crate::types::Type;

/// A text, borrowed from an object or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// From an object.
    Borrowed(&'a str),
    /// Made by an expression.
    Shared(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl From<Arc<str>> for Text<'_> {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::Borrowed(text)
    }
}

/// A value that may be absent.
pub type Optional<'a> = Option<Arc<Value<'a>>>;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Null.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// A number.
    Double(f64),
    /// A text.
    Text(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list or an object of JSON, and its type if that is known.
    Json(&'a Json, Option<&'a Type>),
    /// A list that an expression made.
    List(Arc<Vec<Value<'a>>>),
    /// A map that an expression made.
    Map(Arc<Vec<(Value<'a>, Value<'a>)>>),
    /// A message that an expression made: its type's name and its fields.
    Message(Arc<str>, Arc<Vec<(Arc<str>, Value<'a>)>>),
    /// Values by name, some of which may be errors.
    Results(Arc<Vec<(String, Result<Value<'a>, EvalError>)>>),
    /// A point in time.
    Time(Timestamp),
    /// A length of time, in nanoseconds.
    Duration(i64),
    /// A type.
    Type(&'static str),
    /// A value that may be absent.
    Optional(Optional<'a>),
    /// An amount.
    Quantity(Quantity),
    /// An address.
    Ip(IpAddr),
    /// A network: an address and the bits of its prefix.
    Cidr(IpAddr, u8),
    /// A URL.
    Url(Arc<Url>),
    /// A semantic version.
    Semver(Arc<Semver>),
    /// A format of texts.
    Format(Format),
    /// A question to the authorizer.
    Authority(Arc<Authority>),
}

impl<'a> Value<'a> {
    /// A value of JSON as its type has it.
    pub fn of(json: &'a Json, ty: Option<&'a Type>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(yes) => Self::Bool(*yes),
            Json::Number(n) => match (n.as_i64(), ty) {
                (Some(n), Some(Type::Double)) => Self::Double(n as f64),
                (Some(n), _) => Self::Int(n),
                (None, Some(Type::Int)) => Self::Int(n.as_f64().unwrap_or_default() as i64),
                (None, _) => Self::Double(n.as_f64().unwrap_or_default()),
            },
            Json::String(text) => match ty {
                Some(Type::Time) => time(text).map_or_else(|| Self::Text(text.as_str().into()), Self::Time),
                Some(Type::Duration) => {
                    duration::parse(text).map_or_else(|_| Self::Text(text.as_str().into()), Self::Duration)
                }
                Some(Type::Bytes(_)) => match STANDARD.decode(text) {
                    Ok(bytes) => Self::Bytes(bytes.into()),
                    Err(_) => Self::Text(text.as_str().into()),
                },
                _ => Self::Text(text.as_str().into()),
            },
            Json::Array(_) | Json::Object(_) => Self::Json(json, ty),
        }
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into())
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Json(Json::Array(_), _) | Self::List(_) => "list",
            Self::Json(..) | Self::Map(_) | Self::Results(_) => "map",
            Self::Message(..) => "object",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authority(_) => "kubernetes.authorization.Authorizer",
        }
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some((**items).clone()),
            Self::Json(Json::Array(list), ty) => {
                let inner = match ty {
                    Some(Type::List(of, _)) => Some(&**of),
                    _ => None,
                };
                Some(list.iter().map(|v| Self::of(v, inner)).collect())
            }
            _ => None,
        }
    }

    /// The entries of a map or object, by the names of expressions.
    pub(crate) fn entries(&self) -> Option<Vec<(Self, Self)>> {
        match self {
            Self::Map(entries) => Some((**entries).clone()),
            Self::Json(Json::Object(map), ty) => Some(
                map.iter()
                    .map(|(key, value)| match ty {
                        Some(Type::Object(of)) => {
                            let field = of.json_field(key);
                            let name = field.map_or(key.as_str(), |f| f.name.as_str());
                            (Self::Text(name.into()), Self::of(value, field.map(|f| &f.ty)))
                        }
                        Some(Type::Map(of, _)) => (Self::Text(key.as_str().into()), Self::of(value, Some(&of.1))),
                        _ => (Self::Text(key.as_str().into()), Self::of(value, None)),
                    })
                    .collect(),
            ),
            Self::Message(_, fields) => {
                Some(fields.iter().map(|(k, v)| (Self::Text(k.clone().into()), v.clone())).collect())
            }
            _ => None,
        }
    }

    /// How many elements, entries, characters or bytes there are.
    pub(crate) fn size(&self) -> Option<u64> {
        Some(match self {
            Self::Text(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.len(),
            Self::Map(entries) => entries.len(),
            Self::Json(Json::Array(list), _) => list.len(),
            Self::Json(Json::Object(map), _) => map.len(),
            _ => return None,
        } as u64)
    }

    /// A field or the value of a key.
    pub(crate) fn member(&self, name: &str) -> Option<Result<Self, EvalError>> {
        match self {
            Self::Json(Json::Object(map), ty) => match ty {
                Some(Type::Object(of)) => match of.field(name) {
                    Some(field) => map.get(&field.json).map(|v| Ok(Self::of(v, Some(&field.ty)))),
                    None => map.get(name).map(|v| Ok(Self::of(v, None))),
                },
                Some(Type::Map(of, _)) => map.get(name).map(|v| Ok(Self::of(v, Some(&of.1)))),
                _ => map.get(name).map(|v| Ok(Self::of(v, None))),
            },
            Self::Map(entries) => entries.iter().find(|(k, _)| k.as_text() == Some(name)).map(|(_, v)| Ok(v.clone())),
            Self::Message(_, fields) => fields.iter().find(|(k, _)| **k == *name).map(|(_, v)| Ok(v.clone())),
            Self::Results(results) => results.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()),
            _ => None,
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Int(n) => Some(Number::Whole(i128::from(*n))),
            Self::Uint(n) => Some(Number::Whole(i128::from(*n))),
            Self::Double(n) => Some(Number::Real(*n)),
            _ => None,
        }
    }

    /// True if two values are the same.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (self.number(), other.number()) {
            return a.compare(b) == Some(Ordering::Equal);
        }
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => **a == **b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a.cmp(b) == Ordering::Equal,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, n), Self::Cidr(b, m)) => a == b && n == m,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Self::Json(a, None), Self::Json(b, None)) => a == b,
            _ => match (self.items(), other.items(), self.entries(), other.entries()) {
                (Some(a), Some(b), ..) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.equals(b)),
                (_, _, Some(a), Some(b)) => {
                    let found = |k: &Self, v: &Self| b.iter().any(|(key, value)| key.equals(k) && value.equals(v));
                    a.len() == b.len() && a.iter().all(|(k, v)| found(k, v))
                }
                _ => false,
            },
        }
    }

    /// The order of two values, if there is one.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        if let (Some(a), Some(b)) = (self.number(), other.number()) {
            return a.compare(b);
        }
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some((**a).cmp(&**b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => Some(a.cmp(b)),
            (Self::Semver(a), Self::Semver(b)) => Some(a.order(b)),
            _ => None,
        }
    }

    /// The value as JSON; an error for what JSON has not.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(yes) => (*yes).into(),
            Self::Int(n) => (*n).into(),
            Self::Uint(n) => (*n).into(),
            Self::Double(n) => (*n).into(),
            Self::Text(text) => (&**text).into(),
            Self::Bytes(bytes) => STANDARD.encode(bytes).into(),
            Self::Json(json, _) => (*json).clone(),
            Self::List(items) => items.iter().map(Self::to_json).collect::<Result<Vec<_>, _>>()?.into(),
            Self::Map(entries) => {
                let mut out = serde_json::Map::new();
                for (key, value) in entries.iter() {
                    let key = key.as_text().ok_or_else(|| EvalError::new("map key is no string"))?;
                    out.insert(key.to_owned(), value.to_json()?);
                }
                out.into()
            }
            Self::Message(_, fields) => {
                let mut out = serde_json::Map::new();
                for (key, value) in fields.iter() {
                    out.insert(key.to_string(), value.to_json()?);
                }
                out.into()
            }
            Self::Time(time) => time.to_string().into(),
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Optional(None) => Json::Null,
            Self::Quantity(amount) => amount.to_string().into(),
            other => return Err(EvalError::new(format!("unsupported conversion of {} to JSON", other.type_name()))),
        })
    }
}

/// A point in time as text.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}T00:00:00Z").parse().ok())
}

enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (Self::Real(a), Self::Real(b)) => a.partial_cmp(&b),
            // Whole numbers of expressions have 64 bits, whose rounding is the reference's too.
            (Self::Whole(a), Self::Real(b)) => (a as f64).partial_cmp(&b),
            (Self::Real(a), Self::Whole(b)) => a.partial_cmp(&(b as f64)),
        }
    }
}
