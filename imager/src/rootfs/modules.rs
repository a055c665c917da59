//! Choosing the kernel modules of an image and the order to load them in.
//!
//! A kernel package has some four thousand modules and no `modules.dep`; a node needs about a hundred. Only the wanted
//! ones and what they depend on are read.

use std::collections::{BTreeMap, BTreeSet};

use super::{RootfsError, modinfo, modinfo::module_name};
use crate::tree::Tree;

/// The modules of one kernel package.
#[derive(Debug)]
pub struct Modules<'a> {
    tree: &'a Tree,
    version: &'a str,
    /// Module name to path in the tree.
    files: BTreeMap<String, &'a str>,
    /// Modules compiled into the kernel.
    built_in: BTreeSet<String>,
}

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The module's name.
    pub name: String,
    /// Its absolute path, the same in package and image.
    pub path: String,
    /// Parameters, `key=value` separated by spaces; often empty.
    pub parameters: String,
}

impl<'a> Modules<'a> {
    /// Indexes the modules of kernel `version` in an unpacked kernel package.
    ///
    /// # Errors
    /// The list of built-in modules cannot be read.
    pub fn index(tree: &'a Tree, version: &'a str) -> Result<Self, RootfsError> {
        let directory = format!("/usr/lib/modules/{version}/");
        let mut files = BTreeMap::new();
        for (path, _) in tree.nodes.range(directory.clone()..).take_while(|(path, _)| path.starts_with(&directory)) {
            let file = path.rsplit('/').next().unwrap_or(path);
            if let Some((stem, "ko" | "ko.xz" | "ko.zst")) = file.split_once('.') {
                files.insert(module_name(stem), path.as_str());
            }
        }
        let list = format!("{directory}modules.builtin");
        let mut built_in = BTreeSet::new();
        if let Some(content) = tree.content(&list) {
            let bytes = content.read().map_err(|source| RootfsError::Read { path: list, source })?;
            for line in String::from_utf8_lossy(&bytes).lines() {
                let file = line.rsplit('/').next().unwrap_or(line);
                built_in.insert(module_name(file.strip_suffix(".ko").unwrap_or(file)));
            }
        }
        Ok(Modules { tree, version, files, built_in })
    }

    /// The modules to load for `wanted`, each after everything it depends on, without those in `loaded`.
    ///
    /// # Errors
    /// [`RootfsError::NoModule`] for a name the kernel has neither as a file nor built in, unless it starts with `?`.
    pub fn order(&self, wanted: &[String], loaded: &[Load]) -> Result<Vec<Load>, RootfsError> {
        let mut plan = Plan {
            modules: self,
            done: loaded.iter().map(|l| l.name.clone()).collect(),
            out: Vec::new(),
        };
        for entry in wanted {
            let (name, parameters) = entry.split_once(' ').unwrap_or((entry, ""));
            let (name, optional) = match name.strip_prefix('?') {
                Some(name) => (name, true),
                None => (name, false),
            };
            let name = module_name(name);
            if !plan.add(&name, parameters)? && !optional {
                return Err(RootfsError::NoModule { name, version: self.version.to_owned(), needed_by: None });
            }
        }
        Ok(plan.out)
    }
}

struct Plan<'a> {
    modules: &'a Modules<'a>,
    /// Modules that are loaded by then, or on the way to be: a cycle of soft dependencies ends here.
    done: BTreeSet<String>,
    out: Vec<Load>,
}

impl Plan<'_> {
    /// Adds a module after its dependencies; false if the kernel does not have it at all.
    fn add(&mut self, name: &str, parameters: &str) -> Result<bool, RootfsError> {
        let modules = self.modules;
        if self.done.contains(name) || modules.built_in.contains(name) {
            return Ok(true);
        }
        let Some(path) = modules.files.get(name) else { return Ok(false) };
        self.done.insert(name.to_owned());
        let read = |source| RootfsError::Read { path: (*path).to_owned(), source };
        let bytes = modules.tree.content(path).map(|c| c.read()).transpose().map_err(read)?.unwrap_or_default();
        let info = modinfo::read(&bytes)
            .map_err(|message| RootfsError::BadModule { path: (*path).to_owned(), message })?;
        for dependency in &info.softdep_pre {
            // A soft dependency is a wish, and may name an alias that nothing here provides.
            self.add(dependency, "")?;
        }
        for dependency in &info.depends {
            if !self.add(dependency, "")? {
                return Err(RootfsError::NoModule {
                    name: dependency.clone(),
                    version: modules.version.to_owned(),
                    needed_by: Some(name.to_owned()),
                });
            }
        }
        self.out.push(Load { name: name.to_owned(), path: (*path).to_owned(), parameters: parameters.to_owned() });
        Ok(true)
    }
}

/// The text of a module list that the runtime reads: a path a line, parameters after a space.
pub fn list(loads: &[Load]) -> String {
    let mut text = String::new();
    for load in loads {
        text.push_str(&load.path);
        if !load.parameters.is_empty() {
            text.push(' ');
            text.push_str(&load.parameters);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::modinfo::tests::object;

    fn kernel() -> Tree {
        let mut tree = Tree::default();
        let mut module = |path: &str, entries: &[&str]| {
            tree.file(&format!("/usr/lib/modules/6.1/kernel/{path}.ko"), 0o644, object(entries));
        };
        module("fs/ext4/ext4", &["depends=jbd2,crc16"]);
        module("fs/jbd2/jbd2", &["depends="]);
        module("lib/crc16", &["depends=", "softdep=pre: absent"]);
        module("net/br-netfilter", &["depends=bridge"]);
        module("net/broken", &["depends=gone"]);
        tree.file("/usr/lib/modules/6.1/modules.builtin", 0o644, "kernel/net/bridge.ko\n");
        tree
    }

    fn names(wanted: &[&str]) -> Result<Vec<String>, RootfsError> {
        let tree = kernel();
        let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        Ok(Modules::index(&tree, "6.1")?.order(&wanted, &[])?.into_iter().map(|l| l.name).collect())
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on_and_only_once() {
        assert_eq!(names(&["jbd2", "ext4", "br_netfilter"]).expect("all exist"), ["jbd2", "crc16", "ext4", "br_netfilter"]);
    }

    #[test]
    fn a_missing_module_is_named_with_what_needs_it() {
        let text = names(&["vxlan"]).expect_err("no such module").to_string();
        assert!(text.contains("vxlan"), "{text}");
        let text = names(&["broken"]).expect_err("a dependency is missing").to_string();
        assert!(text.contains("gone") && text.contains("broken"), "{text}");
    }

    #[test]
    fn an_optional_module_may_be_missing() {
        assert_eq!(names(&["?crc32c_generic", "crc16"]).expect("optional"), ["crc16"]);
    }

    #[test]
    fn what_the_initramfs_loaded_is_not_loaded_again_and_parameters_are_kept() {
        let tree = kernel();
        let modules = Modules::index(&tree, "6.1").expect("index");
        let first = modules.order(&["jbd2".into()], &[]).expect("order");
        let second = modules.order(&["ext4 debug=1".into()], &first).expect("order");
        assert_eq!(
            list(&second),
            "/usr/lib/modules/6.1/kernel/lib/crc16.ko\n/usr/lib/modules/6.1/kernel/fs/ext4/ext4.ko debug=1\n"
        );
    }
}
