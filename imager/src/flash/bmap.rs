//! Block maps: which blocks of an image carry data. The format is bmap-tools', version 2.0.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::FlashError;

/// A run of blocks that carry data. Bytes from the start of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
    /// SHA-256 of the bytes, 64 hex digits.
    pub sha256: Option<String>,
}

/// A block map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMap {
    /// Bytes of the image.
    pub image_size: u64,
    /// Runs with data, in order.
    pub ranges: Vec<Range>,
}

impl BlockMap {
    /// Finds and reads the map that lies beside an image: `kiln.bmap` or `kiln.img.bmap` for `kiln.img[.zst]`.
    ///
    /// # Errors
    /// [`FlashError::BlockMap`] when there is one that cannot be used.
    pub fn beside(image: &Path) -> Result<Option<Self>, FlashError> {
        match candidates(image).into_iter().find(|path| path.is_file()) {
            Some(path) => {
                let text = fs::read_to_string(&path).map_err(FlashError::io("read", &path))?;
                Self::parse(&text).map(Some).map_err(|why| FlashError::BlockMap { path, why })
            }
            None => Ok(None),
        }
    }

    /// The map of an image whose every block counts.
    pub fn whole(image_size: u64) -> Self {
        Self { image_size, ranges: vec![Range { start: 0, end: image_size, sha256: None }] }
    }

    /// Reads a map and checks it against its own checksum.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let version = text
            .split_once("<bmap version=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(version, _)| version)
            .ok_or("it has no <bmap> element")?;
        if !version.starts_with("2.") {
            return Err(format!("it has version {version}, and 2.0 is what can be read"));
        }
        check_own_sum(text)?;
        let block = number(text, "BlockSize")?;
        let image_size = number(text, "ImageSize")?;
        if block == 0 {
            return Err("its blocks have no size".to_owned());
        }
        let mut ranges: Vec<Range> = Vec::new();
        for piece in text.split("<Range").skip(1) {
            let (attributes, rest) = piece.split_once('>').ok_or("a <Range> does not end")?;
            let (content, _) = rest.split_once("</Range>").ok_or("a <Range> does not end")?;
            let (first, last) = content.trim().split_once('-').unwrap_or((content.trim(), content.trim()));
            let bytes = |text: &str, add: u64| {
                let blocks: u64 = text.trim().parse().map_err(|_| format!("`{content}` is no range of blocks"))?;
                blocks.checked_add(add).and_then(|b| b.checked_mul(block)).ok_or("a range is too large".to_owned())
            };
            let (start, end) = (bytes(first, 0)?, bytes(last, 1)?.min(image_size));
            if start >= end || ranges.last().is_some_and(|before| start < before.end) {
                return Err(format!("the range {content} is out of order or beyond the image"));
            }
            ranges.push(Range { start, end, sha256: attribute(attributes, "chksum").map(str::to_lowercase) });
        }
        Ok(Self { image_size, ranges })
    }

    /// Bytes with data.
    pub fn mapped(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// The parts of `[start, end)` without data.
    pub fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut at = start;
        let mut gaps = Vec::new();
        for range in self.ranges.iter().filter(|range| range.end > start && range.start < end) {
            if range.start > at {
                gaps.push((at, range.start));
            }
            at = range.end;
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }
}

fn candidates(image: &Path) -> [PathBuf; 2] {
    let plain = match image.extension() {
        Some(extension) if extension == "zst" => image.with_extension(""),
        _ => image.to_owned(),
    };
    let mut appended = plain.clone().into_os_string();
    appended.push(".bmap");
    [plain.with_extension("bmap"), appended.into()]
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(content, _)| content)
}

fn number(text: &str, name: &str) -> Result<u64, String> {
    let content = element(text, name).ok_or_else(|| format!("it has no <{name}>"))?.trim();
    content.parse().map_err(|_| format!("<{name}> holds `{content}`, which is no number"))
}

fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = attributes.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// The map's checksum is over the map itself with zeros in the checksum's place.
fn check_own_sum(text: &str) -> Result<(), String> {
    let kind = element(text, "ChecksumType").map_or("sha256", str::trim);
    if kind != "sha256" {
        return Err(format!("its checksums are {kind}, and sha256 is what can be read"));
    }
    let sum = element(text, "BmapFileChecksum").ok_or("it has no <BmapFileChecksum>")?.trim();
    let zeroed = text.replacen(sum, &"0".repeat(sum.len()), 1);
    if hex::encode(Sha256::digest(zeroed.as_bytes())) == sum.to_lowercase() {
        Ok(())
    } else {
        Err("it was changed: its checksum does not match".to_owned())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A map as bmaptool writes it.
    pub(in crate::flash) fn written(image_size: u64, ranges: &[(u64, u64, &str)]) -> String {
        let rows: String = ranges
            .iter()
            .map(|(first, last, sum)| format!("        <Range chksum=\"{sum}\"> {first}-{last} </Range>\n"))
            .collect();
        let zeros = "0".repeat(64);
        let text = format!(
            "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {image_size} </ImageSize>\n    \
             <BlockSize> 4096 </BlockSize>\n    <ChecksumType> sha256 </ChecksumType>\n    \
             <BmapFileChecksum> {zeros} </BmapFileChecksum>\n    <BlockMap>\n{rows}    </BlockMap>\n</bmap>\n"
        );
        text.replacen(&zeros, &hex::encode(Sha256::digest(text.as_bytes())), 1)
    }

    #[test]
    fn ranges_are_bytes_and_the_last_block_may_be_short() {
        let map = BlockMap::parse(&written(10_000, &[(0, 0, "AA"), (2, 2, "bb")])).expect("a valid map");
        let sums: Vec<_> = map.ranges.iter().map(|r| (r.start, r.end, r.sha256.as_deref())).collect();
        assert_eq!(sums, [(0, 4096, Some("aa")), (8192, 10_000, Some("bb"))]);
        assert_eq!(map.mapped(), 4096 + 1808);
    }

    #[test]
    fn a_changed_map_is_refused() {
        let text = written(8192, &[(0, 0, "aa")]).replace("8192", "8191");
        assert!(BlockMap::parse(&text).expect_err("changed").contains("checksum does not match"));
    }

    #[test]
    fn ranges_out_of_order_are_refused() {
        let text = written(16384, &[(2, 2, "aa"), (0, 0, "bb")]);
        assert!(BlockMap::parse(&text).expect_err("out of order").contains("out of order"));
    }

    #[test]
    fn gaps_are_what_lies_between() {
        let map = BlockMap::parse(&written(40_960, &[(1, 1, "aa"), (4, 5, "bb")])).expect("a valid map");
        assert_eq!(map.gaps(0, 40_960), [(0, 4096), (8192, 16_384), (24_576, 40_960)]);
        assert_eq!(map.gaps(6000, 20_000), [(8192, 16_384)]);
        assert_eq!(map.gaps(4096, 8192), []);
    }

    #[test]
    fn the_map_beside_a_compressed_image_is_found() {
        let [first, second] = candidates(Path::new("/out/kiln-x.img.zst"));
        assert_eq!(first, Path::new("/out/kiln-x.bmap"));
        assert_eq!(second, Path::new("/out/kiln-x.img.bmap"));
    }
}
