"""Two or more detectors on the same photos, one photo and one score threshold at a time (lesson 16).

Leaves out: curves and AP (`score_slider`, `ap_of_five`).

Shapes: D detections of a photo, G objects
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from rcnnlib.engine.metrics import Record, error_kinds, match
from rcnnlib.view.canvas import Canvas
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import Kind, to_pixels


def before_after(
    photo: int, detector: str, score: float, *, records: Mapping[str, Sequence[Record]], names: Sequence[str]
) -> dict[str, Any]:
    """Return what a detector shows on a photo from ``score`` on, and its counts over all photos."""
    record = records[detector][photo]
    right = torch.zeros(len(record.boxes), dtype=torch.bool)
    for label in range(1, len(names) + 1):
        matched = match(record, label)
        right[matched.rows] = matched.right
    shown = record.scores >= score
    labels = [
        f"{'✓' if good else '✗'} {names[label - 1]} {value:.2f}"
        for good, label, value in zip(right[shown], record.labels[shown].tolist(), record.scores[shown], strict=True)
    ]
    everything = error_kinds(records[detector], len(names), score_threshold=score)
    here = int(right[shown].sum())
    return {
        "on this photo": f"{here} right, {len(labels) - here} not, {len(record.truth) - here} missed",
        "on all": f"{everything.correct} right, {everything.missed} missed, {everything.background} on background",
        "boxes": record.boxes[shown],
        "labels": labels,
        "objects": record.truth,
    }


class BeforeAfter(Explorer):
    """A photo that no detector has learned from, with the boxes of one of them."""

    from_canvas = ()

    def __init__(
        self, images: Sequence[Any], records: Mapping[str, Sequence[Record]], names: Sequence[str], photo: int = 0
    ) -> None:
        """Compare ``records``, by the name of the detector, on ``images``; ``names`` are the classes 1..K."""
        self.images, self.drawn = images, -1
        self.compute = partial(before_after, records=records, names=names)
        controls = {
            "photo": slider("photo", photo, 0, len(images) - 1, 1),
            "detector": choice("detector", list(records)),
            "score": slider("show from score", 0.5, 0.05, 0.95, 0.05),
        }
        canvas = Canvas(images[photo], alt="", display_width=520)
        super().__init__(controls, canvas=canvas, title="Before and after")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show objects and detections; the picture travels only when it is another one."""
        photo = self.controls["photo"].value
        truth: Kind = "ground_truth"
        found: Kind = "detection"
        kinds = [truth] * len(numbers["objects"]) + [found] * len(numbers["boxes"])
        boxes = torch.cat((numbers["objects"], numbers["boxes"]))
        labels = [""] * len(numbers["objects"]) + numbers["labels"]
        image = to_pixels(self.images[photo]) if photo != self.drawn else None
        self.canvas.show(image, boxes, kinds=kinds, labels=labels)
        self.canvas.alt = f"Photo {photo}: {numbers['on this photo']}"
        self.drawn = photo

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the two counts."""
        return super().tell({key: numbers[key] for key in ("on this photo", "on all")})
