"""Selective Search or RPN: recall against the number of proposals, and against IoU, as stored runs have it (lesson 15).

Leaves out: AP, which the head decides as well.
"""

from functools import partial
from typing import Any

from rcnnlib.engine.experiments import Result
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)
COUNTS = (30, 100, 300)
SOURCES = {"Selective Search": "SS", "RPN": "RPN"}
LOOKS = ((LINES[1], "s", "--"), (LINES[0], "o", "-"))  # colour, marker, line of each source


def mean_recall(result: Result, source: str, count: int, iou: float) -> float:
    """Return the recall of ``count`` proposals, the mean of the seeds."""
    seeds = result.values[f"{SOURCES[source]}, {count}"][f"recall {iou:.1f}"]
    return sum(seeds) / len(seeds)


def search_or_rpn(iou: float, count: int, *, result: Result) -> dict[str, Any]:
    """Return recall of both sources at one point, and the two curves through it."""
    recall = partial(mean_recall, result)
    point = {name: recall(name, count, iou) for name in SOURCES}
    few = {name: recall(name, COUNTS[0], iou) / max(recall(name, COUNTS[-1], iou), 1e-9) for name in SOURCES}
    return {
        "recall": point,
        "left with 30 of 300": few,
        "by count": {name: [recall(name, each, iou) for each in COUNTS] for name in SOURCES},
        "by iou": {name: [recall(name, count, each) for each in IOUS] for name in SOURCES},
    }


class SearchOrRPN(Explorer):
    """Left: recall by number of proposals at an IoU. Right: recall by IoU at a number, as in figure 4 of the paper."""

    def __init__(self, result: Result) -> None:
        """Take the stored experiment ``proposals``."""
        self.compute = partial(search_or_rpn, result=result)
        controls = {"iou": slider("IoU", 0.5, 0.5, 0.9, 0.1), "count": choice("proposals", COUNTS, 300)}
        chart = Chart(860, 290, columns=2)
        left, right = chart.axes
        left.set(xscale="log", xlim=(25, 1100), ylim=(0, 1), title="at this IoU", xlabel="proposals", ylabel="recall")
        left.set_xticks(COUNTS, [str(count) for count in COUNTS])
        left.minorticks_off()
        right.set(xlim=(0.48, 0.92), ylim=(0, 1), xticks=IOUS, title="with so many proposals", xlabel="IoU")
        self.curves = {}
        for name, (colour, marker, line) in zip(SOURCES, LOOKS, strict=True):
            curves = [ax.plot([], [], ls=line, marker=marker, color=colour)[0] for ax in (left, right)]
            self.curves[name] = (*curves, left.text(320, 0, name, color=colour, va="center"))
        self.marks = [ax.axvline(0, color="#777777", lw=1, ls=":") for ax in (left, right)]
        moving = [artist for artists in self.curves.values() for artist in artists]
        chart.animate(*self.marks, *moving)
        super().__init__(controls, chart=chart, title="Selective Search or RPN")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move both curves of each source, and the lines that mark the point."""
        for name, (by_count, by_iou, text) in self.curves.items():
            by_count.set_data(COUNTS, numbers["by count"][name])
            by_iou.set_data(IOUS, numbers["by iou"][name])
            text.set_position((320, numbers["by count"][name][-1]))
        search, rpn = (text.get_position()[1] for _, _, text in self.curves.values())
        if abs(search - rpn) < 0.08:  # the names would lie on each other
            for (_, _, text), up in zip(self.curves.values(), (0.04, -0.04), strict=True):
                text.set_position((320, (search + rpn) / 2 + (up if search >= rpn else -up)))
        state = self.state
        for mark, at in zip(self.marks, (state["count"], state["iou"]), strict=True):
            mark.set_xdata([at, at])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say both recalls, and how much is left with 30."""
        state = self.state
        parts = [f"{name} {value:.2f}" for name, value in numbers["recall"].items()]
        left = [f"{name} {value:.0%}" for name, value in numbers["left with 30 of 300"].items()]
        return (
            f"{state['count']} proposals, IoU {state['iou']:.1f}: recall {', '.join(parts)}\n"
            f"with 30 instead of 300 this much of the recall is left: {', '.join(left)}"
        )
