"""Detections to drag over objects: which is right, a duplicate, wrong or ignored; and the AP that follows (lesson 08).

All boxes are of one class. Leaves out: other classes (`engine.metrics.error_kinds`).

Shapes:
    D  detections, which can be dragged      G  objects      I  ignored regions      N = D + G + I boxes on the canvas
"""

from functools import partial
from typing import Any

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.engine.evaluation import coco_ap
from rcnnlib.engine.metrics import Record, average_precision, match, precision_recall
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import Kind, to_boxes

MARKS = {"right": "✓", "duplicate": "✗", "wrong": "✗", "ignored": "–"}


def as_record(boxes: Float[Tensor, "N 4"], scores: list[float], objects: int) -> Record:
    """Return detections, objects and ignored regions, in this order on the canvas, as a picture of one class."""
    found, truth, ignore = boxes.split([len(scores), objects, len(boxes) - len(scores) - objects])
    ones = torch.ones(len(boxes), dtype=torch.int64)
    return Record(0, found, torch.tensor(scores), ones[: len(found)], truth, ones[:objects], ignore)


def matching(boxes: Float[Tensor, "N 4"], threshold: float, *, objects: int, **scores: float) -> dict[str, Any]:
    """Judge each detection; ``scores`` are theirs by letter. AP is VOC's at this threshold and COCO's at 0.5."""
    record = as_record(boxes, list(scores.values()), objects)
    matched = match(record, 1, iou_threshold=threshold)
    verdicts = ["wrong"] * len(scores)
    for place, row in enumerate(matched.rows.tolist()):
        for word in ("right", "duplicate", "ignored"):
            if getattr(matched, word)[place]:
                verdicts[row] = word
    table = box_iou(record.boxes, record.truth)
    best = table.argmax(dim=1).tolist()
    claimed = {best[row] for row, verdict in enumerate(verdicts) if verdict == "right"}
    return {
        **{
            letter: f"{MARKS[word]} {word}, IoU {iou:.4f}"
            for letter, word, iou in zip(scores, verdicts, table.amax(dim=1).tolist(), strict=True)
        },
        "missed objects": [number for number in range(objects) if number not in claimed],
        "VOC AP": average_precision(precision_recall([record], 1, iou_threshold=threshold)),
        "COCO AP50": coco_ap([record], 1)["AP50"],
        "verdicts": verdicts,
        "best": best,
        "IoU": table,
    }


class Matching(Explorer):
    """Detections over a picture with objects, a slider for the score of each; the verdicts beside it."""

    def __init__(
        self, image: Any, truths: Any, detections: Any, scores: Any, alt: str, *, ignore: Any = (), ap: bool = False
    ) -> None:
        """Show ``detections`` (D, 4) to drag over ``truths`` (G, 4); with ``ap`` tell also both APs, at IoU 0.5."""
        found, truth, crowd = to_boxes(detections), to_boxes(truths), to_boxes(ignore)
        self.letters, self.ap = "abcde"[: len(found)], ap
        self.names = [str(number) for number in range(len(truth))] + ["ignored"] * len(crowd)
        self.compute = partial(matching, objects=len(truth))
        limit = slider("right from IoU", 0.5, 0.1, 0.9, 0.05)
        controls = {"threshold": limit} | {
            letter: slider(f"score of {letter}", float(score), 0.01, 1.0, 0.01)
            for letter, score in zip(self.letters, scores, strict=True)
        }
        kinds: list[Kind] = ["detection"] * len(found) + ["ground_truth"] * len(truth) + ["ignored"] * len(crowd)
        canvas = Canvas(
            *(image, [*found, *truth, *crowd]), kinds=kinds, editable=range(len(found)), alt=alt, display_width=320
        )
        super().__init__(controls, canvas=canvas, chart=self._make_chart(), title="Matching")
        for control in controls.values():
            control.layout.width = "400px"
        grid = ipywidgets.Layout(grid_template_columns="repeat(auto-fit, 405px)", overflow="visible")
        shown = list(controls.values())[1:] if ap else list(controls.values())  # COCO's AP50 has its own threshold
        self.children = [ipywidgets.GridBox(shown, layout=grid), *self.children[len(controls) :]]

    def _make_chart(self) -> Chart:
        """A table with a row for each detection, by falling score."""
        chart = Chart(400, 60 + 34 * len(self.letters))
        chart.figure.set_layout_engine("none")
        axes = chart.axes
        axes.set_position((0, 0, 1, 1))
        axes.set_axis_off()
        rows = len(self.letters) + 1
        axes.set(xlim=(0, 1), ylim=(rows - 0.4, -0.6))
        self.columns = (0.02, 0.2, 0.36, 0.6, 0.74)
        for x, text in zip(self.columns, ("detection", "score", "best object", "IoU", "verdict"), strict=True):
            axes.text(x, 0, text, va="center", fontsize=10, color="#555555")
        axes.axhline(0.5, color="#555555", linewidth=1)
        self.cells = [[axes.text(x, row, "", va="center", fontsize=11) for x in self.columns] for row in range(1, rows)]
        chart.animate(*(cell for row in self.cells for cell in row))
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Write the verdicts on the picture and into the table."""
        scores = [self.controls[letter].value for letter in self.letters]
        words = [MARKS[word] for word in numbers["verdicts"]]
        self.canvas.labels = [f"{letter} {word}" for letter, word in zip(self.letters, words, strict=True)] + self.names
        order = sorted(range(len(scores)), key=lambda row: -scores[row])
        for cells, row in zip(self.cells, order, strict=True):
            best, verdict = numbers["best"][row], numbers["verdicts"][row]
            iou = float(numbers["IoU"][row, best])
            texts = (self.letters[row], f"{scores[row]:.2f}", str(best) if iou else "none", f"{iou:.2f}", verdict)
            for cell, text in zip(cells, texts, strict=True):
                cell.set_text(text)
            cells[-1].set_weight("bold" if verdict == "right" else "normal")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the verdicts and the missed objects, and where it is asked for both APs."""
        names = [*self.letters, "missed objects", *(("VOC AP", "COCO AP50") if self.ap else ())]
        return super().tell({name: numbers[name] for name in names})
