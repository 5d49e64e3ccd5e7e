"""How good are the detections? Average precision as PASCAL VOC counts it, recall of proposals, kinds of error.

Everything here is counting, so it is written out; COCO's AP is in ``evaluation``. VOC goes through the detections of a
class by falling score. Each looks at the object of its class that it overlaps most, *whether or not that object is
already taken*: IoU >= 0.5 and free is a true positive, taken is a false positive (a duplicate), less is a false
positive. COCO lets it look for the best object that is still free: a duplicate that overlaps a second object by 0.5 is
wrong for VOC and right for COCO (in a crowd of objects this matters; where objects lie apart the two agree).

Two devkits exist. The MATLAB code of the challenge says ``ovmax >= minoverlap`` and so do we; the Python port that came
with py-faster-rcnn says ``ovmax > ovthresh``. Both measure widths with the old + 1, which is left out here. In both an
object marked difficult competes for the detection with the others of its class; here ignored regions have no class, so
they come second and take a detection of which they cover at least half.

It leaves out per-picture limits, areas and the average over thresholds: that is COCO's.

Shapes:
    D  detections    G  ground-truth boxes    I  ignored regions    P  proposals    T  thresholds
    N, M  boxes of any kind
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from rcnnlib.ops.boxes import box_iou, covered_fraction

COCO_THRESHOLDS = torch.arange(50, 100, 5).double() / 100  # 0.5, 0.55, ..., 0.95
LOCALISATION_LOW = 0.1  # less overlap than this does not count as having seen the object (Hoiem 2012, TIDE)


class Record(NamedTuple):
    """Detections and truth of one picture, all boxes in the same pixels, all tensors on the CPU."""

    id: int
    boxes: Float[Tensor, "D 4"]
    scores: Float[Tensor, " D"]
    labels: Int[Tensor, " D"]  # 1..K
    truth: Float[Tensor, "G 4"]
    truth_labels: Int[Tensor, " G"]  # 1..K
    ignore: Float[Tensor, "I 4"]  # regions that count neither as right nor as wrong (VOC difficult, COCO crowd)


class Matched(NamedTuple):
    """The detections of one class in one picture by falling score; of the three verdicts at most one holds."""

    rows: Int[Tensor, " D"]  # which detections of the record
    iou: Float[Tensor, " D"]  # with the object of this class that each overlaps most
    right: Bool[Tensor, " D"]
    duplicate: Bool[Tensor, " D"]  # its object was taken by a better detection
    ignored: Bool[Tensor, " D"]  # in an ignored region: neither right nor wrong


class Curve(NamedTuple):
    """Precision and recall of one class after each detection of all pictures, by falling score."""

    scores: Float[Tensor, " D"]
    true_positive: Bool[Tensor, " D"]
    precision: Float[Tensor, " D"]  # of the detections so far, the part that is right
    recall: Float[Tensor, " D"]  # of all objects, the part that is found
    total: int  # objects of this class


class ErrorKinds(NamedTuple):
    """What became of the detections, each counted once, and how many objects nobody found."""

    correct: int
    duplicate: int
    ignored: int
    localisation: int
    confusion: int
    background: int
    missed: int  # objects, not detections


KINDS = ErrorKinds._fields  # the last is of objects


def _best(boxes: Float[Tensor, "N 4"], others: Float[Tensor, "M 4"]) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"]]:
    """Return for each box its highest IoU with one of the others, and with which; 0 where there are none."""
    iou = box_iou(boxes.double(), others.double())  # in double, as both devkits: 0.7 is not a float32
    best, place = functional.pad(iou, (0, 1)).max(dim=1)  # a tie goes to the first, as in the devkits
    return best, place


def match(record: Record, label: int, *, iou_threshold: float = 0.5) -> Matched:
    """Judge the detections of one class in one picture as VOC does (see the module's header)."""
    by_score = record.scores.argsort(descending=True, stable=True)
    rows = by_score[record.labels[by_score] == label]
    boxes, objects = record.boxes[rows], record.truth[record.truth_labels == label]
    iou, place = _best(boxes, objects)  # (D,): the object that each overlaps most, taken or not
    near = iou >= iou_threshold
    claims = near[:, None] & (place[:, None] == torch.arange(len(objects)))  # (D, G)
    right = (claims & (claims.cumsum(dim=0) == 1)).any(dim=1)  # the first to claim an object gets it
    ignored = ~near & (covered_fraction(boxes, record.ignore) >= 0.5)
    return Matched(rows, iou, right, near & ~right, ignored)


def precision_recall(records: Sequence[Record], label: int, *, iou_threshold: float = 0.5) -> Curve:
    """Return the curve of one class over all pictures; equal scores keep the order of the pictures.

    Detections in ignored regions are dropped, they are not on the curve. Recall is NaN where there is no object.
    """
    scores, right, total = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)], 0
    for record in records:
        matched = match(record, label, iou_threshold=iou_threshold)
        scores.append(record.scores[matched.rows][~matched.ignored])
        right.append(matched.right[~matched.ignored])
        total += int((record.truth_labels == label).sum())
    order = torch.cat(scores).argsort(descending=True, stable=True)
    right = torch.cat(right)[order]
    found = right.cumsum(dim=0).double()  # true positives so far
    return Curve(
        scores=torch.cat(scores)[order],
        true_positive=right,
        precision=found / torch.arange(1, len(right) + 1),
        recall=found / total,
        total=total,
    )


def average_precision(curve: Curve, *, points: Literal["area", "11"] = "area") -> float:
    """Return the mean precision over recall, 0 to 1; NaN for a class without objects.

    A precision that rises again at higher recall is first carried back to the left (the envelope): a user may choose
    that point. ``area`` is the area under the envelope (VOC from 2010 on), ``11`` its mean at the recalls
    0, 0.1, ..., 1 (VOC 2007).

    Raises:
        ValueError: ``points`` is neither of the two.
    """
    if points not in ("area", "11"):
        raise ValueError(f'points must be "area" or "11", got {points!r}')
    if curve.total == 0:
        return float("nan")
    envelope = curve.precision.flip(0).cummax(dim=0).values.flip(0)
    if points == "area":
        steps = curve.recall.diff(prepend=curve.recall.new_zeros(1))
        return float((steps * envelope).sum())
    levels = torch.arange(11).double() / 10  # not multiples of 0.1, of which the third is above 3 / 10
    place = torch.searchsorted(curve.recall, levels)  # the first detection that reaches each level
    return float(functional.pad(envelope, (0, 1))[place].mean())  # 0 where none does


def voc_map(
    records: Sequence[Record], classes: int, *, iou_threshold: float = 0.5, points: Literal["area", "11"] = "area"
) -> dict[str, Any]:
    """Return the AP of the labels 1..classes as ``per_class`` and, over those that have objects, their ``mean``."""
    curves = [precision_recall(records, label, iou_threshold=iou_threshold) for label in range(1, classes + 1)]
    per_class = [average_precision(curve, points=points) for curve in curves]
    return {"per_class": per_class, "mean": float(torch.tensor(per_class, dtype=torch.float64).nanmean())}


def proposal_recall(
    proposals: Sequence[Float[Tensor, "_ 4"]],
    truths: Sequence[Float[Tensor, "_ 4"]],
    *,
    thresholds: Float[Tensor, " T"],
    count: int | None = None,
) -> Float[Tensor, " T"]:
    """Return which part of the objects some proposal overlaps by each threshold or more; NaN without objects.

    Args:
        proposals: for each picture its boxes (P, 4), best first.
        truths: for each picture its objects (G, 4). One proposal may serve two objects.
        thresholds: IoUs.
        count: look at the first ``count`` proposals of a picture only.
    """
    best = [torch.zeros(0)]
    for boxes, objects in zip(proposals, truths, strict=True):
        best.append(_best(objects, boxes[:count])[0])
    return (torch.cat(best) >= thresholds[:, None]).double().mean(dim=1)


def average_recall(
    proposals: Sequence[Float[Tensor, "_ 4"]], truths: Sequence[Float[Tensor, "_ 4"]], *, count: int | None = None
) -> float:
    """Return the mean recall over the IoU thresholds 0.5, 0.55, ..., 0.95 (as Hosang 2015 suggests)."""
    return float(proposal_recall(proposals, truths, thresholds=COCO_THRESHOLDS, count=count).mean())


def kind_of_each(record: Record, classes: int, *, iou_threshold: float = 0.5) -> Int[Tensor, " D"]:
    """Return the kind of each detection of a picture, its place in ``KINDS``, as `error_kinds` defines them.

    A score threshold changes none of them: a detection is judged by those with a higher score alone.
    """
    kinds = torch.full((len(record.boxes),), KINDS.index("background"))
    for label in range(1, classes + 1):
        matched = match(record, label, iou_threshold=iou_threshold)
        other_iou, _ = _best(record.boxes[matched.rows], record.truth[record.truth_labels != label])
        seen, confusion = matched.iou >= LOCALISATION_LOW, other_iou >= iou_threshold
        verdicts = (confusion, seen, matched.ignored, matched.duplicate, matched.right)  # a later one goes first
        kind = kinds[matched.rows]
        for name, holds in zip(("confusion", "localisation", "ignored", "duplicate", "correct"), verdicts, strict=True):
            kind = kind.masked_fill(holds, KINDS.index(name))
        kinds[matched.rows] = kind
    return kinds


def error_kinds(
    records: Sequence[Record], classes: int, *, iou_threshold: float = 0.5, score_threshold: float
) -> ErrorKinds:
    """Sort the detections of at least ``score_threshold`` by what is wrong with them; the first line that fits counts.

    ============  ===================================================================================
    correct       IoU >= t with its object, the first to claim it
    duplicate     IoU >= t with its object, which a better detection has claimed
    ignored       at least half in an ignored region
    localisation  0.1 <= IoU < t with an object of its class: seen, but badly boxed
    confusion     IoU >= t with an object of another class
    background    the rest: less than 0.1 with its class and less than t with another
    missed        an object that no correct detection stands for (so correct + missed = objects)
    ============  ===================================================================================

    Simplified from TIDE (Bolya 2020, "A general toolbox for identifying object detection errors"), which tells a sixth
    kind, "both" (0.1 <= IoU < t with another class; here background), puts confusion before duplicate, and counts an
    object as missed only when no localisation or confusion explains it.
    """
    kinds = [kind_of_each(record, classes, iou_threshold=iou_threshold) for record in records]
    shown = [kind[record.scores >= score_threshold] for kind, record in zip(kinds, records, strict=True)]
    counts = torch.cat([torch.zeros(0, dtype=torch.int64), *shown]).bincount(minlength=len(KINDS)).tolist()
    objects = sum(len(record.truth) for record in records)
    return ErrorKinds(*counts[:-1], missed=objects - counts[0])
