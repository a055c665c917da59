//! `node.toml` on a card, with its secrets masked wherever it is shown.

use kiln_node_config::{Token, token};

use super::{Card, CardError};
use crate::image::reader::Part;

/// Where the settings are on CONFIG.
pub const NODE_TOML: &str = "/node.toml";

/// The text of a card's settings; `None` when it has none.
///
/// # Errors
/// [`CardError`] when CONFIG cannot be read.
pub fn text(card: &Card) -> Result<Option<String>, CardError> {
    let bytes = card.read_if_there(Part::Config, NODE_TOML)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// A text with every join token's secret masked, also in comments and where the file is not valid.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(token::PREFIX) {
        let (before, tail) = rest.split_at(at);
        let end = tail.find(|c: char| !(c.is_ascii_alphanumeric() || c == ':')).unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        out.push_str(before);
        match Token::parse(word) {
            Ok(token) => out.push_str(&token.masked()),
            // Something like a token: what stands after its last colon may be a secret all the same.
            Err(_) => match word.rsplit_once(':') {
                Some((public, secret)) => out.push_str(&format!("{public}:{}", "*".repeat(secret.len()))),
                None => out.push_str(word),
            },
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_values_comments_and_broken_tokens() {
        let hash = "ab".repeat(32);
        let text = format!(
            "token = \"K10{hash}::abcdef:0123456789abcdef\" # was K10{hash}::abcdef:fedcba9876543210\n# K10x::abcdef:tooshort\n"
        );
        let shown = masked(&text);
        for secret in ["0123456789abcdef", "fedcba9876543210", "tooshort"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains(&format!("K10{hash}::abcdef:****************\"")), "{shown}");
    }

    #[test]
    fn a_text_without_a_token_stays() {
        assert_eq!(masked("name = \"K1\" # fine\n"), "name = \"K1\" # fine\n");
    }
}
