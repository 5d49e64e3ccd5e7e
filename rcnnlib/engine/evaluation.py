"""Run a detector over a data set and report: COCO's AP by faster-coco-eval, VOC's by ``metrics``, errors, time.

Boxes are compared in pixels of the photo, whatever size the detector saw, because COCO's "small" (below 32 x 32) and
"large" (above 96 x 96) are areas there. It leaves out masks, key points, and augmentation or ensembles at test time.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import nn
from tqdm.auto import tqdm

from rcnnlib.datasets.transforms import Example, collate, resize
from rcnnlib.engine.metrics import Record, error_kinds, voc_map
from rcnnlib.ops.boxes import box_area, box_convert
from rcnnlib.ops.nms import BLOCK
from rcnnlib.types import Batch, Detections

SHOWN = 0.5  # the score from which a detection would be shown to a user: errors are counted there
_STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APsmall": 3, "APmedium": 4, "APlarge": 5, "AR100": 8}  # places in COCO's list


@runtime_checkable
class Pictures(Protocol):
    """What ``run`` needs of a data set; a list of examples will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class Dataset(Pictures, Protocol):
    """Pictures with the names of the labels 1..K."""

    class_names: tuple[str, ...]


def predict(model: nn.Module, batch: Batch) -> Detections:
    """Return the detections of a batch; where NMS needed more rounds than planned, run once more with enough."""
    inputs = (batch.images, batch.sizes, batch.proposals) if model.needs_proposals else (batch.images, batch.sizes)
    found = model(*inputs)
    return found if bool(found.settled.all()) else model(*inputs, rounds=BLOCK)


@torch.inference_mode()
def run(
    model: nn.Module,
    dataset: Pictures,
    *,
    batch_size: int = 4,
    longer_side: int | None = 320,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> list[Record]:
    """Detect in every picture of a data set, in its order; the records are in pixels of the photo (or of its tile).

    The model is in evaluation mode meanwhile, and afterwards as it was.

    Args:
        model: a detector, on ``device``.
        longer_side: pictures are scaled to this many pixels; None takes them as they are.
        progress: show a progress bar.
    """
    modes = [(module, module.training) for module in model.modules()]  # a frozen part may differ from the whole
    model.eval()
    records = []
    try:
        for start in tqdm(range(0, len(dataset), batch_size), desc="detect", unit="batch", disable=not progress):
            examples = [dataset[index] for index in range(start, min(start + batch_size, len(dataset)))]
            seen = [resize(example, longer_side) if longer_side else example for example in examples]
            batch = collate(seen, seed=0, epoch=0, noise_length=1).to(device)
            photos = [example._replace(**_in_photo_pixels(example)) for example in examples]
            records += to_records(photos, predict(model, batch).to_original(batch))
    finally:
        for module, mode in modes:
            module.training = mode
    return records


def _in_photo_pixels(example: Example) -> dict[str, torch.Tensor]:
    scale = example.scale.repeat(2)
    return {"boxes": example.boxes / scale, "ignore": example.ignore / scale}


def to_records(examples: Sequence[Example], found: Detections) -> list[Record]:
    """Put detections and truth of each picture side by side, without the padding; both are in the same pixels."""
    boxes, scores, labels, valid = (tensor.cpu() for tensor in found[:4])
    return [
        Record(
            id=example.id,
            boxes=boxes[row][valid[row]],
            scores=scores[row][valid[row]],
            labels=labels[row][valid[row]],
            truth=example.boxes,
            truth_labels=example.labels,
            ignore=example.ignore,
        )
        for row, example in enumerate(examples)
    ]


def _coco(records: Sequence[Record], classes: int, annotations: list[dict[str, Any]]) -> COCO:
    """Return COCO's table; annotations get numbers from 1, because 0 stands for "not matched" there."""
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    images = [{"id": number} for number in range(len(records))]
    categories = [{"id": label, "name": str(label)} for label in range(1, classes + 1)]
    return COCO({"images": images, "categories": categories, "annotations": annotations})


def _annotations(image: int, boxes: torch.Tensor, labels: list[int], **more: list[Any]) -> list[dict[str, Any]]:
    """Return one annotation a box; ``more`` holds further columns."""
    columns = {
        "bbox": box_convert(boxes.double(), "xyxy", "xywh").tolist(),
        "area": box_area(boxes.double()).tolist(),
        "category_id": labels,
        **more,
    }
    rows = zip(*columns.values(), strict=True)
    return [{"image_id": image, "iscrowd": 0, **dict(zip(columns, row, strict=True))} for row in rows]


def coco_ap(records: Sequence[Record], classes: int) -> dict[str, Any]:
    """Return COCO's numbers over the labels 1..classes: AP, AP50, AP75, AP by area, AR100, and AP50 ``per_class``.

    AP is the mean over the IoU thresholds 0.5, 0.55, ..., 0.95 and the classes that have objects; each is precision at
    101 recalls. At most 100 detections of a class count in a picture. NaN where there is nothing to find. An ignored
    region is a crowd of every class: a detection that has no other object and lies in it by the threshold is dropped.
    """
    truth, found = [], []
    for image, record in enumerate(records):
        truth += _annotations(image, record.truth, record.truth_labels.tolist())
        for label in range(1, classes + 1):
            count = len(record.ignore)
            truth += _annotations(image, record.ignore, [label] * count, iscrowd=[1] * count)
        found += _annotations(image, record.boxes, record.labels.tolist(), score=record.scores.tolist())
    evaluation = COCOeval_faster(_coco(records, classes, truth), _coco(records, classes, found), "bbox")
    evaluation.run()
    precision = evaluation.eval["precision"]  # threshold, recall, class, area, number of detections
    per_class = precision[0, :, :, 0, -1].mean(axis=0).tolist()  # IoU 0.5, all areas, 100 detections
    numbers = {name: _or_nan(evaluation.stats[place]) for name, place in _STATS.items()}
    return {**numbers, "per_class": [_or_nan(number) for number in per_class]}


def _or_nan(number: float) -> float:
    """Return NaN for the -1 that COCO writes where there is nothing to find."""
    return float(number) if number >= 0 else math.nan


def evaluate(model: nn.Module, dataset: Dataset, **options: Any) -> dict[str, Any]:
    """Return one report, ready for JSON: numbers that have no meaning here (a class without objects) are None.

    ``options`` are those of :func:`run`. The time covers all of it, reading the pictures too.

    Raises:
        ValueError: the model finds classes that the data set does not have.
    """
    begin = time.perf_counter()
    records = run(model, dataset, **options)
    seconds = time.perf_counter() - begin
    classes = len(dataset.class_names)
    highest = max((int(record.labels.max()) for record in records if len(record.labels)), default=0)
    if highest > classes:
        raise ValueError(
            f"the model found label {highest}, but the data set has only {classes} classes {dataset.class_names}: "
            "use a model that was trained for these classes"
        )
    coco, area, eleven = coco_ap(records, classes), voc_map(records, classes), voc_map(records, classes, points="11")
    columns = {"AP50": coco.pop("per_class"), "voc_AP50": area["per_class"], "voc_AP50_11": eleven["per_class"]}
    report = {
        **coco,
        "voc_AP50": area["mean"],
        "voc_AP50_11": eleven["mean"],
        "per_class": {
            name: {column: numbers[place] for column, numbers in columns.items()}
            for place, name in enumerate(dataset.class_names)
        },
        "errors": error_kinds(records, classes, score_threshold=SHOWN)._asdict(),
        "pictures": len(records),
        "objects": sum(len(record.truth) for record in records),
        "seconds_per_picture": seconds / max(1, len(records)),
    }
    return _plain(report)


def _plain(value: Any) -> Any:
    """Write None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
