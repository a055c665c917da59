//! Checks an image against what its files beside it and its own command line say.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Card, CardError,
    report::{argument, cmdline},
    verity::{Leaves, Tail, superblock},
};
use crate::{
    image::{fat::FatError, reader::Part},
    progress::Progress,
};

const ROOT: &str = "/root.squashfs";

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

impl Check {
    fn new(name: impl Into<String>, outcome: Result<String, String>) -> Self {
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        Self { name: name.into(), ok, detail }
    }
}

#[derive(Deserialize)]
struct Manifest {
    image: Output,
    slots: Vec<Slot>,
    config: Vec<Entry>,
}

#[derive(Deserialize)]
struct Output {
    size: u64,
    sha256: String,
}

#[derive(Deserialize)]
struct Slot {
    partition: u32,
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    size: u64,
    sha256: String,
}

/// Checks everything that can be: the image's SHA-256 (`.sha256`) and its files (`.manifest.json`) where those lie beside
/// it, and in any case the root hash of each slot that is in use.
///
/// # Errors
/// [`CardError`] when the image or a file beside it cannot be read; what does not hold is a [`Check`], not an error.
pub fn verify(path: &Path, progress: &Progress) -> Result<Vec<Check>, CardError> {
    let card = Card::open(path)?;
    let mut checks = Vec::new();
    let beside = |extension: &str| path.with_extension(extension);
    let manifest = read(&beside("manifest.json"))?;
    let listed = read(&beside("sha256"))?.and_then(|text| listed_sum(&text, path));
    let manifest = match manifest.map(|text| serde_json::from_str::<Manifest>(&text)) {
        Some(Ok(manifest)) => Some(manifest),
        Some(Err(error)) => {
            checks.push(Check::new("manifest", Err(error.to_string())));
            None
        }
        None => None,
    };
    if listed.is_some() || manifest.is_some() {
        let sum = hash_file(path, card.size(), progress)?;
        let same = |expected: &str| {
            if expected == sum { Ok(sum.clone()) } else { Err(format!("is {sum}, not {expected}")) }
        };
        if let Some(listed) = &listed {
            checks.push(Check::new("image, by its .sha256", same(listed)));
        }
        if let Some(manifest) = &manifest {
            let size = manifest.image.size;
            let outcome = same(&manifest.image.sha256);
            let outcome =
                if card.size() == size { outcome } else { Err(format!("has {} bytes, not {size}", card.size())) };
            checks.push(Check::new("image, by its manifest", outcome));
        }
    }
    if let Some(manifest) = &manifest {
        let slots = manifest.slots.iter().map(|slot| (slot.partition, &slot.files));
        for (number, files) in slots.chain([(Part::Config.number(), &manifest.config)]) {
            let Some(part) = Part::ALL.into_iter().find(|part| part.number() == number) else { continue };
            for file in files {
                let name = format!("{} {}", part.label(), file.path);
                checks.push(Check::new(name, check_file(&card, part, file)?));
            }
        }
    }
    for part in [Part::SlotA, Part::SlotB] {
        if let Some(line) = cmdline(&card, part)? {
            let step = progress.step(&format!("verity of {}", part.label()), None);
            checks.push(Check::new(format!("{} root hash", part.label()), root_hash(&card, part, &line)?));
            step.done("");
        }
    }
    Ok(checks)
}

fn read(path: &Path) -> Result<Option<String>, CardError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CardError::Open { path: path.to_owned(), source }),
    }
}

/// The image's line in a file of `sha256sum`.
fn listed_sum(text: &str, image: &Path) -> Option<String> {
    let name = image.file_name()?.to_str()?;
    text.lines().find_map(|line| {
        let (sum, file) = line.split_once(' ')?;
        (file.trim_start_matches([' ', '*']) == name).then(|| sum.to_lowercase())
    })
}

fn hash_file(path: &Path, size: u64, progress: &Progress) -> Result<String, CardError> {
    let failed = |source| CardError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let step = progress.bytes("SHA-256 of the image", Some(size));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            step.done("");
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
        step.inc(count as u64);
    }
}

fn check_file(card: &Card, part: Part, file: &Entry) -> Result<Result<String, String>, CardError> {
    let mut hash = Hash(Sha256::new());
    Ok(match copy(card, part, &file.path, &mut hash)? {
        None => Err("is not there".to_owned()),
        Some(size) if size != file.size => Err(format!("has {size} bytes, not {}", file.size)),
        Some(_) => {
            let sum = hex::encode(hash.0.finalize());
            if sum == file.sha256 { Ok(sum) } else { Err(format!("is {sum}, not {}", file.sha256)) }
        }
    })
}

/// Computes a slot's root hash from its root and compares it and the stored tree.
fn root_hash(card: &Card, part: Part, cmdline: &str) -> Result<Result<String, String>, CardError> {
    let (Some(expected), Some(offset)) = (argument(cmdline, "kiln.roothash"), argument(cmdline, "kiln.hashoffset"))
    else {
        return Ok(Err("the command line has no kiln.roothash and kiln.hashoffset".to_owned()));
    };
    let Ok(offset) = offset.parse::<u64>() else {
        return Ok(Err(format!("kiln.hashoffset is `{offset}`, which is no number")));
    };
    let mut tail = Tail::after(offset);
    if copy(card, part, ROOT, &mut tail)?.is_none() {
        return Ok(Err("there is no root.squashfs".to_owned()));
    }
    let superblock = match superblock(&tail.bytes) {
        Ok(superblock) => superblock,
        Err(why) => return Ok(Err(why)),
    };
    let mut leaves = Leaves::new(&superblock);
    copy(card, part, ROOT, &mut leaves)?;
    Ok(leaves.tree().and_then(|(tree, root)| {
        let stored = tail.bytes.get(4096..4096 + tree.len());
        if root != expected {
            Err(format!("is {root}, and the command line says {expected}"))
        } else if stored != Some(tree.as_slice()) {
            Err("the stored hash tree is not the one of the root".to_owned())
        } else {
            Ok(root)
        }
    }))
}

/// Copies a file out; `None` when it is not there.
fn copy(card: &Card, part: Part, path: &str, out: &mut dyn Write) -> Result<Option<u64>, CardError> {
    match card.fat(part)?.copy_out(path, out) {
        Ok(size) => Ok(Some(size)),
        Err(FatError::NotFound { .. }) => Ok(None),
        Err(source) => Err(CardError::Fat { path: card.path().to_owned(), source }),
    }
}

struct Hash(Sha256);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_own_line_is_taken_from_a_list_of_sums() {
        let text = "AA  kiln-x.img\nbb *kiln-x.img.zst\n";
        assert_eq!(listed_sum(text, Path::new("/out/kiln-x.img")).as_deref(), Some("aa"));
        assert_eq!(listed_sum(text, Path::new("/out/kiln-x.img.zst")).as_deref(), Some("bb"));
        assert_eq!(listed_sum(text, Path::new("/out/other.img")), None);
    }
}
