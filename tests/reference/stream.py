#!/usr/bin/env python3
"""What nixpkgs' streamLayeredImage writes, made by Python's tarfile from the rules and without the code under test.

    stream.py layer STYLE MODE PATH...
                                    one layer on standard output; MODE of /nix in octal digits; STYLE is JSON: mtime,
                                    uid, gid, uname, gname, writer ("Python", "OldPython")
    stream.py items STYLE ITEMS     a layer of these items, a JSON file: name, data and path in hexadecimal digits,
                                    type, mode, owner (null or uid, gid, uname, gname)
    stream.py headers STYLE ENTRIES         the headers of each of these entries of any size (JSON: name, mode, size,
                                    type, linkname), a line of hexadecimal digits
    stream.py image CONF [MODE [WRITER]]     a docker-archive on standard output; MODE of /nix in octal digits
    stream.py tree                  what is in an archive, as tarfile reads it: the last line on standard output, in JSON.
                                    The lines before it ask for ranges (start and length), which come on standard input
    stream.py unpack ARCHIVE FOLDER         unpacks an archive into a folder, with the modes that are in it
"""
import datetime
import hashlib
import io
import json
import os
import sys
import tarfile
import threading


class OldTarInfo(tarfile.TarInfo):
    """Up to Python 3.8 the device fields are zeroes."""

    @staticmethod
    def _create_header(info, format, encoding, errors):
        block = bytearray(tarfile.TarInfo._create_header(info, format, encoding, errors))
        block[329:345] = b"0000000\0" * 2
        block[148:156] = b" " * 8
        block[148:155] = b"%06o\0" % sum(block)
        return bytes(block)


def below(path):
    """A path and all that is below it, as lists of components, sorted."""
    found = [path]
    if os.path.isdir(path) and not os.path.islink(path):
        for folder, folders, files in os.walk(path):
            found += [os.path.join(folder, name) for name in folders + files]
    return sorted(found, key=lambda p: p.split("/"))


def layer(out, style, root_mode, paths):
    info_type = OldTarInfo if style["writer"] == "OldPython" else tarfile.TarInfo

    def owned(info):
        info.mtime, info.uid, info.gid = style["mtime"], style["uid"], style["gid"]
        info.uname, info.gname = style["uname"], style["gname"]
        return info

    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, tarinfo=info_type) as tar:
        for name in "/nix", "/nix/store":
            root = info_type(name)
            root.type, root.mode = tarfile.DIRTYPE, root_mode
            tar.addfile(owned(root))
        for path in paths:
            for file in below(path):
                info = tar.gettarinfo(file)
                info.name = "/" + info.name
                if info.islnk():
                    info.type, info.linkname, info.size = tarfile.REGTYPE, "", os.stat(file).st_size
                owned(info)
                if info.isreg():
                    with open(file, "rb") as content:
                        tar.addfile(info, content)
                else:
                    tar.addfile(info)


def items(out, style, described):
    info_type = OldTarInfo if style["writer"] == "OldPython" else tarfile.TarInfo
    types = {"folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "file": tarfile.REGTYPE}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, tarinfo=info_type) as tar:
        for item in described:
            info = info_type(os.fsdecode(bytes.fromhex(item["name"])))
            info.type, info.mode, info.mtime = types[item["type"]], item["mode"], style["mtime"]
            owner = item["owner"] or style
            info.uid, info.gid, info.uname, info.gname = (owner[key] for key in ("uid", "gid", "uname", "gname"))
            data = bytes.fromhex(item["data"])
            if item["path"]:
                with open(bytes.fromhex(item["path"]), "rb") as file:
                    data = file.read()
            if info.issym():
                info.linkname = os.fsdecode(data)
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)


def headers(out, style, entries):
    for entry in entries:
        info = (OldTarInfo if style["writer"] == "OldPython" else tarfile.TarInfo)(entry["name"])
        info.mode, info.size, info.linkname = entry["mode"], entry["size"], entry["linkname"]
        info.type = entry["type"].encode()
        info.mtime, info.uid, info.gid = style["mtime"], style["uid"], style["gid"]
        info.uname, info.gname = style["uname"], style["gname"]
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape").hex().encode() + b"\n")


class Measured:
    """Takes bytes for their digest and number."""

    def __init__(self):
        self.digest, self.size = hashlib.sha256(), 0

    def write(self, data):
        self.digest.update(data)
        self.size += len(data)


def image(out, conf, mode=None, writer="Python"):
    created = datetime.datetime.fromisoformat(conf["created"])
    written = datetime.datetime.fromisoformat(conf.get("mtime", conf["created"]))
    style = {
        "mtime": int(written.timestamp()),
        "uid": int(conf.get("uid", 0)),
        "gid": int(conf.get("gid", 0)),
        "uname": conf.get("uname", "root"),
        "gname": conf.get("gname", "root"),
        "writer": writer,
    }
    root_mode = int(mode, 8) if mode else (0o755 if "uid" in conf else 0o555)
    layers, config = [], conf["config"]
    with tarfile.open(fileobj=out, mode="w|") as archive:

        def add(name, content):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        def add_layer(content, paths):
            digest = hashlib.sha256(content).hexdigest()
            add(digest + "/layer.tar", content)
            layers.append((digest, digest + "/layer.tar", paths))

        if conf.get("from_image"):
            with tarfile.open(conf["from_image"]) as base:
                manifest = json.load(base.extractfile("manifest.json"))[0]
                base_config = json.load(base.extractfile(manifest["Config"]))
                for name, diff_id in zip(manifest["Layers"], base_config["rootfs"]["diff_ids"]):
                    add(name, base.extractfile(name).read())
                    layers.append((diff_id.split(":")[1], name, [name]))
            env = {}
            for entry in base_config["config"].get("Env", []) + config.get("Env", []):
                env[entry.split("=")[0]] = entry
            if env:
                config["Env"] = list(env.values())
        for paths in conf["store_layers"]:
            # Twice, as nixpkgs does: digest and size come before the bytes. Nothing is held in memory.
            measured = Measured()
            layer(measured, style, root_mode, paths)
            info = tarfile.TarInfo(measured.digest.hexdigest() + "/layer.tar")
            info.size = measured.size
            reading, writing = os.pipe()

            def write(writing=writing, paths=paths):
                with open(writing, "wb") as pipe:
                    layer(pipe, style, root_mode, paths)

            thread = threading.Thread(target=write)
            thread.start()
            with open(reading, "rb") as pipe:
                archive.addfile(info, pipe)
            thread.join()
            layers.append((measured.digest.hexdigest(), info.name, paths))
        folder = conf["customisation_layer"]
        with open(folder + "/layer.tar", "rb") as content:
            add_layer(content.read(), [folder])

        text = json.dumps(
            {
                "created": created.isoformat(),
                "architecture": conf["architecture"],
                "os": "linux",
                "config": config,
                "rootfs": {"diff_ids": ["sha256:" + digest for digest, _, _ in layers], "type": "layers"},
                "history": [
                    {"created": created.isoformat(), "comment": "store paths: " + str(paths)} for _, _, paths in layers
                ],
            },
            indent=4,
        ).encode()
        name = hashlib.sha256(text).hexdigest() + ".json"
        add(name, text)
        manifest = [{"Config": name, "RepoTags": [conf["repo_tag"]], "Layers": [name for _, name, _ in layers]}]
        add("manifest.json", json.dumps(manifest).encode())


class Asked:
    """An archive that is somewhere else."""

    def __init__(self, out):
        self.out, self.position = out, 0

    def seekable(self):
        return True

    def tell(self):
        return self.position

    def seek(self, position):
        self.position = position

    def read(self, length):
        self.out.write(b"%d %d\n" % (self.position, length))
        self.out.flush()
        data = sys.stdin.buffer.read(length)
        self.position += len(data)
        return data


def tree(out):
    with tarfile.open(fileobj=Asked(out), mode="r:") as archive:
        found = []
        for info in archive:
            data = None
            if info.isreg():
                file = archive.extractfile(info)
                # The end of what is large.
                file.seek(max(0, info.size - (16 << 20)))
                data = hashlib.sha256(file.read()).hexdigest()
            found.append(
                {
                    "name": os.fsencode(info.name).hex(),
                    "type": info.type.decode(),
                    "mode": info.mode,
                    "size": info.size,
                    "link": os.fsencode(info.linkname).hex(),
                    "mtime": int(info.mtime),
                    "owner": {"uid": info.uid, "gid": info.gid, "uname": info.uname, "gname": info.gname},
                    "data": data,
                }
            )
    out.write(json.dumps(found).encode())


def unpack(file, folder):
    with tarfile.open(file) as archive:
        # Versions that have filters have different ones by default.
        archive.extraction_filter = lambda info, _: info
        archive.chown = lambda *_, **__: None
        for info in archive.getmembers():
            info.name = info.name.lstrip("/")
        archive.extractall(folder)


def main(command, *arguments):
    out = sys.stdout.buffer
    if command == "layer":
        layer(out, json.loads(arguments[0]), int(arguments[1], 8), arguments[2:])
    elif command == "items":
        with open(arguments[1]) as file:
            items(out, json.loads(arguments[0]), json.load(file))
    elif command == "headers":
        headers(out, json.loads(arguments[0]), json.loads(arguments[1]))
    elif command == "image":
        with open(arguments[0]) as conf:
            image(out, json.load(conf), *arguments[1:])
    elif command == "tree":
        tree(out)
    elif command == "unpack":
        unpack(*arguments)
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
