//! Files and folders of the node that pods see.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::dirs::make;

/// Checks that a path is of the type that the pod asks for, and makes it if it may.
pub(crate) fn check(path: &Path, kind: &str) -> Result<(), String> {
    let meta = fs::metadata(path);
    let is_there = meta.is_ok();
    let file_type = meta.ok().map(|meta| meta.file_type());
    let fails = |what: &str| Err(format!("hostPath type check failed: {} is not a {what}", path.display()));
    let is = |wanted: bool, what: &str| if wanted { Ok(()) } else { fails(what) };
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if !is_there => make(path, 0o755).map_err(|error| failed("mkdir", path, &error)),
        "DirectoryOrCreate" | "Directory" => is(file_type.is_some_and(|kind| kind.is_dir()), "directory"),
        "FileOrCreate" if !is_there => {
            let made = OpenOptions::new().create(true).append(true).mode(0o644).open(path);
            made.map(drop).map_err(|error| failed("open", path, &error))
        }
        "FileOrCreate" | "File" => is(file_type.is_some_and(|kind| kind.is_file()), "file"),
        "Socket" => is(file_type.is_some_and(|kind| kind.is_socket()), "socket file"),
        "CharDevice" => is(file_type.is_some_and(|kind| kind.is_char_device()), "character device"),
        "BlockDevice" => is(file_type.is_some_and(|kind| kind.is_block_device()), "block device"),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

/// Makes the folder of a volume that the cluster provisioned on this node: any user of the pod may write into it.
pub(crate) fn make_provisioned(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    make(path, 0o755)?;
    fs::set_permissions(path, Permissions::from_mode(0o777))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> String {
    format!("{what} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn each_type_is_checked_and_what_may_be_made_is_made() {
        let root = tempfile::tempdir().expect("a folder");
        let place = |name: &str| root.path().join(name);
        fs::create_dir(place("dir")).expect("a folder");
        fs::write(place("file"), "x").expect("a file");
        let _socket = UnixListener::bind(place("socket")).expect("a socket");
        let rows = [
            ("nothing", "", None),
            ("dir", "Directory", None),
            ("file", "Directory", Some("directory")),
            ("nothing", "Directory", Some("directory")),
            ("new/dir", "DirectoryOrCreate", None),
            ("new/dir", "Directory", None),
            ("file", "DirectoryOrCreate", Some("directory")),
            ("file", "File", None),
            ("dir", "File", Some("file")),
            ("new/file", "FileOrCreate", None),
            ("new/file", "File", None),
            ("dir", "FileOrCreate", Some("file")),
            ("socket", "Socket", None),
            ("file", "Socket", Some("socket file")),
            ("file", "CharDevice", Some("character device")),
            ("file", "BlockDevice", Some("block device")),
        ];
        for (name, kind, fault) in rows {
            let path = place(name);
            let expected = match fault {
                Some(what) => Err(format!("hostPath type check failed: {} is not a {what}", path.display())),
                None => Ok(()),
            };
            assert_eq!(check(&path, kind), expected, "{name} as {kind}");
        }
        assert_eq!(check(Path::new("/dev/null"), "CharDevice"), Ok(()));
        assert_eq!(fs::read(place("file")).expect("a file"), b"x");
    }
}
