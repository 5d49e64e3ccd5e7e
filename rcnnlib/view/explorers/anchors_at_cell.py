"""The anchors of one cell on a photo, and which objects the anchors of all cells reach (lesson 10).

Leaves out: labels for training (lesson 12).

Shapes:
    k  anchors of a cell      A  anchors of all cells      G  ground truths
"""

from functools import partial
from typing import Any

import torch

from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.boxes import box_iou, is_inside
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, STYLES, to_boxes

RATIOS = {"1": (1.0,), "1/2, 1, 2": (0.5, 1.0, 2.0), "1/3 to 3": (1 / 3, 0.5, 1.0, 2.0, 3.0)}
BUGS = ("none", "corner of the cell", "x and y swapped")


def anchors_at_cell(
    x: int,
    y: int,
    smallest: int,
    count: int,
    ratios: str,
    stride: int,
    threshold: float,
    bug: str,
    *,
    truths: torch.Tensor,
    size: tuple[int, int],
) -> dict[str, Any]:
    """Return the anchors of the cell under (x, y), how many there are in all, and the best IoU of each object."""
    height, width = size
    cells = (-(-height // stride), -(-width // stride))
    row, column = min(y // stride, cells[0] - 1), min(x // stride, cells[1] - 1)
    base = cell_anchors([smallest * 2**number for number in range(count)], RATIOS[ratios])
    grid = anchor_grid(base, cells, stride, offset=0.0 if bug == BUGS[1] else 0.5)
    if bug == BUGS[2]:
        grid = grid[:, [1, 0, 3, 2]]
    place = (row * cells[1] + column) * len(base)
    best = box_iou(truths, grid).amax(dim=1)
    return {
        "anchors a cell": len(base),
        "cells": f"{cells[1]} x {cells[0]}",
        "anchors": len(grid),
        "inside": int(is_inside(grid, grid.new_tensor(size)).sum()),
        "row": row,
        "column": column,
        "objects reached": f"{int((best >= threshold).sum())} of {len(truths)}",
        "best IoU": best,
        "boxes": grid[place : place + len(base)],
        "cell box": torch.tensor([column, row, column + 1, row + 1]) * float(stride),
    }


class AnchorsAtCell(Explorer):
    """A photo: click a cell and see its anchors; beside it the best IoU that any anchor has with each object."""

    from_canvas = ()

    def __init__(self, image: Any, truths: Any, alt: str) -> None:
        """Show ``image`` with ``truths`` (G, 4); ``alt`` says what the photo shows."""
        self.truths = torch.from_numpy(to_boxes(truths))
        canvas = Canvas(image, alt=alt, display_width=450)
        size = (canvas.height, canvas.width)
        self.compute = partial(anchors_at_cell, truths=self.truths, size=size)
        controls = {
            "smallest": slider("smallest scale", 64, 16, 256, 8),
            "count": slider("scales, each 2x", 3, 1, 4, 1),
            "ratios": choice("height / width", list(RATIOS), "1/2, 1, 2"),
            "stride": choice("stride", [8, 16, 32], 16),
            "threshold": slider("reached from IoU", 0.5, 0.3, 0.9, 0.05),
            "x": slider("x of the cell", canvas.width // 2, 0, canvas.width - 1, 1),
            "y": slider("y of the cell", canvas.height // 2, 0, canvas.height - 1, 1),
            "bug": choice("planted bug", BUGS),
        }
        chart = Chart(350, 40 + 34 * max(len(self.truths), 4))
        self._draw_bars(chart)
        super().__init__(controls, canvas=canvas, chart=chart, title="Anchors at a cell")
        canvas.observe(self._go_to_click, "clicked")

    def _go_to_click(self, change: Any) -> None:
        if change["new"]:
            x, y = (round(number) for number in change["new"])
            self.set(x=min(max(x, 0), self.controls["x"].max), y=min(max(y, 0), self.controls["y"].max))

    def _draw_bars(self, chart: Chart) -> None:
        """One bar an object: the best IoU of any anchor."""
        axes, count = chart.axes, len(self.truths)
        self.bars = axes.barh(range(count), [0.0] * count, color=STYLES["ground_truth"].colour, height=0.6)
        self.words = [axes.text(0, row, "", va="center", fontsize=9) for row in range(count)]
        self.mark = axes.axvline(0.5, color=LINES[2], linestyle="--", linewidth=1.5)
        axes.set(xlim=(0, 1.15), ylim=(count - 0.4, -0.6), yticks=range(count), xlabel="best IoU of any anchor")
        axes.set_yticklabels([f"object {row}" for row in range(count)])
        chart.animate(*self.bars, *self.words, self.mark)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move anchors, bars and the threshold."""
        anchors, cell, threshold = numbers["boxes"], numbers["cell box"][None], self.controls["threshold"].value
        names = [f"{row}" for row in range(len(self.truths))]
        kinds = ["anchor"] * len(anchors) + ["ground_truth"] * len(self.truths) + ["note"]
        self.canvas.show(
            *(None, torch.cat((anchors, self.truths, cell))), kinds=kinds, labels=[""] * len(anchors) + names + [""]
        )
        self.mark.set_xdata([threshold, threshold])
        for bar, word, best in zip(self.bars, self.words, numbers["best IoU"].tolist(), strict=True):
            bar.set_width(best)
            bar.set_alpha(1.0 if best >= threshold else 0.35)
            word.set_text(f"{best:.2f}" if best >= threshold else f"{best:.2f} missed")
            word.set_x(max(best, threshold if best < threshold else 0.0) + 0.02)  # not on the dashed line

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts; boxes and bars show the rest."""
        hidden = ("boxes", "cell box", "best IoU")
        return super().tell({name: value for name, value in numbers.items() if name not in hidden})
