"""Checks of lesson 07, sampling: `my_label_proposals`, `my_sampler`, `my_epoch_cost`.

The first two compare with `rcnnlib.ops`, the third with its formula; before each contract stand the mistakes it knows.

Shapes:
    N  proposals      G  ground truths      S  drawn proposals      M  numbers of pictures to compare
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.matcher import IGNORED, NEGATIVE, POSITIVE, Match, match_proposals
from rcnnlib.ops.sampler import sample


def _random(*shape: int, seed: int) -> Tensor:
    """Return uniform numbers, drawn without touching the learner's."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- my_label_proposals -----------------------------------------------------------------------------------------------


def label_proposals(iou: Float[Tensor, "N G"], positive: float, low: float) -> Int[Tensor, " N"]:
    """Return 1, 0 or -1 for each proposal: its best IoU is at least ``positive``, in [low, positive), below ``low``."""
    everything = torch.ones(iou.shape[1], dtype=torch.bool, device=iou.device)
    return match_proposals(iou, everything, positive=positive, background_low=low).status


def _labels(is_positive: Tensor, is_background: Tensor) -> Tensor:
    status = torch.where(is_background, NEGATIVE, IGNORED)
    return torch.where(is_positive, POSITIVE, status)


def _by(best_of: Callable[[Tensor], Tensor]) -> Callable[[Tensor, float, float], Tensor]:
    """Return a wrong labelling: not the largest IoU of a row decides."""
    return lambda iou, positive, low: _labels(best_of(iou) >= positive, best_of(iou) >= low)


def _swapped(iou: Tensor, positive: float, low: float) -> Tensor:
    best = iou.amax(1)
    return torch.where(best >= positive, POSITIVE, torch.where(best >= low, IGNORED, NEGATIVE))


_ROW = "The best object decides: take the largest IoU of the row. "

LABEL_MISTAKES = (
    Mistake(
        "An IoU of exactly `positive` is positive: the paper says “at least 0.5”. Use >=.",
        lambda iou, positive, low: _labels(iou.amax(1) > positive, iou.amax(1) >= low),
    ),
    Mistake(
        "An IoU of exactly `low` is background: [0.1, 0.5) includes 0.1. Use >= there too.",
        lambda iou, positive, low: _labels(iou.amax(1) >= positive, iou.amax(1) > low),
    ),
    Mistake(
        "An IoU of exactly a limit belongs to the zone above it: use >= for both.",
        lambda iou, positive, low: _labels(iou.amax(1) > positive, iou.amax(1) > low),
    ),
    Mistake(
        "Below `low` a proposal is ignored, -1. You call it background.",
        lambda iou, positive, low: (iou.amax(1) >= positive).long(),
    ),
    Mistake("It is the other way round: the middle zone is background, 0; below `low` is ignored, -1.", _swapped),
    Mistake(f"{_ROW}You took the mean.", _by(lambda iou: iou.mean(1))),
    Mistake(f"{_ROW}You took the first.", _by(lambda iou: iou[:, 0])),
    Mistake(f"{_ROW}You took the sum.", _by(lambda iou: iou.sum(1))),
    Mistake("A proposal is a row: take the largest IoU of each row, dim=1.", _by(lambda iou: iou.amax(0))),
    Mistake("You gave the best IoU. Asked for is the label: 1, 0 or -1.", lambda iou, positive, low: iou.amax(1)),
)

_ONE = "Find the largest IoU of the row, then compare it with the two limits."

check_label_proposals = Contract(
    name="my_label_proposals",
    wanted="a tensor (N,) of whole numbers: 1 positive, 0 background, -1 ignored",
    reference=label_proposals,
    cases=(
        *(
            Case(what, (torch.tensor(rows), 0.5, low), hint)
            for what, rows, low, hint in (
                ("one object, IoU 0.8, 0.3 and 0.05", [[0.8], [0.3], [0.05]], 0.1, _ONE),
                ("two objects, IoU 0.3 and 0.4 in one row", [[0.3, 0.4], [0.0, 0.6], [0.05, 0.08]], 0.1, _ONE),
                ("an IoU of exactly 0.5", [[0.5], [0.25], [0.75]], 0.1, "At least 0.5 is positive."),
                ("an IoU of exactly the lower limit, 0.25", [[0.25, 0.0], [0.1, 0.2]], 0.25, "[0.25, 0.5) holds 0.25."),
                ("the lower limit is 0, nothing is ignored", [[0.0], [0.7], [0.2]], 0.0, "0 is in [0, 0.5)."),
            )
        ),
        Case("no proposals: a tensor (0,)", (torch.zeros(0, 2), 0.5, 0.1), "No rows, no labels."),
        Case("random IoUs, 20 proposals and 3 objects", (_random(20, 3, seed=1).square(), 0.5, 0.1), _ONE),
    ),
    mistakes=LABEL_MISTAKES,
)


# --- my_sampler -------------------------------------------------------------------------------------------------------


def draw_sample(status: Int[Tensor, " N"], noise: Float[Tensor, " N"], size: int, fraction: float) -> Int[Tensor, " S"]:
    """Return the indices that `ops.sampler.sample` draws, smallest first; fewer than ``size`` if there are no more."""
    match = Match(status, torch.zeros_like(status), noise)
    drawn = sample(match, status.new_ones(1), noise, size=size, positive_fraction=fraction)
    return drawn.index[drawn.labels != IGNORED].sort().values


def _pick(of: Tensor, noise: Tensor, count: int) -> list[int]:
    """Return the places of ``of`` with the smallest noise."""
    return [place for place in noise.argsort().tolist() if of[place]][: max(count, 0)]


def _sorted(places: list[int]) -> Tensor:
    return torch.tensor(sorted(places), dtype=torch.int64)


def _draw(
    *, cap: bool = True, fill: bool = True, quota: Callable[[float], int] = int, negative: str = "0", both: bool = False
) -> Callable[[Tensor, Tensor, int, float], Tensor]:
    """Return a sampler with one thing wrong: no cap, no filling up, another quota, other negatives, filling both."""

    def wrong(status: Tensor, noise: Tensor, size: int, fraction: float) -> Tensor:
        most = quota(size * fraction) if cap else size
        positives = _pick(status == POSITIVE, noise, most)
        others = status != POSITIVE if negative == "all" else status == NEGATIVE
        negatives = _pick(others, noise, size - (len(positives) if fill else min(most, size)))
        if both:
            positives = _pick(status == POSITIVE, noise, max(most, size - len(negatives)))
        return _sorted(positives + negatives)

    return wrong


def _unsorted(status: Tensor, noise: Tensor, size: int, fraction: float) -> Tensor:
    positives = _pick(status == POSITIVE, noise, int(size * fraction))
    return torch.tensor(positives + _pick(status == NEGATIVE, noise, size - len(positives)), dtype=torch.int64)


def _blind(status: Tensor, noise: Tensor, size: int, fraction: float) -> Tensor:
    return _sorted(_pick(status != IGNORED, noise, size))


_RIGHT = draw_sample

SAMPLER_MISTAKES = (
    Mistake("It draws ignored proposals (-1) as background. Only status 0 is background.", _draw(negative="all")),
    Mistake("Positives are capped: at most int(size * fraction) of them.", _draw(cap=False)),
    Mistake("Too few positives? Then negatives take their places, up to `size` rows.", _draw(fill=False)),
    Mistake("int() cuts off: 1.25 positives are 1. You rounded up.", _draw(quota=math.ceil)),
    Mistake("int() cuts off: 2.75 positives are 2. You rounded.", _draw(quota=lambda count: math.floor(count + 0.5))),
    Mistake("Too few negatives? Their places stay empty. Positives stay capped.", _draw(both=True)),
    Mistake("The smallest noise wins. You took the largest.", lambda s, n, size, f: _RIGHT(s, 1 - n, size, f)),
    Mistake(
        "You took the first ones of each kind. The noise decides: the smallest numbers win.",
        lambda s, n, size, f: _RIGHT(s, torch.linspace(0, 0.9, len(n)), size, f),
    ),
    Mistake("You drew from both kinds at once. Draw the positives first, then the negatives.", _blind),
    Mistake("Right ones, wrong order: sort the indices before you return them.", _unsorted),
    Mistake(
        "You gave the labels of the drawn proposals. Asked for are their places.",
        lambda s, n, size, f: s[_RIGHT(s, n, size, f)],
    ),
)

_STATUS = torch.tensor([1, 0, 0, -1, 1, 0, 1, 0])
_NOISE = torch.tensor([0.9, 0.4, 0.7, 0.1, 0.2, 0.8, 0.3, 0.5])
_STEPS = (
    "Positives first, at most int(size * fraction), smallest noise first. Then negatives until `size` rows are full."
)

check_sampler = Contract(
    name="my_sampler",
    wanted="a tensor of whole numbers, the places of the drawn proposals, smallest first",
    reference=draw_sample,
    cases=(
        *(
            Case(what, (torch.tensor(status), torch.tensor(noise), size, fraction), hint)
            for what, status, noise, size, fraction, hint in (
                ("the toy: 4 rows, at most a quarter positive", _STATUS.tolist(), _NOISE.tolist(), 4, 0.25, _STEPS),
                ("no positive at all", [0, 0, -1, 0, 0], [0.5, 0.1, 0.2, 0.9, 0.3], 4, 0.5, "Fill up with negatives."),
                (
                    "5 rows, a quarter of 5 is 1.25",
                    [1, 1, 0, 0, 0, 0, 0],
                    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
                    5,
                    0.25,
                    "int(1.25) is 1.",
                ),
                (
                    "11 rows, a quarter of 11 is 2.75",
                    [1] * 4 + [0] * 9,
                    [i / 13 for i in range(13)],
                    11,
                    0.25,
                    "int(2.75) is 2.",
                ),
                (
                    "4 positives, 1 negative, 8 rows",
                    [1, 1, 0, 1, 1],
                    [0.5, 0.1, 0.2, 0.9, 0.3],
                    8,
                    0.25,
                    "At most 2 positives; the rest stays empty.",
                ),
                (
                    "everything is ignored",
                    [-1, -1, -1],
                    [0.5, 0.1, 0.2],
                    2,
                    0.25,
                    "Then nothing is drawn: a tensor (0,) of whole numbers.",
                ),
            )
        ),
        Case(
            "200 random proposals, 32 rows",
            ((_random(200, seed=2) * 3).long() - 1, _random(200, seed=3), 32, 0.25),
            _STEPS,
        ),
    ),
    mistakes=SAMPLER_MISTAKES,
)


# --- my_epoch_cost ----------------------------------------------------------------------------------------------------


def epoch_cost(pictures: Float[Tensor, " M"], rois: int, total: int, trunk: float, head: float) -> Float[Tensor, " M"]:
    """Return the seconds to learn from ``total`` RoIs, ``rois`` a step, out of so many ``pictures`` a step."""
    return total / rois * (pictures * trunk + rois * head)


COST_MISTAKES = (
    Mistake("That is one step. How many steps are needed for `total` RoIs?", lambda n, r, t, a, b: n * a + r * b),
    Mistake(
        "The trunk runs once for each picture of the step, not once for each RoI.",
        lambda n, r, t, a, b: t / r * (r * a + r * b) + 0 * n,
    ),
    Mistake(
        "`rois` are all RoIs of the step, not those of one picture.", lambda n, r, t, a, b: t / r * n * (a + r * b)
    ),
    Mistake(
        "`rois` are all RoIs of the step, not those of one picture.",
        lambda n, r, t, a, b: t / (r * n) * n * (a + r * b),
    ),
    Mistake("The head runs too: once for each RoI.", lambda n, r, t, a, b: t / r * n * a),
    Mistake("The head runs once for each RoI of the step, not once a step.", lambda n, r, t, a, b: t / r * (n * a + b)),
    Mistake(
        "More pictures a step cost more trunk passes. Multiply by them; you divide.",
        lambda n, r, t, a, b: t / r * (a / n + r * b),
    ),
)

_PAPER = torch.tensor([1.0, 2.0, 128.0])

check_epoch_cost = Contract(
    name="my_epoch_cost",
    wanted="a tensor (M,): seconds for each number of pictures",
    reference=epoch_cost,
    cases=(
        Case(
            "one step of 64 RoIs out of 2 pictures", (torch.tensor([2.0]), 64, 64, 0.1, 0.001), "2 x 0.1 + 64 x 0.001."
        ),
        Case("ten steps of 64 RoIs", (torch.tensor([2.0]), 64, 640, 0.1, 0.001), "Ten times one step."),
        Case("1, 2 and 128 pictures, 128 RoIs a step", (_PAPER, 128, 12800, 0.1, 0.001), "A hundred steps each."),
        Case(
            "a trunk that costs nothing",
            (_PAPER, 128, 1280, 0.0, 0.001),
            "Then the number of pictures does not matter.",
        ),
        Case("a head that costs nothing", (_PAPER, 64, 640, 0.2, 0.0), "Then only passes of the trunk count."),
    ),
    mistakes=COST_MISTAKES,
)
