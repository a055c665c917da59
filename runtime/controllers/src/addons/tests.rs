#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeSet;
use std::fs;

use super::files::Files;
use super::news::News;

fn files(folders: &[&tempfile::TempDir], disabled: &[&str]) -> Files {
    let folders = folders.iter().map(|folder| folder.path().to_owned()).collect();
    Files::new(folders, disabled.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn what_is_a_manifest_is_what_k3s_takes_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("sub/deep")).unwrap();
    for name in [
        "a.yaml",
        "b.YML",
        "c.json",
        "d.txt",
        ".e.yaml",
        "f.yaml",
        "f.yaml.skip",
        "sub/g.yaml",
        "sub/deep/h.x.yaml",
        "i.yaml",
    ] {
        fs::write(at(name), "").unwrap();
    }
    let mut files = files(&[&folder], &["i", "sub/deep"]);
    assert_eq!(files.scan(&BTreeSet::new()), ["a", "b", "c", "g", "h", "i"]);
    let disabled = |name: &str| files.get(name).unwrap().disabled;
    assert_eq!(["a", "g", "h", "i"].map(disabled), [false, false, true, true]);
}

#[test]
fn only_what_is_new_or_changed_is_told_and_nothing_that_is_being_written() {
    let (own, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(image.path().join("a.yaml"), "1").unwrap();
    fs::write(image.path().join("b.yaml"), "1").unwrap();
    let mut files = files(&[&own, &image], &[]);
    assert_eq!(files.scan(&BTreeSet::new()), ["a", "b"]);
    for name in ["a", "b"] {
        let file = files.get(name).unwrap();
        files.done(name, &file);
    }
    assert!(files.scan(&BTreeSet::new()).is_empty());
    // The folder of one's own goes before the image's.
    let path = own.path().join("a.yaml");
    fs::write(&path, "other").unwrap();
    assert!(files.scan(&BTreeSet::from([path.clone()])).is_empty());
    assert_eq!(files.scan(&BTreeSet::new()), ["a"]);
    assert!(files.get("a").unwrap().is_ours && !files.get("b").unwrap().is_ours);
    let file = files.get("a").unwrap();
    files.done("a", &file);
    fs::remove_file(path).unwrap();
    assert_eq!(files.scan(&BTreeSet::new()), ["a"]);
}

#[tokio::test]
async fn a_file_is_told_of_when_it_is_whole_in_a_new_folder_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut news = News::of(folder.path()).unwrap();
    assert!(news.follow().is_empty());
    fs::create_dir(folder.path().join("sub")).unwrap();
    news.next().await.unwrap();
    assert!(news.follow().is_empty());
    let path = folder.path().join("sub/a.yaml");
    fs::write(&path, "x").unwrap();
    news.next().await.unwrap();
    assert!(news.follow().is_empty(), "it is closed");
    let open = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &open, b"y").unwrap();
    fs::write(folder.path().join("b.yaml"), "x").unwrap();
    news.next().await.unwrap();
    assert_eq!(news.follow(), BTreeSet::from([path]));
    drop(open);
    news.next().await.unwrap();
    assert!(news.follow().is_empty());
}
