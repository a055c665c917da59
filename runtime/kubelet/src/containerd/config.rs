//! Containerd's settings: only what a kubelet uses, so that what is not used takes no memory.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use super::Options;

/// Plugins that no pod of ours needs. Names that a version does not know are not an error there.
const DISABLED: &[&str] = &[
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.monitor.v1.cgroups",
    "io.containerd.nri.v1.nri",
];

/// Containerd is the last to be killed for want of memory.
const OOM_SCORE: i32 = -999;
/// The number of the capability that lowering takes.
const CAP_SYS_RESOURCE: u32 = 24;

/// The settings as containerd 1.6 and later read them (version 2 of the format, which containerd 2 still takes).
pub(super) fn text(options: &Options) -> String {
    let disabled: Vec<String> = DISABLED.iter().map(|name| quote(name)).collect();
    let bin = options.cni_bin.first().map_or("/opt/cni/bin".into(), |path| path.display().to_string());
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let restricted = !can_lower_oom_scores();
    let mut text = String::new();
    // A string takes whatever is written.
    _ = writeln!(
        text,
        r#"# Written by kiln at each start: changes here are lost.
version = 2
root = {root}
state = {state}
oom_score = {oom_score}
disabled_plugins = [{disabled}]

[grpc]
  address = {socket}

[debug]
  level = "warn"

[{cri}]
  sandbox_image = {pause}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  max_container_log_line_size = 16384
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  restrict_oom_score_adj = {restricted}

[{cri}.containerd]
  snapshotter = {snapshotter}
  default_runtime_name = "runc"
  disable_snapshot_annotations = true

[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false

[{cri}.cni]
  bin_dir = {bin}
  conf_dir = {conf}
  max_conf_num = 1

[{cri}.registry]
  config_path = {registries}"#,
        root = quote(&options.root.display().to_string()),
        state = quote(&options.state.display().to_string()),
        disabled = disabled.join(", "),
        oom_score = if restricted { 0 } else { OOM_SCORE },
        socket = quote(&options.socket().display().to_string()),
        pause = quote(&options.pause_image),
        snapshotter = quote(snapshotter(&options.root)),
        bin = quote(&bin),
        conf = quote(&options.cni_conf.display().to_string()),
        registries = quote(&options.registries.folder().display().to_string()),
    );
    for (host, auth) in options.registries.credentials().borrow().iter() {
        _ = writeln!(text, "\n[{cri}.registry.configs.{}.auth]", quote(host));
        let keys = [
            ("username", &auth.username),
            ("password", &auth.password),
            ("auth", &auth.auth),
            ("identitytoken", &auth.identity_token),
        ];
        for (key, value) in keys.into_iter().filter(|(_, value)| !value.is_empty()) {
            _ = writeln!(text, "  {key} = {}", quote(value));
        }
    }
    text
}

/// Overlayfs, or copies where the folder is an overlay itself: as in a container.
pub(super) fn snapshotter(root: &Path) -> &'static str {
    match statfs(root) {
        Ok(found) if found.filesystem_type() == OVERLAYFS_SUPER_MAGIC => "native",
        _ => "overlayfs",
    }
}

/// Whether processes may be made less likely to be killed for want of memory than they are: not inside of a container.
fn can_lower_oom_scores() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    effective.is_some_and(|effective| effective & (1 << CAP_SYS_RESOURCE) != 0)
}

/// A string of TOML.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // A string wouldn't survive a control character.
            c if c.is_control() => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
