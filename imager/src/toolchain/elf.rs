//! Whether a file is a static executable for an architecture.

use std::{fs::File, io::Read, path::Path};

use super::{Error, Result};
use crate::profile::Arch;

/// Enough of a file for its ELF header and, in every linker's output, the program headers that follow it.
const HEAD: u64 = 4096;

/// Program header type of the dynamic loader's path: a static binary has none.
const PT_INTERP: u32 = 3;

/// Executable, and position-independent executable.
const ET_EXEC_DYN: [u16; 2] = [2, 3];

/// Class (1: 32 bit, 2: 64 bit) and machine of an architecture's ELF files.
fn expected(arch: Arch) -> (u8, u16) {
    match arch {
        Arch::Aarch64 => (2, 183),
        Arch::Armv7 => (1, 40),
        Arch::X86_64 => (2, 62),
    }
}

/// Checks that the file is a little-endian ELF executable for `arch` and needs no dynamic loader.
///
/// # Errors
/// [`Error::BadBinary`] with what it is instead; [`Error::Io`] when it cannot be read.
pub(super) fn check(path: &Path, arch: Arch) -> Result<()> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.take(HEAD).read_to_end(&mut head).map_err(Error::io("read", path))?;
    verdict(&head, arch).map_err(|reason| Error::BadBinary { path: path.into(), reason })
}

fn verdict(head: &[u8], arch: Arch) -> Result<(), String> {
    let cut = || "it ends within its headers".to_owned();
    if !head.starts_with(b"\x7fELF") {
        return Err("it is not an ELF executable".into());
    }
    let byte = |at: usize| head.get(at).copied().ok_or_else(cut);
    let half = |at: usize| Ok::<_, String>(u16::from_le_bytes([byte(at)?, byte(at + 1)?]));
    let word = |at: usize| Ok::<_, String>(u32::from(half(at)?) | u32::from(half(at + 2)?) << 16);
    let (class, machine) = expected(arch);
    if (byte(4)?, byte(5)?, half(18)?) != (class, 1, machine) {
        return Err(format!("it is an executable for another architecture, not for {arch}"));
    }
    if !ET_EXEC_DYN.contains(&half(16)?) {
        return Err("it is an object or a core file, not an executable".into());
    }
    let wide = class == 2;
    // e_phoff is a 64-bit field in the wide form, but program headers lie within the first kilobytes.
    let (offset, size, count) = match wide {
        true => (word(32)?, half(54)?, half(56)?),
        false => (word(28)?, half(42)?, half(44)?),
    };
    for index in 0..usize::from(count) {
        let at = usize::try_from(offset).map_err(|_| cut())? + index * usize::from(size);
        if word(at)? == PT_INTERP {
            return Err(
                "it is dynamically linked; a board has no loader for it, so build it for the musl target".into()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-byte ELF header and one program header of the given type.
    fn elf64(machine: u16, header: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16] = 2;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&header.to_le_bytes());
        bytes
    }

    #[test]
    fn a_static_binary_of_the_architecture_is_taken() {
        assert_eq!(verdict(&elf64(183, 1), Arch::Aarch64), Ok(()));
    }

    #[test]
    fn other_files_are_refused_with_what_they_are() {
        for (bytes, word) in [
            (b"#!/bin/sh\n".to_vec(), "not an ELF"),
            (elf64(62, 1), "another architecture"),
            (elf64(183, PT_INTERP), "dynamically linked"),
            (elf64(183, 1)[..60].to_vec(), "ends within"),
        ] {
            let reason = verdict(&bytes, Arch::Aarch64).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
