"""Which points and questions of the lecture the lessons teach, and in which cells: read from the lessons themselves.

A cell says so in its metadata: ``rows="L4 figure, Q1 experiment"``. Lesson 00 prints the table; a test holds it
against `course_map`.
"""

import json
from pathlib import Path
from typing import NamedTuple

from rcnnlib.view.course_map import LESSONS

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
POINTS = {
    "L1": "R-CNN, and its three training sets",
    "L2": "the four shortcomings of R-CNN",
    "L3": "SPP: any region becomes a fixed vector",
    "L4": "Selective Search",
    "L5": "Fast R-CNN: one feature map for all regions",
    "L6": "RoI projection, rounding included",
    "L7": "RoI pooling: a fixed grid out of any RoI",
    "L8": "softmax over C + 1 classes, box regressor",
    "L9": "the multi-task loss",
    "L10": "the mini-batch: thresholds, 25 % and 75 %",
    "L11": "hierarchical sampling",
    "L12": "what is left after Fast R-CNN",
    "L13": "an RPN takes the place of Selective Search",
    "L14": "anchors: 3 scales x 3 ratios at every cell",
    "L15": "the RPN: 3x3, two 1x1; map and flat list",
    "L16": "top-N by score; deltas applied to anchors",
    "L17": "NMS of proposals, the four-box example",
    "L18": "the training set of the RPN",
    "L18b": "the second sampler, for the head",
    "L19": "the loss of the RPN",
    "L20": "4-step alternating training",
    "L21": "approximate joint training",
    "L22": "better and faster than Selective Search",
    "L23": "what is left after Faster R-CNN",
    "L24": "the four detectors side by side",
    "L25": "such a model with a detection library",
}
QUESTIONS = {
    "Q1": "Does Fast R-CNN still use Selective Search?",
    "Q2": "Which grid is 8x8, and which is 3 by 2?",
    "Q3": "Why this mix of data, and who makes it?",
    "Q4": "2000 RoIs a picture? Many in one step?",
    "Q5": "Why the 3x3 convolution?",
    "Q6": "Why an anchor generator?",
    "Q7": "Why is bb4 not removed?",
}
ROWS = POINTS | QUESTIONS
KINDS = {"figure": "look", "explorer": "move", "predict": "guess", "exercise": "write", "experiment": "try"}
DUTIES = {"see": ("figure", "explorer"), "move": ("explorer",), "be checked": ("predict", "exercise")}


class Mark(NamedTuple):
    """One cell that teaches a row."""

    row: str  # L4
    kind: str  # one of KINDS
    lesson: str  # 02
    cell: int


def read_marks(folder: Path = NOTEBOOKS) -> list[Mark]:
    """Return what the cells of all notebooks in ``folder`` say that they teach.

    Raises:
        ValueError: a cell names a row or a kind that does not exist.
    """
    marks = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        for index, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            for text in filter(None, cell["metadata"].get("rows", "").split(",")):
                row, _, kind = text.strip().partition(" ")
                if row not in ROWS or kind not in KINDS:
                    raise ValueError(
                        f"{path.name}, cell {index}: rows={text!r} must be one of {', '.join(ROWS)}, "
                        f"then one of {', '.join(KINDS)}"
                    )
                marks.append(Mark(row, kind, path.name[:2], index))
    return marks


def missing(marks: list[Mark]) -> list[str]:
    """Return what the lessons should teach and do not: one sentence for each gap."""
    kinds: dict[str, set[str]] = {row: {mark.kind for mark in marks if mark.row == row} for row in ROWS}
    gaps = []
    for lesson in LESSONS:
        for row in lesson.points:
            gaps += [
                f"lesson {lesson.number}: nothing to {duty} for {row} ({', '.join(wanted)})"
                for duty, wanted in DUTIES.items()
                if not kinds[row].intersection(wanted)
            ]
        answered = {mark.row for mark in marks if mark.lesson == lesson.number and mark.kind == "experiment"}
        gaps += [
            f"lesson {lesson.number}: no experiment answers {row}" for row in lesson.questions if row not in answered
        ]
    return gaps


def row_table(marks: list[Mark]) -> str:
    """Return the rows as a table to print: the lessons, and how many cells there are of each kind."""
    lines = [" " * 50 + "lessons  " + "  ".join(KINDS.values())]
    for row, text in ROWS.items():
        own = [mark for mark in marks if mark.row == row]
        lessons = " ".join(sorted({mark.lesson for mark in own})) or "-"
        counts = [str(sum(mark.kind == kind for mark in own) or "-").rjust(len(word)) for kind, word in KINDS.items()]
        lines.append(f"{row:<5}{text:<45}{lessons:<9}" + "  ".join(counts))
    return "\n".join(lines)
