//! Who owns which fields (`metadata.managedFields`), and server-side apply, which lives on that. In flow an object's type, its
//! stored and its new state and who writes; out flows the object with its owners, or the conflicts. Nothing here knows a
//! kind, a store or a clock.

mod check;
mod compare;
mod fields;
mod last_applied;
mod merge;
mod owners;
mod path;
mod remove;
mod server_side;
mod set;
mod shape;
mod update;

pub use check::check;
pub use compare::{Comparison, compare};
pub use fields::set_of;
pub use merge::merge;
pub use path::Element;
pub use remove::remove;
pub use server_side::{ApplyError, Conflict, apply};
pub use set::Set;
pub use update::{Writer, ignore_times, update};
