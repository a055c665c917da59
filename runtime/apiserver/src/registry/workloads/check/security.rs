//! As whom containers run, and what the kernel lets them do.

use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::{Report, mounts, words};
use crate::registry::workloads::view::{get, int, is, items, text};

const MAX_ID: i64 = i32::MAX as i64;
const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const MAX_PROFILE: usize = 4095;

/// The part of `securityContext` that pods have.
pub(super) fn of_pod(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let Some(context) = get(spec, "securityContext") else { return };
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context, key, path, r);
    }
    for (i, group) in items(context, "supplementalGroups").iter().enumerate() {
        r.range(&path.child("supplementalGroups").index(i), group.as_i64().unwrap_or(-1), 0, MAX_ID);
    }
    if is(spec, "shareProcessNamespace") && is(spec, "hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        r.invalid(&path.child("shareProcessNamespace"), true, why);
    }
    sysctls(spec, items(context, "sysctls"), &path.child("sysctls"), r);
    for (key, known) in [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ] {
        if let Some(policy) = get(context, key).and_then(Value::as_str)
            && !known.contains(&policy)
        {
            r.unsupported(&path.child(key), policy, known);
        }
    }
    shared(context, path, r);
}

/// The part of `securityContext` that containers have.
pub(super) fn of_container(container: &Value, host_users: bool, path: &Path<'_>, r: &mut Report) {
    let Some(context) = get(container, "securityContext") else { return };
    for key in ["runAsUser", "runAsGroup"] {
        id(context, key, path, r);
    }
    if let Some(mount) = get(context, "procMount").and_then(Value::as_str) {
        let path = path.child("procMount");
        if !matches!(mount, "Default" | "Unmasked") {
            r.unsupported(&path, mount, &["Default", "Unmasked"]);
        }
        if host_users && mount == "Unmasked" {
            r.invalid(&path, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    if get(context, "allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if is(context, "privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            r.invalid(path, context.clone(), why);
        }
        let added = get(context, "capabilities").map_or(&[][..], |c| items(c, "add"));
        if added.iter().any(|c| c == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            r.invalid(path, context.clone(), why);
        }
    }
    shared(context, path, r);
}

fn id(context: &Value, key: &str, path: &Path<'_>, r: &mut Report) {
    if let Some(id) = int(context, key) {
        r.range(&path.child(key), id, 0, MAX_ID);
    }
}

fn shared(context: &Value, path: &Path<'_>, r: &mut Report) {
    if let Some(profile) = get(context, "seccompProfile") {
        seccomp(profile, &path.child("seccompProfile"), r);
    }
    if let Some(options) = get(context, "windowsOptions") {
        windows(options, &path.child("windowsOptions"), r);
    }
    if let Some(profile) = get(context, "appArmorProfile") {
        app_armor(profile, &path.child("appArmorProfile"), r);
    }
}

fn seccomp(profile: &Value, path: &Path<'_>, r: &mut Report) {
    let kind = text(profile, "type");
    if kind.is_empty() {
        r.required(&path.child("type"), "type is required when seccompProfile is set");
    } else if !PROFILES.contains(&kind) {
        r.unsupported(&path.child("type"), kind, PROFILES);
    }
    let at = path.child("localhostProfile");
    match (kind, get(profile, "localhostProfile").and_then(Value::as_str)) {
        ("Localhost", None) => r.required(&at, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(file)) => mounts::descending(file, &at, r),
        (_, Some(_)) => r.invalid(&at, profile.clone(), "can only be set when seccomp type is Localhost"),
        (_, None) => {}
    }
}

fn app_armor(profile: &Value, path: &Path<'_>, r: &mut Report) {
    let at = path.child("localhostProfile");
    let file = get(profile, "localhostProfile").and_then(Value::as_str);
    match (text(profile, "type"), file) {
        ("Localhost", None | Some("")) => r.required(&at, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(file)) => {
            if file.trim() != file {
                r.invalid(&at, file, "must not be padded with whitespace");
            }
            if file.len() > MAX_PROFILE {
                r.too_long(&at, MAX_PROFILE);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(file)) => {
            r.invalid(&at, file, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => r.required(&path.child("type"), "type is required when appArmorProfile is set"),
        (other, _) => r.unsupported(&path.child("type"), other, PROFILES),
    }
}

fn sysctls(spec: &Value, sysctls: &[Value], path: &Path<'_>, r: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, sysctl) in sysctls.iter().enumerate() {
        let path = path.index(i);
        let path = path.child("name");
        let name = text(sysctl, "name");
        if name.is_empty() {
            r.required(&path, "");
        } else if !words::is_sysctl(name) {
            let why = "must have at most 253 characters and match regex \
                       ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            r.invalid(&path, name, why);
        } else if seen.contains(&name) {
            r.duplicate(&path, name);
        }
        seen.push(name);
        let dotted = name.replace('/', ".");
        let ipc =
            ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p)) || dotted == "kernel.sem";
        if dotted.starts_with("net.") && is(spec, "hostNetwork") {
            r.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
        } else if ipc && is(spec, "hostIPC") {
            r.invalid(&path, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn windows(options: &Value, path: &Path<'_>, r: &mut Report) {
    const KIB: usize = 64;
    if let Some(name) = get(options, "gmsaCredentialSpecName").and_then(Value::as_str) {
        r.name(&path.child("gmsaCredentialSpecName"), name, kiln_apimachinery::names::dns1123_subdomain);
    }
    let at = path.child("gmsaCredentialSpec");
    match get(options, "gmsaCredentialSpec").and_then(Value::as_str) {
        Some("") => r.invalid(&at, "", "gmsaCredentialSpec cannot be an empty string"),
        Some(spec) if spec.len() > KIB * 1024 => {
            r.invalid(&at, spec, &format!("gmsaCredentialSpec size must be under {KIB} KiB"));
        }
        _ => {}
    }
    if let Some(user) = get(options, "runAsUserName").and_then(Value::as_str) {
        windows_user(user, &path.child("runAsUserName"), r);
    }
}

fn windows_user(whole: &str, path: &Path<'_>, r: &mut Report) {
    let parts: Vec<&str> = whole.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        _ if whole.is_empty() => return r.invalid(path, whole, "runAsUserName cannot be an empty string"),
        _ if whole.chars().any(char::is_control) => {
            return r.invalid(path, whole, "runAsUserName cannot contain control characters");
        }
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return r.invalid(path, whole, "runAsUserName cannot contain more than one backslash"),
    };
    if domain.is_some_and(|d| d.len() >= 256) {
        r.invalid(path, whole, "runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|d| !is_windows_domain(d)) {
        r.invalid(path, whole, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        r.invalid(path, whole, "runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        r.invalid(path, whole, "runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        r.invalid(path, whole, "runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let why = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        r.invalid(path, whole, why);
    }
}

fn is_windows_domain(domain: &str) -> bool {
    let odd = |c: char| matches!(c, '\\' | '/' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let net_bios = (1..=15).contains(&domain.chars().count()) && !domain.contains(odd) && !domain.starts_with('.');
    let alnum = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let label = |p: &str| {
        p.len() <= 63
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && alnum(p.bytes().next())
            && alnum(p.bytes().last())
    };
    net_bios || domain.split('.').all(label)
}
