"""The targets of real proposals, as they are and divided by their spread, and what the box loss weighs (lesson 06).

Leaves out: means, which are close to 0 (a proposal is as often too far left as too far right).

Shapes:
    N  proposals that overlap an object
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.ops.box_coder import HEAD_STD
from rcnnlib.ops.losses import smooth_l1
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

NAMES = ("tx", "ty", "tw", "th")
TARGETS = ("as they are", "divided by 0.1, 0.1, 0.2, 0.2")
REACH, BINS = 3.0, 61


def target_spread(
    targets: str, positive: float, *, deltas: Float[Tensor, "N 4"], iou: Float[Tensor, " N"]
) -> dict[str, Any]:
    """Return spread and loss of the deltas of proposals from IoU ``positive`` on.

    The loss is that of a head which corrects nothing: smooth L1 of the targets themselves.
    """
    chosen = deltas[iou >= positive]
    if targets == TARGETS[1]:
        chosen = chosen / chosen.new_tensor(HEAD_STD)
    parts = smooth_l1(chosen).mean(dim=0)
    return {
        "proposals": len(chosen),
        "spread": chosen.std(dim=0),
        "L_loc": parts.sum().item(),
        "share of tw, th": (parts[2:].sum() / parts.sum()).item(),
        "histograms": torch.stack([column.clamp(-REACH, REACH).histc(BINS, -REACH, REACH) for column in chosen.T]),
    }


class TargetSpread(Explorer):
    """Histograms of tx, ty and of tw, th of given proposals."""

    def __init__(self, deltas: Float[Tensor, "N 4"], iou: Float[Tensor, " N"]) -> None:
        """Show ``deltas`` to the objects, not normalised, of proposals with these ``iou``."""
        self.compute = partial(target_spread, deltas=deltas, iou=iou)
        controls = {
            "targets": choice("targets", TARGETS),
            "positive": slider("proposals from IoU", 0.5, 0.5, 0.9, 0.05),
        }
        chart = Chart(780, 250, columns=2)
        self.lines = []
        for axes, names in zip(chart.axes, (NAMES[:2], NAMES[2:]), strict=True):
            axes.set(xlim=(-REACH, REACH), ylim=(0, 1.1), yticks=[], xlabel=f"{names[0]} (solid), {names[1]} (dashed)")
            axes.spines["left"].set_visible(False)
            for colour, style in zip(LINES, ("-", "--"), strict=False):
                self.lines += axes.plot([], [], color=colour, linestyle=style)
        chart.animate(*self.lines)
        super().__init__(controls, chart=chart, title="Targets")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw each histogram as high as the chart: only its width matters."""
        places = torch.linspace(-REACH, REACH, BINS)
        for line, counts in zip(self.lines, numbers["histograms"], strict=True):
            line.set_data(places.numpy(), (counts / counts.max()).numpy())

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the spread, and the loss with the share of the two sizes in it."""
        spread = ", ".join(f"{each:.4f}" for each in numbers["spread"].tolist())
        loss = f"box loss {numbers['L_loc']:.4f}, of it {100 * numbers['share of tw, th']:.1f} % for tw, th"
        return f"{numbers['proposals']} proposals · spread {spread}\n{loss}"
