"""A client that writes config maps to a server until it is cut off, and knows which writes the server has acknowledged."""
import base64
import http.client
import json
import re
import ssl
import tempfile

NAMESPACE = "/api/v1/namespaces/default/configmaps"


class Writer:
    """Speaks HTTPS as the kubeconfig's user."""

    def __init__(self, kubeconfig, port):
        text = kubeconfig.read_text()
        field = {name: base64.b64decode(re.search(rf"{name}: *\"?([A-Za-z0-9+/=]+)", text).group(1)).decode()
                 for name in ("certificate-authority-data", "client-certificate-data", "client-key-data")}
        self.port = port
        self.tls = ssl.create_default_context(cadata=field["certificate-authority-data"])
        with tempfile.NamedTemporaryFile("w") as pair:
            pair.write(field["client-certificate-data"] + "\n" + field["client-key-data"])
            pair.flush()
            self.tls.load_cert_chain(pair.name)
        self.acknowledged = set()
        self.count = 0

    def _connect(self):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls, timeout=60)

    def until_cut(self, after, cut):
        """Writes without a pause, calls `cut` once after so many writes, and goes on until the connection breaks."""
        connection = self._connect()
        done = 0
        try:
            while True:
                self.count += 1
                name = f"w-{self.count}"
                body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": "x" * 500}}
                connection.request("POST", NAMESPACE, json.dumps(body), {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 201, answer.status
                self.acknowledged.add(name)
                done += 1
                if done == after:
                    cut()
        except (OSError, http.client.HTTPException):
            return done
        finally:
            connection.close()

    def lost(self):
        """The acknowledged writes that the server does not have."""
        connection = self._connect()
        connection.request("GET", NAMESPACE)
        items = json.loads(connection.getresponse().read())["items"]
        connection.close()
        return self.acknowledged - {item["metadata"]["name"] for item in items}
