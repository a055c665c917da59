//! The lock file.

use std::fs;

use imager::packages::{Archive, Class, Error, Lock, Pin, Resolution, Section, Source};

use crate::support::strings;

fn pin(name: &str, version: &str) -> Pin {
    Pin {
        name: name.into(),
        version: version.into(),
        arch: "arm64".into(),
        source: "trixie/main".into(),
        archive: Archive::Debian,
        filename: format!("pool/{name}.deb"),
        size: 10,
        sha256: "0a".repeat(32),
    }
}

fn section(pins: &[Pin]) -> Section {
    let resolution = Resolution { pins: pins.into(), index_date: 1_763_199_252, skipped: Vec::new() };
    Section::new(&[Source::new("trixie", &["main"], "arm64")], &strings(&["a"]), &[], &resolution)
}

fn lock() -> Lock {
    let mut lock = Lock::default();
    lock.boards.insert("rpi4".into(), section(&[pin("b", "2"), pin("a", "1")]));
    lock.boards.insert("rpi3".into(), section(&[pin("a", "1")]));
    lock.toolchain.insert("aarch64".into(), section(&[pin("clang", "14")]));
    lock
}

#[test]
fn a_lock_is_written_sorted_and_read_back_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imager.lock");
    assert_eq!(Lock::load(&path).unwrap(), None);
    lock().save(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let mut expected = lock();
    expected.boards.get_mut("rpi4").unwrap().packages.sort();
    assert_eq!(Lock::load(&path).unwrap(), Some(expected.clone()));
    let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in {text}"));
    assert!(at("[boards.rpi3]") < at("[boards.rpi4]") && at("[boards.rpi4]") < at("[toolchain.aarch64]"));
    expected.save(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn drift_names_each_package_with_both_versions() {
    let mut other_bytes = pin("c", "1");
    other_bytes.sha256 = "0b".repeat(32);
    let mut lock = lock();
    lock.boards.insert("rpi4".into(), section(&[pin("a", "1"), pin("b", "2"), pin("c", "1"), pin("gone", "3")]));
    lock.check_board("rpi4", &lock.boards["rpi4"].packages).unwrap();
    let error = lock.check_board("rpi4", &[pin("a", "2"), pin("b", "2"), other_bytes, pin("new", "4")]).unwrap_err();
    assert_eq!(error.class(), Class::Verification);
    let text = error.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "board rpi4: the lock would change:");
    assert_eq!(lines[1], "  package a: 1 -> 2");
    assert!(lines[2].starts_with("  package c 1: same version, sha256 0a0a"), "{text}");
    assert_eq!(lines[3], "  package gone: removed, was 3");
    assert_eq!(lines[4], "  package new: added, 4");
    assert_eq!(lines[5], "run `imager update-lock` to accept this");
}

#[test]
fn a_board_without_a_section_drifts_by_all_its_packages() {
    let error = Lock::default().check_board("rpi4", &[pin("a", "1")]).unwrap_err();
    assert!(error.to_string().contains("package a: added, 1"), "{error}");
}

#[test]
fn a_section_serves_only_the_request_that_it_was_made_for() {
    let sources =
        [Source::new("trixie", &["main", "contrib"], "arm64"), Source::new("trixie-security", &["main"], "arm64")];
    let request = Section::request(&sources, &strings(&["a", "b"]), &[]);
    let turned = [sources[1].clone(), Source::new("trixie", &["contrib", "main"], "arm64")];
    assert_eq!(request, Section::request(&turned, &strings(&["b", "a"]), &[]));
    assert_ne!(request, Section::request(&sources, &strings(&["a"]), &strings(&["b"])));
    let mut lock = Lock::default();
    let mut locked = section(&[]);
    locked.request.clone_from(&request);
    lock.boards.insert("rpi4".into(), locked);
    assert!(lock.board("rpi4", &request).is_some());
    assert!(lock.board("rpi4", "another").is_none());
    assert!(lock.board("rpi3", &request).is_none());
}

#[test]
fn a_bad_lock_is_refused_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imager.lock");
    let text = |change: fn(&str) -> String| {
        lock().save(&path).unwrap();
        let changed = change(&fs::read_to_string(&path).unwrap());
        fs::write(&path, changed).unwrap();
        match Lock::load(&path).unwrap_err() {
            Error::BadLock { reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    assert!(text(|t| t.replace("size = 10", "size = ten")).contains("line "));
    assert!(text(|t| t.replace("version = 1\n", "version = 9\n")).contains("version 9 is not 1"));
    assert!(text(|t| t.replace("pool/a.deb", "../a.deb")).contains("leaves the archive"));
    assert!(text(|t| t.replace(&"0a".repeat(32), "../../etc")).contains("64 lower-case hex digits"));
    assert!(text(|t| t.replace("size = 10", "size = 10\nsurprise = 1")).contains("surprise"));
}
