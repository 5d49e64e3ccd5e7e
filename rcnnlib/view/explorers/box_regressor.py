"""Ridge regression from the grid of a region to its deltas: what it learns, and what it learns by heart (lesson 03).

Leaves out: a regressor for each class, which R-CNN has.

Shapes:
    N  regions      D  numbers in the grid of a region
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.models.svm import fit_ridge
from rcnnlib.ops.box_coder import decode, encode
from rcnnlib.ops.boxes import box_area, box_intersection
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES

LEAST = 0.3  # of the axes


class Near(NamedTuple):
    """Regions near an object of the class: row n of ``truth`` is the object of region n."""

    grids: Float[Tensor, "N D"]
    regions: Float[Tensor, "N 4"]
    truth: Float[Tensor, "N 4"]


def row_iou(boxes1: Float[Tensor, "N 4"], boxes2: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """Return the IoU of each box with the box in the same row of the other."""
    shared = box_intersection(boxes1[:, None], boxes2[:, None])[:, 0, 0]
    return shared / (box_area(boxes1) + box_area(boxes2) - shared)


def box_regressor(above: float, penalty: float, *, learn: Near, new: Near) -> dict[str, Any]:
    """Fit on the regions of ``learn`` with an IoU ``above``, then move those and all of ``new``.

    ``penalty`` is a power of ten.
    """
    chosen = row_iou(learn.regions, learn.truth) > above
    known = Near(*(rows[chosen] for rows in learn))
    weight, bias = fit_ridge(known.grids, encode(known.truth, known.regions), penalty=10**penalty)
    numbers: dict[str, Any] = {"learned from": len(known.regions)}
    for name, near in (("known", known), ("new", new)):
        moved = decode(near.grids @ weight.T + bias, near.regions)
        numbers[name] = torch.stack((row_iou(near.regions, near.truth), row_iou(moved, near.truth)))
    return numbers


class BoxRegressor(Explorer):
    """IoU before and after the regressor, a point for each region: those it learned from, and new ones."""

    def __init__(self, learn: Near, new: Near) -> None:
        self.compute = partial(box_regressor, learn=learn, new=new)
        controls = {
            "penalty": slider("penalty = 10 to the", 3.0, 0.0, 6.0, 0.5, slow=True),
            "above": slider("learn from IoU above", 0.6, 0.3, 0.85, 0.05, slow=True),
        }
        for control in controls.values():
            control.style.description_width = "160px"
        super().__init__(controls, chart=self.make_chart(), title="Box regressor")

    def make_chart(self) -> Chart:
        """Lay out two squares of IoU before against IoU after; above the diagonal a region has gained."""
        chart = Chart(640, 340, columns=2)
        self.points = []
        for ax, title in zip(chart.axes, ("regions it learned from", "regions of new pictures"), strict=True):
            ax.plot([LEAST, 1], [LEAST, 1], color="black", lw=1, ls="-")
            ax.text(LEAST + 0.03, 0.94, "better", color=LINES[0])
            ax.text(0.97, LEAST + 0.03, "worse", color=LINES[1], ha="right")
            ax.set(
                xlim=(LEAST, 1), ylim=(LEAST, 1), aspect="equal", xlabel="IoU before", ylabel="IoU after", title=title
            )
            styles = (("^", LINES[0]), ("v", LINES[1]))
            self.points.append([ax.plot([], [], mark, color=colour, ms=4)[0] for mark, colour in styles])
        chart.animate(*self.points[0], *self.points[1])
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Place the points; what would fall out of the chart stands at its edge."""
        for name, (gained, lost) in zip(("known", "new"), self.points, strict=True):
            before, after = numbers[name]
            shown = after.clamp(min=LEAST + 0.01)
            for line, rows in ((gained, after > before), (lost, after <= before)):
                line.set_data(before[rows].numpy(), shown[rows].numpy())

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say on how many regions it was fitted, and the mean IoU before and after."""
        (old, fitted), (before, after) = (numbers[name].mean(dim=1).tolist() for name in ("known", "new"))
        return (
            f"learned from {numbers['learned from']} regions: mean IoU {old:.3f} -> {fitted:.3f} · "
            f"{numbers['new'].shape[1]} new regions: {before:.3f} -> {after:.3f}"
        )
