//! The folders of manifests: what stands in their files is on the server, as K3s' deploy controller has it.
//!
//! Each file (`*.yaml`, `*.yml`, `*.json`, in sub-folders too) is an `Addon` of the file's name up to the first dot in `kube-system`, which
//! records its checksum and the kinds that were in it. A file that changed is applied, and what left it is deleted. A file
//! that is removed leaves its objects where they are; the name of one given to `--disable` takes both away. `NAME.yaml.skip`
//! leaves `NAME.yaml` alone. inotify tells of changes: nothing is polled.
//!
//! In flow files, out flow objects by server-side apply and Events about the Addon. A file of the first folder goes before one of the same
//! name in the others, which are an image's.

mod files;
mod news;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_client::{Client, Informers, PatchKind, RateLimit, WorkQueue};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use self::files::names;
use self::files::{File, Files};
use self::news::News;
use crate::events::{EventKind, Recorder, Regarding};
use crate::object_set::{Kind, Owner, Sets, objects};
use crate::reconcile::{Failure, Next, work};
use crate::{Context, installed};

const API_VERSION: &str = "k3s.cattle.io/v1";
const NAMESPACE: &str = "kube-system";
const ADDONS: &str = "/apis/k3s.cattle.io/v1/namespaces/kube-system/addons";
/// The kinds that were in the file, as Go prints them, with semicolons between.
const KINDS: &str = "addon.k3s.cattle.io/gvks";
const MANAGER: &str = "deploy";
/// A file that cannot be applied is tried again at least this often, and at most.
const RETRY: RateLimit = RateLimit { first: Duration::from_secs(1), most: Duration::from_secs(60) };
/// The largest manifest.
const LARGEST: u64 = 64 << 20;

/// What the controller needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Speaks to the API with all rights.
    pub client: Client,
    /// Where manifests are. The first folder is made if it is not there, and watched; the others are an image's, and stay as they are.
    pub folders: Vec<PathBuf>,
    /// Names of files, without their endings, or of sub-folders, that are taken away with what they made.
    pub disabled: BTreeSet<String>,
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context, config: Config) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<String>::new(RETRY);
    let controller = Arc::new(Controller {
        sets: Sets::new(config.client.clone(), MANAGER, informers),
        client: config.client,
        events: context.events.recorder(MANAGER),
        files: Mutex::new(Files::new(config.folders, config.disabled)),
        waiting: Mutex::default(),
    });
    let shutdown = context.shutdown.clone();
    async move {
        let watching = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = controller.watch(&queue) => {}
            }
        };
        let retrying = async {
            let mut news = controller.sets.definitions.news();
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    // What had a kind that nobody served may go in now.
                    changed = news.changed() => match changed {
                        Ok(()) => std::mem::take(&mut *controller.waiting()).into_iter().for_each(|name| queue.add(name)),
                        Err(_) => return,
                    },
                }
            }
        };
        let working = work(MANAGER, &queue, &shutdown, |name| controller.reconcile(name));
        tokio::join!(watching, retrying, working);
    }
}

struct Controller {
    client: Client,
    sets: Sets,
    events: Recorder,
    files: Mutex<Files>,
    /// Addons that could not be applied.
    waiting: Mutex<BTreeSet<String>>,
}

impl Controller {
    /// No code panics while it holds the lock, so a poisoned lock still guards whole files.
    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the names of files that are new or changed into the queue, now and after each change, without end.
    async fn watch(&self, queue: &WorkQueue<String>) {
        installed::ensure(&self.client, &[definition()]).await;
        let watched = self.files().watched().to_owned();
        let mut news = News::of(&watched).map_err(|error| {
            tracing::warn!("{}: {error}; manifests are read once", watched.display());
        });
        loop {
            let being_written = news.as_mut().map(|news| news.follow()).unwrap_or_default();
            let changed = self.files().scan(&being_written);
            changed.into_iter().for_each(|name| queue.add(name));
            let Ok(news) = &mut news else { return std::future::pending().await };
            if let Err(error) = news.next().await {
                tracing::warn!("{}: {error}; its changes are not seen any more", watched.display());
                return std::future::pending().await;
            }
        }
    }

    async fn reconcile(&self, name: String) -> Result<Next, Failure> {
        let Some(file) = self.files().get(&name) else { return Ok(Next::Settled) };
        let done = if file.disabled { self.take_away(&name, &file).await } else { self.deploy(&name, &file).await };
        match &done {
            Ok(()) => _ = self.waiting().remove(&name),
            Err(_) => _ = self.waiting().insert(name),
        }
        done.map(|()| Next::Settled)
    }

    async fn deploy(&self, name: &str, file: &File) -> Result<(), Failure> {
        let path = &file.path;
        let addon = self.addon(name, path).await?;
        let tell = |kind, reason: &str, text: String| self.events.tell(regarding(&addon), kind, reason, text);
        let shown = format!("{:?}", path.display().to_string());
        let content = match read(path) {
            Ok(content) => content,
            Err(error) => {
                tell(EventKind::Warning, "ReadManifestFailed", format!("Read manifest at {shown} failed: {error}"));
                return Err(Failure::Waiting(error.to_string()));
            }
        };
        let checksum = hex(&Sha256::digest(content.as_bytes()));
        let same = meta::text(&addon, &["spec", "checksum"]) == checksum;
        // What was applied may have been changed by others since: it is made good at each start, as K3s does.
        if same && !self.files().is_first(name) {
            self.files().done(name, file);
            return Ok(());
        }
        let objects = match objects(&content) {
            Ok(objects) => objects,
            Err(error) => {
                tell(EventKind::Warning, "ParseManifestFailed", format!("Parse manifest at {shown} failed: {error}"));
                return Err(Failure::Waiting(error));
            }
        };
        let mut kinds: Vec<String> = Vec::new();
        for kind in objects.iter().map(|object| Kind::of(object).to_string()) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        tell(EventKind::Normal, "ApplyingManifest", format!("Applying manifest at {shown}"));
        if let Err(failure) = self.sets.apply(&owner(name), objects, &known(&addon)).await {
            tell(EventKind::Warning, "ApplyManifestFailed", format!("Applying manifest at {shown} failed: {failure}"));
            return Err(failure);
        }
        tell(EventKind::Normal, "AppliedManifest", format!("Applied manifest at {shown}"));
        let record = json!({
            "metadata": {"annotations": {KINDS: kinds.join(";")}},
            "spec": {"source": path.display().to_string(), "checksum": checksum},
        });
        self.client.patch::<IgnoredAny>(&format!("{ADDONS}/{name}"), PatchKind::Merge, &record).await?;
        self.files().done(name, file);
        Ok(())
    }

    /// Takes away what a file made or would make, and the file.
    async fn take_away(&self, name: &str, file: &File) -> Result<(), Failure> {
        let path = format!("{ADDONS}/{name}");
        let addon = self.client.find::<Value>(&path).await?;
        let mut kinds: BTreeSet<Kind> = addon.iter().flat_map(known).collect();
        if let Ok(objects) = read(&file.path).map_err(|_| String::new()).and_then(|text| objects(&text)) {
            kinds.extend(objects.iter().map(Kind::of));
        }
        self.sets.remove(&owner(name), kinds).await?;
        if file.is_ours {
            match std::fs::remove_file(&file.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::Waiting(format!("{}: {error}", file.path.display())));
                }
                _ => {}
            }
        }
        if let Some(addon) = addon {
            let text = format!("Deleting manifest at {:?}", file.path.display().to_string());
            self.events.tell(regarding(&addon), EventKind::Normal, "DeletingManifest", text);
            crate::status_patch::unless_gone(self.client.delete(&path, &Value::Null).await)?;
        }
        self.files().done(name, file);
        Ok(())
    }

    /// The file's Addon, made if it is not there: events need one to be about.
    async fn addon(&self, name: &str, path: &Path) -> Result<Value, Failure> {
        if let Some(addon) = self.client.find(&format!("{ADDONS}/{name}")).await? {
            return Ok(addon);
        }
        let addon = json!({
            "apiVersion": API_VERSION,
            "kind": "Addon",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": path.display().to_string()},
        });
        Ok(self.client.create(ADDONS, &addon).await?)
    }
}

fn owner(name: &str) -> Owner {
    let kind = Kind { api_version: API_VERSION.to_owned(), kind: "Addon".to_owned() };
    Owner { kind, namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

/// The kinds that an Addon had when it was applied last.
fn known(addon: &Value) -> Vec<Kind> {
    meta::annotation(addon, KINDS).unwrap_or_default().split(';').filter_map(Kind::parse).collect()
}

fn regarding(addon: &Value) -> Regarding {
    let text = |field| Some(meta::text(addon, &["metadata", field]).to_owned());
    Regarding {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some("Addon".to_owned()),
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        field_path: None,
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The definition of Addons, with K3s' fields and columns.
fn definition() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let spec = json!({"type": "object", "properties": {
        "source": text("The path of the manifest's file."),
        "checksum": text("The SHA-256 checksum of the manifest that was applied last."),
    }});
    let columns = json!([
        {"name": "Source", "type": "string", "jsonPath": ".spec.source"},
        {"name": "Checksum", "type": "string", "jsonPath": ".spec.checksum"},
    ]);
    installed::definition("k3s.cattle.io", ("Addon", "addons", &[]), spec, None, columns)
}

#[cfg(test)]
mod tests;
