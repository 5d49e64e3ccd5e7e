"""Checks of lesson 12: `my_match`, the labels of anchors with the best-anchor rule, and `my_rpn_loss`, eq. 1.

They are compared with `ops.matcher.match_anchors` and with `ops.losses`.

Shapes:
    A  anchors      G  ground truths
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.losses import box_loss, smooth_l1
from rcnnlib.ops.matcher import IGNORED, NEGATIVE, POSITIVE, match_anchors

# --- my_match --------------------------------------------------------------------------------------------------------


def match_table(iou: Float[Tensor, "A G"], positive: float, negative: float) -> Int[Tensor, " A"]:
    """Return 1, 0 or -1 for each anchor: Faster R-CNN 3.1.2 with both rules."""
    everything = torch.ones(iou.shape[1], dtype=torch.bool, device=iou.device)
    return match_anchors(iou, everything, positive=positive, negative=negative).status


def _by_thresholds(iou: Tensor, positive: float, negative: float, *, middle: int = IGNORED) -> Tensor:
    best = iou.amax(dim=1)
    status = torch.full_like(best, middle, dtype=torch.int64)
    return torch.where(best >= positive, POSITIVE, torch.where(best < negative, NEGATIVE, status))


def _with_best(status: Tensor, is_best: Tensor) -> Tensor:
    return torch.where(is_best, POSITIVE, status)


def _is_best(iou: Tensor) -> Tensor:
    return ((iou == iou.amax(dim=0)) & (iou > 0)).any(dim=1)


def _first_best(iou: Tensor, positive: float, negative: float) -> Tensor:
    """Only one of several best anchors."""
    status = _by_thresholds(iou, positive, negative)
    status[iou.argmax(dim=0)] = POSITIVE
    return status


def _best_before_thresholds(iou: Tensor, positive: float, negative: float) -> Tensor:
    """The negatives are written last, over the best anchors."""
    status = _with_best(_by_thresholds(iou, positive, negative), _is_best(iou))
    return torch.where(iou.amax(dim=1) < negative, NEGATIVE, status)


def _best_of_all(iou: Tensor, positive: float, negative: float) -> Tensor:
    return _with_best(_by_thresholds(iou, positive, negative), (iou == iou.max()).any(dim=1))


def _every_row(iou: Tensor, positive: float, negative: float) -> Tensor:
    """The best object of each anchor instead of the best anchor of each object."""
    return _with_best(_by_thresholds(iou, positive, negative), iou.amax(dim=1) > 0)


def _and_zero(iou: Tensor, positive: float, negative: float) -> Tensor:
    return _with_best(_by_thresholds(iou, positive, negative), (iou == iou.amax(dim=0)).any(dim=1))


MATCH_MISTAKES = (
    Mistake("The second rule is missing: the best anchor of each object is positive, at any IoU.", _by_thresholds),
    Mistake(
        "You call the middle negative. Between the two limits an anchor is ignored: -1.",
        lambda iou, positive, negative: _with_best(
            _by_thresholds(iou, positive, negative, middle=NEGATIVE), _is_best(iou)
        ),
    ),
    Mistake("Several anchors may share the largest IoU: all of them are positive. argmax names one.", _first_best),
    Mistake(
        "A best anchor below the lower limit is positive all the same. Apply the second rule last.",
        _best_before_thresholds,
    ),
    Mistake("Each object has its best anchor. You took the best of the whole table: give amax a dim.", _best_of_all),
    Mistake(
        "Ask each object (each column) for its best anchor. You asked each anchor for its best object.", _every_row
    ),
    Mistake("An object that no anchor touches has no best anchor: an IoU of 0 never makes a positive.", _and_zero),
    Mistake(
        "An IoU of exactly the upper limit is positive: use >=.",
        lambda iou, positive, negative: _with_best(
            torch.where(iou.amax(1) == positive, IGNORED, _by_thresholds(iou, positive, negative)), _is_best(iou)
        ),
    ),
    Mistake(
        "Negative is *below* the lower limit; exactly at it an anchor is ignored. Use <.",
        lambda iou, positive, negative: _with_best(
            torch.where(iou.amax(1) == negative, NEGATIVE, _by_thresholds(iou, positive, negative)), _is_best(iou)
        ),
    ),
)

_BOTH = "First the limits, by the largest IoU of each row; then the best anchor of each column."


def _table(anchors: int, objects: int, seed: int) -> Tensor:
    return torch.rand(anchors, objects, generator=torch.Generator().manual_seed(seed)).square()


check_match = Contract(
    name="my_match",
    wanted="a tensor (A,) of whole numbers: 1 positive, 0 negative, -1 ignored",
    reference=match_table,
    cases=(
        *(
            Case(what, (torch.tensor(rows), 0.7, 0.3), hint)
            for what, rows, hint in (
                ("one object, IoU 0.8, 0.5 and 0.1", [[0.8], [0.5], [0.1]], "[1, -1, 0]: the limits alone."),
                ("one object, its best anchor has IoU 0.5", [[0.5], [0.4], [0.2]], "[1, -1, 0]: 0.5 is the best."),
                ("two anchors share the largest IoU, 0.6", [[0.6], [0.4], [0.6]], "[1, -1, 1]: both are the best."),
                ("the best anchor of the object has IoU 0.2", [[0.2], [0.1], [0.0]], "[1, 0, 0]."),
                (
                    "two objects; the second one's best anchor has IoU 0.4",
                    [[0.9, 0.0], [0.0, 0.4], [0.35, 0.3], [0.1, 0.2]],
                    "[1, 1, -1, 0]: each column has its best.",
                ),
                ("the second object is touched by no anchor", [[0.8, 0.0], [0.1, 0.0]], "[1, 0]."),
            )
        ),
        Case(
            "IoU exactly at the limits 0.75 and 0.25",
            (torch.tensor([[0.9], [0.75], [0.25], [0.2]]), 0.75, 0.25),
            "[1, 1, -1, 0].",
        ),
        Case("random IoUs, 30 anchors and 4 objects", (_table(30, 4, 0), 0.7, 0.3), _BOTH),
    ),
    mistakes=MATCH_MISTAKES,
)

# --- my_rpn_loss -----------------------------------------------------------------------------------------------------


def anchor_loss(
    p: Float[Tensor, " A"],
    star: Int[Tensor, " A"],
    error: Float[Tensor, "A 4"],
    n_cls: float,
    n_reg: float,
    weight: float,
) -> Float[Tensor, ""]:
    """Return eq. 1 of Faster R-CNN; ``star`` is -1 for an anchor that takes no part, ``error`` is t - t*."""
    right = torch.where(star == POSITIVE, p, 1 - p)
    naming = -right.log().masked_fill(star == IGNORED, 0.0).sum() / n_cls
    return naming + weight * box_loss(error, torch.zeros_like(error), star, beta=1.0, normalizer=n_reg)


def _entropy(p: Tensor, star: Tensor) -> Tensor:
    """The class term of each anchor, 0 where it is ignored."""
    return -torch.where(star == 1, p, 1 - p).log() * (star >= 0)


def _smooth(error: Tensor) -> Tensor:
    return smooth_l1(error).sum(dim=1)


def _loss(
    naming: Callable[[Tensor, Tensor], Tensor] = _entropy,
    boxing: Callable[[Tensor], Tensor] = _smooth,
    counts: Callable[[Tensor], Tensor] = lambda star: (star == 1).float(),
) -> Callable[..., Tensor]:
    """Return eq. 1 with something wrong in one of its parts."""

    def function(p, star, error, n_cls, n_reg, weight):
        return naming(p, star).sum() / n_cls + weight * (counts(star) * boxing(error)).sum() / n_reg

    return function


def _wrong_sizes(p, star, error, n_cls, n_reg, weight):
    return _entropy(p, star).sum() / n_cls + weight * ((star == 1) * _smooth(error)).sum() / n_cls


def _no_weight(p, star, error, n_cls, n_reg, weight):
    return _loss()(p, star, error, n_cls, n_reg, 1.0)


def _by_counts(p, star, error, n_cls, n_reg, weight):
    return _loss()(p, star, error, int((star >= 0).sum()), int((star == 1).sum().clamp(min=1)), weight)


RPN_LOSS_MISTAKES = (
    Mistake(
        "You count the box term of anchors with p* = 0 as well. A negative has no object, so no right box: multiply "
        "by p*.",
        _loss(counts=lambda star: (star >= 0).float()),
    ),
    Mistake("You count the box term of every anchor. It counts where p* = 1 only.", _loss(counts=torch.ones_like)),
    Mistake(
        "p* = -1 means that the anchor takes no part. You count it as a negative.",
        _loss(naming=lambda p, star: -torch.where(star == 1, p, 1 - p).log()),
    ),
    Mistake(
        "You multiply by p*, and for an ignored anchor p* is -1: its box term is subtracted. Use (p* == 1).",
        _loss(counts=lambda star: star.float()),
    ),
    Mistake(
        "Negatives count in the class term, too: -log(1 - p).",
        _loss(naming=lambda p, star: -p.log() * (star == 1)),
    ),
    Mistake(
        "The class term is -log p for a positive and -log(1 - p) for a negative: you swapped them.",
        _loss(naming=lambda p, star: -torch.where(star == 1, 1 - p, p).log() * (star >= 0)),
    ),
    Mistake("L_reg is smooth L1, not the square (MSE).", _loss(boxing=lambda error: error.square().sum(1))),
    Mistake(
        "Below 1 smooth L1 is half the square; you took the absolute value.", _loss(boxing=lambda e: e.abs().sum(1))
    ),
    Mistake("L_reg is the *sum* over the four deltas, not their mean.", _loss(boxing=lambda e: smooth_l1(e).mean(1))),
    Mistake("The box term is divided by N_reg, not by N_cls.", _wrong_sizes),
    Mistake("lambda is missing before the box term.", _no_weight),
    Mistake("N_cls and N_reg are given: do not count the anchors.", _by_counts),
)


def _one(p: float, star: int, error: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor([p]), torch.tensor([star]), torch.tensor([[error, 0.0, 0.0, 0.0]])


def _random(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p = 0.05 + 0.9 * torch.rand(count, generator=generator)
    star = torch.randint(-1, 2, (count,), generator=generator)
    return p, star, 2 * torch.randn(count, 4, generator=generator)


check_rpn_loss = Contract(
    name="my_rpn_loss",
    wanted="one number, a tensor without dimensions",
    reference=anchor_loss,
    cases=(
        Case(
            "one positive, p = 0.5, no error of the box, all of N_cls, N_reg, lambda are 1",
            (*_one(0.5, 1, 0.0), 1.0, 1.0, 1.0),
            "-log 0.5 = 0.6931.",
        ),
        Case("one negative, p = 0.2", (*_one(0.2, 0, 0.0), 1.0, 1.0, 1.0), "-log(1 - 0.2) = 0.2231."),
        Case("one positive, p = 1, t_x is off by 0.4", (*_one(1.0, 1, 0.4), 1.0, 1.0, 1.0), "0.5 · 0.4² = 0.08."),
        Case("one positive, p = 1, t_x is off by 2", (*_one(1.0, 1, 2.0), 1.0, 1.0, 1.0), "2 - 0.5 = 1.5."),
        Case("one negative whose box is off by 2", (*_one(0.5, 0, 2.0), 1.0, 1.0, 1.0), "0.6931: no box term."),
        Case("one ignored anchor", (*_one(0.5, -1, 2.0), 1.0, 1.0, 1.0), "It takes no part: 0."),
        Case(
            "one positive, p = 0.5, off by 2, N_cls 2, N_reg 5, lambda 10",
            (*_one(0.5, 1, 2.0), 2.0, 5.0, 10.0),
            "0.6931 / 2 + 10 · 1.5 / 5 = 3.3466.",
        ),
        Case("20 random anchors, N_cls 256, N_reg 2400, lambda 10", (*_random(20, 0), 256.0, 2400.0, 10.0), "Eq. 1."),
        Case("20 more, with other numbers", (*_random(20, 1), 8.0, 30.0, 0.5), "Eq. 1."),
    ),
    mistakes=RPN_LOSS_MISTAKES,
)
