"""Which photos are held out: drawn photo by photo, or individual by individual (lesson 16).

Leaves out: splits that keep the classes in proportion.

Shapes: N photos
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from rcnnlib.checks.own_data import split_by_group
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

WAYS = ("whole groups", "photo by photo")


def group_split(count: int, seed: int, way: str, *, groups: Sequence[str]) -> dict[str, Any]:
    """Return who is held out, and which groups have photos in both parts."""
    names = list(dict.fromkeys(groups))
    members = torch.tensor([names.index(group) for group in groups])
    units = members if way == WAYS[0] else torch.arange(len(groups))
    order = torch.randperm(int(units.max()) + 1, generator=torch.Generator().manual_seed(seed))
    held: Bool[Tensor, " N"] = split_by_group(units, order, count)
    both = [name for place, name in enumerate(names) if len(held[members == place].unique()) == 2]
    return {
        "held out": int(held.sum()),
        "for training": int((~held).sum()),
        "in both parts": len(both),
        "names": both,
        "held": held,
    }


class GroupSplit(Explorer):
    """A row of dots for each group with more than one photo: full dots are for training, rings are held out."""

    from_canvas = ()

    def __init__(self, groups: Sequence[str]) -> None:
        """Take the group of each photo, such as the kind of thing on it."""
        self.compute = partial(group_split, groups=groups)
        several = [name for name in dict.fromkeys(groups) if list(groups).count(name) > 1]
        self.dots = [
            (place, row, column)
            for row, name in enumerate(several)
            for column, place in enumerate(place for place, group in enumerate(groups) if group == name)
        ]
        controls = {
            "count": slider("hold out", len(groups) // 3, 5, len(groups) // 2, 1),
            "seed": slider("seed", 0, 0, 20, 1),
            "way": choice("drawn", WAYS, WAYS[1]),
        }
        chart = Chart(560, 60 + 26 * len(several))
        most = max(column for _, _, column in self.dots)
        chart.axes.set(xlim=(-0.7, most + 0.7), ylim=(len(several) - 0.4, -0.6), xticks=[], yticks=range(len(several)))
        chart.axes.set_yticklabels(several)
        chart.axes.spines[:].set_visible(False)
        chart.axes.tick_params(length=0)
        chart.axes.set_title("full: training; ring: held out; pink: the group is in both")
        self.marks = chart.axes.scatter([x for *_, x in self.dots], [y for _, y, _ in self.dots], s=130, linewidths=2.5)
        chart.animate(self.marks)
        self.row_names = several
        super().__init__(controls, chart=chart, title="Split")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Colour the dots."""
        held = numbers["held"].tolist()
        edges = [LINES[1] if self.row_names[row] in numbers["names"] else LINES[0] for _, row, _ in self.dots]
        faces = ["#FFFFFF" if held[place] else edge for (place, *_), edge in zip(self.dots, edges, strict=True)]
        self.marks.set_facecolor(faces)
        self.marks.set_edgecolor(edges)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts, and who is in both parts."""
        shown = {key: value for key, value in numbers.items() if key not in ("held", "names")}
        return super().tell(shown) + (f": {', '.join(numbers['names'])}" if numbers["names"] else "")
