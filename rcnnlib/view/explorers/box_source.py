"""One head, two sources of boxes: Selective Search's stored boxes or the proposals of the RPN (lesson 14).

Trunk and head of a trained Faster R-CNN stand still; a switch says whose boxes go in.
Leaves out: how well heads do that were trained on one source or the other (lesson 15).

Shapes:
    P  boxes of a source, best first      G  objects      D  detections
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.transforms import Example, collate, resize
from rcnnlib.engine.evaluation import to_records
from rcnnlib.engine.metrics import Record, error_kinds
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import BLOCK
from rcnnlib.types import Batch
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, name_line

RPN, SEARCH = "RPN", "Selective Search"
SHOWN = ("detections", "boxes that go in")
MOST = 300  # boxes of a source
DRAWN = 25  # boxes that go in, on the photo


class Prepared(NamedTuple):
    """A photo with its map and both lists of boxes, in pixels of the network's input."""

    photo: Example
    batch: Batch  # the photo, made smaller
    features: Float[Tensor, "1 C h w"]
    sources: dict[str, Float[Tensor, "P 4"]]


@torch.inference_mode()
def prepare(model: FasterRCNN, photo: Example, longer_side: int = 320) -> Prepared:
    """Run trunk and RPN once; ``photo.proposals`` are the boxes of Selective Search."""
    batch = collate([resize(photo, longer_side)], seed=0, epoch=0, noise_length=1)
    features = model.trunk(batch.images, batch.sizes)
    anchors, scores, deltas = model.rpn(features)
    usual, model.rpn.after = model.rpn.after, MOST
    found = model.rpn.propose(anchors, scores, deltas, batch.sizes, rounds=BLOCK)
    model.rpn.after = usual
    boxes = {RPN: found.boxes[0][found.valid[0]], SEARCH: batch.proposals[0][:MOST]}
    return Prepared(photo, batch, features, boxes)


@torch.inference_mode()
def detect(one: Prepared, regions: Float[Tensor, "P 4"], *, model: FasterRCNN) -> Record:
    """Let the head judge regions; detections and truth are in pixels of the photo."""
    head, sizes = model.head, one.batch.sizes
    scores, deltas = head(head.pool(one.features, regions[None], sizes))
    exists = torch.ones(1, len(regions), dtype=torch.bool)
    found = head.detect(regions[None], exists, scores, deltas, sizes, rounds=BLOCK).to_original(one.batch)
    return to_records([one.photo], found)[0]


def best_overlap(boxes: Float[Tensor, "P 4"], objects: Float[Tensor, "G 4"]) -> Float[Tensor, " P"]:
    """Return how well the first 1, 2, 3, ... boxes fit the objects: the best IoU of each object, averaged."""
    return box_iou(boxes, objects).cummax(dim=0).values.mean(dim=1)


def box_source(
    count: int, source: str, score: float, picture: str, show: str, *, pictures: Mapping[str, Prepared], look: Any
) -> dict[str, Any]:
    """Return what the head finds if the first ``count`` boxes of a source go in."""
    one = pictures[picture]
    regions = one.sources[source][:count]
    record = look(one, regions)
    good = record.scores >= score
    record = record._replace(boxes=record.boxes[good], scores=record.scores[good], labels=record.labels[good])
    objects = one.batch.boxes[0][one.batch.valid[0]]
    kinds = error_kinds([record], int(record.truth_labels.max()), score_threshold=score)
    return {
        "boxes in": len(regions),
        "best IoU of the objects": float(best_overlap(regions, objects)[-1]),
        "detections": len(record.boxes),
        "right": kinds.correct,
        "objects": len(record.truth),
        "record": record,
        "drawn": regions[:DRAWN] / one.batch.scales.repeat(1, 2) if show == SHOWN[1] else regions[:0],
    }


class BoxSource(Explorer):
    """A photo with what the head finds; beside it how well the boxes that go in fit the objects."""

    from_canvas = ()

    def __init__(self, model: FasterRCNN, photos: Mapping[str, Example], names: Sequence[str]) -> None:
        """Prepare ``photos``, which have names; ``names`` are the classes."""
        self.pictures, self.names, self.shown = {name: prepare(model, one) for name, one in photos.items()}, names, ""
        self.compute = partial(box_source, pictures=self.pictures, look=partial(detect, model=model))
        controls = {
            "count": slider("how many boxes", 100, 1, MOST, 1, slow=True),
            "source": choice("they come from", (RPN, SEARCH)),
            "score": slider("score from", 0.5, 0.05, 0.95, 0.05, slow=True),
            "picture": choice("photo", list(photos)),
            "show": choice("draw", SHOWN),
        }
        canvas = Canvas(next(iter(photos.values())).image, alt="", display_width=450)
        chart = Chart(350, 300)
        self._draw_lines(chart)
        super().__init__(controls, canvas=canvas, chart=chart, title="Whose boxes?")

    def _draw_lines(self, chart: Chart) -> None:
        axes = chart.axes
        axes.set(xlim=(0, MOST * 1.02), ylim=(0, 1), xlabel="how many boxes", ylabel="best IoU of the objects, mean")
        axes.set_title("how well the boxes fit")
        self.lines = [
            axes.plot([], [], color=colour, linestyle=dash)[0] for colour, dash in zip(LINES, ("-", "--"), strict=False)
        ]
        for line, name in zip(self.lines, (RPN, SEARCH), strict=True):
            name_line(axes, 0, 0, name, line.get_color())
        self.tags = axes.texts[-2:]
        self.dots = axes.plot([0], [0], "o", color="black", markersize=8)
        chart.animate(*self.lines, *self.tags, *self.dots)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the photo, both lines, and a dot where we are."""
        state, record = self.state, numbers["record"]
        one = self.pictures[state["picture"]]
        pairs = zip(record.labels.tolist(), record.scores.tolist(), strict=True)
        found = [f"{self.names[label - 1]} {score:.2f}" for label, score in pairs]
        shown = [] if state["show"] == SHOWN[1] else found
        boxes = torch.cat((numbers["drawn"], one.photo.boxes, record.boxes[: len(shown)]))
        kinds = ["proposal"] * len(numbers["drawn"]) + ["ground_truth"] * len(one.photo.boxes)
        labels = [""] * len(kinds) + shown
        image = None if state["picture"] == self.shown else one.photo.image
        self.canvas.show(image, boxes, kinds=kinds + ["detection"] * len(shown), labels=labels)
        self.canvas.alt, self.shown = f"{state['picture']}: {numbers['detections']} detections", state["picture"]
        objects = one.batch.boxes[0][one.batch.valid[0]]
        ends = []
        for line, name in zip(self.lines, (RPN, SEARCH), strict=True):
            curve = best_overlap(one.sources[name], objects)
            line.set_data(range(1, len(curve) + 1), curve.numpy())
            ends.append((float(curve[len(curve) // 2]), float(curve[-1])))
        first = ends[0][1] >= ends[1][1]
        for tag, (half, end), up in zip(self.tags, ends, (first, not first), strict=True):
            tag.set(ha="right", va="bottom" if up else "top")
            tag.xy = (MOST, end + 0.02 if up else half - 0.03)
        self.dots[0].set_data([numbers["boxes in"]], [numbers["best IoU of the objects"]])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say what went in and what came out."""
        return (
            f"{self.state['source']} · boxes in {numbers['boxes in']} · best IoU of the objects "
            f"{numbers['best IoU of the objects']:.2f} · detections {numbers['detections']} · "
            f"right {numbers['right']} of {numbers['objects']}"
        )
