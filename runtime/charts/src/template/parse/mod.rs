//! From tokens to templates: text/template's parser. A text may define further templates. Here are actions and their blocks;
//! [`pipeline`] reads what an action computes.

mod pipeline;

use std::rc::Rc;

use super::lex::{Token, tokens};
use super::node::{Node, Source, Template};

/// How deep parentheses and blocks may lie.
const DEPTH: usize = 150;

/// Reads a text; answers its own template first, then those that it defines.
pub(crate) fn parse(name: &str, text: &str) -> Result<Vec<Rc<Template>>, String> {
    let source = Rc::new(Source { name: name.into(), text: text.into() });
    let told = |at: usize, what: &str| {
        let place = source.place(at);
        let line = place.rsplit_once(':').map_or(place.as_str(), |(line, _)| line).to_owned();
        format!("template: {line}: {what}")
    };
    let tokens = tokens(text).map_err(|(at, what)| told(at, &what))?;
    let mut parser = Parser {
        tokens,
        at: 0,
        variables: vec!["$".into()],
        loops: 0,
        depth: 0,
        defined: Vec::new(),
        source: source.clone(),
    };
    let parsed = parser.body(true);
    let (body, end) = parsed.map_err(|(at, what)| told(at, &what))?;
    if let Some(word) = end.word() {
        return Err(told(parser.place(), &format!("unexpected {{{{{word}}}}}")));
    }
    let mut templates = vec![Rc::new(Template { name: name.into(), source, body })];
    templates.append(&mut parser.defined);
    Ok(templates)
}

/// Whether a template says nothing: such a one does not take the place of another of its name.
pub(crate) fn is_empty(body: &[Node]) -> bool {
    body.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

type Fault = (usize, String);

/// What ended a list of nodes.
#[derive(Debug, PartialEq)]
enum Ended {
    Text,
    Block,
    Else,
}

impl Ended {
    fn word(&self) -> Option<&'static str> {
        match self {
            Self::Text => None,
            Self::Block => Some("end"),
            Self::Else => Some("else"),
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    variables: Vec<Rc<str>>,
    /// How many `range`s are around.
    loops: usize,
    depth: usize,
    defined: Vec<Rc<Template>>,
    source: Rc<Source>,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn place(&self) -> usize {
        let last = self.tokens.last().map_or(0, |(at, _)| *at);
        self.tokens.get(self.at).map_or(last, |(at, _)| *at)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T, Fault> {
        Err((self.place(), what.into()))
    }

    fn skip_space(&mut self) {
        while *self.peek() == Token::Space {
            self.at += 1;
        }
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH { self.fail("max expression depth exceeded") } else { Ok(()) }
    }

    /// Nodes up to an `end` or `else`, or to the end of the text at the top.
    fn body(&mut self, top: bool) -> Result<(Vec<Node>, Ended), Fault> {
        self.deeper()?;
        let mut nodes = Vec::new();
        loop {
            match self.next() {
                Token::End if top => {
                    self.depth -= 1;
                    return Ok((nodes, Ended::Text));
                }
                Token::End => return self.fail("unexpected EOF"),
                Token::Text(text) => nodes.push(Node::Text(text.into())),
                Token::Left => {
                    self.skip_space();
                    if let Some(end) = self.action(&mut nodes, top)? {
                        self.depth -= 1;
                        return Ok((nodes, end));
                    }
                }
                token => return self.fail(format!("unexpected {} in input", shown(&token))),
            }
        }
    }

    /// Reads an action behind its delimiter.
    fn action(&mut self, nodes: &mut Vec<Node>, top: bool) -> Result<Option<Ended>, Fault> {
        let Token::Word(word) = self.peek().clone() else {
            nodes.push(Node::Action(self.pipeline("command")?));
            return Ok(None);
        };
        let at = self.place();
        let keyword = |parser: &mut Self| parser.at += 1;
        match word.as_str() {
            "if" | "with" | "range" => {
                keyword(self);
                nodes.push(self.control(&word)?);
            }
            "else" => {
                keyword(self);
                self.skip_space();
                // `else if` and `else with` are read by whoever reads the `if`.
                if !matches!(self.peek(), Token::Word(word) if word == "if" || word == "with") {
                    self.right("else")?;
                }
                return Ok(Some(Ended::Else));
            }
            "end" => {
                keyword(self);
                self.right("end")?;
                return Ok(Some(Ended::Block));
            }
            "break" | "continue" => {
                keyword(self);
                if self.loops == 0 {
                    return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.right(&word)?;
                nodes.push(if word == "break" { Node::Break } else { Node::Continue });
            }
            "define" if top => {
                keyword(self);
                let name = self.name("define clause")?;
                self.right("define clause")?;
                self.define(name)?;
            }
            "define" => return self.fail("unexpected <define> in command"),
            "block" => {
                keyword(self);
                let name = self.name("block clause")?;
                let pipe = self.pipeline("block clause")?;
                self.define(name.clone())?;
                nodes.push(Node::Template { at, name, pipe: Some(pipe) });
            }
            "template" => {
                keyword(self);
                self.skip_space();
                let at = self.place();
                let name = self.name("template clause")?;
                self.skip_space();
                let pipe = match self.peek() {
                    Token::Right => {
                        self.at += 1;
                        None
                    }
                    _ => Some(self.pipeline("template clause")?),
                };
                nodes.push(Node::Template { at, name, pipe });
            }
            _ => nodes.push(Node::Action(self.pipeline("command")?)),
        }
        Ok(None)
    }

    fn right(&mut self, context: &str) -> Result<(), Fault> {
        self.skip_space();
        if *self.peek() != Token::Right {
            let token = shown(self.peek());
            return self.fail(format!("unexpected {token} in {context}"));
        }
        self.at += 1;
        Ok(())
    }

    fn name(&mut self, context: &str) -> Result<Rc<str>, Fault> {
        self.skip_space();
        match self.peek().clone() {
            Token::Quoted(text, _) => {
                self.at += 1;
                self.skip_space();
                Ok(text.into())
            }
            token => self.fail(format!("unexpected {} in {context}", shown(&token))),
        }
    }

    fn define(&mut self, name: Rc<str>) -> Result<(), Fault> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let loops = std::mem::take(&mut self.loops);
        let (body, end) = self.body(false)?;
        if end != Ended::Block {
            return self.fail("unexpected {{else}} in define clause");
        }
        (self.variables, self.loops) = (outer, loops);
        self.defined.push(Rc::new(Template { name, source: self.source.clone(), body }));
        Ok(())
    }

    fn control(&mut self, word: &str) -> Result<Node, Fault> {
        self.deeper()?;
        let known = self.variables.len();
        let pipe = self.pipeline(word)?;
        self.loops += usize::from(word == "range");
        let (body, end) = self.body(false)?;
        self.loops -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        if end == Ended::Else {
            match self.peek().clone() {
                // Its own `end` is this one's too.
                Token::Word(next) if next == "if" || next == "with" => {
                    if next != word {
                        return self.fail(format!("unexpected <{next}> in {word}"));
                    }
                    self.at += 1;
                    otherwise.push(self.control(&next)?);
                }
                _ => {
                    let (nodes, end) = self.body(false)?;
                    if end != Ended::Block {
                        return self.fail("expected end; found {{else}}");
                    }
                    otherwise = nodes;
                }
            }
        }
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(match word {
            "if" => Node::If(pipe, body, otherwise),
            "with" => Node::With(pipe, body, otherwise),
            _ => Node::Range(pipe, body, otherwise),
        })
    }
}

/// A token as Go's messages name it.
fn shown(token: &Token) -> String {
    match token {
        Token::Text(text) => format!("{text:?}"),
        Token::Left => "\"{{\"".to_owned(),
        Token::Right => "\"}}\"".to_owned(),
        Token::Bool(value) => format!("\"{value}\""),
        Token::Char(text) | Token::Number(text) => format!("{text:?}"),
        Token::Assign => "\"=\"".to_owned(),
        Token::Declare => "\":=\"".to_owned(),
        Token::Comma => "\",\"".to_owned(),
        Token::Dot => "<.>".to_owned(),
        Token::Field(name) => format!("<.{name}>"),
        Token::Word(word)
            if ["if", "else", "end", "range", "with", "define", "block", "template"].contains(&word.as_str()) =>
        {
            format!("<{word}>")
        }
        Token::Word(word) => format!("{word:?}"),
        Token::LeftParen => "\"(\"".to_owned(),
        Token::RightParen => "\")\"".to_owned(),
        Token::Nil => "<nil>".to_owned(),
        Token::Pipe => "\"|\"".to_owned(),
        Token::Quoted(_, written) => format!("{written:?}"),
        Token::Space => "\" \"".to_owned(),
        Token::Variable(name) => format!("{name:?}"),
        Token::End => "EOF".to_owned(),
    }
}
