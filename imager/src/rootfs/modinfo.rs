//! Reading what a kernel module says of itself: the `.modinfo` section of an ELF object, possibly compressed.

use std::io::Read;

/// What a module says it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModInfo {
    /// Modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// Modules (or aliases) it wants loaded before itself if they exist.
    pub(super) softdep_pre: Vec<String>,
    /// Names by which the kernel asks for it, patterns included.
    pub(super) aliases: Vec<String>,
    /// Firmware files it may load, relative to the firmware directory.
    pub(super) firmware: Vec<String>,
}

/// Reads the bytes of a `.ko`, `.ko.xz` or `.ko.zst` file.
///
/// # Errors
/// One line that says what is wrong with the bytes.
pub(super) fn read(bytes: &[u8]) -> Result<ModInfo, String> {
    let unpacked;
    let elf = match bytes {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            let mut out = Vec::new();
            liblzma::read::XzDecoder::new(bytes).read_to_end(&mut out).map_err(|e| format!("xz: {e}"))?;
            unpacked = out;
            &unpacked
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            unpacked = zstd::decode_all(bytes).map_err(|e| format!("zstd: {e}"))?;
            &unpacked
        }
        _ => bytes,
    };
    let section = modinfo_section(elf).ok_or("not an ELF kernel module with a .modinfo section")?;
    Ok(parse(section))
}

fn parse(section: &[u8]) -> ModInfo {
    let mut info = ModInfo::default();
    for entry in section.split(|b| *b == 0) {
        let Ok(text) = std::str::from_utf8(entry) else { continue };
        match text.split_once('=') {
            Some(("depends", list)) => {
                info.depends.extend(list.split(',').filter(|m| !m.is_empty()).map(module_name));
            }
            Some(("softdep", rule)) => {
                // `pre: a b post: c`; only what must come before matters to the order of loading.
                let mut before = false;
                for word in rule.split_whitespace() {
                    match word {
                        "pre:" => before = true,
                        "post:" => before = false,
                        name if before => info.softdep_pre.push(module_name(name)),
                        _ => {}
                    }
                }
            }
            Some(("alias", alias)) => info.aliases.push(alias.to_owned()),
            Some(("firmware", file)) => info.firmware.push(file.to_owned()),
            _ => {}
        }
    }
    info
}

/// A module's name as the kernel has it: file names may have dashes where the name has underscores.
pub(super) fn module_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Finds `.modinfo` in a little-endian ELF object of either word size.
fn modinfo_section(elf: &[u8]) -> Option<&[u8]> {
    if elf.get(..4)? != b"\x7fELF" || *elf.get(5)? != 1 {
        return None;
    }
    let wide = *elf.get(4)? == 2;
    let (table, entry_size, count, names) = if wide {
        (word(elf, 0x28, 8)?, word(elf, 0x3a, 2)?, word(elf, 0x3c, 2)?, word(elf, 0x3e, 2)?)
    } else {
        (word(elf, 0x20, 4)?, word(elf, 0x2e, 2)?, word(elf, 0x30, 2)?, word(elf, 0x32, 2)?)
    };
    let header = |index: usize| elf.get(table + index * entry_size..)?.get(..entry_size);
    let body = |header: &[u8]| {
        let (offset, size) = if wide {
            (word(header, 0x18, 8)?, word(header, 0x20, 8)?)
        } else {
            (word(header, 0x10, 4)?, word(header, 0x14, 4)?)
        };
        elf.get(offset..offset.checked_add(size)?)
    };
    let names = body(header(names)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let name = names.get(word(header, 0, 4)?..)?;
        name.starts_with(b".modinfo\0").then(|| body(header)).flatten()
    })
}

/// A little-endian number of `size` bytes at `at`.
fn word(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let slice = bytes.get(at..at.checked_add(size)?)?;
    let value = slice.iter().rev().fold(0u64, |acc, b| (acc << 8) | u64::from(*b));
    usize::try_from(value).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The smallest 64-bit object with a `.modinfo` section of these entries.
    pub(crate) fn object(entries: &[&str]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let body: Vec<u8> = entries.iter().flat_map(|e| e.bytes().chain([0])).collect();
        let (names_at, body_at) = (64, 64 + names.len());
        let table = body_at + body.len();
        let mut elf = vec![0u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        elf[0x3a..0x40].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        elf.extend_from_slice(names);
        elf.extend_from_slice(&body);
        let mut section = |name: u32, at: usize, len: usize| {
            let mut header = [0u8; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(len as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        };
        section(0, 0, 0);
        section(1, body_at, body.len());
        section(10, names_at, names.len());
        elf
    }

    #[test]
    fn needs_are_read_from_the_modinfo_section() {
        let elf =
            object(&["license=GPL", "depends=jbd2,crc16", "softdep=pre: crypto-crc32c post: late", "alias=fs-ext4"]);
        let info = read(&elf).expect("a well-formed object");
        assert_eq!(info.depends, ["jbd2", "crc16"]);
        assert_eq!(info.softdep_pre, ["crypto_crc32c"]);
        assert_eq!(info.aliases, ["fs-ext4"]);
    }

    #[test]
    fn bytes_that_are_no_module_are_refused_and_do_not_panic() {
        let elf = object(&["depends="]);
        assert!(read(b"not a module").is_err());
        for cut in 0..elf.len() {
            // Any answer will do as long as it is one.
            let _ = read(&elf[..cut]);
        }
    }
}
