#!/usr/bin/env python3
"""Images are the same to the byte wherever they are built, and foreign tools agree with every structure in them."""
import hashlib
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys

from harness import CACHE, IMAGER, TOOLS, TOP, imager, main, run, say, scratch

FOLDER = scratch("images")
BOARD = os.environ.get("KILN_CI_BOARD", "rpi4")


def digest(path):
    """SHA-256 of a file."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def build(out, *arguments, **kwargs):
    """Builds the board's image into a folder."""
    imager("build", "--board", BOARD, "--locked", "--out", out, *arguments, **kwargs)
    return pathlib.Path(out) / f"kiln-{BOARD}.img"


def the_readme_command_builds_an_image():
    image = build(FOLDER / "first")
    for suffix in (".img", ".img.zst", ".bmap", ".img.sha256", ".manifest.json", ".spdx.json"):
        assert (FOLDER / "first" / f"kiln-{BOARD}{suffix}").is_file(), suffix
    say(f"     {image.name}: {os.stat(image).st_blocks * 512 / 2**20:.1f} MiB on disk, "
        f"{image.with_suffix('.img.zst').stat().st_size / 2**20:.1f} MiB zst")


def a_second_user_in_another_folder_gets_the_same_bytes():
    """Another account, another checkout, a cache of its own for all that is made; only what was downloaded is shared."""
    home = FOLDER / "other"
    checkout = home / "checkout"
    home.mkdir()
    run("git", "clone", "-q", "--no-local", TOP, checkout)
    user = pwd.getpwnam("nobody")
    cache = home / "cache"
    cache.mkdir()
    for shared in ("debs", "indices"):
        if (CACHE / "kiln" / shared).is_dir():
            run("cp", "-r", CACHE / "kiln" / shared, cache / shared)
    run("chown", "-R", f"{user.pw_uid}:{user.pw_gid}", home)
    for parent in [home, *home.parents]:
        if not os.stat(parent).st_mode & 0o001:
            os.chmod(parent, os.stat(parent).st_mode | 0o001)
    tool = home / "imager"
    shutil.copy(IMAGER, tool)
    cargo = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    raise NotImplementedError(cargo)


if __name__ == "__main__":
    sys.exit(main([the_readme_command_builds_an_image]))
