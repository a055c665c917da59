//! Where in a YAML text a key stands a second time, as the reference's YAML reader tells it.

/// A block mapping that is being read: its indent and its keys.
struct Block<'t> {
    indent: usize,
    keys: Vec<&'t str>,
}

/// `line 9: key "foo" already set in map`, for every key that stands twice in a mapping of its own lines. Mappings within one
/// line are not looked into.
pub(super) fn duplicates(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut blocks: Vec<Block<'_>> = Vec::new();
    // The indent of a key whose text runs over the deeper lines that follow.
    let mut literal: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let rest = line.trim_start_matches(' ');
        let mut indent = line.len() - rest.len();
        if rest.trim().is_empty() || rest.starts_with('#') {
            continue;
        }
        if literal.is_some_and(|outer| indent > outer) {
            continue;
        }
        literal = None;
        if rest.starts_with("---") {
            blocks.clear();
            continue;
        }
        let mut rest = rest;
        while let Some(item) = rest.strip_prefix("- ") {
            let inner = item.trim_start_matches(' ');
            // What was deeper belongs to the element before.
            blocks.retain(|block| block.indent <= indent);
            indent += rest.len() - inner.len();
            rest = inner;
        }
        let Some((key, value)) = key(rest) else { continue };
        blocks.retain(|block| block.indent <= indent);
        match blocks.last_mut().filter(|block| block.indent == indent) {
            Some(block) if block.keys.contains(&key) => {
                out.push(format!("line {}: key {key:?} already set in map", number + 1));
            }
            Some(block) => block.keys.push(key),
            None => blocks.push(Block { indent, keys: vec![key] }),
        }
        if value.starts_with(['|', '>']) {
            literal = Some(indent);
        }
    }
    out
}

/// The key and what follows it, of a line that begins with one.
fn key(line: &str) -> Option<(&str, &str)> {
    for quote in ['"', '\''] {
        if let Some(inner) = line.strip_prefix(quote) {
            let (key, rest) = inner.split_once(quote)?;
            return Some((key, rest.trim_start().strip_prefix(':')?.trim_start()));
        }
    }
    if line.starts_with(['{', '[']) {
        return None;
    }
    let (at, _) = line.match_indices(':').find(|(at, _)| matches!(line.as_bytes().get(at + 1), None | Some(b' ')))?;
    Some((line[..at].trim_end(), line[at + 1..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_told_with_its_second_line() {
        let text = "\napiVersion: v1\nmetadata:\n  name: x\nspec:\n  unknown: u\n  foo: foo1\n  foo: foo2\n  ports:\n  - name: x\n    \
                    port: 80\n  - name: x\n    port: 81\n    name: y\n  text: |\n    foo: 1\n    foo: 2\n  cron: \"* * :\"\nspec: {}\n";
        assert_eq!(
            duplicates(text),
            [
                "line 8: key \"foo\" already set in map",
                "line 14: key \"name\" already set in map",
                "line 19: key \"spec\" already set in map",
            ]
        );
    }

    #[test]
    fn mappings_of_their_own_and_quoted_keys_are_told_apart() {
        assert_eq!(duplicates("a:\n  k: 1\nb:\n  k: 2\n"), [""; 0]);
        assert_eq!(duplicates("l:\n- - k: 1\n  - k: 1\n"), [""; 0]);
        assert_eq!(duplicates("\"a:b\": 1\n'a:b': 2\n"), ["line 2: key \"a:b\" already set in map"]);
        assert_eq!(duplicates("{\"a\": 1, \"a\": 2}"), [""; 0]);
    }
}
