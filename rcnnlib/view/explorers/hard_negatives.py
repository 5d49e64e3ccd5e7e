"""Background boxes by their IoU with an object: what the lower bound throws away, in boxes and in loss (lesson 07).

Leaves out: mining by the loss itself (OHEM).

Shapes:
    N  background boxes of some pictures
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, name_line

STEPS = 101  # points of a curve, from IoU 0 to 0.5


def hard_negatives(bound: float, *, iou: Float[Tensor, " N"], loss: Float[Tensor, " N"]) -> dict[str, float]:
    """Return what share of boxes and of loss has at least this IoU, and the mean loss on both sides of the bound."""
    kept = iou >= bound
    return {
        "boxes kept": float(kept.float().mean()),
        "loss kept": float(loss[kept].sum() / loss.sum()),
        "mean loss of those kept": float(loss[kept].mean()) if kept.any() else 0.0,
        "of those left out": float(loss[~kept].mean()) if (~kept).any() else 0.0,
    }


class HardNegatives(Explorer):
    """Two falling curves, boxes and loss, and a line at the bound."""

    def __init__(self, iou: Tensor, loss: Tensor) -> None:
        """Show background boxes by their ``iou`` (N,) with the best object and their ``loss`` (N,)."""
        self.compute = partial(hard_negatives, iou=iou, loss=loss)
        chart = Chart(560, 300)
        self._draw_curves(chart)
        controls = {"bound": slider("background from", 0.1, 0.0, 0.45, 0.05)}
        super().__init__(controls, chart=chart, title="Hard negatives")

    def _draw_curves(self, chart: Chart) -> None:
        axes, bounds = chart.axes, torch.linspace(0, 0.5, STEPS).tolist()
        axes.set(xlim=(0, 0.5), ylim=(0, 1.03), xlabel="background from IoU ...", ylabel="share that is kept")
        rows = [self.compute(bound) for bound in bounds]
        for name, colour, dash, at in (("loss kept", LINES[0], "-", 44), ("boxes kept", LINES[1], "--", 22)):
            axes.plot(bounds, [row[name] for row in rows], color=colour, linestyle=dash)
            name_line(axes, bounds[at], rows[at][name] + 0.05, name, colour)
        self.limit = axes.axvline(0, color="black", linestyle=":")
        self.points = axes.plot([], [], color="black", marker="o", linestyle="none")[0]
        chart.animate(self.limit, self.points)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move the line and the two points on the curves."""
        bound = self.state["bound"]
        self.limit.set_xdata([bound, bound])
        self.points.set_data([bound, bound], [numbers["boxes kept"], numbers["loss kept"]])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say all four with two decimals: they come out of a network."""
        return " · ".join(f"{name} {value:.2f}" for name, value in numbers.items())
