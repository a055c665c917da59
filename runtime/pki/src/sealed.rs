//! Secrets in places that others can read: sealed with a password, as a cluster's keys are in a datastore that its servers
//! share.
//!
//! PBKDF2-HMAC-SHA256 makes the key of the password and a salt, AES-256-GCM seals. The text says how it was made:
//! `kiln-sealed-1:<rounds>:<salt>:<sealed>`, the last two in base64.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;

use crate::PkiError;
use crate::secret::random_bytes;

const FORMAT: &str = "kiln-sealed-1";
/// What OWASP recommends for this function. A small board takes a second for it, once per start.
const ROUNDS: u32 = 600_000;
/// More than this nobody has used: the text is not from here.
const MOST_ROUNDS: u32 = 10_000_000;

/// Seals a text.
///
/// # Errors
/// [`PkiError::Random`].
pub fn seal(password: &str, plain: &str) -> Result<String, PkiError> {
    let salt: [u8; 16] = random_bytes()?;
    let mut data = plain.as_bytes().to_vec();
    let key = key(password, &salt, ROUNDS).ok_or(PkiError::Random)?;
    // The key is of this salt alone, so it seals only once and any nonce will do.
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    key.seal_in_place_append_tag(nonce, Aad::from(FORMAT), &mut data).map_err(|_| PkiError::Random)?;
    Ok(format!("{FORMAT}:{ROUNDS}:{}:{}", STANDARD.encode(salt), STANDARD.encode(data)))
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`PkiError::Sealed`] when the password is another, or the text was changed.
pub fn open(password: &str, sealed: &str) -> Result<String, PkiError> {
    try_open(password, sealed).ok_or(PkiError::Sealed)
}

fn try_open(password: &str, sealed: &str) -> Option<String> {
    let mut parts = sealed.split(':');
    let (format, rounds, salt, data) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let rounds = rounds.parse().ok().filter(|rounds| (1..=MOST_ROUNDS).contains(rounds))?;
    if format != FORMAT || parts.next().is_some() {
        return None;
    }
    let mut data = STANDARD.decode(data).ok()?;
    let key = key(password, &STANDARD.decode(salt).ok()?, rounds)?;
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    let plain = key.open_in_place(nonce, Aad::from(FORMAT), &mut data).ok()?;
    String::from_utf8(plain.to_vec()).ok()
}

fn key(password: &str, salt: &[u8], rounds: u32) -> Option<LessSafeKey> {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::new(rounds)?, salt, password.as_bytes(), &mut key);
    UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_its_password_only() {
        let sealed = seal("correct horse", "the keys").unwrap();
        assert!(!sealed.contains("keys"));
        assert_eq!(open("correct horse", &sealed).unwrap(), "the keys");
        assert!(matches!(open("battery staple", &sealed), Err(PkiError::Sealed)));
        let mut changed = sealed.clone();
        changed.replace_range(sealed.len() - 8..sealed.len() - 7, "~");
        for text in [changed.as_str(), "", "kiln-sealed-1", "kiln-sealed-1:0:AA==:AA==", "kiln-sealed-1:1:AA==:"] {
            assert!(open("correct horse", text).is_err(), "{text}");
        }
        assert_ne!(seal("correct horse", "the keys").unwrap(), sealed);
    }
}
