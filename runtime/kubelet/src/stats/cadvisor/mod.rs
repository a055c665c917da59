//! `/metrics/cadvisor`: what dashboards know by cAdvisor's names.
//!
//! In come the control groups of this machine, those of all pods, of their classes, of pods and of their containers, each of their
//! files read once; out goes a table of series (`series`). What containers have written to their own layers is the runtime's to
//! say, and asked for once a minute at most.

mod process;
mod series;

use std::collections::HashMap;
use std::path::Path;

use k8s_openapi::api::core::v1::ContainerStatus;

use super::disks::Disks;
use super::metrics::{now, started, statuses};
use super::node::{FileSystem, Machine, Topology};
use super::text::Text;
use crate::cgroups::{Cgroups, Figures};
use crate::machine::Facts;
use crate::pods::is_host_network;
use crate::server::{ContainerView, PodView};
use process::{Interface, Processes};
use series::{Of, SERIES};

/// A folder of each processor.
const CPUS: &str = "/sys/devices/system/cpu";

/// A group as cAdvisor's labels tell it. Those above pods have nothing but their id, pods' have no container either.
#[derive(Debug, Clone, Default)]
struct Labels {
    container: String,
    id: String,
    image: String,
    name: String,
    namespace: String,
    pod: String,
}

impl Labels {
    /// With those of the series, in the order of their names.
    fn with<'b>(&'b self, own: &[(&'b str, &'b str)]) -> Vec<(&'b str, &'b str)> {
        let mut all = vec![
            ("container", self.container.as_str()),
            ("id", &self.id),
            ("image", &self.image),
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("pod", &self.pod),
        ];
        all.extend_from_slice(own);
        all.sort_unstable();
        all
    }
}

/// A group that is shown.
#[derive(Debug, Default)]
struct Group {
    labels: Labels,
    /// When it was read, in milliseconds since 1970.
    at: i64,
    figures: Figures,
    /// Of containers.
    processes: Option<Processes>,
    /// Of sandboxes and of the machine.
    interfaces: Vec<Interface>,
    /// Bytes in a container's own layer.
    layer: Option<u64>,
    /// The node's disk, and how it is called.
    disk: Option<(String, FileSystem)>,
    /// When it started, in seconds since 1970.
    started: Option<f64>,
}

/// The text. Nothing but the machine is in it, if the kernel has no control groups.
pub(crate) async fn cadvisor(disks: &Disks, pods: Vec<PodView>, facts: Facts) -> String {
    let (cgroups, layers) = (disks.cgroups().cloned(), disks.layers().await);
    let disk = disks.own().map(|found| (disks.numbers().map(process::disk).unwrap_or_default(), found));
    let written = tokio::task::spawn_blocking(move || {
        let mut groups =
            cgroups.map(|cgroups| Reader { cgroups: &cgroups, layers: &layers }.all(&pods)).unwrap_or_default();
        if let Some(machine) = groups.first_mut() {
            machine.disk = disk;
        }
        let mut text = Text::default();
        write(&mut text, &groups);
        write_machine(&mut text, &facts);
        text.0
    });
    written.await.unwrap_or_default()
}

struct Reader<'a> {
    cgroups: &'a Cgroups,
    /// Bytes in containers' layers, by the runtime's ids.
    layers: &'a HashMap<String, u64>,
}

impl Reader<'_> {
    fn all(&self, pods: &[PodView]) -> Vec<Group> {
        let mut groups = vec![self.machine()];
        groups.extend(self.cgroups.classes().iter().filter_map(|class| self.group(class, Labels::default())));
        let found = self.cgroups.pods();
        let pods = pods.iter().filter_map(|view| Some((view, found.get(view.uid())?)));
        for (view, path) in pods {
            let of = Labels { namespace: view.namespace().into(), pod: view.name().into(), ..Labels::default() };
            groups.extend(self.group(path, of.clone()));
            groups.extend(view.sandbox.as_ref().and_then(|id| self.sandbox(view, path, id, of.clone())));
            let running = view.containers.iter().filter(|container| container.running);
            groups.extend(running.filter_map(|container| self.container(view, path, container, of.clone())));
        }
        groups
    }

    fn group(&self, path: &str, labels: Labels) -> Option<Group> {
        let figures = self.cgroups.has(path).then(|| self.cgroups.figures(path))?;
        let started = figures.made.map(|made| made as f64);
        let labels = Labels { id: path.to_owned(), ..labels };
        Some(Group { labels, at: now(), figures, started, ..Group::default() })
    }

    /// The group above all others, of which the kernel tells less than of the machine.
    fn machine(&self) -> Group {
        let machine = Machine::read();
        let figures = Figures {
            cpu: Some(machine.cpu),
            memory: Some(machine.total.saturating_sub(machine.free)),
            inactive_file: Some(machine.available.saturating_sub(machine.free)),
            rss: Some(machine.rss),
            swap: Some(machine.swap_total.saturating_sub(machine.swap_free)),
            memory_limit: Some(machine.total),
            ..self.cgroups.figures("/")
        };
        Group {
            labels: Labels { id: "/".to_owned(), ..Labels::default() },
            at: now(),
            figures,
            interfaces: process::interfaces("self"),
            started: Some(machine.booted as f64),
            ..Group::default()
        }
    }

    /// The sandbox, which has the pod's network. That of the machine is told as the machine's.
    fn sandbox(&self, view: &PodView, pod: &str, id: &str, of: Labels) -> Option<Group> {
        let group = self.group(&format!("{pod}/{id}"), Labels { name: id.to_owned(), ..of })?;
        let pids = self.cgroups.pids(&group.labels.id);
        let first = pids.first().filter(|_| !is_host_network(&view.pod));
        let interfaces = first.map(|pid| process::interfaces(&pid.to_string())).unwrap_or_default();
        Some(Group { interfaces, processes: Some(Processes::of(&pids)), ..group })
    }

    fn container(&self, view: &PodView, pod: &str, container: &ContainerView, of: Labels) -> Option<Group> {
        let (id, name) = (&container.id, &container.name);
        let status: Option<&ContainerStatus> = statuses(view).find(|status| status.name == *name);
        let image = status.map(|status| status.image.clone()).unwrap_or_default();
        let labels = Labels { container: name.clone(), image, name: id.clone(), ..of };
        let group = self.group(&format!("{pod}/{id}"), labels)?;
        let told = started(view).find(|(container, _)| container == name).map(|(_, started)| started);
        Some(Group {
            processes: Some(Processes::of(&self.cgroups.pids(&group.labels.id))),
            layer: self.layers.get(id).copied(),
            started: told.or(group.started),
            ..group
        })
    }
}

/// All series of all groups; rows of one name follow each other.
fn write(text: &mut Text, groups: &[Group]) {
    let mut names: HashMap<(u32, u32), String> = HashMap::new();
    for numbers in groups.iter().flat_map(|group| group.figures.disks.keys()) {
        names.entry(*numbers).or_insert_with(|| process::disk(*numbers));
    }
    let mut last = "";
    for series in SERIES {
        if series.name != last {
            text.family(series.name, series.help, series.kind);
            last = series.name;
        }
        for (group, own) in groups.iter().flat_map(|group| series.rows.iter().map(move |own| (group, own))) {
            let time = if series.is_timed { group.at } else { 0 };
            let mut sample =
                |own: &[(&str, &str)], value: f64| text.sample(series.name, &group.labels.with(own), value, time);
            match series.of {
                Of::Figures(of) => _ = of(&group.figures).map(|value| sample(own, value)),
                Of::Group(of) => _ = of(group).map(|value| sample(own, value)),
                Of::Processes(of) => _ = group.processes.as_ref().map(|processes| sample(own, of(processes) as f64)),
                Of::FileSystem(of) => {
                    _ = group.disk.as_ref().map(|(device, disk)| sample(&[("device", device)], of(disk) as f64));
                }
                Of::Disks(of) => {
                    for (numbers, io) in &group.figures.disks {
                        sample(&[("device", names.get(numbers).map_or("", String::as_str))], of(io) as f64);
                    }
                }
                Of::Interfaces(of) => {
                    for interface in &group.interfaces {
                        sample(&[("interface", &interface.name)], of(interface) as f64);
                    }
                }
            }
        }
    }
}

/// What is known of the whole machine.
fn write_machine(text: &mut Text, facts: &Facts) {
    let labels = [
        ("boot_id", facts.boot_id.as_str()),
        ("machine_id", facts.machine_id.as_str()),
        ("system_uuid", facts.system_uuid.as_str()),
    ];
    let (machine, topology) = (Machine::read(), Topology::read(Path::new(CPUS)));
    let rows = [
        ("machine_cpu_cores", "Processors that are on.", u64::from(facts.cpus)),
        ("machine_cpu_physical_cores", "Cores, of which each may be several processors.", topology.cores),
        ("machine_cpu_sockets", "Packages of cores.", topology.sockets),
        ("machine_memory_bytes", "Memory, in bytes.", machine.total),
        ("machine_swap_bytes", "Room for memory on disks, in bytes.", machine.swap_total),
    ];
    for (name, help, value) in rows {
        text.family(name, help, "gauge");
        text.sample(name, &labels, value as f64, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::cgroups::testing::{Recorded, V1, V2, recorded};

    fn view() -> PodView {
        let pod = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u1"}, "spec": {"containers": [{"name": "main"}]},
            "status": {"containerStatuses": [{"name": "main", "image": "docker.io/library/app:1", "imageID": "", "ready": true,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}});
        let container =
            |id: &str, running| ContainerView { id: id.into(), name: "main".into(), running, log: "".into() };
        PodView {
            pod: Arc::new(serde_json::from_value(pod).expect("a pod")),
            status: None,
            sandbox: Some("box".to_owned()),
            containers: vec![container("new", true), container("old", false)],
        }
    }

    /// What a tree of recorded groups is written as, less the times of samples.
    fn written(files: &[Recorded], folder: &str) -> Vec<String> {
        let root = tempfile::tempdir().expect("a folder");
        let pod = "kubepods/besteffort/podu1";
        let groups = [
            "kubepods",
            "kubepods/besteffort",
            pod,
            &format!("{pod}/box"),
            &format!("{pod}/new"),
            &format!("{pod}/old"),
        ];
        let [.., cgroups] = groups.map(|group| recorded(root.path(), group, files));
        let procs = root.path().join(folder).join(pod).join("box/cgroup.procs");
        std::fs::write(procs, format!("{}\n", std::process::id())).expect("a file");
        let layers = [("new".to_owned(), 77)].into();
        let mut text = Text::default();
        write(&mut text, &Reader { cgroups: &cgroups, layers: &layers }.all(&[view()]));
        text.0
            .lines()
            .map(|line| {
                line.rsplit_once("} ").map_or(line.to_owned(), |(series, rest)| {
                    format!("{series}}} {}", rest.split(' ').next().unwrap_or_default())
                })
            })
            .collect()
    }

    #[test]
    fn classes_pods_sandboxes_and_containers_have_their_labels_and_figures() {
        for (files, folder) in [(&V1[..], "cpu"), (&V2[..], "")] {
            let lines = written(files, folder);
            let of = |name: &str, container: &str, own: &str, id: &str, image: &str, pod: &str| {
                let (namespace, pod) = if pod.is_empty() { ("", "") } else { ("ns", pod) };
                let runtime = if pod.is_empty() || id.ends_with("podu1") { "" } else { &id[id.len() - 3..] };
                format!(
                    "{name}{{container=\"{container}\",{own}id=\"{id}\",image=\"{image}\",name=\"{runtime}\",namespace=\"{namespace}\",pod=\"{pod}\"}}"
                )
            };
            let (class, pod) = ("/kubepods/besteffort", "/kubepods/besteffort/podu1");
            let (sandbox, container, image) = (&format!("{pod}/box"), &format!("{pod}/new"), "docker.io/library/app:1");
            let device = format!("device=\"{}\",", process::disk((8, 0)));
            let rows = [
                (of("container_memory_working_set_bytes", "", "", class, "", ""), "15728640"),
                (of("container_memory_working_set_bytes", "", "", pod, "", "web"), "15728640"),
                (of("container_memory_working_set_bytes", "", "", sandbox, "", "web"), "15728640"),
                (of("container_memory_working_set_bytes", "main", "", container, image, "web"), "15728640"),
                (of("container_cpu_usage_seconds_total", "main", "cpu=\"total\",", container, image, "web"), "5"),
                (of("container_cpu_cfs_throttled_seconds_total", "main", "", container, image, "web"), "1.5"),
                (of("container_fs_usage_bytes", "main", "device=\"\",", container, image, "web"), "77"),
                (of("container_fs_reads_bytes_total", "main", &device, container, image, "web"), "4096"),
                (of("container_processes", "", "", sandbox, "", "web"), "1"),
                (of("container_spec_memory_limit_bytes", "main", "", container, image, "web"), "67108864"),
                (of("container_start_time_seconds", "main", "", container, image, "web"), "1767225600"),
            ];
            for (series, value) in rows {
                assert!(lines.contains(&format!("{series} {value}")), "{series} {value}\n{}", lines.join("\n"));
            }
            assert!(!lines.iter().any(|line| line.contains("podu1/old")), "it does not run");
            let pressure = lines.iter().filter(|line| line.starts_with("container_pressure_")).count();
            assert_eq!(pressure > 0, folder.is_empty(), "version 1 does not count it");
        }
    }

    #[test]
    fn no_series_and_no_name_is_there_twice() {
        let lines = written(&V2, "");
        let mut seen = std::collections::HashSet::new();
        for line in &lines {
            let series = line.rsplit_once("} ").map_or(line.as_str(), |(series, _)| series);
            assert!(seen.insert(series), "{line}");
        }
    }
}
