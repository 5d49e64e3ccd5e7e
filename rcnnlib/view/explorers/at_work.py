"""Lesson 00: a trained Faster R-CNN on a photo; which of its boxes are shown is decided by a score.

The detector runs once a photo; the slider only chooses among what it found.
Leaves out: how it finds them, which is what all other lessons are about.

Shapes:
    D  detections      G  boxes drawn by hand, where the photo has some
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.paths import data_dir
from rcnnlib.engine.detect import Found, detect_photos
from rcnnlib.models.weights import Detector, load_weights
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Canvas
from rcnnlib.view.explorers.base import Explorer, choice, slider

WEIGHTS = "faster_rcnn_scrapbook"
LEAST = 0.05  # score: the detector itself drops what is below
PHOTOS = ("horse", "cow", "dog", "polar_bear", "scarlet_macaw", "hammer1", "koala")


class Seen(NamedTuple):
    """A photo, what the detector found in it, and what a person drew."""

    found: Found
    truth: Float[Tensor, "G 4"]
    truth_names: list[str]


def see(path: str, detector: Detector) -> Seen:
    """Run the detector on a photo; a photo of Wild brings its hand-drawn boxes along."""
    (found,) = detect_photos(detector, [path], score=LEAST)
    photos, here = wild(), Path(path).resolve()
    names = [(photos.image_dir / file).resolve() for _, file in photos.images]
    if here not in names:
        return Seen(found, torch.zeros(0, 4), [])
    example = photos[names.index(here)]
    return Seen(found, example.boxes, [photos.class_names[label - 1] for label in example.labels.tolist()])


def above(photo: str, score: float, *, seen: Callable[[str], Seen], names: Sequence[str]) -> dict[str, Any]:
    """Return the detections with at least this score; a hand-drawn box is found by one of its class with IoU 0.5."""
    found, truth, truth_names = seen(photo)
    good = found.scores >= score
    boxes, shown = found.boxes[good], [names[label - 1] for label in found.labels[good].tolist()]
    same = torch.tensor([[name == other for other in shown] for name in truth_names], dtype=torch.bool)
    fits = (box_iou(truth, boxes) >= 0.5) & same.reshape(len(truth), len(boxes))
    return {
        "boxes": boxes,
        "names": shown,
        "scores": found.scores[good],
        "hand-drawn": len(truth),
        "of these found": int(fits.any(dim=1).sum()),
    }


class AtWork(Explorer):
    """A photo with the boxes of a trained detector, and a slider for the least score."""

    from_canvas = ()  # nothing is dragged

    def __init__(self, photos: Sequence[str | Path] = (), *, score: float = 0.5) -> None:
        """Show the given photo files, or some of Wild."""
        folder = data_dir() / "wild" / "images"
        paths = [Path(photo).expanduser() for photo in photos] or [folder / f"{name}.jpg" for name in PHOTOS]
        detector = load_weights(WEIGHTS)
        self.seen = cache(partial(see, detector=detector))
        self.compute = partial(above, seen=self.seen, names=detector.spec.classes)
        self.shown = ""
        controls = {
            "photo": choice("photo", [(path.stem.replace("_", " "), str(path)) for path in paths]),
            "score": slider("least score", score, LEAST, 1.0, 0.05),
        }
        canvas = Canvas(self.seen(str(paths[0])).found.image, alt="", display_width=400)
        super().__init__(controls, canvas=canvas, title="AtWork")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the detections with name and score."""
        path = self.state["photo"]
        labels = [f"{name} {score:.2f}" for name, score in zip(numbers["names"], numbers["scores"], strict=True)]
        image = None if path == self.shown else self.seen(path).found.image  # the same photo need not travel again
        self.shown = path
        self.canvas.show(image, numbers["boxes"], kinds=["detection"] * len(labels), labels=labels)
        self.canvas.alt = f"The photo {Path(path).stem} with {len(labels)} detections"

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say what is shown, and how many of the hand-drawn boxes are among it."""
        things = [f"{name} {score:.2f}" for name, score in zip(numbers["names"], numbers["scores"], strict=True)]
        shown = f"{len(things)} shown: {', '.join(things[:5])}{' ...' if len(things) > 5 else ''}"
        if not numbers["hand-drawn"]:
            return shown
        return f"{shown} · {numbers['of these found']} of {numbers['hand-drawn']} hand-drawn boxes found"
