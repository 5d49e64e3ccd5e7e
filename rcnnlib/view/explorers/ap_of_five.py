"""Five detections whose scores can be moved: their ranking, the curve, its envelope, and AP in both ways (lesson 08).

a, c and d are right, b and e are wrong. Leaves out: boxes; how right and wrong are told is `matching`.

Shapes:
    D  detections that are left
"""

from typing import Any

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.engine.metrics import Curve, Record, average_precision, precision_recall
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES

SCORES = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "e": 0.5}
RIGHT = {"a": 0, "c": 1, "d": 2}  # and the object that each stands for


def five_detections(objects: int, scores: dict[str, float]) -> Record:
    """Return a picture with ``objects`` boxes in a row; a detection of score 0 is left out."""
    left = torch.arange(6).float() * 20
    boxes = torch.stack((left, 0 * left, left + 10, 0 * left + 10), dim=1)
    left_in = {letter: score for letter, score in scores.items() if score > 0}
    places = [RIGHT.get(letter, -1) for letter in left_in]  # the last box is far from every object
    values, ones = torch.tensor(list(left_in.values())).reshape(-1), torch.ones(6, dtype=torch.int64)
    found = boxes[torch.tensor(places, dtype=torch.int64)]
    return Record(0, found, values, ones[: len(found)], boxes[:objects], ones[:objects], boxes[:0])


def envelope(curve: Curve) -> Float[Tensor, " D"]:
    """Return for each point the best precision at its recall or a higher one."""
    return curve.precision.flip(0).cummax(dim=0).values.flip(0)


def ap_of_five(objects: int, **scores: float) -> dict[str, Any]:
    """Rank the detections and return precision, recall and AP; ``scores`` are theirs by letter, 0 deletes one."""
    curve = precision_recall([five_detections(objects, scores)], 1)
    left_in = [letter for letter, score in scores.items() if score > 0]
    ranking = sorted(left_in, key=lambda letter: -scores[letter])
    return {
        "ranking": " ".join(f"{letter}{'✓' if letter in RIGHT else '✗'}" for letter in ranking),
        "AP area": average_precision(curve),
        "AP 11-point": average_precision(curve, points="11"),
        "precision": curve.precision,
        "recall": curve.recall,
        "envelope": envelope(curve),
        "letters": ranking,
    }


class ApOfFive(Explorer):
    """A score slider for each of five detections, and the number of objects."""

    compute = staticmethod(ap_of_five)

    def __init__(self) -> None:
        controls = {name: slider(f"score of {name}", score, 0.0, 1.0, 0.05) for name, score in SCORES.items()}
        controls["objects"] = slider("objects", 3, 3, 5, 1)
        super().__init__(controls, chart=self._make_chart(), title="AP of five detections")
        for control in controls.values():
            control.layout.width = "400px"
        grid = ipywidgets.Layout(grid_template_columns="repeat(auto-fit, 405px)", overflow="visible")
        self.children = [ipywidgets.GridBox(list(controls.values()), layout=grid), *self.children[len(controls) :]]

    def _make_chart(self) -> Chart:
        """Left the area under the envelope, right its heights at eleven recalls; the points on both."""
        chart = Chart(820, 320, columns=2)
        self.areas, self.points, self.names, self.titles = [], [], [], []
        for axes in chart.axes:
            axes.set(xlim=(-0.03, 1.05), ylim=(0, 1.12), xlabel="recall", ylabel="precision")
            self.points += axes.plot([], [], color="black", linestyle="", marker="o", markersize=7, zorder=4)
            self.names.append([axes.text(0, 0, "", va="bottom", fontsize=10, zorder=5) for _ in SCORES])
            self.titles.append(axes.text(0, 1.16, "", va="bottom", fontsize=11, clip_on=False))
        self.areas = [chart.axes[0].axvspan(0, 0, color=LINES[0], alpha=0.35) for _ in SCORES]
        self.sticks = chart.axes[1].bar([level / 10 for level in range(11)], [0] * 11, width=0.03, color=LINES[1])
        chart.axes[0].set_title(" ")
        chart.axes[1].set_title(" ")
        chart.animate(
            *self.areas, *self.sticks, *self.points, *(n for names in self.names for n in names), *self.titles
        )
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring points, areas and sticks up to date."""
        recall, precision, heights = (numbers[name].tolist() for name in ("recall", "precision", "envelope"))
        for points, names in zip(self.points, self.names, strict=True):
            points.set_data(recall, precision)
            for place, text in enumerate(names):
                here = place < len(recall)
                text.set_text(numbers["letters"][place] if here else "")
                text.set_position((recall[place] + 0.015, precision[place] + 0.02) if here else (0, 0))
        for place, area in enumerate(self.areas):
            start = recall[place - 1] if 0 < place <= len(recall) else 0.0
            stop = recall[place] if place < len(recall) else start
            area.set_bounds(start, 0, stop - start, (heights[place] if place < len(recall) else 0) / 1.12)
        for level, stick in enumerate(self.sticks):
            reached = [height for r, height in zip(recall, heights, strict=True) if r >= level / 10]
            stick.set_height(reached[0] if reached else 0)
        self.titles[0].set_text(f"area under the envelope: {numbers['AP area']:.4f}")
        self.titles[1].set_text(f"mean of eleven heights: {numbers['AP 11-point']:.4f}")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say ranking, both APs, precision and recall."""
        return super().tell({name: numbers[name] for name in list(numbers)[:5]})
