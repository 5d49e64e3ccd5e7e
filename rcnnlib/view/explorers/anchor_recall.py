"""Scales and ratios against the boxes of a data set: which part of the objects does some anchor reach? (lesson 10).

Leaves out: what the RPN makes of the anchors; this is where it starts from.

Shapes:
    N  objects of all pictures
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.boxes import box_area, box_iou
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, STYLES

RATIOS = {"1": (1.0,), "1/2, 1, 2": (0.5, 1.0, 2.0)}
STRIDE = 16
CURVE = torch.linspace(0.3, 0.95, 27)
Sized = tuple[Float[Tensor, "_ 4"], tuple[int, int]]  # the objects of a picture, its height and width


def best_ious(pictures: Sequence[Sized], scales: Sequence[float], ratios: Sequence[float]) -> Float[Tensor, " N"]:
    """Return for each object of the pictures the best IoU that any anchor has with it."""
    base, best = cell_anchors(scales, ratios), [torch.zeros(0)]
    for size in dict.fromkeys(size for _, size in pictures):
        objects = torch.cat([boxes for boxes, own in pictures if own == size])
        cells = (-(-size[0] // STRIDE), -(-size[1] // STRIDE))
        best.append(box_iou(objects, anchor_grid(base, cells, STRIDE)).amax(dim=1))
    return torch.cat(best)


def anchor_recall(
    smallest: int, factor: float, count: int, ratios: str, data: str, threshold: float, *, sets: Mapping[str, Any]
) -> dict[str, Any]:
    """Return which part of the objects of a data set the anchors reach."""
    scales = [smallest * factor**number for number in range(count)]
    best = best_ious(sets[data], scales, RATIOS[ratios])
    return {
        "scales": [round(scale) for scale in scales],
        "anchors a cell": count * len(RATIOS[ratios]),
        "recall": (best >= threshold).double().mean().item(),
        "missed": f"{int((best < threshold).sum())} of {len(best)}",
        "mean best IoU": best.mean().item(),
        "curve": (best >= CURVE[:, None]).double().mean(dim=1),
    }


class AnchorRecall(Explorer):
    """Sliders for the anchors; above the sizes of the objects with the scales, below recall against IoU."""

    from_canvas = ()

    def __init__(self, sets: Mapping[str, Sequence[Sized]]) -> None:
        """Compare with ``sets``: by name, for every picture its objects and its size."""
        self.sets = sets
        self.compute = partial(anchor_recall, sets=sets)
        controls = {
            "smallest": slider("smallest scale", 48, 12, 160, 4),
            "factor": slider("next scale: times", 2.0, 1.2, 3.0, 0.1),
            "count": slider("number of scales", 3, 1, 5, 1),
            "ratios": choice("height / width", list(RATIOS), "1/2, 1, 2"),
            "data": choice("data set", list(sets)),
            "threshold": slider("IoU", 0.5, 0.3, 0.9, 0.05),
        }
        chart = Chart(760, 380, rows=2)
        self.sizes, self.recall = chart.axes
        self._draw_sizes()
        self._draw_recall()
        chart.animate(*self.heights, *self.scales, self.curve, self.dot, self.text)
        super().__init__(controls, chart=chart, title="Anchor recall")

    def _draw_sizes(self) -> None:
        """How large the objects are, on a logarithmic axis; a line for each scale."""
        self.edges = torch.logspace(3, 8.5, 23, base=2)
        middle, width = (self.edges[1:] * self.edges[:-1]).sqrt(), self.edges.diff()
        self.heights = self.sizes.bar(
            middle.numpy(), [0.0] * 22, width.numpy() * 0.9, color=STYLES["ground_truth"].colour
        )
        self.scales = [
            self.sizes.axvline(1, color=STYLES["anchor"].colour, linestyle="--", linewidth=2.5) for _ in range(5)
        ]
        self.sizes.set_xscale("log", base=2)
        ticks = [16, 32, 64, 128, 256]
        self.sizes.set(xlim=(8, 360), ylim=(0, 0.3), xticks=ticks, yticks=[])
        self.sizes.set_xticklabels([str(tick) for tick in ticks])
        self.sizes.set_title("side of the objects, pixels (root of the area); dashed: the scales")

    def _draw_recall(self) -> None:
        """Recall against IoU."""
        (self.curve,) = self.recall.plot(CURVE.numpy(), torch.zeros(len(CURVE)).numpy(), color=LINES[0])
        (self.dot,) = self.recall.plot([0.5], [0], "o", color=LINES[2])
        self.text = self.recall.text(0.5, 0, "", fontsize=10)
        self.recall.set(
            xlim=(0.3, 0.95), ylim=(0, 1.08), xlabel="IoU", title="recall: part of the objects that some anchor reaches"
        )

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring sizes, scales and curve up to date."""
        sides = torch.cat([box_area(boxes).sqrt() for boxes, _ in self.sets[self.controls["data"].value]])
        share = torch.histogram(sides, self.edges).hist / len(sides)
        for bar, height in zip(self.heights, share.tolist(), strict=True):
            bar.set_height(height)
        for number, line in enumerate(self.scales):
            used = number < len(numbers["scales"])
            line.set_visible(used)
            line.set_xdata([numbers["scales"][number]] * 2 if used else [1, 1])
        self.curve.set_ydata(numbers["curve"].numpy())
        threshold, recall = self.controls["threshold"].value, numbers["recall"]
        self.dot.set_data([threshold], [recall])
        self.text.set_position((threshold + 0.012, recall + 0.03))
        self.text.set_text(f"{recall:.2f}")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say everything but the curve."""
        return super().tell({name: value for name, value in numbers.items() if name != "curve"})
