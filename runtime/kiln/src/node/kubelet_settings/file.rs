//! A `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`): the same settings as the flags, under other names.

use serde::Deserialize as _;
use serde_yaml_ng::{Deserializer, Mapping, Value};

use super::{Setting, setting};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// How a field's value is written as that of a flag.
#[derive(Clone, Copy)]
enum Form {
    /// As it is.
    Plain,
    /// Its items with commas between them.
    List,
    /// Its pairs with commas between them, and this between a key and its value.
    Pairs(char),
    /// Objects with a priority and seconds.
    Priorities,
}

/// Fields, the flags that they are, and how their values are written there.
const FIELDS: [(&str, &str, Form); 27] = [
    ("allowedUnsafeSysctls", "allowed-unsafe-sysctls", Form::List),
    ("clusterDNS", "cluster-dns", Form::List),
    ("clusterDomain", "cluster-domain", Form::Plain),
    ("containerLogMaxFiles", "container-log-max-files", Form::Plain),
    ("containerLogMaxSize", "container-log-max-size", Form::Plain),
    ("cpuCFSQuota", "cpu-cfs-quota", Form::Plain),
    ("evictionHard", "eviction-hard", Form::Pairs('<')),
    ("evictionMaxPodGracePeriod", "eviction-max-pod-grace-period", Form::Plain),
    ("evictionMinimumReclaim", "eviction-minimum-reclaim", Form::Pairs('=')),
    ("evictionPressureTransitionPeriod", "eviction-pressure-transition-period", Form::Plain),
    ("evictionSoft", "eviction-soft", Form::Pairs('<')),
    ("evictionSoftGracePeriod", "eviction-soft-grace-period", Form::Pairs('=')),
    ("imageGCHighThresholdPercent", "image-gc-high-threshold", Form::Plain),
    ("imageGCLowThresholdPercent", "image-gc-low-threshold", Form::Plain),
    ("imageMinimumGCAge", "minimum-image-ttl-duration", Form::Plain),
    ("kubeReserved", "kube-reserved", Form::Pairs('=')),
    ("maxParallelImagePulls", "max-parallel-image-pulls", Form::Plain),
    ("maxPods", "max-pods", Form::Plain),
    ("podPidsLimit", "pod-max-pids", Form::Plain),
    ("resolvConf", "resolv-conf", Form::Plain),
    ("seccompDefault", "seccomp-default", Form::Plain),
    ("serializeImagePulls", "serialize-image-pulls", Form::Plain),
    ("shutdownGracePeriod", "shutdown-grace-period", Form::Plain),
    ("shutdownGracePeriodByPodPriority", "shutdown-grace-period-by-pod-priority", Form::Priorities),
    ("shutdownGracePeriodCriticalPods", "shutdown-grace-period-critical-pods", Form::Plain),
    ("staticPodPath", "pod-manifest-path", Form::Plain),
    ("systemReserved", "system-reserved", Form::Pairs('=')),
];

/// Reads the settings of a file.
///
/// # Errors
/// What is wrong with it, with its name.
pub(in crate::node) fn read(path: &str) -> Result<Vec<Setting>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    parse(&text).map_err(|why| format!("{path}: {why}"))
}

fn parse(text: &str) -> Result<Vec<Setting>, String> {
    let mut documents = Deserializer::from_str(text);
    let first = documents.next().ok_or("it is empty")?;
    let fields = Mapping::deserialize(first).map_err(|error| error.to_string())?;
    for (name, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        if fields.get(name).and_then(Value::as_str) != Some(wanted) {
            return Err(format!("{name}: must be {wanted}"));
        }
    }
    let mut settings = Vec::new();
    for (name, value) in &fields {
        let name = name.as_str().ok_or("a field's name is no text")?;
        if ["apiVersion", "kind"].contains(&name) || value.is_null() {
            continue;
        }
        let Some((_, flag, form)) = FIELDS.into_iter().find(|(field, ..)| *field == name) else {
            let known = FIELDS.map(|(field, ..)| field).join(", ");
            return Err(format!("{name}: this kubelet has no such setting; it has {known}"));
        };
        let text = write(value, form).ok_or_else(|| format!("{name}: the value has not the form of this setting"))?;
        let read = setting(flag, &text).map_err(|why| format!("{name}: {why}"))?;
        settings.extend(read);
    }
    Ok(settings)
}

fn write(value: &Value, form: Form) -> Option<String> {
    let join = |parts: Option<Vec<String>>| parts.map(|parts| parts.join(","));
    match form {
        Form::Plain => scalar(value),
        Form::List => join(value.as_sequence()?.iter().map(scalar).collect()),
        Form::Pairs(between) => {
            let pair = |(key, value): (&Value, &Value)| Some(format!("{}{between}{}", scalar(key)?, scalar(value)?));
            join(value.as_mapping()?.iter().map(pair).collect())
        }
        Form::Priorities => {
            let field = |item: &Value, name: &str| item.get(name).map_or(Some("0".to_owned()), scalar);
            let period = |item: &Value| {
                item.as_mapping()?;
                Some(format!("{}={}", field(item, "priority")?, field(item, "shutdownGracePeriodSeconds")?))
            };
            join(value.as_sequence()?.iter().map(period).collect())
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    #[test]
    fn a_configuration_says_what_flags_say() {
        let text = format!(
            "{HEAD}maxPods: 40\nsystemReserved: {{memory: 64Mi, cpu: 100m}}\nevictionHard:\n  memory.available: 50Mi\n\
             clusterDNS: [10.43.0.10]\nserializeImagePulls: false\nimageGCHighThresholdPercent: 70\nseccompDefault: true\n\
             shutdownGracePeriodByPodPriority:\n- {{priority: 100000, shutdownGracePeriodSeconds: 10}}\n- {{priority: 0}}\n\
             resolvConf: \"\"\n"
        );
        let settings = parse(&text).unwrap();
        let debug = format!("{settings:?}");
        for part in [
            "MaxPods(40)",
            "SystemReserved(",
            "Eviction(\"eviction-hard\", \"memory.available<50Mi\")",
            "ClusterDns([10.43.0.10])",
            "Pulls(4)",
            "ImagesHigh(70)",
            "SeccompDefault(true)",
            "EndPeriods([(100000, 10), (0, 0)])",
            "ResolvConf(\"\")",
        ] {
            assert!(debug.contains(part), "{part} in {debug}");
        }
    }

    #[test]
    fn each_field_is_a_flag() {
        let values = ["1", "true", "2s", "50", "10Mi", "memory=1Mi", "10.0.0.1", "kernel.msg*", "0=1", "3", ""];
        for (field, flag, _) in FIELDS {
            let known = values.into_iter().any(|value| matches!(setting(flag, value), Ok(Some(_)) | Err(_)));
            assert!(known, "{field}: {flag}");
        }
    }

    #[test]
    fn a_configuration_that_can_not_be_used_is_refused_with_its_field() {
        let told = |text: &str| parse(&format!("{HEAD}{text}")).map(|_| ()).unwrap_err();
        assert!(
            told("maxPod: 4").starts_with("maxPod: this kubelet has no such setting; it has allowedUnsafeSysctls, ")
        );
        assert_eq!(told("maxPods: many"), "maxPods: `many` is no number of pods");
        assert_eq!(told("systemReserved: [1]"), "systemReserved: the value has not the form of this setting");
        assert_eq!(
            parse("kind: KubeletConfiguration").map(|_| ()).unwrap_err(),
            format!("apiVersion: must be {API_VERSION}")
        );
        assert!(read("/nowhere/kubelet.yaml").unwrap_err().starts_with("/nowhere/kubelet.yaml: "));
    }
}
