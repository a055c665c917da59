//! A socket for the verbs that need the running server itself: `kiln snapshot save`.
//!
//! It lies in the server's folder, which only its owner can enter. A question is a line of JSON, and so is the answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use kiln_storage::Storage;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

/// Bytes of a question.
const LONGEST: u64 = 4096;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Question {
    /// Write a snapshot into this new file.
    Snapshot {
        /// The file.
        file: PathBuf,
    },
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Answer {
    /// The snapshot is there.
    Snapshot {
        /// Its revision.
        revision: i64,
    },
    /// It was not done; the text says why.
    Refused(String),
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("admin.sock")
}

/// Answers until the shutdown.
///
/// # Errors
/// When the socket can't be made.
pub(super) fn listen(
    folder: &Path,
    storage: Arc<dyn Storage>,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let path = socket(folder);
    // One that a server left which was killed. No other can be running: it would hold the storage.
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| path.display().to_string());
    }
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    Ok(async move {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Who asks may go without the answer.
                        _ = answer(stream, &*storage).await;
                    }
                    Err(error) => tracing::warn!(%error, "the admin socket"),
                },
            }
        }
        // It is in the way of nobody if it stays.
        _ = std::fs::remove_file(&path);
    })
}

async fn answer(stream: UnixStream, storage: &dyn Storage) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Question::Snapshot { file }) => match storage.snapshot(&file).await {
            Ok(revision) => Answer::Snapshot { revision },
            Err(error) => Answer::Refused(error.to_string()),
        },
        Err(error) => Answer::Refused(format!("this server does not know the question: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    Ok(write.write_all(text.as_bytes()).await?)
}

/// Asks the server that runs with this folder. `None`: none does.
///
/// # Errors
/// When it refuses, or ends in the midst of it.
pub(crate) async fn ask(folder: &Path, question: &Question) -> anyhow::Result<Option<Answer>> {
    let path = socket(folder);
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(Failure::File(format!("{}: {error}", path.display())).into()),
    };
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_string(question)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await.context("asking the server")?;
    let mut line = String::new();
    BufReader::new(read).read_line(&mut line).await.context("the server's answer")?;
    match serde_json::from_str(&line).context("the server ended before it answered")? {
        Answer::Refused(why) => Err(Failure::File(why).into()),
        answer => Ok(Some(answer)),
    }
}
