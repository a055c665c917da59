//! Help, completions, man pages, and wrong usage.

use crate::support::Place;

const VERBS: [&[&str]; 15] = [
    &["build"],
    &["boards"],
    &["update-lock"],
    &["cluster"],
    &["cluster", "init"],
    &["config", "show"],
    &["config", "set"],
    &["run"],
    &["flash"],
    &["inspect"],
    &["verify"],
    &["cache", "list"],
    &["cache", "prune"],
    &["completions"],
    &["man"],
];

#[test]
fn the_help_of_every_verb_has_usage_and_exit_codes() {
    let place = Place::new();
    for verb in VERBS {
        let help = place.imager(&[verb, &["--help"]].concat()).code(0).stdout;
        assert!(help.contains(&format!("Usage: imager {}", verb.join(" "))), "{help}");
        assert!(help.contains("Exit codes:\n  0  done"), "{help}");
    }
}

#[test]
fn a_misspelt_verb_is_wrong_usage_and_told_the_nearest() {
    let outcome = Place::new().imager(&["bild"]).code(2);
    assert!(outcome.stderr.contains("'build'"), "{}", outcome.stderr);
    assert!(outcome.stdout.is_empty());
}

#[test]
fn completions_and_man_pages_know_every_verb() {
    let place = Place::new();
    let completions = place.imager(&["completions", "bash"]).code(0).stdout;
    place.imager(&["man", "--out", "man"]).code(0);
    for verb in VERBS {
        assert!(completions.contains(verb[0]), "{verb:?}");
        assert!(place.path("man").join(format!("imager-{}.1", verb.join("-"))).is_file(), "{verb:?}");
    }
    assert!(place.imager(&["man"]).code(0).stdout.contains(".TH imager 1"));
}
