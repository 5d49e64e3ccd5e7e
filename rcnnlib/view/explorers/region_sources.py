"""The same head, asked about other boxes: Selective Search's, random ones, one of your own (lesson 09).

The feature map of the picture is computed once; each move pools the regions and runs the head.
Leaves out: how Selective Search finds its boxes (lesson 02).

Shapes:
    P  regions of a source      G  objects      D  detections
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.transforms import Example
from rcnnlib.engine.metrics import Record, error_kinds, proposal_recall
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import BLOCK
from rcnnlib.view.canvas import Canvas
from rcnnlib.view.explorers.base import Explorer, choice, slider

YOURS = "your box"
HALF = torch.tensor([0.5])


@torch.inference_mode()
def judge(
    regions: Float[Tensor, "P 4"],
    score: float,
    *,
    model: FastRCNN,
    features: Float[Tensor, "1 C h w"],
    example: Example,
) -> Record:
    """Let the head of ``model`` judge regions on a map that is there already; keep detections from ``score`` on."""
    sizes = torch.tensor([example.image.shape[-2:]], dtype=torch.float32)
    scores, deltas = model.head(model.head.pool(features, regions[None], sizes))
    exists = torch.ones(1, len(regions), dtype=torch.bool)
    found = model.head.detect(regions[None], exists, scores, deltas, sizes, rounds=BLOCK)
    rows = found.valid[0] & (found.scores[0] >= score)
    boxes, scores, labels = (part[0][rows] for part in (found.boxes, found.scores, found.labels))
    return Record(example.id, boxes, scores, labels, example.boxes, example.labels, example.ignore)


def region_sources(
    source: str,
    count: int,
    score: float,
    boxes: Float[Tensor, "_ 4"],
    *,
    sources: Mapping[str, Float[Tensor, "P 4"]],
    look: Any,
    classes: int,
) -> dict[str, Any]:
    """Return what comes out if the first ``count`` regions of a source go in; the learner's box is ``boxes[0]``."""
    regions = boxes[:1] if source == YOURS else sources[source][:count]
    record = look(regions, score)
    kinds = error_kinds([record], classes, score_threshold=score)
    return {
        "your box, best IoU": box_iou(boxes[:1], record.truth).max().item(),
        "regions": len(regions),
        "recall at IoU 0.5": float(proposal_recall([regions], [record.truth], thresholds=HALF)),
        "detections": len(record.boxes),
        "right": kinds.correct,
        "objects": len(record.truth),
        "record": record,
    }


class RegionSources(Explorer):
    """A picture with its objects and what the head finds; a menu says whose boxes it was asked about."""

    def __init__(
        self,
        model: FastRCNN,
        example: Example,
        sources: Mapping[str, Any],
        names: Sequence[str],
        yours: Any,
        alt: str,
    ) -> None:
        """Compute the map of ``example``; ``sources`` are regions by name, ``yours`` is where the learner's box begins.

        The picture's sides must be multiples of the trunk's stride.
        """
        with torch.inference_mode():
            features = model.trunk(example.image[None])
        look = partial(judge, model=model, features=features, example=example)
        self.compute = partial(region_sources, sources=sources, look=look, classes=len(names))
        self.names, self.truth = names, example.boxes
        controls = {
            "source": choice("regions come from", [YOURS, *sources]),
            "count": slider("how many of them", 300, 1, max(map(len, sources.values())), 1, slow=True),
            "score": slider("score from", 0.5, 0.05, 0.95, 0.05),
        }
        canvas = Canvas(example.image, [yours], editable=[0], alt=alt, display_width=560)
        super().__init__(controls, canvas=canvas, title="Whose regions?")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the learner's box, the objects and the detections; grey is the box that the head was not asked about."""
        record, asked = numbers["record"], self.state["source"] == YOURS
        found = [
            f"{self.names[c - 1]} {s:.2f}" for c, s in zip(record.labels.tolist(), record.scores.tolist(), strict=True)
        ]
        self.canvas.show(
            None,
            [self.canvas.boxes[0], *self.truth.numpy(), *record.boxes.numpy()],
            kinds=[
                "proposal" if asked else "ignored",
                *["ground_truth"] * len(self.truth),
                *["detection"] * len(found),
            ],
            labels=["" if asked else "not asked", *[""] * len(self.truth), *found],
            editable=[0],
        )

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say how well the learner's box lies, and what came out of the regions that went in."""
        return (
            f"your box, best IoU {numbers['your box, best IoU']:.4f} · regions {numbers['regions']} · "
            f"recall {numbers['recall at IoU 0.5']:.2f} · detections {numbers['detections']} · "
            f"right {numbers['right']} of {numbers['objects']}"
        )
