//! Lines of words and blocks in braces.

/// A line: its words, and the lines of the block behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// Its line, from 1.
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    pub(super) body: Option<Vec<Directive>>,
}

/// Blocks in blocks in blocks are no one's.
const DEPTH: usize = 4;

/// Reads lines; answers the line of a mistake and what it is.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, (usize, String)> {
    // Those that are open, the innermost last.
    let mut open: Vec<Vec<Directive>> = vec![Vec::new()];
    let mut lines = 0;
    for (index, line) in text.lines().enumerate() {
        lines = index + 1;
        let mut words = words(line).map_err(|what| (lines, what))?;
        if words.first().is_some_and(|word| word == "}") {
            close(&mut open).map_err(|what| (lines, what))?;
            words.remove(0);
            if !words.is_empty() {
                return Err((lines, "nothing may stand behind a closing brace".to_owned()));
            }
            continue;
        }
        let opens = words.last().is_some_and(|word| word == "{");
        // A block of one line, as `{ forward . 10.0.0.1 }`.
        let closes = words.last().is_some_and(|word| word == "}");
        let body = if closes {
            let Some(at) = words.iter().position(|word| word == "{") else {
                return Err((lines, "a closing brace must stand on a line of its own".to_owned()));
            };
            let mut inner = words.split_off(at);
            inner.remove(0);
            inner.pop();
            let none = inner.is_empty();
            let inner = Directive { line: lines, words: inner, body: None };
            Some(if none { Vec::new() } else { vec![inner] })
        } else {
            None
        };
        if opens {
            words.pop();
        }
        if words.iter().any(|word| word == "{" || word == "}") {
            return Err((lines, "an opening brace must end its line".to_owned()));
        }
        if words.is_empty() {
            if opens || body.is_some() {
                return Err((lines, "a brace stands behind nothing".to_owned()));
            }
            continue;
        }
        if let Some(last) = open.last_mut() {
            last.push(Directive { line: lines, words, body });
        }
        if opens {
            if open.len() >= DEPTH {
                return Err((lines, "too many blocks in one another".to_owned()));
            }
            open.push(Vec::new());
        }
    }
    match open.as_mut_slice() {
        [all] => Ok(std::mem::take(all)),
        _ => Err((lines, "a closing brace is missing".to_owned())),
    }
}

/// The innermost open block becomes its directive's body.
fn close(open: &mut Vec<Vec<Directive>>) -> Result<(), String> {
    let body = open.pop().filter(|_| !open.is_empty());
    match (open.last_mut().and_then(|outer| outer.last_mut()), body) {
        (Some(directive), Some(body)) => {
            directive.body = Some(body);
            Ok(())
        }
        _ => Err("a closing brace closes nothing".to_owned()),
    }
}

/// A line's words; `#` begins a remark, quotes hold words together.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => break,
            '"' => {
                let end = rest[1..].find('"').ok_or("a quote is not closed")?;
                out.push(rest[1..=end].to_owned());
                rest = &rest[end + 2..];
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                out.push(rest[..end].to_owned());
                rest = &rest[end..];
            }
        }
        rest = rest.trim_start();
    }
    Ok(out)
}
