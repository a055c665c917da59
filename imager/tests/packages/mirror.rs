//! Against the host's own Debian mirror. Run with `--ignored`; a cache is kept in `KILN_TEST_CACHE` when that is set.

use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use imager::{
    packages::{Lock, PathFilter, Section, Settings, Source, Unpacked, fetch, resolve},
    progress::Progress,
    tree::Tree,
};

fn peak_memory_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
}

#[test]
#[ignore = "needs a Debian mirror"]
fn the_boards_packages_resolve_from_the_hosts_mirror() {
    let temporary = tempfile::tempdir().unwrap();
    let cache = env::var_os("KILN_TEST_CACHE").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let settings = Settings::new(env::var("KILN_MIRROR").ok(), cache).unwrap();
    let components = ["main", "non-free-firmware"];
    let node = ["containerd", "runc", "e2fsprogs", "iptables", "ca-certificates"];
    let boards: [(&str, &str, &[&str]); 3] = [
        ("arm64", "linux-image-arm64", &["trixie", "trixie-updates", "trixie-security"]),
        (
            "armhf",
            "linux-image-armmp/bookworm-backports",
            &["bookworm", "bookworm-updates", "bookworm-security", "bookworm-backports"],
        ),
        ("amd64", "linux-image-cloud-amd64", &["trixie", "trixie-updates", "trixie-security"]),
    ];
    let mut lock = Lock::default();
    for (arch, kernel, suites) in boards {
        let sources: Vec<_> = suites.iter().map(|suite| Source::new(suite, &components, arch)).collect();
        let wanted: Vec<String> = node.iter().chain([&kernel]).map(|&name| name.into()).collect();
        let exclude: Vec<String> =
            ["initramfs-tools", "linux-initramfs-tool", "debconf", "perl", "perl-base"].map(Into::into).into();
        let start = Instant::now();
        let found = resolve(&settings, &sources, &wanted, &exclude, &Progress::stderr()).unwrap();
        eprintln!(
            "{arch}: {} packages in {:.2} s, {}",
            found.pins.len(),
            start.elapsed().as_secs_f32(),
            peak_memory_kib()
        );
        for pin in &found.pins {
            eprintln!("  {} {} {} {}", pin.name, pin.version, pin.source, pin.size);
        }
        assert!(found.pins.iter().any(|pin| pin.name.starts_with("linux-image-6.")));
        lock.boards.insert(arch.into(), Section::new(&sources, &wanted, &exclude, &found));
    }
    let path = settings.cache.join("imager.lock");
    lock.save(&path).unwrap();
    assert_eq!(Lock::load(&path).unwrap().unwrap(), lock);
    unpack(&settings, &lock.boards["arm64"]);
}

/// Fetches and unpacks a board's packages twice, and holds every entry against what dpkg lists.
fn unpack(settings: &Settings, section: &Section) {
    for round in ["cold", "warm"] {
        let start = Instant::now();
        let debs = fetch(settings, &section.packages, &Progress::stderr()).unwrap();
        let fetched = start.elapsed().as_secs_f32();
        let mut tree = Tree::default();
        for unpacked in Unpacked::open_all(settings, &debs, &Progress::stderr()).unwrap() {
            unpacked.add_to(&mut tree, &PathFilter::default()).unwrap();
        }
        eprintln!(
            "{round}: fetched in {fetched:.2} s, {} paths unpacked after {:.2} s, {}",
            tree.nodes.len(),
            start.elapsed().as_secs_f32(),
            peak_memory_kib()
        );
        assert!(tree.nodes.contains_key("/usr/bin/containerd"));
        for deb in debs.iter().filter(|_| round == "warm") {
            let ours: Vec<String> = Unpacked::open(settings, deb)
                .unwrap()
                .entries
                .iter()
                .map(|entry| format!("{}/{} {}", entry.uid, entry.gid, entry.path))
                .collect();
            let listing = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb).output().unwrap();
            let mut tar = Command::new("tar")
                .args(["--numeric-owner", "-tvf", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = tar.stdin.take().unwrap();
            let feed = thread::spawn(move || input.write_all(&listing.stdout));
            let listed = tar.wait_with_output().unwrap();
            feed.join().unwrap().unwrap();
            let theirs: Vec<String> = String::from_utf8(listed.stdout)
                .unwrap()
                .lines()
                .filter_map(|line| {
                    let owner = line.split_whitespace().nth(1)?;
                    let path = line.split_whitespace().nth(5)?.trim_start_matches('.').trim_end_matches('/');
                    (!path.is_empty()).then(|| format!("{owner} {path}"))
                })
                .collect();
            assert_eq!(ours, theirs, "{}", deb.display());
        }
    }
}
