"""The doctor names what is missing, says how to mend it, and ends with 1 only when something must be mended."""

import hashlib
import json
from pathlib import Path

import pytest

from rcnnlib import __main__ as command_line
from rcnnlib.engine import doctor
from rcnnlib.engine.doctor import Check


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a data folder with two pictures, a file, and a manifest that agrees with them."""
    monkeypatch.setenv("RCNN_DATA", str(tmp_path))
    for name in ("wild/a.jpg", "wild/b.jpg", "weights/w.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    sha = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("wild/a.jpg", "wild/b.jpg", "weights/w.bin")}
    lines = f"{sha['wild/a.jpg']}  a.jpg\n{sha['wild/b.jpg']}  b.jpg\n"  # what `sha256sum *` prints in the folder
    manifest = {
        "files": {"weights/w.bin": {"sha256": sha["weights/w.bin"], "bytes": 13}},
        "folders": {"wild": {"sha256": hashlib.sha256(lines.encode()).hexdigest(), "bytes": 20, "files": 2}},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_data_as_delivered(data):
    check = doctor.check_data()
    assert (check.state, check.mend) == ("ok", "")
    assert check.found.startswith("2 pictures and 1 other files")


def test_data_missing_and_changed(data):
    (data / "wild/a.jpg").unlink()
    (data / "weights/w.bin").unlink()
    check = doctor.check_data()
    assert check.state == "bad"
    assert check.found == "1 files or folders missing, 1 changed, the first is weights/w.bin"
    assert "git checkout -- data" in check.mend


def test_one_damaged_picture_is_noticed(data):
    (data / "wild/b.jpg").write_bytes(b"something else")
    assert doctor.check_data().found == "0 files or folders missing, 1 changed, the first is wild"


def test_data_without_manifest(data):
    (data / "manifest.json").unlink()
    assert doctor.check_data().state == "bad"
    assert "manifest.json is missing" in doctor.check_data().found


def test_data_folder_missing(monkeypatch):
    monkeypatch.setenv("RCNN_DATA", "/nowhere/at/all")
    check = doctor.check_data()
    assert check.state == "bad"
    assert "/nowhere/at/all" in check.found


def test_python_too_old():
    assert doctor.check_python((3, 10, 12)).state == "bad"
    assert doctor.check_python((3, 11, 0)).state == "ok"


def test_packages():
    assert doctor.check_packages("x", ["torch>=2.6", "jupyterlab>=4.2"]).state == "ok"
    check = doctor.check_packages("x", ["torch>=99", "no-such-package>=1"])
    assert check.state == "bad"
    assert "torch>=99 is wanted, " in check.found
    assert "no-such-package>=1 is missing" in check.found
    assert doctor.check_packages("x", ["no-such-package"], "note").state == "note"


def test_browser(monkeypatch):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.find_browser() is None
    assert (doctor.check_browser().state, "apt-get install chromium" in doctor.check_browser().mend) == ("note", True)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/opt/chrome" if name == "google-chrome" else None)
    assert doctor.find_browser() == "/opt/chrome"
    assert doctor.check_browser().state == "ok"
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name)
    monkeypatch.setenv("CHROMIUM", "/my/own/chromium")
    assert doctor.find_browser() == "/my/own/chromium"


def test_disk_and_lessons(tmp_path, monkeypatch):
    assert doctor.check_lessons(tmp_path).state == "note"
    (tmp_path / "00_start_here.ipynb").touch()
    assert doctor.check_lessons(tmp_path).found.startswith("1 in")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 0.5 * doctor.GIGA}))
    assert doctor.check_disk(tmp_path).state == "note"


def test_the_page_and_the_exit_code(monkeypatch, capsys):
    rows = [Check("Python", "ok", "3.11"), Check("GPU", "note", "none", "nothing to do")]
    monkeypatch.setattr(doctor, "report", lambda root: rows)
    assert command_line.main(["doctor"]) == 0
    assert "Everything that the course needs is here." in capsys.readouterr().out
    rows.append(Check("Data", "bad", "gone", "fetch it"))
    assert command_line.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "✗ Data" in printed
    assert "-> fetch it" in printed
    assert printed.endswith("To mend: Data.\n")


def test_the_real_report_fits_a_page():
    checks = doctor.report(Path(__file__).parents[2])
    assert {"Python", "torch", "GPU", "Memory", "Disk", "Data", "Browser"} <= {check.name for check in checks}
    assert all(check.mend for check in checks if check.state == "bad")
    assert doctor.show(checks).count("\n") < 40
