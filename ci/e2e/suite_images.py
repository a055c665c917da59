"""The images that Kubernetes' own tests run, made here: the tests' programs out of their sources, all else out of Debian's packages.

They do what the originals do as far as the tests look at it, and are no copies of them. One thing they do not: the shell of Debian's
busybox drops variables with names that are odd to it, and four tests of such names fail with it.
"""
import json
import pathlib
import subprocess

import oci
from harness import TOOLS, run

TESTS = "registry.k8s.io/e2e-test-images/"
# What the tests call in a shell.
PACKAGES = ("curl", "dnsutils", "iperf", "iproute2", "iputils-ping", "net-tools", "netcat-openbsd", "nginx-light", "perl-base", "procps",
            "util-linux", "wget")
NGINX = b"""user root; worker_processes 1; error_log /dev/stderr; pid /run/nginx.pid;
events { worker_connections 256; }
http { include /etc/nginx/mime.types; access_log /dev/stdout; server { listen 80; root /usr/share/nginx/html; } }
"""
USERS = b"user-defined-in-image:x:1000:1000::/:/bin/sh\n"
GROUPS = b"user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"


def system(folder, mirror):
    """A small Debian, as a layer."""
    root = folder / "debian"
    if not (root / "etc/debian_version").exists():
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", root, mirror)
    left_out = [f"--exclude=./{path}" for path in ("dev/*", "proc/*", "sys/*", "var/cache/*", "var/lib/apt/*", "usr/share/doc/*",
                                                    "usr/share/man/*", "usr/share/locale/*")]
    return root, subprocess.run(["tar", "-C", root, *left_out, "-c", "."], stdout=subprocess.PIPE, check=True).stdout


def busybox():
    """The layer of a busybox that is all there is."""
    applets = run(oci.BUSYBOX, "--list").stdout.split()
    files = {name: oci.folder() for name in ("bin", "etc", "home", "root", "sbin", "usr", "usr/bin", "var")}
    files |= {"tmp": oci.folder(0o1777), "bin/busybox": (oci.BUSYBOX.read_bytes(), 0o755)}
    files |= {f"bin/{applet}": oci.link("busybox") for applet in applets if applet != "busybox"}
    files["etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644
    files["etc/group"] = b"root:x:0:\nnobody:x:65534:\n", 0o644
    return oci.layer(files)


def write(archive, folder, source, mirror):
    """Writes the archive. `folder` has the programs that `ci/suite` has compiled, `source` is Kubernetes'."""
    root, debian = system(folder, mirror)
    programs = {"agnhost": ((folder / "agnhost").read_bytes(), 0o755), "agnhost-2": oci.link("agnhost"), "uploads": oci.folder()}
    for name in ("localhost.crt", "localhost.key"):
        programs[name] = (source / "test/images/agnhost/porter" / name).read_bytes(), 0o644
    programs["etc"] = oci.folder()
    for name, more in (("passwd", USERS), ("group", GROUPS)):
        programs[f"etc/{name}"] = (root / "etc" / name).read_bytes() + more, 0o644
    agnhost = [debian, oci.layer(programs)]
    path = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    entry = {**path, "Entrypoint": ["/agnhost"]}

    def page(name, **more):
        shown = json.dumps({"image": f"{name}.jpg"}).encode()
        return oci.layer({"data.json": (shown, 0o644), f"{name}.jpg": (b"", 0o644), **more})

    def nginx(version):
        html = {"usr": oci.folder(), "usr/share": oci.folder(), "usr/share/nginx": oci.folder(), "usr/share/nginx/html": oci.folder()}
        html["usr/share/nginx/html/index.html"] = f"<h1>nginx {version}</h1>\n".encode(), 0o644
        conf = {"etc": oci.folder(), "etc/nginx": oci.folder(), "etc/nginx/nginx.conf": (NGINX, 0o644)}
        return [f"{TESTS}nginx:{version}"], [debian, oci.layer({**html, **conf})], {**path, "Cmd": ["nginx", "-g", "daemon off;"]}

    def program(name, at, mode=0o755):
        return oci.layer({at: ((folder / name).read_bytes(), mode)})

    # Its volume is asked for the system that the original is made of.
    alpine = {"etc": oci.folder(), "etc/os-release": (b'NAME="Alpine Linux"\n', 0o644)}
    etcd = oci.layer({"usr/local/bin/etcd": (pathlib.Path(TOOLS / "etcd").read_bytes(), 0o755)})
    oci.write(archive, [
        ([f"{TESTS}agnhost:2.63.0", f"{TESTS}agnhost:2.55"], agnhost, {**entry, "Cmd": ["pause"]}),
        (["registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.10"], agnhost, {**path, "Entrypoint": ["/agnhost", "pause"]}),
        ([f"{TESTS}nonroot:1.5"], agnhost, {**entry, "Cmd": ["pause"], "User": "1234"}),
        ([f"{TESTS}kitten:1.8"], [*agnhost, page("kitten", **alpine)], {**entry, "Cmd": ["test-webserver"]}),
        ([f"{TESTS}nautilus:1.8"], [*agnhost, page("nautilus")], {**entry, "Cmd": ["test-webserver"]}),
        ([f"{TESTS}busybox:1.37.0-1"], [busybox()], {"Env": ["PATH=/bin"], "Cmd": ["sh"]}),
        nginx("1.15-4"),
        nginx("1.27-0"),
        ([f"{TESTS}glibc-dns-testing:2.0.0"], [debian], {**path, "Cmd": ["sh"]}),
        ([f"{TESTS}perl:5.26"], [debian], {**path, "Cmd": ["perl"]}),
        ([f"{TESTS}ipc-utils:1.4"], [debian], {**path, "Cmd": ["sh"]}),
        ([f"{TESTS}nonewprivs:1.4"], [debian, program("nonewprivs", "usr/local/bin/nnp", 0o6755)], {**path, "Cmd": ["nnp"]}),
        ([f"{TESTS}sample-apiserver:1.29.2"], [debian, program("sample-apiserver", "sample-apiserver")],
         {**path, "Entrypoint": ["/sample-apiserver"]}),
        (["registry.k8s.io/etcd:3.6.8-0"], [debian, etcd], {**path, "Cmd": ["etcd"]}),
    ])
