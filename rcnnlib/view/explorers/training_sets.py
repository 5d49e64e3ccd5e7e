"""R-CNN's three training sets on one axis: in which of them is a region, and how many regions has each (lesson 03).

With the papers' thresholds the answers are those of `models.svm`; here they can be moved.
Leaves out: how a batch is drawn from them (`ops.sampler`).

Shapes:
    P  proposals      G  objects      boxes (1 + G, 4): the dragged region, then the objects, all of one class
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, readable_on

SETS = ("fine-tuning", "SVM", "regressor")
ROWS = ("fine-tuning", "SVM\n(+ the objects)", "regressor")
COLOURS = {"positive": LINES[0], "background": "#BBBBBB", "not used": "#FFFFFF", "used": LINES[0]}
BINS = 20  # of the histogram above the zones


def training_sets(
    boxes: Float[Tensor, "N 4"],
    fine_tuning: float,
    svm: float,
    regressor: float,
    *,
    proposals: Float[Tensor, "P 4"],
) -> dict[str, Any]:
    """Return the IoU of ``boxes[0]``, what it is in each set, and how many proposals each set holds."""
    best = box_iou(proposals, boxes[1:]).amax(dim=1)
    iou = box_iou(boxes[:1], boxes[1:]).amax().item()
    positive, negative, used = (best >= fine_tuning), (best < svm), (best > regressor)
    return {
        "IoU": iou,
        "roles": [
            "positive" if iou >= fine_tuning else "background",
            "background" if iou < svm else "not used",
            "used" if iou > regressor else "not used",
        ],
        "fine-tuning": [int(positive.sum()), int((~positive).sum())],
        "SVM": [len(boxes) - 1, int(negative.sum())],  # its positives are the objects themselves
        "regressor": int(used.sum()),
        "histogram": torch.histc(best, BINS, 0, 1),
    }


class TrainingSets(Explorer):
    """A photo with a region to drag; beside it the zones of the three sets on the axis of IoU."""

    def __init__(self, image: Any, region: Any, truths: Any, proposals: Float[Tensor, "P 4"], alt: str) -> None:
        """Show ``image`` with a ``region`` to drag and ``truths`` (G, 4) of one class."""
        self.compute = partial(training_sets, proposals=proposals)
        kinds = ["proposal"] + ["ground_truth"] * len(truths)
        canvas = Canvas(image, [region, *truths], kinds=kinds, editable=[0], alt=alt, display_width=320)
        controls = {
            "fine_tuning": slider("fine-tuning from", 0.5, 0.05, 0.95, 0.05),
            "svm": slider("SVM below", 0.3, 0.05, 0.95, 0.05),
            "regressor": slider("regressor above", 0.6, 0.05, 0.95, 0.05),
        }
        super().__init__(controls, canvas=canvas, chart=self.make_chart(), title="Training sets")

    def make_chart(self) -> Chart:
        """Lay out a histogram of the proposals and below it a row of zones for each set."""
        chart = Chart(430, 290, rows=2)
        top, self.rows = chart.axes
        top.get_gridspec().set_height_ratios([1, 2])
        top.set(xlim=(0, 1), ylim=(0, 1), yticks=[], xticks=[], title="proposals (height: root of their number)")
        self.columns = top.bar((np.arange(BINS) + 0.5) / BINS, [0] * BINS, width=0.9 / BINS, color=LINES[1])
        self.rows.set(
            xlim=(0, 1), ylim=(2.5, -0.5), yticks=range(3), yticklabels=ROWS, xlabel="best IoU with an object"
        )
        self.rows.tick_params(axis="y", length=0)
        self.zones = [self.rows.barh([row, row], [0, 0], height=0.7, ec="#777777", lw=0.6) for row in range(3)]
        self.texts = [
            [self.rows.text(0, row, "", ha="center", va="center", fontsize=9) for _ in "12"] for row in range(3)
        ]
        self.mark = self.rows.axvline(0, color="black", lw=2)
        zones, texts = ([part for pair in parts for part in pair] for parts in (self.zones, self.texts))
        chart.animate(*self.columns, *zones, self.mark, *texts)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move the zones, the columns and the mark; the columns are scaled by their root, for most IoUs are small."""
        self.canvas.labels = [f"IoU {numbers['IoU']:.2f}"] + [""] * (len(self.canvas.boxes) - 1)
        counts = numbers["histogram"].sqrt()
        for column, count in zip(self.columns, (counts / counts.amax().clamp(min=1)).tolist(), strict=True):
            column.set_height(count)
        cuts = (self.state["fine_tuning"], self.state["svm"], self.state["regressor"])
        words = (("background", "positive"), ("background", "not used"), ("not used", "used"))
        for cut, pair, zones, texts in zip(cuts, words, self.zones, self.texts, strict=True):
            for start, end, word, zone, text in zip((0, cut), (cut, 1), pair, zones, texts, strict=True):
                zone.set_x(start)
                zone.set_width(end - start)
                zone.set_facecolor(COLOURS[word])
                text.set_position(((start + end) / 2, text.get_position()[1]))
                text.set(text=word if end - start > 0.2 else "", color=readable_on(COLOURS[word]))
        self.mark.set_xdata([numbers["IoU"]] * 2)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say what the region is in each set, then how many proposals each holds."""
        roles = ", ".join(f"{name} {role}" for name, role in zip(SETS, numbers["roles"], strict=True))
        (positive, background), (objects, negatives) = numbers["fine-tuning"], numbers["SVM"]
        return (
            f"your box: IoU {numbers['IoU']:.4f}, {roles} · the proposals: fine-tuning {positive} + {background}, "
            f"SVM {objects} objects + {negatives}, regressor {numbers['regressor']}"
        )
