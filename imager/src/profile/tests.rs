use std::path::{Path, PathBuf};

use super::*;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn virt() -> String {
    std::fs::read_to_string(workspace().join("boards/virt-aarch64.toml")).expect("the board file")
}

fn error(text: &str) -> String {
    Board::parse_str("test", "boards/test.toml", text).expect_err("the text is wrong").to_string()
}

#[test]
fn every_board_and_overlay_parses_and_resolves() {
    let all = boards(&workspace().join("boards")).expect("every board file is right");
    assert!(all.len() >= 6, "{all:?}");
    for board in all {
        let request = Request { board: board.name.clone(), ..Request::default() };
        let profile = Profile::resolve(&workspace(), &request).expect("its overlays exist");
        assert_eq!(profile.board, board.name);
        serde_json::to_string(&profile).expect("a profile can be printed");
        assert!(profile.wanted().iter().any(|p| p.starts_with("linux-image")), "{:?}", profile.wanted());
    }
    let overlays = workspace().join("overlays");
    for name in super::board::names(&overlays, "").expect("the directory") {
        Overlay::find(&overlays, &name).expect("every overlay is right").tree().expect("its files");
    }
}

#[test]
fn a_wrong_key_is_reported_with_its_place_and_the_nearest_right_one() {
    let text = virt().replace("config-mib", "config-mb");
    let line = text.lines().position(|l| l.starts_with("config-mb")).expect("replaced") + 1;
    assert_eq!(error(&text), format!("boards/test.toml:{line}:1: unknown key `config-mb`; did you mean `config-mib`?"));
}

#[test]
fn a_wrong_value_is_reported_with_its_place_and_the_nearest_right_one() {
    let text = virt().replace("\"aarch64\"", "\"aarch46\"");
    assert!(error(&text).contains("unknown value `aarch46`; did you mean `aarch64`?"), "{}", error(&text));
    let text = virt().replace("slot-mib = 256", "slot-mib = \"256\"");
    let line = text.lines().position(|l| l.starts_with("slot-mib")).expect("replaced") + 1;
    assert!(error(&text).starts_with(&format!("boards/test.toml:{line}:12: invalid type")), "{}", error(&text));
}

#[test]
fn what_cannot_go_together_is_refused() {
    let text = virt().replace("table = \"mbr\"", "table = \"gpt\"");
    assert!(error(&text).contains("`boot.kind = \"uefi\"` goes with"), "{}", error(&text));
    let text = virt().replace("kind = \"direct\"", "kind = \"pi\"");
    assert!(error(&text).contains("`boot.config-txt`"), "{}", error(&text));
    let text = virt().replace("config-mib = 16", "config-mib = 1");
    assert!(error(&text).contains("`config-mib` is 1 MiB"), "{}", error(&text));
}

#[test]
fn an_unknown_board_names_the_nearest_and_all() {
    let request = Request { board: "rip4".into(), ..Request::default() };
    let text = Profile::resolve(&workspace(), &request).expect_err("no such board").to_string();
    assert!(text.starts_with("there is no board `rip4`; did you mean `rpi4`?; boards: "), "{text}");
}

#[test]
fn overlays_are_added_and_left_out_by_name() {
    let base = Request { board: "virt-aarch64".into(), ..Request::default() };
    let with = Request { with: vec!["debug".into()], without: vec!["k8s-node".into()], ..base.clone() };
    let profile = Profile::resolve(&workspace(), &with).expect("both exist");
    assert_eq!(profile.overlays.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["base", "debug"]);
    assert!(profile.packages.contains(&"busybox-static".to_owned()));
    assert!(!profile.packages.contains(&"containerd".to_owned()));
    let wrong = Request { without: vec!["k8snode".into()], ..base };
    let text = Profile::resolve(&workspace(), &wrong).expect_err("no such overlay").to_string();
    assert!(text.contains("did you mean `k8s-node`?"), "{text}");
}

#[test]
fn a_printed_profile_does_not_show_what_the_config_files_hold() {
    let secret = ConfigFile { path: "/node.toml".into(), content: b"token = \"K10secret\"".to_vec() };
    let request = Request { board: "virt-aarch64".into(), config: vec![secret], ..Request::default() };
    let profile = Profile::resolve(&workspace(), &request).expect("it resolves");
    let shown = format!("{}{profile:?}", serde_json::to_string(&profile).expect("json"));
    assert!(shown.contains("/node.toml") && !shown.contains("secret"), "{shown}");
}
