//! What patches and server-side apply ask of a schema. A static table of built-in types answers these questions as well as
//! a custom resource's structural schema does, so neither is named here.

use serde_json::Value;

/// The shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string, number, boolean, or a value that is replaced as a whole like one (a quantity, a time).
    Scalar,
    /// An object with known fields; a field that is not known is an error.
    Struct,
    /// An object with any keys and values of one type.
    Map,
    /// An array of elements of one type.
    List,
    /// Untyped JSON: objects are maps of untyped values, arrays are atomic.
    Any,
}

/// The JSON type of a scalar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any of these, such as a quantity, or what is not known.
    #[default]
    Any,
}

/// How the elements of a list are told apart (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// The list has one owner, who replaces all of it.
    #[default]
    Atomic,
    /// By their value; elements are scalars.
    Set,
    /// By the fields that [`Type::key`] names.
    Map,
}

/// What a strategic merge patch does with a field (`x-kubernetes-patch-strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatchStrategy {
    /// A list is replaced; an object merges.
    #[default]
    Default,
    /// The value is replaced even if it is an object.
    Replace,
    /// A list merges by its merge key, or, without one, as a set.
    Merge,
    /// An object keeps only what `$retainKeys` names, then merges.
    RetainKeys,
    /// A list merges, and its elements take `$retainKeys`.
    MergeRetainKeys,
}

/// A strategic merge patch's rule for a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchRule<'a> {
    /// The field that tells a list's elements apart (`x-kubernetes-patch-merge-key`).
    pub merge_key: Option<&'a str>,
    /// How old and new meet.
    pub strategy: PatchStrategy,
}

/// A node of a type tree, cheap to copy. What it says about a list's or map's merging it says of the field that holds it,
/// so a table may keep those facts with the field.
pub trait Type: Copy {
    /// The shape of values of this type.
    fn kind(&self) -> Kind;

    /// Of a struct, the type of a known field; of a map, the type of its values, whatever the name.
    fn field(&self, name: &str) -> Option<Self>;

    /// Of a list, the type of its elements.
    fn item(&self) -> Option<Self>;

    /// Of a scalar, its JSON type.
    fn scalar(&self) -> Scalar {
        Scalar::Any
    }

    /// True if the struct names this field; false for the keys of maps and for unknown fields that a struct lets pass.
    fn declares(&self, name: &str) -> bool {
        self.kind() == Kind::Struct && self.field(name).is_some()
    }

    /// True for a field that the struct always has, if only empty: in Go a struct that is no pointer, or a field without
    /// `omitempty`. Nobody becomes the owner of such a field by filling it.
    fn always(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Of a list, how its elements are told apart.
    fn list(&self) -> ListType {
        ListType::Atomic
    }

    /// Of a list of [`ListType::Map`], the key field of this index, in the schema's order (`x-kubernetes-list-map-keys`);
    /// `None` past the last.
    fn key(&self, index: usize) -> Option<&str> {
        let _ = index;
        None
    }

    /// Of a list of [`ListType::Map`], what a key field counts as in an element that lacks it, such as `TCP` for a port's
    /// protocol.
    fn key_default(&self, key: &str) -> Option<Value> {
        let _ = key;
        None
    }

    /// True for a struct or map that has one owner as a whole (`x-kubernetes-map-type: atomic`).
    fn atomic(&self) -> bool {
        false
    }

    /// The rule of strategic merge patches.
    fn patch(&self) -> PatchRule<'_> {
        PatchRule::default()
    }
}

/// The type of anything: for kinds of which no schema is known.
#[derive(Clone, Copy, Debug)]
pub struct Untyped;

impl Type for Untyped {
    fn kind(&self) -> Kind {
        Kind::Any
    }

    fn field(&self, _name: &str) -> Option<Self> {
        Some(Self)
    }

    fn item(&self) -> Option<Self> {
        Some(Self)
    }
}
