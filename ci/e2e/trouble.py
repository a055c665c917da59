#!/usr/bin/env python3
"""What goes wrong on a card is told on the console, and on the card where it can be, with what to do about it.

Each scenario damages a copy of one image in one way, boots it in QEMU, and reads the console and the card.
"""
import json
import pathlib
import signal
import subprocess
import sys

from harness import IMAGER, TOP, Machine, imager, locked, main, run, scratch

FOLDER = scratch("trouble")
BOARD = "virt-aarch64"
AGENT = """version = 1
[node]
name = "edge"
role = "agent"
[cluster]
server = "https://10.0.2.2:1"
token = "K10{hash}::abcdef:0123456789abcdef"
[time]
servers = []
"""


def original():
    """The undamaged image of an agent whose server does not answer."""
    return FOLDER / f"kiln-{BOARD}.img"


def copy(name):
    """A copy to damage."""
    image = FOLDER / f"{name}.img"
    run("cp", "--sparse=always", original(), image)
    return image


def config_partition(image):
    """The CONFIG partition: as mtools name it, its first byte, and its length."""
    table = json.loads(run("sfdisk", "--json", image).stdout)["partitiontable"]
    start, size = (table["partitions"][0][k] * 512 for k in ("start", "size"))
    return f"{image}@@{start}", start, size


def told_on_the_card(image):
    """What join-status.txt says."""
    return run("mtype", "-i", config_partition(image)[0], "::join-status.txt").stdout


def a_build_that_is_killed_leaves_nothing_and_the_next_succeeds():
    settings = FOLDER / "node.toml"
    settings.write_text(AGENT.format(hash="0" * 64))
    build = [IMAGER, "build", "--board", BOARD, *locked(), "--config", settings, "--out", FOLDER]
    killed = subprocess.Popen([str(x) for x in build], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in killed.stderr:
        if line.startswith(("Write image", "Hash and compress")):
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    left = [p.name for p in FOLDER.glob("kiln-*")]
    assert not left, left
    run(*build, cwd=TOP)
    imager("verify", original())
    left = [p.name for p in pathlib.Path(FOLDER).iterdir() if p.name.startswith(".")]
    assert not left, f"the killed build's leavings are still there: {left}"


def a_server_that_does_not_answer_is_told_on_console_and_card():
    image = copy("silent")
    with Machine("silent", image, FOLDER) as vm:
        vm.expect(r"kiln: join failed: .*", 120)
        vm.process.terminate()
        vm.wait(90)
    told = told_on_the_card(image)
    assert "10.0.2.2:1" in told and "edge" in told, told


def a_wrong_key_is_told_with_its_line_and_the_nearest_right_one():
    image = copy("typo")
    text = run("mtype", "-i", config_partition(image)[0], "::node.toml").stdout.replace("server =", "sevrer =", 1)
    run("mcopy", "-o", "-i", config_partition(image)[0], "-", "::node.toml", input=text)
    with Machine("typo", image, FOLDER) as vm:
        why = vm.expect(r"kiln: phase config failed: (.*)", 120).group(1)
        assert "node.toml:6:1" in why and "sevrer" in why and "server" in why, why
        vm.process.terminate()
        vm.wait(90)
    assert "sevrer" in told_on_the_card(image)


def a_card_without_settings_says_how_to_write_them():
    image = copy("empty")
    run("mdel", "-i", config_partition(image)[0], "::node.toml")
    with Machine("empty", image, FOLDER) as vm:
        vm.expect(r"kiln: phase config failed: .*no node\.toml", 120)
        vm.process.terminate()
        vm.wait(90)
    assert "imager config set" in told_on_the_card(image)


def a_card_without_a_config_partition_is_told_on_the_console():
    image = copy("wiped")
    _, start, _ = config_partition(image)
    with open(image, "r+b") as f:
        f.seek(start)
        f.write(bytes(1 << 20))
    with Machine("wiped", image, FOLDER, "--board", BOARD) as vm:
        vm.expect(r"kiln: phase config failed: .*no FAT file system", 120)


def a_full_config_partition_does_not_keep_the_node_from_its_work():
    image = copy("full")
    where, _, size = config_partition(image)
    filler = FOLDER / "filler"
    free = int(run("mdir", "-i", where, "::").stdout.split("bytes free")[0].split("\n")[-1].replace(" ", ""))
    with open(filler, "wb") as f:
        f.truncate(free)
    assert free <= size
    run("mcopy", "-i", where, filler, "::filler")
    with Machine("full", image, FOLDER) as vm:
        vm.told(r"CONFIG not written: .*", 120)
        vm.told(r"kiln: join failed: .*", 120)
    filler.unlink()


if __name__ == "__main__":
    sys.exit(main([
        a_build_that_is_killed_leaves_nothing_and_the_next_succeeds,
        a_server_that_does_not_answer_is_told_on_console_and_card,
        a_wrong_key_is_told_with_its_line_and_the_nearest_right_one,
        a_card_without_settings_says_how_to_write_them,
        a_card_without_a_config_partition_is_told_on_the_console,
        a_full_config_partition_does_not_keep_the_node_from_its_work,
    ]))
