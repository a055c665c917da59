//! Random secrets and their comparison: bootstrap tokens, and the identity that ties a node's name to its board.

use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;

use crate::PkiError;

/// Characters of a bootstrap token's id.
pub const ID_LEN: usize = 6;
/// Characters of a bootstrap token's secret.
pub const SECRET_LEN: usize = 16;

/// A new bootstrap token: the public id and the secret, both of `[a-z0-9]`, as Kubernetes has them.
///
/// # Errors
/// [`PkiError::Random`].
pub fn new_token() -> Result<(String, String), PkiError> {
    Ok((random_text(ID_LEN)?, random_text(SECRET_LEN)?))
}

/// `len` random characters of `[a-z0-9]`, each as likely as any other.
///
/// # Errors
/// [`PkiError::Random`].
pub fn random_text(len: usize) -> Result<String, PkiError> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // The largest multiple of 36 below 256; bytes above it would favour the alphabet's start.
    const LIMIT: u8 = 252;
    let mut out = String::with_capacity(len);
    while out.len() < len {
        let fair = random_bytes::<32>()?.into_iter().filter(|b| *b < LIMIT);
        out.extend(fair.take(len - out.len()).map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])));
    }
    Ok(out)
}

/// `N` random bytes.
///
/// # Errors
/// [`PkiError::Random`].
pub fn random_bytes<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| PkiError::Random)?;
    Ok(bytes)
}

/// SHA-256 of a secret, 64 lower-case hex digits: what is stored in its place. A token's secret has 82 bits, so it needs
/// neither salt nor stretching.
pub fn hash(secret: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref())
}

/// Whether `secret` hashes to `stored`, in a time that doesn't depend on where they differ.
pub fn matches_hash(secret: &str, stored: &str) -> bool {
    equal(&hash(secret), &stored.to_ascii_lowercase())
}

/// Whether two texts are equal, in a time that depends on their lengths only.
pub fn equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// A board's identity towards one cluster: HMAC-SHA256 with the board id as key over the CA hash (both as the hex text they
/// are passed around in), as 64 lower-case hex digits. It tells another cluster nothing about the board.
pub fn node_identity(board_id: &str, ca_hash: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, board_id.as_bytes());
    hex(ring::hmac::sign(&key, ca_hash.as_bytes()).as_ref())
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_that_kubernetes_wants_and_differ() {
        let (id, secret) = new_token().unwrap();
        assert_eq!((id.len(), secret.len()), (6, 16));
        assert!(format!("{id}{secret}").chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        assert_ne!(new_token().unwrap().1, secret);
    }

    #[test]
    fn a_secret_matches_its_hash_only() {
        // Of `printf abc | sha256sum`.
        let stored = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), stored);
        assert!(matches_hash("abc", stored) && matches_hash("abc", &stored.to_uppercase()));
        assert!(!matches_hash("abd", stored) && !matches_hash("abc", ""));
    }

    #[test]
    fn a_board_has_another_identity_in_another_cluster() {
        let here = node_identity("board", "cluster-1");
        assert_eq!(here.len(), 64);
        assert_eq!(here, node_identity("board", "cluster-1"));
        assert_ne!(here, node_identity("board", "cluster-2"));
        assert_ne!(here, node_identity("other", "cluster-1"));
    }
}
