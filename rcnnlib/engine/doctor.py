"""Say in one page what this machine has, and how to mend what is missing.

``report()`` looks and returns the rows, ``show()`` turns them into text; ``python -m rcnnlib doctor`` prints it.
Leaves out: anything that installs, downloads or repairs by itself.

A row is ``ok``, a ``note`` (the course works without it) or ``bad`` (a lesson or the set-up will fail).
"""

import hashlib
import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement

from rcnnlib.datasets.paths import data_dir

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LEAST_MEMORY, LEAST_DISK = 4.0, 1.0  # GB: two kernels with torch and JupyterLab; room for a learner's own weights
GIGA = 2**30


class Check(NamedTuple):
    """One row of the report."""

    name: str
    state: Literal["ok", "note", "bad"]
    found: str
    mend: str = ""  # what to do; empty where there is nothing to do


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome for the browser tests, or None; ``$CHROMIUM`` goes before others."""
    names = filter(None, (os.environ.get("CHROMIUM"), *BROWSERS))
    return next((path for name in names if (path := shutil.which(name))), None)


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Look at the version of Python."""
    found = f"{'.'.join(map(str, version))} on {platform.platform(terse=True)}, {sys.executable}"
    if version < (3, 11):
        return Check("Python", "bad", found, "Install Python 3.11 or newer, remove .venv, and run `make lab` again.")
    return Check("Python", "ok", found)


def check_packages(name: str, requirements: list[str], state: Literal["note", "bad"] = "bad") -> Check:
    """Compare installed packages with ``requirements`` such as ``torch>=2.6``; ``state`` is said of a missing one."""
    versions, wrong = [], []
    for requirement in map(Requirement, requirements):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is missing")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            versions.append(f"{requirement.name} {version}")
        else:
            wrong.append(f"{requirement} is wanted, {version} is installed")
    if wrong:
        return Check(name, state, "; ".join(wrong), "Run `make setup`, or `pip install -e .[test,dev]`.")
    more = f" and {len(versions) - 3} more, all as wanted" if len(versions) > 3 else ""
    return Check(name, "ok", ", ".join(versions[:3]) + more)


def check_gpu() -> Check:
    """Ask torch for an accelerator."""
    try:
        import torch  # here, so that a broken torch is a row of the report and not its end
    except (ImportError, OSError) as error:
        return Check("GPU", "bad", f"torch cannot be imported: {error}", "Remove .venv and run `make lab` again.")
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return Check("GPU", "ok", f"{device.name}, {device.total_memory / GIGA:.0f} GB, CUDA {torch.version.cuda}")
    if torch.backends.mps.is_available():
        return Check("GPU", "ok", "Apple MPS; the lessons use the CPU, where their numbers are stable")
    return Check("GPU", "note", "none that torch can use; every lesson is made for two CPU cores")


def check_cpu() -> Check:
    """Count the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check("CPU", "ok", f"{cores} cores, {platform.machine()}")


def check_memory() -> Check:
    """Look at the memory of the machine."""
    import psutil  # comes with ipykernel

    memory = psutil.virtual_memory()
    found = f"{memory.total / GIGA:.1f} GB, {memory.available / GIGA:.1f} GB of it free"
    if memory.available < LEAST_MEMORY * GIGA:
        return Check("Memory", "note", found, "A lesson takes about 1 GB: shut down the kernels of other lessons.")
    return Check("Memory", "ok", found)


def check_disk(folder: Path) -> Check:
    """Look at the room where the course lies."""
    free = shutil.disk_usage(folder).free / GIGA
    if free < LEAST_DISK:
        return Check("Disk", "note", f"{free:.1f} GB free", "Make room before you train; `pip cache purge` frees some.")
    return Check("Disk", "ok", f"{free:.0f} GB free")


def check_data() -> Check:
    """Compare every file of the data folder with the SHA-256 that ``data/manifest.json`` names."""
    try:
        folder = data_dir()
    except FileNotFoundError as error:
        return Check("Data", "bad", str(error), "Point RCNN_DATA at the folder `data` of the course.")
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return Check("Data", "bad", f"{manifest} is missing", "Restore it: `git checkout -- data/manifest.json`.")
    entries = json.loads(manifest.read_text())
    hashes = {folder / name: entry["sha256"] for part in ("files", "folders") for name, entry in entries[part].items()}
    missing = [path for path in hashes if not path.exists()]
    changed = [path for path, wanted in hashes.items() if path not in missing and _sha256(path) != wanted]
    if missing or changed:
        found = f"{len(missing)} files or folders missing, {len(changed)} changed, the first is "
        found += (missing + changed)[0].relative_to(folder).as_posix()
        return Check("Data", "bad", found, "Restore them: `git checkout -- data`.")
    size = sum(entry["bytes"] for part in ("files", "folders") for entry in entries[part].values())
    pictures = sum(entry["files"] for entry in entries["folders"].values())
    count = f"{pictures} pictures and {len(entries['files'])} other files"
    return Check("Data", "ok", f"{count}, {size / 1e6:.0f} MB, every hash agrees with manifest.json")


def _sha256(path: Path) -> str:
    """Return the hash of a file, or of a folder's pictures as ``data/build/manifest.py`` defines it."""
    if path.is_dir():
        pictures = sorted(each for each in path.iterdir() if each.suffix in (".jpg", ".png", ".webp"))
        lines = "".join(f"{_sha256(each)}  {each.name}\n" for each in pictures)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_browser() -> Check:
    """Look for a browser that the tests can drive."""
    if path := find_browser():
        return Check("Browser", "ok", f"{path} (for the browser tests)")
    mend = "Debian: `sudo apt-get install chromium`. For the lessons open the address that `make lab` prints, anywhere."
    return Check("Browser", "note", "no Chromium found: the browser tests are skipped", mend)


def check_lessons(folder: Path) -> Check:
    """Count the learner's copies of the lessons."""
    count = len(list(folder.glob("[0-9][0-9]_*.ipynb")))
    if not count:
        return Check(
            "Lessons", "note", f"no copies in {folder.name}/ yet", "`make lab` makes them and opens the first."
        )
    return Check("Lessons", "ok", f"{count} in {folder.name}/")


def report(root: Path) -> list[Check]:
    """Return every row of the report for the checkout at ``root``."""
    requirements = metadata.requires("rcnnlib") or []
    course = [text for text in requirements if "extra ==" not in text]
    tests = [text.partition(";")[0] for text in requirements if "extra ==" in text]
    return [
        check_python(),
        check_packages("torch", [text for text in course if text.startswith("torch")]),
        check_packages("Packages", [text for text in course if not text.startswith("torch")]),
        check_packages("Test tools", tests, "note"),
        check_cpu(),
        check_gpu(),
        check_memory(),
        check_disk(root),
        check_data(),
        check_lessons(root / "my_notebooks"),
        check_browser(),
    ]


def show(checks: list[Check]) -> str:
    """Return the report as text: a row for each check, below it what to do, and a last line that sums up."""
    marks = {"ok": "✓", "note": "○", "bad": "✗"}
    lines = []
    for check in checks:
        lines.append(f"{marks[check.state]} {check.name:<11} {check.found}")
        if check.mend:
            lines.append(f"{'':<14}-> {check.mend}")
    bad = [check.name for check in checks if check.state == "bad"]
    lines.append(f"To mend: {', '.join(bad)}." if bad else "Everything that the course needs is here.")
    return "\n".join(lines)
