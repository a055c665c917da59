//! Empty folders that live as long as their pod: on disk, in memory or in huge pages. A folder is given its permissions before
//! it gets its name, and a mount by its options, so that what is there is ready, whenever the kubelet died.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use kiln_apimachinery::quantity::Quantity;

use super::dirs::make;
use super::mounts;
use super::ownership::{self, Group};
use crate::resources::{HUGE_PAGES, MEMORY, Overhead, Qos, amount, page_size, pod_level, pod_limits, qos, read};

/// What an empty folder is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Medium {
    /// The disk of the kubelet's root.
    Disk,
    /// A tmpfs of at most this many bytes.
    Memory(u64),
    /// Pages of this many bytes.
    HugePages(u64),
}

/// The medium of a volume. `allocatable` is the memory of all pods.
pub(crate) fn medium(source: &EmptyDirVolumeSource, pod: &Pod, allocatable: Quantity) -> Result<Medium, String> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => Ok(Medium::Memory(memory_size(source.size_limit.as_ref().map(read), pod, allocatable))),
        name if name == "HugePages" || name.starts_with("HugePages-") => huge_pages(name, pod).map(Medium::HugePages),
        name => Err(format!("unknown storage medium {name:?}")),
    }
}

/// No more than the volume's limit, the pod's memory and the memory of all pods.
pub(crate) fn memory_size(limit: Option<Quantity>, pod: &Pod, allocatable: Quantity) -> u64 {
    let bounds = [limit, pod_memory(pod)].into_iter().flatten().filter(|bound| *bound > Quantity::ZERO);
    let size = bounds.fold(allocatable, |size, bound| if size.is_zero() { bound } else { size.min(bound) });
    u64::try_from(size.value()).unwrap_or(0)
}

/// The most memory that a pod can have, if each of its containers has a limit.
fn pod_memory(pod: &Pod) -> Option<Quantity> {
    let spec = pod.spec.as_ref()?;
    let whole = pod_level(pod).is_some_and(|r| !amount(r.limits.as_ref(), MEMORY).is_zero());
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let limited = |c: &k8s_openapi::api::core::v1::Container| !amount(crate::resources::limits(c), MEMORY).is_zero();
    let is_limited = whole || (qos(pod) != Qos::BestEffort && containers.all(limited));
    is_limited.then(|| pod_limits(pod, Overhead::With).get(MEMORY).copied()).flatten()
}

/// The size of the pages that a pod's containers request, which a medium without a size leaves open.
fn huge_pages(medium: &str, pod: &Pod) -> Result<u64, String> {
    let wanted = match medium.strip_prefix("HugePages-") {
        Some(_) => Some(page_size(medium).ok_or_else(|| format!("medium {medium}: the page size cannot be read"))?),
        None => None,
    };
    let spec = pod.spec.as_ref();
    let containers =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let lists = containers.filter_map(crate::resources::requests);
    let lists = pod_level(pod).and_then(|whole| whole.requests.as_ref()).into_iter().chain(lists);
    let mut found = None;
    for name in lists.flat_map(std::collections::BTreeMap::keys).filter(|name| name.starts_with(HUGE_PAGES)) {
        let size = page_size(name);
        if wanted.is_some() {
            found = found.or(size.filter(|_| size == wanted));
        } else if found.is_some() && found != size {
            return Err(format!("medium: {medium} can't be used if container requests multiple huge page sizes"));
        } else {
            found = size;
        }
    }
    found.ok_or_else(|| {
        format!("medium {medium}: hugePages storage requested, but there is no resource request for huge pages")
    })
}

/// Makes the folder, unless it is there.
pub(crate) fn set_up(dir: &Path, medium: &Medium, group: Option<Group>) -> io::Result<()> {
    match medium {
        Medium::Disk => on_disk(dir, group),
        Medium::Memory(size) => {
            let size = if *size == 0 { String::new() } else { format!("size={size},") };
            // Linux's own permissions of a tmpfs, and those that a group needs.
            let options = match group {
                Some(group) => format!("{size}mode=3777,gid={}", group.id),
                None => format!("{size}mode=1777"),
            };
            // What must not reach the disk may not go to swap either; older kernels cannot say so (before 6.4).
            mount_over(dir, "tmpfs", &format!("{options},noswap")).or_else(|error| match error.raw_os_error() {
                Some(libc_einval) if libc_einval == nix::libc::EINVAL => mount_over(dir, "tmpfs", &options),
                _ => Err(error),
            })
        }
        Medium::HugePages(size) => {
            let owner = group.map(|group| format!(",mode=2775,gid={}", group.id)).unwrap_or_default();
            mount_over(dir, "hugetlbfs", &format!("pagesize={size}{owner}"))
        }
    }
}

fn on_disk(dir: &Path, group: Option<Group>) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    make(parent, 0o750)?;
    let new = parent.join(format!("..{}", name.to_string_lossy()));
    make(&new, 0o777)?;
    fs::set_permissions(&new, Permissions::from_mode(0o777))?;
    if let Some(group) = group {
        ownership::give(&new, group, false)?;
    }
    fs::rename(new, dir)
}

fn mount_over(dir: &Path, fs_type: &str, options: &str) -> io::Result<()> {
    if let Some(known) = mounts::at(dir)? {
        if known.fs_type == fs_type {
            return Ok(());
        }
        return Err(io::Error::other(format!("{} is a mount of {} already", dir.display(), known.fs_type)));
    }
    if let Some(parent) = dir.parent() {
        make(parent, 0o750)?;
    }
    make(dir, 0o777)?;
    mounts::virtual_fs(fs_type, dir, options)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::sys::statvfs::statvfs;
    use serde_json::{Value, json};

    use super::*;

    fn pod(memory: Option<&str>) -> Pod {
        let limits = memory.map_or(json!({}), |memory| json!({ "memory": memory, "cpu": "1" }));
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"limits": limits, "requests": limits}}]}});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn memory_is_bounded_by_the_volume_the_pod_and_the_node() {
        let q = |text: &str| Quantity::parse(text).expect("an amount");
        let rows = [
            (None, None, "1Gi", 1 << 30),
            (Some("100Mi"), None, "1Gi", 100 << 20),
            (Some("2Gi"), None, "1Gi", 1 << 30),
            (None, Some("200Mi"), "1Gi", 200 << 20),
            (Some("100Mi"), Some("200Mi"), "1Gi", 100 << 20),
            (Some("300Mi"), Some("200Mi"), "1Gi", 200 << 20),
            (Some("0"), None, "1Gi", 1 << 30),
        ];
        for (limit, memory, node, expected) in rows {
            assert_eq!(memory_size(limit.map(q), &pod(memory), q(node)), expected, "{limit:?} {memory:?}");
        }
    }

    #[test]
    fn the_size_of_huge_pages_comes_from_what_the_pod_requests() {
        let with = |sizes: Value| {
            let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": sizes}}]}});
            serde_json::from_value::<Pod>(pod).expect("a pod")
        };
        let two = with(json!({"hugepages-2Mi": "4Mi"}));
        let both = with(json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}));
        assert_eq!(huge_pages("HugePages", &two), Ok(2 << 20));
        assert_eq!(huge_pages("HugePages-1Gi", &both), Ok(1 << 30));
        assert_eq!(
            huge_pages("HugePages", &both).expect_err("two sizes"),
            "medium: HugePages can't be used if container requests multiple huge page sizes"
        );
        assert_eq!(
            huge_pages("HugePages-1Gi", &two).expect_err("none of that size"),
            "medium HugePages-1Gi: hugePages storage requested, but there is no resource request for huge pages"
        );
    }

    #[test]
    fn a_folder_is_made_once_and_what_the_pod_does_to_it_stays() {
        let root = tempfile::tempdir().expect("a folder");
        let dir = root.path().join("a/b");
        let group = Some(Group { id: 4321, only_on_mismatch: false });
        set_up(&dir, &Medium::Disk, group).expect("made");
        let meta = fs::metadata(&dir).expect("it is there");
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o2777, 4321));
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("changed");
        set_up(&dir, &Medium::Disk, group).expect("left alone");
        assert_eq!(fs::metadata(&dir).expect("it is there").mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_folder_in_memory_has_its_size_and_group() {
        let root = tempfile::tempdir().expect("a folder");
        let dir = root.path().join("m");
        let medium = Medium::Memory(1 << 20);
        for _ in 0..2 {
            set_up(&dir, &medium, Some(Group { id: 4321, only_on_mismatch: false })).expect("mounted");
        }
        let (size, meta) = (statvfs(&dir).expect("mounted"), fs::metadata(&dir).expect("it is there"));
        assert_eq!(size.blocks() * size.fragment_size(), 1 << 20);
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o3777, 4321));
        assert_eq!(mounts::below(&dir).expect("read").len(), 1);
        mounts::unmount(&dir).expect("unmounted");
    }
}
