//! Transport: bytes from an `http`, `https` or `file` URL, checked before they get a name in the cache.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use sha2::{Digest, Sha256};
use ureq::config::AutoHeaderValue;

use super::{Error, Result, cache};

/// Attempts for a download that fails on the way (not for one that arrives and is wrong).
const ATTEMPTS: u32 = 3;

/// Largest index signature file that is read, in bytes; Debian's have 150 kB.
const RELEASE_LIMIT: u64 = 16 << 20;

/// A connection pool with its time limits; proxies come from the environment.
#[derive(Debug)]
pub(super) struct Downloader {
    agent: ureq::Agent,
}

/// What is to be fetched, and what it must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Package or index, for messages.
    pub(super) what: &'a str,
    /// Bytes.
    pub(super) size: u64,
    /// SHA-256, lower-case hex.
    pub(super) sha256: &'a str,
}

impl Downloader {
    pub(super) fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("kiln-imager/", env!("CARGO_PKG_VERSION")))
            // A server that packs a .gz or .xz once more would only make the hashes harder to compare.
            .accept_encoding(AutoHeaderValue::None)
            .build();
        Self { agent: config.into() }
    }

    /// Fetches a small file whole; the caller checks its signature.
    pub(super) fn text(&self, what: &str, url: &str) -> Result<Vec<u8>> {
        self.attempt(what, url, |body| {
            let mut bytes = Vec::new();
            body.take(RELEASE_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| failed(what, url, &e.into()))?;
            if bytes.len() as u64 > RELEASE_LIMIT {
                let reason = format!("it is larger than {RELEASE_LIMIT} bytes");
                return Err(Error::Malformed { what: url.into(), reason });
            }
            Ok(bytes)
        })
    }

    /// Fetches a file into `target`, which appears only when size and hash are right. `arrived` is told of each piece.
    pub(super) fn file(&self, wanted: Wanted<'_>, url: &str, target: &Path, arrived: &dyn Fn(u64)) -> Result<()> {
        let Wanted { what, size, sha256 } = wanted;
        let mismatch =
            |expected: String, got: String| Error::Mismatch { what: what.into(), url: url.into(), expected, got };
        self.attempt(what, url, |body| {
            let mut file = cache::begin(target)?;
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 64 * 1024];
            let mut received = 0;
            loop {
                let n = match body.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(e) => return Err(failed(what, url, &e.into())),
                };
                received += n as u64;
                if received > size {
                    return Err(mismatch(format!("{size} bytes"), "more".into()));
                }
                hash.update(&buffer[..n]);
                file.write_all(&buffer[..n]).map_err(Error::io("write", target))?;
                arrived(n as u64);
            }
            if received != size {
                return Err(mismatch(format!("{size} bytes"), format!("{received} bytes")));
            }
            let found = hex::encode(hash.finalize());
            if found != sha256 {
                return Err(mismatch(format!("sha256 {sha256}"), format!("sha256 {found}")));
            }
            cache::keep(file, target)
        })
    }

    /// Opens `url` and reads it, again when the connection fails.
    fn attempt<T>(&self, what: &str, url: &str, read: impl Fn(&mut dyn Read) -> Result<T>) -> Result<T> {
        let mut made = 1;
        loop {
            match self.open(what, url).and_then(|mut body| read(&mut body)) {
                Err(Error::Download { missing: false, .. }) if made < ATTEMPTS => made += 1,
                outcome => return outcome,
            }
        }
    }

    fn open(&self, what: &str, url: &str) -> Result<Box<dyn Read>> {
        if let Some(path) = url.strip_prefix("file:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            let file = File::open(path).map_err(|e| failed(what, url, &e.into()))?;
            return Ok(Box::new(file));
        }
        let response = self.agent.get(url).call().map_err(|e| failed(what, url, &e))?;
        Ok(Box::new(response.into_body().into_reader()))
    }
}

fn failed(what: &str, url: &str, e: &ureq::Error) -> Error {
    let missing = match e {
        ureq::Error::StatusCode(code) => matches!(code, 404 | 410),
        ureq::Error::Io(e) => e.kind() == io::ErrorKind::NotFound,
        _ => false,
    };
    Error::Download { what: what.into(), url: url.into(), reason: e.to_string(), missing }
}
