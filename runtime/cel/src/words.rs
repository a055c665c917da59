//! Words that can't be names in expressions.

/// Those that mean something.
const MEANING: [&str; 4] = ["true", "false", "null", "in"];
/// Those that the language keeps to itself, so that programs in others can be made of expressions.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether a word may not stand in an expression at all.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Whether a word is no name in expressions.
pub fn is_word(word: &str) -> bool {
    MEANING.contains(&word) || is_reserved(word)
}
