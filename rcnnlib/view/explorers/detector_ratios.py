"""How many times quicker than one of them are the others? The papers' seconds beside ours, as ratios (lesson 15).

Leaves out: AP, and training.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, switch
from rcnnlib.view.plotting import LINES


class Seconds(NamedTuple):
    """Seconds of a picture: finding regions, and all that the network does with them."""

    proposals: float
    network: float


def detector_ratios(
    base: str, counted: bool, *, papers: Mapping[str, Seconds], ours: Mapping[str, Seconds]
) -> dict[str, dict[str, float]]:
    """Return how many times quicker than ``base`` each detector is; ``counted``: with the search for regions."""

    def ratios(seconds: Mapping[str, Seconds]) -> dict[str, float]:
        taken = {name: each.network + counted * each.proposals for name, each in seconds.items()}
        return {name: taken[base] / value for name, value in taken.items()}

    return {"papers": ratios(papers), "ours": ratios(ours)}


class DetectorRatios(Explorer):
    """Bars on two axes, each logarithmic: the papers' ratios, and ours."""

    def __init__(self, papers: Mapping[str, Seconds], ours: Mapping[str, Seconds]) -> None:
        """Take the seconds of the same detectors twice."""
        self.compute = partial(detector_ratios, papers=papers, ours=ours)
        names = list(ours)
        controls = {
            "base": choice("compare with", names),
            "counted": switch("count the search for regions", False),
        }
        chart = Chart(860, 220, columns=2)
        self.bars, self.texts = {}, {}
        for ax, title, colour in zip(chart.axes, ("papers", "ours"), (LINES[2], LINES[0]), strict=True):
            ax.set(xscale="log", xlim=(0.002, 5000), ylim=(len(names) - 0.4, -0.6), yticks=range(len(names)))
            ax.set_yticklabels(names if title == "papers" else [])
            ax.set(title={"papers": "the papers, GPU", "ours": "ours, one CPU core"}[title])
            ax.set_xticks([0.01, 1, 100], ["0.01", "1", "100"])
            ax.set_xlabel("times as quick")
            ax.minorticks_off()
            ax.axvline(1, color="black", lw=1, ls="-")
            self.bars[title] = ax.barh(range(len(names)), [1] * len(names), height=0.5, color=colour, alpha=0.75)
            self.texts[title] = [ax.text(1, row, "", va="center") for row in range(len(names))]
            chart.animate(*self.bars[title], *self.texts[title])
        super().__init__(controls, chart=chart, title="Times as quick")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Let each bar reach from 1 to its ratio."""
        for title, ratios in numbers.items():
            for bar, text, value in zip(self.bars[title], self.texts[title], ratios.values(), strict=True):
                bar.set_x(min(1.0, value))
                bar.set_width(abs(value - 1))
                text.set_text(f" {value:.3g} ")
                text.set_x(value)
                text.set_ha("left" if value >= 1 else "right")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say all ratios."""
        lines = []
        for title, ratios in numbers.items():
            lines.append(f"{title}: " + ", ".join(f"{name} {value:.3g}" for name, value in ratios.items()))
        return "\n".join(lines)
