"""A linear SVM on the features of crops: its margins, the hinge loss, and the search for hard negatives (lesson 03).

The crops come from pictures of Scrapbook that hold the class; ``collect_crops`` sends them through the network.
Leaves out: dropping negatives that have become easy (`engine.after_training`), and more than one class.

Shapes:
    P, M  positives and negatives to learn from      W  width of fc7
    R     regions of all pictures, objects among them      U  those near an object of the class      D  cells of a grid
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.datasets.coco import scrapbook
from rcnnlib.datasets.proposals import WithProposals, selective_search_boxes
from rcnnlib.datasets.transforms import Example, collate
from rcnnlib.engine.after_training import HARD
from rcnnlib.models.rcnn import RCNN
from rcnnlib.models.svm import fit_svm, svm_set
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, STYLES

FIRST = 20  # negatives that the first fit sees
LEAST, MOST, BINS = -5.0, 3.0, 32  # of the axis of margins
NEAR = 0.3  # IoU from which a region is worth showing to a box regressor
TOLERANCE = 1e-5  # of the fit: margins are then alike on all machines


class Crops(NamedTuple):
    """What the network says about crops of many pictures, and what the SVM of one class learns from each."""

    features: Float[Tensor, "R W"]
    status: Int[Tensor, " R"]  # 1 an object of the class, 0 a negative, -1 takes no part
    grids: Float[Tensor, "U D"]
    regions: Float[Tensor, "U 4"]
    truth: Float[Tensor, "U 4"]  # the object of the class that each overlaps most


def pick_regions(example: Example, label: int, near: int, far: int) -> Float[Tensor, "N 4"]:
    """Return the ``near`` proposals that overlap objects of the class most, and ``far`` others, spread evenly."""
    best = box_iou(example.proposals, example.boxes[example.labels == label]).amax(dim=1)
    order = best.argsort(descending=True, stable=True)
    others = order[near:]
    spread = others[:: max(1, len(others) // far)][:far]
    return example.proposals[torch.cat((order[:near], spread))]


@torch.inference_mode()
def describe_crops(model: RCNN, example: Example, label: int, proposals: Float[Tensor, "N 4"]) -> Crops:
    """Send regions and objects of one picture through the network."""
    regions = torch.cat((proposals, example.boxes))
    own = torch.cat((example.labels.new_zeros(len(proposals)), example.labels))
    batch = collate([example], seed=0, epoch=0, noise_length=1)
    pooled = model.pool(batch.images, regions[None], batch.sizes)
    status = svm_set(box_iou(regions, example.boxes), example.labels, own, model.head.classes)[:, label - 1]
    truth = example.boxes[example.labels == label]
    best, towards = box_iou(proposals, truth).max(dim=1)
    near = best >= NEAR
    grids = pooled[0, : len(proposals)].flatten(1)[near]
    return Crops(model.head.describe(pooled)[0], status, grids, proposals[near], truth[towards[near]])


def collect_crops(model: RCNN, split: str, label: int, *, pictures: int, near: int = 5, far: int = 8) -> Crops:
    """Describe crops of the first ``pictures`` of a split of Scrapbook that hold an object of the class."""
    data, found = WithProposals(scrapbook(split), selective_search_boxes(f"scrapbook_{split}")), []
    for example in data:
        if len(found) < pictures and (example.labels == label).any():
            found.append(describe_crops(model, example, label, pick_regions(example, label, near, far)))
        if len(found) == pictures:
            break
    return Crops(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def svm_margins(
    rounds: int, cost: float, *, positives: Float[Tensor, "P W"], negatives: Float[Tensor, "M W"]
) -> dict[str, Any]:
    """Fit on all positives and the first negatives, then add hard ones and fit anew, ``rounds`` times.

    ``cost`` is a power of ten. A negative is hard if its margin lies above -1.
    """
    chosen = torch.arange(len(negatives)) < FIRST
    for turn in range(rounds + 1):
        svm = fit_svm(positives, negatives[chosen], cost=10**cost, tolerance=TOLERANCE)
        good, bad = (rows @ svm.weight + svm.bias for rows in (positives, negatives))
        hard = ~chosen & (bad > HARD)
        if turn < rounds:
            chosen |= hard
    return {
        "learned from": int(chosen.sum()),
        "hard ones left": int(hard.sum()),
        "false alarms": (bad > 0).float().mean().item(),
        "objects missed": (good < 0).float().mean().item(),
        "positives": good,
        "negatives": bad,
    }


class SvmMargins(Explorer):
    """Histograms of the margins of positives and negatives, below the hinge loss of each."""

    def __init__(self, positives: Float[Tensor, "P W"], negatives: Float[Tensor, "M W"]) -> None:
        self.compute = partial(svm_margins, positives=positives, negatives=negatives)
        controls = {
            "rounds": slider("hard negatives, rounds", 0, 0, 2, 1, slow=True),
            "cost": slider("cost = 10 to the", -3.0, -6.0, -2.0, 0.5, slow=True),
        }
        for control in controls.values():
            control.style.description_width = "160px"
        super().__init__(controls, chart=self.make_chart(), title="SVM margins")

    def make_chart(self) -> Chart:
        """Lay out the hinge loss, the positives and the negatives over one axis."""
        chart = Chart(620, 330, rows=3)
        edges = np.linspace(LEAST, MOST, BINS + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        colours = (STYLES["ground_truth"].colour, LINES[0])
        loss = chart.axes[0]
        loss.plot(edges, np.maximum(0, 1 - edges), color=colours[0])
        loss.plot(edges, np.maximum(0, 1 + edges), color=colours[1], linestyle="--")
        loss.text(-4.9, 1.8, "of a positive: max(0, 1 - margin)", color=colours[0], ha="left", va="center")
        loss.text(1.8, 3.3, "of a negative: max(0, 1 + margin)", color=colours[1], ha="right", va="center")
        self.columns, self.counts = [], []
        names = (
            "hinge loss",
            "positives: the objects (height: square root of their number)",
            "negatives: regions without it",
        )
        for ax, name in zip(chart.axes, names, strict=True):
            ax.set(xlim=(LEAST, MOST), ylim=(0, 4 if ax is loss else 1), yticks=[], title=name)
            ax.axvline(0, color="black", lw=1)
            for side in (-1, 1):
                ax.axvline(side, color="#777777", lw=1, ls=":")
            ax.tick_params(labelbottom=ax is chart.axes[2])
        chart.axes[2].set_xlabel("margin")
        for ax, colour, place, side in zip(
            chart.axes[1:], colours, (LEAST + 0.1, MOST), ("left", "right"), strict=True
        ):
            self.columns.append(ax.bar(middles, [0] * BINS, width=0.9 * (edges[1] - edges[0]), color=colour))
            self.counts.append(ax.text(place, 0.8, "", ha=side, va="center"))
        chart.animate(*self.columns[0], *self.columns[1], *self.counts)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move the columns; margins beyond the axis stand in its last column."""
        words = (f"{numbers['objects missed']:.0%} below 0", f"{numbers['false alarms']:.0%} above 0")
        for name, columns, text, word in zip(("positives", "negatives"), self.columns, self.counts, words, strict=True):
            inside = numbers[name].clamp(LEAST, MOST)
            counts = torch.histc(inside, BINS, LEAST, MOST).sqrt()
            for column, height in zip(columns, (counts / counts.amax().clamp(min=1)).tolist(), strict=True):
                column.set_height(height)
            text.set_text(word)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the shares in whole percent, which hold on other machines too."""
        count, learned = len(numbers["negatives"]), numbers["learned from"]
        left = numbers["hard ones left"] / max(count - learned, 1)
        return (
            f"learned from {learned / count:.0%} of the negatives · {left:.0%} of the others are hard · "
            f"false alarms {numbers['false alarms']:.0%} · objects missed {numbers['objects missed']:.0%}"
        )
