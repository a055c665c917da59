//! Removing volumes, by what the disk and the kernel say: what a kubelet before this one made is removed just as well.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use kiln_client::Backoff;

use super::dirs::names;
use super::{Dirs, VolumeError, Volumes, blocking, mounts, news, subpath};

/// Waits before what is left of pods that are gone is tried to be removed again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

impl Volumes {
    /// Unmounts and removes all volumes of a pod whose containers are gone. Does nothing the second time.
    ///
    /// # Errors
    /// If something is left; to be called again.
    pub async fn unmount(&self, uid: &str) -> Result<(), VolumeError> {
        self.0.sources.release(uid);
        self.0.pods().remove(uid);
        let removed = self.tear_down_csi(uid).await;
        removed.map_err(|why| VolumeError::Remove { uid: uid.to_owned(), why })?;
        let (dirs, pod) = (self.dirs().clone(), uid.to_owned());
        let removed = blocking(move || remove_volumes(&dirs, &pod)).await;
        removed.map_err(|why| VolumeError::Remove { uid: uid.to_owned(), why })
    }

    /// Removes a pod's folder with all that is in it, its volumes first if they are still there.
    ///
    /// # Errors
    /// If something is left; to be called again.
    pub async fn remove(&self, uid: &str) -> Result<(), VolumeError> {
        self.unmount(uid).await?;
        let folder = self.dirs().pod(uid);
        let removed = blocking(move || remove_folder(&folder)).await;
        removed.map_err(|why| VolumeError::Remove { uid: uid.to_owned(), why })
    }

    /// After a restart: removes what is left of pods that are not among the uids `alive`. [`Volumes::mount`] then takes the
    /// volumes of those that are over as they stand.
    pub async fn restore(&self, alive: &HashSet<String>) {
        let found = names(&self.dirs().pods()).unwrap_or_default();
        let gone: Vec<String> = found.into_iter().filter(|uid| !alive.contains(uid)).collect();
        let left = self.remove_all(gone).await;
        if left.is_empty() && self.unstage_unused().await {
            return;
        }
        // Drivers are registered later than this.
        tokio::spawn(self.clone().remove_the_rest(left));
    }

    /// Tries to remove what is left of pods, and answers of which something is left still.
    async fn remove_all(&self, uids: Vec<String>) -> Vec<String> {
        let mut left = Vec::new();
        for uid in uids {
            match self.remove(&uid).await {
                Ok(()) => tracing::info!(uid, "removed what was left of a pod that is gone"),
                Err(error) => {
                    tracing::warn!(uid, %error, "something of a pod that is gone is left");
                    left.push(uid);
                }
            }
        }
        left
    }

    async fn remove_the_rest(self, mut left: Vec<String>) {
        let (mut backoff, mut drivers) = (Backoff::new(RETRY.0, RETRY.1), self.0.config.drivers.news());
        loop {
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = news(&mut drivers) => {}
            }
            left = self.remove_all(left).await;
            if self.unstage_unused().await && left.is_empty() {
                return;
            }
        }
    }
}

fn remove_volumes(dirs: &Dirs, uid: &str) -> io::Result<()> {
    subpath::clean_up(&dirs.sub_paths(uid))?;
    mounts::unmount_below(&dirs.pod(uid))?;
    remove_folder(&dirs.volumes(uid))?;
    remove_folder(&dirs.pod(uid).join("plugins"))
}

/// Removes a folder in which nothing is mounted: never what a mount shows, which may be a user's data.
fn remove_folder(folder: &Path) -> io::Result<()> {
    if let Some(mount) = mounts::below(folder)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", mount.path.display())));
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
