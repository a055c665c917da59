//! What pods have of devices, in a file beside the plugins' sockets.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::table::GivenAll;

/// The file's name: upstream's, whose form is another one.
pub(super) const FILE: &str = "kubelet_internal_checkpoint";

/// All that is kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The names of all resources that had plugins.
    pub(super) resources: Vec<String>,
    pub(super) given: GivenAll,
}

/// The file: what is kept as text, and its SHA-256.
#[derive(Serialize, Deserialize)]
struct Sealed {
    data: String,
    checksum: String,
}

impl Checkpoint {
    /// Reads it, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub(super) fn load(folder: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(folder.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let sealed: Sealed = serde_json::from_slice(&text)?;
        if sum(&sealed.data) != sealed.checksum {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} does not match its checksum")));
        }
        Ok(Some(serde_json::from_str(&sealed.data)?))
    }

    /// Writes it, as a whole or not at all.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        let data = serde_json::to_string(self)?;
        let checksum = sum(&data);
        let new = folder.join(format!(".{FILE}"));
        fs::create_dir_all(folder)?;
        fs::write(&new, serde_json::to_vec(&Sealed { data, checksum })?)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(new, folder.join(FILE))
    }
}

fn sum(data: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(data.as_bytes()) {
        // Writing to a string never fails.
        _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_was_spoilt_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Checkpoint::load(folder.path()).expect("nothing yet"), None);
        let kept = Checkpoint { resources: vec!["example.org/stick".to_owned()], ..Checkpoint::default() };
        kept.save(folder.path()).expect("written");
        assert_eq!(Checkpoint::load(folder.path()).expect("read"), Some(kept));
        let file = folder.path().join(FILE);
        let text = fs::read_to_string(&file).expect("read");
        fs::write(&file, text.replace("stick", "stack")).expect("written");
        let why = Checkpoint::load(folder.path()).expect_err("refused").to_string();
        assert_eq!(why, "kubelet_internal_checkpoint does not match its checksum");
    }
}
