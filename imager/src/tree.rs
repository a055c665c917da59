//! A file tree with owners, modes and devices that exists in memory only, so that building a root needs no privileges.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Where a regular file's bytes come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes held in memory.
    Bytes(Arc<[u8]>),
    /// A file on the build host, read when the tree is written out.
    File(PathBuf),
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
