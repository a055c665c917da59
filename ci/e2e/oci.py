"""Image archives made by the scenarios themselves: no registry is asked."""
import hashlib
import io
import json
import pathlib
import platform
import tarfile
import urllib.request

BUSYBOX = pathlib.Path("/bin/busybox")
APPLETS = ("sh", "ash", "cat", "echo", "sleep", "ls", "id", "env", "hostname", "wget", "nc", "httpd", "kill", "ps", "touch", "rm",
           "true", "false", "test", "grep", "mount", "ip", "nslookup", "date", "stat", "head", "tail", "mkdir", "chmod", "trap",
           "printf", "seq", "vi", "dd", "df", "mv", "cp", "ln", "readlink", "wc", "sort", "tr", "cut", "sed", "awk", "tar", "yes")


def _add(tar, name, data=b"", mode=0o755, kind=tarfile.REGTYPE, link=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(data)
    tar.addfile(entry, io.BytesIO(data))


def layer(files):
    """A layer, as bytes: files by their paths, each with its data, its mode and, if it is none, its kind and what it leads to."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, (data, mode, *rest) in files.items():
            _add(tar, name, data, mode, *rest)
    return out.getvalue()


def folder(mode=0o755):
    """A folder of a layer."""
    return b"", mode, tarfile.DIRTYPE


def link(to):
    """A symbolic link of a layer."""
    return b"", 0o777, tarfile.SYMTYPE, to


def write(path, images, machine=None):
    """Writes an OCI archive. Of each image it takes the names, the layers as bytes, and the configuration; for this machine, if no
    other is named."""
    blobs = {}

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    machine = machine or {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}[platform.machine()]
    manifests = []
    for names, layers, config in images:
        contents = [blob("layer.v1.tar", data) for data in layers]
        described = {"architecture": machine, "os": "linux", "config": config,
                     "rootfs": {"type": "layers", "diff_ids": [content["digest"] for content in contents]}}
        described = blob("config.v1+json", json.dumps(described).encode())
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": described,
                    "layers": contents}
        manifest = blob("manifest.v1+json", json.dumps(manifest).encode())
        manifests += [{**manifest, "annotations": {"io.containerd.image.name": name}} for name in names]
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        for digest, data in blobs.items():
            _add(tar, f"blobs/sha256/{digest}", data, 0o644)
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode(), 0o644)


def busybox(path, name="docker.io/library/busybox:latest", machine=None, binary=BUSYBOX, motd=b"", **config):
    """Writes an OCI archive with a static busybox, as an image of this name."""
    folders = {"bin": 0o755, "etc": 0o755, "tmp": 0o1777, "root": 0o700, "www": 0o755}
    files = {name: folder(mode) for name, mode in folders.items()}
    files["bin/busybox"] = pathlib.Path(binary).read_bytes(), 0o755
    files |= {f"bin/{applet}": link("busybox") for applet in APPLETS}
    files["etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644
    files["etc/group"] = b"root:x:0:\nnobody:x:65534:\n", 0o644
    if motd:
        files["etc/motd"] = motd, 0o644
    write(path, [([name], [layer(files)], {"Cmd": ["sh"], "Env": ["PATH=/bin"], **config})], machine)


def push(archive, registry, name, tag, authorization):
    """Puts the image of an archive into a registry on this machine. Answers the digest of its manifest."""
    with tarfile.open(archive) as tar:
        [described] = json.load(tar.extractfile("index.json"))["manifests"]
        _push(tar, described["digest"], registry, name, tag, {"Authorization": authorization})
    return described["digest"]


def push_all(archive, registry):
    """Puts all images of an archive into a registry on this machine, under the paths and tags of their names."""
    with tarfile.open(archive) as tar:
        for described in json.load(tar.extractfile("index.json"))["manifests"]:
            _, name = described["annotations"]["io.containerd.image.name"].split("/", 1)
            _push(tar, described["digest"], registry, *name.rsplit(":", 1), {})


def _push(tar, digest, registry, name, tag, headers):
    def blob(digest):
        return tar.extractfile("blobs/sha256/" + digest.removeprefix("sha256:")).read()

    def send(method, url, data=b"", kind="application/octet-stream"):
        request = urllib.request.Request(url, data, {**headers, "Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.headers["Location"]

    base = f"http://{registry}/v2/{name}"
    manifest = blob(digest)
    read = json.loads(manifest)
    for part in (read["config"], *read["layers"]):
        where = send("POST", f"{base}/blobs/uploads/")
        send("PUT", f"{where}{'&' if '?' in where else '?'}digest={part['digest']}", blob(part["digest"]))
    send("PUT", f"{base}/manifests/{tag}", manifest, read["mediaType"])
