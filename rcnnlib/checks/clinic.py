"""Checks of lesson 17: the probe `my_offset`, and three mended pieces: `my_read_rows`, `my_flat_scores`,
`my_head_boxes`.

Shapes:
    D  detections    G  objects    N  rows of an annotation file, or proposals of one class    K  boxes that come out
    B  pictures    k  anchors a cell    h, w  rows and columns of the map    A = h w k  anchors
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.box_coder import HEAD_STD, RPN_STD, Std, decode, encode
from rcnnlib.ops.boxes import box_iou, clip_boxes
from rcnnlib.ops.nms import nms

NEAR = 0.1  # a detection that overlaps its object less than this does not stand for it

# --- my_offset: a probe ----------------------------------------------------------------------------------------------


def offset(boxes: Float[Tensor, "D 4"], truth: Float[Tensor, "G 4"]) -> Float[Tensor, " 2"]:
    """Return by how much (x, y) the centres of boxes lie off their objects: the median over boxes of IoU >= 0.1."""
    iou, row = box_iou(boxes, truth).max(dim=1)
    difference = (boxes - truth[row])[iou >= NEAR]
    return ((difference[:, :2] + difference[:, 2:]) / 2).median(dim=0).values


def _offset(*, sign: int = 1, near: bool = True, first: bool = False, mean: bool = False, corner: bool = False):
    """Return `offset` with something wrong."""

    def function(boxes, truth):
        iou, row = box_iou(boxes, truth).max(dim=1)
        row = torch.zeros_like(row) if first else row
        difference = sign * (boxes - truth[row])
        difference = difference[iou >= NEAR] if near else difference
        moved = difference[:, :2] if corner else (difference[:, :2] + difference[:, 2:]) / 2
        return moved.mean(dim=0) if mean else moved.median(dim=0).values

    return function


OFFSET_MISTAKES = (
    Mistake("The sign is turned round: box minus object. A box too far right gives x above 0.", _offset(sign=-1)),
    Mistake("Leave boxes out whose best IoU is below 0.1: they stand for no object.", _offset(near=False)),
    Mistake("Each box has its own object, the one that it overlaps most. You took one for all.", _offset(first=True)),
    Mistake("You took the mean: one wild box pulls it away. Take the median of x and of y.", _offset(mean=True)),
    Mistake(
        "You compared corners. A box that is too large, but in place, has offset 0: compare centres.",
        _offset(corner=True),
    ),
    Mistake("x comes first, then y.", lambda boxes, truth: offset(boxes, truth).flip(0)),
)

_NOWHERE = torch.tensor([[92.0, 82, 100, 95], [40, 85, 60, 100], [95, 5, 110, 20]])
_SHIFT = torch.tensor([-4.0, 2, -4, 2])
_OBJECTS = torch.tensor([[10.0, 10, 30, 30], [50, 40, 90, 80]])

check_offset = Contract(
    name="my_offset",
    wanted="a tensor (2,), the offset in x and in y",
    reference=offset,
    cases=(
        Case("three boxes, 4 to the left and 2 down", (_OBJECTS[[0, 1, 1]] + _SHIFT, _OBJECTS),
             "Each box minus its object gives (-4, 2)."),
        Case("boxes in place, but 4 pixels wider on each side", (_OBJECTS + torch.tensor([-4.0, -4, 4, 4]), _OBJECTS),
             "The centres agree: (0, 0)."),
        Case(
            "two shifted boxes, and three that lie on no object",
            (torch.cat((_OBJECTS + 3, _NOWHERE)), _OBJECTS),
            "Only two boxes overlap an object: (3, 3).",
        ),
        Case(
            "two boxes in place, and one far off that still overlaps",
            (torch.tensor([[10.0, 10, 30, 30], [50, 40, 90, 80], [70, 55, 110, 95]]), _OBJECTS),
            "The median of 0, 0 and 20 is 0.",
        ),
    ),
    mistakes=OFFSET_MISTAKES,
)  # fmt: skip

# --- my_read_rows: patients B and C ----------------------------------------------------------------------------------


def read_rows(rows: Float[Tensor, "N 5"]) -> Float[Tensor, "N 5"]:
    """Turn rows (class from 0, y1, x1, y2, x2) into rows (x1, y1, x2, y2, label from 1)."""
    return torch.cat((rows[:, [2, 1, 4, 3]], rows[:, :1] + 1), dim=1)


READ_MISTAKES = (
    Mistake("The labels still count from 0, and 0 is the background. Add 1.",
            lambda rows: rows[:, [2, 1, 4, 3, 0]]),
    Mistake("x and y are still swapped: the file has y first.",
            lambda rows: torch.cat((rows[:, 1:], rows[:, :1] + 1), dim=1)),
    Mistake("Nothing is mended yet: the file has y first, and its classes count from 0.",
            lambda rows: rows[:, [1, 2, 3, 4, 0]]),
    Mistake("The four numbers are right. The label comes last, not first.",
            lambda rows: torch.cat((rows[:, :1] + 1, rows[:, [2, 1, 4, 3]]), dim=1)),
    Mistake("You have x1, x2, y1, y2. Boxes are x1, y1, x2, y2.",
            lambda rows: torch.cat((rows[:, [2, 4, 1, 3]], rows[:, :1] + 1), dim=1)),
    Mistake("You added 1 to the coordinates, too. Only labels count from 1.",
            lambda rows: rows[:, [2, 1, 4, 3, 0]] + 1),
)  # fmt: skip

check_read_rows = Contract(
    name="my_read_rows",
    wanted="a tensor (N, 5): x1, y1, x2, y2, label",
    reference=read_rows,
    cases=(
        Case("a wide box: class 0, y from 10 to 20, x from 30 to 90", (torch.tensor([[0.0, 10, 30, 20, 90]]),),
             "Right is [30, 10, 90, 20, 1]."),
        Case("three rows", (torch.tensor([[2.0, 5, 6, 50, 16], [0, 1, 2, 3, 4], [3, 7, 0, 9, 80]]),),
             "One row for each, in the same order."),
        Case("a picture without objects", (torch.zeros(0, 5),), "No rows in, no rows out: (0, 5)."),
    ),
    mistakes=READ_MISTAKES,
)  # fmt: skip

# --- my_flat_scores: patient F ---------------------------------------------------------------------------------------


def flat_scores(score_map: Float[Tensor, "B C h w"]) -> Float[Tensor, "B A 2"]:
    """Return the map of 2k channels as a list: row (i w + j) k + a, column c is channel 2 a + c at cell (i, j)."""
    return score_map.permute(0, 2, 3, 1).reshape(len(score_map), -1, 2)


def _numbered(pictures: int, k: int, h: int, w: int) -> Float[Tensor, "B C h w"]:
    """Return a map in which each number says where it lies: 1000 · picture + 100 · channel + 10 · row + column."""
    parts = (torch.arange(count).float() for count in (pictures, 2 * k, h, w))
    b, c, i, j = torch.meshgrid(*parts, indexing="ij")
    return 1000 * b + 100 * c + 10 * i + j


FLAT_MISTAKES = (
    Mistake("This is the patient's own line. In memory channel 0 lies first, then channel 1: permute, then reshape.",
            lambda m: m.reshape(len(m), -1, 2)),
    Mistake("Columns before rows: anchors go row by row. Permute to (B, h, w, channels).",
            lambda m: m.permute(0, 3, 2, 1).reshape(len(m), -1, 2)),
    Mistake("The channels of an anchor are neighbours, 2a and 2a + 1. You took a and k + a.",
            lambda m: m.permute(0, 2, 3, 1).unflatten(-1, (2, -1)).transpose(-1, -2).reshape(len(m), -1, 2)),
    Mistake("The pairs are right, the order is not: all anchors of cell 0 come first.",
            lambda m: m.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).reshape(len(m), -1, 2)),
    Mistake("The pictures of the batch have run into one list. Keep the first dimension: (B, A, 2).",
            lambda m: m.permute(0, 2, 3, 1).reshape(-1, 2)),
)  # fmt: skip

check_flat_scores = Contract(
    name="my_flat_scores",
    wanted="a tensor (B, h w k, 2)",
    reference=flat_scores,
    cases=(
        Case("one picture, 2 x 3 cells, 2 anchors; the map holds 100 · channel + 10 · row + column",
             (_numbered(1, 2, 2, 3),), "The list begins [0, 100], [200, 300], [1, 101]."),
        Case("two pictures, 3 x 2 cells, 3 anchors", (_numbered(2, 3, 3, 2),), "Row (i w + j) k + a."),
    ),
    mistakes=FLAT_MISTAKES,
)  # fmt: skip

# --- my_head_boxes: patients A and D ---------------------------------------------------------------------------------


def head_boxes(
    proposals: Float[Tensor, "N 4"],
    deltas: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    size: Float[Tensor, " 2"],
    threshold: float,
) -> Float[Tensor, "K 4"]:
    """Return the boxes of one class, best first: decode with the head's std, clip, NMS."""
    boxes = clip_boxes(decode(deltas, proposals, std=HEAD_STD), size)
    return boxes[nms(boxes, scores, threshold)]


def _boxes(
    *, std: Std = HEAD_STD, early: bool = False, clip: bool = True, strike: bool = True
) -> Callable[..., Tensor]:
    """Return `head_boxes` with something wrong."""

    def function(proposals, deltas, scores, size, threshold):
        boxes = decode(deltas, proposals, std=std)
        boxes = clip_boxes(boxes, size) if clip else boxes
        compared = proposals if early else boxes
        return boxes[nms(compared, scores, threshold if strike else 1.0)]

    return function


HEAD_BOXES_MISTAKES = (
    Mistake("The deltas are as the head learned them: divided by the std. Give decode `std=HEAD_STD`.",
            _boxes(std=RPN_STD)),
    Mistake("You divide by the std once more. Decode multiplies: `std=HEAD_STD`.", _boxes(std=(10.0, 10.0, 5.0, 5.0))),
    Mistake("NMS compared the proposals. Two that lie apart may be corrected to one box: decode first.",
            _boxes(early=True)),
    Mistake("Still both faults: deltas not scaled, and NMS before decode.", _boxes(std=RPN_STD, early=True)),
    Mistake("A box reaches outside. Clip before NMS: `clip_boxes(boxes, size)`.", _boxes(clip=False)),
    Mistake("Nothing was struck. Did you play NMS with the threshold?", _boxes(strike=False)),
)  # fmt: skip


def _case(proposals: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Return proposals with normalised deltas to ``targets``, falling scores, a picture of 80 x 100, threshold 0.5."""
    scores = torch.linspace(0.9, 0.3, len(proposals))
    return proposals, encode(targets, proposals, std=HEAD_STD), scores, torch.tensor([80.0, 100.0]), 0.5


_LEFT, _RIGHT = torch.tensor([20.0, 20, 40, 40]), torch.tensor([29.0, 20, 49, 40])  # IoU 11 / 29

check_head_boxes = Contract(
    name="my_head_boxes",
    wanted="a tensor (K, 4), boxes after NMS, best first",
    reference=head_boxes,
    cases=(
        Case("one proposal, one correction", _case(_LEFT[None], torch.tensor([[24.0, 20, 44, 40]])),
             "The object is at [24, 20, 44, 40]."),
        Case("two proposals of IoU 0.38 that are corrected to the same box",
             _case(torch.stack((_LEFT, _RIGHT)), torch.tensor([[24.0, 20, 46, 40], [24, 20, 45, 40]])),
             "They become copies; one is struck."),
        Case("two proposals of IoU 0.67 that are corrected apart",
             _case(torch.tensor([[20.0, 20, 40, 40], [24, 20, 44, 40]]),
                   torch.tensor([[14.0, 20, 32, 40], [32, 20, 50, 40]])),
             "After the correction they lie side by side; both stay."),
        Case("a box that is corrected over the border",
             _case(torch.tensor([[70.0, 50, 95, 75], [5, 5, 30, 30]]),
                   torch.tensor([[75.0, 55, 110, 90], [2, 3, 28, 30]])),
             "The picture ends at x = 100 and y = 80."),
    ),
    mistakes=HEAD_BOXES_MISTAKES,
)  # fmt: skip
