//! `--kubelet-arg`: settings of the upstream kubelet that this one has too, by their names there, or all of them in a file as the
//! upstream kubelet takes it (`config=FILE`, a `KubeletConfiguration`).

pub(super) mod file;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use kiln_apimachinery::duration;
use kiln_apimachinery::quantity::Quantity;
use kiln_kubelet::admission::Sysctls;
use kiln_kubelet::resources::Amounts;
use kiln_kubelet::{Reserve, eviction};

/// A setting of a kubelet that is about containers.
#[derive(Debug, Clone)]
pub(crate) enum Setting {
    Root(PathBuf),
    Manifests(PathBuf),
    Pulls(usize),
    Eviction(String, String),
    MaxPids(i64),
    MaxPods(u32),
    SeccompDefault(bool),
    CpuQuota(bool),
    KubeReserved(Amounts),
    SystemReserved(Amounts),
    ImagesHigh(u8),
    ImagesLow(u8),
    ImagesYoung(Duration),
    LogSize(u64),
    LogFiles(usize),
    Sysctls(Sysctls),
    EndPeriod(Duration),
    CriticalEndPeriod(Duration),
    EndPeriods(Vec<(i32, u64)>),
    ClusterDns(Vec<IpAddr>),
    ClusterDomain(String),
    ResolvConf(PathBuf),
}

/// The settings that there are.
pub(super) const SETTINGS: &str = "config (a KubeletConfiguration), root-dir, pod-manifest-path, serialize-image-pulls, \
     max-parallel-image-pulls, max-pods, pod-max-pids, kube-reserved, system-reserved, image-gc-high-threshold, \
     image-gc-low-threshold, minimum-image-ttl-duration, container-log-max-size, container-log-max-files, \
     allowed-unsafe-sysctls, seccomp-default, cpu-cfs-quota, shutdown-grace-period, shutdown-grace-period-critical-pods, \
     shutdown-grace-period-by-pod-priority (PRIORITY=SECONDS,...), \
     cluster-dns, cluster-domain, resolv-conf and those of eviction (eviction-hard and others)";

/// Pulls at a time, where they are not to be one after the other.
const PARALLEL_PULLS: usize = 4;
/// The fewest files of a log: one that is written and one to read on in.
const LEAST_FILES: usize = 2;

/// A setting by its name, if it is one of these.
pub(super) fn setting(name: &str, value: &str) -> Result<Option<Setting>, String> {
    Ok(Some(match name {
        "root-dir" => Setting::Root(value.into()),
        "pod-manifest-path" => Setting::Manifests(value.into()),
        "serialize-image-pulls" => Setting::Pulls(if flag(value)? { 1 } else { PARALLEL_PULLS }),
        "max-parallel-image-pulls" => {
            let pulls = value.parse().ok().filter(|pulls| *pulls > 0);
            Setting::Pulls(pulls.ok_or_else(|| format!("`{value}` is no number of pulls"))?)
        }
        "seccomp-default" => Setting::SeccompDefault(flag(value)?),
        "cpu-cfs-quota" => Setting::CpuQuota(flag(value)?),
        "max-pods" => Setting::MaxPods(value.parse().map_err(|_| format!("`{value}` is no number of pods"))?),
        "pod-max-pids" => Setting::MaxPids(value.parse().map_err(|_| format!("`{value}` is no number of processes"))?),
        "kube-reserved" => Setting::KubeReserved(Reserve::parse(value)?),
        "system-reserved" => Setting::SystemReserved(Reserve::parse(value)?),
        "image-gc-high-threshold" => Setting::ImagesHigh(percent(value)?),
        "image-gc-low-threshold" => Setting::ImagesLow(percent(value)?),
        "minimum-image-ttl-duration" => Setting::ImagesYoung(duration::parse_unsigned(value)?),
        "container-log-max-size" => {
            let bytes = Quantity::parse(value).ok().and_then(|size| u64::try_from(size.value()).ok());
            let bytes = bytes.filter(|bytes| *bytes > 0);
            Setting::LogSize(bytes.ok_or_else(|| format!("`{value}` is no size, as 10Mi"))?)
        }
        "container-log-max-files" => {
            let files = value.parse().ok().filter(|files| *files >= LEAST_FILES);
            Setting::LogFiles(files.ok_or_else(|| format!("`{value}` is no number of files; two at least"))?)
        }
        "allowed-unsafe-sysctls" => Setting::Sysctls(Sysctls::parse(value)?),
        "shutdown-grace-period" => Setting::EndPeriod(duration::parse_unsigned(value)?),
        "shutdown-grace-period-critical-pods" => Setting::CriticalEndPeriod(duration::parse_unsigned(value)?),
        "shutdown-grace-period-by-pod-priority" => {
            let period = |text: &str| {
                let parsed =
                    text.split_once('=').and_then(|(least, most)| Some((least.parse().ok()?, most.parse().ok()?)));
                parsed.ok_or_else(|| format!("`{text}` is no priority with seconds, as 100000=10"))
            };
            Setting::EndPeriods(value.split(',').map(period).collect::<Result<_, String>>()?)
        }
        "cluster-dns" => {
            let address = |text: &str| text.parse().map_err(|_| format!("`{text}` is no IP address"));
            Setting::ClusterDns(value.split(',').map(address).collect::<Result<_, String>>()?)
        }
        "cluster-domain" => Setting::ClusterDomain(value.to_owned()),
        "resolv-conf" => Setting::ResolvConf(value.into()),
        flag => {
            let is_eviction = eviction::Settings::default().set(flag, value)?;
            return Ok(is_eviction.then(|| Setting::Eviction(flag.to_owned(), value.to_owned())));
        }
    }))
}

fn flag(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("`{value}` is neither true nor false"))
}

fn percent(value: &str) -> Result<u8, String> {
    let percent = value.trim_end_matches('%').parse().ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| format!("`{value}` is no percentage"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_upstream_kubelets_names() {
        let read = |name: &str, value: &str| setting(name, value).unwrap().unwrap();
        assert!(matches!(read("max-pods", "250"), Setting::MaxPods(250)));
        assert!(matches!(read("image-gc-high-threshold", "70"), Setting::ImagesHigh(70)));
        assert!(matches!(read("minimum-image-ttl-duration", "2m"), Setting::ImagesYoung(age) if age.as_secs() == 120));
        assert!(matches!(read("container-log-max-size", "5Mi"), Setting::LogSize(5_242_880)));
        assert!(matches!(read("container-log-max-files", "3"), Setting::LogFiles(3)));
        assert!(
            matches!(read("system-reserved", "memory=64Mi"), Setting::SystemReserved(amounts) if amounts.len() == 1)
        );
        assert!(matches!(read("eviction-hard", "memory.available<5%"), Setting::Eviction(..)));
        assert!(setting("v", "4").unwrap().is_none());
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for (name, value, why) in [
            ("max-pods", "many", "`many` is no number of pods"),
            ("max-parallel-image-pulls", "0", "`0` is no number of pulls"),
            ("image-gc-low-threshold", "101", "`101` is no percentage"),
            ("container-log-max-size", "0", "`0` is no size, as 10Mi"),
            ("container-log-max-files", "1", "`1` is no number of files; two at least"),
            ("kube-reserved", "memory", "`memory` has no `=`"),
            ("allowed-unsafe-sysctls", "vm.swappiness", "the sysctls \"vm.swappiness\" are not known to be namespaced"),
        ] {
            assert_eq!(setting(name, value).map(|_| ()), Err(why.to_owned()));
        }
    }
}
