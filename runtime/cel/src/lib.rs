//! CEL, the language of expressions in Kubernetes' rules and policies, with the libraries that Kubernetes adds to it.
//!
//! In flows a text and the types of its variables; out flows a [`Program`], or sentences about what is wrong with the text.
//! A program is run against JSON objects, which are not copied: a field is read when an expression asks for it. Each run has
//! a budget; what it costs is counted as Kubernetes counts it, and a static estimate tells before any run what it may cost.
//! Nothing here does I/O.
//!
//! Source: the CEL specification (cel-spec), KEP-2876 and KEP-3488.

mod check;
mod cost;
mod eval;
mod expr;
mod functions;
mod lexer;
mod libraries;
mod parser;
mod types;
mod value;
mod words;

pub use check::MESSAGES;
pub use cost::{LARGEST_REQUEST, Size};
pub use eval::{EvalError, Host};
pub use libraries::{Authority, Format, Semver, Url};
pub use types::{Field, ObjectType, Type};
pub use value::{Optional, Text, Value};
pub use words::is_word;

use expr::Node;

/// The most that one expression may cost when it runs.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The most that all expressions about one request may cost together.
pub const BUDGET: u64 = 10_000_000;

/// An expression that was read and checked.
#[derive(Debug)]
pub struct Program {
    root: Node,
    result: Type,
    cost: u64,
    uses: Vec<String>,
}

/// A text that is no expression, in sentences with places.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct CompileError(String);

impl Program {
    /// Reads an expression and checks it against the types of its variables.
    pub fn compile(source: &str, variables: &[(&str, Type)]) -> Result<Self, CompileError> {
        let root = parser::parse(source).map_err(|fault| CompileError(fault.told(source)))?;
        let (result, cost) = check::check(&root, variables).map_err(|faults| {
            let told: Vec<String> = faults.iter().map(|fault| fault.told(source)).collect();
            CompileError(told.join("\n"))
        })?;
        let mut uses = Vec::new();
        root.free_names(&mut Vec::new(), &mut uses);
        Ok(Self { root, result, cost, uses })
    }

    /// The type of what a run gives.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// The most that a run may cost, as far as the sizes of what it reads are known.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// True if the expression reads this variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.uses.iter().any(|u| u == variable)
    }

    /// Runs the program. `budget` is what the run may cost, and afterwards what is left of it.
    pub fn run<'a>(
        &'a self,
        variables: &[(&str, Value<'a>)],
        host: Option<&dyn Host>,
        budget: &mut u64,
    ) -> Result<Value<'a>, EvalError> {
        let mut run = eval::Run::new(variables, host, (*budget).min(PER_CALL_LIMIT));
        let result = run.value(&self.root);
        *budget = budget.saturating_sub(run.spent());
        result
    }
}

/// What is wrong at a place of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    at: usize,
    what: String,
}

impl Fault {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }

    /// As the reference tells it: the place, the line and a mark.
    fn told(&self, source: &str) -> String {
        let before = source.get(..self.at).unwrap_or(source);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let text = source.lines().nth(line).unwrap_or_default();
        format!("ERROR: <input>:{}:{}: {}\n | {text}\n | {}^", line + 1, column + 1, self.what, ".".repeat(column))
    }
}

#[cfg(test)]
mod tests;
