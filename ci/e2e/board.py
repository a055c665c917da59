#!/usr/bin/env python3
"""What a board does by itself when no one can help it: it restarts, resets, gives a bad disk up, and follows its network."""
import os
import shutil
import sys

import dhcp
import preloaded
from harness import Kubectl, Machine, free_port, imager, locked, main, run, scratch

FOLDER = scratch("board")
BOARD = "virt-aarch64"
PORT = free_port()
LAN = f"kiln-ci-board-{PORT}"
KUBE = Kubectl(FOLDER / "cluster" / "admin.kubeconfig", f"https://127.0.0.1:{PORT}")
VMS = {}
SWITCH = {}
SHELL = """version = 1
[node]
name = "edge"
role = "agent"
[cluster]
server = "https://10.0.2.2:1"
[console]
shell = true
[time]
servers = []
"""
# The world's card has no default route, so the address of the lease on the LAN is the node's.
SERVER = """version = 1
[node]
name = "hub"
role = "server"
[[network.interface]]
match = "eth0"
method = "static"
address = "10.0.2.15/24"
[[network.interface]]
match = "eth1"
method = "dhcp"
[time]
servers = []
"""


def build(name, settings, *arguments):
    """An image of the board with these settings. No lock: none has the packages of the debug overlay."""
    file = FOLDER / f"{name}.toml"
    file.write_text(settings)
    imager("build", "--board", BOARD, "--config", file, "--cluster", FOLDER / "cluster", "--image-name", name,
           "--no-compress", "--out", FOLDER, "--lock", FOLDER / "imager.lock", *arguments)
    return FOLDER / f"{name}.img"


def images_are_built():
    # With the toolchain that the other scenarios' images were compiled by: another would compile the runtime once more.
    shutil.copy(locked()[-1], FOLDER / "imager.lock")
    imager("cluster", "init", FOLDER / "cluster", "--server", f"https://127.0.0.1:{PORT}")
    build("shell", SHELL, "--overlay", "debug")
    preloaded.archive(FOLDER / "preloaded.tar", "arm64", preloaded.busybox_of(FOLDER / "shell.img", FOLDER))
    build("server", SERVER, "--container-image", FOLDER / "preloaded.tar")


def ctrl_alt_del_restarts_in_order():
    vm = VMS["shell"] = Machine("shell", FOLDER / "shell.img", FOLDER, keys=True)
    vm.expect(r"kiln: this is edge", 120)
    vm.press("ctrl", "alt", "delete")
    vm.expect(r"kiln: restarting: Ctrl-Alt-Del", 30)
    vm.expect(r"kiln: restart$", 60)
    vm.expect(r"kiln: phase state ok", 120)


def a_hung_pid_1_is_reset_by_the_watchdog():
    vm = VMS.pop("shell")
    vm.told(r"kiln: hardware watchdog armed", 60)
    vm.expect(r"kiln: this is edge", 60)
    # The kernel stops what is in a frozen cgroup, PID 1 too.
    ice = "/sys/fs/cgroup/ice"
    vm.type(f"busybox mkdir {ice}; echo 1 > {ice}/cgroup.procs; echo 1 > {ice}/cgroup.freeze; cat {ice}/cgroup.events")
    vm.expect(r"^frozen 1", 30)
    vm.expect(r"Booting Linux", 120)
    vm.expect(r"kiln: phase state ok", 120)
    vm.stop()


def a_stage_1_without_its_disk_loads_all_modules_then_tries_again_and_reboots_after_five_minutes():
    image = FOLDER / "lost.img"
    run("cp", "--sparse=always", FOLDER / "server.img", image)
    with open(image, "r+b") as card:
        card.seek(440)
        card.write(b"\x01\x02\x03\x04")
    # The guest's clock jumps to the next timer while it waits: five minutes take seconds.
    emulator = "qemu-system-aarch64"
    script = FOLDER / "bin" / emulator
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shutil.which(emulator)} "$@" -icount shift=3,sleep=off\n')
    script.chmod(0o755)
    path = {"PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}
    with Machine("lost", image, FOLDER, environment=path) as vm:
        vm.expect(r"kiln: waiting for the disk with id .*; found: vda \(MBR 04030201\)", 120)
        vm.expect(r"kiln: no disk for the drivers of the devices found; loading every module", 60)
        for _ in range(2):
            vm.expect(r"kiln: phase root failed: no disk with id", 120)
            vm.expect(r"kiln: what to do: .*flash it again", 60)
        vm.expect(r"kiln: no root after 300 s; rebooting", 300)
        vm.expect(r"Booting Linux", 60)
        vm.expect(r"kiln: waiting for the disk with id", 120)


def a_preloaded_pod_runs_at_first_boot_and_is_reached_from_this_machine():
    SWITCH["dhcp"] = dhcp.Server(LAN, "192.168.78.1", "192.168.78.50")
    vm = VMS["server"] = Machine("server", FOLDER / "server.img", FOLDER, "--forward", f"{PORT}:6443", "--lan", LAN)
    vm.expect(r"kiln: joined as hub at", 120)
    KUBE.ready("hub", 120)
    preloaded.reached(KUBE, "hub")


def a_lease_is_renewed_and_a_new_address_reaches_the_node_s_status():
    def known(address):
        path = '{.status.addresses[?(@.type=="InternalIP")].address}'
        KUBE("wait", f"--for=jsonpath={path}={address}", "node/hub", "--timeout=30s")

    server = SWITCH.pop("dhcp")
    with VMS.pop("server") as vm:
        vm.told(r"kiln: network: eth1 has 192\.168\.78\.50/24 from 192\.168\.78\.1", 120)
        known("192.168.78.50")
        server.renewed(3, 60)
        assert not any("eth1 loses" in line for line in vm.lines)
        server.move("192.168.78.60")
        vm.expect(r"kiln: network: eth1 loses 192\.168\.78\.50/24", 60)
        vm.expect(r"kiln: network: eth1 has 192\.168\.78\.60/24", 30)
        known("192.168.78.60")
        server.silence()
        vm.expect(r"kiln: network: eth1 loses 192\.168\.78\.60/24", 120)
        known("10.0.2.15")
        server.silence(False)
        vm.expect(r"kiln: network: eth1 has 192\.168\.78\.60/24", 60)
        known("192.168.78.60")
        vm.process.terminate()
        vm.wait(90)
    server.close()


def the_machines_are_gone():
    for vm in VMS.values():
        vm.stop()


if __name__ == "__main__":
    sys.exit(main([
        images_are_built,
        ctrl_alt_del_restarts_in_order,
        a_hung_pid_1_is_reset_by_the_watchdog,
        a_stage_1_without_its_disk_loads_all_modules_then_tries_again_and_reboots_after_five_minutes,
        a_preloaded_pod_runs_at_first_boot_and_is_reached_from_this_machine,
        a_lease_is_renewed_and_a_new_address_reaches_the_node_s_status,
        the_machines_are_gone,
    ]))
