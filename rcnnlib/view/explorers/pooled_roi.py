"""A RoI to drag over a photo; its part of the feature map with the bins, and the grid that the head gets (lesson 05).

Leaves out: all channels but one, and the network that makes the map, which is computed once.

Shapes:
    H, W  height and width of the photo      C, h, w  channels and cells of the feature map
"""

from functools import partial
from typing import Any

import ipywidgets
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.collections import PolyCollection
from torch import Tensor

from rcnnlib.checks.roi_pooling import CODE, DRAWING, FORGOTTEN, bin_corners, bin_maxima, one_axis
from rcnnlib.ops.roi_ops import project, quantize
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import STYLES

LEAST = 16  # pixels, the smallest side of a RoI
STRIDE = 16  # pixels for a cell
SHOWS = ("bins", "winning cells", "pooled")
BUGS = ("none", FORGOTTEN, DRAWING)


def pool_region(
    target: int,
    channel: int,
    left: int,
    top: int,
    width: int,
    height: int,
    show: str,
    bug: str,
    *,
    features: Float[Tensor, "C h w"],
    size: tuple[int, int],
) -> dict[str, Any]:
    """Pool one channel of a RoI, given in pixels of a photo of ``size`` = (H, W), into a square grid."""
    high, wide = size
    x, y = min(left, wide - LEAST), min(top, high - LEAST)
    box = torch.tensor([[x, y, min(x + width, wide), min(y + height, high)]], dtype=torch.float32)
    first_x, first_y, last_x, last_y = quantize(project(box, 1 / STRIDE))[0].tolist()
    h, w = features.shape[1:]
    rule = CODE if bug == BUGS[0] else bug
    rows, columns = one_axis(first_y, last_y, target, h, rule), one_axis(first_x, last_x, target, w, rule)
    pooled, winners = bin_maxima(features[channel], rows, columns)
    last = {SHOWS[0]: bin_corners(rows, columns), SHOWS[1]: winners[winners >= 0].unique(), SHOWS[2]: pooled}
    says = {
        SHOWS[0]: f"bins {_span(columns)} wide, {_span(rows)} high",
        SHOWS[1]: f"{len(last[SHOWS[1]])} cells win {target * target} bins",
        SHOWS[2]: f"largest {pooled.max():.1f}, mean {pooled.mean():.1f}",
    }
    return {
        "box": box[0],
        "cells": (first_x, first_y, last_x, last_y),
        "RoI": f"{last_x - first_x + 1} x {last_y - first_y + 1} cells",
        "target": f"{target} x {target}",
        "empty bins": int((winners < 0).sum()),
        "says": says[show],
        "shown": last[show],
        "pooled": pooled,
        "map": features[channel],
    }


def _span(ranges: Tensor) -> str:
    """Say the least and the largest length of some ranges."""
    lengths = ranges[:, 1] - ranges[:, 0]
    least, most = int(lengths.min()), int(lengths.max())
    return str(least) if least == most else f"{least} to {most}"


class PooledRoi(Explorer):
    """A photo with a RoI; its part of the map, and the grid of fixed size that comes out."""

    from_canvas = ()  # the sliders hold the box; a drag moves them

    def __init__(
        self, image: Float[Tensor, "3 H W"], features: Float[Tensor, "C h w"], *, box: Any, channel: int, alt: str
    ) -> None:
        """Show ``image`` with its ``features``, a RoI ``box`` = (x1, y1, x2, y2) and one of the channels."""
        high, wide = image.shape[-2:]
        self.compute = partial(pool_region, features=features, size=(high, wide))
        x1, y1, x2, y2 = box
        controls = {
            "target": slider("target", 7, 1, 8, 1),
            "left": slider("left", x1, 0, wide - LEAST, 1),
            "channel": slider("channel", channel, 0, len(features) - 1, 1),
            "top": slider("top", y1, 0, high - LEAST, 1),
            "show": choice("chart shows", SHOWS),
            "width": slider("width", x2 - x1, LEAST, wide, 1),
            "bug": choice("planted bug", BUGS),
            "height": slider("height", y2 - y1, LEAST, high, 1),
        }
        canvas = Canvas(image, [box], kinds="proposal", editable=[0], alt=alt, display_width=360)
        super().__init__(controls, canvas=canvas, chart=self.make_chart(), title="Pooled RoI")
        grid = ipywidgets.GridBox(
            self.children[: len(controls)],
            layout=ipywidgets.Layout(grid_template_columns="repeat(auto-fit, 415px)", overflow="visible"),
        )
        self.children = (grid, *self.children[len(controls) :])
        canvas.observe(self.follow_drag, "boxes")

    def make_chart(self) -> Chart:
        """Two squares: a window on the map, and the grid, which always has the same size."""
        chart = Chart(445, 300)
        chart.figure.set_layout_engine("none")
        self.part, self.grid = chart.axes, chart.figure.add_axes((0, 0, 1, 1))
        self.part.set_position((0, 0, 275 / 445, 275 / 300))
        self.grid.set_position((295 / 445, 125 / 300, 150 / 445, 150 / 300))
        self.part.set_title("part of the feature map")
        self.grid.set_title("to the head")
        for ax in (self.part, self.grid):
            ax.set_axis_off()
        self.map, self.patch, self.pooled = (
            ax.imshow(np.zeros((1, 1)), cmap="cividis", interpolation="nearest", aspect="auto")
            for ax in (self.part, self.part, self.grid)
        )
        self.pooled.set_extent((0, 1, 1, 0))
        self.roi, self.halos, self.bins = (
            PolyCollection([], facecolors="none", edgecolors=colour, linewidths=width, linestyles=[line])
            for colour, width, line in (
                (STYLES["proposal"].colour, 2.5, (0, (3, 1.5))),
                ("black", 1.8, "solid"),
                ("white", 0.9, "solid"),
            )
        )
        for lines in (self.roi, self.halos, self.bins):
            self.part.add_collection(lines, autolim=False)
        self.dots = self.part.scatter([], [], s=26, color="#D55E00", edgecolor="white", linewidth=0.8)
        self.size = self.grid.text(0, 1.06, "", va="top", fontsize=10, clip_on=False)
        chart.animate(self.map, self.patch, self.roi, self.halos, self.bins, self.dots, self.pooled, self.size)
        return chart

    def follow_drag(self, change: Any) -> None:
        """Let the sliders take over the box that was dragged."""
        if not self._held:
            x1, y1, x2, y2 = (round(float(edge)) for edge in change["new"][0])
            self.set(left=x1, top=y1, width=x2 - x1, height=y2 - y1)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring the box, the window on the map and the grid up to date; both share one scale of colours."""
        self.canvas.boxes = numbers["box"][None]
        h, w = numbers["map"].shape
        bright = (0, max(numbers["map"].max().item(), 1e-6))
        self.map.set(data=numbers["map"].numpy(), extent=(0, w, h, 0), clim=bright)
        x1, y1, x2, y2 = numbers["cells"]
        x2, y2 = x2 + 1, y2 + 1
        side = max(x2 - x1, y2 - y1) / 2 + 1
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        self.part.set(xlim=(x - side, x + side), ylim=(y + side, y - side))
        self.roi.set_verts([[(x1, y1), (x2, y1), (x2, y2), (x1, y2)]])
        show, shown = self.state["show"], numbers["shown"]
        squares = shown[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).tolist() if show == SHOWS[0] else []
        for lines in (self.halos, self.bins):
            lines.set_verts(squares)
        won = [(n % w + 0.5, n // w + 0.5) for n in shown.tolist()] if show == SHOWS[1] else []
        self.dots.set_offsets(won or np.empty((0, 2)))
        self.patch.set(data=numbers["pooled"].numpy(), extent=(x1, x2, y2, y1), clim=bright, visible=show == SHOWS[2])
        self.pooled.set(data=numbers["pooled"].numpy(), clim=bright)
        self.size.set_text(f"{numbers['target']} numbers,\nwhatever the RoI")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the RoI in pixels and in cells, the target, and what the chart shows."""
        edges = ", ".join(f"{edge:g}" for edge in numbers["box"].tolist())
        x1, y1, x2, y2 = numbers["cells"]
        return (
            f"RoI ({edges}) · {numbers['RoI']}: columns {x1} to {x2}, rows {y1} to {y2} · "
            f"target {numbers['target']} · {numbers['says']} · empty bins {numbers['empty bins']}"
        )
