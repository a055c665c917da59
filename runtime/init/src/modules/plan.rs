//! Which modules are due, from the three files that the image's builder writes. Nothing here touches the kernel.
//!
//! * The list: `<path>[ <key>=<value>...]`, every module after what it needs. The line `# later` divides it: what follows is
//!   not needed to reach the cluster (container networking, say) and waits until the cluster service runs. What follows the line
//!   `# on demand` waits until it is asked for by its name.
//! * `modules.alias`: `<pattern> <path>`, a pattern of the `MODALIAS` of devices that the module drives.
//! * `modules.dep`: `<path>: <path>...`, what the module needs at once.
//!
//! A module with a pattern is due when such a device is there. One without is due when a module that needs it is, or always
//! if none in the list does: file systems, algorithms and protocols are asked for by the kernel through a modprobe
//! that a node does not have.

use std::collections::HashMap;
use std::path::Path;

use super::glob;
use crate::error::{Error, Result};

/// The lines before the later parts of a list.
const MARKERS: [(&str, Part); 2] = [("# later", Part::Later), ("# on demand", Part::Demand)];

/// The parts of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Part {
    /// Up to the first marker, or everything if there is none.
    First,
    /// What waits until the cluster service runs.
    Later,
    /// What waits to be asked for.
    Demand,
}

/// A module of the list.
#[derive(Debug)]
pub(super) struct Module {
    /// Its file.
    pub(super) path: String,
    /// Parameters, often empty.
    pub(super) parameters: String,
    part: Part,
    /// Indices of what it needs, all before its own.
    needs: Vec<usize>,
    /// Whether another needs it.
    needed: bool,
    /// Whether it drives devices.
    driver: bool,
    wanted: bool,
    taken: bool,
}

/// The modules of an image, and which of them were wanted and taken.
#[derive(Debug)]
pub(super) struct Plan {
    modules: Vec<Module>,
    /// Patterns and the indices of their modules.
    patterns: Vec<(String, usize)>,
}

/// A file's text with its name for errors.
pub(super) struct Source<'a> {
    /// Path of the file.
    pub(super) path: &'a Path,
    /// What is in it.
    pub(super) text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, line: usize, why: &str) -> Error {
        Error::malformed(format!("{}:{}", self.path.display(), line + 1), why)
    }
}

impl Plan {
    /// Reads the three texts.
    pub(super) fn parse(list: &Source<'_>, aliases: &Source<'_>, dependencies: &Source<'_>) -> Result<Self> {
        let mut modules = Vec::new();
        let mut indices = HashMap::new();
        let mut part = Part::First;
        for (number, line) in list.text.lines().enumerate() {
            if let Some((_, of_marker)) = MARKERS.iter().find(|(marker, _)| *marker == line) {
                part = *of_marker;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (path, parameters) = line.split_once(' ').unwrap_or((line, ""));
            if !path.starts_with('/') {
                return Err(list.wrong(number, "does not begin with an absolute path"));
            }
            if indices.insert(path.to_owned(), modules.len()).is_some() {
                return Err(list.wrong(number, "names a module for the second time"));
            }
            modules.push(Module {
                path: path.to_owned(),
                parameters: parameters.trim().to_owned(),
                part,
                needs: Vec::new(),
                needed: false,
                driver: false,
                wanted: false,
                taken: false,
            });
        }
        let find = |source: &Source<'_>, number, path: &str| {
            let unknown = || source.wrong(number, &format!("`{path}` is not in {}", list.path.display()));
            indices.get(path).copied().ok_or_else(unknown)
        };
        let mut patterns = Vec::new();
        for (number, line) in aliases.text.lines().enumerate() {
            let (pattern, path) =
                line.split_once(' ').ok_or_else(|| aliases.wrong(number, "is not `<pattern> <path>`"))?;
            let index = find(aliases, number, path)?;
            modules[index].driver = true;
            patterns.push((pattern.to_owned(), index));
        }
        for (number, line) in dependencies.text.lines().enumerate() {
            let (path, needs) =
                line.split_once(": ").ok_or_else(|| dependencies.wrong(number, "is not `<path>: <path>...`"))?;
            let index = find(dependencies, number, path)?;
            for need in needs.split(' ') {
                let need = find(dependencies, number, need)?;
                if need >= index {
                    return Err(dependencies.wrong(number, "needs a module that comes later in the list"));
                }
                // What may never be asked for is no reason to leave out what is listed for itself.
                modules[need].needed |= modules[index].part < Part::Demand;
                modules[index].needs.push(need);
            }
        }
        Ok(Self { modules, patterns })
    }

    /// Wants what does not depend on devices.
    pub(super) fn want_fixed(&mut self) {
        self.want(|module| !module.driver && !module.needed && module.part < Part::Demand);
    }

    /// Wants the module of this name. False if there is none.
    pub(super) fn want_named(&mut self, name: &str) -> bool {
        let found = self.modules.iter().position(|module| super::name(&module.path) == name);
        found.into_iter().for_each(|index| self.mark(index));
        found.is_some()
    }

    /// Wants everything.
    pub(super) fn want_all(&mut self) {
        self.want(|_| true);
    }

    /// Wants the drivers of a device.
    pub(super) fn want_for(&mut self, modalias: &str) {
        let mut due = Vec::new();
        for (pattern, index) in &self.patterns {
            if !self.modules[*index].wanted && glob::matches(pattern, modalias) {
                due.push(*index);
            }
        }
        due.into_iter().for_each(|index| self.mark(index));
    }

    fn want(&mut self, which: impl Fn(&Module) -> bool) {
        for index in 0..self.modules.len() {
            if which(&self.modules[index]) {
                self.mark(index);
            }
        }
    }

    /// Wants a module and all it needs.
    fn mark(&mut self, index: usize) {
        if !std::mem::replace(&mut self.modules[index].wanted, true) {
            for need in self.modules[index].needs.clone() {
                self.mark(need);
            }
        }
    }

    /// The next module of the parts up to `part` that is wanted and was not taken yet, in the list's order.
    pub(super) fn take(&mut self, part: Part) -> Option<&Module> {
        let module = self.modules.iter_mut().find(|module| module.wanted && !module.taken && module.part <= part)?;
        module.taken = true;
        Some(module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "/m/squashfs.ko\n/m/libphy.ko\n/m/realtek.ko\n/m/r8169.ko\n/m/usbcore.ko x=1\n/m/xhci.ko\n\
                        # later\n/m/llc.ko\n/m/bridge.ko\n/m/thermal.ko\n";
    const ALIASES: &str = "pci:v000010ECd*sv* /m/r8169.ko\npci:v*bc0Csc03i30* /m/xhci.ko\nusb:v*dc09* /m/usbcore.ko\n\
                           of:N*T*Cthermal /m/thermal.ko\n";
    const DEPENDENCIES: &str = "/m/realtek.ko: /m/libphy.ko\n/m/r8169.ko: /m/libphy.ko /m/realtek.ko\n\
                                /m/xhci.ko: /m/usbcore.ko\n/m/bridge.ko: /m/llc.ko\n";

    fn parse(list: &str, aliases: &str, dependencies: &str) -> Result<Plan> {
        let source = |path, text| Source { path: Path::new(path), text };
        Plan::parse(&source("/l", list), &source("/a", aliases), &source("/d", dependencies))
    }

    fn take(plan: &mut Plan, part: Part) -> Vec<String> {
        std::iter::from_fn(|| plan.take(part).map(|m| m.path.trim_start_matches("/m/").replace(".ko", ""))).collect()
    }

    #[test]
    fn a_driver_waits_for_its_device_and_brings_what_it_needs_in_order() {
        let mut plan = parse(LIST, ALIASES, DEPENDENCIES).expect("well-formed");
        plan.want_fixed();
        assert_eq!(take(&mut plan, Part::First), ["squashfs"]);
        plan.want_for("pci:v000010ECd00008168sv0sd0bc02sc00i00");
        assert_eq!(take(&mut plan, Part::First), ["libphy", "realtek", "r8169"]);
        plan.want_for("pci:v00001B36d0000000Dsv0sd0bc0Csc03i30");
        assert_eq!(plan.take(Part::First).map(|m| m.parameters.as_str()), Some("x=1"));
        assert_eq!(plan.take(Part::First).map(|m| m.parameters.as_str()), Some(""));
        plan.want_for("pci:v000010ECd00008168sv0sd0bc02sc00i00");
        assert!(take(&mut plan, Part::First).is_empty(), "nothing is loaded twice");
    }

    #[test]
    fn what_follows_the_marker_comes_later_though_its_device_was_there_before() {
        let mut plan = parse(LIST, ALIASES, DEPENDENCIES).expect("well-formed");
        plan.want_for("of:NthermalTxCthermal");
        plan.want_fixed();
        assert_eq!(take(&mut plan, Part::First), ["squashfs"]);
        assert_eq!(take(&mut plan, Part::Later), ["llc", "bridge", "thermal"]);
    }

    #[test]
    fn what_is_on_demand_waits_to_be_asked_for_and_holds_nothing_else_back() {
        let list = format!("{LIST}# on demand\n/m/udp_tunnel.ko\n/m/wireguard.ko\n");
        let dependencies = format!("{DEPENDENCIES}/m/wireguard.ko: /m/bridge.ko /m/udp_tunnel.ko\n");
        let mut plan = parse(&list, ALIASES, &dependencies).expect("well-formed");
        plan.want_fixed();
        assert_eq!(take(&mut plan, Part::Later), ["squashfs", "llc", "bridge"]);
        assert!(plan.want_named("wireguard") && !plan.want_named("sctp"));
        assert_eq!(take(&mut plan, Part::Demand), ["udp_tunnel", "wireguard"]);
        let mut plan = parse(&list, ALIASES, &dependencies).expect("well-formed");
        assert!(plan.want_named("wireguard"));
        assert_eq!(take(&mut plan, Part::Demand), ["llc", "bridge", "udp_tunnel", "wireguard"]);
    }

    #[test]
    fn everything_is_the_whole_list() {
        let mut plan = parse(LIST, ALIASES, DEPENDENCIES).expect("well-formed");
        plan.want_all();
        assert_eq!(take(&mut plan, Part::First).len(), 6);
        assert_eq!(take(&mut plan, Part::Later).len(), 3);
    }

    #[test]
    fn a_mistake_is_told_with_file_and_line() {
        for (list, aliases, dependencies, expected) in [
            ("m.ko\n", "", "", "/l:1: does not begin with an absolute path"),
            ("/a\n/a x=1\n", "", "", "/l:2: names a module for the second time"),
            ("/a\n", "pci:*\n", "", "/a:1: is not `<pattern> <path>`"),
            ("/a\n", "pci:* /a\npci:* /b\n", "", "/a:2: `/b` is not in /l"),
            ("/a\n", "", "/a /a\n", "/d:1: is not `<path>: <path>...`"),
            ("/a\n", "", "/a: /b\n", "/d:1: `/b` is not in /l"),
            ("/a\n/b\n", "", "/a: /b\n", "/d:1: needs a module that comes later in the list"),
        ] {
            let text = parse(list, aliases, dependencies).expect_err("a mistake").to_string();
            assert_eq!(text, expected);
        }
    }
}
