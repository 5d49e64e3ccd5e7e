"""From the milliseconds of each stage to pictures a second: how far from real time is a detector? (lesson 15).

Leaves out: work on two pictures at once, which gives more pictures a second and makes none of them come earlier.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, STYLES

REAL_TIME = 25  # pictures a second: a film
SHOWN = 300  # milliseconds
STAGES = {"trunk": LINES[0], "proposals": STYLES["proposal"].colour, "head": LINES[1]}


class Stages(NamedTuple):
    """Milliseconds of a picture by stage, and how many regions the head saw."""

    trunk: float
    proposals: float
    head: float
    regions: int


def frames_per_second(trunk: float, proposals: float, head: float, regions: int, source: str) -> dict[str, Any]:
    """Return the time of a picture and pictures a second; ``head`` is for a hundred regions. ``source`` only names."""
    stages = {"trunk": trunk, "proposals": proposals, "head": head * regions / 100}
    total = sum(stages.values())
    rest = 1000 / REAL_TIME - trunk - proposals
    return {
        "source": source,
        "milliseconds": total,
        "pictures a second": 1000 / total,
        "regions in real time": max(0, int(rest / head * 100)) if rest > 0 else 0,
        "stages": stages,
    }


class FramesPerSecond(Explorer):
    """One stacked bar in milliseconds; a line at 40 ms, which are 25 pictures a second."""

    def __init__(self, sources: Mapping[str, Stages]) -> None:
        """Take the milliseconds of known detectors by name; the first is shown at the beginning."""
        self.sources = dict(sources)
        self._shown = first = next(iter(self.sources))
        self.compute = frames_per_second
        each = self.sources[first]
        controls = {
            "regions": slider("regions", each.regions, 10, 2000, 10),
            "trunk": slider("trunk, ms", round(each.trunk, 1), 0.1, 200.0, 0.1),
            "proposals": slider("proposals, ms", round(each.proposals, 1), 0.0, 1600.0, 0.1),
            "head": slider("head, ms for 100", _per_hundred(each), 0.01, 60.0, 0.01),
            "source": choice("begin with", list(self.sources)),
        }
        chart = Chart(860, 150)
        chart.axes.set(xlim=(0, SHOWN * 1.12), ylim=(-0.75, 1.1), yticks=[], xlabel="milliseconds a picture")
        chart.axes.set_xticks(range(0, SHOWN + 1, 50))
        chart.axes.spines["left"].set_visible(False)
        chart.axes.axvline(1000 / REAL_TIME, color="black", lw=1.5, ls="--", ymax=0.85)
        chart.axes.text(1000 / REAL_TIME + 2, 0.72, f"{REAL_TIME} pictures a second", fontsize=9)
        self.bars = [chart.axes.barh([0], [0], height=0.7, color=colour)[0] for colour in STAGES.values()]
        for place, (name, colour) in enumerate(STAGES.items()):
            box = {"facecolor": colour, "edgecolor": "none", "alpha": 0.6, "pad": 2}
            chart.axes.text(150 + 50 * place, 0.85, name, bbox=box, fontsize=9)
        self.total = chart.axes.text(0, 0, "", va="center")
        chart.animate(*self.bars, self.total)
        super().__init__(controls, chart=chart, title="Pictures a second")

    def update(self) -> None:
        """Set the sliders to a newly chosen detector, then compute."""
        name = self.controls["source"].value
        if name != self._shown:
            self._held, self._shown, each = True, name, self.sources[name]
            self.controls["regions"].value = each.regions
            self.controls["trunk"].value = round(each.trunk, 1)
            self.controls["proposals"].value = round(each.proposals, 1)
            self.controls["head"].value = _per_hundred(each)
        super().update()

    def draw(self, numbers: dict[str, Any]) -> None:
        """Stack the stages; a bar that is too long runs out of the picture."""
        left = 0.0
        for bar, value in zip(self.bars, numbers["stages"].values(), strict=True):
            bar.set_x(min(left, SHOWN))
            bar.set_width(min(left + value, SHOWN) - min(left, SHOWN))
            left += value
        self.total.set_text(f" {left:.0f} ms" if left <= SHOWN else " → on")
        self.total.set_x(min(left, SHOWN))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say what it takes and what would be possible."""
        parts = [f"{name} {value:.1f}" for name, value in numbers["stages"].items()]
        return (
            f"{' + '.join(parts)} = {numbers['milliseconds']:.1f} milliseconds\n"
            f"{numbers['pictures a second']:.1f} pictures a second; "
            f"regions that fit into real time: {numbers['regions in real time']}"
        )


def _per_hundred(stages: Stages) -> float:
    return round(stages.head / stages.regions * 100, 2)  # what the slider can hold
