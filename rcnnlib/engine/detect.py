"""Find objects in photos of one's own: read, shrink, detect, and give the boxes back in pixels of the photo.

Left out: video, tiling of very large photos (``datasets.transforms.tiles`` cuts them), and drawing (``view``).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.datasets.transforms import Example, make_example, read_image, resize
from rcnnlib.engine.evaluation import run
from rcnnlib.models.weights import Detector
from rcnnlib.ops.boxes import box_convert
from rcnnlib.ops.selective_search import selective_search


class Found(NamedTuple):
    """What a detector found in one photo, in pixels of the photo, best first."""

    path: Path
    image: Float[Tensor, "3 H W"]
    boxes: Float[Tensor, "D 4"]
    scores: Float[Tensor, " D"]
    labels: Int[Tensor, " D"]


def with_regions(example: Example) -> Example:
    """Add Selective Search's boxes to a picture, for a detector that does not find its own."""
    return example._replace(proposals=selective_search(example.image))


def detect_photos(detector: Detector, paths: Sequence[str | Path], *, score: float = 0.5) -> Iterator[Found]:
    """Yield what is found in each photo with at least ``score``; a photo is resized to what the detector is made for.

    Raises:
        FileNotFoundError, ValueError: a photo is missing or cannot be read.
    """
    for number, path in enumerate(paths):
        photo = make_example(read_image(path), [], [], [], id=number)
        small = resize(photo, detector.spec.longer_side)
        if detector.model.needs_proposals:
            small = with_regions(small)
        (record,) = run(detector.model, [small], longer_side=None)
        good = record.scores >= score
        yield Found(Path(path), photo.image, record.boxes[good], record.scores[good], record.labels[good])


def to_coco(found: Sequence[Found], class_names: Sequence[str]) -> dict[str, Any]:
    """Return detections in COCO's format, with a ``score`` for each; ``bbox`` is x, y, width, height."""
    annotations = []
    for image, one in enumerate(found, start=1):
        for box, score, label in zip(one.boxes, one.scores.tolist(), one.labels.tolist(), strict=True):
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "score": round(score, 4)}
            corners = box_convert(box[None], "xyxy", "xywh")[0]
            area = float(corners[2] * corners[3])
            row |= {"bbox": [round(x, 2) for x in corners.tolist()], "area": round(area, 1), "iscrowd": 0}
            annotations.append(row)
    sizes = [tuple(one.image.shape[-2:]) for one in found]
    return {
        "images": [
            {"id": number, "file_name": one.path.name, "width": width, "height": height}
            for number, (one, (height, width)) in enumerate(zip(found, sizes, strict=True), start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)],
    }


def summary(one: Found, class_names: Sequence[str]) -> str:
    """Return one line about a photo: what was found, and how sure."""
    things = [
        f"{class_names[label - 1]} {score:.2f}"
        for score, label in zip(one.scores.tolist(), one.labels.tolist(), strict=True)
    ]
    return f"{one.path.name}: {', '.join(things) or 'nothing found'}"
