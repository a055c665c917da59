#!/usr/bin/env python3
"""Images are the same to the byte wherever they are built, and foreign tools agree with every structure in them."""
import base64
import hashlib
import json
import os
import pathlib
import pwd
import re
import shutil
import sys
import tempfile

import oci
from harness import CACHE, IMAGER, TOOLS, TOP, free_port, imager, locked, main, run, say, scratch
from process import Process

FOLDER = scratch("images")
BOARD = "rpi4"
UEFI = "x86_64"
OUTPUTS = ("img", "img.zst", "bmap", "sha256", "manifest.json", "spdx.json")


def digest(path):
    """SHA-256 of a file."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def output(out, suffix, board=BOARD):
    """One of a build's files."""
    return pathlib.Path(out) / f"kiln-{board}.{suffix}"


# With KILN_CI_COMPILE_TWICE=1 the second user compiles the runtime too, which takes minutes; else both are given one binary.
COMPILE_TWICE = os.environ.get("KILN_CI_COMPILE_TWICE") == "1"


def build(out, board=BOARD, *arguments):
    """Builds a board's image into a folder."""
    imager("build", "--board", board, "--out", out, *arguments, *locked())


def compiled():
    """The runtime of the board, as the first build compiled it."""
    found = sorted((CACHE / "kiln" / "runtime").glob("aarch64-*/kiln"), key=lambda path: path.stat().st_mtime)
    return found[-1]


def the_readme_command_builds_an_image():
    build(FOLDER / "first")
    # What the article says of the binary; one that kept its symbols was 58 MB.
    assert compiled().stat().st_size < 40_000_000, compiled()
    for suffix in OUTPUTS:
        assert output(FOLDER / "first", suffix).is_file(), suffix
    say(f"     {BOARD}: {os.stat(output(FOLDER / 'first', 'img')).st_blocks * 512 / 2**20:.1f} MiB on disk, "
        f"{output(FOLDER / 'first', 'img.zst').stat().st_size / 2**20:.1f} MiB zst")


def a_second_user_in_another_folder_gets_the_same_bytes():
    """Another account, another checkout, and a cache of its own for all that is made; only downloads are shared, and the
    compiled runtime unless it is to be compiled twice."""
    # Where any account can reach it: the checkout under test may lie in a private folder.
    home = pathlib.Path(tempfile.mkdtemp(prefix="kiln-ci-", dir="/var/tmp"))
    home.chmod(0o755)
    try:
        compare_with_another_user(home)
    finally:
        shutil.rmtree(home)


def compare_with_another_user(home):
    """Builds the board's image in a folder as another account, and compares every output."""
    run("git", "clone", "-q", "--no-local", TOP, home / "checkout")
    cache = home / "cache"
    cache.mkdir()
    for downloads in ("debs", "indices"):
        run("cp", "-r", CACHE / "kiln" / downloads, cache / downloads)
    shutil.copy(IMAGER, home / "imager")
    shutil.copy(locked()[-1], home / "imager.lock")
    (home / "imager.lock").chmod(0o644)
    # The account needs a cargo and the crates' archives that it can reach; it unpacks and compiles for itself.
    rustup = pathlib.Path(run("rustc", "--print", "sysroot").stdout.strip())
    if run("cp", "-al", rustup, home / "rust", ok=False).returncode:
        run("cp", "-r", rustup, home / "rust")
    ours = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo")) / "registry"
    for part in ("cache", "index"):
        (home / "cargo" / "registry").mkdir(parents=True, exist_ok=True)
        run("cp", "-r", ours / part, home / "cargo" / "registry" / part)
    user = pwd.getpwnam("nobody")
    for mine in (home, home / "checkout", cache, home / "cargo"):
        run("chown", *([] if mine == home else ["-R"]), f"{user.pw_uid}:{user.pw_gid}", mine)
    given, first = [], FOLDER / "first"
    if not COMPILE_TWICE:
        shutil.copy(compiled(), home / "kiln")
        (home / "kiln").chmod(0o755)
        given, first = ["--runtime-binary", home / "kiln"], FOLDER / "given"
        build(first, BOARD, "--runtime-binary", compiled())
    run("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "env", "-i", f"HOME={home}",
        f"CARGO_HOME={home / 'cargo'}", f"PATH={home / 'rust' / 'bin'}:/usr/local/bin:/usr/bin:/bin", home / "imager",
        "--cache", cache, "build", "--board", BOARD, "--locked", "--lock", home / "imager.lock",
        *given, "--out", home / "out", cwd=home / "checkout")
    for suffix in OUTPUTS:
        ours, theirs = (digest(output(folder, suffix)) for folder in (first, home / "out"))
        assert ours == theirs, f"{suffix}: {ours} and {theirs}"
    say(f"     {BOARD}: sha256 {digest(output(home / 'out', 'img'))} twice")


def a_lock_that_no_longer_holds_is_refused():
    lock = FOLDER / "imager.lock"
    text = locked()[-1].read_text()
    changed = re.sub(r'(name = "libc6"\nversion = ")[^"]*', r"\g<1>0.0.1", text)
    assert changed != text, "no libc6 in imager.lock"
    lock.write_text(changed)
    refused = imager("build", "--board", BOARD, "--locked", "--lock", lock, "--out", FOLDER / "drift", ok=False)
    assert refused.returncode == 5, (refused.returncode, refused.stderr)
    assert "libc6" in refused.stderr, refused.stderr
    assert not (FOLDER / "drift").exists() or not list((FOLDER / "drift").iterdir()), "a refused build left files"


def partition(image, number):
    """Cuts a partition out of an image, sparse."""
    table = json.loads(run("sfdisk", "--json", image).stdout)["partitiontable"]
    part = table["partitions"][number - 1]
    cut = image.with_suffix(f".p{number}")
    run("dd", f"if={image}", f"of={cut}", "bs=512", f"skip={part['start']}", f"count={part['size']}", "conv=sparse")
    return cut


def foreign_tools_agree():
    build(FOLDER / "uefi", UEFI)
    for board, folder in ((BOARD, "first"), (UEFI, "uefi")):
        image = output(FOLDER / folder, "img", board)
        told = run("sfdisk", "--verify", image)
        assert "No errors detected" in told.stdout + told.stderr, told.stdout + told.stderr
        for number in (1, 2, 3):
            run("fsck.fat", "-n", partition(image, number))
        slot = partition(image, 2)
        root = slot.with_suffix(".squashfs")
        root.unlink(missing_ok=True)
        run("mcopy", "-n", "-i", slot, "::root.squashfs", root)
        listing = run("unsquashfs", "-lls", "-no-progress", root).stdout
        assert re.search(r"-rwxr-xr-x root/root .* squashfs-root/usr/bin/kiln$", listing, re.M), listing[:2000]
        cmdline = run("mtype", "-i", slot, "::cmdline.txt").stdout
        words = dict(w.split("=", 1) for w in cmdline.split() if w.startswith("kiln."))
        run("veritysetup", "verify", root, root, words["kiln.roothash"], f"--hash-offset={words['kiln.hashoffset']}")
        wrong = words["kiln.roothash"].translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
        refused = run("veritysetup", "verify", root, root, wrong, f"--hash-offset={words['kiln.hashoffset']}", ok=False)
        assert refused.returncode, "verity accepted a wrong root hash"
        copied = FOLDER / f"{board}.bmaptool.img"
        run("bmaptool", "copy", "--bmap", output(FOLDER / folder, "bmap", board), image, copied)
        assert digest(copied) == digest(image), "bmaptool's copy differs"
        run("zstd", "-t", output(FOLDER / folder, "img.zst", board))
        run("sha256sum", "-c", output(FOLDER / folder, "sha256", board).name, cwd=FOLDER / folder)
        run(TOOLS / "spdx" / "bin" / "pyspdxtools", "-i", output(FOLDER / folder, "spdx.json", board))
        say(f"     {board}: sfdisk, fsck.fat, unsquashfs, veritysetup, bmaptool, zstd, sha256sum and the SPDX validator agree")


def a_full_disk_leaves_no_half_image():
    small = FOLDER / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", small)
    try:
        refused = imager("build", "--board", BOARD, "--out", small / "out", *locked(), ok=False)
        assert refused.returncode == 6, (refused.returncode, refused.stderr)
        assert "space" in refused.stderr, refused.stderr
        left = [p for p in small.rglob("*") if p.is_file()]
        assert not left, left
    finally:
        run("umount", small)


def an_unknown_board_is_refused_with_the_nearest_name():
    refused = imager("build", "--board", "rpi44", "--out", FOLDER / "nope", ok=False)
    assert refused.returncode in (2, 3) and "rpi4" in refused.stderr, (refused.returncode, refused.stderr)
    assert not (FOLDER / "nope").exists()


def an_image_is_pulled_by_its_name_and_pinned():
    registry = f"127.0.0.1:{free_port()}"
    # bcrypt of `secret`.
    (FOLDER / "users").write_text("me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
    (FOLDER / "registry.yml").write_text(json.dumps({
        "version": 0.1, "storage": {"filesystem": {"rootdirectory": str(FOLDER / "registry")}}, "http": {"addr": registry},
        "auth": {"htpasswd": {"realm": "test", "path": str(FOLDER / "users")}}}))
    both = base64.b64encode(b"me:secret").decode()
    (FOLDER / "auth.json").write_text(json.dumps({"auths": {registry: {"auth": both}}}))
    for number in ("1", "2"):
        oci.busybox(FOLDER / f"{number}.tar", machine="arm64", Labels={"number": number})
    name, lock = f"{registry}/shop/till:1", FOLDER / "pins.lock"
    shutil.copy(locked()[-1], lock)
    build = ["build", "--board", BOARD, "--container-image", name, "--lock", lock, "--dry-run", "-o", "json"]

    def built(*arguments, cache=CACHE / "kiln"):
        [image] = json.loads(imager("--cache", cache, *build, *arguments).stdout)["container-images"]
        assert image["names"] == [name], image
        return image["sha256"]

    server = Process("docker-registry", "serve", FOLDER / "registry.yml")
    try:
        server.expect("listening on")
        oci.push(FOLDER / "1.tar", registry, "shop/till", "1", f"Basic {both}")
        refused = imager(*build, ok=False)
        assert refused.returncode == 4 and "401" in refused.stderr, refused
        auth = ["--registry-auth", FOLDER / "auth.json"]
        refused = imager(*build, *auth, "--locked", ok=False)
        assert refused.returncode == 5 and "not in the lock" in refused.stderr, refused
        first = built(*auth)
        # The name is another image's now; the lock has the one before.
        moved = oci.push(FOLDER / "2.tar", registry, "shop/till", "1", f"Basic {both}")
        assert built(*auth, "--locked", cache=FOLDER / "other-cache") == first
        assert moved not in lock.read_text()
    finally:
        server.kill()
    assert built("--offline", "--locked") == first
    wrong = imager("build", "--board", "x86_64", "--container-image", FOLDER / "1.tar", "--dry-run", ok=False)
    assert wrong.returncode == 3 and "is for arm64, not for amd64" in wrong.stderr, wrong


if __name__ == "__main__":
    sys.exit(main([
        the_readme_command_builds_an_image,
        a_lock_that_no_longer_holds_is_refused,
        an_unknown_board_is_refused_with_the_nearest_name,
        an_image_is_pulled_by_its_name_and_pinned,
        a_full_disk_leaves_no_half_image,
        foreign_tools_agree,
        a_second_user_in_another_folder_gets_the_same_bytes,
    ]))
