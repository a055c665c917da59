//! Where the last lines of a file begin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes that are looked at together, from the end.
const BLOCK: usize = 16 << 10;

/// The offset from which on the file has `lines` lines; the last one may be unfinished.
pub(super) fn start(file: &File, lines: u64) -> io::Result<u64> {
    let size = file.metadata()?.len();
    if lines == 0 {
        return Ok(size);
    }
    let (mut block, mut end, mut ends) = (vec![0; BLOCK], size, 0);
    while end > 0 {
        let begin = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..usize::try_from(end - begin).unwrap_or(BLOCK)];
        file.read_exact_at(part, begin)?;
        for (at, byte) in part.iter().enumerate().rev() {
            // The last line's own end, if it has one, is none before it.
            if *byte == b'\n' && begin + at as u64 + 1 != size {
                ends += 1;
                if ends == lines {
                    return Ok(begin + at as u64 + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_are_found_across_blocks() {
        let mut file = tempfile::tempfile().unwrap();
        let lines: Vec<String> = (0..3000).map(|i| format!("line {i}\n")).collect();
        file.write_all(lines.concat().as_bytes()).unwrap();
        for count in [0, 1, 2, 1999, 2999, 3000, 5000] {
            let rest = lines[lines.len().saturating_sub(count)..].concat();
            let expected = (lines.concat().len() - rest.len()) as u64;
            assert_eq!(start(&file, count as u64).unwrap(), expected, "{count}");
        }
        file.write_all(b"unfinished").unwrap();
        assert_eq!(start(&file, 1).unwrap(), lines.concat().len() as u64);
        assert_eq!(start(&tempfile::tempfile().unwrap(), 3).unwrap(), 0);
    }
}
