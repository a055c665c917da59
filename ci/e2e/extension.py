#!/usr/bin/env python3
"""A webhook and the server of an API, for a scenario to put behind a Service: `extension.py CERTIFICATE KEY CA`."""
import http.server
import json
import ssl
import sys
from urllib.parse import urlsplit

GROUP, VERSION = "wardle.example.com", "v1alpha1"


class Extension(http.server.BaseHTTPRequestHandler):
    """A webhook that refuses what is called bad and converts what it is given, and the server of an API that tells who asks."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing."""

    def answer(self, document, code=200):
        """Sends a document."""
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        """The API: discovery, and one kind of objects."""
        path = urlsplit(self.path).path
        base = f"/apis/{GROUP}/{VERSION}"
        if path == base:
            flunders = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["list"]}
            self.answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": [flunders]})
        elif path == f"{base}/namespaces/default/flunders":
            shown = self.connection.getpeercert() or {}
            name = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
            who = {"user": self.headers["X-Remote-User"], "groups": self.headers.get_all("X-Remote-Group"), "proxy": name}
            self.answer({"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": [], "who": who})
        else:
            self.answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}, 404)

    def do_POST(self):
        """The webhooks."""
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review.pop("request")
        if review["kind"] == "ConversionReview":
            objects = [{**o, "apiVersion": request["desiredAPIVersion"]} for o in request["objects"]]
            response = {"result": {"status": "Success"}, "convertedObjects": objects}
        else:
            response = {"allowed": request["name"] != "bad", "status": {"message": "it is bad", "code": 403}}
        self.answer({**review, "response": {"uid": request["uid"], **response}})


def serve(certificate, key, ca):
    """Serves until it is ended."""
    server = http.server.ThreadingHTTPServer(("", 8443), Extension)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(*sys.argv[1:])
