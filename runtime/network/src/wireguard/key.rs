//! Keys of WireGuard's ends, in base64 as its own tools write them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The key by which others know an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PublicKey(pub(crate) [u8; 32]);

/// The key that an end keeps to itself.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey([u8; 32]);

/// The text is no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no key of WireGuard, which is 32 bytes in base64")]
pub struct InvalidKey;

impl PrivateKey {
    /// Makes one of random bytes. Some bits are the same in all keys of Curve25519.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        bytes[0] &= 0xf8;
        bytes[31] = bytes[31] & 0x7f | 0x40;
        Self(bytes)
    }

    /// Its text, for nobody else's eyes.
    pub fn secret(&self) -> String {
        STANDARD.encode(self.0)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PrivateKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        read(text).map(Self::new)
    }
}

/// Shows that there is one.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        read(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

fn read(text: &str) -> Result<[u8; 32], InvalidKey> {
    STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(InvalidKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_the_tools_of_wireguard_write_them_and_a_private_one_is_not_shown() {
        let text = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        assert_eq!(text.parse::<PublicKey>().map(|key| (key.0, key.to_string())), Ok(([1; 32], text.to_owned())));
        let private = PrivateKey::new([0xff; 32]);
        assert_eq!((private.bytes()[0], private.bytes()[31]), (0xf8, 0x7f));
        assert_eq!(format!("{}\n", private.secret()).parse(), Ok(private.clone()));
        assert_eq!(format!("{private:?}"), "PrivateKey");
        for wrong in ["", "AQEB", "?", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(InvalidKey), "{wrong}");
        }
    }
}
