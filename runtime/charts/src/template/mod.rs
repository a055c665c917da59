//! Go's text/template: its syntax, its values' ways and its messages. In flow texts and a value, out flows text.
//!
//! Charts come from anywhere: depth, steps and what is written are limited, and nothing panics.

mod exec;
mod lex;
mod node;
mod parse;

pub(crate) use exec::{Engine, Limits};

#[cfg(test)]
mod tests;
