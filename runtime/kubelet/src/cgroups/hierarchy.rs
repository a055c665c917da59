//! The kernel's folders and files of control groups.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::limits::{Limits, PERIOD, shares_of_weight, weight};
use super::{CgroupError, failed};
use crate::spec::page_size_name;

const TABLE: &str = "/proc/self/mountinfo";
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";
/// What pods' groups are limited by; other controllers are left alone.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "cpuset", "hugetlb"];

/// The kernel's version of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The mounted hierarchies.
#[derive(Debug, Clone)]
pub(super) enum Hierarchy {
    /// Folders by controllers, those without one among them too, since the runtime makes groups in all.
    V1(BTreeMap<String, PathBuf>),
    V2(PathBuf),
}

impl Hierarchy {
    pub(super) fn find() -> Result<Self, CgroupError> {
        let table = fs::read_to_string(TABLE).map_err(failed(Path::new(TABLE)))?;
        parse(&table).ok_or(CgroupError::Missing)
    }

    pub(super) fn version(&self) -> Version {
        match self {
            Self::V1(_) => Version::V1,
            Self::V2(_) => Version::V2,
        }
    }

    /// The folders of a group.
    pub(super) fn folders(&self, group: &str) -> Vec<PathBuf> {
        let below = group.trim_start_matches('/');
        match self {
            Self::V1(mounts) => mounts.values().map(|mount| mount.join(below)).collect(),
            Self::V2(mount) => vec![mount.join(below)],
        }
    }

    /// The folder of a group that has a controller's files.
    pub(super) fn folder(&self, group: &str, controller: &str) -> Option<PathBuf> {
        let below = group.trim_start_matches('/');
        match self {
            Self::V1(mounts) => mounts.get(controller).map(|mount| mount.join(below)),
            Self::V2(mount) => Some(mount.join(below)),
        }
    }

    /// Makes a group, and those above it that are missing.
    pub(super) fn make(&self, group: &str) -> Result<(), CgroupError> {
        match self {
            Self::V1(mounts) => {
                for (controller, mount) in mounts.iter().filter(|(name, _)| CONTROLLERS.contains(&name.as_str())) {
                    let folder = mount.join(group.trim_start_matches('/'));
                    fs::create_dir_all(&folder).map_err(failed(&folder))?;
                    if controller == "cpuset" {
                        inherit(mount, group)?;
                    }
                }
                Ok(())
            }
            Self::V2(mount) => {
                let mut folder = mount.clone();
                for part in group.split('/').filter(|part| !part.is_empty()) {
                    delegate(&folder)?;
                    folder.push(part);
                    match fs::create_dir(&folder) {
                        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&folder)(why)),
                        _ => {}
                    }
                }
                delegate(&folder)
            }
        }
    }

    /// Sets what is to be set.
    pub(super) fn set(&self, group: &str, limits: &Limits) -> Result<(), CgroupError> {
        for (controller, file, value) in self.lines(limits) {
            let Some(folder) = self.folder(group, controller) else { continue };
            let path = folder.join(&file);
            match fs::write(&path, value) {
                // Huge pages of a size that the kernel's groups do not count.
                Err(why) if why.kind() == io::ErrorKind::NotFound && controller == "hugetlb" => {}
                written => written.map_err(failed(&path))?,
            }
        }
        Ok(())
    }

    /// Controller, file and value of each thing to be set.
    fn lines(&self, limits: &Limits) -> Vec<(&'static str, String, String)> {
        let v2 = self.version() == Version::V2;
        let pick = |old: &str, new: &str| if v2 { new.to_owned() } else { old.to_owned() };
        // Nothing means no limit: to version 1 a minus one, to version 2 a word.
        let bound = |value: i64| if value > 0 { value.to_string() } else { pick("-1", "max") };
        let mut lines = Vec::new();
        if let Some(shares) = limits.shares {
            let value = if v2 { weight(shares) } else { shares };
            lines.push(("cpu", pick("cpu.shares", "cpu.weight"), value.to_string()));
        }
        if let Some(quota) = limits.quota {
            if v2 {
                lines.push(("cpu", "cpu.max".to_owned(), format!("{} {PERIOD}", bound(quota))));
            } else {
                lines.push(("cpu", "cpu.cfs_period_us".to_owned(), PERIOD.to_string()));
                lines.push(("cpu", "cpu.cfs_quota_us".to_owned(), bound(quota)));
            }
        }
        if let Some(memory) = limits.memory {
            lines.push(("memory", pick("memory.limit_in_bytes", "memory.max"), bound(memory)));
        }
        if let Some(pids) = limits.pids {
            let value = if pids > 0 { pids.to_string() } else { "max".to_owned() };
            lines.push(("pids", "pids.max".to_owned(), value));
        }
        if let Some(wanted) = &limits.huge_pages {
            for size in page_sizes() {
                let limit = wanted.get(&size).copied().unwrap_or(0);
                let file = format!("hugetlb.{}.{}", page_size_name(size), if v2 { "max" } else { "limit_in_bytes" });
                lines.push(("hugetlb", file, limit.to_string()));
            }
        }
        lines
    }

    /// What a group has, but for huge pages.
    pub(super) fn get(&self, group: &str) -> Result<Limits, CgroupError> {
        let v2 = self.version() == Version::V2;
        let read = |controller: &str, file: &str| -> Result<String, CgroupError> {
            let folder = self.folder(group, controller).ok_or(CgroupError::Missing)?;
            let path = folder.join(file);
            fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(failed(&path))
        };
        let (shares, quota, memory) = if v2 {
            let weight = read("cpu", "cpu.weight")?.parse().ok();
            let max = read("cpu", "cpu.max")?;
            let quota = max.split(' ').next().and_then(|quota| quota.parse().ok()).unwrap_or(-1);
            (weight.map(shares_of_weight), quota, read("memory", "memory.max")?.parse().unwrap_or(-1))
        } else {
            let quota = read("cpu", "cpu.cfs_quota_us")?.parse().unwrap_or(-1);
            let memory: i64 = read("memory", "memory.limit_in_bytes")?.parse().unwrap_or(-1);
            // Version 1 shows the largest number of pages where there is no limit.
            let memory = if memory >= i64::MAX & !0xfff_ffff { -1 } else { memory };
            (read("cpu", "cpu.shares")?.parse().ok(), quota, memory)
        };
        Ok(Limits { shares, quota: Some(quota), memory: Some(memory), ..Limits::default() })
    }

    pub(super) fn working_set(&self, group: &str) -> Result<u64, CgroupError> {
        let v2 = self.version() == Version::V2;
        let folder = self.folder(group, "memory").ok_or(CgroupError::Missing)?;
        let path = folder.join(if v2 { "memory.current" } else { "memory.usage_in_bytes" });
        let used: u64 = fs::read_to_string(&path).map_err(failed(&path))?.trim().parse().unwrap_or(0);
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let name = if v2 { "inactive_file " } else { "total_inactive_file " };
        let idle = stat.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
        Ok(used.saturating_sub(idle.unwrap_or(0)))
    }

    pub(super) fn processes(&self, group: &str) -> u64 {
        let path = self.folder(group, "pids").map(|folder| folder.join("pids.current"));
        let text = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    pub(super) fn pids(&self, group: &str) -> Vec<u32> {
        let path = self.folder(group, "cpu").map(|folder| folder.join("cgroup.procs"));
        let text = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub(super) fn counts_swap(&self, group: &str) -> bool {
        let file = if self.version() == Version::V2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        self.folder(group, "memory").is_some_and(|folder| folder.join(file).exists())
    }

    /// The names of the groups right below a group, in any of the hierarchies.
    pub(super) fn children(&self, group: &str) -> Vec<String> {
        let mut found: Vec<String> = self.folders(group).iter().flat_map(|folder| folders_in(folder)).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Puts a process into a group.
    #[cfg(test)]
    pub(super) fn join(&self, group: &str, pid: u32) -> Result<(), CgroupError> {
        for controller in ["cpu", "memory"] {
            let path = self.folder(group, controller).ok_or(CgroupError::Missing)?.join("cgroup.procs");
            fs::write(&path, pid.to_string()).map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// The names of folders in a folder.
pub(super) fn folders_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Sizes of the huge pages that the kernel has.
pub(super) fn page_sizes() -> Vec<u64> {
    let names = folders_in(Path::new(HUGE_PAGES));
    let size = |name: &String| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    names.iter().filter_map(size).map(|kilobytes| kilobytes << 10).collect()
}

/// The hierarchies of a table of mounts: version 1 if it has the controllers of both processors and memory.
fn parse(table: &str) -> Option<Hierarchy> {
    let mut mounts: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut unified = None;
    for line in table.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let Some(path) = head.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut tail = tail.split(' ');
        match (tail.next(), tail.nth(1)) {
            (Some("cgroup"), Some(options)) => {
                let names = options.split(',').filter(|name| !matches!(*name, "rw" | "ro" | "xattr"));
                for name in names {
                    // Of several mounts the one with the shortest path, as the upstream kubelet takes it.
                    let known = mounts.get(name).is_some_and(|known| known.as_os_str().len() <= path.as_os_str().len());
                    if !known {
                        mounts.insert(name.to_owned(), path.clone());
                    }
                }
            }
            (Some("cgroup2"), _) => unified = unified.or(Some(path)),
            _ => {}
        }
    }
    if mounts.contains_key("cpu") && mounts.contains_key("memory") {
        // The runtime makes groups there too.
        mounts.extend(unified.map(|path| ("unified".to_owned(), path)));
        Some(Hierarchy::V1(mounts))
    } else {
        unified.map(Hierarchy::V2)
    }
}

/// Lets the groups below a group be limited.
fn delegate(folder: &Path) -> Result<(), CgroupError> {
    let has = folder.join("cgroup.controllers");
    let has = fs::read_to_string(&has).map_err(failed(&has))?;
    let path = folder.join("cgroup.subtree_control");
    let given = fs::read_to_string(&path).map_err(failed(&path))?;
    let missing = has.split_whitespace().filter(|name| CONTROLLERS.contains(name));
    let missing = missing.filter(|name| !given.split_whitespace().any(|given| given == *name));
    for controller in missing {
        fs::write(&path, format!("+{controller}")).map_err(failed(&path))?;
    }
    Ok(())
}

/// Version 1's groups of processors begin empty, and nothing can join them so.
fn inherit(mount: &Path, group: &str) -> Result<(), CgroupError> {
    let mut folder = mount.to_owned();
    for part in group.split('/').filter(|part| !part.is_empty()) {
        let parent = folder.clone();
        folder.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let path = folder.join(file);
            if fs::read_to_string(&path).map_err(failed(&path))?.trim().is_empty() {
                let above = parent.join(file);
                let value = fs::read_to_string(&above).map_err(failed(&above))?;
                fs::write(&path, value.trim()).map_err(failed(&path))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 25 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755\n\
        31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
        32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n\
        33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct\n\
        34 30 0:30 / /sys/fs/cgroup/memory rw shared:13 - cgroup cgroup rw,memory\n\
        35 30 0:30 / /elsewhere/sys/fs/cgroup/memory rw shared:13 - cgroup cgroup rw,memory\n";
    const V2: &str = "31 30 0:27 / /sys/fs/cgroup rw,nosuid shared:10 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_version_is_that_of_the_controllers() {
        let old = parse(V1).expect("found");
        assert_eq!(old.version(), Version::V1);
        assert_eq!(old.folder("/a/b", "cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/a/b".into()));
        assert_eq!(old.folder("/a", "memory"), Some("/sys/fs/cgroup/memory/a".into()));
        assert_eq!(old.folder("/a", "hugetlb"), None);
        let new = parse(V2).expect("found");
        assert_eq!((new.version(), new.folder("/a", "cpu")), (Version::V2, Some("/sys/fs/cgroup/a".into())));
        assert!(parse("").is_none());
    }

    #[test]
    fn version_2_delegates_its_controllers_and_has_files_of_its_own() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).expect("a file");
        write("cgroup.controllers", "cpu io memory");
        write("cgroup.subtree_control", "memory");
        delegate(root.path()).expect("delegated");
        let given = fs::read_to_string(root.path().join("cgroup.subtree_control")).expect("a file");
        assert_eq!(given, "+cpu", "what is there is not asked for again, and nothing that pods do not need");
        let hierarchy = Hierarchy::V2(root.path().to_owned());
        let limits =
            Limits { shares: Some(1024), quota: Some(50_000), memory: Some(-1), pids: Some(10), huge_pages: None };
        hierarchy.set("/", &limits).expect("set");
        let read = |name: &str| fs::read_to_string(root.path().join(name)).expect("a file");
        assert_eq!(read("cpu.weight"), "39");
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_eq!((read("memory.max"), read("pids.max")), ("max".to_owned(), "10".to_owned()));
        let found = hierarchy.get("/").expect("read");
        assert_eq!((found.shares, found.quota, found.memory), (Some(998), Some(50_000), Some(-1)));
        hierarchy.set("/", &Limits { quota: Some(0), ..Limits::default() }).expect("set");
        assert_eq!(read("cpu.max"), "max 100000");
    }
}
