//! What every part of the cluster says about API objects, without I/O: kinds and resources, `Status`, selectors, times,
//! durations, names, object metadata, schedules, strict decoding, patches and metrics. Objects are `serde_json::Value`s, since one engine serves built-in
//! and custom kinds alike. In flows text or a parsed object, out flows a judged or changed one; nothing here knows a store,
//! a socket or a clock.

pub mod apply;
pub mod cron;
pub mod decode;
mod diff;
pub mod duration;
pub mod field;
mod go;
pub mod gvk;
pub mod head;
pub mod meta;
pub mod metrics;
pub mod names;
pub mod net;
pub mod patch;
pub mod path;
pub mod quantity;
pub mod query;
pub mod random;
pub mod selector;
pub mod status;
pub mod time;
pub mod typed;

pub use diff::diff;
pub use field::{FieldError, FieldErrorKind};
pub use go::{json_kind, type_of};
pub use gvk::{GroupResource, Gvk, Gvr};
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Cause, Details, Reason, Status};
