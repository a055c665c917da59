//! Kubernetes' own form: `/stats/summary`.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::disks::Disks;
use super::node::{FileSystem, Machine};
use super::usage::{self, ContainerUsage, PodUsage};
use super::volumes::{Room, Rooms};
use crate::cri::{CriError, NetworkUsage, Runtime, UInt64Value};
use crate::eviction::{self, DiskUsage};
use crate::server::PodView;
use crate::volumes::VolumeAt;

/// The summary of the node and its pods; `only` leaves out all but CPU and memory.
pub(crate) async fn summary(
    runtime: &Runtime,
    disks: &Disks,
    pods: &[PodView],
    volumes: Vec<VolumeAt>,
    node_name: &str,
    only: bool,
) -> Result<Value, CriError> {
    let usage = usage::all(runtime).await?;
    let now = Timestamp::now().to_string();
    let machine = Machine::read();
    let booted = Timestamp::from_second(i64::try_from(machine.booted).unwrap_or_default()).unwrap_or_default();
    let mut node = json!({
        "nodeName": node_name,
        "startTime": booted.to_string(),
        "cpu": {"time": now, "usageCoreNanoSeconds": machine.cpu},
        "memory": {
            "time": now, "availableBytes": machine.available, "usageBytes": machine.total.saturating_sub(machine.free),
            "workingSetBytes": machine.working_set(), "rssBytes": machine.rss,
        },
        "swap": {
            "time": now, "swapAvailableBytes": machine.swap_free,
            "swapUsageBytes": machine.swap_total.saturating_sub(machine.swap_free),
        },
    });
    let mut disk = None;
    if !only {
        let fs = disks.own();
        if let Some(fs) = &fs {
            node["fs"] = file_system(fs, &now, None);
        }
        if let Some((fs, images, containers)) = disks.images().await {
            let (images, containers) = (file_system(&fs, &now, Some(images)), file_system(&fs, &now, Some(containers)));
            node["runtime"] = json!({"imageFs": images, "containerFs": containers});
        }
        node["rlimit"] = json!({"time": now, "maxpid": machine.most_processes, "curproc": machine.processes});
        disk = fs;
    }
    let (measured, rooms) = match only {
        true => (Arc::default(), Arc::default()),
        false => tokio::join!(disks.measured(pods), disks.rooms(volumes)),
    };
    let of = |view: &PodView| {
        let (_, usage) = usage.iter().find(|(pod, _)| pod.uid == view.uid())?;
        let disk = disk.as_ref().map(|fs| Disk { fs, measured: measured.get(view.uid()), rooms: &rooms });
        Some(pod(view, usage, &now, disk.as_ref()))
    };
    Ok(json!({"node": node, "pods": pods.iter().filter_map(of).collect::<Vec<Value>>()}))
}

/// The node's disk, what a pod has on it, and volumes of all pods that are elsewhere.
struct Disk<'a> {
    fs: &'a FileSystem,
    measured: Option<&'a eviction::PodUsage>,
    rooms: &'a Rooms,
}

fn pod(view: &PodView, usage: &PodUsage, now: &str, disk: Option<&Disk<'_>>) -> Value {
    let started = view.status().and_then(|s| s.start_time.as_ref()).map(|t| t.0.to_string());
    let containers: Vec<Value> = usage.containers.iter().map(|c| container(view, c, now, disk)).collect();
    let at = time(usage.time(), now);
    let mut pod = json!({
        "podRef": {"name": view.name(), "namespace": view.namespace(), "uid": view.uid()},
        "startTime": started,
        "containers": containers,
        "cpu": cpu(at.clone(), usage.sum(|c| c.cpu), usage.sum(|c| c.cpu_now)),
        "memory": memory(at.clone(), &|of| usage.sum(of)),
    });
    if let Some(swap) = usage.sum(|c| c.swap) {
        pod["swap"] = json!({"time": at, "swapUsageBytes": swap});
    }
    let Some(disk) = disk else { return pod };
    if let Some(network) = &usage.network {
        pod["network"] = self::network(network, now);
    }
    let own = disk.rooms.iter().filter(|(volume, _)| volume.uid == view.uid());
    let mut volumes: Vec<Value> = own.map(|(at, room)| claimed(at, room, now)).collect();
    if let Some(measured) = disk.measured {
        let volume = |(name, used): (&String, &DiskUsage)| {
            let mut volume = file_system(disk.fs, now, Some((used.bytes, used.inodes)));
            volume["name"] = name.as_str().into();
            volume
        };
        volumes.extend(measured.volumes.iter().map(volume));
        let all = measured.disk();
        pod["ephemeral-storage"] = file_system(disk.fs, now, Some((all.bytes, all.inodes)));
        pod["process_stats"] = json!({"process_count": measured.processes});
    }
    if !volumes.is_empty() {
        pod["volume"] = volumes.into();
    }
    pod
}

/// A volume with room of its own.
fn claimed(volume: &VolumeAt, room: &Room, now: &str) -> Value {
    let claim = volume.claim.as_ref().map(|(namespace, name)| json!({"name": name, "namespace": namespace}));
    figures(&[
        ("name", Some(volume.name.as_str().into())),
        ("pvcRef", claim),
        ("time", Some(now.into())),
        ("availableBytes", room.available.map(Into::into)),
        ("capacityBytes", room.capacity.map(Into::into)),
        ("usedBytes", room.used.map(Into::into)),
        ("inodesFree", room.inodes_free.map(Into::into)),
        ("inodes", room.inodes.map(Into::into)),
        ("inodesUsed", room.inodes_used.map(Into::into)),
        ("volumeHealthStats", room.abnormal.map(|abnormal| json!({"abnormal": abnormal}))),
    ])
}

fn container(view: &PodView, usage: &ContainerUsage, now: &str, disk: Option<&Disk<'_>>) -> Value {
    let started = super::metrics::started(view).find(|(name, _)| *name == usage.name);
    let started = started.and_then(|(_, seconds)| Timestamp::from_second(seconds as i64).ok());
    let at = time(usage.time, now);
    let mut container = json!({
        "name": usage.name,
        "startTime": started.map(|t| t.to_string()),
        "cpu": cpu(at.clone(), usage.cpu, usage.cpu_now),
        "memory": memory(at.clone(), &|of| of(usage)),
    });
    if let Some(swap) = usage.swap {
        container["swap"] = json!({"time": at, "swapUsageBytes": swap});
    }
    let Some(disk) = disk else { return container };
    container["rootfs"] = file_system(disk.fs, now, usage.layer);
    let measured = disk.measured.and_then(|m| m.containers.get(&usage.name));
    if let Some(logs) = measured.and_then(|m| m.logs) {
        container["logs"] = file_system(disk.fs, now, Some((logs.bytes, logs.inodes)));
    }
    container
}

/// What a figure of memory is out of.
type Of = fn(&ContainerUsage) -> Option<u64>;

fn memory(time: String, read: &dyn Fn(Of) -> Option<u64>) -> Value {
    let figure = |of: Of| read(of).map(Value::from);
    figures(&[
        ("time", Some(time.into())),
        ("availableBytes", figure(|c| c.available)),
        ("usageBytes", figure(|c| c.memory)),
        ("workingSetBytes", figure(|c| c.working_set)),
        ("rssBytes", figure(|c| c.rss)),
        ("pageFaults", figure(|c| c.page_faults)),
        ("majorPageFaults", figure(|c| c.major_page_faults)),
    ])
}

fn time(nanoseconds: i64, now: &str) -> String {
    let read = Timestamp::from_nanosecond(i128::from(nanoseconds)).ok().filter(|_| nanoseconds > 0);
    read.map_or_else(|| now.to_owned(), |t| t.to_string())
}

fn cpu(time: String, cumulative: Option<u64>, now: Option<u64>) -> Value {
    figures(&[
        ("time", Some(time.into())),
        ("usageNanoCores", now.map(Into::into)),
        ("usageCoreNanoSeconds", cumulative.map(Into::into)),
    ])
}

/// What is not known is left out.
fn figures(fields: &[(&str, Option<Value>)]) -> Value {
    fields.iter().filter_map(|(k, v)| Some(((*k).to_owned(), v.clone()?))).collect::<Map<String, Value>>().into()
}

fn file_system(fs: &FileSystem, now: &str, used: Option<(u64, u64)>) -> Value {
    let all = (fs.capacity.saturating_sub(fs.available), fs.inodes.saturating_sub(fs.inodes_free));
    let (bytes, inodes) = used.unwrap_or(all);
    json!({
        "time": now, "availableBytes": fs.available, "capacityBytes": fs.capacity, "usedBytes": bytes,
        "inodesFree": fs.inodes_free, "inodes": fs.inodes, "inodesUsed": inodes,
    })
}

fn network(usage: &NetworkUsage, now: &str) -> Value {
    let value = |v: &Option<UInt64Value>| v.map(|v| v.value);
    let of = |i: &crate::cri::NetworkInterfaceUsage| {
        json!({"name": i.name, "rxBytes": value(&i.rx_bytes), "rxErrors": value(&i.rx_errors),
            "txBytes": value(&i.tx_bytes), "txErrors": value(&i.tx_errors)})
    };
    let mut network = usage.default_interface.as_ref().map_or_else(|| json!({}), of);
    network["time"] = now.into();
    let all = usage.default_interface.iter().chain(&usage.interfaces);
    network["interfaces"] = all.map(of).collect::<Vec<Value>>().into();
    network
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::MeasuredBy;

    #[test]
    fn a_volume_names_its_claim_and_shows_what_is_known() {
        let room = Room { capacity: Some(100), used: Some(40), abnormal: Some(false), ..Room::default() };
        let by = MeasuredBy::Kernel("/v".into());
        let claim = Some(("ns".to_owned(), "claim".to_owned()));
        let volume = VolumeAt { uid: "u".to_owned(), name: "v".to_owned(), claim, by };
        let expected = json!({"name": "v", "pvcRef": {"name": "claim", "namespace": "ns"}, "time": "now", "capacityBytes": 100,
            "usedBytes": 40, "volumeHealthStats": {"abnormal": false}});
        assert_eq!(claimed(&volume, &room, "now"), expected);
        let inline = VolumeAt { claim: None, ..volume };
        assert_eq!(claimed(&inline, &Room::default(), "now"), json!({"name": "v", "time": "now"}));
    }
}
