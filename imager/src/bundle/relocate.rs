//! Makes a dynamically linked program run from a private folder, whatever C library the machine has.
//!
//! The kernel reads the loader's path from where the program header says it lies in the file, and nothing else reads it: a longer
//! one goes to the end of the file. Where the old one was, in a segment that is mapped, there is room for the path of the
//! libraries, which a spare entry of the dynamic section names as DT_RPATH (unlike DT_RUNPATH it holds for what libraries need
//! too). No code moves. See the System V ABI, chapters 4 and 5.

/// Why a program can't be made to run from elsewhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RelocateError {
    /// It is not a program, or damaged.
    #[error("it is not a little-endian ELF program")]
    NotElf,
    /// Headers point outside of the file.
    #[error("it ends within its headers")]
    Cut,
    /// It has a search path of its own.
    #[error("it has a search path for libraries already")]
    HasPath,
    /// No spare entry, or too little room for the path.
    #[error("it has no room for a search path")]
    NoRoom,
}

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// A program or library.
pub(super) struct Elf {
    bytes: Vec<u8>,
    /// Whether addresses have 8 bytes, not 4.
    wide: bool,
    headers: Vec<Header>,
}

/// A program header.
#[derive(Clone, Copy)]
struct Header {
    /// Where it lies in the file.
    at: usize,
    kind: u64,
    /// Where its segment lies in the file.
    offset: usize,
    address: u64,
    /// Bytes of it in the file.
    size: usize,
}

impl Elf {
    /// Reads the headers.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Elf, RelocateError> {
        if !bytes.starts_with(b"\x7fELF") || bytes.get(5) != Some(&1) {
            return Err(RelocateError::NotElf);
        }
        let wide = bytes.get(4) == Some(&2);
        let mut elf = Elf { bytes, wide, headers: Vec::new() };
        let (table, entry, count) = match wide {
            true => (elf.address(32)?, elf.number(54, 2)?, elf.number(56, 2)?),
            false => (elf.address(28)?, elf.number(42, 2)?, elf.number(44, 2)?),
        };
        for index in 0..count {
            let at = index.checked_mul(entry).and_then(|offset| offset.checked_add(table));
            let header = elf.header(place(at.ok_or(RelocateError::Cut)?)?)?;
            elf.headers.push(header);
        }
        Ok(elf)
    }

    /// The loader's path; none for a static program.
    pub(super) fn interpreter(&self) -> Result<Option<String>, RelocateError> {
        self.of(PT_INTERP).map(|header| self.text(header.offset)).transpose()
    }

    /// The names of the libraries that it needs.
    pub(super) fn needed(&self) -> Result<Vec<String>, RelocateError> {
        let entries = self.dynamic()?;
        let Some(table) = value(&entries, DT_STRTAB) else { return Ok(Vec::new()) };
        let table = self.in_file(table)?;
        let names = entries.iter().filter(|(_, tag, _)| *tag == DT_NEEDED);
        names.map(|(_, _, offset)| self.text(table.checked_add(place(*offset)?).ok_or(RelocateError::Cut)?)).collect()
    }

    /// The program with another loader, which finds libraries in `libraries`; a static one as it is.
    pub(super) fn relocate(self, loader: &str, libraries: &str) -> Result<Vec<u8>, RelocateError> {
        let Some(interpreter) = self.of(PT_INTERP) else { return Ok(self.bytes) };
        let entries = self.dynamic()?;
        if [DT_RPATH, DT_RUNPATH].iter().any(|tag| value(&entries, *tag).is_some()) {
            return Err(RelocateError::HasPath);
        }
        let table = value(&entries, DT_STRTAB).ok_or(RelocateError::Cut)?;
        let mut spare = entries.iter().filter(|(_, tag, _)| *tag == DT_NULL);
        // The last one ends the section.
        let (Some((entry, ..)), Some(_)) = (spare.next(), spare.next()) else { return Err(RelocateError::NoRoom) };
        if libraries.len() >= interpreter.size {
            return Err(RelocateError::NoRoom);
        }
        let width = self.width();
        let mut bytes = self.bytes;
        let room = bytes.get_mut(interpreter.offset..interpreter.offset + interpreter.size);
        let room = room.ok_or(RelocateError::Cut)?;
        room.fill(0);
        room[..libraries.len()].copy_from_slice(libraries.as_bytes());
        let mut put = |at: usize, value: u64| -> Result<(), RelocateError> {
            let field = bytes.get_mut(at..at + width).ok_or(RelocateError::Cut)?;
            field.copy_from_slice(&value.to_le_bytes()[..width]);
            Ok(())
        };
        put(*entry, DT_RPATH)?;
        // Names are offsets from the table of strings; one before it wraps around, as the loader's addition does.
        put(entry + width, interpreter.address.wrapping_sub(table))?;
        let end = bytes.len() as u64;
        let mut put = |at: usize, value: u64| -> Result<(), RelocateError> {
            let field = bytes.get_mut(at..at + width).ok_or(RelocateError::Cut)?;
            field.copy_from_slice(&value.to_le_bytes()[..width]);
            Ok(())
        };
        // p_offset and p_filesz; p_vaddr stays, in a segment that is there.
        let (offset, size) = if width == 8 { (8, 32) } else { (4, 16) };
        put(interpreter.at + offset, end)?;
        put(interpreter.at + size, loader.len() as u64 + 1)?;
        bytes.extend_from_slice(loader.as_bytes());
        bytes.push(0);
        Ok(bytes)
    }

    fn width(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    fn of(&self, kind: u64) -> Option<Header> {
        self.headers.iter().copied().find(|header| header.kind == kind)
    }

    fn header(&self, at: usize) -> Result<Header, RelocateError> {
        let (offset, address, size) = if self.wide { (8, 16, 32) } else { (4, 8, 16) };
        Ok(Header {
            at,
            kind: self.number(at, 4)?,
            offset: place(self.address(at + offset)?)?,
            address: self.address(at + address)?,
            size: place(self.address(at + size)?)?,
        })
    }

    /// The entries of the dynamic section: where each lies, its tag, its value.
    fn dynamic(&self) -> Result<Vec<(usize, u64, u64)>, RelocateError> {
        let Some(section) = self.of(PT_DYNAMIC) else { return Ok(Vec::new()) };
        let width = self.width();
        (0..section.size / (2 * width))
            .map(|index| {
                let at = section.offset + index * 2 * width;
                Ok((at, self.address(at)?, self.address(at + width)?))
            })
            .collect()
    }

    /// Where in the file an address of the program lies.
    fn in_file(&self, address: u64) -> Result<usize, RelocateError> {
        let holds = |header: &&Header| {
            header.kind == PT_LOAD && address.checked_sub(header.address).is_some_and(|at| at < header.size as u64)
        };
        let segment = self.headers.iter().find(holds).ok_or(RelocateError::Cut)?;
        Ok(segment.offset + place(address - segment.address)?)
    }

    /// A number of an address's width.
    fn address(&self, at: usize) -> Result<u64, RelocateError> {
        self.number(at, self.width())
    }

    fn number(&self, at: usize, width: usize) -> Result<u64, RelocateError> {
        let field = at.checked_add(width).and_then(|end| self.bytes.get(at..end)).ok_or(RelocateError::Cut)?;
        Ok(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn text(&self, at: usize) -> Result<String, RelocateError> {
        let rest = self.bytes.get(at..).ok_or(RelocateError::Cut)?;
        let end = rest.iter().position(|byte| *byte == 0).ok_or(RelocateError::Cut)?;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }
}

/// The value of the first entry with a tag.
fn value(entries: &[(usize, u64, u64)], tag: u64) -> Option<u64> {
    let used = entries.iter().take_while(|(_, found, _)| *found != DT_NULL);
    used.into_iter().find(|(_, found, _)| *found == tag).map(|(_, _, value)| *value)
}

fn place(number: u64) -> Result<usize, RelocateError> {
    usize::try_from(number).map_err(|_| RelocateError::Cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "/lib/ld-linux.so.9";

    /// A program of one segment at address 0x10000: headers, loader's path, strings, dynamic section.
    fn program(wide: bool, spare: usize) -> Vec<u8> {
        let width = if wide { 8 } else { 4 };
        let (head, entry) = if wide { (64, 56) } else { (52, 32) };
        let mut bytes = vec![0; head + 3 * entry];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1]);
        let path = bytes.len();
        bytes.extend_from_slice(OLD.as_bytes());
        bytes.push(0);
        let strings = bytes.len();
        bytes.extend_from_slice(b"\0libc.so.9\0");
        let dynamic = bytes.len();
        let table = [(DT_NEEDED, 1), (DT_STRTAB, 0x10000 + strings as u64)];
        for (tag, value) in table.into_iter().chain(std::iter::repeat_n((DT_NULL, 0), spare + 1)) {
            bytes.extend_from_slice(&tag.to_le_bytes()[..width]);
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        let size = bytes.len();
        let mut put = |at: usize, count: usize, value: usize| {
            bytes[at..at + count].copy_from_slice(&(value as u64).to_le_bytes()[..count]);
        };
        let (table_at, sizes) = if wide { (32, 54) } else { (28, 42) };
        put(table_at, width, head);
        put(sizes, 2, entry);
        put(sizes + 2, 2, 3);
        let segments = [(PT_LOAD, 0, size), (PT_DYNAMIC, dynamic, size - dynamic), (PT_INTERP, path, strings - path)];
        for (index, (kind, offset, length)) in segments.into_iter().enumerate() {
            let at = head + index * entry;
            let fields = if wide { (8, 16, 32) } else { (4, 8, 16) };
            put(at, 4, kind as usize);
            put(at + fields.0, width, offset);
            put(at + fields.1, width, 0x10000 + offset);
            put(at + fields.2, width, length);
        }
        bytes
    }

    #[test]
    fn a_program_gets_another_loader_and_a_folder_of_libraries() {
        for wide in [true, false] {
            let elf = Elf::parse(program(wide, 2)).expect("a program");
            assert_eq!(elf.interpreter().expect("read").as_deref(), Some(OLD));
            assert_eq!(elf.needed().expect("read"), ["libc.so.9"]);
            let moved = elf.relocate("/a/much/longer/path/than/before/ld.so", "/private/lib").expect("room");
            let elf = Elf::parse(moved).expect("a program");
            assert_eq!(elf.interpreter().expect("read").as_deref(), Some("/a/much/longer/path/than/before/ld.so"));
            assert_eq!(elf.needed().expect("read"), ["libc.so.9"]);
            let entries = elf.dynamic().expect("entries");
            let (table, path) = (value(&entries, DT_STRTAB), value(&entries, DT_RPATH));
            let width = if wide { u64::MAX } else { u64::from(u32::MAX) };
            let address = table.expect("a table").wrapping_add(path.expect("a path")) & width;
            assert_eq!(elf.text(elf.in_file(address).expect("in the file")).expect("text"), "/private/lib");
            assert_eq!(elf.relocate("/x", "/y"), Err(RelocateError::HasPath));
        }
    }

    #[test]
    fn what_has_no_room_or_is_no_program_is_refused() {
        let elf = Elf::parse(program(true, 0)).expect("a program");
        assert_eq!(elf.relocate("/x", "/y"), Err(RelocateError::NoRoom));
        let elf = Elf::parse(program(true, 2)).expect("a program");
        assert_eq!(elf.relocate("/x", &format!("{OLD}x")), Err(RelocateError::NoRoom));
        assert_eq!(Elf::parse(b"#!/bin/sh".to_vec()).err(), Some(RelocateError::NotElf));
        let whole = program(true, 2);
        for length in 6..whole.len() {
            // Whatever is missing: an answer, not a panic.
            let _ = Elf::parse(whole[..length].to_vec()).and_then(|elf| elf.relocate("/x", "/y"));
        }
    }
}
