"""How many objects do the first proposals reach? The RPN with and without NMS, and Selective Search (lesson 13).

Every object's IoUs are kept in a table, so that a slider only counts; `engine.metrics.proposal_recall` gives the same.

Shapes:
    G  objects of all pictures    P  most boxes of a picture    N  boxes of a picture
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.models.rpn import MIN_SIDE
from rcnnlib.ops.box_coder import decode
from rcnnlib.ops.boxes import box_iou, clip_boxes, is_large
from rcnnlib.ops.nms import nms
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, name_line

NO_NMS = "RPN, no NMS"
SEARCH = "Selective Search"
STRIKES = (0.3, 0.5, 0.7, 0.9)
MOST = 1000
COUNTS = tuple(sorted({round(10 ** (step / 15)) for step in range(46)}))
LIMITS = torch.arange(50, 100, 5).double() / 100


class Boxes(NamedTuple):
    """The boxes of the RPN that go into NMS, best first, and their objectness."""

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]


def refine(told: Any, before: int) -> Boxes:
    """Return the ``before`` best boxes of a picture, decoded, clipped, without the small ones.

    ``told`` has ``anchors``, ``objectness``, ``deltas`` and ``size``, as `proposal_funnel.ask` gives them.
    """
    best, rows = told.objectness.topk(min(before, len(told.anchors)))
    boxes = clip_boxes(decode(told.deltas[rows], told.anchors[rows]), told.size)
    large = is_large(boxes, MIN_SIDE)
    return Boxes(boxes[large], best[large])


def strike(refined: Sequence[Boxes], threshold: float) -> list[Float[Tensor, "_ 4"]]:
    """Return the survivors of NMS of each picture, best first."""
    return [boxes[nms(boxes, scores, threshold)] for boxes, scores in refined]


def best_so_far(proposals: Sequence[Tensor], truths: Sequence[Tensor]) -> Float[Tensor, "G P"]:
    """Return the best IoU of each object with the first 1, 2, ... proposals of its picture."""
    rows = []
    for boxes, objects in zip(proposals, truths, strict=True):
        best = box_iou(objects.double(), boxes[:MOST].double()).cummax(dim=1).values
        rows.append(torch.cat((best, best[:, -1:].expand(-1, MOST - best.shape[1])), dim=1))
    return torch.cat(rows)


def tabulate(
    refined: Sequence[Boxes], search: Sequence[Tensor], truths: Sequence[Tensor]
) -> dict[str, Float[Tensor, "G P"]]:
    """Return the table of every source: the RPN at four NMS thresholds and without NMS, and Selective Search."""
    sources = {f"RPN, NMS {threshold}": strike(refined, threshold) for threshold in STRIKES}
    sources |= {NO_NMS: [one.boxes for one in refined], SEARCH: list(search)}
    return {name: best_so_far(boxes, truths) for name, boxes in sources.items()}


def proposal_recall_by(
    count: int, limit: float, strike: float, *, tables: Mapping[str, Float[Tensor, "G P"]]
) -> dict[str, Any]:
    """Return recall of three sources with ``count`` boxes at IoU ``limit``, and their curves through that point."""
    chosen = {name: tables[name] for name in (f"RPN, NMS {strike}", NO_NMS, SEARCH)}
    places = torch.tensor(COUNTS) - 1
    return {
        "recall": {name: (table[:, count - 1] >= limit).double().mean().item() for name, table in chosen.items()},
        "by count": {name: (table[:, places] >= limit).double().mean(dim=0) for name, table in chosen.items()},
        "by limit": {
            name: (table[:, count - 1] >= LIMITS[:, None]).double().mean(dim=1) for name, table in chosen.items()
        },
    }


class ProposalRecall(Explorer):
    """Recall against the number of boxes and against the IoU asked for, with sliders for both and for NMS."""

    def __init__(self, tables: Mapping[str, Float[Tensor, "G P"]]) -> None:
        """Show ``tables`` (see `tabulate`)."""
        self.compute = partial(proposal_recall_by, tables=tables)
        controls = {
            "count": slider("proposals", 100, 1, MOST, 1),
            "limit": slider("IoU at least", 0.5, 0.5, 0.95, 0.05),
            "strike": choice("NMS strikes above", STRIKES, 0.7),
        }
        super().__init__(controls, chart=self._make_chart(), title="Recall of proposals")

    def _make_chart(self) -> Chart:
        """Recall against the number of boxes (left) and against the IoU asked for (right)."""
        chart = Chart(840, 310, columns=2)
        left, right = chart.axes
        left.set(xscale="log", xlim=(1, MOST), ylim=(0, 1.05), xlabel="proposals of a picture", ylabel="recall")
        left.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        right.set(xlim=(0.5, 1.22), ylim=(0, 1.05), xlabel="IoU at least")
        right.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9])
        styles = tuple(zip(LINES, ("-", "--", ":"), strict=True))
        self.curves = [[ax.plot([], [], color=colour, ls=dash)[0] for ax in chart.axes] for colour, dash in styles]
        for colour in LINES:
            name_line(right, 0.95, 0, "", colour)
        self.names = list(right.texts)
        self.marks = [ax.axvline(1, color="#888888", lw=1) for ax in chart.axes]
        chart.animate(*(line for pair in self.curves for line in pair), *self.names, *self.marks)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move curves, names and marks; names keep a line's distance."""
        heights = {}
        for (left, right), text, name in zip(self.curves, self.names, numbers["recall"], strict=True):
            left.set_data(COUNTS, numbers["by count"][name].numpy())
            right.set_data(LIMITS.numpy(), numbers["by limit"][name].numpy())
            text.set_text(name)
            heights[text] = numbers["by limit"][name][-1].item()
        low = -0.05
        for text in sorted(heights, key=heights.__getitem__):
            low = max(heights[text], low + 0.09)
            text.xy = (0.95, low)
        self.marks[0].set_xdata([self.state["count"]] * 2)
        self.marks[1].set_xdata([self.state["limit"]] * 2)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the recall of each source."""
        state = self.state
        found = " · ".join(f"{name} = {recall:.2f}" for name, recall in numbers["recall"].items())
        return f"{state['count']} boxes, IoU {state['limit']:.2f}: {found}"
