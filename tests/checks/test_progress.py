"""What `progress` reads out of a folder: passed, wrong, open, never run; folders of many learners."""

import nbformat
import pytest

from rcnnlib.__main__ import main
from rcnnlib.checks.progress import Row, as_csv, as_text, read_progress

SAID = {"✓": "✓ {}: right, in all 7 cases\n", "✗": "✗ {}: one box; yours gives 1\n", "○": "○ {}: not written yet\n"}


def lesson(path, **exercises: str) -> None:
    """Store a notebook; each exercise with what its check said, or "" where it was not run."""
    cells = []
    for name, mark in exercises.items():
        stub = f"def {name}(boxes):\n    raise NotImplementedError"
        check = nbformat.v4.new_code_cell(f"check({name})")
        if mark:
            check.outputs = [nbformat.v4.new_output("stream", name="stdout", text=SAID[mark].format(name))]
        cells += [nbformat.v4.new_code_cell(stub, metadata={"tags": ["exercise"]}), check]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_marks_are_counted(tmp_path):
    lesson(tmp_path / "01_boxes.ipynb", my_iou="✓", my_convert="✗", my_match="○", my_area="")
    lesson(tmp_path / "02_search.ipynb", my_merge="✓")
    lesson(tmp_path / "notes.ipynb")
    lesson(tmp_path / ".ipynb_checkpoints" / "01_boxes.ipynb", my_iou="✓")
    rows = read_progress(tmp_path)
    assert rows[0] == Row("01_boxes", ("my_iou",), ("my_convert",), ("my_match", "my_area"))
    assert [row.notebook for row in rows] == ["01_boxes", "02_search"]
    assert as_csv(rows).splitlines() == ["notebook,passed,wrong,open,checks", "01_boxes,1,1,2,4", "02_search,1,0,0,1"]
    first, second, last = as_text(rows).splitlines()
    assert first == "01_boxes   ✓✗○○  1 of 4  to do: my_convert, my_match, my_area"
    assert second.endswith("all done")
    assert last == "2 of 5 checks passed"


def test_a_name_in_other_outputs_is_no_exercise(tmp_path):
    lesson(tmp_path / "01.ipynb", my_iou="✓")
    book = nbformat.read(tmp_path / "01.ipynb", as_version=4)
    book.cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text="✓ my_other: right\n")]
    nbformat.write(book, tmp_path / "01.ipynb")
    assert read_progress(tmp_path) == [Row("01", ("my_iou",), (), ())]


def test_command_prints_a_row_for_each_learners_notebook(tmp_path, capsys):
    for name, mark in (("kim", "✓"), ("lee", "○")):
        lesson(tmp_path / name / "01_boxes.ipynb", my_iou=mark)
    assert main(["progress", str(tmp_path), "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["kim/01_boxes,1,0,0,1", "lee/01_boxes,0,0,1,1"]
    assert main(["progress", str(tmp_path)]) == 0
    assert "1 of 2 checks passed" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "said"), [(None, "holds no lesson with exercises"), ("{", "is not a notebook")])
def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys, content, said):
    if content:
        (tmp_path / "01.ipynb").write_text(content)
    assert main(["progress", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
