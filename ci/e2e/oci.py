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


def busybox(path, name="docker.io/library/busybox:latest", machine=None, binary=BUSYBOX, motd=b"", **config):
    """Writes an OCI archive with a static busybox, as an image of this name; for this machine, if no other is named."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("www", 0o755)):
            _add(tar, folder, mode=mode, kind=tarfile.DIRTYPE)
        _add(tar, "bin/busybox", pathlib.Path(binary).read_bytes())
        for applet in APPLETS:
            _add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)
        _add(tar, "etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644)
        if motd:
            _add(tar, "etc/motd", motd, 0o644)
    blobs = {}

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    content = blob("layer.v1.tar", layer.getvalue())
    machine = machine or {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}[platform.machine()]
    described = {"architecture": machine, "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], **config},
                 "rootfs": {"type": "layers", "diff_ids": [content["digest"]]}}
    described = blob("config.v1+json", json.dumps(described).encode())
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": described,
                "layers": [content]}
    manifest = blob("manifest.v1+json", json.dumps(manifest).encode())
    manifest["annotations"] = {"io.containerd.image.name": name}
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        for digest, data in blobs.items():
            _add(tar, f"blobs/sha256/{digest}", data, 0o644)
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode(), 0o644)


def push(archive, registry, name, tag, authorization):
    """Puts the image of an archive into a registry on this machine. Answers the digest of its manifest."""
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    [described] = json.loads(files["index.json"])["manifests"]

    def send(method, url, data=b"", kind="application/octet-stream"):
        request = urllib.request.Request(url, data, {"Authorization": authorization, "Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.headers["Location"]

    base = f"http://{registry}/v2/{name}"
    for path, data in files.items():
        digest = path.removeprefix("blobs/sha256/")
        if digest != path and f"sha256:{digest}" != described["digest"]:
            where = send("POST", f"{base}/blobs/uploads/")
            send("PUT", f"{where}{'&' if '?' in where else '?'}digest=sha256:{digest}", data)
    manifest = files["blobs/sha256/" + described["digest"].removeprefix("sha256:")]
    send("PUT", f"{base}/manifests/{tag}", manifest, described["mediaType"])
    return described["digest"]
