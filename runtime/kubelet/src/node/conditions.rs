//! The Node's conditions, with the reasons and messages of the upstream kubelet.

use serde_json::{Value, json};

use crate::machine::Pressure;

/// A condition: its type and status, and why.
type Row<'a> = (&'static str, bool, &'static str, &'a str);

fn rows(pressure: Pressure, fault: Option<&str>) -> [Row<'_>; 4] {
    [
        if pressure.memory {
            ("MemoryPressure", true, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
        } else {
            ("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available")
        },
        if pressure.disk {
            ("DiskPressure", true, "KubeletHasDiskPressure", "kubelet has disk pressure")
        } else {
            ("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
        },
        if pressure.pids {
            ("PIDPressure", true, "KubeletHasInsufficientPID", "kubelet has insufficient PID available")
        } else {
            ("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available")
        },
        match fault {
            None => ("Ready", true, "KubeletReady", "kubelet is posting ready status"),
            Some(fault) => ("Ready", false, "KubeletNotReady", fault),
        },
    ]
}

/// All conditions of a Node: those of others as they are, then ours.
pub(super) fn all(known: &Value, pressure: Pressure, fault: Option<&str>, now: &str) -> Vec<Value> {
    let rows = rows(pressure, fault);
    let known: &[Value] = known["status"]["conditions"].as_array().map_or(&[], Vec::as_slice);
    let others = known.iter().filter(|condition| rows.iter().all(|(kind, ..)| condition["type"] != *kind));
    let ours = rows.iter().map(|(kind, status, reason, message)| {
        let status = if *status { "True" } else { "False" };
        let same = known.iter().find(|condition| condition["type"] == *kind && condition["status"] == status);
        let since = same.and_then(|condition| condition["lastTransitionTime"].as_str()).unwrap_or(now);
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since})
    });
    others.cloned().chain(ours).collect()
}

/// Whether two lists of conditions say different things, apart from heartbeat times and order.
pub(super) fn differ(known: &Value, wanted: &Value) -> bool {
    let list = |value: &Value| {
        let mut list: Vec<Value> = value.as_array().cloned().unwrap_or_default();
        for condition in &mut list {
            if let Some(fields) = condition.as_object_mut() {
                fields.remove("lastHeartbeatTime");
            }
        }
        list.sort_by(|a, b| a["type"].as_str().cmp(&b["type"].as_str()));
        list
    };
    list(known) != list(wanted)
}
