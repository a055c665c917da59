use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

/// An archive being made.
#[derive(Default)]
struct Made {
    files: Vec<(String, Vec<u8>)>,
}

impl Made {
    fn blob(&mut self, data: Vec<u8>) -> String {
        let digest = hex::encode(Sha256::digest(&data));
        self.files.push((format!("blobs/sha256/{digest}"), data));
        format!("sha256:{digest}")
    }

    fn image(&mut self, arch: &str) -> String {
        let layer = self.blob(format!("layer for {arch}").into_bytes());
        let config = self.blob(json!({"architecture": arch, "os": "linux"}).to_string().into_bytes());
        let manifest = json!({"config": {"digest": config}, "layers": [{"digest": layer}]});
        self.blob(manifest.to_string().into_bytes())
    }

    fn index(&mut self, manifests: &Value) {
        self.files
            .push(("index.json".into(), json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes()));
    }

    fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        let mut tar = tar::Builder::new(File::create(&path).expect("created"));
        for (name, data) in &self.files {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, data.as_slice()).expect("added");
        }
        tar.finish().expect("finished");
        path
    }
}

fn named(name: &str, digest: &str) -> Value {
    json!({"digest": digest, "annotations": {"io.containerd.image.name": name}})
}

fn refusal(made: &Made) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = made.write(folder.path(), "app.tar");
    let error = ContainerImage::open(&path, Arch::Aarch64).expect_err("refused").to_string();
    let (file, message) = error.split_once(": ").expect("a file");
    assert!(file.ends_with("app.tar"), "{error}");
    message.to_owned()
}

#[test]
fn an_archive_is_known_by_the_names_of_its_images() {
    let mut made = Made::default();
    let one = made.image("arm64");
    let (arm, pc) = (made.image("arm64"), made.image("amd64"));
    let both = json!({"manifests": [
        {"digest": pc, "platform": {"architecture": "amd64"}}, {"digest": arm, "platform": {"architecture": "arm64"}},
    ]});
    let both = made.blob(both.to_string().into_bytes());
    made.index(&json!([named("registry.example/shop/till:1", &one), named("docker.io/library/busybox:latest", &both)]));
    let folder = tempfile::tempdir().expect("a folder");
    let path = made.write(folder.path(), "apps.tar");
    let image = ContainerImage::open(&path, Arch::Aarch64).expect("usable");
    assert_eq!(image.names, ["docker.io/library/busybox:latest", "registry.example/shop/till:1"]);
    assert_eq!(image.path, "/usr/share/kiln/images/apps.tar");
    assert_eq!(image.size, std::fs::metadata(&path).expect("there").len());
}

#[test]
fn dockers_list_names_the_one_image_of_an_index() {
    let mut made = Made::default();
    let digest = made.image("arm64");
    made.index(&json!([{"digest": digest, "annotations": {"org.opencontainers.image.ref.name": "1"}}]));
    made.files
        .push(("manifest.json".into(), json!([{"Config": "x", "RepoTags": ["till:1"]}]).to_string().into_bytes()));
    let folder = tempfile::tempdir().expect("a folder");
    let image = ContainerImage::open(&made.write(folder.path(), "till"), Arch::Aarch64).expect("usable");
    assert_eq!((image.names, image.path), (vec!["till:1".to_owned()], "/usr/share/kiln/images/till.tar".to_owned()));
}

#[test]
fn what_a_board_could_not_run_is_refused() {
    let mut other = Made::default();
    let digest = other.image("amd64");
    other.index(&json!([named("a/b:1", &digest)]));
    assert_eq!(refusal(&other), "image a/b:1 is for amd64, not for arm64");

    let mut incomplete = Made::default();
    let digest = incomplete.image("arm64");
    let layer = incomplete.files.remove(0).0.replace("blobs/sha256/", "sha256:");
    incomplete.index(&json!([named("a/b:1", &digest)]));
    assert_eq!(refusal(&incomplete), format!("image a/b:1 lacks blob {layer}; export it with all its layers"));

    let mut damaged = Made::default();
    let digest = damaged.image("arm64");
    damaged.index(&json!([named("a/b:1", &digest)]));
    damaged.files[0].1[0] ^= 1;
    assert!(refusal(&damaged).ends_with("does not have that digest; the file is damaged"));

    let mut nameless = Made::default();
    let digest = nameless.image("arm64");
    nameless.index(&json!([{"digest": digest}]));
    assert!(refusal(&nameless).starts_with("no image in it has a name"));
    assert!(refusal(&Made::default()).starts_with("it has no index.json"));
}

#[test]
fn two_archives_of_one_name_are_refused() {
    let mut made = Made::default();
    let digest = made.image("arm64");
    made.index(&json!([named("a/b:1", &digest)]));
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let paths = [made.write(one.path(), "a.tar"), made.write(two.path(), "a.tar")];
    let error = ContainerImage::all(&paths, Arch::Aarch64).expect_err("refused").to_string();
    assert!(error.ends_with("another archive has the same file name; rename one"), "{error}");
}
