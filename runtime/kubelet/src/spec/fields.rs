//! The downward API: what a pod may learn about itself.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use kiln_apimachinery::names;
use kiln_apimachinery::quantity::Quantity;

use crate::resources::{Amounts, CPU, EPHEMERAL_STORAGE, HUGE_PAGES, MEMORY, Texts, amount, find, pod_level, read};

/// A field of a pod's metadata as text. What else a container can have in its environment is for
/// [`super::environment`] to know.
pub(crate) fn metadata(pod: &Pod, path: &str) -> Result<String, String> {
    let none = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
    if let Some((map, key)) = subscript(path) {
        let (map, checked) = match map {
            "metadata.annotations" => (annotations, key.to_lowercase()),
            "metadata.labels" => (labels, key.to_owned()),
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        let faults = names::qualified_name(&checked);
        if !faults.is_empty() {
            return Err(format!("invalid key subscript in {path}: {}", faults.join(";")));
        }
        return Ok(map.get(key).cloned().unwrap_or_default());
    }
    match path {
        "metadata.annotations" => Ok(lines(annotations)),
        "metadata.labels" => Ok(lines(labels)),
        "metadata.name" => Ok(pod.metadata.name.clone().unwrap_or_default()),
        "metadata.namespace" => Ok(pod.metadata.namespace.clone().unwrap_or_default()),
        "metadata.uid" => Ok(pod.metadata.uid.clone().unwrap_or_default()),
        _ => Err(format!("unsupported fieldPath: {path}")),
    }
}

/// The map and the key of `map['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

/// `key="value"`, a line each, with the value as Go would quote it.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

/// As Go's `strconv.Quote` writes a text.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => {
                quoted.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A field of a pod as the environment may have it.
pub(crate) struct PodFacts<'a> {
    pub(crate) host_ips: &'a [String],
    pub(crate) pod_ips: &'a [String],
}

/// The value of a `fieldRef` of an environment variable.
pub(crate) fn of_pod(pod: &Pod, field: &ObjectFieldSelector, facts: &PodFacts<'_>) -> Result<String, String> {
    let version = field.api_version.as_deref().unwrap_or("v1");
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    let spec = pod.spec.as_ref();
    let text = |text: Option<&String>| Ok(text.cloned().unwrap_or_default());
    let first = |list: &[String]| Ok(list.first().cloned().unwrap_or_default());
    match field.field_path.as_str() {
        "spec.nodeName" | "spec.host" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.hostIP" => first(facts.host_ips),
        "status.hostIPs" => Ok(facts.host_ips.join(",")),
        "status.podIP" => first(facts.pod_ips),
        "status.podIPs" => Ok(facts.pod_ips.join(",")),
        path => metadata(pod, path),
    }
}

/// The value of a `resourceFieldRef`, in units of its divisor, rounded up. A container without a limit has that of its pod, or
/// else what the node has. `own` is the container that asks; volumes name theirs.
pub(crate) fn of_resources(
    pod: &Pod,
    own: Option<&Container>,
    field: &ResourceFieldSelector,
    allocatable: &Amounts,
) -> Result<String, String> {
    let name = field.container_name.as_deref().unwrap_or_default();
    let container = match own {
        Some(own) if name.is_empty() => own,
        _ => container(pod, name).ok_or_else(|| format!("container {name} not found"))?,
    };
    let unknown = || format!("unsupported container resource : {}", field.resource);
    let (list, resource) = field.resource.split_once('.').ok_or_else(unknown)?;
    let is_usual = [CPU, MEMORY, EPHEMERAL_STORAGE].contains(&resource);
    if !is_usual && !resource.starts_with(HUGE_PAGES) {
        return Err(unknown());
    }
    let resources = container.resources.as_ref();
    let found = match list {
        "requests" => amount(resources.and_then(|resources| resources.requests.as_ref()), resource),
        "limits" => {
            limit(pod, resources.and_then(|resources| resources.limits.as_ref()), resource, is_usual, allocatable)
        }
        _ => return Err(unknown()),
    };
    let divisor = field.divisor.as_ref().map(read).filter(|divisor| !divisor.is_zero()).unwrap_or(Quantity::whole(1));
    let (amount, divisor) = match resource {
        CPU => (found.milli_value(), divisor.milli_value()),
        _ => (found.value(), divisor.value()),
    };
    // In floating point, as the upstream kubelet reckons it.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "amounts are far below 2^53")]
    let units = (amount as f64 / divisor as f64).ceil() as i64;
    Ok(units.to_string())
}

fn limit(pod: &Pod, limits: Option<&Texts>, resource: &str, is_usual: bool, allocatable: &Amounts) -> Quantity {
    let own = find(limits, resource).filter(|limit| !limit.is_zero());
    if !is_usual {
        return own.unwrap_or(Quantity::ZERO);
    }
    let whole = || find(pod_level(pod).and_then(|whole| whole.limits.as_ref()), resource);
    let node = || allocatable.get(resource).copied();
    own.or_else(|| whole().filter(|limit| !limit.is_zero())).or_else(node).unwrap_or(Quantity::ZERO)
}

fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).expect("a pod")
    }

    #[test]
    fn fields_are_shown_as_text() {
        let pod = pod(json!({
            "metadata": {
                "name": "p", "namespace": "ns", "uid": "u",
                "labels": {"b": "2", "a": "1"},
                "annotations": {"example.com/Key": "line\none \"two\" \\ \u{1} \u{e9}"},
            },
            "spec": {"nodeName": "n", "serviceAccountName": "sa", "containers": []},
        }));
        let (host_ips, pod_ips) = (["10.0.0.1".to_owned(), "fd00::1".to_owned()], ["10.42.0.5".to_owned()]);
        let facts = PodFacts { host_ips: &host_ips, pod_ips: &pod_ips };
        let rows = [
            ("metadata.name", Ok("p")),
            ("metadata.namespace", Ok("ns")),
            ("metadata.uid", Ok("u")),
            ("metadata.labels", Ok("a=\"1\"\nb=\"2\"")),
            ("metadata.annotations", Ok("example.com/Key=\"line\\none \\\"two\\\" \\\\ \\x01 \u{e9}\"")),
            ("metadata.labels['a']", Ok("1")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.annotations['example.com/Key']", Ok("line\none \"two\" \\ \u{1} \u{e9}")),
            ("spec.nodeName", Ok("n")),
            ("spec.serviceAccountName", Ok("sa")),
            ("status.hostIP", Ok("10.0.0.1")),
            ("status.hostIPs", Ok("10.0.0.1,fd00::1")),
            ("status.podIP", Ok("10.42.0.5")),
            ("status.podIPs", Ok("10.42.0.5")),
            ("metadata.name['a']", Err("fieldPath \"metadata.name['a']\" does not support subscript")),
            ("status.phase", Err("unsupported fieldPath: status.phase")),
        ];
        for (path, expected) in rows {
            let field = ObjectFieldSelector { field_path: path.to_owned(), api_version: None };
            assert_eq!(of_pod(&pod, &field, &facts), expected.map(str::to_owned).map_err(str::to_owned), "{path}");
        }
    }

    #[test]
    fn resources_are_divided_and_rounded_up_and_fall_back_to_the_node() {
        let containers = json!([
            {"name": "a", "resources": {
                "requests": {"cpu": "250m", "memory": "32Mi", "hugepages-2Mi": "4Mi"},
                "limits": {"cpu": "1250m", "memory": "65Mi"},
            }},
            {"name": "b"},
        ]);
        let single = pod(json!({"spec": { "containers": containers }}));
        let whole = pod(json!({"spec": { "containers": containers, "resources": {"limits": {"memory": "100Mi"}} }}));
        let node: Amounts = [("cpu", "2"), ("memory", "1Gi"), ("ephemeral-storage", "10Gi")]
            .map(|(name, text)| (name.to_owned(), Quantity::parse(text).expect("an amount")))
            .into();
        let rows = [
            (&single, "a", "requests.cpu", "0", Ok("1")),
            (&single, "a", "requests.cpu", "1m", Ok("250")),
            (&single, "a", "limits.cpu", "1", Ok("2")),
            (&single, "a", "limits.memory", "1Mi", Ok("65")),
            (&single, "a", "limits.memory", "64Mi", Ok("2")),
            (&single, "a", "requests.hugepages-2Mi", "1Mi", Ok("4")),
            (&single, "a", "limits.ephemeral-storage", "1Gi", Ok("10")),
            (&single, "b", "limits.cpu", "1", Ok("2")),
            (&single, "b", "limits.memory", "1Mi", Ok("1024")),
            (&single, "b", "requests.memory", "1Mi", Ok("0")),
            (&whole, "b", "limits.memory", "1Mi", Ok("100")),
            (&single, "c", "limits.cpu", "1", Err("container c not found")),
            (&single, "a", "limits.pods", "1", Err("unsupported container resource : limits.pods")),
        ];
        for (pod, name, resource, divisor, expected) in rows {
            let field: ResourceFieldSelector =
                serde_json::from_value(json!({"containerName": name, "resource": resource, "divisor": divisor}))
                    .expect("a selector");
            let found = of_resources(pod, None, &field, &node);
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{name} {resource}");
        }
    }
}
