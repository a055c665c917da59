use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;
use crate::profile::ContainerImage;

/// A registry on loopback with one image for two architectures, which wants a token.
struct Registry {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn sha(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// What it has, by path below the repository.
fn content(damaged: bool) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut parts = Vec::new();
    for (architecture, variant) in [("amd64", None), ("arm", Some("v6")), ("arm", Some("v7")), ("arm64", Some("v8"))] {
        let layer = format!("layer of {architecture} {variant:?}").into_bytes();
        let config =
            json!({ "architecture": architecture, "os": "linux", "variant": variant }).to_string().into_bytes();
        let of = |bytes: &[u8]| json!({ "digest": sha(bytes), "size": bytes.len() });
        let manifest =
            json!({ "schemaVersion": 2, "config": of(&config), "layers": [of(&layer)] }).to_string().into_bytes();
        let platform = json!({ "os": "linux", "architecture": architecture, "variant": variant });
        parts.push(json!({ "digest": sha(&manifest), "size": manifest.len(), "platform": platform }));
        let sent = if damaged { b"other words of one length".to_vec() } else { layer.clone() };
        found.insert(format!("blobs/{}", sha(&layer)), sent);
        found.insert(format!("blobs/{}", sha(&config)), config);
        found.insert(format!("manifests/{}", sha(&manifest)), manifest);
    }
    found.insert("manifests/1".to_owned(), json!({ "schemaVersion": 2, "manifests": parts }).to_string().into_bytes());
    found
}

impl Registry {
    fn start(damaged: bool) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, name, content) = (Arc::clone(&asked), host.clone(), content(damaged));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(&stream, &name, &content, &noted);
            }
        });
        Registry { host, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("not poisoned"))
    }
}

/// One request a connection.
fn serve(stream: &TcpStream, host: &str, content: &BTreeMap<String, Vec<u8>>, noted: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let authorization = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    noted.lock().expect("not poisoned").push(path.clone());
    let basic = format!("Basic {}", STANDARD.encode("me:secret"));
    let (status, more, body) = match (path.strip_prefix("/v2/shop/till/"), authorization.as_deref()) {
        (None, Some(given)) if path.starts_with("/token?") && given == basic => {
            ("200 OK", String::new(), br#"{"token": "T"}"#.to_vec())
        }
        (Some(what), Some("Bearer T")) => match content.get(what) {
            Some(bytes) => ("200 OK", String::new(), bytes.clone()),
            None => ("404 Not Found", String::new(), Vec::new()),
        },
        (Some(_), _) => {
            let realm = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"\r\n");
            ("401 Unauthorized", realm, Vec::new())
        }
        _ => ("403 Forbidden", String::new(), Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let mut stream = stream;
    // The client may have seen enough.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn settings(cache: &Path, host: &str) -> Settings {
    let file = cache.join("config.json");
    fs::write(&file, json!({ "auths": { host: { "auth": STANDARD.encode("me:secret") } } }).to_string())
        .expect("written");
    let credentials = Credentials::read(Some(&file)).expect("right");
    Settings { cache: cache.to_owned(), credentials, locked: false, offline: false }
}

#[test]
fn an_image_is_pulled_for_the_architecture_pinned_and_found_again_without_the_registry() {
    let (registry, cache) = (Registry::start(false), tempfile::tempdir().expect("a folder"));
    let mut settings = settings(cache.path(), &registry.host);
    let name = format!("{}/shop/till:1", registry.host);
    let (mut lock, progress) = (Lock::default(), Progress::hidden());
    let named = [name.clone()];
    let first = archives(&settings, &named, Arch::Armv7, &mut lock, &progress).expect("pulled");
    let image = ContainerImage::open(&first[0], Arch::Armv7).expect("whole");
    assert_eq!(image.names, std::slice::from_ref(&name));
    let bytes = fs::read(&first[0]).expect("there");
    assert!(String::from_utf8_lossy(&bytes).contains("layer of arm Some(\"v7\")"), "the newest that it runs");
    assert!(lock.image(&name, Arch::Armv7).is_some() && lock.image(&name, Arch::X86_64).is_none());
    registry.asked();

    (settings.locked, settings.offline) = (true, true);
    assert_eq!(archives(&settings, &named, Arch::Armv7, &mut lock, &progress).expect("cached"), first);
    let error = archives(&settings, &named, Arch::X86_64, &mut lock, &progress).expect_err("not locked");
    assert!(matches!(error, RegistryError::Unlocked { .. }), "{error}");
    assert!(registry.asked().is_empty());

    settings.offline = false;
    fs::remove_file(&first[0]).expect("removed");
    archives(&settings, &named, Arch::Armv7, &mut lock, &progress).expect("pulled again");
    assert_eq!(fs::read(&first[0]).expect("there"), bytes, "the same to the byte");
    assert!(!registry.asked().iter().any(|path| path.ends_with("/1")), "by its digest");
}

#[test]
fn a_refusal_a_missing_image_and_damage_are_told_apart() {
    let (registry, cache) = (Registry::start(true), tempfile::tempdir().expect("a folder"));
    let mut settings = settings(cache.path(), &registry.host);
    let pull = |settings: &Settings, name: &str| {
        let named = [format!("{}/{name}", registry.host)];
        archives(settings, &named, Arch::X86_64, &mut Lock::default(), &Progress::hidden()).expect_err("refused")
    };
    assert!(matches!(pull(&settings, "shop/till:2"), RegistryError::Missing { .. }));
    let error = pull(&settings, "shop/till:1");
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    assert!(fs::read_dir(cache.path().join("container-images")).expect("there").next().is_none(), "nothing is left");
    settings.credentials = Credentials::default();
    assert!(matches!(pull(&settings, "shop/till:1"), RegistryError::Refused { status: 403, .. }));
}

#[test]
fn files_are_taken_as_they_are_and_other_words_are_names() {
    let cache = tempfile::tempdir().expect("a folder");
    let settings =
        Settings { cache: cache.path().into(), credentials: Credentials::default(), locked: false, offline: true };
    let of =
        |name: &str| archives(&settings, &[name.to_owned()], Arch::X86_64, &mut Lock::default(), &Progress::hidden());
    assert_eq!(of("missing.tar").expect("a file"), [PathBuf::from("missing.tar")]);
    assert!(matches!(of("busybox:1"), Err(RegistryError::Offline { .. })));
    assert!(matches!(of("Busy Box"), Err(RegistryError::Reference { .. })));
}
