"""A mini-batch of R RoIs out of N pictures: what it costs, how alike its RoIs are, and what they look like (lesson 07).

Fast R-CNN 2.3 calls it hierarchical sampling: first N pictures, then R / N RoIs of each. A step costs N passes of the
trunk and R of the head. RoIs of one picture are alike; with likeness r (the intraclass correlation, 0 to 1), m of them
are worth m / (1 + (m - 1) r) independent ones.
Leaves out: which RoIs are drawn (`mini_batch`).

Shapes:
    P  pictures    m  RoIs of each    K  classes with background    D  features of a RoI    S  side of a thumbnail
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rcnnlib.datasets.transforms import Example
from rcnnlib.ops.roi_ops import warp
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, to_pixels

COLUMNS, SIDE, MOST = 16, 40, 128  # thumbnails in a row; their side, pixels; the most of them


class Cost(NamedTuple):
    """What a picture and what a RoI cost in a training step."""

    picture_seconds: float
    roi_seconds: float
    picture_mb: float  # that the backward pass wants kept
    roi_mb: float


def pictures_and_rois(pictures: int, rois: int, likeness: float, *, cost: Cost) -> dict[str, float]:
    """Return passes, seconds, megabytes of a step, and how many independent RoIs its RoIs are worth."""
    pictures = min(pictures, rois)
    each = rois / pictures
    seconds = pictures * cost.picture_seconds + rois * cost.roi_seconds
    independent = rois / (1 + (each - 1) * likeness)
    return {
        "trunk passes": pictures,
        "RoIs a picture": each,
        "seconds": seconds,
        "MB": pictures * cost.picture_mb + rois * cost.roi_mb,
        "worth": independent,
        "worth a second": independent / seconds,
    }


def likeness_of(residuals: Float[Tensor, "P m K"], features: Float[Tensor, "P m D"]) -> float:
    """Return how alike the gradients of RoIs of one picture are: 0 as of strangers, 1 all the same.

    The gradient of a linear softmax is residual x feature. Compared are the spread of the pictures' means and the
    spread within a picture, as the analysis of variance does.
    """
    count, each = residuals.shape[:2]
    means = torch.einsum("pmk,pmd->pkd", residuals, features) / each
    total = (residuals.square().sum(-1) * features.square().sum(-1)).sum()  # |residual x feature|², of all RoIs
    between = each * (means - means.mean(0)).square().sum() / (count - 1)
    within = (total - each * means.square().sum()) / (count * (each - 1))
    return float((between - within) / (between + (each - 1) * within))


def thumbnails(picture: Example, boxes: Float[Tensor, "m 4"], side: int = SIDE) -> UInt8[np.ndarray, "m S S 3"]:
    """Cut boxes out of a picture and stretch each to a square, as R-CNN does."""
    crops = warp(picture.image, boxes, side, context=0)
    return np.stack([to_pixels(crop) for crop in crops]) if len(boxes) else np.zeros((0, side, side, 3), np.uint8)


def mosaic(tiles: UInt8[np.ndarray, "m S S 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Lay thumbnails out in rows of sixteen, the rest grey."""
    side = tiles.shape[1]
    rows = max(1, -(-len(tiles) // COLUMNS))
    page = np.full((rows * COLUMNS, side, side, 3), 128, np.uint8)
    page[: len(tiles)] = tiles
    page = page.reshape(rows, COLUMNS, side, side, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(page.reshape(rows * side, COLUMNS * side, 3))


def shares(pictures: int, rois: int) -> list[int]:
    """Return how many RoIs each picture gives: as equal as can be."""
    pictures = min(pictures, rois)
    return [rois // pictures + (place < rois % pictures) for place in range(pictures)]


class PicturesAndRois(Explorer):
    """Thumbnails of the mini-batch; beside them seconds, and what a second brings, over the number of pictures."""

    from_canvas = ()  # nothing is dragged

    def __init__(self, pictures: Sequence[Example], boxes: Sequence[Tensor], cost: Cost, likeness: float) -> None:
        """Show RoIs ``boxes[i]`` (m, 4) of ``pictures[i]``; the first picture needs the most of them."""
        self.cost, self.compute = cost, partial(pictures_and_rois, cost=cost)
        most = [-(-MOST // place) for place in range(1, len(pictures) + 1)]  # no share of a picture is larger
        self.tiles = [thumbnails(p, b[:count]) for p, b, count in zip(pictures, boxes, most, strict=True)]
        controls = {
            "pictures": slider("pictures N", 2, 1, len(pictures), 1),
            "rois": slider("RoIs R", MOST, 16, MOST, 16),
            "likeness": slider("likeness", likeness, 0.0, 1.0, 0.01),
        }
        canvas = Canvas(mosaic(self.tiles[0]), alt="", display_width=420)
        chart = Chart(370, 340, rows=2)
        self._draw_axes(chart, len(pictures))
        super().__init__(controls, canvas=canvas, chart=chart, title="Pictures and RoIs")

    def _draw_axes(self, chart: Chart, most: int) -> None:
        self.numbers_of_pictures = sorted({1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, most})
        ends = [self.compute(n, r, x) for n in (1, most) for r in (16, MOST) for x in (0.0, 1.0)]
        self.curves, self.points = [], []
        for axes, key, title in zip(
            chart.axes, ("seconds", "worth a second"), ("seconds a step", "independent RoIs a second"), strict=True
        ):
            low, high = min(end[key] for end in ends), max(end[key] for end in ends)
            axes.set(xlim=(0.9, 1.1 * most), xscale="log", yscale="log", ylim=(low / 1.5, high * 1.5), title=title)
            axes.set_xticks([n for n in (1, 2, 8, 32, 128) if n <= most])
            axes.set_xticklabels([str(n) for n in (1, 2, 8, 32, 128) if n <= most])
            axes.minorticks_off()
            self.curves.append(axes.plot([], [], color=LINES[0], linestyle="-")[0])
            self.points.append(axes.plot([], [], color="black", marker="o", linestyle="none")[0])
        chart.axes[1].set_xlabel("pictures N")
        chart.animate(*self.curves, *self.points)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Lay out the thumbnails, draw both curves anew and mark the present N."""
        state = self.state
        parts = shares(state["pictures"], state["rois"])
        tiles = np.concatenate([tile[:count] for tile, count in zip(self.tiles, parts, strict=False)])
        self.canvas.show(mosaic(tiles))
        self.canvas.alt = f"{sum(parts)} RoIs of {len(parts)} pictures as thumbnails"
        line = [self.compute(n, state["rois"], state["likeness"]) for n in self.numbers_of_pictures]
        for curve, point, key in zip(self.curves, self.points, ("seconds", "worth a second"), strict=True):
            curve.set_data(self.numbers_of_pictures, [one[key] for one in line])
            point.set_data([numbers["trunk passes"]], [numbers[key]])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the cost, then what it buys."""
        return (
            f"{numbers['trunk passes']} trunk passes, {numbers['RoIs a picture']:.1f} RoIs a picture · "
            f"{numbers['seconds']:.2f} s, {numbers['MB']:.0f} MB · worth {numbers['worth']:.0f} independent RoIs, "
            f"{numbers['worth a second']:.0f} a second"
        )
