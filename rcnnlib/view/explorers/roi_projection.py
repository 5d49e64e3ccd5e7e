"""A RoI on a photo and on the feature map: exact, rounded, and what the rounded cells cover (lesson 04).

The network may see a smaller copy of the photo. Its map has fewer cells then, and the RoI must be made smaller too.
Leaves out: what is done with the cells afterwards (`pyramid` of this lesson, lesson 05).

Shapes:
    H, W  height and width of the photo      h, w  rows and columns of the feature map
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import interpolate, pad

from rcnnlib.models.backbone import Trunk
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.roi_ops import project, quantize
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, in_words, slider
from rcnnlib.view.plotting import CSS_PIXELS_PER_INCH, STYLES

BUGS = ("none", "round() to even", "scale forgotten")
LEAST = 8  # pixels, the smallest side of a RoI
WIDTH = 370  # of the photo, CSS pixels


def look_up(
    x: int, y: int, width: int, height: int, longer_side: int, bug: str, *, size: tuple[int, int], stride: int
) -> dict[str, Any]:
    """Project a RoI of a photo of ``size`` = (H, W) to the map of its copy of ``longer_side`` pixels.

    Errors say how far the cells reach beyond the RoI (left and top: negative is outward), in pixels of the photo.
    """
    high, wide = size
    scale = longer_side / max(size)
    x, y = min(x, wide - LEAST), min(y, high - LEAST)
    box = torch.tensor([[x, y, min(x + width, wide), min(y + height, high)]], dtype=torch.float32)
    exact = project(box if bug == BUGS[2] else box * scale, 1 / stride)
    cells = exact.round().long() if bug == BUGS[1] else quantize(exact)
    covered = (cells + torch.tensor([0, 0, 1, 1])) * stride / scale  # the last cell counts as well
    limits = torch.tensor([wide, high, wide, high])
    covered = torch.minimum(covered.clamp(min=0), limits).float()
    return {
        "exact": exact[0],
        "cells": cells[0].tolist(),
        "errors": (covered - box)[0].tolist(),
        "IoU": box_iou(box, covered).item(),
        "box": box[0],
        "covered": covered[0],
    }


@torch.inference_mode()
def mean_map(trunk: Trunk, image: Float[Tensor, "3 H W"], longer_side: int) -> Float[Tensor, "h w"]:
    """Return the mean channel of the feature map of a copy of the photo; sides are padded to whole cells."""
    high, wide = image.shape[-2:]
    sides = [round(side * longer_side / max(high, wide)) for side in (high, wide)]
    copy = interpolate(image[None], sides, mode="bilinear", antialias=True)
    return trunk(pad(copy, (0, -sides[1] % trunk.stride, 0, -sides[0] % trunk.stride)))[0].mean(0)


class RoIProjection(Explorer):
    """A photo with a RoI to drag; beside it the feature map with the exact RoI and the rounded cells."""

    from_canvas = ()  # the sliders hold the RoI; a drag moves them

    def __init__(
        self, image: Any, trunk: Trunk, box: Sequence[int], alt: str, sides: Sequence[int] = (640, 320)
    ) -> None:
        """Show ``image`` with ``box`` = (x, y, width, height); the network may see it with any of ``sides``."""
        high, wide = image.shape[-2:]
        self.maps = {side: mean_map(trunk, image, side).numpy() for side in sides}
        self.compute = partial(look_up, size=(high, wide), stride=trunk.stride)
        controls = {
            "x": slider("x (left edge)", box[0], 0, wide - LEAST, 1),
            "y": slider("y (top edge)", box[1], 0, high - LEAST, 1),
            "width": slider("width", box[2], LEAST, wide, 1),
            "height": slider("height", box[3], LEAST, high, 1),
            "longer_side": choice("network sees", [(f"{s} x {s * high // wide}", s) for s in sides]),
            "bug": choice("planted bug", BUGS),
        }
        canvas = Canvas(image, alt=alt, display_width=WIDTH)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(), title="RoI projection")
        columns = [ipywidgets.VBox(list(controls.values())[part]) for part in (slice(0, 4), slice(4, 6))]
        both = ipywidgets.Box(columns, layout=ipywidgets.Layout(flex_flow="row wrap", overflow="visible"))
        self.children = (both, *self.children[len(controls) :])
        for name in ("x", "y", "width", "height"):
            controls[name].layout.width = "400px"
        canvas.observe(self.follow_drag, "boxes")

    def _make_chart(self) -> Chart:
        """The map, its grid of cells, the rounded cells as a light area and the exact RoI over it."""
        chart = Chart(400, 326)
        axes = chart.axes
        chart.figure.set_layout_engine("none")
        axes.set_position((0.01, 0.01, 0.98, 0.9))
        axes.set_axis_off()
        self.map = axes.imshow(np.zeros((1, 1)), cmap="cividis", interpolation="nearest", aspect="equal")
        self.name = axes.text(0, 0, "", va="bottom", fontsize=11)
        self.cells = axes.add_patch(Rectangle((0, 0), 1, 1, fc="#FFFFFF88", ec="black", lw=1.2))
        style, points = STYLES["proposal"], 72 / CSS_PIXELS_PER_INCH
        dash = (0, tuple(length / style.width for length in style.dash))
        lines = (("white", style.width + 2, "solid"), (style.colour, style.width, dash))
        self.frames = [
            axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, ec=colour, lw=points * width, ls=line))
            for colour, width, line in lines
        ]
        chart.animate(self.map, self.name, self.cells, *self.frames)
        return chart

    def follow_drag(self, change: Any) -> None:
        """Let the sliders take over the RoI that was dragged."""
        if not self._held:
            x1, y1, x2, y2 = (round(float(edge)) for edge in change["new"][1])
            self.set(x=x1, y=y1, width=x2 - x1, height=y2 - y1)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring RoI, covered area, map and cells up to date."""
        boxes = torch.stack((numbers["covered"], numbers["box"]))
        self.canvas.show(None, boxes, kinds=["note", "proposal"], labels=["", "RoI"], editable=[1])
        values = self.maps[self.state["longer_side"]]
        high, wide = values.shape
        self.chart.axes.set(xlim=(0, wide), ylim=(high, 0))
        self.map.set(data=values, extent=(0, wide, high, 0), clim=(0, float(values.max())))
        self.name.set_position((0, -0.01 * high))
        self.name.set_text(f"feature map, {wide} x {high} cells; light: the rounded cells")
        x1, y1, x2, y2 = numbers["cells"]
        self.cells.set_bounds(x1, y1, x2 + 1 - x1, y2 + 1 - y1)
        x1, y1, x2, y2 = numbers["exact"].tolist()
        for frame in self.frames:
            frame.set_bounds(x1, y1, x2 - x1, y2 - y1)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say exact and rounded cells, the errors at the four edges, and the IoU of RoI and covered area."""
        exact = ", ".join(f"{edge:g}" for edge in numbers["exact"].tolist())
        errors = dict(zip(("left", "top", "right", "bottom"), numbers["errors"], strict=True))
        off = ", ".join(f"{name} {error:+g}" for name, error in errors.items())
        return (
            f"exact ({exact}) · "
            + in_words({"cells": numbers["cells"], "IoU": numbers["IoU"]})
            + f"\npixels off: {off}"
        )
