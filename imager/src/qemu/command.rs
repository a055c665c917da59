//! Machine, assets and options as QEMU's arguments. Nothing here touches the system.

use std::path::{Path, PathBuf};

use super::{
    assets::Assets,
    machine::{Boot, Disk, Machine, Nic},
    options::{Options, lan_group, mac},
};

/// Everything that a command line is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The board's machine.
    pub machine: &'a Machine,
    /// What the user chose.
    pub options: &'a Options,
    /// How the machine starts.
    pub start: &'a Start,
    /// The file behind the disk.
    pub disk: &'a Path,
    /// That file's format: `raw` or `qcow2`.
    pub disk_format: &'a str,
    /// The monitor's socket, to be made by QEMU.
    pub monitor: &'a Path,
}

/// How the machine starts, with the files for it.
#[derive(Clone, Debug)]
pub enum Start {
    /// From the kernel in the image.
    Direct(Assets),
    /// By UEFI firmware.
    Uefi {
        /// The code.
        code: PathBuf,
        /// This run's copy of the variables.
        vars: PathBuf,
    },
}

/// The arguments for [`Machine::system`].
pub fn arguments(parts: &Parts<'_>) -> Vec<String> {
    let mut out = Arguments::default();
    machine(&mut out, parts);
    start(&mut out, parts);
    disk(&mut out, parts);
    network(&mut out, parts);
    console(&mut out, parts);
    for device in &parts.machine.devices {
        out.option("-device", device.clone());
    }
    out.0
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn option(&mut self, name: &str, value: String) {
        self.0.push(name.to_owned());
        self.0.push(value);
    }
}

fn machine(out: &mut Arguments, parts: &Parts<'_>) {
    let Parts { machine, options, .. } = parts;
    out.flag("-no-user-config");
    out.flag("-nodefaults");
    out.option("-machine", machine.machine.clone());
    out.option("-accel", if options.kvm { "kvm" } else { "tcg" }.to_owned());
    if let Some(cpu) = &machine.cpu {
        out.option("-cpu", cpu.clone());
    }
    if let Some(cpus) = machine.cpus {
        out.option("-smp", cpus.to_string());
    }
    out.option("-m", options.memory.clone().unwrap_or_else(|| machine.memory.clone()));
    out.option("-name", format!("kiln-{}", options.serial));
    out.option("-display", "none".to_owned());
    // One connection each, so the user's is a second one.
    for socket in [Some(parts.monitor), options.monitor.as_deref()].into_iter().flatten() {
        out.option("-qmp", format!("unix:{},server=on,wait=off", escaped(socket)));
    }
}

fn start(out: &mut Arguments, parts: &Parts<'_>) {
    match parts.start {
        Start::Direct(assets) => {
            out.option("-kernel", assets.kernel.display().to_string());
            out.option("-initrd", assets.initramfs.display().to_string());
            out.option("-append", assets.cmdline.clone());
            if let Some(dtb) = &assets.dtb {
                out.option("-dtb", dtb.display().to_string());
            }
        }
        Start::Uefi { code, vars } => {
            out.option("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escaped(code)));
            out.option("-drive", format!("if=pflash,unit=1,format=raw,file={}", escaped(vars)));
        }
    }
    if parts.machine.boot == Boot::Uefi {
        out.option("-smbios", format!("type=1,serial={}", parts.options.serial));
    }
}

fn disk(out: &mut Arguments, parts: &Parts<'_>) {
    let drive = format!("format={},cache=writeback,discard=unmap,file={}", parts.disk_format, escaped(parts.disk));
    let device = match parts.machine.disk {
        Disk::Sd => return out.option("-drive", format!("if=sd,{drive}")),
        Disk::VirtioBlkPci => "virtio-blk-pci",
        Disk::VirtioBlkDevice => "virtio-blk-device",
    };
    out.option("-drive", format!("if=none,id=disk,{drive}"));
    let order = if parts.machine.boot == Boot::Uefi { ",bootindex=0" } else { "" };
    out.option("-device", format!("{device},drive=disk{order}"));
}

fn network(out: &mut Arguments, parts: &Parts<'_>) {
    let Parts { machine, options, .. } = parts;
    let device = match machine.nic {
        Nic::VirtioNetPci => "virtio-net-pci",
        Nic::VirtioNetDevice => "virtio-net-device",
        Nic::UsbNet => "usb-net",
    };
    let mut card = 0;
    let mut attach = |out: &mut Arguments, backend: String| {
        out.option("-netdev", format!("{backend},id=net{card}"));
        out.option("-device", format!("{device},netdev=net{card},mac={}", mac(&options.serial, card)));
        card += 1;
    };
    if options.network {
        let forwards: String = options
            .forward
            .iter()
            .map(|forward| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest))
            .collect();
        attach(out, format!("user{forwards}"));
    }
    if let Some(lan) = &options.lan {
        let (group, port) = lan_group(lan);
        // Bound to the loopback interface, so that the LAN does not leave this machine.
        attach(out, format!("socket,mcast={group}:{port},localaddr=127.0.0.1"));
    }
}

fn console(out: &mut Arguments, parts: &Parts<'_>) {
    let kind = if parts.options.headless { "null,id=console" } else { "stdio,id=console,signal=off" };
    let log = match &parts.options.serial_log {
        Some(path) => format!(",logfile={},logappend=off", escaped(path)),
        None => String::new(),
    };
    out.option("-chardev", format!("{kind}{log}"));
    for _other in 0..parts.machine.console_serial {
        out.option("-serial", "null".to_owned());
    }
    out.option("-serial", "chardev:console".to_owned());
}

/// A path inside an option list, where QEMU wants a comma doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::Forward;

    fn machine() -> Machine {
        toml::from_str(
            "system = 'qemu-system-aarch64'\npackage = 'qemu-system-arm'\nmachine = 'raspi3b'\nmemory = '1G'\n\
             console-serial = 1\ndisk = 'sd'\nnic = 'usb-net'\nboot = 'direct'\ndtb = 'board.dtb'\n",
        )
        .expect("a valid table")
    }

    fn options() -> Options {
        Options {
            image: "/tmp/a,b.img".into(),
            forward: vec![Forward { host: 8443, guest: 6443 }],
            memory: None,
            disk_size: 4 << 30,
            lan: Some("shop".to_owned()),
            serial: "abc".to_owned(),
            serial_log: Some("/tmp/log".into()),
            monitor: Some("/tmp/qmp".into()),
            headless: true,
            snapshot: false,
            network: true,
            kvm: false,
        }
    }

    fn line(machine: &Machine, options: &Options, start: &Start) -> String {
        let parts = Parts {
            machine,
            options,
            start,
            disk: Path::new("/tmp/a,b.img"),
            disk_format: "raw",
            monitor: Path::new("/run/qmp"),
        };
        arguments(&parts).join(" ")
    }

    fn direct() -> Start {
        Start::Direct(Assets {
            kernel: "/r/vmlinuz".into(),
            initramfs: "/r/initramfs.zst".into(),
            dtb: Some("/r/board.dtb".into()),
            cmdline: "ro panic=10".to_owned(),
        })
    }

    #[test]
    fn the_console_is_on_the_boards_second_port() {
        let line = line(&machine(), &options(), &direct());
        assert!(line.contains("-serial null -serial chardev:console"), "{line}");
        assert!(line.contains("-chardev null,id=console,logfile=/tmp/log"), "{line}");
    }

    #[test]
    fn a_lan_is_a_second_card_that_stays_on_this_machine() {
        let line = line(&machine(), &options(), &direct());
        assert!(line.contains("-netdev user,hostfwd=tcp:127.0.0.1:8443-:6443,id=net0"), "{line}");
        assert!(line.contains(",localaddr=127.0.0.1,id=net1 -device usb-net,netdev=net1,mac=52:54:00:"), "{line}");
    }

    #[test]
    fn the_users_monitor_is_beside_the_one_that_ends_the_run() {
        let line = line(&machine(), &options(), &direct());
        assert!(line.contains("-qmp unix:/run/qmp,server=on,wait=off -qmp unix:/tmp/qmp,server=on,wait=off"), "{line}");
    }

    #[test]
    fn commas_in_a_path_are_doubled() {
        let line = line(&machine(), &options(), &direct());
        assert!(line.contains("-drive if=sd,format=raw,cache=writeback,discard=unmap,file=/tmp/a,,b.img"), "{line}");
    }

    #[test]
    fn a_run_without_network_has_no_card() {
        let options = Options { network: false, lan: None, ..options() };
        assert!(!line(&machine(), &options, &direct()).contains("netdev"));
    }

    #[test]
    fn uefi_takes_firmware_and_tells_the_serial() {
        let machine = Machine { boot: Boot::Uefi, disk: Disk::VirtioBlkPci, nic: Nic::VirtioNetPci, ..machine() };
        let start = Start::Uefi { code: "/f/code".into(), vars: "/r/vars".into() };
        let line = line(&machine, &options(), &start);
        assert!(line.contains("if=pflash,unit=0,format=raw,readonly=on,file=/f/code"), "{line}");
        assert!(line.contains("-smbios type=1,serial=abc"), "{line}");
        assert!(line.contains("virtio-blk-pci,drive=disk,bootindex=0"), "{line}");
        assert!(!line.contains("-kernel"), "{line}");
    }
}
