"""One anchor and its two loss terms: flip p* by hand and see which of them counts (lesson 12).

Leaves out: the sum over 256 anchors, and what it does to the weights (`two_gradients`).
"""

import math
from typing import Any

import torch

from rcnnlib.ops.losses import box_loss, classification_loss, smooth_l1
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

N_CLS, N_REG = 256, 2400  # Faster R-CNN 3.1.2
STARS = (("1 positive", 1), ("0 negative", 0), ("ignored", -1))
BUGS = ("none", "regression for all", "ignored are negative")
DIFFERENCES, ERRORS = torch.linspace(-6, 6, 121), torch.linspace(-2, 2, 161)


def rpn_loss_terms(star: int, difference: float, error: float, weight: float, bug: str) -> dict[str, Any]:
    """Return both terms of eq. 1 for one anchor whose scores differ by ``difference`` and whose t_x is off."""
    told = 0 if bug == BUGS[2] and star < 0 else star
    scores, labels = torch.tensor([[0.0, difference]]), torch.tensor([told])
    deltas, zeros = torch.tensor([[error, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)
    boxed = torch.ones(1, dtype=torch.int64) if bug == BUGS[1] else labels
    naming = classification_loss(scores, labels, normalizer=1).item()
    boxing = box_loss(deltas, zeros, boxed, beta=1.0, normalizer=1).item()
    return {
        "p*": star,
        "p": 1 / (1 + math.exp(-difference)),
        "L_cls": naming,
        "L_reg": smooth_l1(torch.tensor([error])).item(),
        "p* L_reg": boxing,
        "L_cls / N_cls": naming / N_CLS,
        "lambda p* L_reg / N_reg": weight * boxing / N_REG,
    }


class RPNLossTerms(Explorer):
    """Sliders for the scores and the error of one anchor, buttons for p*; both terms as curves with a dot."""

    def __init__(self, *, star: int = 1, bug: str = BUGS[0]) -> None:
        """Begin with the label ``star`` and one of ``BUGS``."""
        controls = {
            "star": choice("p*", STARS, star),
            "difference": slider("object - background", 0.0, -6.0, 6.0, 0.1),
            "error": slider("error of t_x", 0.5, -2.0, 2.0, 0.05),
            "weight": slider("lambda", 10.0, 0.0, 100.0, 0.5),
            "bug": choice("planted bug", BUGS, bug),
        }
        chart = Chart(800, 250, columns=2)
        self._draw_curves(chart)
        super().__init__(controls, chart=chart, title="Two terms of one anchor")

    compute = staticmethod(rpn_loss_terms)

    def _draw_curves(self, chart: Chart) -> None:
        """The term of the class over the difference of the scores, the box term over the error."""
        titles = ("L_cls: the class term", "p* L_reg: the box term")
        words = ("score of object - score of background", "error t_x - t_x*")
        self.curves, self.dots, self.texts = [], [], []
        for axes, xs, title, word in zip(chart.axes, (DIFFERENCES, ERRORS), titles, words, strict=True):
            most = 6.5 if axes is chart.axes[0] else 1.7
            axes.set(xlim=(float(xs[0]), float(xs[-1])), ylim=(-0.03 * most, most), title=title, xlabel=word)
            self.curves += axes.plot(xs.numpy(), xs.numpy() * 0, color=LINES[len(self.curves)])
            self.dots += axes.plot([0], [0], "o", color=LINES[2], markersize=8)
            self.texts.append(axes.text(0.5, 0.86, "", transform=axes.transAxes, ha="center", fontsize=11))
        chart.animate(*self.curves, *self.dots, *self.texts)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bend the curves to p* and place the dots."""
        state = self.state
        told = 0 if state["bug"] == BUGS[2] and state["star"] < 0 else state["star"]
        sign = {1: -1.0, 0: 1.0}.get(told)
        naming = torch.nn.functional.softplus(sign * DIFFERENCES) if sign else torch.zeros_like(DIFFERENCES)
        counts = told == 1 or state["bug"] == BUGS[1]
        boxing = smooth_l1(ERRORS) * float(counts)
        places = ((state["difference"], numbers["L_cls"]), (state["error"], numbers["p* L_reg"]))
        for curve, values in zip(self.curves, (naming, boxing), strict=True):
            curve.set_ydata(values.numpy())
        for dot, text, (x, y) in zip(self.dots, self.texts, places, strict=True):
            dot.set_data([x], [y])
            text.set_text(f"{y:.2f}")
        if not counts:
            self.texts[1].set_text("counts nothing: p* is not 1")
        if sign is None:
            self.texts[0].set_text("counts nothing: ignored")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say p and both terms, and how much each adds to the loss of the picture."""
        weight = self.controls["weight"].value
        words = (
            f"p = {numbers['p']:.2f} · L_cls {numbers['L_cls']:.4f} · p* L_reg {numbers['p* L_reg']:.4f}",
            f"of the loss: {numbers['L_cls / N_cls']:.5f} + {numbers['lambda p* L_reg / N_reg']:.5f}",
            f"(lambda {weight:g})",
        )
        return " · ".join(words[:2]) + " " + words[2]
