//! What a node's kubelet says at `/metrics/resource`, read.

use std::collections::BTreeMap;

/// What was used up to some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Used {
    /// Seconds of CPU, ever.
    pub(super) cpu: f64,
    /// Bytes at that time.
    pub(super) memory: f64,
    /// Milliseconds since 1970.
    pub(super) time: i64,
}

impl Used {
    /// CPUs in use since an earlier sample, and bytes now. `None` if there is no time between, or the count began anew.
    pub(super) fn since(&self, before: &Self) -> Option<(f64, f64)> {
        let seconds = (self.time - before.time) as f64 / 1e3;
        (seconds > 0.0 && self.cpu >= before.cpu).then(|| ((self.cpu - before.cpu) / seconds, self.memory))
    }
}

/// A container's figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Container {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) name: String,
    pub(super) used: Used,
}

/// A node's figures and its containers'.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) node: Used,
    pub(super) containers: Vec<Container>,
}

impl Sample {
    /// Reads Prometheus' text. What has no time of its own is of `now`.
    pub(super) fn parse(text: &str, now: i64) -> Self {
        let mut sample = Self::default();
        let mut containers: BTreeMap<(String, String, String), Used> = BTreeMap::new();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let Some((name, labels, value, time)) = line_of(line) else { continue };
            let time = time.unwrap_or(now);
            let label = |key: &str| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone()).unwrap_or_default();
            let container = || (label("namespace"), label("pod"), label("container"));
            match name {
                "node_cpu_usage_seconds_total" => (sample.node.cpu, sample.node.time) = (value, time),
                "node_memory_working_set_bytes" => sample.node.memory = value,
                "container_cpu_usage_seconds_total" => {
                    let used = containers.entry(container()).or_default();
                    (used.cpu, used.time) = (value, time);
                }
                "container_memory_working_set_bytes" => containers.entry(container()).or_default().memory = value,
                _ => {}
            }
        }
        let container = |((namespace, pod, name), used)| Container { namespace, pod, name, used };
        sample.containers = containers.into_iter().map(container).collect();
        sample
    }
}

type Line<'a> = (&'a str, Vec<(&'a str, String)>, f64, Option<i64>);

/// Name, labels, value and time of a sample.
fn line_of(line: &str) -> Option<Line<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let closed = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next()?.1 {
                        'n' => value.push('\n'),
                        other => value.push(other),
                    },
                    (_, other) => value.push(other),
                }
            };
            labels.push((key.trim_start_matches(','), value));
            rest = &after[closed + 1..];
        }
        rest = &rest[1..];
    }
    let mut words = rest.split_whitespace();
    Some((name, labels, words.next()?.parse().ok()?, words.next().and_then(|t| t.parse().ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_text_is_read_and_nonsense_passed_over() {
        let text = "# HELP x y\n\
            node_cpu_usage_seconds_total 10.5 2000\nnode_memory_working_set_bytes 4096\n\
            container_cpu_usage_seconds_total{container=\"a\",namespace=\"d\",pod=\"p,\\\"q\"} 1 1500\n\
            container_memory_working_set_bytes{container=\"a\",namespace=\"d\",pod=\"p,\\\"q\"} 512 1500\n\
            container_cpu_usage_seconds_total{container=\"a\nother{ 7\nbroken\n";
        let sample = Sample::parse(text, 9);
        assert_eq!(sample.node, Used { cpu: 10.5, memory: 4096.0, time: 2000 });
        let used = Used { cpu: 1.0, memory: 512.0, time: 1500 };
        let container = Container { namespace: "d".into(), pod: "p,\"q".into(), name: "a".into(), used };
        assert_eq!(sample.containers, [container]);
    }

    #[test]
    fn a_rate_needs_time_between_and_a_count_that_grows() {
        let at = |cpu, time| Used { cpu, memory: 1.0, time };
        assert_eq!(at(3.0, 3000).since(&at(2.0, 1000)), Some((0.5, 1.0)));
        assert_eq!(at(3.0, 1000).since(&at(2.0, 1000)), None);
        assert_eq!(at(1.0, 3000).since(&at(2.0, 1000)), None);
    }
}
