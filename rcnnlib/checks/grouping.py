"""Checks of lesson 02, Selective Search: `my_fill`, `my_merge`, `my_recall`.

The first two are compared with `rcnnlib.ops.selective_search`, the third with `rcnnlib.engine.metrics` (in the tests);
below the cases stand the mistakes that the checks know by name.

Shapes:
    N  pairs of regions      R  regions      C  bins of a histogram      D = 5 + C: size, box, histogram
    G  objects               P  proposals, best first
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.selective_search import Regions, fill_similarity, merge_regions


def _boxes(*rows: tuple[float, ...]) -> Float[Tensor, "N 4"]:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _random_regions(count: int, seed: int) -> tuple[Float[Tensor, "N 4"], Float[Tensor, " N"]]:
    """Return boxes of whole pixels inside 40 x 40, and how many pixels of each its region covers."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 25, (count, 2), generator=random)
    sides = torch.randint(2, 15, (count, 2), generator=random)
    share = 0.3 + 0.7 * torch.rand(count, generator=random)
    return torch.cat((corner, corner + sides), dim=1).float(), (sides.prod(dim=1) * share).round()


# --- my_fill --------------------------------------------------------------------------------------------------------


def pair_fill(
    boxes_a: Float[Tensor, "N 4"],
    sizes_a: Float[Tensor, " N"],
    boxes_b: Float[Tensor, "N 4"],
    sizes_b: Float[Tensor, " N"],
    area: float,
) -> Float[Tensor, " N"]:
    """Return the fill similarity of each pair: 1 - (area of the common box - size_a - size_b) / area."""
    sizes, boxes = torch.cat((sizes_a, sizes_b)).double().numpy(), torch.cat((boxes_a, boxes_b)).double().numpy()
    none = np.zeros((len(sizes), 0))
    regions = Regions(sizes, boxes, none, none, area, np.zeros((0, 2), dtype=np.int64))
    first = np.arange(len(sizes_a))
    return torch.from_numpy(np.asarray(fill_similarity(regions, first, first + len(first)))).to(sizes_a)


def _common(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Area of the box around both."""
    low, high = torch.minimum(boxes_a[:, :2], boxes_b[:, :2]), torch.maximum(boxes_a[:, 2:], boxes_b[:, 2:])
    return (high - low).prod(dim=1)


def _shared(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    low, high = torch.maximum(boxes_a[:, :2], boxes_b[:, :2]), torch.minimum(boxes_a[:, 2:], boxes_b[:, 2:])
    return (high - low).clamp(min=0).prod(dim=1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


FILL_MISTAKES = (
    Mistake(
        "You divide by the common box. The paper divides by the area of the whole picture.",
        lambda a, m, b, n, area: 1 - (_common(a, b) - m - n) / _common(a, b),
    ),
    Mistake(
        "That is the part of the picture that stays empty. Alike means close to 1: take it from 1.",
        lambda a, m, b, n, area: (_common(a, b) - m - n) / area,
    ),
    Mistake(
        "You took the areas of the two boxes. A region covers only `sizes` pixels of its box.",
        lambda a, m, b, n, area: 1 - (_common(a, b) - _area(a) - _area(b)) / area,
    ),
    Mistake(
        "You took the overlap of the two boxes. Asked for is the box around both: min of the left and upper edges, "
        "max of the right and lower ones.",
        lambda a, m, b, n, area: 1 - (_shared(a, b) - m - n) / area,
    ),
    Mistake(
        "You took off one size only. Both regions fill the common box.",
        lambda a, m, b, n, area: 1 - (_common(a, b) - m) / area,
    ),
    Mistake(
        "You forgot to take the sizes off: asked for is what stays empty of the common box.",
        lambda a, m, b, n, area: 1 - _common(a, b) / area,
    ),
    Mistake(
        "The width is x2 - x1. Did you add 1, as old code did?",
        lambda a, m, b, n, area: 1 - (_common(a, b + torch.tensor([0.0, 0, 1, 1])) - m - n) / area,
    ),
)
_FILL_HINT = "Draw the two regions and the box around both on squared paper, and count the empty squares."
_LOW, _NOTCH, _FAR = (0, 0, 4, 4), (2, 0, 4, 2), (4, 4, 6, 6)

check_fill = Contract(
    name="my_fill",
    wanted="a tensor (N,), one number for each pair",
    reference=pair_fill,
    cases=(
        Case(
            "an L of 12 pixels and the square of 4 in its notch, on 36 pixels",
            (_boxes(_LOW), torch.tensor([12.0]), _boxes(_NOTCH), torch.tensor([4.0]), 36.0),
            "The common box has 4 x 4 = 16 pixels, and 12 + 4 are filled: 1.",
        ),
        Case(
            "the same L and a square of 4 at its corner, on 36 pixels",
            (_boxes(_LOW), torch.tensor([12.0]), _boxes(_FAR), torch.tensor([4.0]), 36.0),
            "The common box has 6 x 6 = 36 pixels, and 12 + 4 are filled: 1 - 20 / 36.",
        ),
        Case(
            "both pairs at once",
            (_boxes(_LOW, _LOW), torch.tensor([12.0, 12]), _boxes(_NOTCH, _FAR), torch.tensor([4.0, 4]), 36.0),
            "Work with whole columns: boxes[:, 0] are all left edges.",
        ),
        Case(
            "no pairs: a tensor (0,)",
            (_boxes(), torch.zeros(0), _boxes(), torch.zeros(0), 36.0),
            "Nothing in, nothing out. A loop over no pairs should still give a tensor (0,).",
        ),
        Case(
            "eight random pairs on 1600 pixels",
            (*_random_regions(8, 1), *_random_regions(8, 2), 1600.0),
            _FILL_HINT,
        ),
    ),
    mistakes=FILL_MISTAKES,
)


# --- my_merge -------------------------------------------------------------------------------------------------------


def merge_rows(rows: Float[Tensor, "R D"], a: int, b: int) -> Float[Tensor, " D"]:
    """Return the row (size, box, histogram) of two regions together, from their rows alone."""
    values = torch.cat((rows, rows[:1])).double().numpy().copy()  # the last row is room for the new region
    nothing = np.zeros((len(values), 0))
    regions = Regions(values[:, 0], values[:, 1:5], values[:, 5:], nothing, 1.0, np.zeros((0, 2), dtype=np.int64))
    merge_regions(regions, a, b, len(rows))
    return torch.from_numpy(values[-1]).to(rows)


def _merged(
    *,
    histogram: Callable[..., Tensor] = lambda x, y, m, n: (m * x + n * y) / (m + n),
    corners: Callable[..., Tensor] = lambda x, y: torch.cat((torch.minimum(x[:2], y[:2]), torch.maximum(x[2:], y[2:]))),
    size: Callable[..., Tensor] = lambda m, n: m + n,
) -> Callable[[Tensor, int, int], Tensor]:
    """Return a merge in which one of its three parts is done in another way."""

    def merged(rows: Tensor, a: int, b: int) -> Tensor:
        one, two = rows[a], rows[b]
        box = corners(one[1:5], two[1:5])
        return torch.cat((size(one[:1], two[:1]), box, histogram(one[5:], two[5:], one[0], two[0])))

    return merged


def _box_as_size(rows: Tensor, a: int, b: int) -> Tensor:
    right = merge_rows(rows, a, b)
    return torch.cat(((right[3:4] - right[1:2]) * (right[4:5] - right[2:3]), right[1:]))


MERGE_MISTAKES = (
    Mistake(
        "The plain mean of the histograms lets ten pixels count as much as a thousand. Weight each by its size.",
        _merged(histogram=lambda x, y, m, n: (x + y) / 2),
    ),
    Mistake(
        "You added the histograms. They must still sum to 1: take the mean, weighted by size.",
        _merged(histogram=lambda x, y, m, n: x + y),
    ),
    Mistake(
        "You mixed up the weights: the histogram of a counts size_a times.",
        _merged(histogram=lambda x, y, m, n: (n * x + m * y) / (m + n)),
    ),
    Mistake(
        "You weighted the histograms by size, but did not divide by both sizes together. They must still sum to 1.",
        _merged(histogram=lambda x, y, m, n: m * x + n * y),
    ),
    Mistake(
        "You took what the histograms share (the minimum). That is their similarity; asked for is the mean by size.",
        _merged(histogram=lambda x, y, m, n: torch.minimum(x, y)),
    ),
    Mistake("You kept the histogram of the first region only.", _merged(histogram=lambda x, y, m, n: x)),
    Mistake(
        "You took the overlap of the boxes. The new box holds both regions: min of x1 and y1, max of x2 and y2.",
        _merged(corners=lambda x, y: torch.cat((torch.maximum(x[:2], y[:2]), torch.minimum(x[2:], y[2:])))),
    ),
    Mistake("You took the minimum of all four edges. For x2 and y2 it is the maximum.", _merged(corners=torch.minimum)),
    Mistake("You took the mean of the boxes. The new box must hold both.", _merged(corners=lambda x, y: (x + y) / 2)),
    Mistake("You kept the box of the first region only.", _merged(corners=lambda x, y: x)),
    Mistake("The sizes are pixels: the new region has both of them. Add the sizes.", _merged(size=torch.maximum)),
    Mistake("The size counts the region's pixels, not those of its box. Add the two sizes.", _box_as_size),
    Mistake(
        "You treated all numbers alike: a mean by size is right for the histogram, but sizes are added, and the box "
        "must hold both.",
        lambda rows, a, b: (rows[a, 0] * rows[a] + rows[b, 0] * rows[b]) / (rows[a, 0] + rows[b, 0]),
    ),
)
_TOY = torch.tensor([[1.0, 0, 0, 1, 1, 1, 0], [3, 1, 0, 4, 1, 0, 1], [4, 0, 1, 4, 2, 0.5, 0.5]])


def _random_rows(count: int, seed: int) -> Float[Tensor, "R D"]:
    """Return regions with histograms of six bins."""
    boxes, sizes = _random_regions(count, seed)
    random = torch.Generator().manual_seed(seed + 100)
    histogram = torch.rand(count, 6, generator=random)
    return torch.cat((sizes[:, None], boxes, histogram / histogram.sum(dim=1, keepdim=True)), dim=1)


check_merge = Contract(
    name="my_merge",
    wanted="a tensor (D,): size, x1, y1, x2, y2, then the histogram",
    reference=merge_rows,
    cases=(
        Case(
            "the toy: a region of 1 pixel and one of 3",
            (_TOY, 0, 1),
            "Size 4, box (0, 0, 4, 1), histogram (1 x (1, 0) + 3 x (0, 1)) / 4 = (0.25, 0.75).",
        ),
        Case("the toy, the last two regions", (_TOY, 1, 2), "Size 7, box (0, 0, 4, 2)."),
        Case("the toy, the larger region first", (_TOY, 1, 0), "It must not matter which of the two comes first."),
        Case("five random regions, histograms of six bins", (_random_rows(5, 3), 1, 4), "The number of bins may vary."),
        Case("five random regions, two others", (_random_rows(5, 4), 3, 0), "Take rows a and b, whatever they are."),
    ),
    mistakes=MERGE_MISTAKES,
)


# --- my_recall ------------------------------------------------------------------------------------------------------


def recall_at(iou: Float[Tensor, "G P"], count: int, threshold: float) -> Float[Tensor, ""]:
    """Return which part of the objects (rows) the first ``count`` proposals reach with IoU ``threshold`` or more."""
    return (iou[:, :count] >= threshold).any(dim=1).float().mean()


_COUNT_OBJECTS = "An object counts once, however many proposals find it: ask each row whether any of it passes."
RECALL_MISTAKES = (
    Mistake(
        "An IoU equal to the threshold counts: use >=.",
        lambda iou, count, t: (iou[:, :count] > t).any(dim=1).float().mean(),
    ),
    Mistake(
        "You counted proposals: which part of them is right. Recall asks which part of the objects is found (rows).",
        lambda iou, count, t: (iou[:, :count] >= t).any(dim=0).float().mean(),
    ),
    Mistake(_COUNT_OBJECTS, lambda iou, count, t: (iou[:, :count] >= t).float().mean()),
    Mistake(_COUNT_OBJECTS, lambda iou, count, t: (iou[:, :count] >= t).float().sum() / len(iou)),
    Mistake("Look at the first `count` proposals only.", lambda iou, count, t: recall_at(iou, iou.shape[1], t)),
    Mistake(
        "You looked at the last `count` proposals. The best come first.",
        lambda iou, count, t: recall_at(iou.flip(1), count, t),
    ),
    Mistake(
        "You looked at one proposal, the one at place `count`. Look at all up to there.",
        lambda iou, count, t: (iou[:, min(count, iou.shape[1]) - 1] >= t).float().mean(),
    ),
    Mistake(
        "You gave how many objects are found. Asked for is which part of them: divide by the number of rows.",
        lambda iou, count, t: (iou[:, :count] >= t).any(dim=1).float().sum(),
    ),
    Mistake(
        "You divided by the number of proposals. Divide by the number of objects (rows).",
        lambda iou, count, t: (iou[:, :count] >= t).any(dim=1).float().sum() / count,
    ),
    Mistake(
        "You gave the mean of the best IoUs. First compare each with the threshold, then take the mean.",
        lambda iou, count, t: iou[:, :count].amax(dim=1).mean(),
    ),
)
_FOUND = torch.tensor([[0.1, 0.5, 0.8, 0.9], [0.3, 0.2, 0.1, 0.6], [0.0, 0.1, 0.75, 0.0]])


def _random_ious(objects: int, proposals: int, seed: int) -> Float[Tensor, "G P"]:
    return torch.rand(objects, proposals, generator=torch.Generator().manual_seed(seed))


check_recall = Contract(
    name="my_recall",
    wanted="a tensor with one number, from 0 to 1",
    reference=recall_at,
    cases=(
        Case("3 objects, the first 3 of 4 proposals, threshold 0.7", (_FOUND, 3, 0.7), "Objects 0 and 2 are found."),
        Case("the first 2 proposals, threshold 0.5", (_FOUND, 2, 0.5), "Object 0 has an IoU of exactly 0.5: found."),
        Case("all 4 proposals, threshold 0.55", (_FOUND, 4, 0.55), "Every object is found: 1."),
        Case("a count of 10, where there are only 4", (_FOUND, 10, 0.85), "Then look at all four."),
        Case("random IoUs: 7 objects, the first 3 of 20 proposals", (_random_ious(7, 20, 5), 3, 0.6), _COUNT_OBJECTS),
        Case("random IoUs: 9 objects, the first 6 of 30 proposals", (_random_ious(9, 30, 6), 6, 0.8), _COUNT_OBJECTS),
    ),
    mistakes=RECALL_MISTAKES,
)
