"""Checks of lesson 08, from scores to detections: `my_nms`, `my_precision_recall`, `my_average_precision`.

Shapes:
    N  boxes    K  survivors    D  detections, by falling score
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.engine.metrics import Curve, average_precision
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import nms

# --- my_nms ---------------------------------------------------------------------------------------------------------


def _boxes(*lefts: float, height: float = 10) -> Float[Tensor, "N 4"]:
    """Return boxes 10 pixels wide with the given left edges."""
    return torch.tensor([[left, 0, left + 10, height] for left in lefts], dtype=torch.float32).reshape(-1, 4)


def _random(count: int, seed: int) -> tuple[Float[Tensor, "N 4"], Float[Tensor, " N"]]:
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * 40
    boxes = torch.cat((corner, corner + 15 + torch.rand(count, 2, generator=random) * 15), dim=1)
    return boxes, torch.rand(count, generator=random)


def _order(scores: Tensor) -> Tensor:
    return scores.argsort(descending=True, stable=True)


def _at_least(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """An IoU equal to the threshold strikes."""
    waiting, kept = _order(scores).tolist(), []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [row for row in waiting if box_iou(boxes[best : best + 1], boxes[row : row + 1]).item() < threshold]
    return torch.tensor(kept, dtype=torch.int64)


def _dead_strike_too(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """A box goes if any better one overlaps it, struck or not."""
    order = _order(scores)
    strikes = (box_iou(boxes[order], boxes[order]) > threshold).triu(diagonal=1)
    return order[~strikes.any(dim=0)]


def _one_round(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Only the very best box strikes."""
    order = _order(scores)
    iou = box_iou(boxes[order[:1]], boxes[order])
    return order[(iou <= threshold).any(dim=0) | (torch.arange(len(order)) == 0)] if len(order) else order


def _neighbour(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Each box is compared with the last one kept only."""
    kept: list[int] = []
    for row in _order(scores).tolist():
        if not kept or box_iou(boxes[kept[-1]][None], boxes[row][None]).item() <= threshold:
            kept.append(row)
    return torch.tensor(kept, dtype=torch.int64)


def _mask(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    mask = torch.zeros(len(boxes), dtype=torch.int64)
    mask[nms(boxes, scores, threshold)] = 1
    return mask


def _far_ones_go(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """The comparison is the wrong way round."""
    waiting, kept = _order(scores).tolist(), []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [row for row in waiting if box_iou(boxes[best : best + 1], boxes[row : row + 1]).item() > threshold]
    return torch.tensor(kept, dtype=torch.int64)


NMS_MISTAKES = (
    Mistake(
        "The worst box won. Sort with the highest score first: `scores.argsort(descending=True)`.",
        lambda boxes, scores, threshold: nms(boxes, -scores, threshold),
    ),
    Mistake("An IoU equal to the threshold stays: strike only what is above it (>, not >=).", _at_least),
    Mistake("A box that is struck strikes nobody. Compare only with the boxes that you keep.", _dead_strike_too),
    Mistake("Only the very best box strikes in yours. Go on: the best of the rest is the next winner.", _one_round),
    Mistake("Compare with every box that you have kept, not only with the last one.", _neighbour),
    Mistake("You strike the boxes that lie apart. Strike those whose IoU is above the threshold.", _far_ones_go),
    Mistake(
        "The right boxes, but in the order of the input. Asked for is the best first.",
        lambda boxes, scores, threshold: nms(boxes, scores, threshold).sort().values,
    ),
    Mistake(
        "These are places in your sorted list. Asked for are rows of `boxes`: use `order[place]`.",
        lambda boxes, scores, threshold: _order(scores).argsort()[nms(boxes, scores, threshold)],
    ),
    Mistake("You gave a mask. Asked for are the rows of the boxes that are kept.", _mask),
    Mistake("You gave boxes. Asked for are their rows, whole numbers.", lambda b, s, t: b[nms(b, s, t)]),
    Mistake("You gave scores. Asked for are rows of `boxes`, whole numbers.", lambda b, s, t: s[nms(b, s, t)]),
    Mistake("Nothing was struck. Did you use the threshold?", lambda boxes, scores, threshold: _order(scores)),
)

check_nms = Contract(
    name="my_nms",
    wanted="a tensor (K,) of whole numbers: the rows of the boxes that are kept, best first",
    reference=nms,
    cases=(
        Case(
            "two boxes with IoU 9/11 and one far away, threshold 0.5",
            (_boxes(0, 50, 1), torch.tensor([0.7, 0.6, 0.9]), 0.5),
            "Row 2 wins and strikes row 0. Row 1 is far away.",
        ),
        Case(
            "a chain: the first overlaps the second, the second the third, but not the first the third",
            (_boxes(0, 4, 8), torch.tensor([0.9, 0.8, 0.7]), 0.3),
            "Row 0 strikes row 1. Then row 1 is gone, and row 2 stays.",
        ),
        Case(
            "two pairs far apart",
            (_boxes(0, 1, 50, 51), torch.tensor([0.6, 0.9, 0.7, 0.8]), 0.5),
            "Two rounds: each winner strikes its neighbour.",
        ),
        Case(
            "an IoU of exactly the threshold, 0.5",
            (torch.cat((_boxes(0), _boxes(0, height=5))), torch.tensor([0.5, 0.9]), 0.5),
            "Equality does not strike.",
        ),
        Case(
            "no boxes at all: a tensor (0,)",
            (_boxes(), torch.zeros(0), 0.5),
            "torch.tensor([]) has a float type: add dtype=torch.int64.",
        ),
        Case("a single box", (_boxes(3), torch.tensor([0.2]), 0.5), "It stays: nobody is better."),
        *(
            Case(f"{count} random boxes, threshold {threshold}", (*_random(count, seed), threshold), "")
            for count, seed, threshold in ((10, 1, 0.3), (16, 2, 0.5), (16, 3, 0.7))
        ),
    ),
    mistakes=NMS_MISTAKES,
)


# --- my_precision_recall --------------------------------------------------------------------------------------------


def precision_and_recall(right: Bool[Tensor, " D"], objects: int) -> Float[Tensor, "2 D"]:
    """Return precision (row 0) and recall (row 1) after each detection; ``right`` is sorted by falling score."""
    found = right.cumsum(dim=0).float()
    return torch.stack((found / torch.arange(1, len(right) + 1), found / objects))


def _rates(above: Tensor, count: Tensor | float, objects: float) -> Tensor:
    return torch.stack((above / count, above / objects))


def _so_far(right: Tensor) -> Tensor:
    return torch.arange(1, len(right) + 1)


PRECISION_RECALL_MISTAKES = (
    Mistake("Row 0 is precision, row 1 is recall. Yours are swapped.", lambda r, n: precision_and_recall(r, n).flip(0)),
    Mistake(
        "Divide the precision by the detections so far, not by all of them.",
        lambda r, n: _rates(r.cumsum(0).float(), max(len(r), 1), n),
    ),
    Mistake(
        "Recall asks how many of the objects are found: divide by `objects`, not by the detections.",
        lambda r, n: _rates(r.cumsum(0).float(), _so_far(r), max(len(r), 1)),
    ),
    Mistake(
        "You divide the recall by the objects that are found at the end. Missed objects count too: use `objects`.",
        lambda r, n: _rates(r.cumsum(0).float(), _so_far(r), max(int(r.sum()), 1)),
    ),
    Mistake("Both count *so far*. Did you forget the running sum, `cumsum`?", lambda r, n: _rates(r.float(), 1, n)),
    Mistake(
        "After the first detection one has been shown, not none: count from 1.",
        lambda r, n: _rates(r.cumsum(0).float(), _so_far(r) - 1, n),
    ),
    Mistake("You counted the wrong ones.", lambda r, n: precision_and_recall(~r, n)),
    Mistake("One column for each detection, (2, D). Yours is turned over.", lambda r, n: precision_and_recall(r, n).mT),
)


def _verdicts(count: int) -> list[bool]:
    return (torch.rand(count, generator=torch.Generator().manual_seed(count)) > 0.4).tolist()


_TOY = torch.tensor([True, False, True, True, False])

check_precision_recall = Contract(
    name="my_precision_recall",
    wanted="a tensor (2, D): precision in row 0, recall in row 1, a column for each detection",
    reference=precision_and_recall,
    cases=(
        Case("the five detections of the toy, three objects", (_TOY, 3), "Fill in the table on paper."),
        Case("three detections, two right, of five objects", (torch.tensor([False, True, True]), 5), ""),
        Case("one detection, wrong", (torch.tensor([False]), 2), "0 of 1, and 0 of 2."),
        Case("no detections: a tensor (2, 0)", (torch.zeros(0, dtype=torch.bool), 4), "Nothing shown, no columns."),
        Case("forty random detections, 30 objects", (torch.tensor(_verdicts(40)), 30), ""),
    ),
    mistakes=PRECISION_RECALL_MISTAKES,
)


# --- my_average_precision -------------------------------------------------------------------------------------------


def area_under_envelope(precision: Float[Tensor, " D"], recall: Float[Tensor, " D"]) -> Float[Tensor, ""]:
    """Return the area under the precision that is carried back to the left, as VOC counts from 2010 on."""
    curve = Curve(-recall, recall > 0, precision, recall, total=1)  # the area asks for precision and recall only
    return torch.tensor(average_precision(curve))


def _envelope(precision: Tensor) -> Tensor:
    return precision.flip(0).cummax(dim=0).values.flip(0)


def _steps(recall: Tensor) -> Tensor:
    return recall.diff(prepend=recall.new_zeros(1))


def _eleven(precision: Tensor, recall: Tensor) -> Tensor:
    curve = Curve(-recall, recall > 0, precision, recall, total=1)
    return torch.tensor(average_precision(curve, points="11"))


def _one_by_one(precision: Tensor, recall: Tensor) -> Tensor:
    """The mean precision at the detections that are right, over those found (not over all objects)."""
    steps = _steps(recall)
    return (precision * (steps > 0)).sum() / (steps > 0).sum().clamp(min=1)


def _slanted(precision: Tensor, recall: Tensor) -> Tensor:
    """The area under straight lines between the points, the first of them level."""
    start = recall.new_zeros(min(len(recall), 1))
    return torch.trapezoid(torch.cat((precision[:1], precision)), torch.cat((start, recall)))


AVERAGE_PRECISION_MISTAKES = (
    Mistake(
        "The heights must come from the envelope: at each point the best precision there *or further right*.",
        lambda precision, recall: (_steps(recall) * precision).sum(),
    ),
    Mistake(
        "Your envelope looks to the left. A user can go on to a higher recall, so look to the right.",
        lambda precision, recall: (_steps(recall) * precision.cummax(0).values).sum() if len(recall) else recall.sum(),
    ),
    Mistake(
        "That is the mean height of the points. Each must be as wide as the recall grows there.",
        lambda precision, recall: _envelope(precision).mean() if len(recall) else recall.sum(),
    ),
    Mistake(
        "That is the mean of the precision. Each height must be as wide as the recall grows there.",
        lambda precision, recall: precision.mean() if len(recall) else recall.sum(),
    ),
    Mistake(
        "The first step begins at recall 0. Did you leave it out?",
        lambda precision, recall: (recall.diff() * _envelope(precision)[1:]).sum(),
    ),
    Mistake("You joined the points by slanted lines (the trapezoid rule). The envelope is a staircase.", _slanted),
    Mistake("That is the 11-point mean. Asked for is the area under the envelope.", _eleven),
    Mistake("The recall of objects that are never found counts with precision 0. Do not divide it away.", _one_by_one),
)


def _case(what: str, right: list[bool], objects: int, hint: str) -> Case:
    """Return a case from the verdicts of a ranking."""
    rates = precision_and_recall(torch.tensor(right, dtype=torch.bool), objects)
    return Case(what, (rates[0], rates[1]), hint)


check_average_precision = Contract(
    name="my_average_precision",
    wanted="a tensor with one number, shape ()",
    reference=area_under_envelope,
    cases=(
        _case("the toy: ✓ ✗ ✓ ✓ ✗ of three objects", _TOY.tolist(), 3, "1/3 of width at 1, then 2/3 at 3/4."),
        _case("✗ ✓ ✓ of two objects: the precision rises", [False, True, True], 2, "You can have 2/3 at every recall."),
        _case("✓ ✗ of four objects: three are never found", [True, False], 4, "A quarter of the width at 1."),
        _case("✗ ✗: nothing found", [False, False], 2, "No width at all: 0."),
        _case("no detections", [], 2, "Nothing is found: 0."),
        *(_case(f"{count} random detections", _verdicts(count), count, "") for count in (15, 60)),
    ),
    mistakes=AVERAGE_PRECISION_MISTAKES,
)
