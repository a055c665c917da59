//! Packages read and unpacked.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use imager::{
    packages::{Class, Deb, Error, PathFilter, Settings, Unpacked, unpack_into, unpack_to_dir},
    tree::{Content, Kind, Tree},
};
use tar::EntryType;
use tempfile::TempDir;

use crate::support::{Member, ar, control, deb, directory, file, link, sha256, tarball, xz};

const CONTROL: &str = "Package: demo\nVersion: 1:2.0-3+b1\nArchitecture: arm64\nSource: demo-src (1:2.0-3)\n\
    Maintainer: A Person <a@example.org>\nHomepage: https://example.org/\nSection: admin\n\
    Pre-Depends: libc6 (>= 2.38)\nDepends: one,\n two (>= 1) | three\nDescription: short\n long\n";

struct Bench {
    root: TempDir,
    settings: Settings,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings::new(None, root.path().join("cache")).unwrap();
        Self { root, settings }
    }

    fn put(&self, bytes: &[u8]) -> PathBuf {
        let path = self.root.path().join(format!("{}.deb", sha256(bytes)));
        fs::write(&path, bytes).unwrap();
        path
    }

    fn unpack(&self, bytes: &[u8], filter: &PathFilter) -> Result<Tree, Error> {
        let mut tree = Tree::default();
        unpack_into(&self.settings, &mut tree, &self.put(bytes), filter)?;
        Ok(tree)
    }
}

fn members() -> Vec<Member> {
    vec![
        directory("./", 0o755),
        directory("./bin/", 0o755),
        file("./bin/tool", b"tool", 0o4755, (0, 42)),
        link("./bin/alias", "./bin/tool", EntryType::Link),
        link("./bin/short", "tool", EntryType::Symlink),
        directory("./lib/", 0o755),
        file("./lib/libx.so", b"library", 0o644, (0, 0)),
        directory("./var/lib/demo/", 0o2750),
        file("./var/lib/demo/state", b"", 0o600, (101, 102)),
        file("./usr/share/doc/demo/copyright", b"free", 0o644, (0, 0)),
        file("./usr/share/doc/demo/changelog", b"long", 0o644, (0, 0)),
    ]
}

fn content(tree: &Tree, path: &str) -> Vec<u8> {
    match &tree.nodes[path].kind {
        Kind::File(Content::File(at)) => fs::read(at).unwrap(),
        Kind::File(Content::Bytes(bytes)) => bytes.to_vec(),
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn owners_modes_and_links_are_kept_without_root_and_paths_merged_into_usr() {
    let bench = Bench::new();
    let tree = bench.unpack(&deb(CONTROL, &members()), &PathFilter::default()).unwrap();
    let node = |path: &str| {
        let node = &tree.nodes[path];
        (node.mode, node.uid, node.gid)
    };
    assert_eq!(node("/usr/bin/tool"), (0o4755, 0, 42));
    assert_eq!(content(&tree, "/usr/bin/tool"), b"tool");
    assert_eq!(content(&tree, "/usr/bin/alias"), b"tool");
    assert!(matches!(&tree.nodes["/usr/bin/short"].kind, Kind::Symlink(target) if target == "tool"));
    assert_eq!(content(&tree, "/usr/lib/libx.so"), b"library");
    assert_eq!(node("/var/lib/demo"), (0o2750, 0, 0));
    assert_eq!(node("/var/lib/demo/state"), (0o600, 101, 102));
    assert_eq!(node("/var/lib"), (0o755, 0, 0), "a parent that the package leaves out is made");
    assert!(!tree.nodes.keys().any(|path| path.starts_with("/bin") || path.starts_with("/lib")));
}

#[test]
fn a_filter_leaves_paths_out_but_hard_links_to_them_work() {
    let bench = Bench::new();
    let filter = PathFilter::new(&["/usr/share/doc/**", "/usr/bin/tool"], &["/usr/share/doc/*/copyright"]).unwrap();
    let tree = bench.unpack(&deb(CONTROL, &members()), &filter).unwrap();
    assert!(tree.nodes.contains_key("/usr/share/doc/demo/copyright"));
    assert!(!tree.nodes.contains_key("/usr/share/doc/demo/changelog"));
    assert!(!tree.nodes.contains_key("/usr/bin/tool"));
    assert_eq!(content(&tree, "/usr/bin/alias"), b"tool");
}

#[test]
fn a_package_is_unpacked_once_and_again_when_the_cache_is_damaged() {
    let bench = Bench::new();
    let bytes = deb(CONTROL, &members());
    let path = bench.put(&bytes);
    let first = Unpacked::open(&bench.settings, &path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(Unpacked::open(&bench.settings, &path).unwrap().entries, first.entries);
    bench.put(&bytes);
    let cached = bench.settings.cache.join("unpacked").join(sha256(&bytes));
    let tool = first.entries.iter().position(|entry| entry.path == "/bin/tool").unwrap();
    fs::write(cached.join(tool.to_string()), "").unwrap();
    let tree = bench.unpack(&bytes, &PathFilter::default()).unwrap();
    assert_eq!(content(&tree, "/usr/bin/tool"), b"tool");
    assert_eq!(fs::read_dir(cached.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn what_a_killed_build_left_behind_is_removed_a_day_later() {
    let mut bench = Bench::new();
    let left = bench.settings.cache.join("unpacked/.unfinished-killed");
    fs::create_dir_all(left.join("inner")).unwrap();
    bench.unpack(&deb(CONTROL, &members()), &PathFilter::default()).unwrap();
    assert!(left.exists(), "it may belong to a running build");
    bench.settings.now += Duration::from_secs(2 * 86400);
    bench.unpack(&deb(CONTROL, &members()[..3]), &PathFilter::default()).unwrap();
    assert!(!left.exists());
}

#[test]
fn metadata_tells_what_a_manifest_needs() {
    let bench = Bench::new();
    let unpacked = Unpacked::open(&bench.settings, &bench.put(&deb(CONTROL, &members()))).unwrap();
    let metadata = &unpacked.metadata;
    assert_eq!((metadata.package.as_str(), metadata.version.as_str()), ("demo", "1:2.0-3+b1"));
    assert_eq!((metadata.source.as_str(), metadata.source_version.as_str()), ("demo-src", "1:2.0-3"));
    assert_eq!(metadata.homepage.as_deref(), Some("https://example.org/"));
    assert_eq!(metadata.section.as_deref(), Some("admin"));
    assert_eq!(metadata.maintainer, "A Person <a@example.org>");
    assert_eq!(metadata.depends, ["libc6 (>= 2.38)", "one", "two (>= 1) | three"]);
}

#[test]
fn every_compression_that_debian_uses_is_read() {
    let tar = tarball(&members());
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar).unwrap();
    let gz = gz.finish().unwrap();
    let zst = zstd::encode_all(tar.as_slice(), 1).unwrap();
    let xz = xz(&tar);
    for (name, data) in [("data.tar", &tar), ("data.tar.gz", &gz), ("data.tar.zst", &zst), ("data.tar.xz", &xz)] {
        let bench = Bench::new();
        let control = control(CONTROL);
        let bytes = ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &control), (name, data)]);
        let tree = bench.unpack(&bytes, &PathFilter::default()).unwrap();
        assert_eq!(content(&tree, "/usr/bin/tool"), b"tool", "{name}");
    }
}

#[test]
fn a_package_that_ends_early_is_named_as_truncated_wherever_it_is_cut() {
    let bytes = deb(CONTROL, &members());
    let bench = Bench::new();
    let mut kept = Vec::new();
    for cut in (0..bytes.len() - 1).step_by(7) {
        match bench.unpack(&bytes[..cut], &PathFilter::default()) {
            Ok(_) => kept.push(cut),
            Err(error) => {
                // Cut between two members, it looks like a package that lacks one.
                assert!(matches!(error, Error::Truncated { .. } | Error::BadDeb { .. }), "{cut}: {error}");
                assert_eq!(error.class(), Class::Verification);
            }
        }
    }
    assert_eq!(kept, Vec::<usize>::new());
    let error = Deb::open(&bench.put(&bytes[..bytes.len() - 10])).unwrap_err().to_string();
    assert!(error.contains("truncated package: data.tar.xz should have"), "{error}");
    assert_eq!(fs::read_dir(bench.settings.cache.join("unpacked")).unwrap().count(), 0, "nothing half unpacked");
}

#[test]
fn a_package_whose_inner_archive_ends_early_is_refused() {
    let tar = tarball(&members());
    let control = control(CONTROL);
    let bench = Bench::new();
    for data in [xz(&tar[..2000]), xz(&tar)[..150].to_vec()] {
        let bytes = ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &control), ("data.tar.xz", &data)]);
        let error = bench.unpack(&bytes, &PathFilter::default()).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. } | Error::BadDeb { .. }), "{error}");
    }
}

#[test]
fn a_file_that_is_no_package_is_refused() {
    let bench = Bench::new();
    let error = Deb::open(&bench.put(b"<html>not found</html>")).unwrap_err();
    assert!(error.to_string().contains("does not start as an ar archive"), "{error}");
    let error = Deb::open(&bench.put(&ar(&[("debian-binary", b"2.0\n")]))).unwrap_err();
    assert!(error.to_string().contains("no control.tar* in it"), "{error}");
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    let bench = Bench::new();
    for member in [
        file("./usr/../../etc/passwd", b"x", 0o644, (0, 0)),
        file("../etc/passwd", b"x", 0o644, (0, 0)),
        link("./usr/x", "../../etc/passwd", EntryType::Link),
    ] {
        let bytes = deb(CONTROL, &[member]);
        let error = bench.unpack(&bytes, &PathFilter::default()).unwrap_err();
        assert!(error.to_string().contains("contains `..`"), "{error}");
        let target = bench.root.path().join("tools");
        assert!(matches!(unpack_to_dir(&bench.put(&bytes), &target, &|_| true), Err(Error::BadDeb { .. })));
    }
}

#[test]
fn a_device_in_a_package_is_refused() {
    let bench = Bench::new();
    let bytes = deb(CONTROL, &[link("./dev/sda", "", EntryType::Block)]);
    let error = bench.unpack(&bytes, &PathFilter::default()).unwrap_err();
    assert!(error.to_string().contains("/dev/sda: member of type"), "{error}");
}

#[test]
fn two_packages_with_the_same_file_are_refused_and_the_same_directory_is_fine() {
    let bench = Bench::new();
    let mut tree = Tree::default();
    let one = bench.put(&deb(CONTROL, &[directory("./usr/", 0o755), file("./usr/a", b"1", 0o644, (0, 0))]));
    let two = bench.put(&deb(CONTROL, &[directory("./usr/", 0o700), file("./usr/a", b"2", 0o644, (0, 0))]));
    unpack_into(&bench.settings, &mut tree, &one, &PathFilter::default()).unwrap();
    let error = unpack_into(&bench.settings, &mut tree, &two, &PathFilter::default()).unwrap_err();
    assert!(error.to_string().contains("demo: /usr/a is already there"), "{error}");
    assert_eq!(tree.nodes["/usr"].mode, 0o755);
}

fn unpack_here(bytes: &[u8]) -> (Bench, PathBuf, Result<(), Error>) {
    let bench = Bench::new();
    let target = bench.root.path().join("tools");
    let outcome = unpack_to_dir(&bench.put(bytes), &target, &|_| true);
    (bench, target, outcome)
}

#[test]
fn private_tools_are_unpacked_as_the_calling_user() {
    let mut members = members();
    members.push(link("./usr/share/absolute", "/usr/bin/tool", EntryType::Symlink));
    let (bench, target, outcome) = unpack_here(&deb(CONTROL, &members));
    outcome.unwrap();
    let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("usr/bin/tool"), 0o755, "no setuid");
    assert_eq!(fs::read(target.join("usr/bin/alias")).unwrap(), b"tool");
    assert_eq!(fs::read_link(target.join("usr/bin/short")).unwrap(), Path::new("tool"));
    assert_eq!(fs::read_link(target.join("usr/share/absolute")).unwrap(), Path::new("../../usr/bin/tool"));
    assert_eq!(fs::read(target.join("usr/share/absolute")).unwrap(), b"tool");
    unpack_to_dir(&bench.put(&deb(CONTROL, &members)), &target, &|_| true).unwrap();
}

#[test]
fn a_link_cannot_lead_private_tools_out_of_their_directory() {
    let members =
        [link("./usr/escape", "../../outside", EntryType::Symlink), file("./usr/escape/file", b"x", 0o644, (0, 0))];
    let (bench, _, outcome) = unpack_here(&deb(CONTROL, &members));
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("/usr/escape is used as a directory"), "{error}");
    assert!(!bench.root.path().join("outside").exists());
}
