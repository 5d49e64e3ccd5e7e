"""Where the seconds of a picture go, by stage and detector, and what a quicker CNN would change (lesson 09).

Amdahl's law: if a part of the work gets quicker, the rest stays, and soon the rest is all there is.
Leaves out: reading the picture, and work on two pictures at once.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, STYLES

COLOURS = {"Selective Search": STYLES["proposal"].colour, "features": LINES[0], "head": LINES[1]}
PER_REGION = ("R-CNN",)  # their features are computed region by region


class Seconds(NamedTuple):
    """Seconds of one picture by stage."""

    proposals: float
    features: float
    head: float


def where_time_goes(
    pictures: int, regions: int, quicker: int, *, seconds: Mapping[str, Seconds], measured: int
) -> dict[str, Any]:
    """Return the seconds of each stage for so many pictures, if the CNN were so many times quicker.

    The network takes longer with more regions than the ``measured`` ones; Selective Search does not: it always finds
    all, the network looks at the first of them.
    """
    bars, now = {}, {}
    for name, each in seconds.items():
        share = regions / measured
        features = each.features * (share if name in PER_REGION else 1.0)
        search, features, head = (pictures * part for part in (each.proposals, features, each.head * share))
        now[name] = search + features + head
        bars[name] = Seconds(search, features / quicker, head / quicker)
    totals = {name: sum(bar) for name, bar in bars.items()}
    return {
        **{f"{name} s": total for name, total in totals.items()},
        "Selective Search's share": {name: bar.proposals / totals[name] for name, bar in bars.items()},
        "whole detector quicker": {name: now[name] / totals[name] for name in bars},
        "bars": bars,
    }


class WhereTimeGoes(Explorer):
    """Stacked bars, one a detector; sliders for pictures, regions and how much quicker the CNN gets."""

    def __init__(self, seconds: Mapping[str, Seconds], measured: int) -> None:
        """Take the seconds of a picture for each detector, and with how many regions they were measured."""
        self.compute = partial(where_time_goes, seconds=seconds, measured=measured)
        controls = {
            "quicker": slider("CNN quicker by", 1, 1, 100, 1),
            "regions": slider("regions", measured, 50, 2000, 1),
            "pictures": slider("pictures", 1, 1, 100, 1),
        }
        chart = Chart(860, 230)
        names = list(seconds)
        chart.axes.set(xlim=(0, 118), ylim=(len(names) - 0.4, -0.9), yticks=range(len(names)), yticklabels=names)
        chart.axes.set_xticks(range(0, 101, 25))
        chart.axes.spines["bottom"].set_bounds(0, 100)
        chart.axes.spines["left"].set_visible(False)
        chart.axes.set_xlabel("share of the detector's own time, %")
        for place, (name, colour) in enumerate(COLOURS.items()):
            chart.axes.text(
                25 * place,
                -0.6,
                name,
                color="black",
                bbox={"facecolor": colour, "edgecolor": "none", "alpha": 0.6, "pad": 2},
            )
        self.bars = [
            chart.axes.barh(range(len(names)), [1] * len(names), color=c, height=0.5) for c in COLOURS.values()
        ]
        self.totals = [chart.axes.text(101, row, "", va="center") for row in range(len(names))]
        chart.animate(*(bar for part in self.bars for bar in part), *self.totals)
        super().__init__(controls, chart=chart, title="Where the time goes")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Stack the shares of each detector; its seconds stand at the end of the bar."""
        for row, (text, stages) in enumerate(zip(self.totals, numbers["bars"].values(), strict=True)):
            left, total = 0.0, sum(stages)
            for part, value in zip(self.bars, stages, strict=True):
                part[row].set_x(left)
                part[row].set_width(100 * value / total)
                left += 100 * value / total
            text.set_text(f"{total:.2f} s" if total < 100 else f"{total:.0f} s")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say for each detector how much quicker it is as a whole, and what part Selective Search takes."""
        said = []
        for name, share in numbers["Selective Search's share"].items():
            faster = numbers["whole detector quicker"][name]
            said.append(
                f"{name}: {numbers[f'{name} s']:.3f} s, {faster:.2f} times as quick, Selective Search {share:.0%}"
            )
        return "\n".join(said)
