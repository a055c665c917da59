//! The machine's own logs, as upstream's system log handler has them: folders are lists of links, files are their bytes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use kiln_client::{Body, full_body};
use tokio::fs::{self, File};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use super::answer::{Refusal, channel, text};

/// Where they are.
pub(super) const LOGS: &str = "/var/log";
/// The most bytes of a file that are in memory.
const CHUNK: usize = 64 << 10;

/// Answers with what is at a path below a folder. `is_folder` says whether the request's path ends as a folder's does.
pub(super) async fn serve(root: &Path, path: &[&str], is_folder: bool) -> Result<Response<Body>, Refusal> {
    let absent = || Refusal::not_found("404 page not found\n");
    let path: Vec<&str> = path.iter().copied().filter(|part| !part.is_empty()).collect();
    // What was escaped in the request's path is no step to elsewhere.
    if path.iter().any(|part| matches!(*part, "." | "..") || part.contains(['/', '\0'])) {
        return Err(absent());
    }
    let at: PathBuf = root.join(path.iter().collect::<PathBuf>());
    let found = fs::metadata(&at).await.map_err(|_| absent())?;
    if found.is_dir() {
        if !is_folder {
            return Ok(moved(path.last().copied().unwrap_or("logs")));
        }
        return list(&at).await;
    }
    // Neither a pipe nor a device is waited for.
    if !found.is_file() {
        return Err(absent());
    }
    let file = File::open(&at).await.map_err(|_| absent())?;
    // One that grows meanwhile is read as long as it was.
    let mut response = Response::new(chunks(file.take(found.len())));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(found.len()));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

/// That a folder's path ends with a slash: its links are relative.
fn moved(name: &str) -> Response<Body> {
    let mut response = Response::new(full_body(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(&format!("{}/", escaped(name))) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

async fn list(folder: &Path) -> Result<Response<Body>, Refusal> {
    let mut entries = fs::read_dir(folder).await.map_err(Refusal::internal)?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(Refusal::internal)? {
        let is_folder = fs::metadata(entry.path()).await.is_ok_and(|found| found.is_dir());
        names.push(format!("{}{}", entry.file_name().to_string_lossy(), if is_folder { "/" } else { "" }));
    }
    names.sort();
    let mut page = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for name in names {
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        // A string takes whatever is written.
        _ = writeln!(page, "<a href=\"{}\">{shown}</a>", escaped(&name));
    }
    page.push_str("</pre>\n");
    Ok(text(StatusCode::OK, "text/html; charset=utf-8", page))
}

/// A name as a link has it.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut link, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => link.push(char::from(byte)),
            // As above.
            _ => _ = write!(link, "%{byte:02X}"),
        }
        link
    })
}

/// A file's bytes, read no sooner than they are taken.
fn chunks(mut file: impl AsyncRead + Unpin + Send + 'static) -> Body {
    let (sender, frames) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            match file.read_buf(&mut chunk).await {
                Ok(1..) => {}
                Ok(0) => return,
                // The body ends before its length: the client sees that it broke off.
                Err(error) => return tracing::debug!(%error, "a log that is being read"),
            }
            if sender.send(chunk.freeze()).await.is_err() {
                return;
            }
        }
    });
    channel(frames)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn folders_are_listed_and_files_read_and_nothing_else_is_reached() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("pods")).unwrap();
        std::fs::write(root.path().join("a b&c"), "up\n").unwrap();
        let get = async |path: &[&str], is_folder| match serve(root.path(), path, is_folder).await {
            Ok(response) => {
                let code = response.status().as_u16();
                let to = response.headers().get(LOCATION).map(|to| to.to_str().unwrap().to_owned());
                let body = response.into_body().collect().await.unwrap().to_bytes();
                (code, to.unwrap_or_else(|| String::from_utf8(body.into()).unwrap()))
            }
            Err(refusal) => (refusal.0.as_u16(), String::new()),
        };
        let (code, page) = get(&[""], true).await;
        assert_eq!(code, 200);
        assert!(
            page.contains("<pre>\n<a href=\"a%20b%26c\">a b&amp;c</a>\n<a href=\"pods/\">pods/</a>\n</pre>"),
            "{page}"
        );
        assert_eq!(get(&["a b&c"], false).await, (200, "up\n".to_owned()));
        assert_eq!(get(&["pods"], false).await, (301, "pods/".to_owned()));
        for away in [&["none"][..], &["..", "etc"], &["pods", "../../etc/passwd"], &["a\0"]] {
            assert_eq!(get(away, false).await.0, 404, "{away:?}");
        }
    }
}
