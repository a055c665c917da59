//! Types of values, with the largest sizes that they may have: the estimate of costs rests on those.

use std::fmt;
use std::sync::Arc;

use crate::cost::Size;
use crate::words::is_word;

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Not known before a run.
    Dyn,
    /// Only null.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A whole number that is not negative.
    Uint,
    /// Any number.
    Double,
    /// A text, of so many characters at most.
    Text(Size),
    /// Bytes, so many at most.
    Bytes(Size),
    /// A point in time.
    Time,
    /// A length of time.
    Duration,
    /// A list, of so many elements at most.
    List(Arc<Type>, Size),
    /// A map from a type to another, of so many entries at most.
    Map(Arc<(Type, Type)>, Size),
    /// An object with known fields.
    Object(Arc<ObjectType>),
    /// A value that may be absent.
    Optional(Arc<Type>),
    /// A type as a value.
    Type,
    /// A type of Kubernetes' libraries, such as `kubernetes.Quantity`.
    Named(&'static str),
}

/// An object's fields.
#[derive(Debug, Default, PartialEq)]
pub struct ObjectType {
    /// What complaints call it.
    pub name: String,
    /// In the order of their names in expressions.
    pub fields: Vec<Field>,
    /// Other fields may be asked for.
    pub open: bool,
}

/// A field of an object.
#[derive(Debug, PartialEq)]
pub struct Field {
    /// As expressions write it.
    pub name: String,
    /// As JSON has it.
    pub json: String,
    /// The type of its value.
    pub ty: Type,
}

impl Field {
    /// A field of this name in JSON; `None` for one that expressions can't name.
    pub fn new(json: &str, ty: Type) -> Self {
        Self { name: escape(json), json: json.to_owned(), ty }
    }
}

/// A field's name as expressions write it: what no name can have is written out.
fn escape(name: &str) -> String {
    if is_word(name) {
        return format!("__{name}__");
    }
    let mut out = String::new();
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            out.push_str("__underscores__");
            rest = after;
            continue;
        }
        match c {
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            c => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

impl ObjectType {
    /// An object of these fields.
    pub fn new(name: &str, mut fields: Vec<Field>) -> Self {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Self { name: name.to_owned(), fields, open: false }
    }

    /// A field by its name in expressions.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|f| f.name.as_str().cmp(name)).ok()?;
        self.fields.get(at)
    }

    /// A field by its name in JSON.
    pub(crate) fn json_field(&self, name: &str) -> Option<&Field> {
        self.field(&escape(name)).filter(|f| f.json == name)
    }
}

impl Type {
    /// A text of any length.
    pub const TEXT: Self = Self::Text(Size::UNKNOWN);

    /// A list of any length.
    pub fn list(of: Self) -> Self {
        Self::List(Arc::new(of), Size::UNKNOWN)
    }

    /// A map of texts to a type, of any length.
    pub fn map(of: Self) -> Self {
        Self::Map(Arc::new((Self::TEXT, of)), Size::UNKNOWN)
    }

    /// True if a value of the one may be a value of the other.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            // Null stands for what is absent of these.
            (Self::Null, Self::Object(_) | Self::Time | Self::Duration | Self::Optional(_) | Self::Named(_))
            | (Self::Object(_) | Self::Time | Self::Duration | Self::Optional(_) | Self::Named(_), Self::Null) => true,
            (Self::Text(_), Self::Text(_)) | (Self::Bytes(_), Self::Bytes(_)) => true,
            (Self::List(a, _), Self::List(b, _)) => a.fits(b),
            (Self::Map(a, _), Self::Map(b, _)) => a.0.fits(&b.0) && a.1.fits(&b.1),
            (Self::Optional(a), Self::Optional(b)) => a.fits(b),
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b) || a.name == b.name,
            (a, b) => a == b,
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null_type"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::Text(_) => f.write_str("string"),
            Self::Bytes(_) => f.write_str("bytes"),
            Self::Time => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(of, _) => write!(f, "list({of})"),
            Self::Map(of, _) => write!(f, "map({}, {})", of.0, of.1),
            Self::Object(of) => f.write_str(&of.name),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Type => f.write_str("type"),
            Self::Named(name) => f.write_str(name),
        }
    }
}
