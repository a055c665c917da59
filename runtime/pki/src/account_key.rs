//! The key that signs service accounts' tokens.

use std::path::Path;

use rcgen::KeyPair;

use crate::{PkiError, files};

/// The key kept in this file, PKCS#8 PEM of ECDSA on P-256; made and written (mode 0600) where there is none.
///
/// # Errors
/// [`PkiError::File`], [`PkiError::Sign`], or [`PkiError::Decode`] for a file that holds no key.
pub fn load_or_make(path: &Path) -> Result<String, PkiError> {
    if let Some(pem) = files::read(path)? {
        KeyPair::from_pem(&pem)
            .map_err(|e| PkiError::Decode { what: "key of service accounts' tokens", why: e.to_string() })?;
        return Ok(pem);
    }
    let pem = KeyPair::generate()?.serialize_pem();
    files::write_private(path, &pem)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_a_broken_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("service-account.key");
        let first = load_or_make(&path).unwrap();
        assert!(first.contains("PRIVATE KEY"));
        assert_eq!(load_or_make(&path).unwrap(), first);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(load_or_make(&path).unwrap_err().to_string().contains("key of service accounts' tokens"));
    }
}
