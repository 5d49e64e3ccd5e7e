"""The guards can fail: each hole of strict nbval, made on purpose in a tiny lesson, is found by nbval or by a rule."""

import copy
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path, PurePosixPath

import nbformat
import pytest
from hygiene import ROOT, RULES, SANITIZE, Lesson, build, problems

INVENTED_PATH = str(PurePosixPath("/", "home", "me", "x.png"))  # of no machine: the rule must find it

TINY = '''# %% [markdown] tags=["core"]
# # A tiny lesson

# %%
class Shown:
    """A picture with its text."""

    def _repr_mimebundle_(self, **_):
        dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
        return {"image/png": dot, "text/plain": "Figure: IoU 0.3333"}

# %%
1 / 3

# %%
print("took 3 ms at", object())

# %%
Shown()

# %% tags=["exercise"]
def my_half(number):
    """Return half of ``number``."""
    raise NotImplementedError
'''


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Lesson:
    """A lesson that keeps all rules, run once."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.py").write_text(TINY, encoding="utf-8")
    source = build.read_source(folder / "tiny.py")
    notebook = build.normalise(build.execute(copy.deepcopy(source), cwd=folder))
    return Lesson(notebook, source)


@pytest.fixture
def broken(tiny) -> Lesson:
    """A copy to break."""
    return copy.deepcopy(tiny)


def run_nbval(folder: Path) -> dict[str, bool]:
    """Run strict nbval as `make nbval` does, on all notebooks of a folder; say for each whether it passed."""
    report = folder / "report.xml"
    command = [
        sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder, "--nbval", folder,
        "--nbval-current-env", "--nbval-cell-timeout", "120", "--nbval-sanitize-with", SANITIZE,
        "-p", "no:cacheprovider", "-q", f"--junitxml={report}",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder, env={**os.environ})
    assert report.exists(), done.stdout + done.stderr
    passed: dict[str, bool] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["classname"].split(".")[-2] if case.attrib["classname"].endswith("ipynb") else ""
        name = name or case.attrib["classname"]
        passed[name] = passed.get(name, True) and not list(case.iter("failure")) and not list(case.iter("error"))
    return passed


def outputs(lesson: Lesson, text: str):
    """Return the outputs of the cell whose source holds ``text``."""
    return next(cell.outputs for cell in lesson.notebook.cells if text in cell.source)


def strip(lesson: Lesson) -> None:
    for _, cell in lesson.code:
        cell.outputs, cell.execution_count = [], None


def run_half(lesson: Lesson) -> None:
    for _, cell in lesson.code[2:]:
        cell.outputs, cell.execution_count = [], None


def falsify_number(lesson: Lesson) -> None:
    outputs(lesson, "1 / 3")[0].data["text/plain"] = "0.3334"


def falsify_picture(lesson: Lesson) -> None:
    outputs(lesson, "Shown()")[0].data["image/png"] = "AAAA"


def falsify_alt(lesson: Lesson) -> None:
    outputs(lesson, "Shown()")[0].data["text/plain"] = "Figure: IoU 0.3334"


def test_strict_nbval_sees_false_numbers_and_nothing_of_stripped_cells_and_pictures(tiny, tmp_path):
    breaks = {
        "good": lambda lesson: None,
        "stripped": strip,
        "half": run_half,
        "number": falsify_number,
        "picture": falsify_picture,
        "alt": falsify_alt,
    }
    for name, do in breaks.items():
        lesson = copy.deepcopy(tiny)
        do(lesson)
        nbformat.write(lesson.notebook, tmp_path / f"{name}.ipynb")
    # The three that pass though they are wrong are why the rules below exist.
    assert run_nbval(tmp_path) == {
        "good": True, "stripped": True, "half": True, "number": False, "picture": True, "alt": False
    }  # fmt: skip


def test_the_tiny_lesson_keeps_all_rules(tiny):
    assert problems(tiny) == {}


def set_last(lesson: Lesson, **values) -> None:
    """Give the cell before the exercise other contents, in source and notebook alike."""
    for notebook in (lesson.notebook, lesson.source):
        for key, value in values.items():
            notebook.cells[-2][key] = value


def code_is(source: str):
    return lambda lesson: set_last(lesson, source=source)


def without_alt(lesson: Lesson) -> None:
    outputs(lesson, "Shown()")[0].data["text/plain"] = "<Figure size 640x480 with 1 Axes>"


def add_output(**out):
    return lambda lesson: outputs(lesson, "1 / 3").append(nbformat.from_dict(out))


def ignore(count: int, reason: str, following: str = "assert True"):
    """Tag the first ``count`` code cells; let the cells after them be ``following``."""

    def do(lesson: Lesson) -> None:
        for notebook in (lesson.notebook, lesson.source):
            for cell in notebook.cells[1 : 1 + count]:
                cell.metadata = nbformat.from_dict({"tags": ["nbval-ignore-output"], "reason": reason})
            for cell in notebook.cells[2:-1]:
                cell.source = following

    return do


def metadata(place: str, **values):
    def do(lesson: Lesson) -> None:
        target = lesson.notebook if place == "notebook" else lesson.notebook.cells[2]
        target.metadata.update(nbformat.from_dict(values))

    return do


def solve(lesson: Lesson) -> None:
    for notebook in (lesson.notebook, lesson.source):
        notebook.cells[-1].source = "def my_half(number):\n    return number / 2"


def lengthen(lesson: Lesson) -> None:
    for notebook in (lesson.notebook, lesson.source):
        for cell in notebook.cells[1:-1]:
            cell.source = "\n".join(f"a{i} = {i}" for i in range(9))


def silence(lesson: Lesson) -> None:
    outputs(lesson, "1 / 3").clear()


HOLES = {
    "stripped": (strip, "counts_run_from_one"),
    "half run": (run_half, "counts_run_from_one"),
    "run twice": (lambda n: n.notebook.cells[2].update(execution_count=9), "counts_run_from_one"),
    "stderr": (add_output(output_type="stream", name="stderr", text="Warning"), "nothing_on_stderr"),
    "error": (add_output(output_type="error", ename="E", evalue="", traceback=[]), "errors_are_announced"),
    "widget state": (metadata("notebook", widgets={"state": {}}), "metadata_is_normal"),
    "kernel version": (metadata("notebook", language_info={"version": "3.11.2"}), "metadata_is_normal"),
    "times": (metadata("cell", execution={"iopub.execute_input": "2026"}), "metadata_is_normal"),
    "machine path": (add_output(output_type="stream", name="stdout", text=INVENTED_PATH), "no_machine_path"),
    "Windows path": (add_output(output_type="stream", name="stdout", text=r"C:\Users\me"), "no_machine_path"),
    "large": (add_output(output_type="stream", name="stdout", text="x" * 2_000_000), "small"),
    "few texts": (silence, "says_enough"),
    "many ignored": (ignore(3, "times"), "ignores_with_reason"),
    "ignored without reason": (ignore(1, ""), "ignores_with_reason"),
    "ignored without assertion": (ignore(1, "times", "x = 1"), "ignores_with_reason"),
    "hidden by a comment": (code_is("# NBVAL_IGNORE_OUTPUT\n1"), "ignores_with_reason"),
    "semicolon": (code_is("Shown();"), "no_semicolon"),
    "edited notebook": (lambda n: n.notebook.cells[2].update(source="1 / 4"), "equals_source"),
    "cell lost": (lambda n: n.notebook.cells.pop(0), "equals_source"),
    "long cells": (lengthen, "short_cells"),
    "empty cell": (code_is(""), "no_empty_cells"),
    "picture without text": (without_alt, "pictures_have_text"),
    "interact": (code_is("from ipywidgets import interact"), "nothing_forbidden"),
    "Output": (code_is("import ipywidgets as w\nw.Output()"), "nothing_forbidden"),
    "pyplot": (code_is("import matplotlib.pyplot as plt"), "nothing_forbidden"),
    "magic": (code_is("%timeit 1"), "nothing_forbidden"),
    "solved exercise": (solve, "exercises_are_unsolved"),
}


@pytest.mark.parametrize("hole", HOLES)
def test_rule_finds(hole, broken):
    do, rule = HOLES[hole]
    do(broken)
    assert rule in problems(broken)


def test_every_rule_is_proved_to_fail(tiny):
    assert {rule for _, rule in HOLES.values()} == {rule.__name__ for rule in RULES}


def test_a_lesson_is_built_and_checked_against_its_source(tmp_path, monkeypatch, capsys):
    (tmp_path / "src").mkdir()
    source, stored = tmp_path / "src" / "00_tiny.py", tmp_path / "00_tiny.ipynb"
    source.write_text(TINY.replace(", object()", ""), encoding="utf-8")
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert "00_tiny.ipynb is missing" in build.check(source)
    stored.write_text(build.build(source), encoding="utf-8")
    assert build.check(source) == ""
    text = stored.read_text(encoding="utf-8")
    assert "cell 2: 1 / 3" in build.differences(text, text.replace("0.3333333", "0.3334333"))
    stored.write_text(text.replace('"image/png": "iVBOR', '"image/png": "jVBOR'), encoding="utf-8")
    assert build.check(source) == "", "a picture drawn with other fonts is no error if two builds agree"
    assert "building once more" in capsys.readouterr().out


def test_the_cell_that_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "01_bad.py").write_text("# %%\n1\n\n# %%\nfirst = 1\n1 / 0\n", encoding="utf-8")
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=r"01_bad.py: cell 1 \('first = 1'\) failed(.|\n)*ZeroDivisionError"):
        build.build(tmp_path / "01_bad.py")


def test_widget_ids_depend_on_the_cell_alone():
    def made(model_id):
        out = nbformat.v4.new_output("display_data", {build.WIDGET: {"model_id": model_id}, "text/plain": model_id})
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", id="a", outputs=[out])])

    first, second = (build.normalise(made(letter * 32)) for letter in "ab")
    assert first == second
    assert first.cells[0].outputs[0].data["text/plain"] == "0" * 32


def test_a_build_keeps_the_outputs_that_nobody_compares():
    def lesson(timed, said):
        cells = [code(timed, "3 ms"), code("1 + 1", said)]
        cells[0].metadata["tags"] = [build.IGNORED]
        return nbformat.v4.new_notebook(cells=cells)

    def code(source, text):
        output = nbformat.v4.new_output("stream", name="stdout", text=text)
        return nbformat.v4.new_code_cell(source, outputs=[output])

    stored, new = lesson("run()", "2"), lesson("run()", "3")
    stored.cells[0].outputs[0].text = "7 ms"
    build.keep_ignored_outputs(new, stored)
    assert [cell.outputs[0].text for cell in new.cells] == ["7 ms", "3"]  # what is compared stays as it was built
    changed = lesson("run(2)", "2")
    build.keep_ignored_outputs(changed, stored)
    assert changed.cells[0].outputs[0].text == "3 ms"
