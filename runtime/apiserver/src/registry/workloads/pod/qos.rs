//! The class of a pod: how much of what it uses is promised to it.

use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::workloads::defaults::resources::{Amounts, amounts};
use crate::registry::workloads::view::{get, items};

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// The positive amounts of CPU and memory in a list.
fn counted(list: Option<&Value>) -> Amounts {
    let mut all = amounts(list);
    all.retain(|name, amount| COUNTED.contains(&name.as_str()) && !amount.is_zero() && !amount.is_negative());
    all
}

fn add(to: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        let sum = to.get(&name).map_or(amount, |have| have.plus(amount));
        to.insert(name, sum);
    }
}

/// The class of a pod with this specification.
pub(in crate::registry::workloads) fn class(spec: &Value) -> &'static str {
    let (mut requests, mut limits, mut guaranteed) = (Amounts::new(), Amounts::new(), true);
    let whole = get(spec, "resources").map(|r| vec![r]);
    let parts = whole.unwrap_or_else(|| {
        let containers = items(spec, "containers").iter().chain(items(spec, "initContainers"));
        containers.map(|c| c.get("resources").unwrap_or(&Value::Null)).collect()
    });
    for resources in parts {
        add(&mut requests, counted(meta::at(resources, &["requests"])));
        let limit = counted(meta::at(resources, &["limits"]));
        guaranteed &= limit.len() == COUNTED.len();
        add(&mut limits, limit);
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    if guaranteed && requests == limits { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let pod = |resources: Value| class(&json!({"containers": [{"resources": resources}]}));
        assert_eq!(pod(json!({})), "BestEffort");
        assert_eq!(pod(json!({"requests": {"cpu": "1"}})), "Burstable");
        let whole = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(pod(json!({"requests": whole, "limits": {"cpu": "1000m", "memory": "1024Mi"}})), "Guaranteed");
        assert_eq!(pod(json!({"requests": whole, "limits": {"cpu": "2", "memory": "1Gi"}})), "Burstable");
        let two = json!({"containers": [{"resources": {"requests": whole, "limits": whole}}, {}]});
        assert_eq!(class(&two), "Burstable");
        let level = json!({"resources": {"requests": whole, "limits": whole}, "containers": [{}]});
        assert_eq!(class(&level), "Guaranteed");
    }
}
