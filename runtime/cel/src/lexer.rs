//! Texts into words.

use std::sync::Arc;

use crate::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Name(Arc<str>),
    /// A field's name in backquotes.
    Quoted(Arc<str>),
    Int(i64),
    /// A number that is whole and one too large to be positive: only its negative is a number.
    Lowest,
    Uint(u64),
    Double(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", ".?", "[?", "{?", "<", ">", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":",
    "+", "-", "*", "/", "%", "!",
];

pub(crate) fn words(source: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let first = rest.chars().next().unwrap_or_default();
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if let Some((token, len)) = text(rest).map_err(|what| Fault::new(at, what))? {
            out.push((at, token));
            at += len;
        } else if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            let (token, len) = number(rest).map_err(|what| Fault::new(at, what))?;
            out.push((at, token));
            at += len;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push((at, Token::Name(rest[..len].into())));
            at += len;
        } else if first == '`' {
            let len = rest[1..].find('`').ok_or_else(|| Fault::new(at, "Syntax error: unterminated identifier"))?;
            out.push((at, Token::Quoted(rest[1..=len].into())));
            at += len + 2;
        } else if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            out.push((at, Token::Sign(sign)));
            at += sign.len();
        } else {
            return Err(Fault::new(at, format!("Syntax error: token recognition error at: '{first}'")));
        }
    }
    out.push((source.len(), Token::End));
    Ok(out)
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let len = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        let digits = &hex[..len];
        if hex[len..].starts_with(['u', 'U']) {
            return u64::from_str_radix(digits, 16).map(|n| (Token::Uint(n), len + 3)).map_err(|_| invalid("uint"));
        }
        return i64::from_str_radix(digits, 16).map(|n| (Token::Int(n), len + 2)).map_err(|_| invalid("int"));
    }
    let digits = |from: usize| rest[from..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |n| from + n);
    let mut end = digits(0);
    let mut real = false;
    if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        real = true;
        end = digits(end + 1);
    }
    if rest[end..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
        if rest[end + 1 + sign..].starts_with(|c: char| c.is_ascii_digit()) {
            real = true;
            end = digits(end + 1 + sign);
        }
    }
    let word = &rest[..end];
    if real {
        return word.parse().map(|n| (Token::Double(n), end)).map_err(|_| invalid("double"));
    }
    if rest[end..].starts_with(['u', 'U']) {
        return word.parse().map(|n| (Token::Uint(n), end + 1)).map_err(|_| invalid("uint"));
    }
    if word == "9223372036854775808" {
        return Ok((Token::Lowest, end));
    }
    word.parse().map(|n| (Token::Int(n), end)).map_err(|_| invalid("int"))
}

fn invalid(kind: &str) -> String {
    format!("Syntax error: invalid {kind} literal")
}

/// A text or bytes, if one begins here.
fn text(rest: &str) -> Result<Option<(Token, usize)>, String> {
    let prefix = rest.find(['"', '\'']).unwrap_or(rest.len());
    let marks = rest[..prefix].to_ascii_lowercase();
    if prefix == rest.len() || !matches!(marks.as_str(), "" | "r" | "b" | "rb" | "br") {
        return Ok(None);
    }
    let (raw, bytes) = (marks.contains('r'), marks.contains('b'));
    let body = &rest[prefix..];
    let quote = &body[..1];
    let triple = body.starts_with(&quote.repeat(3));
    let mark = if triple { quote.repeat(3) } else { quote.to_owned() };
    let inner = &body[mark.len()..];
    let mut out: Vec<u8> = Vec::new();
    let mut at = 0;
    loop {
        let left = &inner[at..];
        if left.starts_with(&mark) {
            let len = prefix + mark.len() + at + mark.len();
            if bytes {
                return Ok(Some((Token::Bytes(out.into()), len)));
            }
            let text = String::from_utf8(out).map_err(|_| "Syntax error: invalid text".to_owned())?;
            return Ok(Some((Token::Text(text.into()), len)));
        }
        let Some(c) = left.chars().next() else {
            return Err(format!("Syntax error: token recognition error at: '{body}'"));
        };
        if c == '\n' && !triple {
            return Err(format!(
                "Syntax error: token recognition error at: '{}'",
                body.lines().next().unwrap_or_default()
            ));
        }
        if c == '\\' && !raw {
            at += escape(left, bytes, &mut out)?;
        } else {
            out.extend_from_slice(&left.as_bytes()[..c.len_utf8()]);
            at += c.len_utf8();
        }
    }
}

/// What stands for another character; gives the length.
fn escape(text: &str, bytes: bool, out: &mut Vec<u8>) -> Result<usize, String> {
    let bad = || "Syntax error: invalid escape sequence".to_owned();
    let c = text[1..].chars().next().ok_or_else(bad)?;
    let simple = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '\'' | '"' | '`' | '?' => u8::try_from(c).map_err(|_| bad())?,
        _ => 0,
    };
    if simple != 0 {
        out.push(simple);
        return Ok(2);
    }
    let (radix, start, count) = match c {
        'x' | 'X' => (16, 2, 2),
        'u' if !bytes => (16, 2, 4),
        'U' if !bytes => (16, 2, 8),
        '0'..='3' => (8, 1, 3),
        _ => return Err(bad()),
    };
    let digits = text.get(start..start + count).ok_or_else(bad)?;
    let n = u32::from_str_radix(digits, radix).map_err(|_| bad())?;
    if bytes {
        out.push(u8::try_from(n).map_err(|_| bad())?);
    } else {
        let c = char::from_u32(n).ok_or_else(bad)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(start + count)
}
