//! The join token: `K10<sha256 of the CA's DER, 64 hex>::<id, 6>:<secret, 16>`.
//!
//! The hash is public and pins the cluster's CA; id and secret are a Kubernetes bootstrap token. `Display` writes the whole
//! token, `Debug` and [`Token::masked`] leave the secret out.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Characters of a token's id.
pub const ID_LEN: usize = 6;
/// Characters of a token's secret.
pub const SECRET_LEN: usize = 16;
/// What every token starts with: K and the format's number.
pub const PREFIX: &str = "K10";

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    ca_hash: String,
    id: String,
    secret: String,
}

/// A text that is no join token. The text itself is never repeated here, since it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It doesn't start with `K10`.
    #[error("a join token starts with `K10`; make one with `kiln token create` or `imager cluster init`")]
    Prefix,
    /// `::` and `:` don't stand where they should.
    #[error("a join token has the form K10<64 hex digits>::<id>:<secret>; copy it again in full")]
    Shape,
    /// The hash isn't 64 lower-case hex digits.
    #[error("the CA hash in the join token isn't 64 lower-case hex digits; copy the token again in full")]
    Hash,
    /// The id isn't 6 characters of `[a-z0-9]`.
    #[error("the id in the join token isn't 6 characters of a-z and 0-9; copy the token again in full")]
    Id,
    /// The secret isn't 16 characters of `[a-z0-9]`.
    #[error("the secret in the join token isn't 16 characters of a-z and 0-9; copy the token again in full")]
    Secret,
}

impl Token {
    /// A token of its three parts.
    ///
    /// # Errors
    /// [`TokenError`] for the first part that isn't of its form.
    pub fn new(ca_hash: &str, id: &str, secret: &str) -> Result<Self, TokenError> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let base36 = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
        if ca_hash.len() != 64 || !ca_hash.chars().all(hex) {
            return Err(TokenError::Hash);
        }
        if id.len() != ID_LEN || !id.chars().all(base36) {
            return Err(TokenError::Id);
        }
        if secret.len() != SECRET_LEN || !secret.chars().all(base36) {
            return Err(TokenError::Secret);
        }
        Ok(Token { ca_hash: ca_hash.to_owned(), id: id.to_owned(), secret: secret.to_owned() })
    }

    /// Reads a token; spaces around it are ignored.
    ///
    /// # Errors
    /// [`TokenError`], which never repeats the text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let (hash, credentials) = rest.split_once("::").ok_or(TokenError::Shape)?;
        let (id, secret) = credentials.split_once(':').ok_or(TokenError::Shape)?;
        Token::new(hash, id, secret)
    }

    /// SHA-256 of the CA certificate's DER, 64 lower-case hex digits.
    pub fn ca_hash(&self) -> &str {
        &self.ca_hash
    }

    /// The public id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// `<id>.<secret>`: what a Kubernetes API takes as bearer token.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The token with its secret replaced by `****************`, for listings.
    pub fn masked(&self) -> String {
        format!("{PREFIX}{}::{}:{}", self.ca_hash, self.id, "*".repeat(SECRET_LEN))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        Token::parse(text)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}::{}:{}", self.ca_hash, self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.masked())
    }
}

impl Serialize for Token {
    /// Masked: what is serialised is shown to people; the file itself is written by [`crate::edit`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        format!("K10{}::abc123:0123456789abcdef", "0a".repeat(32))
    }

    #[test]
    fn a_token_is_read_and_written_unchanged() {
        let token: Token = format!(" {}\n", text()).parse().unwrap();
        assert_eq!(token.to_string(), text());
        assert_eq!(token.bearer(), "abc123.0123456789abcdef");
    }

    #[test]
    fn the_secret_is_neither_in_debug_nor_in_what_is_serialised_nor_in_errors() {
        let token = Token::parse(&text()).unwrap();
        assert!(!format!("{token:?} {}", token.masked()).contains("0123456789abcdef"));
        let error = Token::parse(&format!("{}!", text())).unwrap_err();
        assert_eq!(error, TokenError::Secret);
        assert!(!error.to_string().contains("0123456789abcdef"));
    }

    #[test]
    fn each_wrong_part_has_its_own_error() {
        let h = "0".repeat(64);
        for (text, error) in [
            ("abc.def".to_owned(), TokenError::Prefix),
            ("K10abc".to_owned(), TokenError::Shape),
            (format!("K10{h}::abcdef"), TokenError::Shape),
            (format!("K10{}::abcdef:0123456789abcdef", "G".repeat(64)), TokenError::Hash),
            (format!("K10{h}::abcde:0123456789abcdef"), TokenError::Id),
            (format!("K10{h}::abcdef:0123"), TokenError::Secret),
        ] {
            assert_eq!(Token::parse(&text), Err(error), "{text}");
        }
    }
}
