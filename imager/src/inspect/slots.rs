//! Which of the two slots a board starts.

use super::{Card, CardError};
use crate::image::{fat::FatError, reader::Part};

/// The slot that `autoboot.txt` names, as the Raspberry Pi's firmware reads it; slot A where there is none. A CONFIG
/// that is no file system counts as one without the file: a node started from such a card tells its fault itself.
///
/// # Errors
/// [`CardError`] when the medium cannot be read.
pub fn active_slot(card: &Card) -> Result<Part, CardError> {
    let text = match card.read_if_there(Part::Config, "autoboot.txt") {
        Err(CardError::Fat { source: FatError::Damaged { .. }, .. }) => None,
        other => other?,
    };
    let text = text.unwrap_or_default();
    Ok(match boot_partition(&String::from_utf8_lossy(&text)) {
        Some(3) => Part::SlotB,
        _ => Part::SlotA,
    })
}

/// `boot_partition` in the section for a normal start.
fn boot_partition(text: &str) -> Option<u8> {
    let mut normal = true;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            normal = line == "[all]";
        } else if let Some(("boot_partition", number)) = line.split_once('=')
            && normal
        {
            found = number.trim().parse().ok();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normal_start_takes_the_partition_for_all() {
        assert_eq!(boot_partition("[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"), Some(2));
        assert_eq!(boot_partition("[tryboot]\nboot_partition=2\n[all]\nboot_partition=3\n"), Some(3));
        assert_eq!(boot_partition(""), None);
    }
}
