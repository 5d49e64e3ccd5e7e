"""Three scores become three probabilities: what moves, what does not, and when `exp` overflows (lesson 06).

Leaves out: where the scores come from (`roi_head`).
"""

from typing import Any

import torch

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

NAMES = ("background", "bird", "mammal")
WRITTEN = ("exp of the scores", "largest score taken off first")


def softmax_scores(background: float, bird: float, mammal: float, added: float, written: str) -> dict[str, Any]:
    """Return the probabilities of three scores, all raised by ``added``, computed in one of two ways."""
    scores = torch.tensor([background, bird, mammal]) + added
    powers = (scores - scores.max() if written == WRITTEN[1] else scores).exp()
    probabilities = powers / powers.sum()
    return {"scores": scores, "exp": powers, "probabilities": probabilities, "sum": probabilities.sum().item()}


class SoftmaxScores(Explorer):
    """A slider for each score, one that raises all, and bars of the probabilities."""

    compute = staticmethod(softmax_scores)

    def __init__(self) -> None:
        controls: dict[str, Any] = {
            name: slider(f"score: {name}", value, -5.0, 5.0, 0.1)
            for name, value in zip(NAMES, (0.0, 2.0, 1.0), strict=True)
        }
        controls["added"] = slider("add to all scores", 0.0, 0.0, 120.0, 10.0)
        controls["written"] = choice("program takes", WRITTEN)
        chart = Chart(420, 230)
        self._draw_bars(chart)
        super().__init__(controls, chart=chart, title="Softmax")

    def _draw_bars(self, chart: Chart) -> None:
        chart.axes.set(xlim=(0, 1.2), ylim=(2.6, -0.6), yticks=range(3), yticklabels=NAMES, xlabel="probability")
        chart.axes.set_xticks([0, 0.5, 1])
        self.bars = chart.axes.barh(range(3), [0] * 3, height=0.6, color=LINES[0])
        self.texts = [chart.axes.text(0, row, "", va="center") for row in range(3)]
        chart.animate(*self.bars, *self.texts)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Set the bars; what is no number has none."""
        for bar, text, share in zip(self.bars, self.texts, numbers["probabilities"].tolist(), strict=True):
            bar.set_width(share if share == share else 0)  # NaN is not equal to itself
            text.set_text(f"{share:.4f}")
            text.set_x(bar.get_width() + 0.02)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say exp of the scores and the probabilities."""
        powers = ", ".join(f"{power:.4g}" for power in numbers["exp"].tolist())
        shares = ", ".join(f"{share:.4f}" for share in numbers["probabilities"].tolist())
        return f"exp [{powers}] · probabilities [{shares}] · sum {numbers['sum']:.4f}"
