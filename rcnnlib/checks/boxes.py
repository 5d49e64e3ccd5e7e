"""Checks of lesson 01, boxes and IoU: `my_convert`, `my_iou`, `my_best_match`.

Each contract compares with `rcnnlib.ops`; below the cases stand the mistakes it knows by name.

Shapes:
    N, M  boxes
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.boxes import FORMATS, box_area, box_convert, box_intersection, box_iou
from rcnnlib.ops.matcher import POSITIVE, match_proposals


def _random_boxes(count: int, seed: int) -> Float[Tensor, "N 4"]:
    """Return boxes inside 100 x 100 pixels with sides from 5 to 50, drawn without touching the learner's numbers."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * 50
    return torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=random) * 45), dim=1)


def _boxes(*rows: tuple[float, ...]) -> Float[Tensor, "N 4"]:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


# --- my_convert -----------------------------------------------------------------------------------------------------


def _one_sided(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """The centre taken for the corner, both ways."""
    return box_convert(boxes, in_fmt.replace("cxcywh", "xywh"), out_fmt.replace("cxcywh", "xywh"))


def _from_centre(before: float, after: float) -> Callable[[Tensor, str, str], Tensor]:
    """Return a wrong conversion: the edges lie ``before`` and ``after`` sides from the centre, not half a side."""

    def wrong(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
        if in_fmt != "cxcywh":
            return box_convert(boxes, in_fmt, out_fmt)
        centre, size = boxes.split(2, dim=-1)
        return box_convert(torch.cat((centre - before * size, centre + after * size), dim=-1), "xyxy", out_fmt)

    return wrong


def _plus_one_size(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    result = box_convert(boxes, in_fmt, out_fmt)
    return result + torch.tensor([0.0, 0.0, 1.0, 1.0]) if in_fmt == "xyxy" != out_fmt else result


CONVERT_MISTAKES = (
    Mistake(
        "It answers with corners whatever `out_fmt` says. Use out_fmt too.",
        lambda boxes, in_fmt, out_fmt: box_convert(boxes, in_fmt, "xyxy"),
    ),
    Mistake(
        "It reads the boxes as corners whatever `in_fmt` says. Use in_fmt too.",
        lambda boxes, in_fmt, out_fmt: box_convert(boxes, "xyxy", out_fmt),
    ),
    Mistake("You gave the boxes back as they came. Did you use in_fmt and out_fmt?", lambda boxes, *_: boxes.clone()),
    Mistake("It goes the wrong way: did you mix up in_fmt and out_fmt?", lambda b, i, o: box_convert(b, o, i)),
    Mistake("You took the centre for the corner. From the centre to an edge it is half of the side.", _one_sided),
    Mistake("From the centre to an edge it is half of the side. Did you take the whole side?", _from_centre(1, 1)),
    Mistake("Did you overwrite x before you computed the right edge from it? Keep the old x.", _from_centre(0.5, 0)),
    Mistake("The width is x2 - x1. Did you add 1, as old code did?", _plus_one_size),
    Mistake(
        "A centre may lie between two pixels. Did you round, or divide with `//`?",
        lambda boxes, in_fmt, out_fmt: box_convert(boxes, in_fmt, out_fmt).floor(),
    ),
    Mistake("Did you swap x and y?", lambda b, i, o: box_convert(b, i, o)[..., [1, 0, 3, 2]]),
)

_SMALL = _boxes((20, 30, 60, 110))
_CONVERT_HINT = "Check it on paper: left 20, top 30, right 60, bottom 110 has width 40, height 80, centre (40, 70)."

check_convert = Contract(
    name="my_convert",
    wanted="a tensor (N, 4)",
    reference=box_convert,
    cases=(
        *(
            Case(f"from {i} to {o}, the box of the toy", (box_convert(_SMALL, "xyxy", i), i, o), _CONVERT_HINT)
            for i in FORMATS
            for o in FORMATS
        ),
        Case(
            "from xyxy to cxcywh, a box 5 pixels wide",
            (_boxes((0, 0, 5, 7)), "xyxy", "cxcywh"),
            "The centre lies at 2.5: keep the half.",
        ),
        Case(
            "no boxes at all, a tensor (0, 4)",
            (_boxes(), "xyxy", "xywh"),
            "Nothing in, nothing out: (0, 4). After torch.tensor([]) a .reshape(-1, 4) helps.",
        ),
        *(
            Case(f"seven random boxes from {i} to {o}", (box_convert(_random_boxes(7, seed), "xyxy", i), i, o), "")
            for seed, i, o in ((1, "xywh", "cxcywh"), (2, "cxcywh", "xyxy"), (3, "xyxy", "xywh"))
        ),
    ),
    mistakes=CONVERT_MISTAKES,
)


# --- my_iou ---------------------------------------------------------------------------------------------------------


def _clamped(least: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a wrong IoU: not the sides but the area of the overlap is clamped (at minus infinity: nothing is)."""

    def wrong(boxes1: Tensor, boxes2: Tensor) -> Tensor:
        low = torch.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
        shared = (torch.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:]) - low).prod(dim=-1).clamp(min=least)
        union = box_area(boxes1)[:, None] + box_area(boxes2)[None] - shared
        return shared / torch.where(union == 0, 1, union)

    return wrong


def _over(denominator: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a wrong IoU: the intersection over something that is not the union."""

    def wrong(boxes1: Tensor, boxes2: Tensor) -> Tensor:
        shared = box_intersection(boxes1, boxes2)
        below = denominator(box_area(boxes1)[:, None], box_area(boxes2)[None], shared).expand(shared.shape)
        return shared / torch.where(below == 0, 1, below)

    return wrong


def _hull(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """The box around both taken for the union."""
    low = torch.minimum(boxes1[:, None, :2], boxes2[None, :, :2])
    hull = (torch.maximum(boxes1[:, None, 2:], boxes2[None, :, 2:]) - low).prod(dim=-1)
    return box_intersection(boxes1, boxes2) / torch.where(hull == 0, 1, hull)


def _nan_if_empty(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    shared = box_intersection(boxes1, boxes2)
    return shared / (box_area(boxes1)[:, None] + box_area(boxes2)[None] - shared)


def _row_by_row(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    rows = min(len(boxes1), len(boxes2))
    return box_iou(boxes1[:rows], boxes2[:rows]).diagonal()


_PLUS_ONE = torch.tensor([0.0, 0.0, 1.0, 1.0])

IOU_MISTAKES = (
    Mistake("The width of the overlap came out negative. Did you forget to clamp it at 0?", _clamped(-torch.inf)),
    Mistake("Minus times minus is plus! Clamp the width and the height at 0 before you multiply.", _clamped(0)),
    Mistake(
        "The width is x2 - x1. Did you add 1, as old code did?",
        lambda boxes1, boxes2: box_iou(boxes1 + _PLUS_ONE, boxes2 + _PLUS_ONE),
    ),
    Mistake(
        "The two areas together count the overlap twice. Did you forget to take the intersection off once?",
        _over(lambda area1, area2, shared: area1 + area2),
    ),
    Mistake("You divide by the smaller area. IoU divides by the union.", _over(lambda a, b, s: torch.minimum(a, b))),
    Mistake("You divide by the area of the first box. IoU divides by the union.", _over(lambda a, b, s: a + 0 * b)),
    Mistake("You divide by the area of the second box. IoU divides by the union.", _over(lambda a, b, s: b + 0 * a)),
    Mistake("You divide by the box around both. The union is only what the two boxes cover.", _hull),
    Mistake("0 / 0 is NaN. Two empty boxes share nothing: let their IoU be 0.", _nan_if_empty),
    Mistake(
        "You read the boxes as x, y, width, height. Here they are corners: x1, y1, x2, y2.",
        lambda boxes1, boxes2: box_iou(box_convert(boxes1, "xywh", "xyxy"), box_convert(boxes2, "xywh", "xyxy")),
    ),
    Mistake("Rows belong to boxes1, columns to boxes2. Yours is turned over.", lambda a, b: box_iou(a, b).mT),
    Mistake("Compare every box of boxes1 with every box of boxes2, not row with row.", _row_by_row),
)

_SQUARE = _boxes((0, 0, 10, 10))

check_iou = Contract(
    name="my_iou",
    wanted="a tensor (N, M): one row for each box of boxes1, one column for each box of boxes2",
    reference=box_iou,
    cases=(
        Case(
            "two squares of 10 pixels, one 5 pixels to the right",
            (_SQUARE, _boxes((5, 0, 15, 10))),
            "Intersection 5 x 10, union 150.",
        ),
        Case("a box and itself", (_SQUARE, _SQUARE), "They share everything: 1."),
        Case("a square of 5 pixels inside one of 10", (_SQUARE, _boxes((2, 2, 7, 7))), "Intersection 25, union 100."),
        Case(
            "two boxes side by side, 5 pixels apart, share nothing",
            (_SQUARE, _boxes((15, 0, 25, 10))),
            "Did you forget to clamp the width at 0?",
        ),
        Case(
            "two boxes apart in x and in y share nothing",
            (_SQUARE, _boxes((14, 13, 20, 20))),
            "Clamp the width and the height at 0 before you multiply.",
        ),
        Case(
            "two boxes that only touch share no area", (_SQUARE, _boxes((10, 0, 20, 10))), "The width of a line is 0."
        ),
        Case("one box with area and one without", (_SQUARE, _boxes((3, 3, 3, 3))), "An empty box shares nothing."),
        Case(
            "two boxes without area",
            (_boxes((3, 3, 3, 3)), _boxes((3, 3, 3, 3))),
            "Their union is 0: divide only where it is not.",
        ),
        Case(
            "two boxes against three",
            (_boxes((0, 0, 10, 10), (20, 0, 30, 10)), _boxes((0, 0, 10, 5), (5, 0, 25, 10), (22, 2, 40, 8))),
            "Every box of boxes1 meets every box of boxes2.",
        ),
        Case("no boxes in boxes1: a table (0, 3)", (_boxes(), _random_boxes(3, 4)), "No rows, three columns."),
        Case("random boxes, 6 against 9", (_random_boxes(6, 5), _random_boxes(9, 6)), "Compare one pair by hand."),
    ),
    mistakes=IOU_MISTAKES,
)


# --- my_best_match --------------------------------------------------------------------------------------------------


def best_match(iou: Float[Tensor, "N M"], threshold: float) -> Int[Tensor, " N"]:
    """Return for each proposal the ground truth that overlaps it most, or -1 where that IoU is below the threshold."""
    everything = torch.ones(iou.shape[1], dtype=torch.bool, device=iou.device)
    match = match_proposals(iou, everything, positive=threshold, background_low=0)
    return torch.where(match.status == POSITIVE, match.matches, -1)


def _match_last(iou: Tensor, threshold: float) -> Tensor:
    best, last = iou.flip(-1).max(dim=-1)
    return torch.where(best >= threshold, iou.shape[1] - 1 - last, -1)


def _match_first(iou: Tensor, threshold: float) -> Tensor:
    passes = iou >= threshold
    return torch.where(passes.any(dim=-1), passes.int().argmax(dim=-1), -1)


_DOWN = "You searched down the columns. A proposal is a row: the best of its row is asked for."

MATCH_MISTAKES = (
    Mistake(
        "An IoU equal to the threshold counts: use >=, as the Fast R-CNN paper says “at least 0.5”.",
        lambda iou, t: torch.where(iou.amax(-1) > t, iou.argmax(-1), -1),
    ),
    Mistake(_DOWN, lambda iou, t: torch.where(iou.amax(0) >= t, iou.argmax(0), -1)),
    Mistake(_DOWN, lambda iou, threshold: iou.argmax(dim=0)),
    Mistake(
        "Where even the best IoU is below the threshold, the answer is -1. Did you forget the threshold?",
        lambda iou, threshold: iou.argmax(dim=-1),
    ),
    Mistake(
        "You wrote 0 for “none”, but 0 is the first ground truth. Write -1.",
        lambda iou, t: best_match(iou, t).clamp(min=0),
    ),
    Mistake("You gave the best IoU. Asked for is its place in the row, a whole number.", lambda iou, t: iou.amax(-1)),
    Mistake("You took the first IoU that passes. Asked for is the largest of the row.", _match_first),
    Mistake("If two are equally good, the first counts: compare with > when you look for the best.", _match_last),
)


_LOOK = "Print one row and look for its largest number."

check_best_match = Contract(
    name="my_best_match",
    wanted="a tensor (N,) of whole numbers: for each row a column, or -1",
    reference=best_match,
    cases=(
        *(
            Case(what, (torch.tensor(rows), 0.5), hint)
            for what, rows, hint in (
                ("two proposals, three ground truths, threshold 0.5", [[0.1, 0.8, 0.3], [0.6, 0.2, 0.0]], _LOOK),
                ("an IoU of exactly the threshold", [[0.0, 0.5], [0.25, 0.75]], "Equality counts as a match."),
                ("a proposal that reaches 0.4 where 0.5 is asked for", [[0.4, 0.1], [0.0, 0.0]], "Then it is -1."),
                ("two ground truths above the threshold", [[0.55, 0.7, 0.6], [0.6, 0.5, 0.9]], "The largest counts."),
                ("two ground truths equally good", [[0.2, 0.625, 0.625]], "Let the first one win."),
            )
        ),
        Case(
            "no proposals: a tensor (0,)",
            (torch.zeros(0, 3), 0.5),
            "No rows, no answers. torch.tensor([]) has a float type: add dtype=torch.int64.",
        ),
        Case(
            "random boxes, 12 proposals and 4 ground truths, threshold 0.3",
            (box_iou(_random_boxes(12, 7), _random_boxes(4, 8)), 0.3),
            _LOOK,
        ),
    ),
    mistakes=MATCH_MISTAKES,
)
