//! Loads images into containerd's store: the pause image, and archives that lie in a folder.
//!
//! An archive is loaded once: a note beside containerd's data says which file, of which size and time, is in the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use kiln_grpc::{CallError, Code, Connection, Outgoing, frame};
use tokio::sync::mpsc;

use super::api::{
    self, AbortRequest, Descriptor, LeaseRequest, Nothing, OfImage, WriteAction, WriteContentRequest,
    WriteContentResponse, connect,
};
use super::archive::{self, ArchiveError, Image, MANIFEST, Part, Target, references};

const LEASE: &str = "kiln-import";
/// The namespace of the CRI, and the lease that keeps blobs until an image refers to them.
const HEADERS: &[(&str, &str)] = &[("containerd-namespace", "k8s.io"), ("containerd-lease", LEASE)];
/// A lease that was forgotten ends by itself, this long after its making.
const LEASE_SECONDS: i64 = 3600;

/// The label by which the CRI tells that an image is not to be removed for want of room: of one that came in an archive there may be
/// no registry to get it from again.
const PINNED: [&str; 2] = ["io.cri-containerd.pinned", "pinned"];

/// An image could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// Containerd refused, or is not there.
    #[error("{0}")]
    Call(#[from] CallError),
    /// The archive cannot be read.
    #[error("{0}")]
    Archive(#[from] ArchiveError),
}

/// A connection for loading.
pub(crate) struct Importer(Connection);

impl Importer {
    /// Connects to containerd.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, ImportError> {
        let connection = connect(socket, HEADERS).await?;
        let expire = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(LEASE_SECONDS);
        let labels = BTreeMap::from([("containerd.io/gc.expire".to_owned(), expire.to_string())]);
        let request = LeaseRequest { id: LEASE.to_owned(), labels };
        match connection.unary::<_, Nothing>("/containerd.services.leases.v1.Leases/Create", &request).await {
            Err(error) if !is_there_already(&error) => Err(error.into()),
            _ => Ok(Self(connection)),
        }
    }

    /// Ends the loading: what no image refers to may be collected from now on.
    pub(crate) async fn finish(self) {
        let request = LeaseRequest { id: LEASE.to_owned(), ..LeaseRequest::default() };
        // It ends by itself otherwise.
        _ = self.0.unary::<_, Nothing>("/containerd.services.leases.v1.Leases/Delete", &request).await;
    }

    /// Loads an image that is in memory.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub(crate) async fn image(&self, image: &Image) -> Result<(), ImportError> {
        for blob in &image.blobs {
            let labels = if blob.media_type == MANIFEST { references(&blob.data) } else { BTreeMap::new() };
            let mut write = Write::begin(&self.0, &blob.digest, blob.data.len() as u64, labels).await?;
            write.data(blob.data.clone()).await?;
            write.commit().await?;
        }
        let Some(manifest) = image.blobs.last() else { return Ok(()) };
        let size = i64::try_from(manifest.data.len()).unwrap_or(i64::MAX);
        let target = Target { media_type: MANIFEST.to_owned(), digest: manifest.digest.clone(), size };
        self.name(&image.name, &target, BTreeMap::new()).await
    }

    /// Loads an archive; answers the names of its images.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub(crate) async fn archive(&self, path: &Path) -> Result<Vec<String>, ImportError> {
        let (sender, mut parts) = mpsc::channel(2);
        let path = path.to_owned();
        let reading =
            tokio::task::spawn_blocking(move || archive::read(&path, |part| sender.blocking_send(part).is_ok()));
        let mut write: Option<Write> = None;
        let mut loaded = Vec::new();
        while let Some(part) = parts.recv().await {
            match part {
                Part::Begin { digest, size, labels } => {
                    if let Some(done) = write.take() {
                        done.commit().await?;
                    }
                    write = Some(Write::begin(&self.0, &digest, size, labels).await?);
                }
                Part::Data(data) => {
                    if let Some(write) = &mut write {
                        write.data(data).await?;
                    }
                }
                Part::Names(names) => {
                    if let Some(done) = write.take() {
                        done.commit().await?;
                    }
                    for (name, target) in names {
                        let labels = BTreeMap::from([PINNED.map(str::to_owned).into()]);
                        self.name(&name, &target, labels).await?;
                        loaded.push(name);
                    }
                }
            }
        }
        match reading.await {
            Ok(read) => read?,
            Err(error) => return Err(ArchiveError::Read(std::io::Error::other(error)).into()),
        }
        Ok(loaded)
    }

    async fn name(&self, name: &str, target: &Target, labels: BTreeMap<String, String>) -> Result<(), ImportError> {
        let Target { media_type, digest, size } = target.clone();
        let target = Some(Descriptor { media_type, digest, size });
        let request = OfImage { image: Some(api::Image { name: name.to_owned(), labels, target }) };
        match self.0.unary::<_, Nothing>("/containerd.services.images.v1.Images/Create", &request).await {
            Err(error) if is_there_already(&error) => {
                self.0.unary::<_, Nothing>("/containerd.services.images.v1.Images/Update", &request).await?;
            }
            created => _ = created?,
        }
        Ok(())
    }
}

fn is_there_already(error: &CallError) -> bool {
    error.is(Code(6))
}

/// One blob on its way into the store.
struct Write<'a> {
    connection: &'a Connection,
    requests: mpsc::UnboundedSender<Bytes>,
    /// None if it is in the store already: of another image, perhaps.
    answers: Option<kiln_grpc::Messages>,
    next: WriteContentRequest,
}

impl<'a> Write<'a> {
    async fn begin(
        connection: &'a Connection,
        digest: &str,
        size: u64,
        labels: BTreeMap<String, String>,
    ) -> Result<Self, ImportError> {
        let next = WriteContentRequest {
            action: WriteAction::Write as i32,
            r#ref: format!("kiln-{digest}"),
            total: i64::try_from(size).unwrap_or(i64::MAX),
            expected: digest.to_owned(),
            labels,
            ..WriteContentRequest::default()
        };
        // What an import left that was cut off is not gone on with.
        let abort = AbortRequest { r#ref: next.r#ref.clone() };
        _ = connection.unary::<_, Nothing>("/containerd.services.content.v1.Content/Abort", &abort).await;
        let (requests, body) = mpsc::unbounded_channel();
        let mut stat = next.clone();
        stat.action = WriteAction::Stat as i32;
        // The receiver is right here.
        _ = requests.send(frame(&stat));
        let opened = connection.open("/containerd.services.content.v1.Content/Write", Outgoing(body)).await;
        // The refusal comes with the first answer or in place of it.
        let began = match opened {
            Ok(mut answers) => answers.next::<WriteContentResponse>().await.map(|_| answers),
            Err(error) => Err(error),
        };
        let answers = match began {
            Ok(answers) => Some(answers),
            Err(error) if is_there_already(&error) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { connection, requests, answers, next })
    }

    async fn send(&mut self) -> Result<(), ImportError> {
        let Some(answers) = &mut self.answers else { return Ok(()) };
        _ = self.requests.send(frame(&self.next));
        match answers.next::<WriteContentResponse>().await {
            Err(error) if is_there_already(&error) => self.answers = None,
            Ok(Some(answer)) => self.next.offset = answer.offset,
            Ok(None) => return Err(CallError::Broken(format!("{} ended early", self.connection.base())).into()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Each chunk is answered before the next is read: no more than one is in memory.
    async fn data(&mut self, data: Vec<u8>) -> Result<(), ImportError> {
        self.next.data = data;
        self.send().await
    }

    async fn commit(mut self) -> Result<(), ImportError> {
        self.next.data.clear();
        self.next.action = WriteAction::Commit as i32;
        self.send().await
    }
}

/// Archives in a folder, and which of them are loaded.
pub(crate) struct Folder {
    note: PathBuf,
    loaded: BTreeMap<String, String>,
}

impl Folder {
    /// `note` is the file that says what is loaded; it must go when containerd's data goes.
    pub(crate) fn new(note: PathBuf) -> Self {
        let loaded = fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { note, loaded }
    }

    /// The archives of some folders that are not loaded, or have changed since.
    pub(crate) fn new_archives(&self, folders: &[PathBuf]) -> Vec<PathBuf> {
        let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().filter_map(Result::ok);
        let mut archives: Vec<PathBuf> = files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
            .filter(|path| self.loaded.get(&*path.to_string_lossy()) != state(path).as_ref())
            .collect();
        archives.sort();
        archives
    }

    /// Takes note of a loaded archive.
    pub(crate) fn add(&mut self, path: &Path) {
        let Some(state) = state(path) else { return };
        self.loaded.insert(path.to_string_lossy().into_owned(), state);
        let text = serde_json::to_vec(&self.loaded).unwrap_or_default();
        if let Err(error) = fs::write(&self.note, text) {
            tracing::warn!("{}: {error}; images will be loaded again", self.note.display());
        }
    }
}

/// Size and time of a file.
fn state(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let time = file.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(format!("{}@{}.{:09}", file.len(), time.as_secs(), time.subsec_nanos()))
}
