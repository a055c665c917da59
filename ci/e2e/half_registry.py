#!/usr/bin/env python3
"""A registry of one image, from an archive; in the mode `half` it ends in the middle of the image's layer: ADDRESS ARCHIVE MODE."""
import hashlib
import http.server
import json
import os
import sys
import tarfile

def serve(address, archive, mode):
    """Serves the image of an archive; in the mode `half` it ends in the middle of the first layer."""
    blobs, manifests = {}, {}
    with tarfile.open(archive) as tar:
        for entry in tar:
            data = tar.extractfile(entry).read() if entry.isfile() else b""
            if entry.name.startswith("blobs/"):
                blobs[f"sha256:{hashlib.sha256(data).hexdigest()}"] = data
            elif entry.name == "index.json":
                [manifest] = json.loads(data)["manifests"]
    manifests["1"] = manifests[manifest["digest"]] = blobs[manifest["digest"]]
    layer = json.loads(manifests["1"])["layers"][0]["digest"]

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers as the distribution specification says."""

        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def answer(self, body):
            last = self.path.rsplit("/", 1)[-1]
            is_manifest = "/manifests/" in self.path
            data = b"{}" if self.path == "/v2/" else (manifests if is_manifest else blobs).get(last)
            self.send_response(404 if data is None else 200)
            data = data or b""
            if is_manifest:
                self.send_header("content-type", "application/vnd.oci.image.manifest.v1+json")
                self.send_header("docker-content-digest", f"sha256:{hashlib.sha256(data).hexdigest()}")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if body and mode == "half" and last == layer:
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                print("half a layer is sent", flush=True)
                os._exit(0)
            if body:
                self.wfile.write(data)

        def log_message(self, *_):
            """Nobody reads it."""

    host, port = address.split(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(*sys.argv[1:])
