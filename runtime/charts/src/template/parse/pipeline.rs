//! Pipelines: commands one after the other, each of operands with their fields.

use std::rc::Rc;

use super::{Fault, Parser, shown};
use crate::functions;
use crate::template::lex::{Token, unquote};
use crate::template::node::{Expr, Pipe, What};
use crate::yaml::go_int;

impl Parser {
    /// A pipeline up to the end of its action.
    pub(super) fn pipeline(&mut self, context: &str) -> Result<Pipe, Fault> {
        let pipe = self.pipe(context)?;
        if *self.peek() != Token::Right {
            let token = shown(self.peek());
            return self.fail(format!("unexpected {token} in {context}"));
        }
        self.at += 1;
        Ok(pipe)
    }

    fn pipe(&mut self, context: &str) -> Result<Pipe, Fault> {
        self.deeper()?;
        self.skip_space();
        let mut pipe = Pipe { at: self.place(), variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            self.skip_space();
            match self.peek() {
                Token::Right | Token::RightParen => break,
                Token::Pipe => return self.fail(format!("missing value for {context}")),
                _ => pipe.commands.push(self.command()?),
            }
            self.skip_space();
            if *self.peek() != Token::Pipe {
                break;
            }
            self.at += 1;
            self.skip_space();
        }
        if pipe.commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        // What is behind the first must take the result of what is before.
        for command in &pipe.commands[1..] {
            if let What::Bool(_) | What::Dot | What::Nil | What::Int(..) | What::Float(..) | What::Text(..) =
                command[0].what
            {
                return self.fail("non executable command in pipeline stage 2");
            }
        }
        self.depth -= 1;
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, `$i, $x :=`
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<(), Fault> {
        let start = self.at;
        let mut names: Vec<Rc<str>> = Vec::new();
        while let Token::Variable(name) = self.peek().clone() {
            self.at += 1;
            self.skip_space();
            names.push(name.into());
            match self.peek() {
                Token::Declare | Token::Assign => {
                    pipe.assigns = *self.peek() == Token::Assign;
                    self.at += 1;
                    if pipe.assigns {
                        for name in &names {
                            self.known(name)?;
                        }
                    } else {
                        self.variables.extend(names.iter().cloned());
                    }
                    if names.len() > 1 && context != "range" {
                        return self.fail(format!("too many declarations in {context}"));
                    }
                    pipe.variables = names;
                    return Ok(());
                }
                Token::Comma if context == "range" && names.len() < 2 => {
                    self.at += 1;
                    self.skip_space();
                }
                _ => break,
            }
        }
        self.at = start;
        Ok(())
    }

    fn known(&self, name: &Rc<str>) -> Result<(), Fault> {
        if self.variables.contains(name) { Ok(()) } else { self.fail(format!("undefined variable {name:?}")) }
    }

    fn command(&mut self) -> Result<Vec<Expr>, Fault> {
        let mut arguments = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Token::Right | Token::RightParen | Token::Pipe => break,
                _ => arguments.push(self.operand()?),
            }
            match self.peek() {
                Token::Space => {}
                Token::Right | Token::RightParen | Token::Pipe => break,
                token => {
                    let token = shown(token);
                    return self.fail(format!("unexpected {token} in operand"));
                }
            }
        }
        if arguments.is_empty() { self.fail("empty command") } else { Ok(arguments) }
    }

    /// A term with the fields behind it.
    fn operand(&mut self) -> Result<Expr, Fault> {
        let at = self.place();
        let term = self.term()?;
        let mut fields: Vec<Rc<str>> = Vec::new();
        // Go tells the place of the first field behind the term.
        let at = if matches!(self.peek(), Token::Field(_)) { self.place() } else { at };
        while let Token::Field(name) = self.peek().clone() {
            self.at += 1;
            fields.push(name.into());
        }
        if fields.is_empty() {
            return Ok(term);
        }
        let what = match term.what {
            What::Field(mut names) => {
                names.append(&mut fields);
                What::Field(names)
            }
            What::Variable(mut names) => {
                names.append(&mut fields);
                What::Variable(names)
            }
            What::Bool(_) | What::Int(..) | What::Float(..) | What::Text(..) | What::Nil | What::Dot => {
                return self.fail(format!("unexpected . after term {:?}", term.to_string()));
            }
            _ => What::Chain(Box::new(term), fields),
        };
        Ok(Expr { at, what })
    }

    fn term(&mut self) -> Result<Expr, Fault> {
        let at = self.place();
        let what = match self.next() {
            Token::Word(name) => match functions::find(&name) {
                Some(function) => What::Function(name.into(), function),
                None => return Err((at, format!("function {name:?} not defined"))),
            },
            Token::Dot => What::Dot,
            Token::Nil => What::Nil,
            Token::Variable(name) => {
                let name: Rc<str> = name.into();
                self.at -= 1;
                self.known(&name)?;
                self.at += 1;
                What::Variable(vec![name])
            }
            Token::Field(name) => What::Field(vec![name.into()]),
            Token::Bool(value) => What::Bool(value),
            Token::Quoted(text, written) => What::Text(text.into(), written.into()),
            Token::Number(text) => number(&text).ok_or_else(|| (at, format!("illegal number syntax: {text:?}")))?,
            Token::Char(text) => {
                let inner = unquote(&text[1..text.len() - 1]);
                let character = inner.and_then(|inner| inner.chars().next());
                let Some(character) = character else {
                    return Err((at, format!("malformed character constant: {text}")));
                };
                What::Int(i64::from(u32::from(character)), text.into())
            }
            Token::LeftParen => {
                let pipe = self.pipe("parenthesized pipeline")?;
                if *self.peek() != Token::RightParen {
                    let token = shown(self.peek());
                    return self.fail(format!("unexpected {token} in parenthesized pipeline"));
                }
                self.at += 1;
                What::Pipe(Box::new(pipe))
            }
            token => return Err((at, format!("unexpected {} in operand", shown(&token)))),
        };
        Ok(Expr { at, what })
    }
}

fn number(text: &str) -> Option<What> {
    let plain = text.replace('_', "");
    let is_hex = plain.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("0x");
    if let Some(value) = go_int(&plain).and_then(|value| i64::try_from(value).ok())
        && (is_hex || !plain.contains(['.', 'e', 'E']))
    {
        return Some(What::Int(value, text.into()));
    }
    let value: f64 = if is_hex { hexadecimal(&plain)? } else { plain.parse().ok()? };
    Some(What::Float(value, text.into()))
}

/// `0x1p60`: a whole hexadecimal number times a power of two.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    Some(go_int(mantissa)? as f64 * 2f64.powi(exponent))
}
