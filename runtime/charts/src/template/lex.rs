//! From text to tokens: text/template's lexer.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Text(String),
    Left,
    Right,
    Bool(bool),
    Char(String),
    Assign,
    Declare,
    Comma,
    Dot,
    Field(String),
    Word(String),
    LeftParen,
    RightParen,
    Nil,
    Number(String),
    Pipe,
    /// A text, and as it was written.
    Quoted(String, String),
    Space,
    Variable(String),
    End,
}

/// Tokens with their places; or what is wrong, and where.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, (usize, String)> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new(), parens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<(usize, Token)>,
    parens: Vec<usize>,
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn push(&mut self, at: usize, token: Token) {
        self.tokens.push((at, token));
    }

    fn run(&mut self) -> Result<(), (usize, String)> {
        let mut trim_left = false;
        loop {
            let start = self.at;
            let end = self.rest().find("{{").map_or(self.text.len(), |found| start + found);
            let mut text = &self.text[start..end];
            if trim_left {
                text = text.trim_start_matches(SPACES);
            }
            let inside = &self.text[(end + 2).min(self.text.len())..];
            let trims = inside.starts_with('-') && inside[1..].starts_with(SPACES);
            if end < self.text.len() && trims {
                text = text.trim_end_matches(SPACES);
            }
            if !text.is_empty() {
                let (at, text) = (start, text.to_owned());
                self.push(at, Token::Text(text));
            }
            if end == self.text.len() {
                self.push(end, Token::End);
                return Ok(());
            }
            self.at = end + 2 + if trims { 2 } else { 0 };
            let marker = if trims { inside[2..].trim_start_matches(SPACES) } else { inside };
            if marker.starts_with("/*") {
                trim_left = self.comment(end)?;
                continue;
            }
            self.push(end, Token::Left);
            trim_left = self.action()?;
        }
    }

    /// Skips a comment; answers whether it trims what follows.
    fn comment(&mut self, from: usize) -> Result<bool, (usize, String)> {
        let Some(end) = self.rest().find("*/") else { return Err((from, "unclosed comment".to_owned())) };
        self.at += end + 2;
        if self.rest().starts_with("}}") {
            self.at += 2;
            return Ok(false);
        }
        if self.rest().starts_with(SPACES) && self.rest()[1..].starts_with("-}}") {
            self.at += 4;
            return Ok(true);
        }
        Err((from, "comment ends before closing delimiter".to_owned()))
    }

    /// Reads to the end of an action; answers whether it trims what follows.
    fn action(&mut self) -> Result<bool, (usize, String)> {
        loop {
            let at = self.at;
            let rest = self.rest();
            let (trims, closes) = match rest.strip_prefix(SPACES) {
                Some(behind) if behind.starts_with("-}}") => (true, true),
                _ => (false, rest.starts_with("}}")),
            };
            if closes {
                if let Some(paren) = self.parens.last() {
                    return Err((*paren, "unclosed left paren".to_owned()));
                }
                self.at += if trims { 4 } else { 2 };
                self.push(at, Token::Right);
                return Ok(trims);
            }
            let Some(first) = rest.chars().next() else { return Err((at, "unclosed action".to_owned())) };
            match first {
                ' ' | '\t' | '\r' | '\n' => {
                    let length = rest.len() - rest.trim_start_matches(SPACES).len();
                    // The last space may belong to ` -}}`.
                    let length = if rest[length..].starts_with("-}}") { length - 1 } else { length };
                    self.at += length;
                    if length > 0 {
                        self.push(at, Token::Space);
                    }
                }
                '=' => self.single(Token::Assign),
                ':' if rest.starts_with(":=") => {
                    self.at += 2;
                    self.push(at, Token::Declare);
                }
                ':' => return Err((at, "expected :=".to_owned())),
                '|' => self.single(Token::Pipe),
                ',' => self.single(Token::Comma),
                '"' => self.quoted()?,
                '`' => self.raw()?,
                '\'' => self.character()?,
                '$' => {
                    let end = self.word_end(1);
                    self.at += end;
                    let name = self.text[at..self.at].to_owned();
                    self.terminated(at)?;
                    self.push(at, Token::Variable(name));
                }
                '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    let end = self.word_end(1);
                    self.at += end;
                    let name = self.text[at + 1..self.at].to_owned();
                    self.terminated(at)?;
                    self.push(at, if name.is_empty() { Token::Dot } else { Token::Field(name) });
                }
                '+' | '-' | '.' | '0'..='9' => self.number()?,
                '(' => {
                    self.parens.push(at);
                    self.single(Token::LeftParen);
                }
                ')' => {
                    if self.parens.pop().is_none() {
                        return Err((at, "unexpected right paren".to_owned()));
                    }
                    self.single(Token::RightParen);
                }
                c if c == '_' || c.is_alphabetic() => {
                    self.at += self.word_end(0);
                    let word = self.text[at..self.at].to_owned();
                    self.terminated(at)?;
                    let token = match word.as_str() {
                        "true" => Token::Bool(true),
                        "false" => Token::Bool(false),
                        "nil" => Token::Nil,
                        _ => Token::Word(word),
                    };
                    self.push(at, token);
                }
                c => return Err((at, format!("unexpected {c:?} in command"))),
            }
        }
    }

    fn single(&mut self, token: Token) {
        self.push(self.at, token);
        self.at += 1;
    }

    /// Where a word that has begun ends, from here.
    fn word_end(&self, from: usize) -> usize {
        let rest = &self.rest()[from..];
        from + rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len())
    }

    /// A word must not run into what is no end of it.
    fn terminated(&self, _at: usize) -> Result<(), (usize, String)> {
        match self.rest().chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(' | '=') => Ok(()),
            _ if self.rest().starts_with("}}") => Ok(()),
            Some(c) => Err((self.at, format!("bad character U+{:04X} {c:?}", c as u32))),
        }
    }

    fn quoted(&mut self) -> Result<(), (usize, String)> {
        let at = self.at;
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\n' => break,
                '"' => {
                    self.at += offset + 1;
                    let written = self.text[at..self.at].to_owned();
                    let text = unquote(&written[1..written.len() - 1]).ok_or((at, "invalid syntax".to_owned()))?;
                    self.push(at, Token::Quoted(text, written));
                    return Ok(());
                }
                _ => {}
            }
        }
        Err((at, "unterminated quoted string".to_owned()))
    }

    fn raw(&mut self) -> Result<(), (usize, String)> {
        let at = self.at;
        let Some(end) = self.rest()[1..].find('`') else {
            return Err((at, "unterminated raw quoted string".to_owned()));
        };
        self.at += end + 2;
        let written = self.text[at..self.at].to_owned();
        let text = written[1..written.len() - 1].replace('\r', "");
        self.push(at, Token::Quoted(text, written));
        Ok(())
    }

    fn character(&mut self) -> Result<(), (usize, String)> {
        let at = self.at;
        let rest = &self.rest()[1..];
        let skip = if rest.starts_with('\\') { 2 } else { 0 };
        let Some(end) = rest.get(skip..).and_then(|rest| rest.find('\'')) else {
            return Err((at, "unterminated character constant".to_owned()));
        };
        self.at += skip + end + 2;
        let written = self.text[at..self.at].to_owned();
        self.push(at, Token::Char(written));
        Ok(())
    }

    fn number(&mut self) -> Result<(), (usize, String)> {
        let at = self.at;
        let mut previous = ' ';
        let rest = self.rest();
        let is_hex = rest.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("0x");
        let mut end = rest.len();
        for (offset, c) in rest.char_indices() {
            let is_exponent = if is_hex { matches!(previous, 'p' | 'P') } else { matches!(previous, 'e' | 'E') };
            let is_sign = matches!(c, '+' | '-') && (offset == 0 || is_exponent);
            if !(is_sign || c == '.' || c == '_' || c.is_ascii_alphanumeric()) {
                end = offset;
                break;
            }
            previous = c;
        }
        self.at += end;
        let text = self.text[at..self.at].to_owned();
        if text.is_empty() || !text.contains(|c: char| c.is_ascii_digit()) {
            return Err((at, format!("bad number syntax: {text:?}")));
        }
        self.push(at, Token::Number(text));
        Ok(())
    }
}

/// What a Go text in double quotes, here without them, stands for.
pub(crate) fn unquote(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0; 4];
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        match chars.clone().next()? {
            'x' => {
                chars.next();
                let text: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&text, 16).ok()?);
            }
            _ => {
                let c = chars.next()?;
                let plain = match c {
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\x0b',
                    '\\' | '\'' | '"' => c,
                    'u' | 'U' => {
                        let text: String = chars.by_ref().take(if c == 'u' { 4 } else { 8 }).collect();
                        char::from_u32(u32::from_str_radix(&text, 16).ok()?)?
                    }
                    '0'..='7' => {
                        let text: String = std::iter::once(c).chain(chars.by_ref().take(2)).collect();
                        bytes.push(u8::from_str_radix(&text, 8).ok()?);
                        continue;
                    }
                    _ => return None,
                };
                bytes.extend_from_slice(plain.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
