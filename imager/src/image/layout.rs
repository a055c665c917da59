//! Where everything goes: the partitions of an image, and what is written into each.

use std::{collections::BTreeMap, fs::File, path::Path};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    ImageError, fat,
    fat::Fat,
    medium::{Medium, SparseFile, Window},
    partition::{self, DiskId, Partition, Role},
    reader::Part,
    stage::Stage,
};
use crate::{
    boot::{self, Slot},
    profile::{BootKind, PartitionPlan, Profile, Table},
    tree::Content,
};

const MIB: u64 = 1024 * 1024;

/// Partitions start at multiples of this: the erase block of common cards.
const ALIGNMENT: u64 = 4 * MIB;

/// A file of the image, for the manifest.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FileEntry {
    /// Path in its partition.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// SHA-256, hexadecimal.
    pub(super) sha256: String,
}

/// A written image.
#[derive(Debug)]
pub(super) struct Written {
    /// The file, with the blocks that were written.
    pub(super) file: SparseFile,
    /// The disk's identity.
    pub(super) id: DiskId,
    /// The table.
    pub(super) partitions: Vec<Partition>,
    /// Command line of slot A.
    pub(super) cmdline: String,
    /// Files of CONFIG; settings are listed without their content.
    pub(super) config: Vec<FileEntry>,
    /// Files of slot A.
    pub(super) slot: Vec<FileEntry>,
}

/// The partitions of a plan, and the image's length in bytes.
fn partitions(plan: PartitionPlan) -> (Vec<Partition>, u64) {
    let mut at = ALIGNMENT;
    let mut all = Vec::new();
    for part in Part::ALL {
        let mib = match part {
            Part::Config => plan.config_mib,
            Part::SlotA | Part::SlotB => plan.slot_mib,
            Part::State => plan.state_mib,
        };
        let length = u64::from(mib) * MIB;
        let role = match part {
            Part::State => Role::State,
            _ => Role::Fat { fat32: fat::is_fat32(length), efi: part == Part::Config && plan.table == Table::Gpt },
        };
        all.push(Partition { number: part.number(), name: part.label().to_owned(), start: at, length, role });
        at = (at + length).next_multiple_of(ALIGNMENT);
    }
    // A GPT has its copy in the last sectors.
    (all, if plan.table == Table::Gpt { at + MIB } else { at })
}

/// Writes the image of a stage and the profile's settings into an empty file.
///
/// # Errors
/// A partition is too small for its files, or the file cannot be written.
pub(super) fn write(
    file: File,
    path: &Path,
    profile: &Profile,
    stage: &Stage,
    time: i64,
) -> Result<Written, ImageError> {
    let (partitions, total) = partitions(profile.partitions);
    let mut slot = stage.slot_files()?;
    slot.insert("/root.squashfs".to_owned(), stage.root());
    if profile.boot.kind != BootKind::Uefi {
        slot.insert("/vmlinuz".to_owned(), stage.kernel());
        slot.insert("/initramfs.zst".to_owned(), stage.initramfs());
    }
    let mut config = stage.config_files()?;
    for file in &profile.config {
        config.insert(file.path.clone(), Content::from(file.content.clone()));
    }

    // The disk's identity is on the command line, so it cannot depend on the files that carry that.
    let seed = seed(profile, stage, &[&slot, &config]).map_err(ImageError::io("reading the files for", path))?;
    let id = DiskId::derive(profile.partitions.table, &seed);
    let verity = &stage.info.verity;
    let cmdline = boot::cmdline(&profile.boot, &id.to_string(), Slot::A, &verity.root_hash, verity.hash_offset);
    slot.extend(boot::slot_files(&profile.boot, &cmdline));
    config.extend(boot::config_files(&profile.boot, Slot::A, &cmdline, &stage.kernel(), &stage.initramfs()));

    let mut image = SparseFile::new(file, total).map_err(ImageError::io("writing", path))?;
    let full = |error| crate::image::output::storage_full(error, path);
    partition::write(&mut image, total, id, &partitions)
        .map_err(|source| ImageError::Partition { path: path.to_owned(), source })?;
    let empty = BTreeMap::new();
    for partition in &partitions {
        let files = match partition.number {
            1 => &config,
            2 => &slot,
            _ => &empty,
        };
        if partition.role == Role::State {
            // What an earlier installation left there must not be taken for this one's.
            let zeros = vec![0; MIB as usize];
            image.write_at(&zeros, partition.start).map_err(ImageError::io("writing", path))?;
            continue;
        }
        let volume = Sha256::digest([id.to_string().as_bytes(), partition.name.as_bytes()].concat());
        let volume = u32::from_be_bytes([volume[0], volume[1], volume[2], volume[3]]);
        let window = Window::new(&mut image, partition.start, partition.length);
        fat::format(window, partition.length, &partition.name, volume).map_err(full)?;
        let fs = Fat::open(Window::new(&mut image, partition.start, partition.length), &partition.name)?;
        fat::fill(&fs, files, time).map_err(full)?;
        fs.close().map_err(full)?;
    }
    let list =
        |files: &BTreeMap<String, Content>| entries(files).map_err(ImageError::io("reading the files for", path));
    let (config, slot) = (list(&config)?, list(&slot)?);
    Ok(Written { file: image, id, partitions, cmdline, config, slot })
}

/// What the disk's identity derives from: the board, the plan, and every file that does not name it.
fn seed(profile: &Profile, stage: &Stage, files: &[&BTreeMap<String, Content>]) -> std::io::Result<Vec<u8>> {
    let mut hash = Sha256::new();
    let plan = profile.partitions;
    hash.update(format!(
        "{}\n{} {} {} {:?}\n{}\n",
        profile.board, plan.config_mib, plan.slot_mib, plan.state_mib, plan.table, profile.boot.cmdline
    ));
    hash.update(Sha256::digest(stage.kernel().read()?));
    hash.update(Sha256::digest(stage.initramfs().read()?));
    for files in files {
        for (path, content) in *files {
            hash.update(path);
            hash.update(Sha256::digest(content.read()?));
        }
    }
    Ok(hash.finalize().to_vec())
}

fn entries(files: &BTreeMap<String, Content>) -> std::io::Result<Vec<FileEntry>> {
    files
        .iter()
        .map(|(path, content)| {
            let bytes = content.read()?;
            Ok(FileEntry { path: path.clone(), size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(&bytes)) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        image::reader::Image,
        profile::{ConfigFile, Request},
        progress::Progress,
        rootfs::{ImageInfo, Root},
        tree::Tree,
    };

    /// A small image of the 64-bit ARM virtual machine, made in a cache of its own.
    fn small_image(place: &Path, node: &str) -> std::path::PathBuf {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let request = Request {
            board: "virt-aarch64".to_owned(),
            config: vec![ConfigFile { path: "/node.toml".to_owned(), content: node.as_bytes().to_vec() }],
            ..Request::default()
        };
        let profile = Profile::resolve(&workspace, &request).expect("the board resolves");
        let mut tree = Tree::default();
        tree.file("/usr/bin/kiln", 0o755, vec![7; 300_000]);
        tree.add_parents();
        let root = Root {
            tree,
            kernel_version: "6.1".to_owned(),
            kernel: Content::from("kernel"),
            initramfs_modules: Vec::new(),
            info: ImageInfo {
                schema: 1,
                board: profile.board.clone(),
                arch: profile.arch.name().to_owned(),
                version: profile.version.clone(),
                build_time: 1_700_000_000,
                kernel: "6.1".to_owned(),
                suite: "trixie".to_owned(),
                container_runtime: None,
                watchdog: false,
            },
        };
        let kiln = Content::from("kiln");
        let stage =
            Stage::make(place, "key", &profile, &root, &Tree::default(), &kiln, &Progress::hidden()).expect("a stage");
        let path = place.join("a.img");
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
        write(file, &path, &profile, &stage, 1_700_000_000).expect("an image");
        path
    }

    #[test]
    fn two_builds_in_two_places_are_the_same_to_the_byte() {
        let (one, two) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
        let hash = |path: &Path| crate::image::output::hash_file(path).expect("read");
        assert_eq!(hash(&small_image(one.path(), "version = 1\n")), hash(&small_image(two.path(), "version = 1\n")));
    }

    #[test]
    fn an_image_can_be_read_and_its_settings_edited() {
        let place = tempfile::tempdir().expect("temp dir");
        let path = small_image(place.path(), "version = 1\n");
        let image = Image::open_to_edit(&path).expect("open");
        let cmdline = image.fat(Part::SlotA).expect("slot").read("/cmdline.txt").expect("read");
        assert!(String::from_utf8_lossy(&cmdline).contains(&format!("kiln.disk={} ", image.id())));
        assert!(image.fat(Part::SlotB).expect("slot").list().expect("list").is_empty());
        assert!(matches!(image.fat(Part::State), Err(ImageError::NoPartition { .. })));
        let config = image.fat(Part::Config).expect("config");
        assert_eq!(config.read("/node.toml").expect("read"), b"version = 1\n");
        config.write("/node.toml", b"version = 1 # edited\n", 1_700_000_000).expect("write");
        config.close().expect("close");
        image.sync().expect("sync");
        let again = Image::open(&path).expect("open");
        let config = again.fat(Part::Config).expect("config");
        assert_eq!(config.read("/node.toml").expect("read"), b"version = 1 # edited\n");
        assert_eq!(config.label(), "CONFIG");
    }

    #[test]
    fn two_nodes_have_two_disk_identities() {
        let (one, two) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
        let id = |path: &Path| Image::open(path).expect("open").id();
        assert_ne!(id(&small_image(one.path(), "version = 1\n")), id(&small_image(two.path(), "version = 1 # b\n")));
    }

    #[test]
    fn partitions_are_aligned_and_follow_one_another() {
        let plan = PartitionPlan { table: Table::Gpt, config_mib: 33, slot_mib: 256, state_mib: 8 };
        let (all, total) = partitions(plan);
        assert_eq!(all.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["CONFIG", "SLOT_A", "SLOT_B", "STATE"]);
        assert!(all.iter().all(|p| p.start % ALIGNMENT == 0));
        assert!(all.windows(2).all(|w| w[0].start + w[0].length <= w[1].start));
        assert!(all[3].start + all[3].length + MIB <= total);
    }
}
