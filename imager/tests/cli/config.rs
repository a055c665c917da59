//! `imager config show` and `set` on an image.

use crate::support::{Place, SECRET, bytes, config_file, config_files, node_toml};

#[test]
fn setting_a_key_keeps_comments_and_leaves_no_other_file() {
    let place = Place::new();
    let image = place.image("a.img", &[("/node.toml", node_toml().as_bytes()), ("/other.txt", b"stays")], &[]);
    place.imager(&["config", "set", "a.img", "node.name=pi-2", "time.servers=a.example,b.example"]).code(0);
    let text = config_file(&image, "/node.toml");
    assert!(text.contains("# in the shop window"), "{text}");
    assert!(text.contains("name = \"pi-2\"   # left"), "{text}");
    assert!(text.contains("a.example"), "{text}");
    let files: Vec<_> = config_files(&image).into_keys().collect();
    assert_eq!(files, ["/node.toml", "/other.txt"]);
}

#[test]
fn the_tokens_secret_is_never_shown() {
    let place = Place::new();
    place.image("a.img", &[("/node.toml", node_toml().as_bytes())], &[]);
    for args in [&["config", "show", "a.img"][..], &["config", "show", "a.img", "-o", "json"], &["inspect", "a.img"]] {
        let outcome = place.imager(args).code(0);
        assert!(outcome.stdout.contains("::abcdef:****************"), "{}", outcome.stdout);
        assert!(!outcome.stdout.contains(SECRET));
    }
}

#[test]
fn a_wrong_key_is_told_the_nearest_and_nothing_is_written() {
    let place = Place::new();
    let image = place.image("a.img", &[("/node.toml", node_toml().as_bytes())], &[]);
    let before = bytes(&image);
    let outcome = place.imager(&["config", "set", "a.img", "node.name=pi-2", "node.rolle=agent"]).code(3);
    assert!(outcome.stderr.contains("`node.rolle`; did you mean `node.role`?"), "{}", outcome.stderr);
    let outcome = place.imager(&["config", "set", "a.img", "node.name=Not A Name"]).code(3);
    assert!(outcome.stderr.contains("node.toml:4:"), "{}", outcome.stderr);
    assert!(before == bytes(&image), "the image changed");
}

#[test]
fn a_wrong_file_is_told_line_column_and_nearest_key() {
    let place = Place::new();
    let text = node_toml().replace("role =", "rol =");
    place.image("a.img", &[("/node.toml", text.as_bytes())], &[]);
    let outcome = place.imager(&["config", "show", "a.img"]).code(3);
    assert!(outcome.stderr.contains("node.toml:5:1: unknown key `rol`; did you mean `role`?"), "{}", outcome.stderr);
    assert!(!outcome.stdout.contains(SECRET));
}

#[test]
fn a_card_without_settings_gets_them_by_set() {
    let place = Place::new();
    place.image("a.img", &[], &[]);
    let outcome = place.imager(&["config", "show", "a.img"]).code(3);
    assert!(outcome.stderr.contains("there is no node.toml on CONFIG"), "{}", outcome.stderr);
    place.imager(&["config", "set", "a.img", "node.role=server", "node.name=kiln-1"]).code(0);
    let shown = place.imager(&["config", "show", "a.img", "-o", "json"]).code(0).json();
    assert_eq!(shown["node"]["name"], "kiln-1");
}

#[test]
fn a_full_config_partition_is_told_and_left_alone() {
    let place = Place::new();
    let image = place.image("a.img", &[("/node.toml", node_toml().as_bytes())], &[]);
    fill(&image);
    let before = bytes(&image);
    let outcome = place.imager(&["config", "set", "a.img", "node.name=pi-2"]).code(6);
    assert!(outcome.stderr.contains("CONFIG is full"), "{}", outcome.stderr);
    assert!(before == bytes(&image), "the image changed");
}

/// Fills CONFIG to its last cluster.
fn fill(image: &std::path::Path) {
    use imager::image::reader::{Image, Part};
    let opened = Image::open_to_edit(image).expect("an image");
    let fat = opened.fat(Part::Config).expect("CONFIG");
    for number in 0.. {
        let (_, free) = fat.space().expect("counted");
        // A file's bytes may take all but the cluster that its directory may grow by.
        let size = (free / 2).max(512);
        if fat.write(&format!("/fill{number}"), &vec![1; size as usize], 0).is_err() {
            break;
        }
    }
    fat.close().expect("closed");
}

#[test]
fn what_is_no_image_is_named() {
    let place = Place::new();
    std::fs::write(place.path("a.img"), [0; 4096]).expect("written");
    let outcome = place.imager(&["config", "show", "a.img"]).code(3);
    assert!(outcome.stderr.contains("no usable partition table"), "{}", outcome.stderr);
    let outcome = place.imager(&["config", "show", "absent.img"]).code(6);
    assert!(outcome.stderr.contains("cannot open absent.img"), "{}", outcome.stderr);
}
