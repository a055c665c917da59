//! What `imager run` says when it cannot run. Boots are the end-to-end tests' business.

use crate::support::{Place, node_toml};

fn place() -> Place {
    let place = Place::new();
    place.image("a.img", &[("/node.toml", node_toml().as_bytes())], &[]);
    place
}

#[test]
fn a_missing_emulator_is_told_with_its_package() {
    let place = place();
    let outcome = place.imager_with(&["run", "a.img", "--board", "rpi4"], &[("PATH", "/nowhere")]).code(1);
    assert!(outcome.stderr.contains("error: qemu-system-aarch64 is not installed"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("help: install Debian's package qemu-system-arm, version 9.0"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_image_that_does_not_name_its_board_needs_to_be_told() {
    let outcome = place().imager(&["run", "a.img"]).code(3);
    assert!(outcome.stderr.contains("help: name it with --board"), "{}", outcome.stderr);
}

#[test]
fn a_board_with_fixed_memory_takes_no_other() {
    let outcome = place().imager(&["run", "a.img", "--board", "rpi4", "--memory", "8G"]).code(2);
    assert!(outcome.stderr.contains("help: leave --memory out"), "{}", outcome.stderr);
}

#[test]
fn a_board_of_another_kind_of_processor_is_not_run_by_kvm() {
    let outcome = place().imager(&["run", "a.img", "--board", "rpi4", "--kvm"]).code(1);
    assert!(outcome.stderr.contains("help: leave --kvm out"), "{}", outcome.stderr);
}

#[test]
fn a_forward_needs_a_network() {
    place().imager(&["run", "a.img", "--board", "rpi4", "--no-net", "--forward", "1:2"]).code(2);
}
