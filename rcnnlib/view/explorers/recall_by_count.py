"""Lesson 02: how many of the objects do the first so many boxes find? Three data sets, two sliders.

Recall is that of `engine.metrics.proposal_recall`; here each object's IoUs are kept, so that a slider only counts.
Leaves out: one number for all thresholds (`engine.metrics.average_recall`).

Shapes:
    G  objects of a set      P  most boxes of a picture      T  IoU thresholds of the right chart
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.coco import scrapbook, wild
from rcnnlib.datasets.proposals import selective_search_boxes
from rcnnlib.datasets.voc import treetops
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, name_line

ORDERS = ("large regions first", "times a random number", "random boxes")
THRESHOLDS = torch.arange(50, 100, 5).double() / 100
DASHES = ("-", "--", ":")
COUNTS = tuple(dict.fromkeys(np.geomspace(1, 2500, 60).round().astype(int).tolist()))


class Found(NamedTuple):
    """The objects of a data set, and the proposals of their pictures."""

    truths: list[Float[Tensor, "_ 4"]]
    proposals: list[Float[Tensor, "_ 4"]]
    sizes: list[tuple[int, int]]  # height, width of each picture


def open_sets() -> dict[str, Found]:
    """Read Wild and the test pictures of Scrapbook and Treetops with their stored Selective Search boxes."""
    sets = {"Wild": (wild(), "wild"), "Scrapbook": (scrapbook("test"), "scrapbook_test")}
    sets["Treetops"] = (treetops("test"), "treetops_test")
    found = {}
    for name, (dataset, file) in sets.items():
        boxes = selective_search_boxes(file)
        examples = [dataset[index] for index in range(len(dataset))]
        truths = [example.boxes for example in examples]
        sizes = [(example.image.shape[-2], example.image.shape[-1]) for example in examples]
        found[name] = Found(truths, [boxes[example.id] for example in examples], sizes)
    return found


def order_boxes(found: Found, order: str, seed: int = 0) -> list[Float[Tensor, "_ 4"]]:
    """Return the proposals of each picture in another order, or as many random boxes.

    Times a random number: the rank of a box is its place times a uniform number, as the paper has it (3.3).
    """
    random = torch.Generator().manual_seed(seed)
    if order == ORDERS[0]:
        return found.proposals
    if order == ORDERS[1]:
        places = [torch.arange(1, len(boxes) + 1) for boxes in found.proposals]
        ranks = [place * torch.rand(len(place), generator=random) for place in places]
        return [boxes[rank.argsort()] for boxes, rank in zip(found.proposals, ranks, strict=True)]
    if order != ORDERS[2]:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    drawn = []
    for (height, width), boxes in zip(found.sizes, found.proposals, strict=True):
        points = torch.rand(len(boxes), 2, 2, generator=random) * torch.tensor([width, height])
        drawn.append(torch.cat((points.amin(1), points.amax(1)), dim=1))
    return drawn


def best_so_far(proposals: Sequence[Tensor], truths: Sequence[Tensor]) -> Float[Tensor, "G P"]:
    """Return the best IoU of each object with the first 1, 2, ... proposals of its picture."""
    most = max(len(boxes) for boxes in proposals)
    rows = []
    for boxes, objects in zip(proposals, truths, strict=True):
        best = box_iou(objects.double(), boxes.double()).cummax(dim=1).values
        rows.append(torch.cat((best, best[:, -1:].expand(-1, most - len(boxes))), dim=1))
    return torch.cat(rows)


def recall_by_count(
    count: int, threshold: float, order: str, *, tables: Mapping[str, Mapping[str, Float[Tensor, "G P"]]]
) -> dict[str, Any]:
    """Return the recall of each set after ``count`` boxes a picture, and its two curves through that point."""
    now = {name: table[:, min(count, table.shape[1]) - 1] for name, table in tables[order].items()}
    by_count = {}
    for name, table in tables[order].items():
        places = torch.tensor(COUNTS).clamp(max=table.shape[1]) - 1
        by_count[name] = (table[:, places] >= threshold).double().mean(dim=0)
    return {
        "recall": {name: (best >= threshold).double().mean().item() for name, best in now.items()},
        "by count": by_count,
        "by threshold": {name: (best >= THRESHOLDS[:, None]).double().mean(dim=1) for name, best in now.items()},
    }


class RecallByCount(Explorer):
    """Two sliders, boxes a picture and IoU threshold; recall against each of them for three data sets."""

    def __init__(self, sets: Mapping[str, Found]) -> None:
        """Show the recall of ``sets`` (see `open_sets`)."""
        tables = {
            order: {name: best_so_far(order_boxes(found, order), found.truths) for name, found in sets.items()}
            for order in ORDERS
        }
        self.compute = partial(recall_by_count, tables=tables)
        controls = {
            "count": slider("boxes a picture", 500, 1, 2500, 1),
            "threshold": slider("IoU at least", 0.5, 0.5, 0.95, 0.05),
            "order": choice("order of the boxes", ORDERS),
        }
        super().__init__(controls, chart=self._make_chart(list(sets)), title="Recall by count")

    def _make_chart(self, names: Sequence[str]) -> Chart:
        """Recall against the number of boxes (left) and against the threshold (right)."""
        chart = Chart(840, 300, columns=2)
        self.axes = left, right = chart.axes
        left.set(xscale="log", xlim=(1, 2500), ylim=(0, 1.05), xlabel="boxes a picture", ylabel="recall")
        left.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        right.set(xlim=(0.5, 1.13), ylim=(0, 1.05), xlabel="IoU at least")
        right.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9])
        styles = dict(zip(names, zip(LINES, DASHES, strict=True), strict=True))
        self.curves = {
            name: [ax.plot([], [], color=colour, ls=dash)[0] for ax in self.axes]
            for name, (colour, dash) in styles.items()
        }
        for name, (colour, _) in styles.items():
            name_line(right, 0.95, 0, name, colour)
        self.texts = dict(zip(names, right.texts, strict=True))
        self.marks = [ax.axvline(1, color="#888888", lw=1) for ax in self.axes]
        chart.animate(*(line for lines in self.curves.values() for line in lines), *self.texts.values(), *self.marks)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move curves, names and the two marks."""
        thresholds, heights = THRESHOLDS.numpy(), {}
        for name, (left, right) in self.curves.items():
            left.set_data(COUNTS, numbers["by count"][name].numpy())
            right.set_data(thresholds, numbers["by threshold"][name].numpy())
            heights[name] = numbers["by threshold"][name][-1].item()
        low = -0.05  # the lowest name stands above the axis
        for name in sorted(heights, key=heights.__getitem__):  # names keep a line's distance
            low = max(heights[name], low + 0.09)
            self.texts[name].xy = (0.95, low)
        self.marks[0].set_xdata([self.state["count"]] * 2)
        self.marks[1].set_xdata([self.state["threshold"]] * 2)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the recall of each set."""
        state = self.state
        found = " · ".join(f"{name} {recall:.4f}" for name, recall in numbers["recall"].items())
        return f"recall with {state['count']} boxes at IoU {state['threshold']:.2f}: {found}"
