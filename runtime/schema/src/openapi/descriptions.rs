//! What types and fields are for, in words: a compressed file in order of the types' names, read along with the types of a
//! document, which are written in the same order. Only one type's words are in RAM at a time.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};

use flate2::read::GzDecoder;

/// Made by the build script. Blocks of one type each begin with [`TYPE`]; then come its name, [`TEXT`] and its description, and
/// for each field [`FIELD`], its name, [`TEXT`] and its description.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.gz"));
const TYPE: u8 = 1;
const FIELD: char = '\u{2}';
const TEXT: char = '\u{3}';

/// The descriptions from some type on.
pub(super) struct Descriptions {
    rest: BufReader<GzDecoder<&'static [u8]>>,
    /// The block read last.
    block: String,
}

impl Descriptions {
    pub(super) fn new() -> Self {
        Self { rest: BufReader::new(GzDecoder::new(PACKED)), block: String::new() }
    }

    /// The description of a type and those of its fields by name. Types must be asked for in order of their names.
    pub(super) fn of(&mut self, name: &str) -> (Option<&str>, HashMap<&str, &str>) {
        while head(&self.block).0 < name && self.next() {}
        if head(&self.block).0 != name {
            return (None, HashMap::new());
        }
        (head(&self.block).1, self.block.split(FIELD).skip(1).filter_map(|part| part.split_once(TEXT)).collect())
    }

    /// Reads the next block; false at the end. What can't be read is left out: documents are of use without.
    fn next(&mut self) -> bool {
        let mut bytes = Vec::new();
        let read = self.rest.read_until(TYPE, &mut bytes).unwrap_or(0);
        bytes.pop_if(|b| *b == TYPE);
        self.block = String::from_utf8(bytes).unwrap_or_default();
        read > 0
    }
}

/// A block's name and the description of its type.
fn head(block: &str) -> (&str, Option<&str>) {
    let head = block.split(FIELD).next().unwrap_or_default();
    head.split_once(TEXT).map_or((head, None), |(name, text)| (name, Some(text)))
}
