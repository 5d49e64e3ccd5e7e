"""What if other individuals were in the test set? Draw them again and see two detectors rise and fall (lesson 15).

Leaves out: how AP is counted with individuals that are drawn twice (`engine.bootstrap.weighted_ap`).

Shapes:
    T  draws      I  individuals      S  seeds
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.coco import scrapbook, scrapbook_cutouts
from rcnnlib.engine.bootstrap import draw_individuals
from rcnnlib.engine.experiments import Result
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, STYLES

Pair = tuple[str, str]


class Individuals(NamedTuple):
    """Who is in the test set, class by class, and how often each is in each draw of the stored experiments."""

    names: list[str]
    classes: list[str]
    objects: list[int]  # how many scenes show each of them
    weights: Float[Tensor, "T I"]


def individuals_of_scrapbook() -> Individuals:
    """Return the individuals of the test scenes of Scrapbook, with the draws of `engine.bootstrap`."""
    cutouts, scenes = scrapbook_cutouts("test"), scrapbook("test")
    labels: dict[str, int] = {}
    for place, (image, _) in enumerate(scenes.images):
        labels |= dict(zip(cutouts[image], scenes[place].labels.tolist(), strict=True))
    every = [name for names in cutouts.values() for name in names]
    known = sorted(labels)  # the order of the draws
    weights = draw_individuals([labels[name] for name in known])
    order = sorted(range(len(known)), key=lambda place: labels[known[place]])
    names = [known[place] for place in order]
    classes = [scenes.class_names[labels[name] - 1] for name in names]
    return Individuals(names, classes, [every.count(name) for name in names], weights[:, order])


def drawn_ap(result: Result, condition: str) -> Float[Tensor, " T"]:
    """Return AP50 in each draw, the mean of the seeds."""
    return torch.tensor(result.values[condition]["AP50 drawn"], dtype=torch.float64).mean(dim=0)


def redrawn_individuals(
    draw: int,
    pair: str,
    *,
    weights: Float[Tensor, "T I"],
    names: Sequence[str],
    ap: Mapping[str, tuple[Tensor, Tensor]],
) -> dict[str, Any]:
    """Return who is in a draw, and AP50 of a pair of conditions in it and in all draws."""
    times = weights[draw].int()
    first, second = ap[pair]
    most = int(times.argmax())
    return {
        "left out": int((times == 0).sum()),
        "most often": f"{names[most]} ({int(times[most])} times)",
        "AP50": [first[draw].item(), second[draw].item()],
        "difference": (first[draw] - second[draw]).item(),
        "first alone, from lowest to highest": (first.max() - first.min()).item(),
        "the difference": ((first - second).max() - (first - second).min()).item(),
        "times": times,
        "all": torch.stack((first, second), dim=1),
    }


class RedrawnIndividuals(Explorer):
    """Bars: how often each of the 25 is drawn. Dots: AP50 of two conditions in every draw, this one larger."""

    def __init__(self, result: Result, pairs: Sequence[Pair], individuals: Individuals) -> None:
        """Take an experiment, pairs of its conditions, and who is in each draw."""
        ap = {f"{a} / {b}": (drawn_ap(result, a), drawn_ap(result, b)) for a, b in pairs}
        self.compute = partial(redrawn_individuals, weights=individuals.weights, names=individuals.names, ap=ap)
        last = len(individuals.weights) - 1
        controls = {"draw": slider("draw", 0, 0, last, 1), "pair": choice("conditions", list(ap))}
        chart = Chart(860, 300, columns=2)
        self._draw_bars(chart, individuals.classes)
        self._draw_dots(chart, torch.cat([torch.cat(both) for both in ap.values()]))
        super().__init__(controls, chart=chart, title="Redrawn individuals")

    def _draw_bars(self, chart: Chart, classes: Sequence[str]) -> None:
        axes = chart.axes[0]
        colours = {name: (LINES[0], "#56B4E9")[place % 2] for place, name in enumerate(dict.fromkeys(classes))}
        self.bars = axes.bar(range(len(classes)), [0] * len(classes), color=[colours[name] for name in classes])
        middles = {name: [i for i, one in enumerate(classes) if one == name] for name in colours}
        axes.set(ylim=(0, 6), xlim=(-0.6, len(classes) - 0.4), ylabel="times drawn", title="the 25 test individuals")
        axes.set_xticks([sum(places) / len(places) for places in middles.values()], list(middles))
        axes.tick_params(axis="x", length=0)
        chart.animate(*self.bars)

    def _draw_dots(self, chart: Chart, values: Tensor) -> None:
        axes = chart.axes[1]
        low, high = values.min().item() - 0.02, values.max().item() + 0.02
        axes.plot([low, high], [low, high], "-", color="#999999", lw=1)
        axes.text(high, high, "equal ", color="#666666", va="top", ha="right", fontsize=9)
        (self.dots,) = axes.plot([], [], "o", color=LINES[0], ms=4, alpha=0.35)
        (self.here,) = axes.plot([], [], "D", color=STYLES["detection"].colour, ms=9, mec="black")
        self.names = [axes.text(0.98, 0.03, "", transform=axes.transAxes, ha="right")]
        self.names += [axes.text(0.03, 0.92, "", transform=axes.transAxes)]
        axes.set(xlim=(low, high), ylim=(low, high), title="AP50 in all draws, a dot a draw")
        chart.animate(self.dots, self.here, *self.names)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Set the bars, all dots, and the larger one."""
        for bar, times in zip(self.bars, numbers["times"].tolist(), strict=True):
            bar.set_height(times)
        self.dots.set_data(*numbers["all"].T.numpy())
        self.here.set_data([numbers["AP50"][0]], [numbers["AP50"][1]])
        first, second = self.controls["pair"].value.split(" / ")
        self.names[0].set_text(f"across: {first}")
        self.names[1].set_text(f"up: {second}")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say who is drawn, and what it does to the two."""
        first, second = numbers["AP50"]
        return (
            f"{numbers['left out']} of 25 left out, most often {numbers['most often']}\n"
            f"AP50 {first:.3f} and {second:.3f}, difference {numbers['difference']:+.3f}\n"
            f"over all draws the first moves by {numbers['first alone, from lowest to highest']:.3f}, "
            f"the difference by {numbers['the difference']:.3f}"
        )
