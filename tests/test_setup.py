"""The two commands: a missing thing ends in one message, a failed part does not hide the others, offline bites."""

import datetime
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from rcnnlib import __main__ as command_line
from rcnnlib.__main__ import copy_lessons, main, reset_lesson

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REAL_PYTHON = Path(sys.executable).resolve()
PINS = ["torch==2.14.1", "torchvision==0.29.1"]
TOOLS = ["bash", "cksum", "cat", "dirname", "uname", "df", "awk", "mktemp", "rm", "grep", "tail", "id", "git", "date"]


def write_program(path: Path, body: str) -> None:
    """Write an executable shell script; never through a link, which would change the machine's own program."""
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def fresh(tmp_path):
    """Return a checkout without .venv, with a folder ``bin`` that is the whole PATH and holds a Python that works."""
    for name in ("tools/course.sh", "pyproject.toml", "Makefile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in filter(shutil.which, TOOLS):
        write_program(tmp_path / "bin" / tool, f'exec {shutil.which(tool)} "$@"')
    write_program(tmp_path / "bin/python3", f'exec {REAL_PYTHON} "$@"')
    return tmp_path


def course(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run tools/course.sh with nothing but ``folder/bin`` on the PATH and no settings of pip."""
    clean = {"PATH": str(folder / "bin"), "HOME": str(folder), "PIP_CONFIG_FILE": os.devnull, "LC_ALL": "C"}
    command = [str(folder / "bin/bash"), str(folder / "tools/course.sh"), *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def one_message(result: subprocess.CompletedProcess) -> str:
    """Return the message that a failed set-up ended with; there must be exactly one."""
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Stopped: ")
    return lines[0]


def test_no_python(fresh):
    (fresh / "bin/python3").unlink()
    message = one_message(course(fresh, "setup"))
    assert "Python 3.11 or newer is needed" in message
    assert "apt-get install python3 python3-venv" in message
    assert not (fresh / ".venv").exists()


def test_old_python(fresh):
    write_program(fresh / "bin/python3", '[ "$1" = --version ] && echo "Python 3.9.2"; exit 1')
    assert "found: Python 3.9.2" in one_message(course(fresh, "setup"))


def test_newer_python_under_another_name(fresh):
    shutil.move(fresh / "bin/python3", fresh / "bin/python3.12")
    write_program(fresh / "bin/python3", "exit 1")
    write_program(fresh / "bin/df", 'echo "Filesystem blocks used free"; echo "disk 9 9 1"')
    assert "too little disk" in one_message(course(fresh, "setup"))  # so it came past the search for Python


def test_no_venv_module(fresh):
    write_program(fresh / "bin/python3", f'[[ "$2" == *ensurepip* ]] && exit 1; exec {REAL_PYTHON} "$@"')
    message = one_message(course(fresh, "setup"))
    assert "venv module is missing" in message
    assert "apt-get install python3-venv" in message


@pytest.mark.parametrize(("index", "need"), [("", 8), ("https://example.org/cpu", 3)])
def test_full_disk(fresh, index, need):
    blocks = need * 1048576 - 1  # one kilobyte too few
    write_program(fresh / "bin/df", f'echo "Filesystem 1024-blocks Used Available"; echo "disk 99 99 {blocks}"')
    message = one_message(course(fresh, "setup", RCNN_TORCH_INDEX=index))
    assert f"needs {need} GB here, {need - 1} GB are free" in message


@pytest.mark.slow  # makes a real .venv
def test_no_network(fresh):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # closed again below: nobody listens there
    write_program(fresh / "bin/df", 'echo "Filesystem 1024-blocks Used Available"; echo "disk 99 99 99999999"')
    result = course(fresh, "setup", RCNN_TORCH_INDEX=f"http://127.0.0.1:{port}/simple", PIP_RETRIES="1")
    message = one_message(result)
    assert "the package index cannot be reached" in message
    assert f"127.0.0.1:{port}" in message
    assert "1/3 .venv with Python 3." in result.stdout
    assert "2/3 torch==2.14.1 torchvision==0.29.1" in result.stdout
    assert "Retrying" not in result.stdout + result.stderr  # pip's pages stay in the log


def installed(fresh: Path, python: str) -> None:
    """Give the checkout a .venv that counts as installed, whose python is the script ``python``."""
    (fresh / ".venv/bin").mkdir(parents=True)
    write_program(fresh / ".venv/bin/python", python)
    stamp = f'printf %s "$(cksum <pyproject.toml) {" ".join(PINS)}  $PWD" >.venv/installed'
    subprocess.run(["bash", "-c", stamp], cwd=fresh, check=True)


def test_setup_does_nothing_twice_and_notices_a_change(fresh):
    installed(fresh, "exit 0")
    (fresh / "bin/python3").unlink()  # would be the first complaint
    assert (result := course(fresh, "setup")).returncode == 0
    assert result.stdout + result.stderr == ""
    assert course(fresh, "setup", RCNN_TORCH="torch==2.6 torchvision==0.21").returncode == 1
    with (fresh / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    assert course(fresh, "setup").returncode == 1


def test_a_failed_part_is_reported_and_the_others_still_run(fresh):
    installed(fresh, 'echo "ran: $*"; [[ "$*" != *nbval* ]]')
    result = course(fresh, "check", "install", "lint", "nbval", "hygiene")
    assert result.returncode == 1
    assert re.search(r"ran: -m ruff check .*\n.*ran: -m ruff format --check", result.stdout)
    assert "ran: -m pytest tests/notebooks" in result.stdout  # after the failure
    summary = result.stdout.partition("===== summary\n")[2].splitlines()
    rows = [re.fullmatch(r"(\w+) +(passed|FAILED) +\d+ s", line).groups() for line in summary[:4]]
    assert rows == [("install", "passed"), ("lint", "passed"), ("nbval", "FAILED"), ("hygiene", "passed")]
    assert summary[-1] == "parts: 3 passed, 1 failed"
    assert course(fresh, "check", "install", "lint").returncode == 0


def test_nbval_is_strict(fresh):
    installed(fresh, 'echo "ran: $*"')
    command = re.search("ran: -m pytest (--nbval .*)", course(fresh, "check", "nbval").stdout)[1]
    for option in ("--nbval-current-env", "--nbval-cell-timeout 120", "--dist loadscope", "tests/nbval_sanitize.cfg"):
        assert option in command
    assert "lax" not in command


def test_a_missing_browser_fails_where_ci_is_set(fresh):
    write_program(fresh / "bin/id", "echo 1000")  # not root: nothing may be installed
    installed(fresh, '[[ "$*" != *find_browser* ]]')
    assert "browser tests will be skipped" in course(fresh, "check", "install").stdout
    result = course(fresh, "check", "install", CI="true")
    assert result.returncode == 1
    assert "Chromium is missing" in result.stderr


def test_root_on_debian_installs_the_browser(fresh):
    write_program(fresh / "bin/id", "echo 0")
    write_program(fresh / "bin/apt-get", f'echo "$@" >>{fresh}/asked')
    installed(fresh, '[[ "$*" != *find_browser* ]]')
    assert course(fresh, "check", "install", CI="true").returncode == 0
    assert (fresh / "asked").read_text().splitlines() == ["update", "install -y chromium fonts-noto-cjk"]


def test_one_long_part_in_turn(fresh):
    installed(fresh, "exit 0")
    seen = []
    for commits in (9, 10, 11):
        write_program(fresh / "bin/git", f"echo {commits}")
        seen.append(re.search("===== (nosimd|rebuild|offline)", course(fresh, "check", "in-turn").stdout)[1])
    assert seen == ["nosimd", "rebuild", "offline"]


def test_ci_runs_make_test_and_nothing_else():
    assert "CI=true exec make test </dev/null" in (ROOT / ".ci/run").read_text()
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["steps"]
    assert steps[-1] == {"run": ".ci/run"}
    assert "$(COURSE) check $(PARTS) $(TURN)" in (ROOT / "Makefile").read_text()


# ------------------------------------------------------------------------------------------------ environment.yml


def test_conda_gets_what_pip_gets():
    *packages, rest = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python, pip = map(Requirement, packages)
    assert (f"{python.specifier}", pip.name) == (PROJECT["requires-python"], "pip")
    *visible, whole = rest["pip"]
    assert whole == "-e .[test,dev]"
    assert visible[:2] == PINS  # first, as in the Makefile
    wanted = {Requirement(text).name: text for text in PROJECT["dependencies"]}
    wanted |= {Requirement(text).name: text for text in PROJECT["optional-dependencies"]["test"]}
    names = ["jupyterlab", "matplotlib", "ipywidgets", "nbval"]
    assert visible[2:] == [wanted[name] for name in names]


def test_the_pins_are_the_same_everywhere_and_in_the_supported_range():
    assert f"RCNN_TORCH:={' '.join(PINS)}" in (ROOT / "tools/course.sh").read_text()
    supported = {(one := Requirement(text)).name: one.specifier for text in PROJECT["dependencies"]}
    for pin in map(Requirement, PINS):
        version = next(iter(pin.specifier)).version
        assert supported[pin.name].contains(version)


# ------------------------------------------------------------------------------------------------ the learner's copies


@pytest.fixture
def lessons(tmp_path):
    """Return a folder with two lessons and a picture, and the folder for the learner's copies, not yet made."""
    source, target = tmp_path / "notebooks", tmp_path / "my_notebooks"
    (source / "images").mkdir(parents=True)
    (source / "src").mkdir()
    for name in ("00_start_here.ipynb", "01_boxes.ipynb", "src/01_boxes.py", "images/map.png"):
        (source / name).write_text(f"delivered {name}")
    return source, target


def test_copies_are_made_and_never_overwritten(lessons):
    source, target = lessons
    assert copy_lessons(source, target) == ["Copied to my_notebooks/: 00_start_here, 01_boxes"]
    assert (target / "images/map.png").exists()
    assert not (target / "src").exists()
    (target / "01_boxes.ipynb").write_text("solved")
    (source / "02_new.ipynb").write_text("delivered 02")
    assert copy_lessons(source, target) == ["Copied to my_notebooks/: 02_new"]
    assert (target / "01_boxes.ipynb").read_text() == "solved"
    assert copy_lessons(source, target) == ["Your lessons are in my_notebooks/; nothing was overwritten."]


def test_pages_come_along_and_follow_until_the_learner_writes_into_them(lessons):
    source, target = lessons
    for text in ("delivered", "delivered later"):
        (source / "words.md").write_text(text)
        copy_lessons(source, target)
        assert (target / "words.md").read_text() == text
    (target / "words.md").write_text("my notes")
    (source / "words.md").write_text("delivered last")
    copy_lessons(source, target)
    assert (target / "words.md").read_text() == "my notes"


def test_a_newer_lesson_is_announced_not_forced(lessons):
    source, target = lessons
    copy_lessons(source, target)
    (source / "01_boxes.ipynb").write_text("delivered later")
    (line,) = copy_lessons(source, target)
    assert line.startswith("01_boxes has a newer version; `make reset LESSON=01`")
    reset_lesson("1", source, target, datetime.datetime(2026, 1, 2, 3, 4, 5))
    assert "nothing was overwritten" in copy_lessons(source, target)[0]


def test_reset_keeps_the_learners_version(lessons):
    source, target = lessons
    copy_lessons(source, target)
    (target / "01_boxes.ipynb").write_text("solved")
    line = reset_lesson("01", source, target, datetime.datetime(2026, 1, 2, 3, 4, 5))
    assert "kept as my_notebooks/01_boxes.2026-01-02_030405.ipynb" in line
    assert (target / "01_boxes.2026-01-02_030405.ipynb").read_text() == "solved"
    assert (target / "01_boxes.ipynb").read_text() == "delivered 01_boxes.ipynb"


@pytest.mark.parametrize("number", ["", "7", "boxes", "-1"])
def test_reset_names_the_lessons_when_the_number_is_wrong(lessons, number):
    with pytest.raises(ValueError, match=r"no lesson .*Name one of: 00, 01;"):
        reset_lesson(number, *lessons, datetime.datetime(2026, 1, 2))


def test_lessons_that_are_not_built(tmp_path):
    with pytest.raises(FileNotFoundError, match="make notebooks"):
        copy_lessons(tmp_path, tmp_path / "mine")


def test_the_lab_is_bound_to_this_machine_and_keeps_its_token(lessons, monkeypatch, capfd):
    monkeypatch.setattr(command_line, "ROOT", lessons[0].parent)
    program = lessons[0].parent / "python"  # in place of Python: says its arguments
    write_program(program, 'echo "$@"; exit 7')
    monkeypatch.setattr(sys, "executable", str(program))
    assert main(["lab", "--", "--port", "9000"]) == 7
    said = capfd.readouterr().out
    for option in ("--ServerApp.ip=127.0.0.1", "url=/lab/tree/my_notebooks/00_start_here.ipynb", "--port 9000"):
        assert option in said
    assert "token" not in said
    assert "password" not in said


def test_the_command_line_says_errors_in_one_line(capsys):
    assert main(["reset", "99"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for wrong in ([], ["nonsense"], ["benchmark", "nothing"], ["validate"]):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2
        assert re.fullmatch(r"python -m rcnnlib.*--help`\.\n", capsys.readouterr().err)


# ------------------------------------------------------------------------------------------------ offline


def offline(code: str) -> subprocess.CompletedProcess:
    """Run ``code`` in a Python with the guard on."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests/offline")}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import socket; socket.create_connection(('2001:db8::1', 80), 1)",
        "import socket; socket.socket().connect_ex(('192.0.2.1', 80))",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import socket; socket.gethostbyname('example.org')",
        "import _socket; _socket.getaddrinfo('example.org', 80)",
        "import urllib.request; urllib.request.urlopen('http://example.org')",
        "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 80))",
        "import torch; torch.hub.download_url_to_file('https://download.pytorch.org/x', 'x')",
    ],
)
def test_offline_bites(code):
    result = offline(code)
    assert result.returncode == 1
    assert "offline test: something asked the network for" in result.stderr


def test_offline_leaves_loopback_alone():
    code = """
import socket
for host in ("127.0.0.1", "localhost"):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1]), 5).close()
a, b = socket.socketpair()
a.send(b"x")
"""
    result = offline(code)
    assert result.returncode == 0, result.stderr


def test_offline_bites_in_a_kernel(monkeypatch):
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbformat.v4 import new_code_cell, new_notebook

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/offline"))
    notebook = new_notebook(cells=[new_code_cell("import socket; socket.create_connection(('192.0.2.1', 80), 1)")])
    with pytest.raises(CellExecutionError, match="offline test: something asked the network"):
        NotebookClient(notebook, kernel_name="python3").execute()
