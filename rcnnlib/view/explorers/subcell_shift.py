"""A RoI that moves by less than a cell: what one bin reads by RoI pooling and by RoI align (lesson 05).

The weights of RoI align are its gradient: a bin is a weighted sum of cells, so the derivative by a cell is its weight.
Leaves out: movements up and down, which are the same thing.

Shapes:
    1, h, w  one channel of a feature map      S  shifts      p  side of the grid
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnnlib.ops.roi_ops import quantize, roi_align, roi_pool, roi_pool_bins
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES

TARGET, STRIDE, REACH = 7, 16, 32  # bins of an axis; pixels for a cell; pixels to each side
WINDOW = 6  # cells shown around the bin
POOL, ALIGN = LINES[0], LINES[1]


def subcell_shift(
    shift: int, size: int, row: int, column: int, *, features: Float[Tensor, "1 h w"], corner: tuple[int, int]
) -> dict[str, Any]:
    """Move a square RoI of ``size`` pixels by ``shift`` pixels to the right and read the bin (row, column) of it."""
    x, y = corner
    shifts = torch.arange(-REACH, REACH + 1)
    boxes = torch.tensor([[x, y, x + size, y + size]]) + shifts[:, None] * torch.tensor([1, 0, 1, 0])
    boxes, place = boxes.float(), shift + REACH
    pooled = roi_pool(features, boxes, TARGET, spatial_scale=1 / STRIDE)[:, 0, row, column]
    cells = features.clone().requires_grad_()
    aligned = roi_align(cells, boxes, TARGET, spatial_scale=1 / STRIDE)[:, 0, row, column]
    (weights,) = torch.autograd.grad(aligned[place], cells)
    h, w = features.shape[1:]
    bins = roi_pool_bins(boxes[place : place + 1], (h, w), TARGET, spatial_scale=1 / STRIDE)
    top, bottom, left, right = (
        int(edge[0, number]) for edge, number in zip(bins, (row, row, column, column), strict=True)
    )
    step, first = size / STRIDE / TARGET, boxes[place, :2] / STRIDE
    return {
        "RoI pooling": pooled[place].item(),
        "RoI align": aligned[place].item(),
        "exact": (boxes[place, [0, 2]] / STRIDE).tolist(),
        "rounded": quantize(boxes[place : place + 1] / STRIDE)[0, [0, 2]].tolist(),
        "weighted cells": int((weights > 1e-6).sum()),
        "sum of weights": weights.sum().item(),
        "jump": pooled.diff().abs().max().item(),
        "glide": aligned.detach().diff().abs().max().item(),
        "curves": (shifts.tolist(), pooled.tolist(), aligned.tolist()),
        "cells": (left, top, right, bottom),
        "bin": (first[0].item() + column * step, first[1].item() + row * step, step),
        "weights": weights[0],
    }


class SubcellShift(Explorer):
    """One bin on the cells of the map, with the weights of RoI align; beside it both values against the shift."""

    def __init__(self, features: Float[Tensor, "1 h w"], corner: tuple[int, int], *, size: int = 112) -> None:
        """Move a RoI whose upper left corner is at ``corner``, in pixels, over one channel."""
        self.compute = lambda row, column, **state: subcell_shift(
            row=row - 1, column=column - 1, **state, features=features, corner=corner
        )
        controls = {
            "shift": slider("shift, pixels", 0, -REACH, REACH, 1),
            "size": slider("side of the RoI", size, 32, 224, 8),
            "row": slider("row of the bin", 4, 1, TARGET, 1),
            "column": slider("column of the bin", 4, 1, TARGET, 1),
        }
        self.features = features
        super().__init__(controls, chart=self.make_chart(), title="Sub-cell shift")

    def make_chart(self) -> Chart:
        """The cells around the bin, and two curves."""
        chart = Chart(820, 350, columns=2)
        self.near, self.plot = chart.axes
        self.near.get_gridspec().set_width_ratios([1, 1.25])
        says = "blue: cells that RoI pooling reads\npink, dashed: bin of RoI align; its weights"
        self.near.set(xticks=[], yticks=[], title=says)
        self.near.spines[:].set_visible(True)
        h, w = self.features.shape[1:]
        grey = {"cmap": "Greys", "aspect": "equal", "alpha": 0.7}
        self.map = self.near.imshow(self.features[0].numpy(), extent=(0, w, h, 0), **grey)
        self.near.set(xlim=(0, WINDOW), ylim=(WINDOW, 0))
        self.pool = Rectangle((0, 0), 1, 1, fill=False, ec=POOL, lw=4)
        self.align = Rectangle((0, 0), 1, 1, fill=False, ec=ALIGN, lw=3, ls="--")
        for frame in (self.pool, self.align):
            self.near.add_patch(frame)
        self.samples = self.near.scatter([], [], s=16, color=ALIGN, edgecolor="white", linewidth=0.8, zorder=3)
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.7}
        self.texts = [self.near.text(0, 0, "", ha="center", va="center", fontsize=9, bbox=white) for _ in range(16)]
        self.plot.set(xlim=(-REACH, REACH), ylim=(0, 1.3 * self.features.max().item()), xlabel="shift, pixels")
        self.plot.set(ylabel="value of the bin", xticks=range(-REACH, REACH + 1, 16))
        self.plot.set_title("16 pixels are one cell")
        self.plot.grid(axis="x", color="#DDDDDD")
        (self.jumps,) = self.plot.plot([], [], color=POOL, ls="-")
        (self.glides,) = self.plot.plot([], [], color=ALIGN, ls="--")
        self.dots = self.plot.scatter([0, 0], [0, 0], s=60, color=[POOL, ALIGN], zorder=3)
        for place, (name, colour) in enumerate((("RoI pooling: steps", POOL), ("RoI align: no steps", ALIGN))):
            self.plot.text(0.02, 0.97 - 0.08 * place, name, color=colour, va="top", transform=self.plot.transAxes)
        chart.animate(self.map, self.pool, *self.texts, self.align, self.samples)
        chart.animate(self.jumps, self.glides, self.dots)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move the window to the bin; write the weights into their cells; move the dots along the curves."""
        x, y, step = numbers["bin"]
        # The window follows the bin of shift 0, so that a shift is seen as one.
        ox = int(x - self.state["shift"] / STRIDE + step / 2 - WINDOW / 2)
        oy = int(y + step / 2 - WINDOW / 2)
        h, w = self.features.shape[1:]
        self.map.set_extent((-ox, w - ox, h - oy, -oy))
        left, top, right, bottom = numbers["cells"]
        self.pool.set_bounds(left - ox, top - oy, right - left, bottom - top)
        self.align.set_bounds(x - ox, y - oy, step, step)
        quarters = (step / 4, 3 * step / 4)
        self.samples.set_offsets([(x + a - ox, y + b - oy) for a in quarters for b in quarters])
        cells = (numbers["weights"] > 1e-6).nonzero().tolist()
        for text, (row, column) in zip(self.texts, cells, strict=False):
            text.set(text=f"{numbers['weights'][row, column]:.2f}", position=(column + 0.5 - ox, row + 0.5 - oy))
        for index, text in enumerate(self.texts):
            text.set_visible(index < len(cells))
        shifts, pooled, aligned = numbers["curves"]
        self.jumps.set_data(shifts, pooled)
        self.glides.set_data(shifts, aligned)
        now = self.state["shift"]
        self.dots.set_offsets(np.array([[now, numbers["RoI pooling"]], [now, numbers["RoI align"]]]))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say both values, the edges of the RoI exact and rounded, and the largest step of each curve."""
        (left, right), (first, last) = numbers["exact"], numbers["rounded"]
        return (
            f"RoI from {left:.4f} to {right:.4f} cells, rounded {first} to {last} · RoI pooling "
            f"{numbers['RoI pooling']:.1f}, RoI align {numbers['RoI align']:.1f} "
            f"from {numbers['weighted cells']} cells · largest step for one pixel: {numbers['jump']:.1f} and "
            f"{numbers['glide']:.1f}"
        )
