"""One class, one score threshold: what is shown, what is right, and the point on the curve (lesson 08).

Leaves out: AP, the area under that curve (`ap_of_five`).

Shapes:
    D  detections of the class on a picture      G  its objects there
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets
import torch

from rcnnlib.engine.metrics import Curve, Record, match, precision_recall
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, Kind


def at_score(
    score: float,
    name: str,
    picture: int,
    *,
    records: Sequence[Record],
    names: Sequence[str],
    curves: Mapping[str, Curve],
) -> dict[str, Any]:
    """Return counts over all pictures at this threshold, and the boxes with their verdicts on one picture."""
    curve, record, label = curves[name], records[picture], list(names).index(name) + 1
    shown = int((curve.scores >= score).sum())
    right = int(curve.true_positive[:shown].sum())
    matched = match(record, label)
    good = record.scores[matched.rows] >= score
    rows, hits, twice = matched.rows[good], matched.right[good], matched.duplicate[good]
    objects = record.truth[record.truth_labels == label]
    # Each right detection stands for the object that it overlaps most.
    found = box_iou(record.boxes[rows[hits]], objects).argmax(dim=1).tolist() if len(objects) else []
    missed = [number for number in range(len(objects)) if number not in found]
    words = ["✓" if hit else "✗ duplicate" if again else "✗" for hit, again in zip(hits, twice, strict=True)]
    return {
        "shown": shown,
        "right": right,
        "wrong": shown - right,
        "missed": curve.total - right,
        "precision": right / shown if shown else 1.0,
        "recall": right / curve.total,
        "on this picture": f"{words.count('✓')} right, {len(words) - words.count('✓')} wrong, {len(missed)} missed",
        "boxes": record.boxes[rows],
        "labels": [f"{word} {value:.2f}" for word, value in zip(words, record.scores[rows].tolist(), strict=True)],
        "objects": objects,
        "missed here": missed,
        "curve": curve,
    }


class ScoreSlider(Explorer):
    """A threshold for the score; a picture with what is shown then; the curve with the present point on it."""

    from_canvas = ()  # no box can be dragged

    def __init__(self, images: Sequence[Any], records: Sequence[Record], names: Sequence[str], **start: Any) -> None:
        """Judge ``records`` of ``images``; ``names`` are those of the labels 1..K; ``start`` sets controls."""
        self.images, self.drawn = list(images), -1
        curves = {name: precision_recall(records, label) for label, name in enumerate(names, start=1)}
        self.compute = partial(at_score, records=records, names=names, curves=curves)
        controls = {
            "score": slider("show from score", 0.5, 0.05, 1.0, 0.01),
            "name": choice("class", list(names)),
            "picture": slider("picture", 0, 0, len(images) - 1, 1),
        }
        for name, value in start.items():
            controls[name].value = value
        canvas = Canvas(images[0], alt="", display_width=330)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(), title="Score threshold")
        for control in controls.values():
            control.layout.width = "400px"
        grid = ipywidgets.Layout(grid_template_columns="repeat(auto-fit, 405px)", overflow="visible")
        self.children = [ipywidgets.GridBox(list(controls.values()), layout=grid), *self.children[len(controls) :]]

    def _make_chart(self) -> Chart:
        chart = Chart(400, 290)
        axes = chart.axes
        axes.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="recall", ylabel="precision")
        (self.whole,) = axes.plot([], [], color="#999999", linewidth=1.5)
        (self.part,) = axes.plot([], [], color=LINES[0], linestyle="-")
        (self.point,) = axes.plot([], [], color=LINES[0], marker="o", markersize=10)
        axes.set_title(" ")  # room for the words
        self.words = axes.text(0, 1.075, "", va="bottom", fontsize=11, clip_on=False)
        chart.animate(self.whole, self.part, self.point, self.words)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the boxes of the class on the picture, and the curve up to the present point in blue."""
        picture, curve = self.state["picture"], numbers["curve"]
        missed = ["missed" if number in numbers["missed here"] else "" for number in range(len(numbers["objects"]))]
        kinds: list[Kind] = ["ground_truth"] * len(missed) + ["detection"] * len(numbers["boxes"])
        boxes = torch.cat((numbers["objects"], numbers["boxes"]))  # what comes last lies on top
        image = self.images[picture] if picture != self.drawn else None
        self.canvas.show(image, boxes, kinds=kinds, labels=[*missed, *numbers["labels"]])
        self.canvas.alt = f"Picture {picture} with what is shown: {numbers['on this picture']}"
        self.drawn, count = picture, numbers["shown"]
        self.whole.set_data(curve.recall.numpy(), curve.precision.numpy())
        self.part.set_data(curve.recall[:count].numpy(), curve.precision[:count].numpy())
        self.point.set_data([numbers["recall"]], [numbers["precision"]])
        self.words.set_text(f"{self.state['name']}: {count} shown, {numbers['right']} right")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say counts, precision and recall, and what is on this picture."""
        return super().tell({name: numbers[name] for name in list(numbers)[:7]})
