//! `imager inspect` and `imager verify`.

use sha2::{Digest, Sha256};

use crate::support::{Place, node_toml};

const BLOCK: usize = 4096;

/// One block of data, its verity superblock without salt, and the root hash.
fn root() -> (Vec<u8>, String) {
    let data = vec![7; BLOCK];
    let hash = hex::encode(Sha256::digest(&data));
    let mut superblock = vec![0; BLOCK];
    for (at, bytes) in [
        (0, &b"verity\0\0"[..]),
        (8, &1_u32.to_le_bytes()),
        (12, &1_u32.to_le_bytes()),
        (32, b"sha256"),
        (64, &4096_u32.to_le_bytes()),
        (68, &4096_u32.to_le_bytes()),
        (72, &1_u64.to_le_bytes()),
    ] {
        superblock[at..at + bytes.len()].copy_from_slice(bytes);
    }
    ([data, superblock].concat(), hash)
}

fn place(hash: &str, root: &[u8]) -> Place {
    let place = Place::new();
    let cmdline = format!("console=ttyS0 kiln.slot=a kiln.roothash={hash} kiln.hashoffset=4096\n");
    let slot: [(&str, &[u8]); 2] = [("/cmdline.txt", cmdline.as_bytes()), ("/root.squashfs", root)];
    place.image("a.img", &[("/node.toml", node_toml().as_bytes())], &slot);
    place
}

#[test]
fn an_image_tells_its_slots_sizes_root_hash_and_settings() {
    let (root, hash) = root();
    let report = place(&hash, &root).imager(&["inspect", "a.img", "-o", "json"]).code(0).json();
    assert_eq!(report["diskId"], "1234abcd");
    assert_eq!(report["partitions"][3]["name"], "STATE");
    assert_eq!(report["slots"][0]["rootHash"], hash.as_str());
    assert_eq!(report["slots"][0]["files"][1]["size"], 2 * BLOCK);
    assert_eq!(report["slots"][1]["files"].as_array().map(Vec::len), Some(0));
    assert_eq!(report["settings"]["config"]["node"]["name"], "pi-1");
}

#[test]
fn a_root_that_is_what_the_command_line_says_is_verified() {
    let (root, hash) = root();
    let outcome = place(&hash, &root).imager(&["verify", "a.img"]).code(0);
    assert!(outcome.stdout.contains(&format!("ok      SLOT_A root hash: {hash}")), "{}", outcome.stdout);
}

#[test]
fn one_changed_byte_of_the_root_fails() {
    let (mut root, hash) = root();
    root[100] ^= 1;
    let outcome = place(&hash, &root).imager(&["verify", "a.img"]).code(5);
    assert!(outcome.stdout.contains("FAILED  SLOT_A root hash"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("error: a.img: 1 of 1 checks failed"), "{}", outcome.stderr);
}

#[test]
fn a_sum_beside_the_image_is_checked() {
    let (root, hash) = root();
    let place = place(&hash, &root);
    std::fs::write(place.path("a.sha256"), format!("{}  a.img\n", "0".repeat(64))).expect("written");
    let outcome = place.imager(&["verify", "a.img", "-o", "json"]).code(5);
    assert_eq!(outcome.json()[0]["ok"], false);
}
