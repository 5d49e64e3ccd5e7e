"""Every lesson with its exercises solved: each check prints ✓, and nothing else on the page changes."""

import ast
import copy
import re

import nbformat
import pytest
from hygiene import ROOT, SANITIZE, SOURCES, build, tags

EXERCISE_LESSONS = [path for path in SOURCES if 'tags=["exercise"' in path.read_text(encoding="utf-8")]
PATTERNS = re.findall("^regex: (.*)$\n^replace: (.*)$", SANITIZE.read_text(encoding="utf-8"), re.MULTILINE)


def solve(notebook: nbformat.NotebookNode) -> list[str]:
    """Replace every exercise by the library's function; return the names of the exercises."""
    names = []
    for cell in notebook.cells:
        if "exercise" in tags(cell):
            name = next(n.name for n in ast.parse(cell.source).body if isinstance(n, ast.FunctionDef))
            cell.source = f"from rcnnlib.checks import SOLUTIONS\n{name} = SOLUTIONS[{name!r}]"
            names.append(name)
    return names


def said(cell: nbformat.NotebookNode) -> str:
    """Return all that a cell says in text, as nbval compares it."""
    text = ""
    for out in cell.get("outputs", []):
        data = out.get("data", {})
        text += str(out.get("text", "")) + "".join(
            str(data[mime]) for mime in sorted(data) if mime != build.WIDGET and not mime.startswith("image/")
        )
    for pattern, replacement in PATTERNS:
        text = re.sub(pattern, replacement, text)
    return text


def complaints(stored: nbformat.NotebookNode, solved: nbformat.NotebookNode) -> list[str]:
    """Return what is wrong with a solved run: a check that does not pass, or other text in any other cell."""
    wrong = []
    for index, (before, after) in enumerate(zip(stored.cells, solved.cells, strict=True)):
        if "nbval-ignore-output" in tags(before):
            continue
        old, new = said(before), said(after)
        if not old.startswith("○ my_"):  # lesson 00 also lists open exercises
            wrong += [f"cell {index} says {new!r}, not {old!r}"] if old != new else []
        elif "✓" not in new or "○" in new or "✗" in new:
            wrong.append(f"the check in cell {index} says {new!r}")
    return wrong


@pytest.mark.parametrize("source", EXERCISE_LESSONS, ids=lambda path: path.stem)
def test_solved_lesson_passes_all_checks_and_changes_nothing_else(source):
    stored = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4)
    solved = build.read_source(source)
    names = solve(solved)
    open_checks = "\n".join(said(cell) for cell in stored.cells if cell.cell_type == "code")
    assert names
    assert [name for name in names if f"○ {name}" not in open_checks] == [], "each exercise is checked in the lesson"
    assert complaints(stored, build.execute(solved)) == []


def a_run(*texts: str) -> nbformat.NotebookNode:
    cells = [
        nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("stream", name="stdout", text=text)])
        for text in texts
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_a_failed_check_and_a_changed_cell_are_found():
    stored = a_run("○ my_iou: not written yet\n", "IoU 0.3333\n", "took 3 ms\n")
    assert complaints(stored, a_run("✓ my_iou\n", "IoU 0.3333\n", "took 9 ms\n")) == []
    assert len(complaints(stored, a_run("✗ my_iou: NaN\n", "IoU 0.3333\n", "took 9 ms\n"))) == 1
    assert len(complaints(copy.deepcopy(stored), a_run("✓ my_iou\n", "IoU 0.3334\n", "took 9 ms\n"))) == 1
    assert len(complaints(stored, copy.deepcopy(stored))) == 1
