//! Choosing the kernel modules of an image and the order to load them in.
//!
//! A kernel package has some four thousand modules and no `modules.dep`; a node needs about a hundred. Only the wanted
//! ones and what they depend on are read.
//!
//! The runtime gets three texts, for the initramfs and for the root, each with absolute paths and in the same order:
//! * [`list`], `modules.initramfs` or `modules.load`: `<path>[ <key>=<value>...]`, every module after what it needs;
//! * [`aliases`], `modules.alias`: `<glob> <path>`, the devices that a module drives. A module that is named here is
//!   loaded when such a device is present;
//! * [`dependencies`], `modules.dep`: `<path>: <path>...`, what a module needs at once. One that drives no device and
//!   that another needs is loaded with that one; one that nothing needs is loaded always.

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
    /// Names of the modules it needs loaded before itself; ones that are built in or missing may be among them.
    pub needs: Vec<String>,
    /// Patterns of the `MODALIAS` of the devices it drives; empty for file systems, algorithms, protocols.
    pub devices: Vec<String>,
}

/// The buses whose devices the runtime finds in sysfs, as aliases begin before their colon. Others are names by which
/// the kernel asks a modprobe that a node does not have (`fs-ext4`, `crypto-sha256`, `net-pf-10`), or, as `mdio:` and
/// `cpu:`, belong to devices that sysfs gives no `MODALIAS`: such a module is loaded always.
const BUSES: [&str; 21] = [
    "acpi", "acpi*", "amba", "bcma", "hid", "i2c", "input", "mmc", "of", "pci", "platform", "pnp", "scsi", "sdio",
    "serio", "spi", "ssb", "usb", "virtio", "vmbus", "xen",
];

/// Whether an alias is the pattern of a device's `MODALIAS`.
fn is_device(alias: &str) -> bool {
    alias.split_once(':').is_some_and(|(bus, _)| BUSES.contains(&bus))
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
        let mut plan = Plan { modules: self, done: loaded.iter().map(|l| l.name.clone()).collect(), out: Vec::new() };
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
        let info =
            modinfo::read(&bytes).map_err(|message| RootfsError::BadModule { path: (*path).to_owned(), message })?;
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
        let devices: Vec<String> = info.aliases.into_iter().filter(|alias| is_device(alias)).collect();
        if let Some(alias) = devices.iter().find(|alias| alias.contains(char::is_whitespace)) {
            let message = format!("the alias `{alias}` has a space, which modules.alias cannot hold");
            return Err(RootfsError::BadModule { path: (*path).to_owned(), message });
        }
        self.out.push(Load {
            name: name.to_owned(),
            path: (*path).to_owned(),
            parameters: parameters.to_owned(),
            needs: info.softdep_pre.into_iter().chain(info.depends).collect(),
            devices,
        });
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

/// The text of the root's list: what is loaded at once, what when the cluster service runs already, and what when a part of
/// Kiln asks for it.
pub fn parts([first, later, demand]: [&[Load]; 3]) -> String {
    format!("{}# later\n{}# on demand\n{}", list(first), list(later), list(demand))
}

/// The text of `modules.alias`: what devices the modules of a list drive.
pub fn aliases(loads: &[Load]) -> String {
    let lines =
        loads.iter().flat_map(|load| load.devices.iter().map(move |device| format!("{device} {}\n", load.path)));
    lines.collect()
}

/// The text of `modules.dep`: what the modules of a list need of the same list. What comes later in it, for a cycle of
/// wishes, is left out.
pub fn dependencies(loads: &[Load]) -> String {
    let mut paths: BTreeMap<&str, &str> = BTreeMap::new();
    let mut text = String::new();
    for load in loads {
        let needs: BTreeSet<&str> = load.needs.iter().filter_map(|name| paths.get(name.as_str()).copied()).collect();
        if !needs.is_empty() {
            text.push_str(&load.path);
            text.push(':');
            for path in needs {
                text.push(' ');
                text.push_str(path);
            }
            text.push('\n');
        }
        paths.insert(&load.name, &load.path);
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
        module("net/libphy", &["depends="]);
        module("net/realtek", &["depends=libphy", "alias=mdio:0000000000011100110010??????????"]);
        module("net/r8169", &["depends=libphy", "softdep=pre: realtek", "alias=pci:v000010ECd00008168sv*sd*bc*sc*i*"]);
        module("lib/wisher", &["depends=", "softdep=pre: wished"]);
        module("lib/wished", &["depends=wisher"]);
        module("drivers/sdhost", &["depends=", "alias=platform:sdhost", "alias=of:N*T*Cbrcm,bcm2835-sdhost"]);
        module("drivers/spaced", &["depends=", "alias=platform:a b"]);
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
        assert_eq!(
            names(&["jbd2", "ext4", "br_netfilter"]).expect("all exist"),
            ["jbd2", "crc16", "ext4", "br_netfilter"]
        );
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

    fn loads(wanted: &[&str]) -> Vec<Load> {
        let tree = kernel();
        let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        Modules::index(&tree, "6.1").expect("index").order(&wanted, &[]).expect("all exist")
    }

    #[test]
    fn only_patterns_of_devices_go_to_the_alias_file() {
        assert_eq!(
            aliases(&loads(&["r8169", "sdhost", "ext4"])),
            "pci:v000010ECd00008168sv*sd*bc*sc*i* /usr/lib/modules/6.1/kernel/net/r8169.ko\n\
             platform:sdhost /usr/lib/modules/6.1/kernel/drivers/sdhost.ko\n\
             of:N*T*Cbrcm,bcm2835-sdhost /usr/lib/modules/6.1/kernel/drivers/sdhost.ko\n"
        );
        for name in
            ["fs-ext4", "crypto-sha256", "net-pf-10", "block-major-8-*", "cpu:type:x86", "mdio:0000", "devname:loop"]
        {
            assert!(!is_device(name), "{name}");
        }
        for name in ["acpi*:PNP0C0C:*", "mmc:block", "scsi:t-0x00*", "sdio:c*v02D0d4355*", "virtio:d00000002v*"] {
            assert!(is_device(name), "{name}");
        }
    }

    #[test]
    fn the_dependency_file_has_soft_ones_too_but_nothing_that_is_not_in_the_list() {
        assert_eq!(
            dependencies(&loads(&["r8169", "br_netfilter", "crc16"])),
            "/usr/lib/modules/6.1/kernel/net/realtek.ko: /usr/lib/modules/6.1/kernel/net/libphy.ko\n\
             /usr/lib/modules/6.1/kernel/net/r8169.ko: /usr/lib/modules/6.1/kernel/net/libphy.ko \
             /usr/lib/modules/6.1/kernel/net/realtek.ko\n"
        );
    }

    #[test]
    fn a_cycle_of_wishes_leaves_only_what_can_be_followed() {
        assert_eq!(
            dependencies(&loads(&["wisher"])),
            "/usr/lib/modules/6.1/kernel/lib/wisher.ko: /usr/lib/modules/6.1/kernel/lib/wished.ko\n"
        );
    }

    #[test]
    fn an_alias_that_the_file_cannot_hold_fails_the_build() {
        let text = names(&["spaced"]).expect_err("a space").to_string();
        assert!(text.contains("spaced.ko") && text.contains("`platform:a b`"), "{text}");
    }

    /// A device pattern of some modules that boards list, as their files have it.
    const DRIVERS: [(&str, &str); 16] = [
        ("ahci", "pci:v*d*sv*sd*bc01sc06i01*"),
        ("bcm2835", "of:N*T*Cbrcm,bcm2835-sdhost"),
        ("bcm2835_wdt", "platform:bcm2835-wdt"),
        ("cdc_ether", "usb:v*p*d*dc*dsc*dp*ic02isc06ip00in*"),
        ("dwc2", "of:N*T*Cbrcm,bcm2835-usb"),
        ("evdev", "input:b*v*p*e*-e*k*r*a*m*l*s*f*w*"),
        ("genet", "of:N*T*Cbrcm,bcm2711-genet-v5"),
        ("mmc_block", "mmc:block"),
        ("nvme", "pci:v*d*sv*sd*bc01sc08i02*"),
        ("sd_mod", "scsi:t-0x00*"),
        ("sdhci_iproc", "of:N*T*Cbrcm,bcm2711-emmc2"),
        ("smsc95xx", "usb:v0424pEC00d*dc*dsc*dp*ic*isc*ip*in*"),
        ("usb_storage", "usb:v*p*d*dc*dsc*dp*ic08isc06ip50in*"),
        ("virtio_blk", "virtio:d00000002v*"),
        ("virtio_net", "virtio:d00000001v*"),
        ("xhci_pci", "pci:v*d*sv*sd*bc0Csc03i30*"),
    ];

    #[test]
    fn every_board_loads_file_systems_always_and_drivers_for_their_devices() {
        use crate::profile::{Profile, Request, boards};
        let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for board in boards(&workspace.join("boards")).expect("every board file is right") {
            let request = Request { board: board.name.clone(), ..Request::default() };
            let kernel = Profile::resolve(&workspace, &request).expect("its overlays exist").kernel;
            let lists = [&kernel.initramfs_modules, &kernel.modules, &kernel.later_modules, &kernel.demand_modules];
            let mut tree = Tree::default();
            for entry in lists.iter().flat_map(|list| list.iter()) {
                let name = module_name(entry.trim_start_matches('?').split(' ').next().unwrap_or(entry));
                let mut entries = vec!["depends=".to_owned(), format!("alias=fs-{name}")];
                entries.extend(DRIVERS.iter().filter(|d| d.0 == name).map(|d| format!("alias={}", d.1)));
                let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
                tree.file(&format!("/usr/lib/modules/6.1/kernel/{name}.ko"), 0o644, object(&entries));
            }
            let modules = Modules::index(&tree, "6.1").expect("index");
            let early = modules.order(&kernel.initramfs_modules, &[]).expect("all exist");
            let (listed, driven) = (list(&early), aliases(&early));
            for name in ["loop", "squashfs", "dm_verity", "vfat"] {
                let path = format!("/{name}.ko\n");
                assert!(listed.contains(&path) && !driven.contains(&path), "{}: {name}", board.name);
            }
            let disks = ["bcm2835", "sdhci_iproc", "virtio_blk"];
            assert!(disks.iter().any(|name| driven.contains(&format!("/{name}.ko\n"))), "{}: {driven}", board.name);
            let soon = aliases(&modules.order(&kernel.modules, &early).expect("all exist"));
            let networks = ["cdc_ether", "virtio_net"];
            assert!(networks.iter().any(|name| soon.contains(&format!("/{name}.ko\n"))), "{}: {soon}", board.name);
        }
    }
}
