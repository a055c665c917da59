//! `imager boards` and what `imager build` resolves before it builds.

use crate::support::{Place, SECRET, node_toml};

#[test]
fn boards_are_listed_with_architecture_and_kernel() {
    let boards = Place::new().imager(&["boards", "-o", "json"]).code(0).json();
    let names: Vec<&str> =
        boards.as_array().expect("a list").iter().filter_map(|board| board["name"].as_str()).collect();
    for name in ["rpi2", "rpi3", "rpi4", "virt-aarch64", "virt-armv7", "x86_64"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(boards[0]["arch"].is_string() && boards[0]["kernel"].is_string(), "{}", boards[0]);
}

#[test]
fn an_unknown_board_is_refused_with_the_nearest_and_the_list_and_leaves_nothing() {
    let place = Place::new();
    let outcome = place.imager(&["build", "--board", "rip4"]).code(3);
    assert!(outcome.stderr.starts_with("error: there is no board `rip4`; did you mean `rpi4`?"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("virt-armv7") && outcome.stderr.contains("\nhelp: "), "{}", outcome.stderr);
    assert!(!place.path("out").exists());
}

#[test]
fn an_archive_that_holds_no_container_image_is_refused() {
    let place = Place::new();
    std::fs::write(place.path("till.tar"), [0; 1024]).expect("written");
    let outcome = place.imager(&["build", "--board", "rpi4", "--container-image", "till.tar", "--dry-run"]).code(3);
    assert!(outcome.stderr.starts_with("error: till.tar: it has no index.json; write it with"), "{}", outcome.stderr);
}

#[test]
fn manifests_are_shown_and_a_mistake_in_one_is_told_with_its_line() {
    let place = Place::new();
    let fine = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    std::fs::write(place.path("shop.yaml"), fine).expect("written");
    std::fs::write(place.path("wrong.yaml"), format!("{fine}---\nkind: Pod\n")).expect("written");
    let build = |more: &[&str]| {
        let all = ["build", "--board", "rpi4", "--dry-run", "-o", "json", "--manifest", "shop.yaml"];
        place.imager(&[&all[..], more].concat())
    };
    let manifest = build(&[]).code(0).json()["manifests"][0].clone();
    assert_eq!(
        (&manifest["path"], &manifest["objects"][0]),
        (&"/etc/kiln/manifests/shop.yaml".into(), &"Namespace/shop".into())
    );
    let outcome = build(&["--manifest", "wrong.yaml"]).code(3);
    assert!(outcome.stderr.starts_with("error: wrong.yaml:5:1: this object has no apiVersion"), "{}", outcome.stderr);
    let outcome = build(&["--role", "agent"]).code(2);
    assert!(outcome.stderr.contains("--manifest is for a server"), "{}", outcome.stderr);
}

#[test]
fn settings_of_registries_go_onto_the_card_under_their_formats_name() {
    let place = Place::new();
    std::fs::write(place.path("r.yml"), "mirrors: {}\n").expect("written");
    std::fs::write(place.path("r.toml"), "[mirrors\n").expect("written");
    let build =
        |file: &str| place.imager(&["build", "--board", "rpi4", "--registries", file, "--dry-run", "-o", "json"]);
    assert_eq!(build("r.yml").code(0).json()["config"][0]["path"], "/registries.yaml");
    assert!(build("r.toml").code(3).stderr.starts_with("error: r.toml: "));
}

#[test]
fn an_image_that_is_neither_a_file_nor_a_name_is_refused() {
    let build =
        |image: &str| Place::new().imager(&["build", "--board", "rpi4", "--container-image", image, "--dry-run"]);
    let outcome = build("Till:1").code(3);
    assert!(
        outcome.stderr.starts_with("error: `Till:1` is neither a file here nor an image's name"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_installer_is_for_a_known_architecture() {
    let outcome = Place::new().imager(&["bundle", "--arch", "mips"]).code(2);
    assert!(outcome.stderr.contains("an architecture is one of aarch64, armv7, x86_64"), "{}", outcome.stderr);
}

#[test]
fn an_unknown_overlay_is_refused() {
    let outcome = Place::new().imager(&["build", "--board", "rpi4", "--overlay", "no-such"]).code(3);
    assert!(outcome.stderr.contains("there is no overlay `no-such`"), "{}", outcome.stderr);
}

#[test]
fn a_dry_run_shows_the_whole_profile_without_secrets_and_builds_nothing() {
    let place = Place::new();
    std::fs::write(place.path("node.toml"), node_toml()).expect("written");
    let args = ["build", "--board", "rpi4", "--config", "node.toml", "--dry-run", "-o", "json"];
    let outcome = place.imager(&args).code(0);
    let profile = outcome.json();
    assert_eq!(profile["board"], "rpi4");
    assert_eq!(profile["config"][0]["path"], "/node.toml");
    assert!(!outcome.stdout.contains(SECRET));
    assert!(!place.path("out").exists() && !place.path("cache").exists());
}

#[test]
fn a_wrong_key_in_a_settings_file_is_told_with_its_place() {
    let place = Place::new();
    std::fs::write(place.path("node.toml"), node_toml().replace("name =", "nmae =")).expect("written");
    let outcome = place.imager(&["build", "--board", "rpi4", "--config", "node.toml", "--dry-run"]).code(3);
    assert!(outcome.stderr.contains("node.toml:4:1: unknown key `nmae`; did you mean `name`?"), "{}", outcome.stderr);
}

#[test]
fn settings_without_a_role_make_no_sense() {
    let place = Place::new();
    place.imager(&["build", "--board", "rpi4", "--name", "pi-1", "--dry-run"]).code(2);
    let outcome = place.imager(&["build", "--board", "rpi4", "--role", "server", "--server", "10.0.0.1", "--dry-run"]);
    assert!(outcome.code(2).stderr.contains("a server makes its own"));
}

#[test]
fn a_wrong_key_in_the_users_own_file_is_told() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("config/kiln")).expect("a directory");
    std::fs::write(place.path("config/kiln/imager.toml"), "miror = \"x\"\n").expect("written");
    let outcome = place.imager(&["build", "--board", "rpi4"]).code(3);
    assert!(outcome.stderr.contains("help: its keys are `mirror` and `cache`"), "{}", outcome.stderr);
}

#[test]
fn a_mirror_that_is_not_there_is_a_matter_of_the_network_and_leaves_nothing() {
    let place = Place::new();
    let args = ["build", "--board", "rpi4", "--mirror", "http://127.0.0.1:9/debian", "--lock", "test.lock", "-q"];
    let outcome = place.imager(&args).code(4);
    assert!(outcome.stderr.starts_with("error: ") && outcome.stderr.contains("127.0.0.1:9"), "{}", outcome.stderr);
    assert!(!place.path("out").exists() && !place.path("test.lock").exists());
}
