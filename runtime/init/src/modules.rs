//! Kernel modules, loaded from a list in dependency order: no modprobe, no modules.dep, no guessing.
//!
//! A list may hold the line `# later`: what follows is not needed to reach the cluster (container networking, say) and is
//! loaded when the cluster service runs already. Unpacking a hundred modules takes a small board seconds.

use std::ffi::CString;
use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::console::say;
use crate::error::{Error, Result};

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the .ko.xz itself.
const COMPRESSED: i32 = 4;

/// The line between the two parts of a list.
const MARKER: &str = "# later";

/// The parts of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Up to the marker, or everything if there is none.
    First,
    /// What follows the marker.
    Later,
}

/// One line of a module list: a path and, after a space, parameters.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    path: &'a str,
    parameters: &'a str,
}

fn parse(text: &str, part: Part) -> impl Iterator<Item = Entry<'_>> {
    let mut passed = false;
    text.lines()
        .map(str::trim)
        .filter(move |line| {
            passed |= *line == MARKER;
            passed == (part == Part::Later)
        })
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|line| {
            let (path, parameters) = line.split_once(' ').unwrap_or((line, ""));
            Entry { path, parameters: parameters.trim() }
        })
}

/// Loads every module of a part of a list. One that fails is told on the console and does not stop the rest: what really needs
/// it will say so itself. Returns how many were loaded and the failures; a module whose hardware is not there counts
/// as neither.
pub(crate) fn load_list(list: &str, part: Part) -> Result<(usize, Vec<String>)> {
    let text = std::fs::read_to_string(list).map_err(|e| Error::io("read", list, e))?;
    let mut loaded = 0;
    let mut failures = Vec::new();
    for entry in parse(&text, part) {
        match load(&entry) {
            Ok(()) => loaded += 1,
            Err(Errno::EEXIST | Errno::ENODEV) => {}
            Err(errno) => {
                let failure = format!("module {}: {}", entry.path, reason(errno, entry.path));
                say!("{failure}");
                failures.push(failure);
            }
        }
    }
    Ok((loaded, failures))
}

/// The kernel's answer in words. For a file that is there, ENOENT is about what the module refers to.
fn reason(errno: Errno, path: &str) -> &'static str {
    match errno {
        Errno::ENOENT if Path::new(path).exists() => {
            "needs a symbol or algorithm of a module that is not loaded before it"
        }
        other => other.desc(),
    }
}

fn load(entry: &Entry<'_>) -> std::result::Result<(), Errno> {
    let file = File::open(entry.path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let parameters = CString::new(entry.parameters).map_err(|_| Errno::EINVAL)?;
    let compressed = Path::new(entry.path).extension().is_some_and(|e| e != "ko");
    let flags = if compressed { ModuleInitFlags::from_bits_retain(COMPRESSED as _) } else { ModuleInitFlags::empty() };
    finit_module(file, &parameters, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_paths_with_optional_parameters() {
        let text = "/lib/modules/6/a.ko.xz\n\n# why\n/lib/modules/6/b.ko.xz nowayout=1 x=2\n";
        let entries: Vec<_> = parse(text, Part::First).collect();
        assert_eq!(
            entries,
            [
                Entry { path: "/lib/modules/6/a.ko.xz", parameters: "" },
                Entry { path: "/lib/modules/6/b.ko.xz", parameters: "nowayout=1 x=2" }
            ]
        );
    }
    #[test]
    fn what_follows_the_marker_comes_later() {
        let names = |text, part| parse(text, part).map(|e| e.path).collect::<Vec<_>>();
        assert_eq!(names("a\n# later\nb\nc\n", Part::First), ["a"]);
        assert_eq!(names("a\n# later\nb\nc\n", Part::Later), ["b", "c"]);
        assert_eq!(names("a\nb\n", Part::First), ["a", "b"]);
        assert!(names("a\nb\n", Part::Later).is_empty());
    }
}
