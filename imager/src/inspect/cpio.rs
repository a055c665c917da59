//! One file out of a cpio archive in the kernel's "newc" form (its `buffer-format.rst`).

const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";
const TRAILER: &str = "TRAILER!!!";

/// The bytes of the file `name` (no leading slash) in an uncompressed archive; `None` when it is absent or the archive
/// is damaged before it.
pub(super) fn find<'a>(archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = 0_usize;
    loop {
        let header = archive.get(at..at.checked_add(HEADER)?)?;
        if !header.starts_with(MAGIC) {
            return None;
        }
        let size = field(header, 6)?;
        let name_size = field(header, 11)?;
        let name_at = at + HEADER;
        let entry = archive.get(name_at..name_at.checked_add(name_size)?)?;
        let entry = std::str::from_utf8(entry.strip_suffix(b"\0")?).ok()?;
        let data_at = (name_at + name_size).next_multiple_of(4);
        let data = archive.get(data_at..data_at.checked_add(size)?)?;
        if entry == TRAILER {
            return None;
        }
        if entry.trim_start_matches("./").trim_start_matches('/') == name {
            return Some(data);
        }
        at = (data_at + size).next_multiple_of(4);
    }
}

/// The numbered 8-digit hex field after the magic number.
fn field(header: &[u8], index: usize) -> Option<usize> {
    let start = MAGIC.len() + 8 * index;
    let text = std::str::from_utf8(header.get(start..start + 8)?).ok()?;
    usize::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, data: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for index in 0..13 {
            let value = match index {
                6 => data.len(),
                11 => name.len() + 1,
                _ => 0,
            };
            out.extend_from_slice(format!("{value:08X}").as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn a_file_is_found_behind_others() {
        let archive = [entry("init", b"#!"), entry("etc/image.json", b"{}"), entry(TRAILER, b"")].concat();
        assert_eq!(find(&archive, "etc/image.json"), Some(&b"{}"[..]));
        assert_eq!(find(&archive, "etc/absent"), None);
    }

    #[test]
    fn a_cut_archive_has_no_file() {
        let archive = entry("etc/image.json", b"{\"board\":\"x\"}");
        assert_eq!(find(&archive[..archive.len() - 8], "etc/image.json"), None);
    }
}
