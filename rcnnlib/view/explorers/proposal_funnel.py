"""From thousands of scored anchors to a few proposals, stage by stage; and three classic bugs (lesson 13).

The library does the same for a whole batch in `models.rpn.RPN.propose`; a test compares the two.

Shapes:
    A  anchors    N  boxes of a stage, best first    G  ground truths
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.transforms import Example, pad
from rcnnlib.models.backbone import Trunk
from rcnnlib.models.rpn import MIN_SIDE, RPN
from rcnnlib.ops.box_coder import decode
from rcnnlib.ops.boxes import box_iou, clip_boxes, is_inside, is_large
from rcnnlib.ops.nms import nms
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, Kind

STAGES = ("all anchors", "top-N", "decode", "clip", "small ones out", "NMS", "top-R")
BUGS = ("none", "NMS before decode", "scores upward", "clip forgotten")
DRAWN = 15  # boxes on the canvas: more would hide it
WIDTH = 430  # of the picture, CSS pixels


class Told(NamedTuple):
    """A picture and what the RPN says about its anchors; boxes in pixels of the network's input."""

    image: Any
    size: Float[Tensor, " 2"]  # height and width
    truth: Float[Tensor, "G 4"]
    anchors: Float[Tensor, "A 4"]
    objectness: Float[Tensor, " A"]
    deltas: Float[Tensor, "A 4"]


@torch.no_grad()
def ask(rpn: RPN, trunk: Trunk, picture: Example) -> Told:
    """Run trunk and RPN on one picture."""
    size = torch.tensor(picture.image.shape[-2:]).float()
    anchors, scores, deltas = rpn(trunk(pad(picture.image)[None], size[None]))
    return Told(picture.image, size, picture.boxes, anchors, scores[0].softmax(-1)[:, 1], deltas[0])


def funnel(
    told: Told, before: int = 1000, threshold: float = 0.7, after: int = 200, bug: str = BUGS[0]
) -> list[Float[Tensor, "N 4"]]:
    """Return the boxes after each of the seven stages, best first from the second on."""
    order = -told.objectness if bug == BUGS[2] else told.objectness
    scores, rows = order.topk(min(before, len(order)))
    chosen = told.anchors[rows]
    decoded = decode(told.deltas[rows], chosen)
    clipped = decoded if bug == BUGS[3] else clip_boxes(decoded, told.size)
    large = is_large(clipped, MIN_SIDE)
    left, judged = clipped[large], (chosen if bug == BUGS[1] else clipped)[large]
    kept = left[nms(judged, scores[large], threshold)]
    return [told.anchors, chosen, decoded, clipped, left, kept, kept[:after]]


def proposal_funnel(
    stage: int, before: int, threshold: float, after: int, bug: str, picture: str, *, pictures: Mapping[str, Told]
) -> dict[str, Any]:
    """Return the counts of all stages, and the boxes of ``stage`` (1 to 7), at most 15 of them."""
    told = pictures[picture]
    boxes = funnel(told, before, threshold, after, bug)
    here = boxes[stage - 1]
    reached = box_iou(told.truth, here) >= 0.5
    spread = (torch.arange(DRAWN) * 0.618 % 1 * len(here)).long()  # anchors from everywhere
    end = clip_boxes(boxes[-1], told.size)
    twice = box_iou(end, end).triu(diagonal=1) > threshold
    return {
        "stage": f"{stage} {STAGES[stage - 1]}",
        "boxes": len(here),
        "reach outside": int((~is_inside(here, told.size)).sum()),
        "objects reached": f"{int(reached.any(dim=1).sum())} of {len(told.truth)}",
        "duplicates at the end": int(twice.any(dim=0).sum()),
        "counts": [len(one) for one in boxes],
        "shown": here[spread] if stage == 1 else here[:DRAWN],
    }


class ProposalFunnel(Explorer):
    """A picture with the boxes of one stage; bars with the counts of all stages; a switch that plants a bug."""

    from_canvas = ()  # no box can be dragged

    def __init__(self, pictures: Mapping[str, Told], alt: str) -> None:
        """Show ``pictures`` by name (see `ask`); ``alt`` says what they show."""
        self.pictures, self.drawn = dict(pictures), next(iter(pictures))
        self.compute = partial(proposal_funnel, pictures=self.pictures)
        anchors = len(self.pictures[self.drawn].anchors)
        controls = {
            "stage": slider("stage", 1, 1, len(STAGES), 1),
            "before": slider("N, before NMS", 1000, 50, anchors, 50),
            "threshold": slider("strike above", 0.7, 0.1, 0.95, 0.05),
            "after": slider("R, after NMS", 200, 10, 300, 10),
            "picture": choice("picture", list(pictures)),
            "bug": choice("planted bug", BUGS),
        }
        canvas = Canvas(self.pictures[self.drawn].image, alt=alt, display_width=WIDTH)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(anchors), title="The funnel")

    def _make_chart(self, anchors: int) -> Chart:
        """A bar for each stage."""
        chart = Chart(370, 320)
        axes, rows = chart.axes, range(len(STAGES))
        axes.set(xlim=(0, anchors * 1.2), ylim=(len(STAGES) - 0.4, -0.6), yticks=rows, xticks=[])
        axes.set_yticklabels([f"{row + 1} {name}" for row, name in enumerate(STAGES)])
        axes.tick_params(axis="y", length=0)
        axes.set_title("boxes after each stage")
        self.bars = axes.barh(rows, [1] * len(STAGES), height=0.6)
        self.words = [axes.text(0, row, "", va="center", fontsize=10) for row in rows]
        chart.animate(*self.bars, *self.words)
        self.room = anchors * 0.02
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the boxes of this stage, and the bars with this stage's in blue."""
        state = self.state
        told = self.pictures[state["picture"]]
        image = None if state["picture"] == self.drawn else told.image
        self.drawn = state["picture"]
        kind: Kind = "anchor" if state["stage"] <= 2 else "proposal"
        shown = numbers["shown"]
        kinds = [kind] * len(shown) + ["ground_truth"] * len(told.truth)
        self.canvas.show(image, torch.cat((shown, told.truth)), kinds=kinds)
        for row, (bar, word, count) in enumerate(zip(self.bars, self.words, numbers["counts"], strict=True)):
            bar.set_width(count)
            bar.set_color(LINES[0] if row == state["stage"] - 1 else "#BBBBBB")
            word.set_x(count + self.room)
            word.set_text(f"{count:,}")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the first five numbers; the rest is drawn."""
        return super().tell({name: numbers[name] for name in list(numbers)[:5]})
