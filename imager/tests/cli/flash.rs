//! `imager flash` to a plain file, which `--force` allows.

use std::fs;

use crate::support::{Place, bytes, node_toml};

fn place() -> Place {
    let place = Place::new();
    place.image("a.img", &[("/node.toml", node_toml().as_bytes())], &[]);
    place
}

#[test]
fn a_plain_file_is_refused_without_force_and_not_made() {
    let place = place();
    let outcome = place.imager(&["flash", "a.img", "card", "--yes"]).code(8);
    assert!(outcome.stderr.contains("it is a plain file, not a device"), "{}", outcome.stderr);
    assert!(!place.path("card").exists());
}

#[test]
fn nobody_to_ask_is_a_no() {
    let place = place();
    let outcome = place.imager(&["flash", "a.img", "card", "--force"]).code(8);
    assert!(outcome.stderr.contains("help: say --yes in scripts"), "{}", outcome.stderr);
    assert!(!place.path("card").exists());
}

#[test]
fn plain_and_packed_images_arrive_whole() {
    let place = place();
    let image = bytes(&place.path("a.img"));
    let report = place.imager(&["flash", "a.img", "card", "--force", "--yes", "-o", "json"]).code(0).json();
    assert_eq!(report["written"], image.len());
    assert!(bytes(&place.path("card")) == image);
    fs::write(place.path("b.img.zst"), zstd::encode_all(&image[..], 3).expect("packed")).expect("written");
    place.imager(&["flash", "b.img.zst", "card2", "--force", "--yes"]).code(0);
    assert!(bytes(&place.path("card2")) == image);
}

#[test]
fn a_damaged_block_map_is_refused_before_anything_is_written() {
    let place = place();
    fs::write(place.path("a.bmap"), "<bmap version=\"2.0\"><ImageSize> 1 </ImageSize></bmap>").expect("written");
    let outcome = place.imager(&["flash", "a.img", "card", "--force", "--yes"]).code(3);
    assert!(outcome.stderr.contains("a.bmap: not a usable block map"), "{}", outcome.stderr);
    assert!(!place.path("card").exists());
}

#[test]
fn a_device_that_is_not_there_is_no_file_to_be_made() {
    let outcome = place().imager(&["flash", "a.img", "/dev/kiln-no-such-card", "--force", "--yes"]).code(6);
    assert!(outcome.stderr.contains("cannot open /dev/kiln-no-such-card"), "{}", outcome.stderr);
}
