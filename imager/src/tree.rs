//! A file tree with owners, modes and devices that exists in memory only, so that building a root needs no privileges.

use std::{borrow::Cow, collections::BTreeMap, fs, io, path::PathBuf, sync::Arc};

/// Where a regular file's bytes come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes held in memory.
    Bytes(Arc<[u8]>),
    /// A file on the build host, read when the tree is written out.
    File(PathBuf),
}

impl Content {
    /// The bytes, read from the host if they are there.
    ///
    /// # Errors
    /// The host's file cannot be read; the message names it.
    pub fn read(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Content::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Content::File(path) => match fs::read(path) {
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
            },
        }
    }

    /// The number of bytes.
    ///
    /// # Errors
    /// As [`Content::read`].
    pub fn len(&self) -> io::Result<u64> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
            Content::File(path) => match fs::metadata(path) {
                Ok(meta) => Ok(meta.len()),
                Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
            },
        }
    }

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// As [`Content::read`].
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Bytes(bytes.into())
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Content::Bytes(text.as_bytes().into())
    }
}

/// What a node of the tree is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target, as written.
    Symlink(String),
    /// A character device: major, minor.
    CharDevice(u32, u32),
}

/// One node: what it is, and whose.
#[derive(Clone, Debug)]
pub struct Node {
    /// What the node is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky (at most `0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A tree, keyed by absolute path without a trailing slash (`/usr/bin/kiln`); the root itself is implied.
///
/// Sorted, so that everything written from it has one order.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Path to node.
    pub nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Puts a directory of root's at `path`, unless one is there already.
    pub fn directory(&mut self, path: &str, mode: u32) {
        match self.nodes.get(path) {
            Some(Node { kind: Kind::Directory, .. }) => {}
            _ => self.put(path, Kind::Directory, mode),
        }
    }

    /// Puts a file of root's at `path`, over what was there.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Content>) {
        self.put(path, Kind::File(content.into()), mode);
    }

    /// Puts a symbolic link at `path`, over what was there.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.put(path, Kind::Symlink(target.to_owned()), 0o777);
    }

    /// Puts a node of root's at `path`.
    fn put(&mut self, path: &str, kind: Kind, mode: u32) {
        self.nodes.insert(path.to_owned(), Node { kind, mode, uid: 0, gid: 0 });
    }

    /// The content of the regular file at `path`.
    pub fn content(&self, path: &str) -> Option<&Content> {
        match self.nodes.get(path) {
            Some(Node { kind: Kind::File(content), .. }) => Some(content),
            _ => None,
        }
    }

    /// Lays `other` over this tree; a directory that exists keeps its owner and mode.
    pub fn overlay(&mut self, other: Tree) {
        for (path, node) in other.nodes {
            match node.kind {
                Kind::Directory if matches!(self.nodes.get(&path), Some(Node { kind: Kind::Directory, .. })) => {}
                _ => {
                    self.nodes.insert(path, node);
                }
            }
        }
    }

    /// Adds every parent directory that no node provides, as root's with mode 755.
    pub fn add_parents(&mut self) {
        let mut missing = Vec::new();
        for path in self.nodes.keys() {
            let mut rest = path.as_str();
            while let Some((parent, _)) = rest.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
                if !self.nodes.contains_key(parent) {
                    missing.push(parent.to_owned());
                }
                rest = parent;
            }
        }
        for path in missing {
            self.directory(&path, 0o755);
        }
    }

    /// Paths with `prefix`, which is a directory's with its trailing slash.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        self.nodes
            .range(prefix.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(prefix))
            .map(|(path, node)| (path.as_str(), node))
    }
}
