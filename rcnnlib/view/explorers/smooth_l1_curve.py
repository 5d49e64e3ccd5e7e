"""Smooth L1 between L2 and L1: its curve, its gradient, and how hard one outlier pulls (lesson 06).

Shapes:
    N  errors of a small batch; the first is the one that the learner moves
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.ops.losses import smooth_l1
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES

OTHERS = (-0.5, -0.3, -0.2, -0.1, 0.1, 0.2, 0.4)  # seven ordinary errors
REACH = 6.0


def gradient(x: Float[Tensor, " N"], beta: float) -> Float[Tensor, " N"]:
    """Return the slope of smooth L1: x / beta where |x| < beta, else -1 or 1."""
    return torch.where(x.abs() < beta, x / max(beta, 1e-9), x.sign())


def smooth_l1_curve(beta: float, error: float) -> dict[str, Any]:
    """Return loss and gradient of one error under smooth L1 and under L2, and its share of the pull of eight errors."""
    errors = torch.tensor([error, *OTHERS])
    pulls = {"smooth": gradient(errors, beta).abs(), "L2": errors.abs()}
    shares = {name: (pull[0] / pull.sum().clamp(min=1e-9)).item() for name, pull in pulls.items()}
    grid = torch.linspace(-REACH, REACH, 241)
    return {
        "loss": smooth_l1(errors[:1], beta).item(),
        "gradient": gradient(errors[:1], beta).item(),
        "L2 loss": error * error / 2,
        "L2 gradient": error,
        "share": shares["smooth"],
        "L2 share": shares["L2"],
        "curve": smooth_l1(grid, beta),
        "slope": gradient(grid, beta),
    }


class SmoothL1Curve(Explorer):
    """Sliders for beta and for one error; loss, gradient and that error's share of all pull."""

    compute = staticmethod(smooth_l1_curve)

    def __init__(self, beta: float = 1.0, error: float = 4.0) -> None:
        controls = {"beta": slider("beta", beta, 0.0, 6.0, 0.1), "error": slider("error", error, -REACH, REACH, 0.1)}
        chart = Chart(860, 270, columns=3)
        self._draw_still(*chart.axes)
        curves, slopes, shares = chart.axes
        (self.curve,) = curves.plot([], [], color=LINES[0], linewidth=3)
        (self.slope,) = slopes.plot([], [], color=LINES[0], linewidth=3)
        self.points = [axes.plot([], [], "o", color="black", markersize=9)[0] for axes in (curves, slopes)]
        self.bars = shares.barh(range(2), [0, 0], height=0.5, color=[LINES[0], LINES[1]])
        self.texts = [shares.text(0, row, "", va="center") for row in range(2)]
        chart.animate(self.curve, self.slope, *self.points, *self.bars, *self.texts)
        super().__init__(controls, chart=chart, title="Smooth L1")

    def _draw_still(self, curves: Any, slopes: Any, shares: Any) -> None:
        """L2 and L1, between which smooth L1 lies."""
        grid = torch.linspace(-REACH, REACH, 241).numpy()
        for axes, square, line in ((curves, grid * grid / 2, abs(grid)), (slopes, grid, (grid > 0) * 2.0 - 1)):
            axes.plot(grid, square, color=LINES[1], linestyle="--", linewidth=1.5)
            axes.plot(grid, line, color="#666666", linestyle=":", linewidth=1.5)
            axes.set(xlim=(-REACH, REACH), xlabel="error x")
        curves.set(ylim=(-0.3, 8), title="loss")
        slopes.set(ylim=(-6, 6), title="gradient")
        for axes, place in ((curves, (2.3, 7)), (slopes, (2.4, 4.6))):
            axes.text(*place, "L2", color=LINES[1], ha="right")
        curves.text(-5.8, 3.9, "L1", color="#666666")
        slopes.text(-5.6, -2.2, "L1", color="#666666")
        shares.set(xlim=(0, 1.3), ylim=(1.6, -0.6), yticks=range(2), yticklabels=["smooth", "L2"], xticks=[0, 0.5, 1])
        shares.set(title="its share of 8 pulls")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move curve, slope, points and bars."""
        grid, error = torch.linspace(-REACH, REACH, 241).numpy(), self.controls["error"].value
        self.curve.set_data(grid, numbers["curve"].numpy())
        self.slope.set_data(grid, numbers["slope"].numpy())
        for point, name in zip(self.points, ("loss", "gradient"), strict=True):
            point.set_data([error], [numbers[name]])
        for bar, text, name in zip(self.bars, self.texts, ("share", "L2 share"), strict=True):
            bar.set_width(numbers[name])
            text.set_text(f"{100 * numbers[name]:.0f} %")
            text.set_x(numbers[name] + 0.03)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say both losses with their gradients, and the share of the error in the pull of eight."""
        return (
            f"smooth L1: loss {numbers['loss']:.4f}, gradient {numbers['gradient']:.4f}, share {numbers['share']:.4f}\n"
            f"L2: loss {numbers['L2 loss']:.4f}, gradient {numbers['L2 gradient']:.4f}, share {numbers['L2 share']:.4f}"
        )
