"""Map, RoI, target and bin: RoI pooling on a map small enough for paper, by three rules for the bins (lesson 05).

Leaves out: the picture, and so projection and rounding; the RoI is given in cells.

Shapes:
    h, w  rows and columns of the map
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.collections import PolyCollection
from torch import Tensor

from rcnnlib.checks.roi_pooling import RULES, bin_corners, bin_maxima, one_axis
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import STYLES, readable_on

MOST = 8  # the largest target


def paper_bins(
    target: int, width: int, height: int, rule: str, *, values: Float[Tensor, "h w"], corner: tuple[int, int]
) -> dict[str, Any]:
    """Pool a RoI of ``width`` x ``height`` cells, which begins at ``corner`` = (column, row), into a square grid."""
    (h, w), (left, top) = values.shape, corner
    columns = one_axis(left, left + width - 1, target, w, rule)
    rows = one_axis(top, top + height - 1, target, h, rule)
    pooled, winners = bin_maxima(values, rows, columns)
    down, across = (
        ((ranges[:, :1] <= torch.arange(limit)) & (torch.arange(limit) < ranges[:, 1:])).sum(dim=0)
        for ranges, limit in ((rows, h), (columns, w))
    )
    return {
        "map": f"{w} x {h}",
        "RoI": f"{width} x {height}",
        "target": f"{target} x {target}",
        "bins wide": (columns[:, 1] - columns[:, 0]).tolist(),
        "bins high": (rows[:, 1] - rows[:, 0]).tolist(),
        "cells in several bins": int((down[:, None] * across > 1).sum()),
        "empty bins": int((winners < 0).sum()),
        "pooled": pooled.long().tolist(),
        "corners": bin_corners(rows, columns),
        "winners": winners,
    }


class PaperBins(Explorer):
    """The map with a RoI and its bins, and beside it the target with the maxima."""

    def __init__(
        self, values: Float[Tensor, "h w"], *, corner: tuple[int, int], width: int, height: int, target: int = 2
    ) -> None:
        """Show ``values``, whole numbers from 0 to 99; the RoI begins at ``corner``."""
        self.compute = partial(paper_bins, values=values, corner=corner)
        self.corner = corner
        h, w = values.shape
        controls = {
            "target": slider("target", target, 1, MOST, 1),
            "width": slider("RoI width", width, 1, w - corner[0], 1),
            "height": slider("RoI height", height, 1, h - corner[1], 1),
            "rule": choice("edges of bins", RULES),
        }
        super().__init__(controls, chart=self.make_chart(values), title="Paper bins")

    def make_chart(self, values: Float[Tensor, "h w"]) -> Chart:
        """Draw the numbers of the map once; what moves is the RoI, the bins, the circles and the target."""
        chart = Chart(700, 350, columns=2)
        self.map, self.grid = chart.axes
        norm = {"vmin": 0, "vmax": 99, "cmap": "cividis"}
        h, w = values.shape
        picture = self.map.imshow(values.numpy(), extent=(0, w, h, 0), **norm)
        for row, numbers in enumerate(values.long().tolist()):
            for column, number in enumerate(numbers):
                colour = readable_on(picture.cmap(picture.norm(number))[:3])
                self.map.text(column + 0.5, row + 0.5, number, ha="center", va="center", color=colour, fontsize=9)
        self.map.set_title("map, RoI (orange), bins (white)")
        self.grid.set_title("target: the maximum of each bin")
        for ax in (self.map, self.grid):
            ax.set_axis_off()
        self.halos, self.bins, self.roi = (
            PolyCollection([], facecolors="none", edgecolors=colour, linewidths=width, linestyles=[line], clip_on=False)
            for colour, width, line in (
                ("black", 3.2, "solid"),
                ("white", 1.6, "solid"),
                (STYLES["proposal"].colour, 4, (0, (3, 1.5))),
            )
        )
        for lines in (self.halos, self.bins, self.roi):
            self.map.add_collection(lines, autolim=False)
        self.rings = self.map.scatter([], [], s=300, facecolors="none", edgecolors="#D55E00", linewidths=2.5)
        self.pooled = self.grid.imshow(torch.zeros(1, 1).numpy(), extent=(0, 1, 1, 0), **norm)
        self.inks = [readable_on(self.pooled.cmap(number / 99)[:3]) for number in range(100)]
        self.texts = [self.grid.text(0, 0, "", ha="center", va="center") for _ in range(MOST * MOST)]
        chart.animate(self.roi, self.halos, self.bins, self.rings, self.pooled, *self.texts)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring RoI, bins, winning cells and target up to date."""
        (left, top), state = self.corner, self.state
        right, bottom = left + state["width"], top + state["height"]
        self.roi.set_verts([[(left, top), (right, top), (right, bottom), (left, bottom)]])
        squares = numbers["corners"][:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).tolist()
        few = state["target"] < 5
        for lines, width in ((self.halos, 3.2 if few else 0), (self.bins, 1.6 if few else 1)):
            lines.set_verts(squares)
            lines.set_linewidth(width)
        winners = numbers["winners"].flatten().tolist()
        cells_wide = int(numbers["map"].split()[0])
        won = [(n % cells_wide + 0.5, n // cells_wide + 0.5) for n in set(winners) if n >= 0]
        self.rings.set_offsets(won or torch.empty(0, 2).numpy())
        self.pooled.set_data(numbers["pooled"])
        target = state["target"]
        for index, text in enumerate(self.texts):
            row, column = divmod(index, target)
            shown = row < target
            text.set_visible(shown)
            if shown:
                number = numbers["pooled"][row][column]
                text.set_text("empty" if winners[index] < 0 and target < 5 else str(number))
                text.set_position(((column + 0.5) / target, (row + 0.5) / target))
                text.set_color(self.inks[number])
                text.set_fontsize(20 if target < 4 else 11)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say everything but what only the drawing needs; the numbers of a large target stand in the chart alone."""
        hidden = {"corners", "winners"} | ({"pooled"} if self.state["target"] > 3 else set())
        return super().tell({name: value for name, value in numbers.items() if name not in hidden})
