//! What a template was read into.

use std::fmt::{self, Write as _};
use std::rc::Rc;

use crate::functions::Function;

/// A template that has a name.
#[derive(Debug)]
pub(crate) struct Template {
    /// What it is called by.
    pub(crate) name: Rc<str>,
    /// What it was read from, and under which name.
    pub(crate) source: Rc<Source>,
    pub(crate) body: Vec<Node>,
}

/// A text with its name, for telling places.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: Rc<str>,
    pub(crate) text: Rc<str>,
}

impl Source {
    /// `name:line:column`, as Go tells a place.
    pub(crate) fn place(&self, at: usize) -> String {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = before.iter().rposition(|byte| *byte == b'\n').map_or(at, |newline| at - newline - 1);
        format!("{}:{line}:{column}", self.name)
    }
}

#[derive(Debug)]
pub(crate) enum Node {
    Text(Rc<str>),
    Action(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Template { at: usize, name: Rc<str>, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// Commands, each of whose results is the last argument of the next.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) at: usize,
    /// Variables that take the result.
    pub(crate) variables: Vec<Rc<str>>,
    /// Whether they are there already: `=` and not `:=`.
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Vec<Expr>>,
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Dot,
    Nil,
    Bool(bool),
    Int(i64, Rc<str>),
    Float(f64, Rc<str>),
    /// A text, and as it was written.
    Text(Rc<str>, Rc<str>),
    /// `.a.b`
    Field(Vec<Rc<str>>),
    /// `$x.a`: the name with its dollar first.
    Variable(Vec<Rc<str>>),
    /// `(pipe).a.b`
    Chain(Box<Expr>, Vec<Rc<str>>),
    Function(Rc<str>, Function),
    Pipe(Box<Pipe>),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (at, command) in self.commands.iter().enumerate() {
            f.write_str(if at > 0 { " | " } else { "" })?;
            f.write_str(&command_text(command))?;
        }
        Ok(())
    }
}

/// A command as Go shows it.
pub(crate) fn command_text(command: &[Expr]) -> String {
    let mut text = String::new();
    for (at, argument) in command.iter().enumerate() {
        text.push_str(if at > 0 { " " } else { "" });
        _ = match &argument.what {
            What::Pipe(pipe) => write!(text, "({pipe})"),
            _ => write!(text, "{argument}"),
        };
    }
    text
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Dot => f.write_str("."),
            What::Nil => f.write_str("nil"),
            What::Bool(value) => write!(f, "{value}"),
            What::Int(_, text) | What::Float(_, text) | What::Text(_, text) | What::Function(text, _) => {
                f.write_str(text)
            }
            What::Field(names) => names.iter().try_for_each(|name| write!(f, ".{name}")),
            What::Variable(names) => f.write_str(&names.join(".")),
            What::Chain(inner, names) => {
                match &inner.what {
                    What::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => write!(f, "{inner}")?,
                }
                names.iter().try_for_each(|name| write!(f, ".{name}"))
            }
            What::Pipe(pipe) => write!(f, "{pipe}"),
        }
    }
}
