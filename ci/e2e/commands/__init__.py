"""The kubectl commands of `api.py` by subject, and how they are asked and judged.

A table's row is a command line, what is expected, and what may go to its standard input. Expected is the whole of the
standard output as a text, parts of it (`Has`), a pattern for the whole of it (`Like`) or a refusal (`Fails`).
"""

import pathlib
import re
import shlex
import typing

from harness import Kubectl, free_port, scratch

FOLDER = scratch("api")
PORT = free_port()
URL = f"https://127.0.0.1:{PORT}"
CONFIG = FOLDER / "kubeconfig"
KUBE = Kubectl(CONFIG, URL)
ASKED = []


class Has(tuple):
    """The standard output has these parts."""

    def __new__(cls, *parts):
        return super().__new__(cls, parts)


class Like(str):
    """The whole standard output matches this pattern."""


class Fails(typing.NamedTuple):
    """The command ends with this code, and its standard error has these words."""

    words: str
    code: int = 1


class Warns(typing.NamedTuple):
    """The command succeeds, and its standard error has these words."""

    words: str


def judge(expected, done):
    """What is wrong with an outcome; nothing if it is as expected."""
    if isinstance(expected, Fails):
        return None if done.returncode == expected.code and expected.words in done.stderr else f"wanted {expected}"
    if done.returncode != 0:
        return "it failed"
    if isinstance(expected, Warns):
        return None if expected.words in done.stderr else f"wanted {expected}"
    if isinstance(expected, Has):
        lacking = [part for part in expected if part not in done.stdout]
        return f"lacking {lacking!r}" if lacking else None
    if isinstance(expected, Like):
        return None if re.fullmatch(expected, done.stdout, re.DOTALL) else f"wanted /{expected}/"
    return None if done.stdout == expected else f"wanted {expected!r}"


def ask(namespace, command, stdin=None):
    """Runs one command line in a namespace."""
    ASKED.append(command)
    return KUBE("--namespace", namespace, *shlex.split(command), ok=False, stdin=stdin)


def table(namespace, *rows):
    """Asks row by row; all that is wrong is told at once."""
    wrong = []
    for command, expected, *stdin in rows:
        done = ask(namespace, command, *stdin)
        if reason := judge(expected, done):
            wrong.append(
                f"kubectl {command}\n  {reason}\n  exit {done.returncode}, stdout {done.stdout!r}\n  stderr {done.stderr!r}"
            )
    assert not wrong, "\n".join(wrong)


def file(name, text):
    """A file of the scenario; its path, as a command line takes it."""
    path = pathlib.Path(FOLDER / name)
    path.write_text(text)
    return shlex.quote(str(path))


def namespace(name):
    """A namespace for one test."""
    table("default", (f"create namespace {name}", f"namespace/{name} created\n"))
    return name
