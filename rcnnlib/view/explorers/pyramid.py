"""A RoI of any shape, and the vector of fixed length that a spatial pyramid makes of its cells (lesson 04).

Leaves out: how the ends of a bin are rounded (lesson 05), and what the vector is used for.

Shapes:
    H, W  height and width of the photo      C, h, w  channels, rows and columns of its map
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.gridspec import GridSpec
from torch import Tensor

from rcnnlib.ops.roi_ops import project, quantize, roi_pool_bins, spatial_pyramid_pool
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

LEVELS = {
    "6, 3, 2, 1 (SPPnet)": (6, 3, 2, 1),
    "3, 2, 1 (this course)": (3, 2, 1),
    "2, 1": (2, 1),
    "1": (1,),
    "7 (Fast R-CNN)": (7,),
}
MOST = 4  # levels that the chart has room for
LEAST = 8  # pixels, the smallest side of a RoI
WIDTH = 370  # of the photo, CSS pixels


def pool_roi(
    x: int, y: int, width: int, height: int, levels: str, *, features: Float[Tensor, "C h w"], stride: int, channel: int
) -> dict[str, Any]:
    """Pool a RoI of the photo into a pyramid; ``grids`` holds one channel of each level, ``bins`` the first level's."""
    rows, columns = features.shape[1:]
    x, y = min(x, columns * stride - LEAST), min(y, rows * stride - LEAST)
    box = torch.tensor([[x, y, min(x + width, columns * stride), min(y + height, rows * stride)]], dtype=torch.float32)
    sides, scale = LEVELS[levels], 1 / stride
    vector = spatial_pyramid_pool(features, box, sides, spatial_scale=scale)[0]
    parts = vector.split([len(features) * side * side for side in sides])
    first, last = quantize(project(box, scale))[0].clamp(min=0).split(2)
    last = torch.minimum(last, torch.tensor([columns, rows]) - 1)
    # Rows [y_start, y_stop) and columns [x_start, x_stop) of the bins of the finest level, as boxes in pixels.
    y1, y2, x1, x2 = (edge[0] for edge in roi_pool_bins(box, (rows, columns), sides[0], spatial_scale=scale))
    corners = torch.broadcast_tensors(x1[None], y1[:, None], x2[None], y2[:, None])
    counts = ((y2 - y1)[:, None] * (x2 - x1)[None]).flatten()
    return {
        "cells": (last - first + 1).tolist(),
        "bins": [side * side for side in sides],
        "cells in a bin": [int(counts.min()), int(counts.max())],
        "numbers": len(vector),
        "box": box[0],
        "bin boxes": torch.stack(corners, dim=-1).flatten(0, 1) * stride,
        "grids": [part.view(-1, side, side)[channel] for part, side in zip(parts, sides, strict=True)],
    }


class Pyramid(Explorer):
    """A photo with a RoI to drag and its bins; beside it the grids of all levels, and the vector that they make."""

    from_canvas = ()  # the sliders hold the RoI; a drag moves them

    def __init__(
        self,
        image: Any,
        features: Float[Tensor, "C h w"],
        box: Sequence[int],
        alt: str,
        *,
        channel: int,
        stride: int = 16,
    ) -> None:
        """Show ``image`` with ``box`` = (x, y, width, height) and one ``channel`` of its map ``features``."""
        high, wide = (side * stride for side in features.shape[1:])
        self.compute = partial(pool_roi, features=features, stride=stride, channel=channel)
        controls = {
            "x": slider("x (left edge)", box[0], 0, wide - LEAST, 4),
            "y": slider("y (top edge)", box[1], 0, high - LEAST, 4),
            "width": slider("width", box[2], LEAST, wide, 4),
            "height": slider("height", box[3], LEAST, high, 4),
            "levels": choice("levels", list(LEVELS)),
        }
        canvas = Canvas(image, alt=alt, display_width=WIDTH)
        super().__init__(
            controls, canvas=canvas, chart=self._make_chart(channel, features[channel].max().item()), title="Pyramid"
        )
        canvas.observe(self.follow_drag, "boxes")

    def _make_chart(self, channel: int, top: float) -> Chart:
        """Room for four grids in a row, and below them their numbers in a row: one channel of the vector."""
        chart = Chart(420, 250)
        chart.axes.remove()
        chart.figure.set_layout_engine("none")
        cells = GridSpec(2, MOST, chart.figure, height_ratios=[1, 0.3], left=0.01, right=0.99, top=0.82, bottom=0.12)
        chart.figure.text(0.01, 0.93, f"largest number of each bin, channel {channel}", fontsize=11)
        chart.figure.text(0.01, 0.02, "one channel of the vector, bin after bin; pink: a level ends", fontsize=9)
        self.panels = [chart.figure.add_subplot(cells[0, place]) for place in range(MOST)]
        self.strip = chart.figure.add_subplot(cells[1, :])
        self.pictures, self.names = [], []
        for panel in self.panels:
            panel.set_axis_off()
            self.pictures.append(panel.imshow(np.zeros((1, 1)), cmap="cividis", clim=(0, top), interpolation="nearest"))
            self.names.append(panel.text(0, 1.06, "", transform=panel.transAxes, fontsize=10))
        self.strip.set_axis_off()
        self.row = self.strip.imshow(np.zeros((1, 1)), cmap="cividis", clim=(0, top), aspect="auto")
        self.cuts = [self.strip.axvline(0, color=LINES[1], lw=3) for _ in range(MOST - 1)]
        chart.animate(*self.pictures, *self.names, self.row, *self.cuts)
        return chart

    def follow_drag(self, change: Any) -> None:
        """Let the sliders take over the RoI that was dragged."""
        if not self._held:
            x1, y1, x2, y2 = (round(float(edge)) for edge in change["new"][-1])
            self.set(x=x1, y=y1, width=x2 - x1, height=y2 - y1)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the bins of the first level on the photo, the grids, and their numbers in one row."""
        boxes = torch.cat((numbers["bin boxes"], numbers["box"][None]))
        self.canvas.show(None, boxes, kinds=["note"] * (len(boxes) - 1) + ["proposal"], editable=[len(boxes) - 1])
        grids = numbers["grids"]
        for place, (picture, name) in enumerate(zip(self.pictures, self.names, strict=True)):
            picture.set_visible(place < len(grids))
            name.set_visible(place < len(grids))
            if place < len(grids):
                side = len(grids[place])
                picture.set(data=grids[place].numpy(), extent=(0, side, side, 0))
                self.panels[place].set(xlim=(0, side), ylim=(side, 0))
                name.set_text(f"{side} x {side} = {side * side}")
        total = sum(numbers["bins"])
        self.row.set(data=torch.cat([grid.flatten() for grid in grids])[None].numpy(), extent=(0, total, 1, 0))
        self.strip.set(xlim=(0, total), ylim=(1, 0))
        ends = np.cumsum(numbers["bins"])[:-1]
        for place, cut in enumerate(self.cuts):
            cut.set_visible(place < len(ends))
            if place < len(ends):
                cut.set_xdata([ends[place]] * 2)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the cells of the RoI, the bins, and how long the vector is."""
        (wide, high), (low, most), bins = numbers["cells"], numbers["cells in a bin"], numbers["bins"]
        sum_of = " + ".join(map(str, bins)) + f" = {sum(bins)}" if len(bins) > 1 else str(bins[0])
        share = f"{low} to {most}" if low < most else str(low)
        return (
            f"RoI {wide} x {high} cells · bins {sum_of} · cells in a bin of the first level: {share}\n"
            f"vector: {sum(bins)} bins x {numbers['numbers'] // sum(bins)} channels = {numbers['numbers']} numbers"
        )
