//! Custom resources: kinds that users define. A definition (`CustomResourceDefinition`) is an object like any other, with
//! rules of its own in [`definition`]; [`live`] watches the definitions, settles their names, and keeps a row of the
//! registry for each version that is served, so that the same verbs serve custom and built-in kinds. What schemas of
//! built-in kinds say by a table, a custom one's says by [`schema`]. [`versions`] stands between objects as they are
//! stored and as a request's version shows them.

mod columns;
pub(crate) mod convert;
pub(crate) mod decode;
pub(crate) mod definition;
pub(crate) mod finalizer;
mod jsonpath;
mod kind;
pub(crate) mod live;
pub(crate) mod registration;
mod rows;
pub(crate) mod rules;
pub(crate) mod scale;
pub(crate) mod schema;
pub(crate) mod versions;

use std::sync::Arc;

use kiln_storage::Revision;

pub(crate) use columns::CustomColumn;
use convert::Converter;
use schema::Schema;

/// The group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
/// The plural of definitions.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions";
/// What keys of definitions begin with.
pub(crate) const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// What a definition says of one of its versions, beside what every row of the registry has.
#[derive(Debug)]
pub(crate) struct Custom {
    /// The definition's name.
    pub(crate) definition: String,
    /// Names this state of the definition: documents made of it are good for as long as this stays.
    pub(crate) tag: String,
    pub(crate) list_kind: String,
    pub(crate) schema: Arc<Schema>,
    /// That of the version in which objects are stored.
    pub(crate) stored_schema: Arc<Schema>,
    pub(crate) columns: Box<[CustomColumn]>,
    pub(crate) scale: Option<scale::Paths>,
    pub(crate) has_status: bool,
    /// How the definition's objects become those of another version.
    pub(crate) converter: Converter,
    /// The `apiVersion` in which objects are stored.
    pub(crate) stored_version: String,
    /// Objects written later than this are as the schema wants them.
    pub(crate) since: Revision,
    /// What is said to whoever uses a version that is deprecated.
    pub(crate) deprecation: Option<String>,
    /// The definition is being deleted: nothing new is made.
    pub(crate) terminating: bool,
}
