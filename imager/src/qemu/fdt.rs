//! Flattened device trees: read, edit, write.
//!
//! Only what the edits of a board's `[qemu]` table need, after the Devicetree Specification 0.4, chapter 5. Properties
//! are opaque bytes. The tree may come from a stranger's image, so every offset is checked and the depth is bounded.

use std::collections::BTreeMap;

use thiserror::Error;

use super::machine::DtbEdit;

const MAGIC: u32 = 0xd00d_feed;
/// The format version that is written, and the oldest version whose readers understand it.
const VERSION: u32 = 17;
const LAST_COMPATIBLE: u32 = 16;
const HEADER: usize = 40;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// Deeper than any board's tree, and shallow enough for recursion.
const DEPTH: usize = 64;

/// Why bytes are not a device tree.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FdtError {
    /// The file does not begin with the magic number; it is something else.
    #[error("not a flattened device tree (magic number {0:#010x})")]
    Magic(u32),
    /// The file ends, or an offset in it points outside, at this byte.
    #[error("the device tree is cut short at byte {0}")]
    Truncated(usize),
    /// The structure block holds something that the format has not, at this byte.
    #[error("the device tree is malformed at byte {at}: {what}")]
    Malformed {
        /// Offset in the file.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

/// A device tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fdt {
    reserved: Vec<(u64, u64)>,
    boot_cpu: u32,
    root: Node,
}

/// A node: its name with the unit address, properties in the order of the file, children likewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<Node>,
}

impl Fdt {
    /// Reads a device tree.
    ///
    /// # Errors
    /// [`FdtError`] when the bytes are not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, FdtError> {
        let magic = word(bytes, 0)?;
        if magic != MAGIC {
            return Err(FdtError::Magic(magic));
        }
        let offset = |at: usize| word(bytes, at).map(|value| value as usize);
        let (structure, strings, mut reservation) = (offset(8)?, offset(12)?, offset(16)?);
        let boot_cpu = word(bytes, 28)?;
        let mut reserved = Vec::new();
        loop {
            let entry = (double(bytes, reservation)?, double(bytes, reservation + 8)?);
            reservation += 16;
            if entry == (0, 0) {
                break;
            }
            reserved.push(entry);
        }
        let root = Reader { bytes, at: structure, strings }.root()?;
        Ok(Self { reserved, boot_cpu, root })
    }

    /// The value of a property; `None` when the node or the property is absent.
    pub fn property(&self, node: &str, name: &str) -> Option<&[u8]> {
        let node = segments(node)
            .try_fold(&self.root, |at, segment| at.children.iter().find(|child| child.name == segment))?;
        node.properties.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_slice())
    }

    /// Sets a property of a node that exists; tells whether it does.
    pub fn set(&mut self, node: &str, name: &str, value: &[u8]) -> bool {
        let Some(node) = self.node_mut(node) else { return false };
        match node.properties.iter_mut().find(|(have, _)| have == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => node.properties.push((name.to_owned(), value.to_vec())),
        }
        true
    }

    /// Makes a board's edits, in order. Nodes that this tree has not are passed over.
    pub fn apply(&mut self, edits: &[DtbEdit]) {
        for edit in edits {
            if edit.remove {
                self.remove(&edit.node);
                continue;
            }
            if edit.disable {
                self.set(&edit.node, "status", b"disabled\0");
            }
            for flag in &edit.flags {
                self.set(&edit.node, flag, b"");
            }
            if let Some(node) = self.node_mut(&edit.node) {
                node.properties.retain(|(name, _)| !edit.drop.contains(name));
            }
        }
    }

    /// The tree as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.node(&self.root);
        writer.word(END);
        let Writer { structure, strings, .. } = writer;

        let reservation = HEADER;
        let structure_at = reservation + 16 * (self.reserved.len() + 1);
        let strings_at = structure_at + structure.len();
        let total = strings_at + strings.len();
        let mut out = Vec::with_capacity(total);
        let header = [
            MAGIC as usize,
            total,
            structure_at,
            strings_at,
            reservation,
            VERSION as usize,
            LAST_COMPATIBLE as usize,
            self.boot_cpu as usize,
            strings.len(),
            structure.len(),
        ];
        for value in header {
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        for (address, size) in self.reserved.iter().copied().chain([(0, 0)]) {
            out.extend_from_slice(&address.to_be_bytes());
            out.extend_from_slice(&size.to_be_bytes());
        }
        out.extend_from_slice(&structure);
        out.extend_from_slice(&strings);
        out
    }

    fn node_mut(&mut self, path: &str) -> Option<&mut Node> {
        segments(path)
            .try_fold(&mut self.root, |at, segment| at.children.iter_mut().find(|child| child.name == segment))
    }

    fn remove(&mut self, path: &str) {
        if let Some((parent, name)) = path.rsplit_once('/')
            && let Some(parent) = self.node_mut(parent)
        {
            parent.children.retain(|child| child.name != name);
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn word(bytes: &[u8], at: usize) -> Result<u32, FdtError> {
    let slice = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or(FdtError::Truncated(at))?;
    slice.try_into().map(u32::from_be_bytes).map_err(|_| FdtError::Truncated(at))
}

fn double(bytes: &[u8], at: usize) -> Result<u64, FdtError> {
    Ok(u64::from(word(bytes, at)?) << 32 | u64::from(word(bytes, at.saturating_add(4))?))
}

fn text(bytes: &[u8], at: usize) -> Result<String, FdtError> {
    let tail = bytes.get(at..).ok_or(FdtError::Truncated(at))?;
    let end = tail.iter().position(|byte| *byte == 0).ok_or(FdtError::Truncated(bytes.len()))?;
    String::from_utf8(tail[..end].to_vec()).map_err(|_| FdtError::Malformed { at, what: "a name is not ASCII" })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    strings: usize,
}

impl Reader<'_> {
    fn root(mut self) -> Result<Node, FdtError> {
        match self.token()? {
            BEGIN_NODE => self.node(0),
            _ => Err(self.malformed("no root node")),
        }
    }

    /// Reads a node whose begin token was read.
    fn node(&mut self, depth: usize) -> Result<Node, FdtError> {
        if depth == DEPTH {
            return Err(self.malformed("nodes are nested too deeply"));
        }
        let name = text(self.bytes, self.at)?;
        self.advance(name.len() + 1);
        let mut node = Node { name, ..Node::default() };
        loop {
            match self.token()? {
                BEGIN_NODE => node.children.push(self.node(depth + 1)?),
                PROPERTY => node.properties.push(self.property()?),
                END_NODE => return Ok(node),
                _ => return Err(self.malformed("an unknown token")),
            }
        }
    }

    fn property(&mut self) -> Result<(String, Vec<u8>), FdtError> {
        let length = word(self.bytes, self.at)? as usize;
        let name_at = self.strings.saturating_add(word(self.bytes, self.at + 4)? as usize);
        let start = self.at + 8;
        let end = start.checked_add(length).ok_or(FdtError::Truncated(start))?;
        let value = self.bytes.get(start..end).ok_or(FdtError::Truncated(start))?.to_vec();
        self.at = start;
        self.advance(length);
        Ok((text(self.bytes, name_at)?, value))
    }

    /// The next token that is not padding.
    fn token(&mut self) -> Result<u32, FdtError> {
        loop {
            let token = word(self.bytes, self.at)?;
            self.at += 4;
            if token != NOP {
                return Ok(token);
            }
        }
    }

    fn advance(&mut self, length: usize) {
        self.at += length.next_multiple_of(4);
    }

    fn malformed(&self, what: &'static str) -> FdtError {
        FdtError::Malformed { at: self.at, what }
    }
}

#[derive(Default)]
struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
    known: BTreeMap<String, u32>,
}

impl Writer {
    fn word(&mut self, value: u32) {
        self.structure.extend_from_slice(&value.to_be_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.structure.extend_from_slice(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    fn node(&mut self, node: &Node) {
        self.word(BEGIN_NODE);
        let mut name = node.name.clone().into_bytes();
        name.push(0);
        self.padded(&name);
        for (name, value) in &node.properties {
            let name = self.string(name);
            self.word(PROPERTY);
            self.word(value.len() as u32);
            self.word(name);
            self.padded(value);
        }
        for child in &node.children {
            self.node(child);
        }
        self.word(END_NODE);
    }

    /// The offset of a property's name in the strings block, where each name is once.
    fn string(&mut self, name: &str) -> u32 {
        if let Some(at) = self.known.get(name) {
            return *at;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        self.known.insert(name.to_owned(), at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fdt {
        let node = |name: &str, properties: &[(&str, &[u8])], children: Vec<Node>| Node {
            name: name.to_owned(),
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect(),
            children,
        };
        let wifi = node("wifi@1", &[("reg", &[0, 0, 0, 1])], vec![]);
        let mmc = node("mmc@7e300000", &[("non-removable", b""), ("vmmc-supply", &[0, 0, 0, 9])], vec![wifi]);
        let hdmi = node("hdmi@7ef00700", &[("status", b"okay\0")], vec![]);
        let root = node("", &[("model", b"Board\0")], vec![node("soc", &[], vec![mmc, hdmi])]);
        Fdt { reserved: vec![(0, 0x1000)], boot_cpu: 0, root }
    }

    fn edit(node: &str) -> DtbEdit {
        DtbEdit { node: node.to_owned(), disable: false, remove: false, drop: vec![], flags: vec![] }
    }

    #[test]
    fn a_tree_survives_writing_and_reading() {
        let tree = sample();
        assert_eq!(Fdt::parse(&tree.to_bytes()), Ok(tree));
    }

    #[test]
    fn edits_disable_remove_drop_and_flag() {
        let mut tree = sample();
        tree.apply(&[
            DtbEdit { disable: true, ..edit("/soc/hdmi@7ef00700") },
            DtbEdit { remove: true, ..edit("/soc/mmc@7e300000/wifi@1") },
            DtbEdit {
                drop: vec!["vmmc-supply".to_owned(), "non-removable".to_owned()],
                flags: vec!["broken-cd".to_owned()],
                ..edit("/soc/mmc@7e300000")
            },
            DtbEdit { disable: true, ..edit("/soc/absent") },
        ]);
        assert_eq!(tree.property("/soc/hdmi@7ef00700", "status"), Some(&b"disabled\0"[..]));
        assert_eq!(tree.property("/soc/mmc@7e300000/wifi@1", "reg"), None);
        assert_eq!(tree.property("/soc/mmc@7e300000", "vmmc-supply"), None);
        assert_eq!(tree.property("/soc/mmc@7e300000", "broken-cd"), Some(&b""[..]));
    }

    #[test]
    fn a_serial_number_is_set_on_the_root() {
        let mut tree = sample();
        assert!(tree.set("/", "serial-number", b"10000000abcd\0"));
        let tree = Fdt::parse(&tree.to_bytes()).expect("own output parses");
        assert_eq!(tree.property("/", "serial-number"), Some(&b"10000000abcd\0"[..]));
    }

    #[test]
    fn every_cut_of_a_tree_is_refused() {
        let bytes = sample().to_bytes();
        // The last name in the strings block is one that no shorter file can hold.
        for length in 0..bytes.len() {
            assert!(Fdt::parse(&bytes[..length]).is_err(), "{length} bytes of {} parse", bytes.len());
        }
    }

    #[test]
    fn something_else_is_refused_by_its_magic() {
        assert_eq!(Fdt::parse(b"MZ\x90\0rest"), Err(FdtError::Magic(0x4d5a_9000)));
    }
}
