"""What scenarios of ordinary processes share: one whose lines can be awaited, and a server that is not what it says."""
import http.server
import os
import queue
import re
import ssl
import subprocess
import threading
import time

from harness import KILN


class Process:
    """A process of this scenario whose lines can be awaited."""

    def __init__(self, *command, **environment):
        self.name = " ".join(str(c) for c in command[:2])
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment})
        self.lines = queue.Queue()
        self.said = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def expect(self, pattern, seconds=30):
        """The first line from here on that the pattern matches; fails with all that was said."""
        deadline = time.monotonic() + seconds
        try:
            while (line := self.lines.get(timeout=max(0, deadline - time.monotonic()))) is not None:
                self.said.append(line)
                if found := re.search(pattern, line):
                    return found
        except queue.Empty:
            pass
        said = "\n".join(self.said)
        raise AssertionError(f"{self.name}: no line like /{pattern}/ within {seconds} s; it said:\n{said}")

    def signal(self, number):
        """Sends a signal."""
        self.process.send_signal(number)

    def kill(self):
        """Ends it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Ends it in order and expects that to succeed."""
        self.process.terminate()
        code = self.process.wait(30)
        assert code == 0, f"{self.name} ended with {code}"


class Rogue(http.server.ThreadingHTTPServer):
    """A server that has a certificate, tells a CA, and notes all that it is asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers the CA, and else nothing."""

        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            self.server.asked.append((self.requestline, f"{self.headers}{body.decode('utf-8', 'replace')}"))
            found = self.path == "/cacerts"
            self.send_response(200 if found else 401)
            self.send_header("content-length", str(len(self.server.ca) if found else 0))
            self.end_headers()
            self.wfile.write(self.server.ca if found else b"")

        do_GET = do_POST = answer

        def log_message(self, *_):
            """What was asked is noted, not printed."""

    def __init__(self, certificate, key, ca):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.ca = ca.encode()
        self.asked = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A client that hangs up is what is looked for here."""


# Leaves this machine's own network alone, which is not a node's.
APART = ("--flannel-backend", "none", "--disable-kube-proxy", "--disable", "dns", "--disable", "ingress", "--disable", "servicelb",
         "--disable", "mdns")


def foreign_network(folder):
    """A network of somebody else's in a node's data folder: with one, its runtime is ready."""
    path = folder / "agent/cni/net.d/10-alone.conflist"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"cniVersion": "1.0.0", "name": "alone", "plugins": [{"type": "loopback"}]}')


def lone_server(folder, port):
    """Starts a server without a node on loopback, and waits until it serves."""
    server = Process(KILN, "server", "--disable-agent", "--disable", "mdns", "--bind-address", "127.0.0.1",
                     "--https-listen-port", port, "--data-dir", folder)
    server.expect("serving url=")
    return server
