//! References to variables: `$(NAME)` in commands, arguments, values and `subPathExpr`.

/// Puts the variables' values in place of references. `$$` is a dollar sign; what refers to nothing stays as it is.
pub(crate) fn expand<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let reference = after.strip_prefix('(').and_then(|open| open.split_once(')'));
        rest = if let Some((name, after)) = reference {
            match value(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            after
        } else if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            after
        } else {
            // The character after a lone dollar sign begins no other reference.
            let next = after.chars().next().map_or(0, char::len_utf8);
            expanded.push('$');
            expanded.push_str(&after[..next]);
            &after[next..]
        };
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_all_else_stays() {
        let value = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            "REF" => Some("$(A)"),
            _ => None,
        };
        let rows = [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "1"),
            ("-$(A)-$(A)-", "-1-1-"),
            ("$(EMPTY)x", "x"),
            ("$(REF)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("$", "$"),
            ("a$", "a$"),
            ("$()", "$()"),
            ("$(A))", "1)"),
            ("$($(A))", "$($(A))"),
            ("\u{e4}$\u{e4}$(A)", "\u{e4}$\u{e4}1"),
        ];
        for (text, expected) in rows {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }
}
