"""Loss curves of trainings that differ in one mistake: can you see it? (lesson 09).

Leaves out: the trainings, which stand in the lesson.

Shapes:
    S  steps of a training, each with a class term and a box term
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

TERMS = ("class term", "box term")
Run = Sequence[tuple[float, float]]


def loss_curves(bug: str, window: int, *, runs: Mapping[str, Run]) -> dict[str, Any]:
    """Return both terms of a training, averaged over ``window`` steps, and where they begin and end."""
    kernel = np.ones(window) / window
    curves = [np.convolve(values, kernel, mode="valid") for values in np.asarray(runs[bug], dtype=float).T]
    return {
        "averaged over": window,
        **{f"{name}, first": float(curve[0]) for name, curve in zip(TERMS, curves, strict=True)},
        **{f"{name}, last": float(curve[-1]) for name, curve in zip(TERMS, curves, strict=True)},
        "curves": curves,
    }


def in_a_word(curve: np.ndarray) -> str:
    """Say how a term went: a training does not give the same digits on two machines."""
    if curve.max() > 3:
        return "explodes"
    return "falls by a third or more" if curve[-1] < 0.67 * curve[0] else "hardly changes"


class LossCurves(Explorer):
    """A switch that plants a mistake; the two terms of that training over those of the right one."""

    def __init__(self, runs: Mapping[str, Run]) -> None:
        """Take the losses (class, box) of every step, by the name of the mistake; the first is the right one."""
        self.compute = partial(loss_curves, runs=runs)
        self.steps = len(next(iter(runs.values())))
        controls = {
            "bug": choice("planted bug", list(runs)),
            "window": slider("average over, steps", 10, 1, 30, 1),
        }
        chart = Chart(860, 250, columns=2)
        for axes, name in zip(chart.axes, TERMS, strict=True):
            axes.set(xlim=(0, self.steps), xlabel="step", title=name)
        chart.axes[0].set_ylim(0, 2.2)
        chart.axes[1].set_ylim(0, 0.8)
        self.right = [axes.plot([], [], color="#999999", ls=":")[0] for axes in chart.axes]
        self.planted = [
            axes.plot([], [], color=colour, ls="-")[0] for axes, colour in zip(chart.axes, LINES, strict=False)
        ]
        self.first = next(iter(runs))
        chart.animate(*self.right, *self.planted)
        super().__init__(controls, chart=chart, title="Loss curves")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the curves of the chosen training; those of the right one are dotted grey."""
        window = numbers["averaged over"]
        steps = np.arange(window, self.steps + 1)
        for lines, curves in (
            (self.right, self.compute(self.first, window)["curves"]),
            (self.planted, numbers["curves"]),
        ):
            for line, curve in zip(lines, curves, strict=True):
                line.set_data(steps, curve)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say in words how the terms went; two machines do not agree on the digits."""
        words = [f"{name} {in_a_word(curve)}" for name, curve in zip(TERMS, numbers["curves"], strict=True)]
        return f"averaged over {numbers['averaged over']} steps: {', '.join(words)}"
