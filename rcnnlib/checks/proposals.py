"""Checks of lesson 13: `my_propose`, from decoded boxes to proposals, and `my_suppressed_by`, who struck whom.

Shapes:
    A  anchors    N  boxes before NMS    K  boxes that come out    size  height and width of the picture, pixels
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.models.rpn import MIN_SIDE
from rcnnlib.ops.boxes import box_iou, clip_boxes, is_large
from rcnnlib.ops.nms import nms, nms_steps

# --- my_propose -----------------------------------------------------------------------------------------------------


def proposals(
    objectness: Float[Tensor, " A"],
    boxes: Float[Tensor, "A 4"],
    size: Float[Tensor, " 2"],
    before: int,
    threshold: float,
    after: int,
) -> Float[Tensor, "K 4"]:
    """Return the proposals of one picture, best first, from decoded boxes: top-N, clip, small ones out, NMS, top-R."""
    scores, rows = objectness.sort(descending=True, stable=True)
    scores, found = scores[:before], clip_boxes(boxes[rows[:before]], size)
    large = is_large(found, MIN_SIDE)
    scores, found = scores[large], found[large]
    return found[nms(found, scores, threshold)[:after]]


def _at_least(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """NMS in which an IoU equal to the threshold strikes."""
    return nms(boxes, scores, threshold - 1e-6)


def _propose(
    *,
    sign: float = 1.0,
    top: bool = True,
    clip: bool = True,
    flip: bool = False,
    small_out: bool = True,
    cut_first: bool = False,
    cut: bool = True,
    strike: Callable[..., Tensor] = nms,
) -> Callable[..., Tensor]:
    """Return `proposals` with something wrong."""

    def function(objectness, boxes, size, before, threshold, after):
        scores, rows = (sign * objectness).sort(descending=True, stable=True)
        rows = rows[:before] if top else rows
        scores, found = scores[: len(rows)], boxes[rows]
        found = clip_boxes(found, size.flip(0) if flip else size) if clip else found
        large = is_large(found, MIN_SIDE) if small_out else torch.ones_like(scores, dtype=torch.bool)
        scores, found = scores[large], found[large]
        if cut_first:
            scores, found = scores[:after], found[:after]
        return found[strike(found, scores, threshold)[: after if cut else None]]

    return function


def _clip_late(objectness, boxes, size, before, threshold, after):
    return clip_boxes(_propose(clip=False)(objectness, boxes, size, before, threshold, after), size)


def _nms_first(objectness, boxes, size, before, threshold, after):
    """NMS over all boxes, and only then the N best."""
    found = clip_boxes(boxes, size)
    rows = is_large(found, MIN_SIDE).nonzero()[:, 0]
    return found[rows[nms(found[rows], objectness[rows], threshold)]][:before][:after]


PROPOSE_MISTAKES = (
    Mistake("The worst boxes came first. Sort with the highest score first: `descending=True`.", _propose(sign=-1.0)),
    Mistake("Only the N best scores go on. You let all of them into NMS.", _propose(top=False)),
    Mistake("First the N best, then NMS. You played NMS over all boxes before the cut at N.", _nms_first),
    Mistake("A box still reaches outside. Clip the boxes before NMS: `clip_boxes(boxes, size)`.", _propose(clip=False)),
    Mistake("Clip before NMS, not after: the part outside changes the IoU.", _clip_late),
    Mistake("`size` is height, then width: x goes up to size[1], y up to size[0].", _propose(flip=True)),
    Mistake("A box that lay outside has no area after the clip. Take it out before NMS.", _propose(small_out=False)),
    Mistake("The cut at R comes last. You cut before NMS, and it left fewer than R.", _propose(cut_first=True)),
    Mistake("You forgot the last cut: at most R boxes come out.", _propose(cut=False)),
    Mistake("An IoU equal to the threshold stays: strike only what is above it.", _propose(strike=_at_least)),
    Mistake(
        "Nothing was struck. Did you play NMS with the threshold?",
        _propose(strike=lambda boxes, scores, threshold: torch.arange(len(scores))),
    ),
)

_SIZE = torch.tensor([60.0, 100.0])  # height, width


def _row(*lefts: float) -> Float[Tensor, "A 4"]:
    """Return boxes of 20 x 20 pixels at y = 10 with the given left edges."""
    return torch.tensor([[left, 10, left + 20, 30] for left in lefts]).float().reshape(-1, 4)


def _random(count: int, seed: int) -> tuple[Float[Tensor, " A"], Float[Tensor, "A 4"]]:
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * torch.tensor([120.0, 80.0]) - 20
    boxes = torch.cat((corner, corner + 15 + torch.rand(count, 2, generator=random) * 20), dim=1)
    return torch.rand(count, generator=random), boxes


_OUTSIDE = torch.tensor([[80.0, 10, 140, 30], [80, 10, 105, 30], [5, 5, 25, 25], [-40, 5, -5, 25]])
_EXACT = torch.tensor([[10.0, 10, 20, 20], [10, 10, 20, 17], [50, 10, 70, 30]])  # rows 0 and 1: IoU 70 / 100

check_propose = Contract(
    name="my_propose",
    wanted="a tensor (K, 4): the boxes of the proposals, best first",
    reference=proposals,
    cases=(
        Case(
            "three boxes apart, N = 3, R = 2",
            (torch.tensor([0.2, 0.9, 0.6]), _row(0, 30, 60), _SIZE, 3, 0.7, 2),
            "Best first: the boxes of 0.9 and of 0.6.",
        ),
        Case(
            "two boxes with IoU 18/22 and one apart",
            (torch.tensor([0.8, 0.9, 0.3]), _row(0, 2, 60), _SIZE, 3, 0.7, 3),
            "The box of 0.9 strikes the box of 0.8.",
        ),
        Case(
            "five boxes, N = 3, R = 4",
            (torch.tensor([0.8, 0.9, 0.7, 0.6, 0.5]), _row(0, 2, 30, 55, 80), _SIZE, 3, 0.7, 4),
            "Three boxes go into NMS, two come out.",
        ),
        Case(
            "boxes that cross the border or lie outside, in a picture 100 wide and 60 high",
            (torch.tensor([0.9, 0.8, 0.7, 0.6]), _OUTSIDE, _SIZE, 4, 0.7, 4),
            "After the clip, rows 0 and 1 are the same box, and row 3 has no width.",
        ),
        Case(
            "an IoU of exactly 0.7",
            (torch.tensor([0.9, 0.8, 0.7]), _EXACT, _SIZE, 3, 0.7, 3),
            "Equality does not strike: three boxes come out.",
        ),
        Case(
            "R = 2, and the two best are nearly the same box",
            (torch.tensor([0.9, 0.8, 0.7, 0.6]), _row(0, 1, 30, 60), _SIZE, 4, 0.7, 2),
            "NMS strikes the second, so the third moves up.",
        ),
        Case(
            "no boxes at all", (torch.zeros(0), torch.zeros(0, 4), _SIZE, 5, 0.7, 5), "Nothing in, nothing out: (0, 4)."
        ),
        *(
            Case(
                f"{count} random boxes, N = {before}, R = {after}",
                (*_random(count, seed), _SIZE, before, 0.5, after),
                "",
            )
            for count, seed, before, after in ((40, 1, 25, 8), (60, 2, 50, 40))
        ),
    ),
    mistakes=PROPOSE_MISTAKES,
)


# --- my_suppressed_by -----------------------------------------------------------------------------------------------


def suppressed_by(boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], threshold: float) -> Int[Tensor, " N"]:
    """Return for each box the row of the winner that struck it, -1 for a survivor."""
    kept = nms(boxes, scores, threshold)
    if not len(kept):
        return kept
    strikes = box_iou(boxes[kept], boxes).double() > threshold  # in double, as `nms` compares
    first = kept[strikes.int().argmax(dim=0)]  # the best winner above the threshold, for a survivor itself
    return torch.where(first == torch.arange(len(boxes)), -1, first)


def _order(scores: Tensor) -> Tensor:
    return scores.argsort(descending=True, stable=True)


def _strikers(boxes: Tensor, scores: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the rows of the survivors, best first, and which of them could strike each box (K, N)."""
    kept = nms(boxes, scores, threshold)
    strikes = box_iou(boxes[kept], boxes) > threshold
    return kept, strikes & (kept[:, None] != torch.arange(len(boxes)))


def _nearest(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """The survivor with the highest IoU, not the first that strikes."""
    found = suppressed_by(boxes, scores, threshold)
    kept, _ = _strikers(boxes, scores, threshold)
    return torch.where(found >= 0, kept[box_iou(boxes[kept], boxes).argmax(0)], -1) if len(kept) else found


def _dead_strike_too(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """The best of all better boxes that overlap it, struck or not."""
    order = _order(scores)
    strikes = (box_iou(boxes[order], boxes[order]) > threshold).triu(diagonal=1)
    found = torch.full((len(boxes),), -1)
    for place in strikes.any(dim=0).nonzero()[:, 0].tolist():
        found[order[place]] = order[int(strikes[:, place].int().argmax())]
    return found


def _last_wins(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """A later winner overwrites the first."""
    found = suppressed_by(boxes, scores, threshold)
    for step in nms_steps(boxes, scores, threshold):
        again = (step.iou > threshold) & (found >= 0)
        found[again] = step.best
    return found


def _places(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    found, place = suppressed_by(boxes, scores, threshold), _order(_order(scores))
    return torch.where(found >= 0, place[found.clamp(min=0)], -1) if len(boxes) else found


def _own_row(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    found = suppressed_by(boxes, scores, threshold)
    return torch.where(found >= 0, found, torch.arange(len(boxes)))


def _sorted_rows(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    return suppressed_by(boxes, scores, threshold)[_order(scores)]


SUPPRESSED_MISTAKES = (
    Mistake(
        "The worst box won. Play the rounds with the highest score first.",
        lambda boxes, scores, threshold: suppressed_by(boxes, -scores, threshold),
    ),
    Mistake(
        "An IoU equal to the threshold does not strike: use >.",
        lambda boxes, scores, threshold: suppressed_by(boxes, scores, threshold - 1e-6),
    ),
    Mistake("A box that is struck strikes nobody. Only survivors win rounds.", _dead_strike_too),
    Mistake("The first winner above the threshold strikes it, not the one that overlaps it most.", _nearest),
    Mistake("A box is struck once. A later winner must not overwrite the first.", _last_wins),
    Mistake("A survivor gets -1, not its own row.", _own_row),
    Mistake("These are places in the sorted list. Asked for is the row of the winner in `boxes`.", _places),
    Mistake("Give the answers in the order of `boxes`, not by score.", _sorted_rows),
    Mistake(
        "You gave 1 for struck. Asked for is the row of the winner.",
        lambda boxes, scores, threshold: (suppressed_by(boxes, scores, threshold) >= 0).long(),
    ),
    Mistake(
        "You gave the rows of the survivors. Asked for is one number for each box.",
        lambda boxes, scores, threshold: nms(boxes, scores, threshold),
    ),
)

check_suppressed_by = Contract(
    name="my_suppressed_by",
    wanted="a tensor (N,) of whole numbers: the row of the winner that struck each box, -1 for a survivor",
    reference=suppressed_by,
    cases=(
        Case(
            "two boxes with IoU 18/22 and one apart",
            (_row(0, 60, 2), torch.tensor([0.6, 0.7, 0.9]), 0.7),
            "Row 2 wins and strikes row 0: [2, -1, -1].",
        ),
        Case(
            "a chain: row 0 overlaps row 1, row 1 overlaps row 2, but row 0 does not overlap row 2 enough",
            (_row(0, 6, 12), torch.tensor([0.9, 0.8, 0.7]), 0.5),
            "Row 1 is struck in round 1, so it strikes nobody: [-1, 0, -1].",
        ),
        Case(
            "a box that two winners could strike",
            (_row(0, 8, 5), torch.tensor([0.9, 0.8, 0.7]), 0.5),
            "Row 0 comes first. Row 1 overlaps row 2 more, but row 2 is gone by then.",
        ),
        Case("an IoU of exactly 0.7", (_EXACT, torch.tensor([0.5, 0.9, 0.7]), 0.7), "Equality does not strike."),
        Case(
            "no boxes at all", (_row(), torch.zeros(0), 0.7), "Nothing in, nothing out: a tensor (0,) of whole numbers."
        ),
        *(
            Case(f"{count} random boxes, threshold {threshold}", (boxes, scores, threshold), "")
            for count, threshold, (scores, boxes) in ((20, 0.3, _random(20, 3)), (40, 0.5, _random(40, 4)))
        ),
    ),
    mistakes=SUPPRESSED_MISTAKES,
)
