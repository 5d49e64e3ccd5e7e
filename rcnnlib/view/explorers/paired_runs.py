"""Two conditions of any experiment, seed by seed: the difference, its interval, and what the paper saw (lesson 15).

Leaves out: figures that were stored without draws of individuals have no interval here, only the signs of the seeds.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from rcnnlib.engine.bootstrap import Difference, paired_difference
from rcnnlib.engine.experiments import Result
from rcnnlib.view.beside import Paper, order
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

DRAWN = " drawn"
MOST_SEEDS = 5


def figures(result: Result) -> list[str]:
    """Return the figures that an experiment stores, those with draws first."""
    found = next(iter(result.values.values()))
    names = [name for name in found if not name.endswith(DRAWN)]
    return sorted(names, key=lambda name: f"{name}{DRAWN}" not in found)


def paired_runs(
    experiment: str,
    first: str,
    second: str,
    figure: str,
    seeds: int,
    *,
    results: Mapping[str, Result],
    papers: Mapping[str, Paper],
) -> dict[str, Any]:
    """Return both conditions by seed, their difference, its interval where there is one, and a verdict."""
    pair = [results[experiment].values[name] for name in (first, second)]
    values = [found[figure][:seeds] for found in pair]
    numbers: dict[str, Any] = {"first": values[0], "second": values[1]}
    numbers["differences"] = [one - other for one, other in zip(*values, strict=True)]
    paper = papers.get(experiment)
    numbers["paper"] = paper.gap(first, second) if paper and figure == "AP50" else None
    if first == second:
        return numbers | {"interval": None, "verdict": "one and the same condition"}
    if f"{figure}{DRAWN}" not in pair[0]:
        signs = {difference > 0 for difference in numbers["differences"]}
        verdict = "all seeds say the same" if len(signs) == 1 else "the seeds disagree"
        return numbers | {"interval": None, "verdict": verdict}
    drawn = [torch.tensor(found[f"{figure}{DRAWN}"][:seeds], dtype=torch.float64) for found in pair]
    tensors = [torch.tensor(each, dtype=torch.float64) for each in values]
    interval = paired_difference(*tensors, *drawn)
    return numbers | {"interval": interval, "verdict": order(interval, numbers["paper"])}


class PairedRuns(Explorer):
    """Left: both conditions, a line for each seed. Right: the differences and their interval."""

    def __init__(self, results: Mapping[str, Result], papers: Mapping[str, Paper]) -> None:
        """Take the experiments by name, and the paper's table for those that have one."""
        self.results, self._offered = dict(results), ""
        self.compute = partial(paired_runs, results=self.results, papers=papers)
        names = list(self.results)
        start = self.results[names[0]]
        conditions = list(start.values)
        controls = {
            "seeds": slider("seeds used", 1, 1, MOST_SEEDS, 1),
            "experiment": choice("experiment", names) if len(names) > 4 else _menu("experiment", names),
            "first": _menu("first", conditions, conditions[-1]),
            "second": _menu("second", conditions, conditions[0]),
            "figure": _menu("figure", figures(start)),
        }
        self._offered = names[0]
        super().__init__(controls, chart=self._make_chart(), title="Paired runs")

    def _make_chart(self) -> Chart:
        """Both axes count in shares of what is shown; the words beside them move with the experiment."""
        chart = Chart(860, 280, columns=2)
        left, right = chart.axes
        left.set(xlim=(-0.75, 1.75), ylim=(-0.08, 1.08), xticks=[], yticks=[], title="a line for each seed")
        right.set(xlim=(-1.15, 1.15), ylim=(-0.6, 1.6), xticks=[], yticks=[], title="first minus second")
        right.spines["left"].set_visible(False)
        right.axvline(0, color="black", lw=1, ls="-")
        self.lines = [left.plot([0, 1], [0, 0], "o-", color=LINES[0], ms=6, lw=1.5)[0] for _ in range(MOST_SEEDS)]
        self.heights = [left.text(-0.73, y, "", va="center", fontsize=9, color="#555555") for y in (0, 1)]
        self.under = [left.text(x, -0.07, "", ha="center", va="bottom", fontsize=9) for x in (0, 1)]
        (self.dots,) = right.plot([], [], "o", color=LINES[0], ms=7, alpha=0.7)
        (self.bar,) = right.plot([], [], "-", color=LINES[1], lw=5)
        words = ((-1.1, -0.57, "left"), (0, -0.57, "center"), (1.1, -0.57, "right"))
        self.scale = [right.text(x, y, "", ha=where, va="bottom", fontsize=9, color="#555555") for x, y, where in words]
        self.names = [right.text(-1.1, y, text, va="bottom", fontsize=9) for y, text in ((1.15, "seeds"), (0.15, ""))]
        chart.animate(*self.lines, *self.heights, *self.under, self.dots, self.bar, *self.scale, *self.names)
        return chart

    def set(self, **values: Any) -> "PairedRuns":
        """Set the experiment first: the other menus follow it."""
        if "experiment" in values:
            super().set(experiment=values.pop("experiment"))
        super().set(**values)
        return self

    def update(self) -> None:
        """Offer the conditions and figures of a newly chosen experiment, then compute."""
        name = self.controls["experiment"].value
        if name != self._offered:
            self._held, self._offered = True, name
            conditions = list(self.results[name].values)
            for control, chosen in (("first", conditions[-1]), ("second", conditions[0])):
                self.controls[control].options = conditions
                self.controls[control].value = chosen
            self.controls["figure"].options = figures(self.results[name])
            self.controls["figure"].index = 0
        super().update()

    def draw(self, numbers: dict[str, Any]) -> None:
        """Scale both axes to what is shown."""
        both = [*numbers["first"], *numbers["second"]]
        low, span = min(both), max(max(both) - min(both), 1e-9)
        for place, line in enumerate(self.lines):
            there = place < len(numbers["first"])
            ends = (numbers["first"][place], numbers["second"][place]) if there else ()
            line.set_data([0, 1][: len(ends)], [0.12 + 0.86 * (end - low) / span for end in ends])
        for text, value, height in zip(self.heights, (low, max(both)), (0.12, 0.98), strict=True):
            text.set_text(f"{value:.3g}")
            text.set_y(height)
        for text, name in zip(self.under, ("first", "second"), strict=True):
            text.set_text(self.controls[name].value)
        interval = numbers["interval"]
        ends = [interval.low, interval.high] if interval else []
        most = max([abs(value) for value in (*numbers["differences"], *ends)] + [1e-9])
        self.dots.set_data([value / most for value in numbers["differences"]], [1.0] * len(numbers["differences"]))
        self.bar.set_data([end / most for end in ends], [0.0] * len(ends))
        self.bar.set_linestyle("-" if interval and interval.seen else ":")
        for text, value in zip(self.scale, (-most, 0.0, most), strict=True):
            text.set_text(f"{value:+.3g}" if value else "0")
        self.names[1].set_text("95 % interval" if ends else "")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the difference with its interval, the paper's, and the verdict."""
        state = self.state
        mean = sum(numbers["differences"]) / len(numbers["differences"])
        interval: Difference | None = numbers["interval"]
        between = f" ({interval.low:+.3f} to {interval.high:+.3f})" if interval else ""
        paper = "" if numbers["paper"] is None else f"; paper {numbers['paper']:+.1f} points"
        return (
            f"{state['experiment']}: {state['first']} − {state['second']}\n{state['figure']} {mean:+.3f}{between} "
            f"with {len(numbers['differences'])} seed(s){paper}\n{numbers['verdict']}"
        )


def _menu(text: str, options: list[str], value: str | None = None) -> Any:
    """Return a menu even for few options, because their number changes."""
    made = choice(text, [*options, *(f"-{n}" for n in range(5))])  # five more, so that it is a menu
    made.options = options
    made.value = value or options[0]
    return made
