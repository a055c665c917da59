//! `imager cluster init`, and the cards made from it.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::{Place, SECRET, token};

fn place() -> Place {
    let place = Place::new();
    place.imager(&["cluster", "init", "home", "--server", "192.168.1.10"]).code(0);
    place
}

/// The paths that a card of this role would get.
fn card(place: &Place, args: &[&str]) -> Vec<String> {
    let all = [&["build", "--board", "rpi4", "--dry-run", "-o", "json", "--cluster", "home"], args].concat();
    let profile = place.imager(&all).code(0).json();
    let files = profile["config"].as_array().expect("a list");
    files.iter().filter_map(|file| file["path"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_clusters_secrets_are_for_their_owner_alone() {
    let place = place();
    for name in ["ca.key", "token", "bootstrap-tokens.json", "admin.kubeconfig"] {
        let mode = fs::metadata(place.path("home").join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let kubeconfig = fs::read_to_string(place.path("home/admin.kubeconfig")).expect("there");
    assert!(kubeconfig.contains("https://192.168.1.10:6443"), "{kubeconfig}");
}

#[test]
fn a_second_init_leaves_the_first_as_it_is() {
    let place = place();
    let before = fs::read(place.path("home/ca.key")).expect("there");
    let outcome = place.imager(&["cluster", "init", "home"]).code(3);
    assert!(outcome.stderr.contains("never written over"), "{}", outcome.stderr);
    assert_eq!(fs::read(place.path("home/ca.key")).expect("there"), before);
}

#[test]
fn the_ca_key_goes_onto_servers_cards_only() {
    let place = place();
    let agent = card(&place, &["--role", "agent", "--name", "pi-1"]);
    assert_eq!(agent, ["/cluster/ca.crt", "/node.toml"]);
    let server = card(&place, &["--role", "server"]);
    assert_eq!(server, ["/cluster/bootstrap-tokens.json", "/cluster/ca.crt", "/cluster/ca.key", "/node.toml"]);
}

#[test]
fn a_token_of_another_cluster_is_refused_and_its_secret_not_repeated() {
    let place = place();
    let token = token();
    let args =
        ["build", "--board", "rpi4", "--dry-run", "--cluster", "home", "--role", "agent", "--token", token.as_str()];
    let outcome = place.imager(&args).code(5);
    assert!(outcome.stderr.contains("the join token is for the CA abab"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains(SECRET));
}

#[test]
fn a_directory_that_is_no_cluster_is_told_how_to_become_one() {
    let place = Place::new();
    let args = ["build", "--board", "rpi4", "--dry-run", "--cluster", "nowhere", "--role", "agent"];
    let outcome = place.imager(&args).code(3);
    assert!(outcome.stderr.contains("help: make one with `imager cluster init nowhere`"), "{}", outcome.stderr);
}
