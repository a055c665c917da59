//! Removes images that no container uses when the disk becomes full, those that were unused longest first.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::time::Instant;

use crate::cri::{CriError, ImageSpec, ListContainersRequest, ListImagesRequest, RemoveImageRequest, Runtime};

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(300);

/// When images are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// Percent of the disk in use from which they are (`imageGCHighThresholdPercent`); 100 for never.
    pub high: u8,
    /// Percent down to which (`imageGCLowThresholdPercent`), less than that.
    pub low: u8,
    /// An image that was used or pulled this recently stays (`imageMinimumGCAge`).
    pub young: Duration,
}

impl Default for Collection {
    /// Upstream's.
    fn default() -> Self {
        Self { high: 85, low: 80, young: Duration::from_secs(120) }
    }
}

impl Collection {
    /// Bytes that are to be freed on a disk of this size with so many free.
    fn wanted(self, total: u64, free: u64) -> u64 {
        let in_use = (total - free.min(total)) * 100 / total.max(1);
        if self.high >= 100 || in_use < u64::from(self.high) {
            return 0;
        }
        (total * (100 - u64::from(self.low.min(100))) / 100).saturating_sub(free)
    }
}

/// Looks after the disk of images without end. `keep` is an image that stays: that of sandboxes.
pub(crate) async fn run(runtime: Runtime, disk: PathBuf, keep: String, settings: Collection) {
    let mut used: HashMap<String, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some((total, free)) = room(&disk) else { continue };
        let wanted = settings.wanted(total, free);
        if let Err(error) = collect(&runtime, &keep, &mut used, wanted, settings.young).await {
            tracing::debug!(%error, "images cannot be collected now");
        }
    }
}

/// Bytes of a disk, and those that are free.
fn room(disk: &Path) -> Option<(u64, u64)> {
    let disk = statvfs(disk).ok()?;
    let size = disk.fragment_size();
    #[allow(clippy::useless_conversion, reason = "they are 32 bits wide on some machines")]
    let bytes = |blocks: nix::libc::fsblkcnt_t| u64::from(blocks) * u64::from(size);
    Some((bytes(disk.blocks()), bytes(disk.blocks_available())))
}

/// Takes note of which images are used, and removes others until this many bytes are free again.
async fn collect(
    runtime: &Runtime,
    keep: &str,
    used: &mut HashMap<String, Instant>,
    wanted: u64,
    young: Duration,
) -> Result<(), CriError> {
    let all = (ListImagesRequest::default(), ListContainersRequest::default());
    let (images, containers) = tokio::try_join!(runtime.list_images(&all.0), runtime.list_containers(&all.1))?;
    let mut names = HashSet::new();
    for container in containers.containers {
        names.extend([container.image_ref, container.image_id]);
        names.extend(container.image.map(|image| image.image));
    }
    let now = Instant::now();
    let ids: HashSet<&str> = images.images.iter().map(|image| image.id.as_str()).collect();
    used.retain(|id, _| ids.contains(id.as_str()));
    let mut unused = Vec::new();
    for image in &images.images {
        let is_used = std::iter::once(&image.id).chain(&image.repo_tags).chain(&image.repo_digests);
        let is_kept = image.pinned || image.repo_tags.iter().any(|tag| tag == keep);
        let last = used.entry(image.id.clone()).or_insert(now);
        if is_used.into_iter().any(|name| names.contains(name)) {
            *last = now;
        } else if !is_kept && now.duration_since(*last) >= young {
            unused.push((*last, image));
        }
    }
    unused.sort_by_key(|(last, _)| *last);
    let mut freed = 0;
    for (_, image) in unused {
        if freed >= wanted {
            break;
        }
        let spec = Some(ImageSpec { image: image.id.clone(), ..ImageSpec::default() });
        match runtime.remove_image(&RemoveImageRequest { image: spec }).await {
            Ok(_) => {
                tracing::info!(image = image.id, bytes = image.size, "removed an image that nobody used");
                freed += image.size;
            }
            Err(error) => tracing::warn!(image = image.id, %error, "an image cannot be removed"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_go_when_the_disk_is_as_full_as_the_settings_say() {
        let usual = Collection::default();
        let tight = Collection { high: 60, low: 30, ..usual };
        let never = Collection { high: 100, ..usual };
        for (settings, free, wanted) in
            [(usual, 200, 0), (usual, 150, 50), (usual, 0, 200), (tight, 400, 300), (tight, 410, 0), (never, 0, 0)]
        {
            assert_eq!(settings.wanted(1000, free), wanted, "{settings:?} {free}");
        }
        assert_eq!(usual.wanted(0, 0), 0);
    }
}
