//! `/etc/kiln/image.json`: what the imager wrote about this image.

use serde::Deserialize;

use crate::error::{Error, Result};

const PATH: &str = "/etc/kiln/image.json";

/// The image's description; fields that PID 1 has no use for are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Image {
    /// Board name, such as `rpi4`.
    pub(crate) board: String,
    /// Kiln's version.
    pub(crate) version: String,
    /// When the image was built, seconds since 1970: a lower bound for the clock.
    pub(crate) build_time: i64,
    /// Whether the hardware watchdog shall be armed.
    pub(crate) watchdog: bool,
}

impl Image {
    /// Reads the description.
    pub(crate) fn read() -> Result<Self> {
        let text = std::fs::read_to_string(PATH).map_err(|e| Error::io("read", PATH, e))?;
        serde_json::from_str(&text).map_err(|e| Error::malformed(PATH, e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_imagers_description_is_read() {
        let text = r#"{"schema":1,"board":"rpi4","arch":"aarch64","version":"0.1.0","buildTime":1750000000,
            "kernel":"6.12","suite":"trixie","containerRuntime":null,"watchdog":true}"#;
        let image: Image = serde_json::from_str(text).expect("valid");
        assert_eq!(image.board, "rpi4");
        assert_eq!(image.build_time, 1_750_000_000);
        assert!(image.watchdog);
    }
}
