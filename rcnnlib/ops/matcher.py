"""Matching: which object does an anchor or a proposal stand for, and is it close enough to count?

Two rules. The RPN (Faster R-CNN 3.1.2): positive at IoU >= 0.7, or best of all anchors for some object; negative below
0.3; the rest takes no part. The head (Fast R-CNN 2.3): positive at IoU >= 0.5, background in [0.1, 0.5), the rest
ignored. Left out: the later rules without thresholds (ATSS, Hungarian matching).

Shapes: ``*B`` leading batch dimensions, N candidates (anchors or proposals), G >= 1 rows of ground truth.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORED, NEGATIVE, POSITIVE = -1, 0, 1


class Match(NamedTuple):
    """What became of each candidate."""

    status: Int[Tensor, "*B N"]  # 1 positive, 0 negative, -1 ignored
    matches: Int[Tensor, "*B N"]  # the ground truth that overlaps it most
    iou: Float[Tensor, "*B N"]  # with that ground truth; 0 where the picture holds no object


def _best_object(
    iou: Float[Tensor, "*B N G"], valid: Bool[Tensor, "*B G"]
) -> tuple[Float[Tensor, "*B N G"], Float[Tensor, "*B N"], Int[Tensor, "*B N"]]:
    iou = iou.masked_fill(~valid.unsqueeze(-2), 0.0)
    best, matches = iou.max(dim=-1)  # a tie goes to the first object
    return iou, best, matches


def match_anchors(
    iou: Float[Tensor, "*B N G"],
    valid: Bool[Tensor, "*B G"],
    *,
    positive: float = 0.7,
    negative: float = 0.3,
    allowed: Bool[Tensor, "*B N"] | None = None,
) -> Match:
    """Label anchors for the RPN (Faster R-CNN 3.1.2).

    Args:
        iou: overlap of every anchor with every ground-truth box.
        valid: which ground-truth rows hold an object.
        positive, negative: thresholds; from ``positive`` on an anchor is positive, below ``negative`` negative.
        allowed: anchors that may take part (those inside the picture); the others are ignored, and the best anchor
            of an object is sought among the allowed ones. All allowed anchors that share that maximum are positive.
    """
    if allowed is not None:
        iou = iou.masked_fill(~allowed.unsqueeze(-1), 0.0)
    iou, best, matches = _best_object(iou, valid)
    status = torch.full_like(matches, IGNORED)
    status = torch.where(best < negative, NEGATIVE, status)
    status = torch.where(best >= positive, POSITIVE, status)

    # (*B, 1, G): what the best anchor of each object reaches; amax refuses to look at no anchors at all
    top = iou.amax(dim=-2, keepdim=True) if iou.shape[-2] else iou
    is_best = ((iou == top) & (top > 0)).any(dim=-1)
    status = torch.where(is_best, POSITIVE, status)
    if allowed is not None:
        status = torch.where(allowed, status, IGNORED)
    return Match(status, matches, best)


def match_proposals(
    iou: Float[Tensor, "*B N G"],
    valid: Bool[Tensor, "*B G"],
    *,
    positive: float = 0.5,
    background_low: float = 0.1,
) -> Match:
    """Label proposals for the head (Fast R-CNN 2.3): positive from ``positive`` on, background in [low, positive).

    Fast R-CNN's lower bound of 0.1 leaves the easiest background out; Faster R-CNN uses ``background_low=0``.
    """
    _, best, matches = _best_object(iou, valid)
    status = torch.full_like(matches, IGNORED)
    status = torch.where(best >= background_low, NEGATIVE, status)
    status = torch.where(best >= positive, POSITIVE, status)
    return Match(status, matches, best)


def ignore_covered(match: Match, covered: Float[Tensor, "*B N"], *, at_least: float = 0.5) -> Match:
    """Take negatives out that lie in an ignored region: ``covered`` is the fraction of their area inside it."""
    hidden = (match.status == NEGATIVE) & (covered >= at_least)
    return match._replace(status=torch.where(hidden, IGNORED, match.status))
