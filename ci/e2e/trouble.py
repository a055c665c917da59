#!/usr/bin/env python3
"""What goes wrong on a card is told on the console, and on the card where it can be, with what to do about it.

Each scenario damages a copy of one image in one way, boots it in QEMU, and reads the console and the card. A server loses its
power again and again: KILN_CI_POWER_CUTS says how often, KILN_CI_SEED repeats a run.
"""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading
import time

from harness import IMAGER, TOP, Kubectl, Machine, free_port, imager, locked, main, run, say, scratch
from store import Writer

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


def partition(image, number):
    """A partition's first byte and length."""
    table = json.loads(run("sfdisk", "--json", image).stdout)["partitiontable"]
    return tuple(table["partitions"][number - 1][k] * 512 for k in ("start", "size"))


def config_partition(image):
    """The CONFIG partition: as mtools name it, its first byte, and its length."""
    start, size = partition(image, 1)
    return f"{image}@@{start}", start, size


def copied_out(image, number):
    """A partition as a file of its own, for tools that want one."""
    start, size = partition(image, number)
    file = image.with_suffix(f".{number}")
    run("dd", f"if={image}", f"of={file}", "bs=4096", f"skip={start // 4096}", f"count={size // 4096}", "conv=sparse")
    return file


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


def a_changed_block_of_the_root_is_told_and_tried_again():
    image = copy("changed")
    start, size = partition(image, 2)
    with open(image, "r+b") as card:
        card.seek(start)
        root = start + card.read(size).index(b"hsqs")
        # In squashfs's first block: what mounts it reads it.
        card.seek(root + 100)
        byte = card.read(1)
        card.seek(root + 100)
        card.write(bytes([byte[0] ^ 1]))
    with Machine("changed", image, FOLDER) as vm:
        vm.expect(r"verity: .*block 0 is corrupted", 120)
        vm.expect(r"kiln: phase root failed: .*the root does not match its hash", 30)
        vm.expect(r"kiln: what to do: .*Flash it anew", 30)
        vm.expect(r"kiln: phase root failed: ", 60)
    told = " ".join(told_on_the_card(image).split())
    assert "does not match its hash" in told and "Flash it anew" in told, told


def a_server_whose_power_is_cut_at_any_moment_loses_nothing_that_it_acknowledged():
    seed = os.environ.get("KILN_CI_SEED", str(time.time_ns()))
    rounds = int(os.environ.get("KILN_CI_POWER_CUTS", "3"))
    say(f"     seed {seed}, {rounds} rounds")
    dice = random.Random(seed)
    cluster, port = FOLDER / "cluster", free_port()
    imager("cluster", "init", cluster, "--server", f"https://127.0.0.1:{port}")
    settings = FOLDER / "hub.toml"
    settings.write_text('version = 1\n[node]\nname = "hub"\nrole = "server"\n[time]\nservers = []\n')
    imager("build", "--board", BOARD, *locked(), "--config", settings, "--cluster", cluster, "--image-name", "hub",
           "--no-compress", "--out", FOLDER)
    image, writer, kube = FOLDER / "hub.img", Writer(cluster / "admin.kubeconfig", port), None
    uid = None
    for turn in range(rounds):
        # In the middle of a boot, the first one too, when STATE and the database are made.
        vm = Machine("hub", image, FOLDER, "--forward", f"{port}:6443")
        vm.expect(r"Run /init as init process", 120)
        for _ in range(dice.randrange(1, 45)):
            if re.search(r"kiln: memory used", vm.expect("", 120).string):
                break
        at = vm.lines[-1]
        vm.cut()
        # And while it works.
        vm = Machine("hub", image, FOLDER, "--forward", f"{port}:6443")
        vm.expect(r"kiln: joined as hub at", 180)
        kube = kube or Kubectl(cluster / "admin.kubeconfig", f"https://127.0.0.1:{port}")
        kube.ready("hub", 60)
        found = kube("get", "node", "hub", "-o", "jsonpath={.metadata.uid}").stdout
        assert uid in (None, found), "the Node was replaced"
        uid = found
        assert not writer.lost(), f"lost: {sorted(writer.lost())}"
        cutter = threading.Thread(target=vm.cut)
        done = writer.until_cut(dice.randrange(1, 150), cutter.start)
        cutter.join()
        say(f"     round {turn + 1}: cut at boot after `{at.strip()[:70]}`, then after {done} writes")
    with Machine("hub", image, FOLDER, "--forward", f"{port}:6443") as vm:
        vm.expect(r"kiln: joined as hub at", 180)
        kube.ready("hub", 60)
        assert not writer.lost(), f"lost: {sorted(writer.lost())}"
        vm.process.terminate()
        vm.wait(90)
    run("e2fsck", "-fn", copied_out(image, 4))
    checked = run("fsck.fat", "-n", copied_out(image, 1), ok=False).stdout
    assert "irty bit" not in checked and "FATs differ" not in checked, checked

    # Then its card is copied to a larger one.
    before = partition(image, 4)[1]
    with Machine("hub", image, FOLDER, "--forward", f"{port}:6443", "--disk-size", "8G") as vm:
        vm.expect(r"kiln: STATE's file system was grown to its partition", 180)
        vm.expect(r"kiln: joined as hub at", 180)
        kube.ready("hub", 60)
        assert not writer.lost(), f"lost: {sorted(writer.lost())}"
        vm.process.terminate()
        vm.wait(90)
    assert partition(image, 4)[1] > before + 3 * 2**30, (before, partition(image, 4))
    run("e2fsck", "-fn", copied_out(image, 4))
    say(f"     {len(writer.acknowledged)} acknowledged writes, none lost")


def a_card_is_flashed_verified_and_not_by_accident():
    image = original()
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        file = FOLDER / "plain"
        with open(file, "wb") as f:
            f.truncate(1 << 30)
        refused = imager("flash", image, file, "--yes", ok=False)
        assert refused.returncode != 0 and "--force" in refused.stderr, refused.stderr
        say("     no root here: only the refusal was tried")
        return
    backing = FOLDER / "card"
    with open(backing, "wb") as f:
        f.truncate(1 << 30)
        # An old file system must not show through.
        f.write(b"\xa5" * (64 << 20))
    device = run("losetup", "--find", "--show", backing).stdout.strip()
    try:
        refused = imager("flash", image, device, "--yes", ok=False)
        assert refused.returncode != 0 and "--force" in refused.stderr, refused.stderr
        with open(backing, "rb") as f:
            assert f.read(512) == b"\xa5" * 512, "a refused device was written to"
        imager("flash", image.with_suffix(".img.zst"), device, "--yes", "--force")
        imager("verify", device)
        listing = json.loads(imager("inspect", device, "-o", "json").stdout)
        assert BOARD in json.dumps(listing), listing
    finally:
        run("losetup", "--detach", device)


if __name__ == "__main__":
    sys.exit(main([
        a_build_that_is_killed_leaves_nothing_and_the_next_succeeds,
        a_server_that_does_not_answer_is_told_on_console_and_card,
        a_wrong_key_is_told_with_its_line_and_the_nearest_right_one,
        a_card_without_settings_says_how_to_write_them,
        a_card_without_a_config_partition_is_told_on_the_console,
        a_full_config_partition_does_not_keep_the_node_from_its_work,
        a_changed_block_of_the_root_is_told_and_tried_again,
        a_server_whose_power_is_cut_at_any_moment_loses_nothing_that_it_acknowledged,
        a_card_is_flashed_verified_and_not_by_accident,
    ]))
