//! A Debian archive in a temporary directory, signed by a key made for it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imager::packages::{Keyring, Settings};
use pgp::{
    composed::{
        CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
        SubkeyParamsBuilder,
    },
    ser::Serialize,
    types::Password,
};
use rand::thread_rng;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A key like Debian's: a primary one with a signing subkey.
pub(crate) fn key() -> SignedSecretKey {
    let subkey = SubkeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_sign(true)
        .can_encrypt(EncryptionCaps::None)
        .build()
        .unwrap();
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(true)
        .can_encrypt(EncryptionCaps::None)
        .primary_user_id("Test Archive <test@example.org>".into())
        .subkeys(vec![subkey])
        .build()
        .unwrap()
        .generate(thread_rng())
        .unwrap()
}

pub(crate) fn keyring(key: &SignedSecretKey) -> Keyring {
    Keyring::from_bytes(&SignedPublicKey::from(key.clone()).to_bytes().unwrap()).unwrap()
}

/// Signs like Debian does: by the subkey.
pub(crate) fn sign(key: &SignedSecretKey, text: &str) -> String {
    let subkey = &key.secret_subkeys[0].key;
    let message = CleartextSignedMessage::sign(thread_rng(), text, subkey, &Password::empty()).unwrap();
    message.to_armored_string(None.into()).unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A time as `Release` files write it.
pub(crate) fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let time = jiff::Timestamp::from_second(seconds.try_into().unwrap()).unwrap();
    time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

/// One member of a package's file tree.
pub(crate) struct Member {
    pub(crate) path: &'static str,
    pub(crate) kind: tar::EntryType,
    pub(crate) target: &'static str,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
}

pub(crate) fn file(path: &'static str, content: &[u8], mode: u32, owner: (u64, u64)) -> Member {
    Member { path, kind: tar::EntryType::Regular, target: "", content: content.into(), mode, owner }
}

pub(crate) fn directory(path: &'static str, mode: u32) -> Member {
    Member { path, kind: tar::EntryType::Directory, target: "", content: Vec::new(), mode, owner: (0, 0) }
}

pub(crate) fn link(path: &'static str, target: &'static str, kind: tar::EntryType) -> Member {
    Member { path, kind, target, content: Vec::new(), mode: 0o777, owner: (0, 0) }
}

/// A tar of these members, names written as they are, `..` included.
pub(crate) fn tarball(members: &[Member]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..member.path.len()].copy_from_slice(member.path.as_bytes());
        if !member.target.is_empty() {
            header.set_link_name_literal(member.target).unwrap();
        }
        header.set_entry_type(member.kind);
        header.set_size(member.content.len() as u64);
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_cksum();
        builder.append(&header, member.content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An `ar` archive.
pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let size = bytes.len();
        writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, "100644").unwrap();
        out.extend_from_slice(bytes);
        if size % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

pub(crate) fn control(text: &str) -> Vec<u8> {
    xz(&tarball(&[directory("./", 0o755), file("./control", text.as_bytes(), 0o644, (0, 0))]))
}

/// A `.deb` of these files.
pub(crate) fn deb(control_text: &str, members: &[Member]) -> Vec<u8> {
    let (control, data) = (control(control_text), xz(&tarball(members)));
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &control), ("data.tar.xz", &data)])
}

/// How a suite is published.
pub(crate) struct Publish<'a> {
    pub(crate) suite: &'a str,
    /// What the index calls itself; usually the suite.
    pub(crate) codename: &'a str,
    pub(crate) date: SystemTime,
    pub(crate) valid_until: Option<SystemTime>,
    pub(crate) extra: &'a str,
    pub(crate) signer: Option<&'a SignedSecretKey>,
}

impl<'a> Publish<'a> {
    pub(crate) fn new(suite: &'a str) -> Self {
        let date = SystemTime::now() - Duration::from_secs(60);
        Self { suite, codename: suite, date, valid_until: None, extra: "", signer: None }
    }
}

/// A mirror below a temporary directory: `debian/` and `debian-security/`, and a cache beside them.
pub(crate) struct Archive {
    pub(crate) root: TempDir,
    pub(crate) key: SignedSecretKey,
    stanzas: BTreeMap<String, String>,
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), key: key(), stanzas: BTreeMap::new() }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn base(&self, suite: &str) -> PathBuf {
        self.path(if suite.ends_with("-security") { "debian-security" } else { "debian" })
    }

    /// Adds a package with these extra control lines to a suite's pool; shows in the index once that is published.
    pub(crate) fn add(&mut self, suite: &str, name: &str, version: &str, lines: &str) {
        let text = format!("Package: {name}\nVersion: {version}\nArchitecture: arm64\n{lines}");
        let bytes = deb(&text, &[directory("./", 0o755), file("./usr/share/hello", name.as_bytes(), 0o644, (0, 0))]);
        let filename = format!("pool/main/{name}_{}_arm64.deb", version.replace(':', "."));
        write(&self.base(suite).join(&filename), &bytes);
        let (size, hash) = (bytes.len(), sha256(&bytes));
        self.stanzas
            .entry(suite.into())
            .or_default()
            .push_str(&format!("{text}Filename: {filename}\nSize: {size}\nSHA256: {hash}\n\n"));
    }

    /// Writes and signs a suite's index.
    pub(crate) fn publish(&self, how: &Publish<'_>) {
        let dists = self.base(how.suite).join("dists").join(how.suite);
        let packages = xz(self.stanzas.get(how.suite).map_or("", String::as_str).as_bytes());
        write(&dists.join("main/binary-arm64/Packages.xz"), &packages);
        let valid_until = how.valid_until.map_or_else(String::new, |time| format!("Valid-Until: {}\n", date(time)));
        let text = format!(
            "Suite: {0}\nCodename: {0}\nDate: {1}\n{valid_until}{2}SHA256:\n {3} {4} main/binary-arm64/Packages.xz\n",
            how.codename,
            date(how.date),
            how.extra,
            sha256(&packages),
            packages.len(),
        );
        write(&dists.join("InRelease"), sign(how.signer.unwrap_or(&self.key), &text).as_bytes());
    }

    /// Settings that use this mirror, its key and the cache below it.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            mirror: Some(format!("file://{}", self.path("debian").display())),
            cache: self.path("cache"),
            keyring: keyring(&self.key),
            now: SystemTime::now(),
            offline: false,
        }
    }
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.into()).collect()
}
