"""The table of lecture rows against the lessons: each row is taught where the map says, by what its cells say."""

import json

import nbformat
import pytest
from hygiene import ROOT, build, tags, texts

from rcnnlib.view.course_map import LESSONS
from rcnnlib.view.rows import KINDS, POINTS, QUESTIONS, ROWS, Mark, missing, read_marks, row_table

MARKS = read_marks()
WIDGET = build.WIDGET


def what_is_wrong(cell: nbformat.NotebookNode, kind: str) -> str:
    """Say why a cell is not what its mark says; "" if it is."""
    if cell.cell_type != "code":
        return "is not a code cell"
    kinds = {mime for out in cell.outputs for mime in out.get("data", {})}
    picture = any(mime.startswith("image/") for mime in kinds)
    found = {
        "figure": picture and WIDGET not in kinds,
        "explorer": picture and WIDGET in kinds,
        "predict": WIDGET in kinds and "predict(" in cell.source,
        "exercise": "exercise" in tags(cell),
        "experiment": bool(texts(cell)),
    }
    return "" if found[kind] else f"is no {kind}"


def test_the_rows_are_those_of_the_lecture():
    assert list(POINTS) == [*(f"L{n}" for n in range(1, 19)), "L18b", *(f"L{n}" for n in range(19, 26))]
    assert list(QUESTIONS) == [f"Q{n}" for n in range(1, 8)]
    planned = {row for lesson in LESSONS for row in (*lesson.points, *lesson.questions)}
    assert planned == set(ROWS), "every row has its lesson"


def test_no_row_of_a_lesson_that_stands_is_empty():
    assert missing(MARKS) == []


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: f"{mark.lesson}-{mark.cell}-{mark.row}-{mark.kind}")
def test_cell_is_what_its_mark_says(mark):
    (path,) = (ROOT / "notebooks").glob(f"{mark.lesson}_*.ipynb")
    assert what_is_wrong(nbformat.read(path, as_version=4).cells[mark.cell], mark.kind) == ""


def test_a_false_mark_is_found():
    picture = nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": "x"})
    text = nbformat.v4.new_output("stream", name="stdout", text="IoU 0.5\n")
    drawn = nbformat.v4.new_code_cell("fig", outputs=[picture])
    assert [what_is_wrong(drawn, kind) == "" for kind in KINDS] == [True, False, False, False, True]
    said = nbformat.v4.new_code_cell("print()", outputs=[text])
    assert [what_is_wrong(said, kind) == "" for kind in KINDS] == [False, False, False, False, True]
    assert what_is_wrong(nbformat.v4.new_markdown_cell("x"), "figure") == "is not a code cell"


def write(folder, rows: str) -> None:
    cell = nbformat.v4.new_code_cell("1", metadata={"rows": rows})
    (folder / "02_x.ipynb").write_text(json.dumps(nbformat.v4.new_notebook(cells=[cell])))


def test_marks_are_read_and_odd_ones_named(tmp_path):
    write(tmp_path, "L4 figure, Q1 experiment")
    assert read_marks(tmp_path) == [Mark("L4", "figure", "02", 0), Mark("Q1", "experiment", "02", 0)]
    assert row_table(read_marks(tmp_path)).splitlines()[4].split()[-6:] == ["02", "1", "-", "-", "-", "-"]
    for odd in ("L99 figure", "L4 picture", "L4"):
        write(tmp_path, odd)
        with pytest.raises(ValueError, match=r"02_x\.ipynb, cell 0: rows="):
            read_marks(tmp_path)


def test_a_gap_is_found(monkeypatch):
    monkeypatch.setattr("rcnnlib.view.rows.LESSONS", [lesson for lesson in LESSONS if lesson.number == "09"])
    assert missing([]) == [
        "lesson 09: nothing to see for L12 (figure, explorer)",
        "lesson 09: nothing to move for L12 (explorer)",
        "lesson 09: nothing to be checked for L12 (predict, exercise)",
        "lesson 09: no experiment answers Q1",
    ]
    marks = [Mark("L12", "explorer", "09", 1), Mark("L12", "predict", "09", 2), Mark("Q1", "experiment", "09", 3)]
    assert missing(marks) == []
    assert missing([*marks[:2], marks[2]._replace(lesson="08")]) == ["lesson 09: no experiment answers Q1"]
