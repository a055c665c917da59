//! What an index must be for its packages to be believed.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use imager::{
    packages::{Class, Error, Keyring, Resolution, Result, Settings, Source, resolve},
    progress::Progress,
};
use pgp::{
    composed::SignedPublicKey,
    packet::{RevocationCode, SignatureConfig, SignatureType, Subpacket, SubpacketData},
    ser::Serialize,
    types::{KeyDetails, Password, Timestamp},
};
use rand::thread_rng;

use crate::support::{Archive, Publish, key, sign, strings};

const DAY: Duration = Duration::from_secs(86400);

fn archive() -> Archive {
    let mut archive = Archive::new();
    archive.add("trixie", "a", "1", "");
    archive
}

fn try_to_resolve(settings: &Settings) -> Result<Resolution> {
    let sources = [Source::new("trixie", &["main"], "arm64")];
    resolve(settings, &sources, &strings(&["a"]), &[], &Progress::hidden())
}

#[test]
fn an_index_signed_by_a_key_of_the_archive_is_taken() {
    let archive = archive();
    archive.publish(&Publish::new("trixie"));
    let found = try_to_resolve(&archive.settings()).unwrap();
    assert_eq!(found.pins.len(), 1);
    assert_eq!(found.pins[0].source, "trixie/main");
}

#[test]
fn an_index_signed_by_another_key_is_refused() {
    let archive = archive();
    let other = key();
    archive.publish(&Publish { signer: Some(&other), ..Publish::new("trixie") });
    let error = try_to_resolve(&archive.settings()).unwrap_err();
    let signer = hex::encode_upper(other.secret_subkeys[0].key.fingerprint().as_bytes());
    assert_eq!(error.class(), Class::Verification);
    assert!(error.to_string().contains(&format!("signed by {signer}, which is not a key of the archive")), "{error}");
    assert!(!archive.path("cache/indices/debian/trixie/InRelease").exists());
}

#[test]
fn an_index_changed_after_it_was_signed_is_refused() {
    let archive = archive();
    archive.publish(&Publish::new("trixie"));
    let path = archive.path("debian/dists/trixie/InRelease");
    let text = fs::read_to_string(&path).unwrap().replace("Suite: trixie", "Suite: stable");
    fs::write(&path, text).unwrap();
    let error = try_to_resolve(&archive.settings()).unwrap_err();
    assert!(matches!(error, Error::Signature { .. }));
    assert!(error.to_string().contains("does not fit the text"), "{error}");
}

#[test]
fn text_outside_the_signed_part_is_never_read() {
    let archive = archive();
    archive.publish(&Publish::new("trixie"));
    let path = archive.path("debian/dists/trixie/InRelease");
    let signed = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("Suite: forged\n\n{signed}")).unwrap();
    assert!(matches!(try_to_resolve(&archive.settings()), Err(Error::Signature { .. })));
    fs::write(&path, format!("{signed}\nCodename: forged\nDate: nonsense\n")).unwrap();
    match try_to_resolve(&archive.settings()) {
        Ok(found) => assert_eq!(found.pins.len(), 1),
        Err(error) => assert!(matches!(error, Error::Signature { .. }), "{error}"),
    }
}

#[test]
fn an_unsigned_index_is_refused() {
    let archive = archive();
    archive.publish(&Publish::new("trixie"));
    fs::write(archive.path("debian/dists/trixie/InRelease"), "Suite: trixie\nSHA256:\n").unwrap();
    let error = try_to_resolve(&archive.settings()).unwrap_err();
    assert!(error.to_string().contains("not a clearsigned message"), "{error}");
}

#[test]
fn an_index_signed_by_a_revoked_key_is_refused() {
    let archive = archive();
    archive.publish(&Publish::new("trixie"));
    let mut public = SignedPublicKey::from(archive.key.clone());
    let secret = &archive.key.primary_key;
    let mut config = SignatureConfig::from_key(thread_rng(), secret, SignatureType::KeyRevocation).unwrap();
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(Timestamp::now())).unwrap(),
        Subpacket::regular(SubpacketData::RevocationReason(RevocationCode::KeyCompromised, "".into())).unwrap(),
    ];
    let revocation = config.sign_key(secret, &Password::empty(), &public.primary_key).unwrap();
    public.details.revocation_signatures.push(revocation);
    let keyring = Keyring::from_bytes(&public.to_bytes().unwrap()).unwrap();
    let error = try_to_resolve(&Settings { keyring, ..archive.settings() }).unwrap_err();
    assert!(error.to_string().contains("is revoked"), "{error}");
}

#[test]
fn one_good_signature_among_several_is_enough() {
    let archive = archive();
    archive.publish(&Publish::new("trixie"));
    let path = archive.path("debian/dists/trixie/InRelease");
    let message = fs::read_to_string(&path).unwrap();
    let text: String = message
        .lines()
        .skip_while(|line| !line.is_empty())
        .skip(1)
        .take_while(|line| !line.starts_with("-----BEGIN PGP SIGNATURE"))
        .map(|line| format!("{line}\n"))
        .collect();
    let (other, ours) = (sign(&key(), &text), sign(&archive.key, &text));
    let armoured = |message: &str| message[message.find("-----BEGIN PGP SIGNATURE").unwrap()..].to_owned();
    let body = ours[..ours.find("-----BEGIN PGP SIGNATURE").unwrap()].to_owned();
    let both = pgp_signatures(&[&armoured(&other), &armoured(&ours)]);
    fs::write(&path, format!("{body}{both}")).unwrap();
    assert_eq!(try_to_resolve(&archive.settings()).unwrap().pins.len(), 1);
}

/// Joins armoured signatures into one block, as Debian's signing does.
fn pgp_signatures(blocks: &[&str]) -> String {
    use pgp::composed::{Deserializable, DetachedSignature};
    let mut bytes = Vec::new();
    for block in blocks {
        let (signature, _) = DetachedSignature::from_string(block).unwrap();
        bytes.extend(signature.to_bytes().unwrap());
    }
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(bytes);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n", lines.join("\n"))
}

#[test]
fn an_expired_index_is_refused_even_when_another_suite_is_fine() {
    let mut archive = archive();
    archive.add("trixie-security", "a", "2", "");
    archive.publish(&Publish::new("trixie"));
    let now = SystemTime::now();
    let expired = Publish { date: now - 9 * DAY, valid_until: Some(now - 2 * DAY), ..Publish::new("trixie-security") };
    archive.publish(&expired);
    let sources = ["trixie", "trixie-security"].map(|suite| Source::new(suite, &["main"], "arm64"));
    let error = resolve(&archive.settings(), &sources, &strings(&["a"]), &[], &Progress::hidden()).unwrap_err();
    assert!(matches!(error, Error::Expired { .. }));
    assert!(
        error.to_string().contains("debian-security/dists/trixie-security/InRelease: the index expired on"),
        "{error}"
    );
}

#[test]
fn an_index_from_the_future_is_refused_beyond_some_clock_skew() {
    let archive = archive();
    let now = SystemTime::now();
    archive.publish(&Publish { date: now + Duration::from_secs(600), ..Publish::new("trixie") });
    try_to_resolve(&archive.settings()).unwrap();
    archive.publish(&Publish { date: now + DAY, ..Publish::new("trixie") });
    assert!(matches!(try_to_resolve(&archive.settings()), Err(Error::FromTheFuture { .. })));
}

#[test]
fn an_index_older_than_one_seen_before_is_refused_and_the_newer_one_kept() {
    let archive = archive();
    let now = SystemTime::now();
    archive.publish(&Publish { date: now - DAY, ..Publish::new("trixie") });
    try_to_resolve(&archive.settings()).unwrap();
    try_to_resolve(&archive.settings()).expect("the same again is no step back");
    let known = archive.path("cache/indices/debian/trixie/InRelease");
    let newest = fs::read(&known).unwrap();
    archive.publish(&Publish { date: now - 2 * DAY, ..Publish::new("trixie") });
    let error = try_to_resolve(&archive.settings()).unwrap_err();
    assert!(matches!(error, Error::Rollback { .. }));
    assert_eq!(error.class(), Class::Verification);
    assert!(error.to_string().contains(&known.display().to_string()), "{error}");
    assert_eq!(fs::read(&known).unwrap(), newest);
    fs::remove_file(&known).unwrap();
    try_to_resolve(&archive.settings()).expect("as the message says");
}

#[test]
fn an_index_of_another_suite_is_refused() {
    let archive = archive();
    archive.publish(&Publish { codename: "bullseye", ..Publish::new("trixie") });
    let error = try_to_resolve(&archive.settings()).unwrap_err();
    assert!(error.to_string().contains("asked for suite `trixie`, the mirror answered with `bullseye"), "{error}");
}

#[test]
fn a_list_of_packages_that_does_not_fit_its_index_is_not_read() {
    let archive = archive();
    archive.publish(&Publish::new("trixie"));
    let path = archive.path("debian/dists/trixie/main/binary-arm64/Packages.xz");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = try_to_resolve(&archive.settings()).unwrap_err();
    assert!(matches!(error, Error::NoIndex { .. }));
    assert!(error.to_string().contains("index of trixie/main for arm64"), "{error}");
    assert!(error.to_string().contains("expected sha256"), "{error}");
}

#[test]
fn a_suite_that_is_out_of_sync_does_not_take_the_others_down() {
    let mut archive = archive();
    archive.add("trixie-security", "a", "2", "");
    archive.publish(&Publish::new("trixie"));
    archive.publish(&Publish::new("trixie-security"));
    let path = archive.path("debian-security/dists/trixie-security/main/binary-arm64/Packages.xz");
    fs::write(path, "cut off").unwrap();
    let sources = ["trixie", "trixie-security"].map(|suite| Source::new(suite, &["main"], "arm64"));
    let found = resolve(&archive.settings(), &sources, &strings(&["a"]), &[], &Progress::hidden()).unwrap();
    assert_eq!(found.pins[0].version, "1");
    assert_eq!(found.skipped.len(), 1);
    assert_eq!(found.skipped[0].source, "trixie-security arm64 (debian-security)");
    let missing = resolve(&archive.settings(), &sources, &strings(&["b"]), &[], &Progress::hidden()).unwrap_err();
    assert!(missing.to_string().contains("no source has b"), "{missing}");
    assert!(missing.to_string().contains("source left out: trixie-security"), "{missing}");
}
