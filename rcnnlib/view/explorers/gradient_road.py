"""Where the gradient of a bin goes: to the cell that won, and to no other (lesson 05; Fast R-CNN 2.3, equation 4).

The loss is the sum of the chosen bins over all channels, so a cell receives 1 for every bin and channel that it wins.
Leaves out: what the head would send instead of 1.

Shapes:
    C, h, w  channels and cells of the feature map      p  side of the grid
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from torch import Tensor

from rcnnlib.ops.roi_ops import roi_pool, roi_pool_bins
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider, switch
from rcnnlib.view.plotting import STYLES, readable_on

WHICH = ("this bin", "all bins")
MOST_TEXTS = 60  # numbers in the gradient image


def follow_gradient(
    row: int,
    column: int,
    channel: int,
    which: str,
    zeros: bool,
    *,
    features: Float[Tensor, "C h w"],
    pooled: Float[Tensor, "C p p"],
    bins: tuple[Tensor, ...],
) -> dict[str, Any]:
    """Send 1 back through one bin or all of them, in every channel.

    In a channel that is 0 in the whole bin all cells tie, and the ReLU that made the map stops the gradient: such
    channels are left out unless ``zeros`` is set.
    ``pooled`` are the maxima of ``features``, with the graph of their gradient; ``bins`` their rows and columns.
    """
    top, bottom, left, right = (
        int(edge[0, place]) for edge, place in zip(bins, (row, row, column, column), strict=True)
    )
    chosen = pooled[:, row, column] if which == WHICH[0] else pooled
    (roads,) = torch.autograd.grad(chosen.sum(), features, retain_graph=True)
    if not zeros:
        roads = roads * (features > 0)
    part = features[channel, top:bottom, left:right]
    most, (y, x) = part.max(), divmod(int(part.argmax()), right - left)
    image = roads.sum(dim=0)
    return {
        "maximum": most.item(),
        "at": (left + x, top + y),
        "cells that hold it": int((part == most).sum()),
        "arrives": int(image.sum()),
        "cells reached": int((image > 0).sum()),
        "most in one cell": int(image.max()),
        "bin": (left, top, right, bottom),
        "map": features[channel].detach(),
        "image": image.detach(),
    }


class GradientRoad(Explorer):
    """The map of one channel with a bin and its winner; beside it the gradient that reaches the map in all channels."""

    def __init__(self, features: Float[Tensor, "C h w"], box: Any, *, channel: int, target: int = 7) -> None:
        """Pool ``box``, in pixels, from ``features`` into ``target`` x ``target`` bins."""
        maps = features.detach().clone().requires_grad_()
        boxes = torch.tensor([box], dtype=torch.float32)
        pooled = roi_pool(maps, boxes, target, spatial_scale=1 / 16)[0]
        bins = roi_pool_bins(boxes, (maps.shape[1], maps.shape[2]), target, spatial_scale=1 / 16)
        self.compute = lambda row, column, **state: follow_gradient(
            row - 1, column - 1, **state, features=maps, pooled=pooled, bins=bins
        )
        self.window = tuple(int(edge) for edge in (bins[2].min(), bins[0].min(), bins[3].max(), bins[1].max()))
        controls = {
            "row": slider("row of the bin", (target + 1) // 2, 1, target, 1),
            "column": slider("column of the bin", (target + 1) // 2, 1, target, 1),
            "channel": slider("channel", channel, 0, len(features) - 1, 1),
            "which": choice("gradient of", WHICH),
            "zeros": switch("also bins that are 0 everywhere"),
        }
        super().__init__(controls, chart=self.make_chart(), title="Gradient road")

    def make_chart(self) -> Chart:
        """Two windows on the cells of the RoI, one cell of surroundings."""
        left, top, right, bottom = self.window
        wide, high = right - left + 2, bottom - top + 2
        chart = Chart(820, round(400 * high / wide) + 34)
        chart.figure.set_layout_engine("none")
        axes = [chart.axes, chart.figure.add_axes((0, 0, 1, 1))]
        share = 400 * high / wide / (round(400 * high / wide) + 34)
        titles = ("one channel: the bin and its winner", "gradient at the map, all channels added")
        for place, (ax, title) in enumerate(zip(axes, titles, strict=True)):
            ax.set_position((place * 420 / 820, 0, 400 / 820, share))
            ax.set_axis_off()
            ax.set_title(title)
        self.map, self.image = (
            ax.imshow(np.zeros((1, 1)), cmap="cividis", interpolation="nearest", aspect="auto") for ax in axes
        )
        for ax in axes:
            ax.set(xlim=(left - 1, right + 1), ylim=(bottom + 1, top - 1))
        self.add_lines(axes)
        self.dot = axes[0].scatter([], [], s=70, color="#D55E00", edgecolor="white", linewidth=1.2)
        self.texts = [axes[1].text(0, 0, "", ha="center", va="center", fontsize=9) for _ in range(MOST_TEXTS)]
        chart.animate(self.map, self.image, *self.frames, *self.bins, self.dot, *self.texts)
        return chart

    def add_lines(self, axes: list[Axes]) -> None:
        """Put the outline of the RoI, which stays, and that of the bin, which moves, on both windows."""
        left, top, right, bottom = self.window
        roi = [[(left, top), (right, top), (right, bottom), (left, bottom)]]
        colour = STYLES["proposal"].colour
        self.frames = [PolyCollection(roi, facecolors="none", edgecolors=colour, linewidths=2.5) for _ in axes]
        self.bins = [PolyCollection([], facecolors="none", edgecolors="white", linewidths=2) for _ in axes]
        for ax, frame, lines in zip(axes, self.frames, self.bins, strict=True):
            ax.add_collection(frame, autolim=False)
            ax.add_collection(lines, autolim=False)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring both windows up to date; the numbers of cells are written where they are few."""
        h, w = numbers["map"].shape
        self.map.set(data=numbers["map"].numpy(), extent=(0, w, h, 0), clim=(0, max(numbers["map"].max().item(), 1e-6)))
        image = numbers["image"]
        self.image.set(data=image.numpy(), extent=(0, w, h, 0), clim=(0, max(image.max().item(), 1)))
        left, top, right, bottom = numbers["bin"]
        for lines in self.bins:
            lines.set_verts([[(left, top), (right, top), (right, bottom), (left, bottom)]])
        x, y = numbers["at"]
        self.dot.set_offsets([(x + 0.5, y + 0.5)])
        cells = image.nonzero().tolist()
        cells = cells if len(cells) <= MOST_TEXTS else []
        for text, (row, column) in zip(self.texts, cells, strict=False):
            text.set(text=f"{image[row, column]:.0f}", position=(column + 0.5, row + 0.5))
            text.set_color(readable_on(self.image.cmap(self.image.norm(image[row, column].item()))[:3]))
        for index, text in enumerate(self.texts):
            text.set_visible(index < len(cells))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say who wins the bin of this channel, and where the gradient of all channels goes."""
        (x, y), state = numbers["at"], self.state
        ties = numbers["cells that hold it"]
        return (
            f"channel {state['channel']}, bin ({state['row']}, {state['column']}): maximum {numbers['maximum']:.1f}, "
            f"{'in column ' + str(x) + ', row ' + str(y) if ties == 1 else f'a tie of {ties} cells'} · gradient of "
            f"{state['which']}: {numbers['arrives']}, in {numbers['cells reached']} cells, at most "
            f"{numbers['most in one cell']} in one"
        )
