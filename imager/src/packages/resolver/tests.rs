//! The resolver on small indices written out as `Packages` files.

use super::*;
use crate::packages::Source;

/// Indices of the suites, each from lines of `name version [| Field: value]...`.
fn indices(suites: &[(&str, &[&str])]) -> Vec<Index> {
    suites
        .iter()
        .map(|(suite, packages)| {
            let text: String = packages.iter().map(|line| stanza(line)).collect();
            let source = Source::new(suite, &["main"], "arm64");
            let not_automatic = suite.ends_with("-backports");
            Index::parse(&source, "main", not_automatic, text.as_bytes(), "test").unwrap()
        })
        .collect()
}

fn stanza(line: &str) -> String {
    let (head, fields) = line.split_once(';').unwrap_or((line, ""));
    let (name, version) = head.trim().split_once(' ').unwrap();
    let fields: String = fields.split(';').map(|field| format!("{}\n", field.trim())).collect();
    let hash = "00".repeat(32);
    let fields = fields.trim_start();
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: arm64\n{fields}Filename: pool/{name}\nSize: 1\nSHA256: {hash}\n\n"
    )
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.into()).collect()
}

fn attempt(suites: &[(&str, &[&str])], wanted: &[&str], exclude: &[&str]) -> Result<Vec<String>> {
    let pins = resolve(&indices(suites), &strings(wanted), &strings(exclude), &[])?;
    Ok(pins.iter().map(|pin| format!("{} {}", pin.name, pin.version)).collect())
}

fn solved(packages: &[&str], wanted: &[&str]) -> Vec<String> {
    attempt(&[("trixie", packages)], wanted, &[]).unwrap()
}

fn refused(packages: &[&str], wanted: &[&str]) -> String {
    attempt(&[("trixie", packages)], wanted, &[]).unwrap_err().to_string()
}

#[test]
fn depends_and_pre_depends_are_followed_and_recommends_are_not() {
    let packages = ["a 1; Depends: b; Recommends: d", "b 1; Pre-Depends: c", "c 1", "d 1"];
    assert_eq!(solved(&packages, &["a"]), ["a 1", "b 1", "c 1"]);
}

#[test]
fn a_cycle_ends() {
    assert_eq!(solved(&["a 1; Depends: b", "b 1; Depends: a"], &["a"]), ["a 1", "b 1"]);
}

#[test]
fn the_first_alternative_that_can_be_had_is_taken() {
    let packages = ["a 1; Depends: gone | b (>= 2) | c | d", "b 1", "c 1", "d 1"];
    assert_eq!(solved(&packages, &["a"]), ["a 1", "c 1"]);
}

#[test]
fn an_alternative_that_is_chosen_anyway_is_enough() {
    let packages = ["a 1; Depends: x | y", "b 1; Depends: y", "x 1", "y 1"];
    assert_eq!(solved(&packages, &["a", "b"]), ["a 1", "b 1", "y 1"]);
    assert_eq!(solved(&packages, &["a"]), ["a 1", "x 1"]);
}

#[test]
fn a_virtual_package_is_met_by_the_provider_of_highest_priority_then_by_name() {
    let packages = [
        "a 1; Depends: awk",
        "busy 1; Provides: awk; Priority: optional",
        "gawk 1; Provides: awk; Priority: optional",
        "mawk 1; Provides: awk; Priority: required",
    ];
    assert_eq!(solved(&packages, &["a"]), ["a 1", "mawk 1"]);
    assert_eq!(solved(&packages, &["a", "gawk"]), ["a 1", "gawk 1"]);
    assert_eq!(solved(&packages[..3], &["a"]), ["a 1", "busy 1"]);
}

#[test]
fn a_versioned_demand_takes_a_versioned_provision_only() {
    let packages =
        ["a 1; Depends: v (>= 2)", "p 1; Provides: v", "q 1; Provides: v (= 1), w", "r 1; Provides: v (= 2)"];
    assert_eq!(solved(&packages, &["a"]), ["a 1", "r 1"]);
    assert!(refused(&packages[..3], &["a"]).contains("a 1 needs v (>= 2): no source has v"));
}

#[test]
fn a_name_that_contains_the_provided_one_is_no_provision() {
    assert!(refused(&["a 1; Depends: awk", "b 1; Provides: awk-doc"], &["a"]).contains("no source has awk"));
}

#[test]
fn a_provider_serves_for_a_real_package_that_is_too_old() {
    let packages = ["a 1; Depends: lib (>= 2)", "lib 1", "libt64 2; Provides: lib (= 2)"];
    assert_eq!(solved(&packages, &["a"]), ["a 1", "libt64 2"]);
}

#[test]
fn the_newest_version_of_all_automatic_suites_wins() {
    let suites: [(&str, &[&str]); 3] =
        [("trixie", &["a 1.9"]), ("trixie-security", &["a 1.10"]), ("trixie-backports", &["a 2"])];
    assert_eq!(attempt(&suites, &["a"], &[]).unwrap(), ["a 1.10"]);
}

#[test]
fn backports_are_taken_only_by_suite_and_for_what_they_need() {
    let suites: [(&str, &[&str]); 2] = [
        ("trixie", &["kernel 6.12", "base 1", "tool 1"]),
        (
            "trixie-backports",
            &["kernel 6.18; Depends: image (= 6.18), base, tool (>= 2)", "image 6.18", "base 2", "tool 2"],
        ),
    ];
    assert_eq!(attempt(&suites, &["kernel"], &[]).unwrap(), ["kernel 6.12"]);
    assert_eq!(
        attempt(&suites, &["kernel/trixie-backports"], &[]).unwrap(),
        ["base 1", "image 6.18", "kernel 6.18", "tool 2"]
    );
    let error = attempt(&suites, &["image"], &[]).unwrap_err().to_string();
    assert!(error.contains("image must be asked for by suite: image/trixie-backports"), "{error}");
}

#[test]
fn a_version_pin_is_obeyed_and_one_that_nobody_offers_is_refused_with_what_is_offered() {
    let packages = ["a 1", "a 2", "b 1; Depends: a"];
    assert_eq!(solved(&packages, &["b", "a=1"]), ["a 1", "b 1"]);
    let error = refused(&packages, &["a=3"]);
    assert!(error.contains("the package list needs a=3: a is offered as 2 in trixie, 1 in trixie"), "{error}");
}

#[test]
fn a_later_exact_demand_makes_an_older_version_be_chosen() {
    let packages = ["a 1; Depends: lib, z", "lib 2", "lib 1; Depends: old", "old 1", "z 1; Depends: lib (= 1)"];
    assert_eq!(solved(&packages, &["a"]), ["a 1", "lib 1", "old 1", "z 1"]);
}

#[test]
fn demands_that_exclude_each_other_are_explained() {
    let packages = ["a 1; Depends: lib (>= 2)", "b 1; Depends: lib (<< 2)", "lib 1", "lib 2"];
    let error = refused(&packages, &["a", "b"]);
    assert!(error.contains("a 1 needs lib (>= 2)"), "{error}");
    assert!(error.contains("b 1 needs lib (<< 2)"), "{error}");
    assert!(error.contains("lib is offered as 2 in trixie, 1 in trixie"), "{error}");
}

#[test]
fn an_excluded_package_is_never_chosen_and_its_dependants_do_without() {
    let packages = [
        "a 1; Depends: debconf (>= 0.5) | debconf-2.0, v, b",
        "b 1",
        "cdebconf 1; Provides: debconf-2.0",
        "debconf 1",
        "p 1; Provides: v",
        "q 1; Provides: v",
    ];
    let found = attempt(&[("trixie", &packages)], &["a"], &["debconf", "p"]).unwrap();
    assert_eq!(found, ["a 1", "b 1", "q 1"]);
    let error = attempt(&[("trixie", &packages)], &["debconf"], &["debconf"]).unwrap_err().to_string();
    assert!(error.contains("the package list needs debconf: it is excluded too"), "{error}");
}

#[test]
fn qualifiers_are_understood() {
    let packages = ["a 1; Depends: python3:any, b:arm64, c:native", "python3 1", "b 1", "c 1"];
    assert_eq!(solved(&packages, &["a"]), ["a 1", "b 1", "c 1", "python3 1"]);
    assert!(refused(&["a 1; Depends: b:armhf", "b 1"], &["a"]).contains("no source has b:armhf"));
}

#[test]
fn packages_that_refuse_each_other_are_named() {
    let packages = ["a 1; Conflicts: mta; Provides: mta", "b 1; Provides: mta", "c 1; Breaks: b (<< 1)"];
    assert_eq!(solved(&packages, &["b", "c"]), ["b 1", "c 1"]);
    let error = refused(&packages, &["a", "b"]);
    assert!(error.contains("a 1 needs the absence of mta: b 1 is chosen too"), "{error}");
}

#[test]
fn all_that_is_missing_is_told_at_once() {
    let error = refused(&["a 1; Depends: x, y"], &["a", "z"]);
    for part in ["a 1 needs x", "a 1 needs y", "the package list needs z"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn the_order_of_the_arguments_makes_no_difference() {
    let packages = ["a 1; Depends: x | y", "b 1; Depends: y | x", "x 1", "y 1"];
    let suites: [(&str, &[&str]); 1] = [("trixie", &packages)];
    assert_eq!(attempt(&suites, &["a", "b"], &[]).unwrap(), attempt(&suites, &["b", "a", "a"], &[]).unwrap());
}

#[test]
fn an_index_with_a_bad_hash_or_without_a_path_is_refused() {
    let source = Source::new("trixie", &["main"], "arm64");
    let parse = |text: &str| Index::parse(&source, "main", false, text.as_bytes(), "u").unwrap_err().to_string();
    let good = stanza("a 1");
    assert!(parse(&good.replace("SHA256: 00", "SHA256: zz")).starts_with("u: package a: sha256"));
    assert_eq!(parse(&good.replace("Filename: pool/a\n", "")), "u: package a has no Filename");
    assert!(parse(&good.replace("pool/a", "../a")).contains("leaves the archive"));
}
