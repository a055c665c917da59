//! Words into trees. Macros become nodes of their own.

use std::sync::Arc;

use crate::Fault;
use crate::expr::{Expr, Fold, FoldKind, Node};
use crate::lexer::{Token, words};
use crate::value::Value;
use crate::words::is_reserved;

/// Deepest nesting.
const DEEPEST: usize = 100;

/// Reads a whole text.
pub(crate) fn parse(source: &str) -> Result<Node, Fault> {
    let mut parser = Parser { words: words(source)?, at: 0, depth: 0 };
    let node = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.unexpected("<EOF>")),
    }
}

struct Parser {
    words: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.words.get(self.at).map_or(&Token::End, |(_, t)| t)
    }

    fn place(&self) -> usize {
        self.words.get(self.at).map_or(0, |(at, _)| *at)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected(&format!("'{sign}'"))) }
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let found = match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Name(n) | Token::Quoted(n) => n.to_string(),
            Token::Sign(s) => (*s).to_owned(),
            Token::Int(n) => n.to_string(),
            Token::Uint(n) => n.to_string(),
            Token::Double(n) => n.to_string(),
            Token::Text(t) => format!("{t:?}"),
            Token::Lowest | Token::Bytes(_) => "literal".to_owned(),
        };
        Fault::new(self.place(), format!("Syntax error: mismatched input '{found}' expecting {wanted}"))
    }

    fn expression(&mut self) -> Result<Node, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Fault::new(self.place(), "expression recursion limit exceeded: 100"));
        }
        let node = self.choice();
        self.depth -= 1;
        node
    }

    fn choice(&mut self) -> Result<Node, Fault> {
        let condition = self.or()?;
        let at = self.place();
        if !self.takes("?") {
            return Ok(condition);
        }
        let yes = self.or()?;
        self.expect(":")?;
        let no = self.expression()?;
        Ok(Node::new(at, Expr::Choose(Box::new([condition, yes, no]))))
    }

    fn or(&mut self) -> Result<Node, Fault> {
        let mut left = self.and()?;
        loop {
            let at = self.place();
            if !self.takes("||") {
                return Ok(left);
            }
            let right = self.and()?;
            left = Node::new(at, Expr::Or(Box::new(left), Box::new(right)));
        }
    }

    fn and(&mut self) -> Result<Node, Fault> {
        let mut left = self.binary(0)?;
        loop {
            let at = self.place();
            if !self.takes("&&") {
                return Ok(left);
            }
            let right = self.binary(0)?;
            left = Node::new(at, Expr::And(Box::new(left), Box::new(right)));
        }
    }

    /// Relations, sums and products.
    fn binary(&mut self, level: usize) -> Result<Node, Fault> {
        const LEVELS: [&[&str]; 3] = [&["<=", ">=", "==", "!=", "<", ">", "in"], &["+", "-"], &["*", "/", "%"]];
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            let found = match self.peek() {
                Token::Sign(sign) => signs.iter().find(|s| *s == sign),
                Token::Name(name) if &**name == "in" => signs.iter().find(|s| **s == "in"),
                _ => None,
            };
            let Some(sign) = found else { return Ok(left) };
            let at = self.place();
            self.at += 1;
            let right = self.binary(level + 1)?;
            let name = if *sign == "in" { "@in".into() } else { format!("_{sign}_").into() };
            left = Node::new(at, Expr::Call { name, target: None, args: vec![left, right] });
        }
    }

    fn unary(&mut self) -> Result<Node, Fault> {
        let at = self.place();
        for (sign, name) in [("!", "!_"), ("-", "-_")] {
            let mut count = 0;
            while self.takes(sign) {
                count += 1;
            }
            if count == 0 {
                continue;
            }
            if sign == "-" && count == 1 {
                let number = match self.peek() {
                    Token::Lowest => Some(Value::Int(i64::MIN)),
                    Token::Int(n) => Some(Value::Int(-n)),
                    Token::Double(n) => Some(Value::Double(-n)),
                    _ => None,
                };
                if let Some(number) = number {
                    self.at += 1;
                    let literal = Node::new(at, Expr::Literal(number));
                    return self.members(literal);
                }
            }
            let operand = self.member()?;
            if count % 2 == 0 {
                return Ok(operand);
            }
            return Ok(Node::new(at, Expr::Call { name: name.into(), target: None, args: vec![operand] }));
        }
        self.member()
    }

    fn member(&mut self) -> Result<Node, Fault> {
        let first = self.primary()?;
        self.members(first)
    }

    /// What follows a value: fields, calls, indexes, messages' fields.
    fn members(&mut self, mut node: Node) -> Result<Node, Fault> {
        loop {
            let at = self.place();
            if self.takes(".") {
                let (name, plain) = self.field()?;
                node = if plain && self.takes("(") {
                    let args = self.list(")")?;
                    self.call(at, name, Some(node), args)?
                } else {
                    Node::new(at, Expr::Select { operand: Box::new(node), field: name, optional: false })
                };
            } else if self.takes(".?") {
                let (field, _) = self.field()?;
                node = Node::new(at, Expr::Select { operand: Box::new(node), field, optional: true });
            } else if self.takes("[") || matches!(self.peek(), Token::Sign("[?")) {
                let optional = self.takes("[?");
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                node = Node::new(at, Expr::Index { operand: Box::new(node), index, optional });
            } else if matches!(self.peek(), Token::Sign("{" | "{?")) && node.dotted().is_some() {
                let name = node.dotted().unwrap_or_default();
                node = self.message(at, name.into())?;
            } else {
                return Ok(node);
            }
        }
    }

    fn field(&mut self) -> Result<(Arc<str>, bool), Fault> {
        match self.next() {
            Token::Name(name) => Ok((name, true)),
            Token::Quoted(name) => Ok((name, false)),
            _ => {
                self.at -= 1;
                Err(self.unexpected("IDENTIFIER"))
            }
        }
    }

    fn message(&mut self, at: usize, name: Arc<str>) -> Result<Node, Fault> {
        let mut optional = !self.takes("{") && self.takes("{?");
        let mut fields = Vec::new();
        while !self.takes("}") {
            optional |= self.takes("?");
            let (field, _) = self.field()?;
            self.expect(":")?;
            fields.push((field, self.expression()?, optional));
            optional = false;
            if !self.takes(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Node::new(at, Expr::Message { name, fields }))
    }

    fn list(&mut self, end: &str) -> Result<Vec<Node>, Fault> {
        let mut out = Vec::new();
        while !self.takes(end) {
            out.push(self.expression()?);
            if !self.takes(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(out)
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let at = self.place();
        let literal = |value| Ok(Node::new(at, Expr::Literal(value)));
        match self.next() {
            Token::Int(n) => literal(Value::Int(n)),
            Token::Uint(n) => literal(Value::Uint(n)),
            Token::Double(n) => literal(Value::Double(n)),
            Token::Text(text) => literal(Value::Text(text.into())),
            Token::Bytes(bytes) => literal(Value::Bytes(bytes)),
            Token::Name(name) => match &*name {
                "true" => literal(Value::Bool(true)),
                "false" => literal(Value::Bool(false)),
                "null" => literal(Value::Null),
                word if is_reserved(word) => Err(Fault::new(at, format!("Syntax error: reserved identifier: {word}"))),
                _ if self.takes("(") => {
                    let args = self.list(")")?;
                    self.call(at, name, None, args)
                }
                _ => Ok(Node::new(at, Expr::Name(name))),
            },
            Token::Sign("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                Ok(node)
            }
            Token::Sign(".") => self.primary(),
            Token::Sign(open @ ("[" | "[?")) => self.elements(at, open == "[?"),
            Token::Sign(open @ ("{" | "{?")) => self.entries(at, open == "{?"),
            _ => {
                self.at -= 1;
                Err(self.unexpected("{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"))
            }
        }
    }

    fn elements(&mut self, at: usize, mut optional: bool) -> Result<Node, Fault> {
        let mut out = Vec::new();
        while !self.takes("]") {
            optional |= self.takes("?");
            out.push((self.expression()?, optional));
            optional = false;
            if !self.takes(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(Node::new(at, Expr::List(out)))
    }

    fn entries(&mut self, at: usize, mut optional: bool) -> Result<Node, Fault> {
        let mut out = Vec::new();
        while !self.takes("}") {
            optional |= self.takes("?");
            let key = self.expression()?;
            self.expect(":")?;
            out.push((key, self.expression()?, optional));
            optional = false;
            if !self.takes(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Node::new(at, Expr::Map(out)))
    }

    /// A call, or the macro that it is.
    fn call(&self, at: usize, name: Arc<str>, target: Option<Node>, mut args: Vec<Node>) -> Result<Node, Fault> {
        let variable = |node: &Node| match &node.expr {
            Expr::Name(name) => Ok(name.clone()),
            _ => Err(Fault::new(node.at, "argument must be a simple name")),
        };
        if target.is_none() && &*name == "has" && args.len() == 1 {
            let argument = args.remove(0);
            return match argument.expr {
                Expr::Select { operand, field, optional: false } => Ok(Node::new(at, Expr::Has { operand, field })),
                _ => Err(Fault::new(argument.at, "invalid argument to has() macro")),
            };
        }
        let kind = match (&*name, args.len()) {
            ("all", 2 | 3) => Some((FoldKind::All, args.len() == 3, false)),
            ("exists", 2 | 3) => Some((FoldKind::Exists, args.len() == 3, false)),
            ("exists_one", 2) => Some((FoldKind::ExistsOne, false, false)),
            ("existsOne", 2 | 3) => Some((FoldKind::ExistsOne, args.len() == 3, false)),
            ("filter", 2) => Some((FoldKind::Filter, false, false)),
            ("map", 2 | 3) => Some((FoldKind::Map, false, args.len() == 3)),
            ("transformList", 3 | 4) => Some((FoldKind::Map, true, args.len() == 4)),
            ("transformMap", 3 | 4) => Some((FoldKind::MapValues, true, args.len() == 4)),
            ("transformMapEntry", 3 | 4) => Some((FoldKind::MapEntries, true, args.len() == 4)),
            _ => None,
        };
        let Some(range) = target else { return Ok(Node::new(at, Expr::Call { name, target: None, args })) };
        if let Some((kind, two, filtered)) = kind
            && let Some(body) = args.pop()
        {
            let filter = if filtered { args.pop() } else { None };
            let second = if two { args.get(1).map(variable).transpose()? } else { None };
            let first = args.first().map(variable).transpose()?;
            let first = first.ok_or_else(|| Fault::new(at, "argument must be a simple name"))?;
            let fold = Fold { kind, range, first, second, filter, body };
            return Ok(Node::new(at, Expr::Fold(Box::new(fold))));
        }
        if let ("optMap" | "optFlatMap", [first, _]) = (&*name, args.as_slice()) {
            let (variable, flat) = (variable(first)?, &*name == "optFlatMap");
            let body = Box::new(args.remove(1));
            return Ok(Node::new(at, Expr::OptMap { target: Box::new(range), variable, body, flat }));
        }
        Ok(Node::new(at, Expr::Call { name, target: Some(Box::new(range)), args }))
    }
}
