//! Against the host's own Debian mirror. Run with `--ignored`; a cache is kept in `KILN_TEST_CACHE` when that is set.

use std::{env, path::PathBuf, time::Instant};

use imager::{
    packages::{Lock, Section, Settings, Source, fetch, resolve},
    progress::Progress,
};

fn peak_memory_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default()
        .to_owned()
}

#[test]
#[ignore = "needs a Debian mirror"]
fn the_boards_packages_resolve_from_the_hosts_mirror() {
    let temporary = tempfile::tempdir().unwrap();
    let cache =
        env::var_os("KILN_TEST_CACHE").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let settings = Settings::new(env::var("KILN_MIRROR").ok(), cache).unwrap();
    let components = ["main", "non-free-firmware"];
    let node = [
        "containerd",
        "runc",
        "e2fsprogs",
        "iptables",
        "ca-certificates",
    ];
    let boards: [(&str, &str, &[&str]); 3] = [
        (
            "arm64",
            "linux-image-arm64",
            &["trixie", "trixie-updates", "trixie-security"],
        ),
        (
            "armhf",
            "linux-image-armmp/bookworm-backports",
            &[
                "bookworm",
                "bookworm-updates",
                "bookworm-security",
                "bookworm-backports",
            ],
        ),
        (
            "amd64",
            "linux-image-cloud-amd64",
            &["trixie", "trixie-updates", "trixie-security"],
        ),
    ];
    let mut lock = Lock::default();
    for (arch, kernel, suites) in boards {
        let sources: Vec<_> = suites
            .iter()
            .map(|suite| Source::new(suite, &components, arch))
            .collect();
        let wanted: Vec<String> = node
            .iter()
            .chain([&kernel])
            .map(|&name| name.into())
            .collect();
        let exclude: Vec<String> = [
            "initramfs-tools",
            "linux-initramfs-tool",
            "debconf",
            "perl",
            "perl-base",
        ]
        .map(Into::into)
        .into();
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
        assert!(
            found
                .pins
                .iter()
                .any(|pin| pin.name.starts_with("linux-image-6."))
        );
        lock.boards.insert(
            arch.into(),
            Section::new(&sources, &wanted, &exclude, &found),
        );
    }
    let path = settings.cache.join("imager.lock");
    lock.save(&path).unwrap();
    assert_eq!(Lock::load(&path).unwrap().unwrap(), lock);
    if env::var_os("KILN_TEST_FETCH").is_some() {
        let start = Instant::now();
        fetch(
            &settings,
            &lock.boards["arm64"].packages,
            &Progress::stderr(),
        )
        .unwrap();
        eprintln!("fetched in {:.2} s", start.elapsed().as_secs_f32());
    }
}
