//! The installer itself: a script of the POSIX shell, behind it an archive of its files.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

use super::contents::Files;
use crate::profile::Arch;

/// Scripts and services, by their path below the installer's folder, with their modes.
pub(super) const FILES: &[(&str, u32, &str)] = &[
    ("init/kiln.openrc", 0o755, include_str!("files/kiln.openrc")),
    ("init/kiln.service", 0o644, include_str!("files/kiln.service")),
    ("service", 0o755, include_str!("files/service.sh")),
    ("uninstall", 0o755, include_str!("files/uninstall.sh")),
];

const SCRIPT: &str = include_str!("files/install.sh");

/// How hard the archive is compressed: the target has gzip and perhaps nothing better, and more only takes longer.
const LEVEL: u32 = 6;

/// Packs the files into an archive. `time`, in seconds since 1970, is every file's.
pub(super) fn pack(files: &Files, time: i64) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(LEVEL)));
    let header = |mode: u32, kind: tar::EntryType| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_entry_type(kind);
        header.set_mtime(u64::try_from(time).unwrap_or_default());
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    let mut folder = "";
    for (path, (mode, content)) in files {
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| *parent != folder) {
            folder = parent;
            let mut header = header(0o755, tar::EntryType::Directory);
            header.set_size(0);
            tar.append_data(&mut header, format!("{parent}/"), io::empty())?;
        }
        let bytes = content.read()?;
        let mut header = header(*mode, tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, &*bytes)?;
    }
    tar.into_inner()?.finish()
}

/// Writes script and archive.
pub(super) fn write(
    out: &mut impl Write,
    archive: &[u8],
    version: &str,
    arch: Arch,
    machines: &[String],
) -> io::Result<()> {
    let sum = hex::encode(Sha256::digest(archive));
    out.write_all(script(version, arch, machines, &sum).as_bytes())?;
    out.write_all(archive)
}

fn script(version: &str, arch: Arch, machines: &[String], sha256: &str) -> String {
    SCRIPT
        .replace("@VERSION@", version)
        .replace("@ARCH@", arch.name())
        .replace("@SHA256@", sha256)
        .replace("@MACHINES@", &machines.join(" | "))
        .replace("@LINES@", &(SCRIPT.lines().count() + 1).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;

    fn text(path: &str) -> &'static str {
        FILES.iter().find(|(name, ..)| *name == path).map(|(_, _, text)| *text).expect("there")
    }

    #[test]
    fn the_archive_is_the_same_twice_and_begins_behind_the_script() {
        let content = |text: &str| Content::from(text);
        let files: Files = [("a/b", 0o755), ("a/c", 0o644), ("d", 0o644)]
            .map(|(path, mode)| (path.to_owned(), (mode, content(path))))
            .into();
        let archive = pack(&files, 1_700_000_000).expect("packed");
        assert_eq!(archive, pack(&files, 1_700_000_000).expect("packed"));
        let mut all = Vec::new();
        write(&mut all, &archive, "1.2.3", Arch::X86_64, &["x86_64".into(), "amd64".into()]).expect("written");
        let script = String::from_utf8_lossy(&all[..all.len() - archive.len()]).into_owned();
        let line = script.lines().find_map(|line| line.strip_prefix("PAYLOAD=")).expect("a line");
        assert_eq!(line.parse::<usize>().expect("a number"), script.lines().count() + 1);
        assert!(script.ends_with("\nexit\n"), "{script}");
        let words = ["VERSION", "ARCH", "SHA256", "LINES", "MACHINES"];
        assert!(!words.iter().any(|word| script.contains(&format!("@{word}@"))), "{script}");
        assert!(script.contains("\n        x86_64 | amd64) ;;\n"));
        let mut unpacked = tar::Archive::new(flate2::read::GzDecoder::new(&*archive));
        let found: Vec<String> = unpacked
            .entries()
            .expect("entries")
            .map(|entry| entry.expect("an entry").path().expect("a path").to_string_lossy().into_owned())
            .collect();
        assert_eq!(found, ["a/", "a/b", "a/c", "d"]);
    }

    /// A function of a script.
    fn function<'a>(script: &'a str, name: &str) -> &'a str {
        let from = script.find(&format!("\n{name}() {{")).expect("a function");
        let rest = &script[from..];
        &rest[..rest.find("\n}\n").expect("its end") + 3]
    }

    #[test]
    fn the_kernels_settings_are_as_before_after_a_removal() {
        let root = tempfile::tempdir().expect("a folder");
        let settings =
            ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/eth0/accept_ra", "ipv6/conf/eth1/proxy_ndp"];
        let write = |name: &str, value: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, format!("{value}\n")).expect("a file");
        };
        let run = |parts: &[&str], name: &str| {
            let head = format!("set -eu\nETC='{0}/etc' NET='{0}'\nfail() {{ exit 9; }}\n", root.path().display());
            let script = format!("{head}{}\n{name}\n", parts.concat());
            let status = std::process::Command::new("sh").args(["-c", &script]).status().expect("a shell");
            assert!(status.success(), "{script}");
        };
        let note = [function(SCRIPT, "write"), function(SCRIPT, "note_settings")];
        write("etc/installed", "INIT=none");
        for name in settings {
            write(name, "0");
        }
        run(&note, "note_settings");
        for name in settings {
            write(name, "1");
        }
        // An upgrade finds what is ours.
        run(&note, "note_settings");
        std::fs::remove_dir_all(root.path().join("ipv6/conf/eth1")).expect("an interface goes");
        run(&[function(text("uninstall"), "restore_settings")], "restore_settings");
        for name in &settings[..3] {
            assert_eq!(std::fs::read_to_string(root.path().join(name)).expect("a file"), "0\n", "{name}");
        }
        assert!(!root.path().join("etc/settings").exists(), "another installation notes its own");
        run(&[function(text("uninstall"), "restore_settings")], "restore_settings");
    }

    #[test]
    fn the_unit_for_systemd_leaves_pods_alone_and_starts_what_the_installer_wrote() {
        let unit = text("init/kiln.service");
        for line in ["Type=notify", "ExecStart=/etc/kiln/start", "KillMode=process", "Delegate=yes", "Restart=always"] {
            assert!(unit.lines().any(|found| found == line), "{line}");
        }
        assert!(
            unit.contains("[Unit]\n")
                && unit.contains("\n[Service]\n")
                && unit.ends_with("WantedBy=multi-user.target\n")
        );
    }

    #[test]
    fn the_service_for_openrc_is_watched_over_and_starts_what_the_installer_wrote() {
        let service = text("init/kiln.openrc");
        assert!(service.starts_with("#!/sbin/openrc-run\n"));
        for line in ["command=/etc/kiln/start", "supervisor=supervise-daemon", "respawn_max=0"] {
            assert!(service.lines().any(|found| found == line), "{line}");
        }
    }
}
