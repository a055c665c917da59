//! The keys that may sign an index, and the check of a clearsigned index against them.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::SystemTime,
};

use pgp::{
    composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType},
    types::{KeyDetails, Tag, Timestamp, VerifyingKey},
};

use super::{Error, Result};

/// The Debian archive keys that this program ships; see `imager/keyring/README.md`.
const SHIPPED: &[u8] = include_bytes!("../../keyring/debian-archive.gpg");

/// How far a signature's or an index's date may lie ahead of this machine's clock, in seconds.
pub(super) const CLOCK_SKEW: i64 = 3600;

/// OpenPGP keys that are trusted to sign an archive's index. Clones share the keys.
#[derive(Clone)]
pub struct Keyring {
    keys: Arc<Vec<SignedPublicKey>>,
}

impl Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fingerprints()).finish()
    }
}

impl Keyring {
    /// The shipped Debian archive keys.
    ///
    /// # Errors
    /// [`Error::Keyring`] when they do not parse.
    pub fn shipped() -> Result<Self> {
        Self::from_bytes(SHIPPED)
    }

    /// Keys from concatenated binary OpenPGP public keys.
    ///
    /// # Errors
    /// [`Error::Keyring`] when they do not parse or there is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let keys = SignedPublicKey::from_bytes_many(bytes)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| Error::Keyring { reason: e.to_string() })?;
        if keys.is_empty() {
            return Err(Error::Keyring { reason: "no key in it".into() });
        }
        Ok(Self { keys: Arc::new(keys) })
    }

    /// Fingerprints of the primary keys, upper-case hex, in the order of the file.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|key| fingerprint(&key.primary_key)).collect()
    }

    /// Checks a clearsigned message and returns the text that was signed, and nothing else of what was sent.
    ///
    /// One good signature by one usable key suffices, as in apt: Debian signs with the keys of two releases, and not
    /// everybody has both. The error says why each signature was refused.
    pub(super) fn verify(&self, message: &[u8], now: SystemTime) -> Result<String, String> {
        let (message, _) =
            CleartextSignedMessage::from_armor(message).map_err(|e| format!("not a clearsigned message: {e}"))?;
        let now = Timestamp::try_from(now).map_err(|e| format!("this machine's clock: {e}"))?;
        let text = message.signed_text();
        let mut refused = Vec::new();
        for signature in message.signatures() {
            match self.check(signature, text.as_bytes(), now) {
                Ok(()) => return Ok(text),
                Err(reason) => refused.push(reason),
            }
        }
        if refused.is_empty() {
            refused.push("it has no signature".into());
        }
        Err(refused.join("; "))
    }

    /// Checks one signature over `text`.
    fn check(&self, signature: &Signature, text: &[u8], now: Timestamp) -> Result<(), String> {
        let issuer = issuer(signature);
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err(format!("the signature by {issuer} is not one over a document"));
        }
        if !matches!(
            signature.hash_alg(),
            Some(
                HashAlgorithm::Sha256
                    | HashAlgorithm::Sha384
                    | HashAlgorithm::Sha512
                    | HashAlgorithm::Sha3_256
                    | HashAlgorithm::Sha3_512
            )
        ) {
            return Err(format!("the signature by {issuer} uses a weak hash"));
        }
        let made = signature.created().ok_or_else(|| format!("the signature by {issuer} has no date"))?;
        if i64::from(made.as_secs()) > i64::from(now.as_secs()) + CLOCK_SKEW {
            return Err(format!("the signature by {issuer} is dated in the future; check this machine's clock"));
        }
        if ended(made, signature.signature_expiration_time().map(|d| d.as_secs()), now) {
            return Err(format!("the signature by {issuer} has expired"));
        }
        for key in self.keys.iter() {
            if issued_by(signature, &key.primary_key) {
                if !usable_primary(key, now)? {
                    return Err(format!("key {issuer} is not one for signing"));
                }
                return verify(signature, &key.primary_key, text, &issuer);
            }
            if let Some(subkey) = key.public_subkeys.iter().find(|subkey| issued_by(signature, &subkey.key)) {
                usable_primary(key, now)?;
                usable_subkey(key, subkey, now)?;
                return verify(signature, &subkey.key, text, &issuer);
            }
        }
        Err(format!("signed by {issuer}, which is not a key of the archive"))
    }
}

fn verify(signature: &Signature, key: &impl VerifyingKey, text: &[u8], issuer: &str) -> Result<(), String> {
    signature.verify(key, text).map_err(|_| format!("the signature by {issuer} does not fit the text"))
}

/// Whether a primary key may sign documents itself, if it is neither revoked nor expired.
fn usable_primary(key: &SignedPublicKey, now: Timestamp) -> Result<bool, String> {
    let primary = &key.primary_key;
    let name = fingerprint(primary);
    let revocations = &key.details.revocation_signatures;
    if revocations.iter().any(|signature| signature.verify_key(primary).is_ok()) {
        return Err(format!("key {name} is revoked"));
    }
    let direct = key.details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    // A user id also carries other people's certifications; only the key's own say when it expires.
    let certifications = key.details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(move |signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        })
    });
    // Debian's keys have both kinds, of which only the second tells expiry and use: the newest of each counts.
    let newest = [
        direct.max_by_key(|signature| signature.created()),
        certifications.max_by_key(|signature| signature.created()),
    ];
    let newest: Vec<&Signature> = newest.into_iter().flatten().collect();
    if newest.is_empty() {
        return Err(format!("key {name} has no valid self-signature"));
    }
    if newest.iter().any(|s| ended(primary.created_at(), s.key_expiration_time().map(|d| d.as_secs()), now)) {
        return Err(format!("key {name} has expired"));
    }
    Ok(newest.iter().any(|signature| signature.key_flags().sign()))
}

/// Whether a subkey is bound to its primary key for signing, and neither revoked nor expired.
fn usable_subkey(key: &SignedPublicKey, subkey: &SignedPublicSubKey, now: Timestamp) -> Result<(), String> {
    let name = fingerprint(&subkey.key);
    let bindings = || {
        subkey
            .signatures
            .iter()
            .filter(|signature| signature.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok())
    };
    if bindings().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation)) {
        return Err(format!("key {name} is revoked"));
    }
    let newest = bindings()
        .max_by_key(|signature| signature.created())
        .ok_or_else(|| format!("key {name} is not bound to its primary key"))?;
    let signs = newest.key_flags().sign()
        && newest
            .embedded_signature()
            .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok());
    if !signs {
        return Err(format!("key {name} is not one for signing"));
    }
    if ended(subkey.key.created_at(), newest.key_expiration_time().map(|d| d.as_secs()), now) {
        return Err(format!("key {name} has expired"));
    }
    Ok(())
}

/// Whether something made at `start` that lasts `seconds` (none or 0: for ever) is over.
fn ended(start: Timestamp, seconds: Option<u32>, now: Timestamp) -> bool {
    seconds.is_some_and(|s| s != 0 && u64::from(start.as_secs()) + u64::from(s) <= u64::from(now.as_secs()))
}

fn fingerprint(key: &impl KeyDetails) -> String {
    hex::encode_upper(key.fingerprint().as_bytes())
}

/// Whether the signature says that this key made it, by fingerprint where it has one.
fn issued_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().contains(&&key.legacy_key_id());
    }
    fingerprints.contains(&&key.fingerprint())
}

/// Who the signature says made it, for messages.
fn issuer(signature: &Signature) -> String {
    if let Some(fingerprint) = signature.issuer_fingerprint().first() {
        return hex::encode_upper(fingerprint.as_bytes());
    }
    match signature.issuer_key_id().first() {
        Some(id) => id.to_string().to_uppercase(),
        None => "an unnamed key".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_keys_are_those_of_the_readme_and_usable_until_they_expire() {
        let keyring = Keyring::shipped().unwrap();
        let readme = include_str!("../../keyring/README.md");
        assert_eq!(keyring.keys.len(), 6);
        let in_2026 = Timestamp::from_secs(1_790_000_000);
        let in_2036 = Timestamp::from_secs(2_090_000_000);
        for key in keyring.keys.iter() {
            let name = fingerprint(&key.primary_key);
            assert!(readme.contains(&name), "{name}");
            usable_primary(key, in_2026).unwrap();
            assert_eq!(usable_primary(key, in_2036).unwrap_err(), format!("key {name} has expired"));
            for subkey in &key.public_subkeys {
                assert!(readme.contains(&fingerprint(&subkey.key)));
                usable_subkey(key, subkey, in_2026).unwrap();
            }
        }
    }

    #[test]
    fn an_empty_keyring_is_refused() {
        assert!(matches!(Keyring::from_bytes(b""), Err(Error::Keyring { .. })));
    }
}
