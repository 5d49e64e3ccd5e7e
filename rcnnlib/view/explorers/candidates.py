"""From what the head says about each region to detections, step by step; and four classic bugs (lesson 08).

The library does the same for a whole batch in `models.roi_heads.RoIHead.detect`; a test compares the two.

Shapes:
    R  regions    K  classes    L = K + 1 with background    N = R K candidates, region by region    D  detections
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import ipywidgets
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.models.roi_heads import MIN_SIDE
from rcnnlib.ops.box_coder import HEAD_STD, RPN_STD, decode
from rcnnlib.ops.boxes import clip_boxes, is_large
from rcnnlib.ops.nms import nms
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, Kind

STEPS = ("regions", "decode", "clip", "score", "NMS")
BUGS = ("none", "all classes together", "NMS before decode", "scores upward", "std forgotten")
MOST = 100  # detections of a picture
DRAWN = 20  # boxes on the canvas: more would hide it
WIDTH = 310  # of the picture, CSS pixels


class Said(NamedTuple):
    """A picture and what the head says about its regions; all boxes in pixels of the network's input."""

    image: Any  # as the network sees it, without padding
    size: Float[Tensor, " 2"]  # its height and width
    regions: Float[Tensor, "R 4"]
    logits: Float[Tensor, "R L"]
    deltas: Float[Tensor, "R K 4"]


class Found(NamedTuple):
    """Boxes with class and score, best first."""

    boxes: Float[Tensor, "D 4"]
    scores: Float[Tensor, " D"]
    labels: Int[Tensor, " D"]


def suppress(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], groups: Int[Tensor, " N"], threshold: float
) -> Int[Tensor, " D"]:
    """Run NMS within each group and return the survivors, best first."""
    kept = [torch.zeros(0, dtype=torch.int64)]
    for group in groups.unique():
        rows = (groups == group).nonzero()[:, 0]
        kept.append(rows[nms(boxes[rows], scores[rows], threshold)])
    rows = torch.cat(kept)
    return rows[scores[rows].argsort(descending=True, stable=True)]


def detect_with_bug(
    said: Said, score: float = 0.05, threshold: float = 0.5, bug: str = BUGS[0]
) -> tuple[Found, list[int], list[Tensor]]:
    """Return the detections, the number of boxes after each step, and the boxes after the first four, best first."""
    classes = said.deltas.shape[1]
    probability = said.logits.softmax(-1)[:, 1:].flatten()  # (R, L) -> (R K)
    labels = torch.arange(1, classes + 1).repeat(len(said.regions))
    regions = said.regions.repeat_interleave(classes, dim=0)
    moved = decode(said.deltas.flatten(0, 1), regions, std=RPN_STD if bug == BUGS[4] else HEAD_STD)
    clipped = clip_boxes(moved, said.size)
    good = ((probability > score) & is_large(clipped, MIN_SIDE)).nonzero()[:, 0]
    judged = regions if bug == BUGS[2] else clipped
    groups = torch.zeros_like(labels) if bug == BUGS[1] else labels
    order = -probability if bug == BUGS[3] else probability
    kept = good[suppress(judged[good], order[good], groups[good], threshold)][:MOST]
    found = Found(clipped[kept], probability[kept], labels[kept])
    best = probability.argsort(descending=True, stable=True)
    above = good[probability[good].argsort(descending=True, stable=True)]
    counts = [len(said.regions), len(moved), len(clipped), len(good), len(kept)]
    return found, counts, [said.regions, moved[best], clipped[best], clipped[above]]


def from_scores(
    step: int, picture: str, score: float, threshold: float, bug: str, *, pictures: Mapping[str, Said]
) -> dict[str, Any]:
    """Return the number of boxes after every step, and the boxes after ``step`` (1 to 5), at most 20 of them."""
    said = pictures[picture]
    found, counts, boxes = detect_with_bug(said, score, threshold, bug)
    shown = [*boxes, found.boxes][step - 1]
    height, width = said.size.tolist()
    outside = (shown < 0).any(-1) | (shown[:, 2] > width) | (shown[:, 3] > height)
    return {
        "step": f"{step} {STEPS[step - 1]}",
        "boxes": " → ".join(map(str, counts)),
        "outside": int(outside.sum()),
        "detections from 0.5": int((found.scores >= 0.5).sum()),
        "counts": counts,
        "shown": shown[:DRAWN],
        "found": found,
    }


class FromScores(Explorer):
    """A slider that walks through the five steps; two thresholds; where ``start`` has a bug, a menu that plants one."""

    from_canvas = ()  # no box can be dragged

    def __init__(self, pictures: Mapping[str, Said], names: Sequence[str], **start: Any) -> None:
        """Show ``pictures`` by their names; ``names`` are those of the labels 1..K; ``start`` sets controls."""
        self.pictures, self.names, self.drawn = dict(pictures), list(names), ""
        self.compute = partial(from_scores, pictures=self.pictures)
        controls = {
            "step": slider("step", 1, 1, len(STEPS), 1),
            "picture": choice("picture", list(pictures)),
            "score": slider("score above", 0.05, 0.01, 0.95, 0.01),
            "threshold": slider("NMS threshold", 0.5, 0.1, 0.9, 0.05),
            "bug": choice("planted bug", BUGS),
        }
        for name, value in start.items():
            controls[name].value = value
        first = self.pictures[controls["picture"].value]
        canvas = Canvas(first.image, alt="", display_width=WIDTH)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(), title="From scores to detections")
        for name in ("step", "score", "threshold", "bug"):
            controls[name].layout.width = "400px"
        columns = [("step", "score", "threshold"), ("picture", "bug") if "bug" in start else ("picture",)]
        both = [ipywidgets.VBox([controls[name] for name in column]) for column in columns]
        wrap = ipywidgets.Layout(flex_flow="row wrap", overflow="visible")
        self.children = [ipywidgets.Box(both, layout=wrap), *self.children[len(controls) :]]

    def _make_chart(self) -> Chart:
        """A bar for each step; lengths are logarithms, for the counts go from thousands to a few."""
        chart = Chart(400, 250)
        axes = chart.axes
        axes.set(xscale="log", xlim=(0.8, 60_000), ylim=(len(STEPS) - 0.4, -0.6), yticks=range(len(STEPS)))
        axes.set_yticklabels([f"{number} {name}" for number, name in enumerate(STEPS, start=1)])
        axes.set_title("boxes after each step")
        self.bars = axes.barh(range(len(STEPS)), [1] * len(STEPS), height=0.6)
        self.counts = [axes.text(1, row, "", va="center", fontsize=10) for row in range(len(STEPS))]
        chart.animate(*self.bars, *self.counts)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the boxes of this step, named where they are few, and the bars with this step's in blue."""
        state, found = self.state, numbers["found"]
        last: Kind = "detection" if state["step"] == len(STEPS) else "proposal"
        labels = [""] * len(numbers["shown"])
        if last == "detection":
            rows = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
            labels = [f"{self.names[label - 1]} {score:.2f}" if score >= 0.5 else "" for label, score in rows][:DRAWN]
        new = state["picture"] != self.drawn
        self.drawn = state["picture"]
        self.canvas.show(self.pictures[self.drawn].image if new else None, numbers["shown"], kinds=last, labels=labels)
        self.canvas.alt = f"{self.drawn}, boxes after step {numbers['step']}"
        for row, (bar, text, count) in enumerate(zip(self.bars, self.counts, numbers["counts"], strict=True)):
            bar.set_width(max(count, 0.8))
            bar.set_color(LINES[0] if row == state["step"] - 1 else "#BBBBBB")
            text.set_position((max(count, 0.8) * 1.15, row))
            text.set_text(str(count))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the first four numbers; the rest is drawn."""
        return super().tell({name: numbers[name] for name in list(numbers)[:4]})
