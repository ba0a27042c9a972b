#!/usr/bin/env python3
"""assemble.py: the image, put together from a Debian 13 in which the programs are installed. build runs it there.

It copies no folder. It begins with the programs and follows what each file needs: the loader, the shared
libraries, the links on the way to them, and the copyright file of every package that a file came from. What
nothing needs does not come along, so there is no shell to leave out.

Two layers: Debian's files, which stay the same digest until Debian's packages change, so that a new version of
the programs is a small download; and the programs. Every date is fixed, owners are root, names are sorted:
the same packages and the same commit make the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import stat
import subprocess
import tarfile
import time
import urllib.parse

TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
USER = 65532
SBOM = "/usr/share/doc/darkroom/darkroom.spdx.json"
WRITTEN = {  # files of no package: the user, and where names of hosts are looked for
    "/etc/passwd": f"root:x:0:0:root:/:/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/nologin\n",
    "/etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}
MADE = {"/etc/ssl/certs/ca-certificates.crt": "ca-certificates"}  # by a package when it was installed
EMPTY = ("/dev", "/proc", "/sys", "/tmp")  # for mounts


def sha(name, data):
    return hashlib.new(name, data).hexdigest()


def readelf(path, *what):
    return subprocess.run(["readelf", "--wide", *what, path], check=True, capture_output=True, text=True).stdout


class Packages:
    """Debian's packages: which one a file came from, and what is known of it."""

    def __init__(self, arch):
        self.about, self.owner = {}, {}
        form = "${Package}\t${Architecture}\t${Version}\t${source:Package}\t${source:Version}\t${Homepage}\n"
        rows = [line.split("\t") for line in subprocess.run(["dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True).stdout.splitlines()]
        # In a root of two architectures the wanted one comes first; the other has what is the same for both.
        for name, its, version, source, source_version, home in sorted(rows, key=lambda row: row[1] not in (arch, "all")):
            if name in self.about:
                continue
            self.about[name] = {"version": version, "arch": its, "source": source, "source_version": source_version, "home": home}
            for stem in (f"{name}:{its}", name):
                files = pathlib.Path(f"/var/lib/dpkg/info/{stem}.list")
                if files.is_file():
                    for path in files.read_text().splitlines():
                        self.owner.setdefault(re.sub(r"^/(lib|lib64|bin|sbin)(?=/)", r"/usr/\1", path), name)
                    break

    def of(self, path):
        return MADE.get(path) or self.owner.get(path)


class Image:
    """What goes in: path -> a link's target, or a file's bytes and mode. `why` is the chain that asked for a package."""

    def __init__(self, arch):
        self.packages, self.libraries = Packages(arch), f"/usr/lib/{TRIPLETS[arch]}"
        self.entries, self.why, self.needed_by = {}, {}, {}

    def take(self, path, why=()):
        """A file with every link on the way to it; returns where it really is."""
        for _ in range(40):
            parts, at = pathlib.PurePosixPath(path).parts[1:], "/"
            for index, part in enumerate(parts):
                at = os.path.join(at, part)
                if os.path.islink(at):
                    target = os.readlink(at)
                    if target.startswith("/etc/alternatives/"):
                        target = os.readlink(target)
                    if target.startswith("/"):
                        target = os.path.relpath(target, os.path.dirname(at))
                    self.entries[at] = target
                    path = os.path.normpath(os.path.join(os.path.dirname(at), target, *parts[index + 1:]))
                    break
            else:
                break
        else:
            raise SystemExit(f"{path}: links that never end")
        if path not in self.entries:
            self.entries[path] = (pathlib.Path(path).read_bytes(), 0o755 if os.stat(path).st_mode & 0o111 else 0o644)
            package = self.packages.of(path)
            if package:
                self.why.setdefault(package, why)
        return path

    def find(self, name, asking):
        own = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", readelf(asking, "--dynamic"))
        for folder in (*(":".join(own).split(":") if own else ()), self.libraries):
            if os.path.exists(os.path.join(folder, name)):
                return os.path.join(folder, name)
        raise SystemExit(f"{asking} needs {name}, which is not here")

    def program(self, path):
        """A program or library, and all that it needs, nearest first, so that `why` is the shortest chain."""
        waiting = [(path, ())]
        while waiting:
            asked, why = waiting.pop(0)
            file = self.take(asked, why)
            if file in self.needed_by:
                continue
            self.needed_by[file] = why
            chain = (*why, self.packages.of(file) or "darkroom")
            loader = re.search(r"program interpreter: (\S+)\]", readelf(file, "--program-headers"))
            if loader:
                self.take(loader.group(1), chain)
            for name in re.findall(r"\(NEEDED\).*\[(.*)\]", readelf(file, "--dynamic")):
                waiting.append((self.find(name, file), chain))

    def files(self):
        return {path: entry[0] for path, entry in self.entries.items() if isinstance(entry, tuple)}

    def owners(self):
        """package -> its files that are inside."""
        owners = {}
        for path in sorted(self.files()):
            owners.setdefault(self.packages.of(path) or "darkroom", []).append(path)
        return owners

    def licences(self):
        """The copyright file of every package, and the licences that they refer to."""
        before = None
        while before != set(self.owners()):
            before = set(self.owners())
            for package in before - {"darkroom"}:
                self.take(f"/usr/share/doc/{package}/copyright", self.why.get(package, ()))
        texts = b"".join(data for path, data in self.files().items() if path.endswith("/copyright"))
        for name in sorted(set(re.findall(rb"/usr/share/common-licenses/([A-Za-z]+(?:-\d[\d.]*\d|-\d)?)", texts))):
            path = f"/usr/share/common-licenses/{name.decode()}"
            if os.path.exists(path):
                self.take(path, ("licences",))


def licences_of(text):
    """The licences that a copyright file in Debian's form names, each by one word."""
    return sorted(set(re.findall(r"^License: *([A-Za-z0-9.+-]+)[ \t]*$", text, re.M)))


def purl(name, about):
    """The name that scanners know a package by. Debian's advisories speak of source packages, so it says that one too."""
    def quoted(text):
        return urllib.parse.quote(text, safe=":~")

    upstream = about["source"] + f"@{about['source_version']}" * (about["source_version"] != about["version"])
    return f"pkg:deb/debian/{quoted(name)}@{quoted(about['version'])}?arch={about['arch']}&distro=debian-13&upstream={quoted(upstream)}"


def spdx(image, args, created):
    """An SPDX 2.3 document: the packages, every file with its hash, and which package it came from."""
    def number(path):
        return "SPDXRef-File-" + sha("sha1", path.encode())[:16]

    files, packages, relations, sums = [], [], [], {}
    for path, data in sorted(image.files().items()):
        sums[path] = sha("sha1", data)
        files.append({"SPDXID": number(path), "fileName": "." + path,
                      "checksums": [{"algorithm": "SHA1", "checksumValue": sums[path]},
                                    {"algorithm": "SHA256", "checksumValue": sha("sha256", data)}],
                      "licenseConcluded": "NOASSERTION", "licenseInfoInFiles": ["NOASSERTION"], "copyrightText": "NOASSERTION"})
    for name, paths in sorted(image.owners().items()):
        about = image.packages.about.get(name)
        ident = "SPDXRef-Package-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)
        package = {"SPDXID": ident, "name": name, "downloadLocation": "NOASSERTION", "filesAnalyzed": True,
                   "packageVerificationCode": {"packageVerificationCodeValue": sha("sha1", "".join(sorted(sums[p] for p in paths)).encode())},
                   "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "licenseInfoFromFiles": ["NOASSERTION"],
                   "copyrightText": "NOASSERTION"}
        if about:
            text = image.files().get(image.take(f"/usr/share/doc/{name}/copyright"), b"").decode(errors="replace")
            package |= {"versionInfo": about["version"], "supplier": "Organization: Debian", "primaryPackagePurpose": "LIBRARY",
                        "sourceInfo": f"Debian's source package {about['source']} {about['source_version']}",
                        "comment": "licences that its copyright file names: " + (", ".join(licences_of(text)) or "see there"),
                        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl(name, about)}]}
            if about["home"]:
                package["homepage"] = about["home"]
            relations.append({"spdxElementId": "SPDXRef-Package-darkroom", "relationshipType": "DEPENDS_ON", "relatedSpdxElement": ident})
        else:
            package |= {"versionInfo": args.version, "licenseDeclared": "Apache-2.0", "primaryPackagePurpose": "APPLICATION",
                        "supplier": "NOASSERTION"}
            relations.append({"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": ident})
        packages.append(package)
        relations += [{"spdxElementId": ident, "relationshipType": "CONTAINS", "relatedSpdxElement": number(path)} for path in paths]
    content = json.dumps([packages, files], sort_keys=True).encode()
    return json.dumps({"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
                       "name": f"darkroom-{args.version}-{args.arch}",
                       "documentNamespace": f"urn:sha256:{sha('sha256', content)}",
                       "creationInfo": {"created": created, "creators": ["Tool: deploy/container/build"]},
                       "packages": packages, "files": files, "relationships": relations}, indent=1).encode() + b"\n"


def layer(entries, date):
    """A tar of the entries and the folders above them."""
    folders = {str(parent) for path in entries for parent in pathlib.PurePosixPath(path).parents} - {"/"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted({*entries, *folders}):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mtime, entry.mode, data = date, 0o755, b""
            what = entries.get(path)
            if what is None:
                entry.type = tarfile.DIRTYPE
                entry.mode = 0o1777 if path == "/tmp" else 0o755
            elif isinstance(what, str):
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, what, 0o777
            else:
                data, entry.mode = what
                entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def archives(layers, args, created):
    """Returns the image as an OCI archive and in the form of docker save, its digest, and the packed layers."""
    blobs = {}

    def blob(data, kind):
        digest = sha("sha256", data)
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def document(what):
        return json.dumps(what, sort_keys=True, separators=(",", ":")).encode()

    labels = {"org.opencontainers.image.title": "Darkroom", "org.opencontainers.image.version": args.version,
              "org.opencontainers.image.description": "images in, models out; images in, answers out: the workers and the command line",
              "org.opencontainers.image.revision": args.revision, "org.opencontainers.image.created": created,
              "org.opencontainers.image.licenses": "Apache-2.0"}
    packed = [blob(gzip.compress(each, 9, mtime=0), "layer.v1.tar+gzip") for each in layers]
    config = blob(document({
        "created": created, "architecture": args.arch, "os": "linux",
        "config": {"User": f"{USER}:{USER}", "Env": ["PATH=/usr/bin"], "WorkingDir": "/", "Cmd": ["darkroom", "--help"], "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha('sha256', each)}" for each in layers]},
        "history": [{"created": created, "created_by": f"deploy/container/build: {what}"} for what in ("Debian's files", "the programs")],
    }), "config.v1+json")
    manifest = blob(document({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                              "layers": packed, "annotations": labels}), "manifest.v1+json")
    manifest |= {"platform": {"architecture": args.arch, "os": "linux"}, "annotations": {"org.opencontainers.image.ref.name": args.name}}

    def place(each):
        return "blobs/" + each["digest"].replace(":", "/")

    def tar(extra):
        return layer({f"/{name}": (data, 0o644) for name, data in {**blobs, **extra}.items()}, args.epoch)
    oci = {"oci-layout": document({"imageLayoutVersion": "1.0.0"}),
           "index.json": document({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]})}
    docker = {"manifest.json": document([{"Config": place(config), "RepoTags": [args.name], "Layers": [place(each) for each in packed]}])}
    return tar(oci), tar(docker), manifest["digest"], packed


def size(n):
    return f"{n / 2**20:.2f}" if n >= 10486 else f"{n / 2**20:.3f}"


def explain(image, layers, packed):
    """What takes the room: a line a package, the largest first."""
    lines, files = [], image.files()
    for name, paths in image.owners().items():
        data = b"".join(files[path] for path in paths)
        about = image.packages.about.get(name, {})
        chain = [each for index, each in enumerate(image.why.get(name, ())) if each not in image.why.get(name, ())[:index]]
        lines.append((len(data), len(gzip.compress(data, 6)), name, about.get("version", ""), " > ".join(chain)))
    print(f"{'MiB':>7} {'packed':>7}  {'package':<22} {'version':<28} asked for by")
    for each in sorted(lines, reverse=True):
        print(f"{size(each[0]):>7} {size(each[1]):>7}  {each[2]:<22} {each[3]:<28} {each[4]}".rstrip())
    for what, data, blob in zip(("Debian's files", "the programs"), layers, packed):
        print(f"{size(len(data)):>7} {size(blob['size']):>7}  layer: {what}")
    print(f"{size(sum(map(len, layers))):>7} {size(sum(each['size'] for each in packed)):>7}  all")


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("arch", "version", "revision", "name", "install", "source", "out"):
        words.add_argument(f"--{name}", required=True)
    words.add_argument("--epoch", type=int, required=True)
    args = words.parse_args()
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(args.epoch))

    image = Image(args.arch)
    own = {}
    for path in sorted(pathlib.Path(args.install, "usr/bin").iterdir()):
        own[f"/usr/bin/{path.name}"] = (path.read_bytes(), 0o755)
        image.program(str(path))
    image.entries = {path: entry for path, entry in image.entries.items() if not path.startswith(args.install)}
    for path in MADE:
        image.take(path)
    for path in ("/usr/lib/ssl/cert.pem", "/etc/os-release"):
        image.take(path)
    image.entries |= {path: (text.encode(), 0o644) for path, text in WRITTEN.items()}
    image.licences()
    image.entries |= {path: None for path in EMPTY}
    debian = dict(image.entries)
    own["/usr/share/doc/darkroom/copyright"] = (pathlib.Path(args.source, "LICENSE").read_bytes(), 0o644)
    image.entries |= own
    bill = spdx(image, args, created)
    own[SBOM] = (bill, 0o644)

    # Debian's dates would tell two roots apart that have the same files.
    layers = [layer(debian, 0), layer(own, args.epoch)]
    oci, docker, digest, packed = archives(layers, args, created)
    out = pathlib.Path(args.out)
    out.mkdir(exist_ok=True)
    (out / "oci.tar").write_bytes(oci)
    (out / "docker.tar").write_bytes(docker)
    (out / "spdx.json").write_bytes(bill)
    (out / "digest").write_text(digest + "\n")
    explain(image, layers, packed)


if __name__ == "__main__":
    main()
