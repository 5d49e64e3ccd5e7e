"""Sampling: draw the few anchors or RoIs that a training step learns from, in a fixed mix.

The RPN takes 256 anchors of a picture, half of them positive (Faster R-CNN 3.1.3); the head 64 or 128 RoIs, a quarter
positive (Fast R-CNN 2.3). Too few positives are filled up with negatives; too few of both leave rows with label -1.

Shapes: ``*B`` leading batch dimensions, N candidates, S rows of the sample.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from rcnnlib.ops.matcher import IGNORED, NEGATIVE, POSITIVE, Match
from rcnnlib.types import Samples


def sample(
    match: Match, labels: Int[Tensor, "*B G"], noise: Float[Tensor, "*B N"], *, size: int, positive_fraction: float
) -> Samples:
    """Draw ``size`` candidates a picture, at most ``positive_fraction`` of them positive; no read by the host.

    Every candidate draws a number from ``noise`` (uniform in [0, 1)); the smallest numbers of each kind win, so that
    each positive has the same chance, and each negative.

    Args:
        match: status of the candidates, from :mod:`rcnnlib.ops.matcher`.
        labels: class of each ground-truth row; all ones make the RPN's objectness.

    Rows that stay empty have label -1 and point at candidate 0.

    Raises:
        ValueError: the fraction is not in [0, 1].
    """
    if not 0 <= positive_fraction <= 1:
        raise ValueError(f"positive_fraction must lie in [0, 1]; got {positive_fraction}")
    missing = max(size - noise.shape[-1], 0)  # fewer candidates than rows: add some that take no part
    status, matches, noise = (
        pad(tensor, (0, missing), value=value)
        for tensor, value in ((match.status, IGNORED), (match.matches, 0), (noise, 0))
    )
    # Rank the positives among themselves; those beyond the quota sit out, and negatives take their places.
    rank = noise.masked_fill(status != POSITIVE, 2.0).argsort(dim=-1).argsort(dim=-1)
    positive = (status == POSITIVE) & (rank < int(size * positive_fraction))
    key = torch.where(positive, noise, torch.where(status == NEGATIVE, noise + 1, 3.0))  # positives, negatives, none
    key, index = (tensor[..., :size] for tensor in key.sort(dim=-1))
    drawn, matches = key < 3, matches.gather(-1, index)  # 3 and not 2, to which the largest noise + 1 is rounded
    classes = torch.where(key < 1, labels.gather(-1, matches), NEGATIVE)
    return Samples(index.masked_fill(~drawn, 0), classes.masked_fill(~drawn, IGNORED), matches)


def take_noise(noise: Float[Tensor, "*B N"], start: int, count: int) -> Float[Tensor, "*B M"]:
    """Return the ``count`` random numbers from ``start`` on, so that two samplers never share a number.

    Raises:
        ValueError: there are too few.
    """
    if start + count > noise.shape[-1]:
        raise ValueError(
            f"noise must hold {start + count} numbers a picture for its anchors, proposals and objects, got "
            f"{noise.shape[-1]}; give collate a larger noise_length"
        )
    return noise[..., start : start + count]
