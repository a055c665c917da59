//! What is issued here is believed by rustls and its webpki, and only where it should be.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_pki::{Authority, Certificate, Csr, PkiError, PrivateKey, Signer, certificate_der, key_matches};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap())
}

fn roots(ca: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate_der(ca.certificate_pem()).unwrap()).unwrap();
    Arc::new(roots)
}

fn server_ok(ca: &Authority, pem: &str, name: &str, at: SystemTime) -> Result<(), rustls::Error> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(ca), Arc::new(default_provider())).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&certificate_der(pem).unwrap(), &[], &name, &[], unix(at)).map(|_| ())
}

fn client_ok(ca: &Authority, pem: &str, at: SystemTime) -> Result<(), rustls::Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(ca), Arc::new(default_provider())).build().unwrap();
    verifier.verify_client_cert(&certificate_der(pem).unwrap(), &[], unix(at)).map(|_| ())
}

fn usages(signer: Signer) -> Vec<String> {
    signer.usages().map(str::to_owned).to_vec()
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = kiln_pki::LEAF_LIFETIME;

#[test]
fn a_server_certificate_holds_for_its_names_its_time_and_its_ca() {
    let ca = Authority::create(now()).unwrap();
    let sans = ["localhost", "10.43.0.1", "::1", "localhost"].map(str::to_owned);
    let issued = ca.issue_server("kiln", &sans, now()).unwrap();
    for name in ["localhost", "10.43.0.1", "::1"] {
        server_ok(&ca, &issued.certificate_pem, name, now()).unwrap();
    }
    assert!(server_ok(&ca, &issued.certificate_pem, "example.org", now()).is_err());
    assert!(server_ok(&ca, &issued.certificate_pem, "localhost", now() + YEAR * 2).is_err());
    let other = Authority::create(now()).unwrap();
    assert!(server_ok(&other, &issued.certificate_pem, "localhost", now()).is_err());
    assert!(client_ok(&ca, &issued.certificate_pem, now()).is_err(), "it is for servers");
}

#[test]
fn a_client_certificate_carries_user_and_group() {
    let ca = Authority::create(now()).unwrap();
    let issued = ca.issue_client("admin", Some("system:masters"), now()).unwrap();
    client_ok(&ca, &issued.certificate_pem, now()).unwrap();
    let read = Certificate::from_pem(&issued.certificate_pem).unwrap();
    assert_eq!((read.common_name.as_str(), read.organizations.clone()), ("admin", vec!["system:masters".to_owned()]));
    assert!(read.is_signed_by(ca.certificate()) && key_matches(&read, &issued.key_pem).unwrap());
    assert!(!read.is_signed_by(Authority::create(now()).unwrap().certificate()));
    assert_eq!(read.renew_at(), read.not_before + (read.not_after.duration_since(read.not_before).unwrap() / 3 * 2));
}

#[test]
fn a_ca_comes_back_from_its_files_with_the_same_hash() {
    let ca = Authority::create(now()).unwrap();
    let loaded = Authority::load(ca.certificate_pem(), &ca.key_pem()).unwrap();
    assert_eq!((loaded.hash(), loaded.hash().len()), (ca.hash(), 64));
    assert_eq!(loaded.certificate().not_before, now() - DAY);
    let issued = loaded.issue_client("x", None, now()).unwrap();
    client_ok(&ca, &issued.certificate_pem, now()).unwrap();
}

#[test]
fn a_ca_with_a_foreign_key_or_a_leaf_in_its_place_is_refused() {
    let (a, b) = (Authority::create(now()).unwrap(), Authority::create(now()).unwrap());
    assert!(matches!(Authority::load(a.certificate_pem(), &b.key_pem()), Err(PkiError::KeyMismatch)));
    let leaf = a.issue_client("x", None, now()).unwrap();
    assert!(matches!(Authority::load(&leaf.certificate_pem, &leaf.key_pem), Err(PkiError::NotCa(_))));
    assert!(matches!(Authority::load("nothing", &b.key_pem()), Err(PkiError::Pem(_))));
}

#[test]
fn a_server_with_a_clock_at_the_birth_of_its_ca_still_signs_valid_certificates() {
    let ca = Authority::create(now()).unwrap();
    let issued = ca.issue_client("x", None, now()).unwrap();
    client_ok(&ca, &issued.certificate_pem, now()).unwrap();
    let born = ca.certificate().not_before;
    client_ok(&ca, &ca.issue_client("x", None, born).unwrap().certificate_pem, born).unwrap();
    assert_eq!(Certificate::from_pem(&issued.certificate_pem).unwrap().not_before, born, "none is older than its CA");
}

#[test]
fn certificates_that_were_just_made_hold_when_the_clock_is_put_back() {
    let ca = Authority::create(now()).unwrap();
    let server = ca.issue_server("kiln", &["localhost".to_owned()], now()).unwrap().certificate_pem;
    let client = ca.issue_client("admin", None, now()).unwrap().certificate_pem;
    for back in [HOUR, HOUR * 14, DAY] {
        let then = now() - back;
        assert!(ca.certificate().is_valid_at(then), "programs in Go look at the CA's time too");
        server_ok(&ca, &server, "localhost", then).unwrap();
        client_ok(&ca, &client, then).unwrap();
    }
    assert!(client_ok(&ca, &client, now() - DAY - HOUR).is_err());
    // The life of a short one is not spent when it begins.
    let key = PrivateKey::generate().unwrap();
    let csr = Csr::from_pem(&key.request("system:node:pi", Some("system:nodes"), &[]).unwrap()).unwrap();
    let pem = ca.sign(&csr, Signer::KubeletClient, &usages(Signer::KubeletClient), HOUR, now() + YEAR).unwrap();
    let read = Certificate::from_pem(&pem).unwrap();
    assert_eq!(read.not_before, now() + YEAR - Duration::from_secs(300));
    assert!(read.renew_at() > now() + YEAR + HOUR / 2);
}

#[test]
fn a_nodes_requests_are_signed() {
    let ca = Authority::create(now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = Csr::from_pem(&key.request("system:node:pi", Some("system:nodes"), &[]).unwrap()).unwrap();
    let pem = ca.sign(&csr, Signer::KubeletClient, &usages(Signer::KubeletClient), YEAR, now()).unwrap();
    client_ok(&ca, &pem, now()).unwrap();
    assert!(key_matches(&Certificate::from_pem(&pem).unwrap(), &key.to_pem()).unwrap());

    let names = ["pi", "192.168.1.7", "fd00::7"].map(str::to_owned);
    let csr = Csr::from_pem(&key.request("system:node:pi", Some("system:nodes"), &names).unwrap()).unwrap();
    let pem = ca.sign(&csr, Signer::KubeletServing, &usages(Signer::KubeletServing), YEAR, now()).unwrap();
    server_ok(&ca, &pem, "192.168.1.7", now()).unwrap();
    server_ok(&ca, &pem, "pi", now()).unwrap();
}

#[test]
fn a_request_that_breaks_its_signers_rules_is_refused_with_the_rule() {
    let ca = Authority::create(now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let san = ["pi".to_owned()];
    type Case<'a> = (Signer, &'a str, Option<&'a str>, &'a [String], &'a [&'a str], &'a str);
    let client = ["client auth"];
    let (nodes, masters) = (Some("system:nodes"), Some("system:masters"));
    let node = "system:node:pi";
    let cases: [Case<'_>; 7] = [
        (Signer::KubeletClient, "root", nodes, &[], &client, "is not system:node:<name>"),
        (Signer::KubeletClient, node, masters, &[], &client, "is not system:nodes"),
        (Signer::KubeletClient, node, nodes, &san, &client, "no DNS names"),
        (Signer::KubeletClient, node, nodes, &[], &["server auth"], "`client auth` is needed"),
        (Signer::KubeletServing, node, nodes, &[], &["server auth"], "is needed"),
        (Signer::ApiClient, "eve", masters, &[], &client, "system:masters is not given out"),
        (Signer::ApiClient, "eve", None, &[], &["client auth", "cert sign"], "`cert sign` is not allowed"),
    ];
    for (signer, user, group, sans, usages, rule) in cases {
        let csr = Csr::from_pem(&key.request(user, group, sans).unwrap()).unwrap();
        let usages: Vec<String> = usages.iter().map(|u| (*u).to_owned()).collect();
        let error = ca.sign(&csr, signer, &usages, YEAR, now()).unwrap_err().to_string();
        assert!(error.contains(rule) && error.starts_with(signer.name()), "{error}");
    }
}

#[test]
fn a_request_that_was_tampered_with_is_refused() {
    let request = PrivateKey::generate().unwrap().request("system:node:pi", Some("system:nodes"), &[]).unwrap();
    let mut lines: Vec<String> = request.lines().map(str::to_owned).collect();
    let last = lines.len() - 2;
    let body = lines[last].clone();
    let flipped: String =
        body.chars().enumerate().map(|(i, c)| if i == 2 { if c == 'A' { 'B' } else { 'A' } } else { c }).collect();
    lines[last] = flipped;
    assert!(Csr::from_pem(&lines.join("\n")).is_err());
}

#[test]
fn a_certificate_never_outlives_its_ca() {
    let ca = Authority::create(now()).unwrap();
    let late = now() + kiln_pki::CA_LIFETIME - Duration::from_secs(3600);
    let issued = ca.issue_client("x", None, late).unwrap();
    assert_eq!(Certificate::from_pem(&issued.certificate_pem).unwrap().not_after, ca.certificate().not_after);
}
