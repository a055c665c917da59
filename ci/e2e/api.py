#!/usr/bin/env python3
"""The real kubectl against a server without a node: every verb and patch type, compared with what the reference documents.

The commands are tables in `commands/`; here the server is started, and it is seen that they were many. KILN_BIN names the
binary.
"""

import os
import sys

from commands import ASKED, CONFIG, FOLDER, PORT, changing, defining, ending, making, reading, rights
from harness import KILN, KUBECTL, main, run, say
from process import lone_server

RUNNING = {}


def a_server_without_a_node_serves():
    # kubectl's memory of what a server has is this scenario's own.
    os.environ["KUBECACHEDIR"] = str(FOLDER / "cache")
    RUNNING["server"] = lone_server(FOLDER / "server", PORT)
    CONFIG.write_text(run(KILN, "kubeconfig", "--data-dir", FOLDER / "server").stdout)


def at_least_120_commands_were_asked():
    say(f"     {len(ASKED)} commands")
    assert len(ASKED) >= 120, ASKED


def the_server_ends_in_order():
    RUNNING.pop("server").stop()


if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    try:
        sys.exit(
            main(
                [
                    a_server_without_a_node_serves,
                    *making.TESTS,
                    *changing.TESTS,
                    *reading.TESTS,
                    *rights.TESTS,
                    *defining.TESTS,
                    *ending.TESTS,
                    at_least_120_commands_were_asked,
                    the_server_ends_in_order,
                ]
            )
        )
    finally:
        for process in RUNNING.values():
            process.kill()
