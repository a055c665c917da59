//! What types and fields are for, in words: a compressed file, unfolded when a document is made and dropped afterwards.

use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::GzDecoder;

/// Made by the build script. Blocks of one type each begin with [`TYPE`]; then come its name, [`TEXT`] and its description, and
/// for each field [`FIELD`], its name, [`TEXT`] and its description.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.gz"));
const TYPE: char = '\u{1}';
const FIELD: char = '\u{2}';
const TEXT: char = '\u{3}';

/// The descriptions, unfolded.
#[derive(Debug, Default)]
pub struct Descriptions {
    text: String,
    /// Where a type's block begins and ends, by its name in documents.
    types: HashMap<String, (usize, usize)>,
}

impl Descriptions {
    /// Unfolds the file. What can't be read is left out: documents are of use without.
    pub fn load() -> Self {
        let mut text = String::new();
        if GzDecoder::new(PACKED).read_to_string(&mut text).is_err() {
            return Self::default();
        }
        let mut types = HashMap::new();
        for block in text.split(TYPE).filter(|b| !b.is_empty()) {
            let start = block.as_ptr() as usize - text.as_ptr() as usize;
            if let Some((name, _)) = block.split_once([TEXT, FIELD]) {
                types.insert(name.to_owned(), (start, start + block.len()));
            }
        }
        Self { text, types }
    }

    fn block(&self, name: &str) -> &str {
        self.types.get(name).and_then(|(start, end)| self.text.get(*start..*end)).unwrap_or_default()
    }

    /// The description of a type and those of its fields, by name.
    pub(crate) fn of(&self, name: &str) -> (Option<&str>, HashMap<&str, &str>) {
        let mut parts = self.block(name).split(FIELD);
        let own = parts.next().and_then(|head| head.split_once(TEXT)).map(|(_, text)| text);
        (own, parts.filter_map(|part| part.split_once(TEXT)).collect())
    }
}
