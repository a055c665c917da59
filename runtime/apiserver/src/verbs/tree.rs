//! The type of a resource's objects, for patches and server-side apply: the schema's, or, without one, that of any JSON.

use kiln_apimachinery::typed::{Kind, ListType, PatchRule, Scalar, Type};
use kiln_schema::TypeRef;
use serde_json::Value;

use crate::apiextensions::schema::SchemaRef;
use crate::registry::Resource;

/// A type that may not be known.
#[derive(Clone, Copy)]
pub(crate) enum Tree<'t> {
    Known(TypeRef<'t>),
    Custom(SchemaRef<'t>),
    /// A whole custom resource, whose metadata is that of all kinds.
    Object(SchemaRef<'t>),
    Text,
    Unknown,
}

impl<'t> Tree<'t> {
    /// The type of a resource's objects in its own version.
    pub(crate) fn of(resource: &'t Resource) -> Self {
        match (resource.schema, &resource.custom) {
            (Some(ty), _) => Self::Known(ty),
            (None, Some(custom)) => Self::Object(custom.schema.root()),
            (None, None) => Self::Unknown,
        }
    }

    /// A custom type.
    fn custom(schema: SchemaRef<'t>) -> Self {
        if schema.is_embedded() { Self::Object(schema) } else { Self::Custom(schema) }
    }

    /// A field of a whole resource that every kind has.
    fn of_all(name: &str) -> Option<Self> {
        match name {
            "apiVersion" | "kind" => Some(Self::Text),
            "metadata" => kiln_schema::builtin().named("meta.v1.ObjectMeta").map(Self::Known),
            _ => None,
        }
    }
}

impl Type for Tree<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Known(ty) => ty.kind(),
            Self::Custom(schema) => Type::kind(schema),
            Self::Object(_) => Kind::Struct,
            Self::Text => Kind::Scalar,
            Self::Unknown => Kind::Any,
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Known(ty) => ty.field(name).map(Self::Known),
            Self::Custom(schema) | Self::Object(schema) => {
                if let (Self::Object(_), Some(common)) = (self, Self::of_all(name)) {
                    return Some(common);
                }
                let found = schema.field_schema(name).map(Self::custom);
                found.or_else(|| (schema.preserves() || schema.takes_others()).then_some(Self::Unknown))
            }
            Self::Text => None,
            Self::Unknown => Some(Self::Unknown),
        }
    }

    fn item(&self) -> Option<Self> {
        match self {
            Self::Known(ty) => ty.item().map(Self::Known),
            Self::Custom(schema) | Self::Object(schema) => schema.items().map(Self::custom),
            Self::Text => None,
            Self::Unknown => Some(Self::Unknown),
        }
    }

    fn scalar(&self) -> Scalar {
        match self {
            Self::Known(ty) => ty.scalar(),
            Self::Custom(schema) | Self::Object(schema) => schema.scalar(),
            Self::Text => Scalar::Text,
            Self::Unknown => Scalar::Any,
        }
    }

    fn declares(&self, name: &str) -> bool {
        match self {
            Self::Known(ty) => ty.declares(name),
            Self::Custom(schema) => schema.declares(name),
            Self::Object(schema) => Self::of_all(name).is_some() || schema.declares(name),
            Self::Text | Self::Unknown => false,
        }
    }

    fn always(&self, name: &str) -> bool {
        match self {
            Self::Known(ty) => ty.always(name),
            _ => false,
        }
    }

    fn list(&self) -> ListType {
        match self {
            Self::Known(ty) => ty.list(),
            Self::Custom(schema) => Type::list(schema),
            _ => ListType::Atomic,
        }
    }

    fn key(&self, index: usize) -> Option<&str> {
        match self {
            Self::Known(ty) => ty.key(index),
            Self::Custom(schema) => schema.key(index),
            _ => None,
        }
    }

    fn key_default(&self, key: &str) -> Option<Value> {
        match self {
            Self::Known(ty) => ty.key_default(key),
            Self::Custom(schema) => schema.key_default(key),
            _ => None,
        }
    }

    fn atomic(&self) -> bool {
        match self {
            Self::Known(ty) => ty.atomic(),
            Self::Custom(schema) | Self::Object(schema) => schema.atomic(),
            Self::Text | Self::Unknown => false,
        }
    }

    fn patch(&self) -> PatchRule<'_> {
        match self {
            Self::Known(ty) => ty.patch(),
            _ => PatchRule::default(),
        }
    }
}
