//! From a signed archive to files in the cache.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use imager::{
    packages::{Class, Error, Pin, Settings, Source, fetch, resolve},
    progress::Progress,
};

use crate::support::{Archive, Publish, sha256, strings};

fn archive() -> Archive {
    let mut archive = Archive::new();
    archive.add("trixie", "a", "1", "Depends: b (>= 2)\n");
    archive.add("trixie", "b", "1:2.0-1", "");
    archive.publish(&Publish::new("trixie"));
    archive
}

fn pins(settings: &Settings) -> Vec<Pin> {
    let sources = [Source::new("trixie", &["main"], "arm64")];
    resolve(settings, &sources, &strings(&["a"]), &[], &Progress::hidden()).unwrap().pins
}

/// Serves a directory on 127.0.0.1 and counts requests; a path in `cut` is answered with half its body.
fn serve(root: PathBuf, cut: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/debian", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            counter.fetch_add(1, Ordering::SeqCst);
            let path = request.split(' ').nth(1).unwrap();
            let Ok(body) = fs::read(root.join(&path[1..])) else {
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
                continue;
            };
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
            let sent = if !cut.is_empty() && path.contains(cut) { body.len() / 2 } else { body.len() };
            stream.write_all(&body[..sent]).unwrap();
        }
    });
    (url, requests)
}

#[test]
fn packages_come_over_http_once_and_then_from_the_cache() {
    let archive = archive();
    let (url, requests) = serve(archive.root.path().into(), "");
    let settings = Settings { mirror: Some(url), ..archive.settings() };
    let pins = pins(&settings);
    let paths = fetch(&settings, &pins, &Progress::hidden()).unwrap();
    for (pin, path) in pins.iter().zip(&paths) {
        assert_eq!(sha256(&fs::read(path).unwrap()), pin.sha256);
        assert_eq!(*path, archive.path(&format!("cache/debs/{}.deb", pin.sha256)));
    }
    let before = requests.load(Ordering::SeqCst);
    assert_eq!(before, 4, "InRelease, Packages.xz and two packages");
    assert_eq!(fetch(&settings, &pins, &Progress::hidden()).unwrap(), paths);
    assert_eq!(requests.load(Ordering::SeqCst), before);
}

#[test]
fn pinned_and_cached_packages_need_no_mirror_at_all() {
    let archive = archive();
    let settings = archive.settings();
    let first = pins(&settings);
    fetch(&settings, &first, &Progress::hidden()).unwrap();
    fs::remove_dir_all(archive.path("debian")).unwrap();
    let offline = Settings { offline: true, mirror: None, ..settings };
    fetch(&offline, &first, &Progress::hidden()).unwrap();
}

#[test]
fn the_index_seen_last_serves_offline() {
    let archive = archive();
    let first = pins(&archive.settings());
    fs::remove_dir_all(archive.path("debian")).unwrap();
    assert_eq!(pins(&Settings { offline: true, ..archive.settings() }), first);
}

#[test]
fn offline_names_what_is_not_in_the_cache() {
    let archive = archive();
    let pins = pins(&archive.settings());
    let offline = Settings { offline: true, ..archive.settings() };
    let error = fetch(&offline, &pins, &Progress::hidden()).unwrap_err();
    assert_eq!(error.to_string(), "not in the cache, and --offline forbids downloads: a, b");
}

#[test]
fn a_package_with_the_wrong_hash_is_named_with_url_and_both_hashes_and_not_kept() {
    let archive = archive();
    let settings = archive.settings();
    let pins = pins(&settings);
    let path = archive.path("debian").join(&pins[1].filename);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = fetch(&settings, &pins, &Progress::hidden()).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.class(), Class::Verification);
    assert!(text.contains("package b 1:2.0-1"), "{text}");
    assert!(text.contains(&pins[1].filename), "{text}");
    assert!(text.contains(&format!("expected sha256 {}, got sha256 {}", pins[1].sha256, sha256(&bytes))), "{text}");
    let left: Vec<_> = fs::read_dir(archive.path("cache/debs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| *name == *format!("{}.deb", pins[0].sha256)), "{left:?}");
}

#[test]
fn a_package_of_the_wrong_size_is_refused() {
    let archive = archive();
    let settings = archive.settings();
    let pins = pins(&settings);
    fs::write(archive.path("debian").join(&pins[0].filename), "short").unwrap();
    let error = fetch(&settings, &pins, &Progress::hidden()).unwrap_err();
    assert!(error.to_string().contains(&format!("expected {} bytes, got 5 bytes", pins[0].size)), "{error}");
}

#[test]
fn a_connection_that_breaks_off_leaves_nothing_half_written() {
    let archive = archive();
    let pins = pins(&archive.settings());
    let (url, requests) = serve(archive.root.path().into(), "pool/");
    let settings = Settings { mirror: Some(url), ..archive.settings() };
    let error = fetch(&settings, &pins[..1], &Progress::hidden()).unwrap_err();
    assert_eq!(error.class(), Class::Network, "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 3, "tried again twice");
    assert_eq!(fs::read_dir(archive.path("cache/debs")).unwrap().count(), 0);
}

#[test]
fn a_cached_package_that_went_bad_is_fetched_anew() {
    let archive = archive();
    let settings = archive.settings();
    let pins = pins(&settings);
    let paths = fetch(&settings, &pins, &Progress::hidden()).unwrap();
    fs::write(&paths[0], vec![0; pins[0].size.try_into().unwrap()]).unwrap();
    fetch(&settings, &pins, &Progress::hidden()).unwrap();
    assert_eq!(sha256(&fs::read(&paths[0]).unwrap()), pins[0].sha256);
}

#[test]
fn index_files_are_taken_by_hash_where_the_suite_offers_it() {
    let archive = archive();
    archive.publish(&Publish { extra: "Acquire-By-Hash: yes\n", ..Publish::new("trixie") });
    let folder = archive.path("debian/dists/trixie/main/binary-arm64");
    let bytes = fs::read(folder.join("Packages.xz")).unwrap();
    fs::create_dir_all(folder.join("by-hash/SHA256")).unwrap();
    fs::rename(folder.join("Packages.xz"), folder.join("by-hash/SHA256").join(sha256(&bytes))).unwrap();
    assert_eq!(pins(&archive.settings()).len(), 2);
}

#[test]
fn a_new_index_replaces_the_cached_one() {
    let mut archive = archive();
    let settings = archive.settings();
    assert_eq!(pins(&settings)[1].version, "1:2.0-1");
    archive.add("trixie", "b", "1:2.0-2", "");
    archive.publish(&Publish::new("trixie"));
    assert_eq!(pins(&settings)[1].version, "1:2.0-2");
    let cached = fs::read_dir(archive.path("cache/indices/debian/trixie")).unwrap().count();
    assert_eq!(cached, 2, "InRelease and one Packages.xz");
}

#[test]
fn an_unreachable_mirror_is_said_to_be_one() {
    let archive = archive();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings { mirror: Some(format!("http://{free}/debian")), ..archive.settings() };
    let sources = [Source::new("trixie", &["main"], "arm64")];
    let error = resolve(&settings, &sources, &strings(&["a"]), &[], &Progress::hidden()).unwrap_err();
    assert!(matches!(error, Error::NoIndex { .. }));
    assert_eq!(error.class(), Class::Network);
    assert!(error.to_string().contains("refused"), "{error}");
}
