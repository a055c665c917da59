//! What a container sees of its pod's volumes, and the files that the kubelet adds.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use kiln_apimachinery::random;

use super::{ContainerContext, PodContext, SpecError, expand, host_network, hostname, hosts, invalid, uid};
use crate::cri::{Device, ImageSpec, Mount, MountPropagation};
use crate::volumes::subpath::{self, SubPath};
use crate::volumes::{Mounted, Place};

/// All mounts of a container.
pub(super) fn of(
    pod: &Pod,
    container: &Container,
    context: &PodContext,
    own: &ContainerContext,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, SpecError> {
    let mut mounts = Vec::new();
    let wanted = container.volume_mounts.as_deref().unwrap_or_default();
    for (index, mount) in wanted.iter().enumerate() {
        let Some(volume) = context.volumes.get(&mount.name) else {
            return Err(invalid(format!(
                "cannot find volume {:?} to mount into container {:?}",
                mount.name, container.name
            )));
        };
        mounts.push(volume_mount(pod, container, context, own, environment, (index, mount), volume)?);
    }
    let has_hosts = wanted.iter().any(|mount| mount.mount_path == hosts::PATH);
    if !has_hosts && (host_network(pod) || !context.pod_ips.is_empty()) {
        mounts.push(hosts_mount(pod, context)?);
    }
    mounts.extend(message_mount(pod, container, context));
    if let Some(users) = &context.user_namespace {
        for mount in &mut mounts {
            mount.uid_mappings.clone_from(&users.uids);
            mount.gid_mappings.clone_from(&users.gids);
        }
    }
    Ok(mounts)
}

fn volume_mount(
    pod: &Pod,
    container: &Container,
    context: &PodContext,
    own: &ContainerContext,
    environment: &BTreeMap<String, String>,
    (index, mount): (usize, &VolumeMount),
    volume: &Mounted,
) -> Result<Mount, SpecError> {
    let part = part(mount, environment)?;
    // Told to make a mount read-only, runtimes make it so and forget all else that it was. One that they are told nothing of stays
    // as it is: nothing can be written to it, and no program run from it.
    let is_sealed = matches!(volume.place, Place::Sealed(_));
    let mut to = Mount {
        container_path: absolute(&mount.mount_path),
        readonly: !is_sealed && (mount.read_only == Some(true) || volume.read_only),
        selinux_relabel: volume.relabel && context.node.selinux,
        propagation: propagation(mount)? as i32,
        recursive_read_only: recursive(mount, context)? && !is_sealed,
        ..Mount::default()
    };
    match &volume.place {
        Place::Image { reference, .. } => {
            let image = own.image_volumes.get(&mount.name).unwrap_or(reference);
            let user_specified_image = reference.clone();
            to.image = Some(ImageSpec { image: image.clone(), user_specified_image, ..ImageSpec::default() });
            to.image_sub_path = part;
        }
        Place::Path(path) | Place::Sealed(path) if part.is_empty() => to.host_path = text(path),
        Place::Path(path) | Place::Sealed(path) => {
            let prepared = subpath::prepare(&SubPath {
                volume: path,
                part: &part,
                places: &context.node.dirs.sub_paths(uid(pod)),
                volume_name: &mount.name,
                container: &container.name,
                index,
            });
            let place = prepared.map_err(|error| {
                // The cause could tell of files that the pod must not know of.
                tracing::warn!(container = container.name, volume = mount.name, %error, "cannot prepare a subPath");
                invalid(format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}",
                    mount.name, container.name
                ))
            })?;
            to.host_path = text(&place);
        }
        Place::Device(_) => {
            return Err(invalid(format!(
                "cannot find volume {:?} to mount into container {:?}",
                mount.name, container.name
            )));
        }
    }
    Ok(to)
}

/// The part of the volume that the mount is of; empty for all of it.
fn part(mount: &VolumeMount, environment: &BTreeMap<String, String>) -> Result<String, SpecError> {
    let part = match mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
        Some(expression) => {
            let missing = RefCell::new(BTreeSet::new());
            let part = expand::expand(expression, |name| {
                let found = environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
                if found.is_none() {
                    missing.borrow_mut().insert(name.to_owned());
                }
                found
            });
            let missing = Vec::from_iter(missing.into_inner());
            if !missing.is_empty() {
                return Err(invalid(format!("missing value for {}", missing.join(", "))));
            }
            part
        }
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    match subpath::fault(&part) {
        Some(fault) => Err(SpecError::Invalid(fault)),
        None => Ok(part),
    }
}

fn propagation(mount: &VolumeMount) -> Result<MountPropagation, SpecError> {
    match mount.mount_propagation.as_deref() {
        None | Some("None") => Ok(MountPropagation::Private),
        Some("HostToContainer") => Ok(MountPropagation::HostToContainer),
        Some("Bidirectional") => Ok(MountPropagation::Bidirectional),
        Some(other) => Err(invalid(format!("invalid MountPropagation mode: {other:?}"))),
    }
}

/// Whether mounts on top of a read-only volume are read-only too (KEP-3857).
fn recursive(mount: &VolumeMount, context: &PodContext) -> Result<bool, SpecError> {
    let mode = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    if mode == "Disabled" {
        return Ok(false);
    }
    let failed = |why: String| Err(invalid(format!("failed to resolve recursive read-only mode: {why}")));
    let supported = context.handler().is_some_and(|handler| handler.recursive_read_only_mounts);
    let name = &mount.name;
    if mount.read_only != Some(true) {
        return failed(format!("volume {name:?} requested recursive read-only mode, but it is not read-only"));
    }
    if !matches!(mount.mount_propagation.as_deref(), None | Some("None")) {
        let why = "but it is not compatible with propagation";
        let propagation = mount.mount_propagation.as_deref().unwrap_or_default();
        return failed(format!("volume {name:?} requested recursive read-only mode, {why} {propagation:?}"));
    }
    match mode {
        "IfPossible" => Ok(supported),
        "Enabled" if supported => Ok(true),
        "Enabled" => failed(format!(
            "volume {name:?} requested recursive read-only mode, but it is not supported by the runtime"
        )),
        other => failed(format!("unknown recursive read-only mode {other:?}")),
    }
}

fn hosts_mount(pod: &Pod, context: &PodContext) -> Result<Mount, SpecError> {
    let file = context.node.dirs.hosts(uid(pod));
    let (host, domain) = hostname::of(pod, &context.node.cluster_domain)?;
    hosts::write(&file, pod, &context.pod_ips, &host, &domain)
        .map_err(|error| invalid(format!("{}: {error}", file.display())))?;
    Ok(Mount {
        container_path: hosts::PATH.to_owned(),
        host_path: text(&file),
        selinux_relabel: context.node.selinux,
        ..Mount::default()
    })
}

/// The file that the container's termination message is read from. Without it the container runs all the same.
fn message_mount(pod: &Pod, container: &Container, context: &PodContext) -> Option<Mount> {
    let path = container.termination_message_path.as_deref().filter(|path| !path.is_empty())?;
    let folder = context.node.dirs.container(uid(pod), &container.name);
    match make_message(&folder) {
        Ok(file) => Some(Mount {
            container_path: absolute(path),
            host_path: text(&file),
            selinux_relabel: context.node.selinux,
            ..Mount::default()
        }),
        Err(error) => {
            tracing::warn!(container = container.name, %error, "cannot make the file of termination messages");
            None
        }
    }
}

/// A new file for each start of a container, that any of its users can write to.
fn make_message(folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o750))?;
    let name = random::bytes::<4>().map_err(io::Error::other)?;
    let file = folder.join(format!("{:08x}", u32::from_be_bytes(name)));
    fs::write(&file, "")?;
    fs::set_permissions(&file, Permissions::from_mode(0o666))?;
    Ok(file)
}

/// The block devices of a container.
pub(super) fn devices(container: &Container, context: &PodContext) -> Result<Vec<Device>, SpecError> {
    let wanted = container.volume_devices.iter().flatten();
    let devices = wanted.map(|device| {
        if !device.device_path.starts_with('/') {
            return Err(invalid(format!("error DevicePath `{}` must be an absolute path", device.device_path)));
        }
        match context.volumes.get(&device.name) {
            Some(Mounted { place: Place::Device(path), read_only, .. }) => Ok(Device {
                container_path: device.device_path.clone(),
                host_path: text(path),
                permissions: if *read_only { "r" } else { "mrw" }.to_owned(),
            }),
            _ => Err(invalid(format!(
                "cannot find volume {:?} to pass into container {:?}",
                device.name, container.name
            ))),
        }
    });
    devices.collect()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing;
    use super::*;
    use crate::cri::RuntimeHandlerFeatures;
    use crate::volumes::Dirs;

    struct Case {
        root: tempfile::TempDir,
        context: PodContext,
    }

    impl Case {
        /// A pod's folder with a volume `v`.
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a folder");
            let mut node = testing::node();
            node.dirs = Dirs::new(root.path());
            node.dirs.make_pod("u").expect("folders");
            let volume = root.path().join("volume");
            fs::create_dir(&volume).expect("a folder");
            let mut context = testing::of_node(node);
            context.volumes.insert("v".to_owned(), testing::mounted(&volume));
            Self { root, context }
        }

        fn mounts(&self, container: Value) -> Result<Vec<Mount>, String> {
            let mut fields = json!({"name": "c"});
            fields.as_object_mut().expect("an object").extend(container.as_object().expect("an object").clone());
            let pod = testing::pod(json!({"containers": [fields]}));
            let environment = [("NAME".to_owned(), "part".to_owned())].into();
            let own = ContainerContext::default();
            of(&pod, &pod.spec.as_ref().expect("a spec").containers[0], &self.context, &own, &environment)
                .map_err(|error| error.to_string())
        }

        fn one(&self, mut mount: Value) -> Result<Mount, String> {
            mount["name"] = json!("v");
            mount["mountPath"] = json!("data");
            self.mounts(json!({"volumeMounts": [mount]})).map(|mut mounts| mounts.remove(0))
        }
    }

    impl Drop for Case {
        fn drop(&mut self) {
            subpath::clean_up(&self.context.node.dirs.sub_paths("u")).expect("cleaned up");
        }
    }

    #[test]
    fn volumes_are_mounted_as_the_container_wants_them() {
        let case = Case::new();
        let plain = case.one(json!({})).expect("a mount");
        assert_eq!((plain.container_path.as_str(), plain.readonly), ("/data", false));
        assert_eq!(plain.host_path, text(&case.root.path().join("volume")));
        assert!(case.one(json!({"readOnly": true})).expect("a mount").readonly);
        let rows = [
            ("None", MountPropagation::Private),
            ("HostToContainer", MountPropagation::HostToContainer),
            ("Bidirectional", MountPropagation::Bidirectional),
        ];
        for (name, expected) in rows {
            assert_eq!(case.one(json!({"mountPropagation": name})).expect("a mount").propagation, expected as i32);
        }
        let missing = case.mounts(json!({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}));
        assert_eq!(missing, Err("cannot find volume \"x\" to mount into container \"c\"".to_owned()));
    }

    #[test]
    fn a_part_of_a_volume_is_mounted_from_a_place_of_its_own() {
        let case = Case::new();
        for mount in [json!({"subPath": "part"}), json!({"subPathExpr": "$(NAME)"})] {
            let mount = case.one(mount).expect("a mount");
            assert_eq!(mount.host_path, text(&case.root.path().join("pods/u/volume-subpaths/v/c/0")));
            fs::write(Path::new(&mount.host_path).join("file"), "x").expect("a file");
        }
        assert!(case.root.path().join("volume/part/file").exists());
        let rows = [
            (json!({"subPath": "/etc"}), "error SubPath `/etc` must not be an absolute path"),
            (json!({"subPath": "../x"}), "unable to provision SubPath `../x`: must not contain '..'"),
            (json!({"subPathExpr": "$(NONE)/$(A)"}), "missing value for A, NONE"),
        ];
        for (mount, why) in rows {
            assert_eq!(case.one(mount), Err(why.to_owned()));
        }
        std::os::unix::fs::symlink("/etc", case.root.path().join("volume/out")).expect("a link");
        let why = "failed to prepare subPath for volumeMount \"v\" of container \"c\"";
        assert_eq!(case.one(json!({"subPath": "out"})), Err(why.to_owned()));
    }

    #[test]
    fn what_is_sealed_is_left_as_it_is_mounted() {
        let mut case = Case::new();
        let volume = case.context.volumes.get_mut("v").expect("a volume");
        (volume.place, volume.read_only) = (Place::Sealed(case.root.path().join("volume")), true);
        for mount in [json!({}), json!({"readOnly": true})] {
            let mount = case.one(mount).expect("a mount");
            assert_eq!((mount.readonly, mount.host_path), (false, text(&case.root.path().join("volume"))));
        }
    }

    #[test]
    fn recursive_read_only_needs_a_runtime_that_can() {
        let mut case = Case::new();
        let mount = |mode: &str| json!({"readOnly": true, "recursiveReadOnly": mode});
        assert_eq!(case.one(mount("IfPossible")).map(|mount| mount.recursive_read_only), Ok(false));
        let why = "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, \
                   but it is not supported by the runtime";
        assert_eq!(case.one(mount("Enabled")), Err(why.to_owned()));
        let mut node = (*case.context.node).clone();
        let able = RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: false };
        node.handlers.insert(String::new(), able);
        case.context.node = node.into();
        for mode in ["IfPossible", "Enabled"] {
            assert_eq!(case.one(mount(mode)).map(|mount| mount.recursive_read_only), Ok(true));
        }
        assert!(case.one(json!({"recursiveReadOnly": "Enabled"})).is_err(), "it is not read-only");
    }

    #[test]
    fn the_kubelets_own_files_are_mounted_too() {
        let case = Case::new();
        let mounts = case.mounts(json!({"terminationMessagePath": "/dev/termination-log"})).expect("mounts");
        let paths: Vec<_> = mounts.iter().map(|mount| mount.container_path.as_str()).collect();
        assert_eq!(paths, ["/etc/hosts", "/dev/termination-log"]);
        let hosts = fs::read_to_string(&mounts[0].host_path).expect("a file");
        assert!(hosts.contains("10.42.0.5\tp\n") && hosts.contains("fd00::5\tp\n"), "{hosts}");
        let mode = fs::metadata(&mounts[1].host_path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        let own = case.mounts(json!({"volumeMounts": [{"name": "v", "mountPath": "/etc/hosts"}]})).expect("mounts");
        assert_eq!(own.len(), 1, "the container mounts its own");
    }

    #[test]
    fn devices_are_passed_with_their_rights() {
        let mut case = Case::new();
        let device = |read_only| Mounted { place: Place::Device("/dev/x".into()), read_only, relabel: false };
        case.context.volumes.insert("d".to_owned(), device(true));
        let container: Container =
            serde_json::from_value(json!({"name": "c", "volumeDevices": [{"name": "d", "devicePath": "/dev/y"}]}))
                .expect("a container");
        let found = devices(&container, &case.context).expect("devices");
        let expected = Device { container_path: "/dev/y".into(), host_path: "/dev/x".into(), permissions: "r".into() };
        assert_eq!(found, [expected]);
    }
}
