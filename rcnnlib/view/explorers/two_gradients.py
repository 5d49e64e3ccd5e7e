"""How hard the two terms of the RPN's loss pull at its 3x3 layer, under three ways to divide them (lesson 12).

The norms for N_cls, N_reg and lambda follow from one measurement: each term is its sum times a number.
Leaves out: the direction of the two gradients.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from rcnnlib.datasets.transforms import Example, collate
from rcnnlib.models.backbone import Trunk
from rcnnlib.models.rpn import N_REG, RPN, SAMPLES
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, name_line

CELLS = 300  # 15 x 20, of our scenes
CONVENTIONS = {"N_reg 2400": N_REG, "N_reg 300": CELLS, "both 256": SAMPLES}
FEW, MANY = 0.1, 100.0  # lambda


class Pull(NamedTuple):
    """Norms of the gradients of both sums over the drawn anchors at the weights of the 3x3 layer."""

    classes: float
    boxes: float


def measure(rpn: RPN, trunk: Trunk, example: Example) -> Pull:
    """Return both norms for one picture, before any division and with lambda 1."""
    batch = collate([example], seed=0, epoch=0)
    with torch.no_grad():
        features = trunk(batch.images, batch.sizes)
    terms = rpn.losses(*rpn(features), batch)
    norms = [torch.autograd.grad(term, rpn.head.conv.weight, retain_graph=True)[0].norm().item() for term in terms]
    return Pull(norms[0] * SAMPLES, norms[1] * N_REG / rpn.box_weight)


def two_gradients(weight: float, moment: int, picture: str, *, pulls: Mapping[str, Sequence[Pull]]) -> dict[str, Any]:
    """Return the norm of the class term's gradient and, for each convention, of the box term's."""
    pull = pulls[picture][moment]
    naming = pull.classes / SAMPLES
    norms = {name: weight * pull.boxes / normalizer for name, normalizer in CONVENTIONS.items()}
    return {"class": naming, **norms, "ratios": [norm / naming for norm in norms.values()]}


class TwoGradients(Explorer):
    """A slider on lambda; three lines say how much stronger the boxes pull than the classes."""

    from_canvas = ()

    def __init__(self, moments: Mapping[int, RPN], trunk: Trunk, pictures: Mapping[str, Example]) -> None:
        """Measure every RPN of ``moments`` (by steps) on every one of ``pictures`` (by name)."""
        self.steps = list(moments)
        self.pulls = {
            name: [measure(rpn, trunk, picture) for rpn in moments.values()] for name, picture in pictures.items()
        }
        self.compute = partial(two_gradients, pulls=self.pulls)
        controls = {
            "weight": slider("lambda", 10.0, FEW, MANY, 0.1),
            "moment": slider("moment", len(moments) - 1, 0, len(moments) - 1, 1),
            "picture": choice("picture", list(pictures)),
        }
        chart = Chart(780, 320)
        self._draw_lines(chart)
        super().__init__(controls, chart=chart, title="Two gradients")

    def _draw_lines(self, chart: Chart) -> None:
        """Both axes logarithmic: a line for each convention, and where both pulls are equal."""
        axes = chart.axes
        axes.set(xscale="log", yscale="log", xlim=(FEW, MANY * 4), ylim=(1e-3, 1e3), xlabel="lambda")
        axes.set_title("pull of the boxes / pull of the classes, at the 3x3 layer")
        axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        axes.set_yticks([0.001, 0.01, 0.1, 1, 10, 100, 1000], ["0.001", "0.01", "0.1", "1", "10", "100", "1000"])
        axes.minorticks_off()
        axes.axhline(1, color="#999999", linewidth=1.2)
        axes.text(0.11, 1.25, "equal", fontsize=9, color="#555555")
        styles = zip(CONVENTIONS, LINES, ("-", "--", ":"), strict=True)
        self.lines, self.dots, self.names = [], [], []
        for name, colour, dash in styles:
            self.lines += axes.plot([FEW, MANY], [1, 1], color=colour, linestyle=dash)
            self.dots += axes.plot([1], [1], "o", color=colour)
            name_line(axes, MANY, 1, name, colour)
            self.names.append(axes.texts[-1])
        chart.animate(*self.lines, *self.dots, *self.names)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move the three lines, their names and the dots."""
        weight = self.controls["weight"].value
        # The two lower conventions differ by 17 %: their names are set apart by hand.
        shifts = (0, -7, 7)
        for line, dot, name, ratio, shift in zip(
            self.lines, self.dots, self.names, numbers["ratios"], shifts, strict=True
        ):
            line.set_ydata([ratio * FEW / weight, ratio * MANY / weight])
            dot.set_data([weight], [ratio])
            name.xy = (MANY, ratio * MANY / weight)
            name.set_position((5, shift))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the moment in steps, the norm of the class term and the three ratios."""
        ratios = zip(CONVENTIONS, numbers["ratios"], strict=True)
        words = " · ".join(f"{name}: {ratio:.2f}" for name, ratio in ratios)
        return f"{self.steps[self.controls['moment'].value]} steps · boxes / classes · {words}"
