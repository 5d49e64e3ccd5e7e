"""The two samplers of Faster R-CNN on one picture: anchors for the RPN, proposals for the head (lesson 14).

The RPN's sampler draws 256 anchors, at most half of them positive; the head's draws proposals, at most a quarter. The
list of the head may be Selective Search's, to see what its lower bound is for there.
Leaves out: how the labels of anchors come about (lesson 12), and how the draw works (lesson 07).

Shapes:
    A  anchors      N  candidates of a sampler      G  objects
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnnlib.datasets.transforms import Example, collate, uniform_noise
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.rpn import SAMPLES
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.matcher import NEGATIVE, POSITIVE, Match, match_proposals
from rcnnlib.ops.nms import BLOCK
from rcnnlib.ops.sampler import sample
from rcnnlib.types import Samples
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

RPN, SEARCH = "RPN", "Selective Search"
SHOWN = ("the head's rows", "the RPN's rows")
BINS = 20
EDGES = torch.linspace(0, 1, BINS + 1)
PARTS = ("positive", "negative", "empty")
MOST_DRAWN = 24  # negatives on the picture


class Labelled(NamedTuple):
    """A picture with its labelled anchors and the two lists that the head may draw from."""

    example: Example
    anchors: Float[Tensor, "A 4"]
    match: Match  # of the anchors
    lists: dict[str, Float[Tensor, "N 4"]]


@torch.inference_mode()
def label(model: FasterRCNN, example: Example) -> Labelled:
    """Label the anchors, propose, and add the objects to both lists, as the head's sampler does."""
    batch = collate([example], seed=0, epoch=0, noise_length=1)
    anchors, scores, deltas = model.rpn(model.trunk(batch.images, batch.sizes))
    found = model.rpn.propose(anchors, scores, deltas, batch.sizes, rounds=BLOCK)
    match = Match(*(part[0] for part in model.rpn.match(anchors, batch)))
    lists = {RPN: found.boxes[0][found.valid[0]], SEARCH: example.proposals}
    return Labelled(example, anchors, match, {name: torch.cat((boxes, example.boxes)) for name, boxes in lists.items()})


def match_head(one: Labelled, source: str, low: float) -> Match:
    """Label the candidates of the head's sampler; a picture without objects has background only."""
    objects = one.example.boxes if len(one.example.boxes) else torch.zeros(1, 4)
    real = torch.full((len(objects),), len(one.example.boxes) > 0)
    return match_proposals(box_iou(one.lists[source], objects), real, background_low=low)


def counts(drawn: Samples) -> dict[str, int]:
    """Count the rows of a batch."""
    values = {"positive": (drawn.labels > 0), "negative": drawn.labels == 0, "empty": drawn.labels < 0}
    return {name: int(mask.sum()) for name, mask in values.items()}


def two_samplers(
    low: float, rows: int, epoch: int, source: str, picture: str, show: str, *, pictures: Mapping[str, Labelled]
) -> dict[str, Any]:
    """Return what both samplers draw from one picture; ``low`` and ``rows`` are the head's."""
    one = pictures[picture]
    boxes, match = one.lists[source], match_head(one, source, low)
    labels = torch.ones(max(1, len(one.example.boxes)), dtype=torch.int64)
    noise = uniform_noise(len(one.anchors) + len(boxes), seed=0, epoch=epoch, id=one.example.id)
    of_rpn, of_head = noise[: len(one.anchors)], noise[len(one.anchors) :]
    rpn = sample(one.match, labels, of_rpn, size=SAMPLES, positive_fraction=0.5)
    head = sample(match, labels, of_head, size=rows, positive_fraction=0.25)
    below = match.iou < 0.1
    candidates, drawn = (one.anchors, rpn) if show == SHOWN[1] else (boxes, head)
    return {
        "RPN": counts(rpn),
        "head": counts(head),
        "candidates": len(boxes),
        "below 0.1": int(below.sum()),
        "may be negative": int((match.status == NEGATIVE).sum()),
        "drawn below 0.1": int(below[head.index[head.labels == NEGATIVE]].sum()),
        "all": torch.histogram(match.iou, EDGES).hist,
        "taken": torch.histogram(match.iou[head.index[head.labels >= 0]], EDGES).hist,
        "positives": candidates[drawn.index[drawn.labels >= POSITIVE]],
        "negatives": candidates[drawn.index[drawn.labels == NEGATIVE]],
    }


class TwoSamplers(Explorer):
    """A picture with the rows of one sampler; beside it both batches, and the IoUs that the head may draw from."""

    from_canvas = ()

    def __init__(self, pictures: Mapping[str, Labelled]) -> None:
        """Show labelled pictures, which have names."""
        self.pictures, self.shown = pictures, ""
        self.compute = partial(two_samplers, pictures=pictures)
        controls = {
            "low": slider("negative from", 0.0, 0.0, 0.4, 0.05),
            "rows": slider("rows of the head", 64, 16, 128, 16),
            "epoch": slider("epoch", 0, 0, 20, 1),
            "source": choice("the head's list", (RPN, SEARCH)),
            "picture": choice("picture", list(pictures)),
            "show": choice("draw", SHOWN),
        }
        canvas = Canvas(next(iter(pictures.values())).example.image, alt="", display_width=430)
        chart = Chart(370, 340, rows=2)
        self._draw_bars(chart)
        super().__init__(controls, canvas=canvas, chart=chart, title="Two samplers")

    def _draw_bars(self, chart: Chart) -> None:
        """Above the rows of both batches, below the IoUs of the head's candidates."""
        above, below = chart.axes
        above.set(xlim=(0, SAMPLES), ylim=(1.9, -0.6), yticks=[0, 1], yticklabels=["RPN", "head"])
        above.set_title("rows (blue: positive, white: empty)")
        colours = (LINES[0], "#E0E0E0", "#FFFFFF")
        self.parts = [
            [above.add_patch(Rectangle((0, row - 0.25), 0, 0.5, facecolor=c, edgecolor="black")) for c in colours]
            for row in range(2)
        ]
        self.texts = [above.text(0, row + 0.3, "", fontsize=9, va="top") for row in range(2)]
        below.set(xlim=(0, 1), ylim=(0.7, 900), yscale="log", xlabel="IoU with the best object", ylabel="proposals")
        below.set_yticks([1, 10, 100], ["1", "10", "100"])
        below.minorticks_off()
        below.set_title("the head's list, and what is drawn (dark)")
        places, width = EDGES[:-1].tolist(), 1 / BINS
        self.bars = [
            below.bar(places, [1] * BINS, width, align="edge", color=c, edgecolor="white")
            for c in ("#F0C97A", "#8A5A00")
        ]
        (self.bound,) = below.plot([0, 0], [0.7, 900], color="black", linestyle=":")
        chart.animate(
            *(part for row in self.parts for part in row), *self.texts, *self.bars[0], *self.bars[1], self.bound
        )

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the rows of one sampler on the picture, both bars and the histogram."""
        state = self.state
        example = self.pictures[state["picture"]].example
        kind = "anchor" if state["show"] == SHOWN[1] else "proposal"
        negatives = numbers["negatives"][:MOST_DRAWN]
        boxes = torch.cat((negatives, numbers["positives"], example.boxes))
        kinds = ["note"] * len(negatives) + [kind] * len(numbers["positives"]) + ["ground_truth"] * len(example.boxes)
        self.canvas.show(None if state["picture"] == self.shown else example.image, boxes, kinds=kinds)
        self.canvas.alt, self.shown = f"{state['picture']} with {len(boxes)} boxes", state["picture"]
        for parts, text, name in zip(self.parts, self.texts, ("RPN", "head"), strict=True):
            start = 0
            for part, count in zip(parts, numbers[name].values(), strict=True):
                part.set_x(start)
                part.set_width(count)
                start += count
            text.set_text(_words(numbers[name]))
        for bars, heights in zip(self.bars, (numbers["all"], numbers["taken"]), strict=True):
            for bar, height in zip(bars, heights.tolist(), strict=True):
                bar.set_height(max(height, 1e-3))
        self.bound.set_xdata([state["low"]] * 2)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say both batches, and what the head could draw from."""
        return (
            f"RPN: {_words(numbers['RPN'])} of {SAMPLES}\nhead: {_words(numbers['head'])} of {self.state['rows']} · "
            f"{numbers['drawn below 0.1']} rows are below IoU 0.1\n"
            f"the head's list: {numbers['candidates']}, below IoU 0.1: {numbers['below 0.1']}, "
            f"may be negative: {numbers['may be negative']}"
        )


def _words(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items() if count or name != "empty")
