"""A class on its way from the number in a file to a column of scores, and what goes wrong without a map (lesson 16).

Ours and torchvision's first column is the background, Detectron2's and mmdetection's last.
Leaves out: one-column objectness, and detectors with a sigmoid a class, which have no background at all.

Shapes: K classes
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice
from rcnnlib.view.plotting import LINES, STYLES, readable_on

MAPPED, AS_THEY_ARE = "through a map", "as they are (the bug)"
READINGS = (MAPPED, AS_THEY_ARE)
OURS, THEIRS = "this course, torchvision", "Detectron2, mmdetection"
LIBRARIES = (OURS, THEIRS)
BACKGROUND = "background"


def columns_of(library: str, names: Sequence[str]) -> list[str]:
    """Return what the columns of the class scores mean."""
    return [BACKGROUND, *names] if library == OURS else [*names, BACKGROUND]


def class_numbers(
    name: str, ids: str, reading: str, library: str, *, files: dict[str, dict[str, int]]
) -> dict[str, Any]:
    """Return the number of a class in a file, the column that it trains, and the class that owns that column."""
    numbers = files[ids]
    names = sorted(numbers, key=numbers.__getitem__)
    columns = columns_of(library, names)
    column = columns.index(name) if reading == MAPPED else numbers[name]
    owner = columns[column] if column < len(columns) else "nobody: no such column"
    return {
        "id in the file": numbers[name],
        "column": column,
        "trains": owner,
        "right": owner == name,
        "columns": columns,
    }


class ClassNumbers(Explorer):
    """Choose a class, a file and a reader; the columns of the scores, with the one that learns marked."""

    from_canvas = ()

    def __init__(self, files: dict[str, dict[str, int]]) -> None:
        """Take ``files``: for each kind of file the id of each class; the same classes in all."""
        names = list(next(iter(files.values())))
        self.compute = partial(class_numbers, files=files)
        controls = {
            "name": choice("class", names),
            "ids": choice("ids in the file", list(files)),
            "reading": choice("ids are read", READINGS),
            "library": choice("library", LIBRARIES),
        }
        chart = Chart(640, 130)
        chart.figure.set_layout_engine("none")
        chart.axes.set_position((0, 0, 1, 1))
        chart.axes.set(xlim=(-0.6, len(names) + 0.6), ylim=(-0.75, 0.75))
        chart.axes.set_axis_off()
        places = range(len(names) + 1)
        self.cells = chart.axes.bar(places, [0.7] * len(places), bottom=-0.35, width=0.94, edgecolor="#333333")
        self.texts = [chart.axes.text(place, 0, "", ha="center", va="center", fontsize=11) for place in places]
        for place in places:
            chart.axes.text(place, 0.5, f"column {place}", ha="center", va="center", fontsize=10)
        self.arrow = chart.axes.text(0, -0.55, "", ha="center", va="center", fontsize=10)
        chart.animate(*self.cells, *self.texts, self.arrow)
        super().__init__(controls, chart=chart, title="Class numbers")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Write the columns anew and colour the one that learns: blue if it is the right one."""
        chosen, name = numbers["column"], self.controls["name"].value
        for place, (cell, text, title) in enumerate(zip(self.cells, self.texts, numbers["columns"], strict=True)):
            marked = LINES[0] if numbers["right"] else STYLES["detection"].colour
            colour = marked if place == chosen else "#EEEEEE" if title == BACKGROUND else "#FFFFFF"
            cell.set_facecolor(colour)
            text.set_text(title)
            text.set_color(readable_on(colour))
        inside = chosen < len(numbers["columns"])
        self.arrow.set_text(f"a {name} teaches this one" if inside else f"a {name} would teach column {chosen}")
        self.arrow.set_x(min(max(chosen, 0.2), len(numbers["columns"]) - 1.2))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say all but the columns, which the chart shows."""
        return super().tell({key: value for key, value in numbers.items() if key != "columns"})
