"""Make ``data/manifest.json``: what the data files are, so that ``python -m rcnnlib doctor`` can say which is damaged.

Format of the manifest, all paths relative to ``data/`` with forward slashes::

    {"format": 1,
     "files":   {"weights/squeezenet1_1_imagenet.safetensors": {"sha256": "...", "bytes": 2475992}, ...},
     "folders": {"scrapbook/train": {"sha256": "...", "bytes": 7220000, "files": 600}, ...}}

``files`` has every annotation, credit, split and weight file (endings below). ``folders`` has every folder that holds
pictures: ``bytes`` and ``files`` count its pictures (not those of folders below), and ``sha256`` is that of the text
with one line for each picture, in the order of the names: the picture's own SHA-256, two spaces, its name, a newline;
the very output of ``sha256sum`` run in that folder.

Run after any change of the data: ``python data/build/manifest.py``
"""

import hashlib
import json
from pathlib import Path

import _sources

SETS = ("scrapbook", "treetops", "wild", "proposals", "weights")
FILES = (".json", ".csv", ".xml", ".safetensors", ".npz")
PICTURES = (".jpg", ".png", ".webp")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(data: Path) -> dict:
    """Return the manifest of the folder ``data``, as described at the top."""
    files, folders = {}, {}
    for folder in sorted(path for name in SETS for path in [data / name, *(data / name).rglob("*")] if path.is_dir()):
        inside = sorted(path for path in folder.iterdir() if path.is_file())
        for path in inside:
            if path.suffix in FILES:
                files[path.relative_to(data).as_posix()] = {"sha256": sha256(path), "bytes": path.stat().st_size}
        if pictures := [path for path in inside if path.suffix in PICTURES]:
            lines = "".join(f"{sha256(path)}  {path.name}\n" for path in pictures)
            folders[folder.relative_to(data).as_posix()] = {
                "sha256": hashlib.sha256(lines.encode()).hexdigest(),
                "bytes": sum(path.stat().st_size for path in pictures),
                "files": len(pictures),
            }
    return {"format": 1, "files": files, "folders": folders}


def main() -> None:
    made = manifest(_sources.DATA)
    (_sources.DATA / "manifest.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    for name, folder in made["folders"].items():
        print(f"{name}: {folder['files']} pictures, {folder['bytes'] / 1e6:.2f} MB")
    print(f"{len(made['files'])} other files, {sum(file['bytes'] for file in made['files'].values()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
