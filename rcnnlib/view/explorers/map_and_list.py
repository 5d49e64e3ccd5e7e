"""The RPN's score map beside its flat list: a channel of the map is a set of entries in the list (lesson 11).

Leaves out: the 4k deltas, which are ordered in the same way.

Shapes:
    k  anchors of a cell      h, w  cells      the map is (2k, h, w), the list (h w k, 2)
"""

from typing import Any

import torch
from matplotlib.patches import Rectangle

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

HEIGHT, WIDTH, K = 3, 4, 3  # small enough to see every entry
RESHAPES = ("permute, then reshape", "reshape alone")
GROUND, LIT = "#E8EEF4", LINES[0]


def flatten(score_map: torch.Tensor, reshape: str) -> torch.Tensor:
    """Return the list (h w k, 2) of a map (2k, h, w), in the right way or in the one that mixes cells up."""
    if reshape == RESHAPES[1]:
        return score_map.reshape(-1, 2)
    return score_map.permute(1, 2, 0).reshape(-1, 2)


def map_and_list(channel: int, row: int, column: int, reshape: str) -> dict[str, Any]:
    """Return where one channel of the map stands in the list, and where one cell of it does."""
    number = torch.arange(2 * K * HEIGHT * WIDTH)
    score_map = number.reshape(2 * K, HEIGHT, WIDTH)
    flat = flatten(score_map, reshape).reshape(-1)
    order = flat.argsort()  # order[n] is the place in the list of the n-th number of the map
    places = order.reshape(2 * K, HEIGHT, WIDTH)
    one = places[channel, row, column].item()
    return {
        "anchor": channel // 2,
        "it says": ("background", "object")[channel % 2],
        "place in the list": [one // 2, one % 2],
        "should be": [(row * WIDTH + column) * K + channel // 2, channel % 2],
        "rows of the channel": sorted({place // 2 for place in places[channel].reshape(-1).tolist()}),
        "places": places[channel].reshape(-1),
        "place": one,
    }


class MapAndList(Explorer):
    """Sliders for channel and cell; the map as a stack of planes, the list as a table of two rows."""

    compute = staticmethod(map_and_list)
    from_canvas = ()

    def __init__(self) -> None:
        controls = {
            "channel": slider("channel of the map", 0, 0, 2 * K - 1, 1),
            "row": slider("row of the cell", 0, 0, HEIGHT - 1, 1),
            "column": slider("column of the cell", 0, 0, WIDTH - 1, 1),
            "reshape": choice("how it is flattened", RESHAPES),
        }
        chart = Chart(820, 290, rows=2)
        self.planes, self.list = chart.axes
        self.cells = [
            [self._square(self.planes, *self._corner(c, i, j)) for i, j in self._grid()] for c in range(2 * K)
        ]
        self.entries = [self._square(self.list, n // 2, n % 2) for n in range(2 * K * HEIGHT * WIDTH)]
        frame = {"fc": "none", "ec": LINES[2], "lw": 2.5, "zorder": 3}
        self.marks = [self._square(axes, 0, 0, **frame) for axes in (self.planes, self.list)]
        self._name()
        chart.animate(*(cell for plane in self.cells for cell in plane), *self.entries, *self.marks)
        super().__init__(controls, chart=chart, title="Map and list")

    @staticmethod
    def _grid() -> list[tuple[int, int]]:
        return [(i, j) for i in range(HEIGHT) for j in range(WIDTH)]

    @staticmethod
    def _corner(channel: int, i: int, j: int) -> tuple[int, int]:
        return channel * (WIDTH + 2) + j, i

    @staticmethod
    def _square(axes: Any, x: float, y: float, **style: Any) -> Rectangle:
        return axes.add_patch(Rectangle((x, y), 1, 1, **{"fc": GROUND, "ec": "white", "lw": 1.0} | style))

    def _name(self) -> None:
        """Write what the planes and the rows of the list are."""
        rows = HEIGHT * WIDTH * K
        self.planes.set(xlim=(0, 2 * K * (WIDTH + 2) - 2), ylim=(HEIGHT, -0.8), aspect="equal")
        self.planes.set_title(f"the map ({2 * K}, {HEIGHT}, {WIDTH}): {2 * K} channels, side by side")
        for channel in range(2 * K):
            text = f"{channel}: anchor {channel // 2}, {('bg', 'obj')[channel % 2]}"
            self.planes.text(channel * (WIDTH + 2), -0.2, text, fontsize=9)
        self.list.set(xlim=(-0.1, rows + 0.1), ylim=(2.1, -0.1), aspect="equal")
        self.list.set_title(f"the list ({rows}, 2), lying on its side: entry 0 on the left; above: bg, below: obj")
        for axes in (self.planes, self.list):
            axes.set_axis_off()
        for entry in range(0, rows, K):
            self.list.text(entry + 0.1, 2.9, str(entry), fontsize=9, va="center")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Light the channel in the map and in the list, and frame the cell."""
        channel, row, column = (self.controls[name].value for name in ("channel", "row", "column"))
        for number, plane in enumerate(self.cells):
            for square in plane:
                square.set_facecolor(LIT if number == channel else GROUND)
        lit = set(numbers["places"].tolist())
        for place, square in enumerate(self.entries):
            square.set_facecolor(LIT if place in lit else GROUND)
        self.marks[0].set_xy(self._corner(channel, row, column))
        self.marks[1].set_xy((numbers["place"] // 2, numbers["place"] % 2))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say where the cell went, and where it should be."""
        verdict = "right" if numbers["place in the list"] == numbers["should be"] else "WRONG"
        shown = {name: numbers[name] for name in ("anchor", "it says", "place in the list", "should be")}
        return f"{super().tell(shown)} · {verdict}"
