"""How many regions of a data set are smaller than the target, and which bins then read the same cells (lesson 05).

Leaves out: what the network makes of it.

Shapes:
    R  regions      K, p  different pairs of edges on one axis, and bins
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnnlib.ops.roi_ops import project, quantize, roi_pool_bins
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES

MOST_CELLS = 24  # of the histogram; larger ones are counted with these


class Edges(NamedTuple):
    """The two edges of all regions on one axis: each pair that occurs, once, and which pair a region has."""

    pairs: Float[Tensor, "K 2"]
    index: Int[Tensor, " R"]
    limit: int  # pixels of the picture on this axis


def collect_edges(boxes: Float[Tensor, "R 4"], size: tuple[int, int]) -> tuple[Edges, Edges]:
    """Return the edges along x and along y; ``size`` is (height, width) of the pictures."""
    high, wide = size
    found = []
    for first, limit in ((0, wide), (1, high)):
        keys, index = torch.unique(boxes[:, first].long() * 65536 + boxes[:, first + 2].long(), return_inverse=True)
        found.append(Edges(torch.stack((keys // 65536, keys % 65536), dim=1).float(), index, limit))
    return found[0], found[1]


def axis_bins(edges: Edges, target: int, enlarge: float) -> Float[Tensor, "3 R"]:
    """Return for each region its cells, the share of bins that read as another one does, and the different bins."""
    first, last = (edges.pairs * enlarge).unbind(1)
    boxes = torch.stack((first * 0, first, first * 0, last), dim=1)
    limit = -int(-edges.limit * enlarge // 16)
    start, stop, _, _ = roi_pool_bins(boxes, (limit, 1), target, spatial_scale=1 / 16)
    same = (start[:, 1:] == start[:, :-1]) & (stop[:, 1:] == stop[:, :-1])  # equal bins are neighbours
    none = same.new_zeros(len(same), 1)
    copies = torch.cat((none, same), dim=1) | torch.cat((same, none), dim=1)
    cells = quantize(project(boxes, 1 / 16))
    table = torch.stack(
        ((cells[:, 3] - cells[:, 1] + 1).float(), copies.float().mean(dim=1), target - same.sum(dim=1).float())
    )
    return table.index_select(1, edges.index)


def small_rois(target: int, enlarge: float, *, across: Edges, down: Edges) -> dict[str, Any]:
    """Count the regions smaller than the target, and the bins that read exactly the cells of another bin.

    ``enlarge`` is how many times larger the pictures are than they were stored.
    """
    wide, copies_x, different_x = axis_bins(across, target, enlarge)
    high, copies_y, different_y = axis_bins(down, target, enlarge)
    shorter = torch.minimum(wide, high).long()
    return {
        "RoIs": len(shorter),
        "smaller than the target": (shorter < target).float().mean().item(),
        "bins with a copy": 1 - ((1 - copies_x) * (1 - copies_y)).mean().item(),
        "different bins": (different_x * different_y).mean().item(),
        "of": target * target,
        "histogram": torch.bincount(shorter.clamp(max=MOST_CELLS), minlength=MOST_CELLS + 1)[1:],
    }


class SmallRois(Explorer):
    """A histogram of the shorter side of all regions, and what the target makes of them."""

    def __init__(self, boxes: Float[Tensor, "R 4"], size: tuple[int, int], *, target: int = 7) -> None:
        """Count ``boxes`` of pictures of ``size`` = (height, width)."""
        across, down = collect_edges(boxes, size)
        self.compute = partial(small_rois, across=across, down=down)
        controls = {
            "target": slider("target", target, 1, 8, 1),
            "enlarge": slider("enlarge pictures", 1.0, 1.0, 4.0, 0.5),
        }
        super().__init__(controls, chart=self.make_chart(), title="Small RoIs")

    def make_chart(self) -> Chart:
        """Bars for the sides in cells; beside them three shares."""
        chart = Chart(800, 300, columns=2)
        self.sides, self.shares = chart.axes
        chart.axes[0].get_gridspec().set_width_ratios([3, 2])
        self.sides.set(xlim=(0.3, MOST_CELLS + 0.7), ylim=(0, 0.4), xlabel="shorter side of the RoI, cells")
        self.sides.set(ylabel="share of RoIs", title="blue: shorter than the target")
        self.sides.set_xticks([1, 5, 10, 15, 20, MOST_CELLS], ["1", "5", "10", "15", "20", f"{MOST_CELLS}+"])
        self.bars = self.sides.bar(range(1, MOST_CELLS + 1), [0] * MOST_CELLS, width=0.85, color=LINES[0])
        self.shares.set(xlim=(0, 1), ylim=(2.5, -0.6), yticks=[], xlabel="share")
        names = ("RoIs smaller than the target", "bins with a copy", "bins left if copies count once")
        self.lines = [Rectangle((0, place), 0, 0.35, color=LINES[0]) for place in range(3)]
        for line in self.lines:
            self.shares.add_patch(line)
        self.names = [self.shares.text(0, place - 0.06, "", va="bottom", fontsize=10) for place in range(3)]
        self.texts = names
        chart.animate(*self.bars, *self.lines, *self.names)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring the bars up to date."""
        target = self.state["target"]
        for side, (bar, count) in enumerate(zip(self.bars, numbers["histogram"].tolist(), strict=True), start=1):
            bar.set_height(count / numbers["RoIs"])
            bar.set_color(LINES[0] if side < target else "#BBBBBB")
        shares = (numbers["smaller than the target"], numbers["bins with a copy"])
        shares = (*shares, numbers["different bins"] / numbers["of"])
        for line, name, text, share in zip(self.lines, self.names, self.texts, shares, strict=True):
            line.set_width(share)
            name.set_text(f"{text}: {100 * share:.0f} %")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the three shares in percent."""
        return (
            f"{numbers['RoIs']} RoIs · {100 * numbers['smaller than the target']:.1f} % have a side shorter than the "
            f"target · {100 * numbers['bins with a copy']:.1f} % of the bins have a copy · if copies count once, "
            f"{numbers['different bins']:.1f} of {numbers['of']} bins are left on average"
        )
