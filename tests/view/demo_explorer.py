"""A small explorer for the tests: two boxes on a drawn picture, their IoU, and where a threshold puts it."""

from typing import Any

import numpy as np
import torch

from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider


def overlap(boxes: torch.Tensor, threshold: float, units: str) -> dict[str, Any]:
    """Return the IoU of the first two boxes, the area of their overlap, and whether the IoU passes."""
    low = torch.maximum(boxes[0, :2], boxes[1, :2])
    sides = (torch.minimum(boxes[0, 2:], boxes[1, 2:]) - low).clamp(min=0)
    both = sides.prod()
    areas = (boxes[:2, 2:] - boxes[:2, :2]).prod(1)
    iou = (both / (areas.sum() - both)).item()
    shown = both.item() / (1 if units == "pixels" else 10_000)
    return {"IoU": iou, "overlap": shown, "passes": iou > threshold}


def picture(height: int = 240, width: int = 320) -> np.ndarray:
    """Return a picture with something to see in it: a gradient and a disc."""
    y, x = np.mgrid[:height, :width]
    disc = (x - width * 0.4) ** 2 + (y - height * 0.5) ** 2 < (height * 0.3) ** 2
    return np.stack([x * 255 / width, y * 255 / height, np.where(disc, 230, 60)], -1).astype(np.uint8)


class Overlap(Explorer):
    """Two boxes to drag, a threshold, and a bar of the IoU."""

    compute = staticmethod(overlap)

    def __init__(self) -> None:
        controls = {
            "threshold": slider("IoU threshold", 0.5, 0.0, 1.0, 0.05),
            "units": choice("Area in", ["pixels", "squares"]),
        }
        canvas = Canvas(
            picture(),
            [[64, 60, 192, 180], [110, 80, 250, 210]],
            kinds=["ground_truth", "detection"],
            labels=["ground truth", "detection 0.90"],
            editable=[0, 1],
            alt="A disc on a gradient with two boxes",
            display_width=480,
        )
        chart = Chart(360, 160)
        chart.axes.set(xlim=(0, 1), ylim=(-0.5, 0.5), xlabel="IoU", yticks=[])
        (self.bar,) = chart.axes.barh([0], [0.0], height=0.5)
        self.limit = chart.axes.axvline(0.5, color="black", linestyle="--")
        chart.animate(self.bar, self.limit)
        super().__init__(controls, canvas=canvas, chart=chart, title="Overlap")

    def draw(self, numbers: dict[str, Any]) -> None:
        self.bar.set_width(numbers["IoU"])
        self.limit.set_xdata([self.controls["threshold"].value] * 2)
