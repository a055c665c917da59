//! The type of a resource's objects, for patches and server-side apply: the schema's, or, without one, that of any JSON.

use kiln_apimachinery::typed::{Kind, ListType, PatchRule, Scalar, Type};
use kiln_schema::TypeRef;
use serde_json::Value;

use crate::registry::Resource;

/// A type that may not be known.
#[derive(Clone, Copy)]
pub(crate) enum Tree<'t> {
    Known(TypeRef<'t>),
    Unknown,
}

impl Tree<'_> {
    /// The type of a resource's objects in its own version.
    pub(crate) fn of(resource: &Resource) -> Self {
        resource.schema.map_or(Self::Unknown, Tree::Known)
    }
}

impl Type for Tree<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Known(ty) => ty.kind(),
            Self::Unknown => Kind::Any,
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Known(ty) => ty.field(name).map(Self::Known),
            Self::Unknown => Some(Self::Unknown),
        }
    }

    fn item(&self) -> Option<Self> {
        match self {
            Self::Known(ty) => ty.item().map(Self::Known),
            Self::Unknown => Some(Self::Unknown),
        }
    }

    fn scalar(&self) -> Scalar {
        match self {
            Self::Known(ty) => ty.scalar(),
            Self::Unknown => Scalar::Any,
        }
    }

    fn declares(&self, name: &str) -> bool {
        match self {
            Self::Known(ty) => ty.declares(name),
            Self::Unknown => false,
        }
    }

    fn always(&self, name: &str) -> bool {
        match self {
            Self::Known(ty) => ty.always(name),
            Self::Unknown => false,
        }
    }

    fn list(&self) -> ListType {
        match self {
            Self::Known(ty) => ty.list(),
            Self::Unknown => ListType::Atomic,
        }
    }

    fn key(&self, index: usize) -> Option<&str> {
        match self {
            Self::Known(ty) => ty.key(index),
            Self::Unknown => None,
        }
    }

    fn key_default(&self, key: &str) -> Option<Value> {
        match self {
            Self::Known(ty) => ty.key_default(key),
            Self::Unknown => None,
        }
    }

    fn atomic(&self) -> bool {
        match self {
            Self::Known(ty) => ty.atomic(),
            Self::Unknown => false,
        }
    }

    fn patch(&self) -> PatchRule<'_> {
        match self {
            Self::Known(ty) => ty.patch(),
            Self::Unknown => PatchRule::default(),
        }
    }
}
