//! The types of the API. One table of facts (`types.txt`) knows every type that is reachable from a served kind: fields,
//! JSON and protobuf types, defaults, how lists merge. From it flow the checks of what clients send ([`decode`]), Kubernetes'
//! protobuf in both directions ([`protobuf`]), OpenAPI documents ([`openapi`]) and the answers that patches ask for
//! ([`kiln_apimachinery::typed`]). A table can
//! also be built at run time, of a custom resource's structural schema. Nothing here knows a store or a socket.

pub mod decode;
#[cfg(test)]
mod dice;
pub mod fill;
pub mod openapi;
mod parse;
pub mod protobuf;
mod table;
mod time;
mod typed;

pub use parse::{builtin, facts, lookup};
pub use table::{Code, Table, TypeRef};
