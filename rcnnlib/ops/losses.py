"""The multi-task losses (Fast R-CNN 2.3 eq. 1-3; Faster R-CNN eq. 1): a class term plus a box term for positives.

Both are sums divided by constants that the caller states, never by counts, which would differ from one GPU to another.

Shapes: ``*B`` leading batch dimensions, S samples, K classes without background, L = K + 1 with it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy


def smooth_l1(x: Float[Tensor, "*N"], beta: float = 1.0) -> Float[Tensor, "*N"]:
    """Return 0.5 x² / beta where |x| < beta, else |x| - 0.5 beta (Fast R-CNN eq. 3 has beta = 1); beta 0 is L1."""
    size = x.abs()
    if beta == 0:
        return size
    return torch.where(size < beta, 0.5 * x * x / beta, size - 0.5 * beta)


def classification_loss(
    scores: Float[Tensor, "*B S L"], labels: Int[Tensor, "*B S"], *, normalizer: float
) -> Float[Tensor, ""]:
    """Return the cross entropy of the softmax over ``scores``, summed and divided; label -1 takes no part."""
    total = cross_entropy(scores.flatten(0, -2), labels.flatten(), ignore_index=-1, reduction="sum")
    return total / normalizer


def box_loss(
    deltas: Float[Tensor, "*B S 4"],
    targets: Float[Tensor, "*B S 4"],
    labels: Int[Tensor, "*B S"],
    *,
    beta: float,
    normalizer: float,
) -> Float[Tensor, ""]:
    """Return smooth L1 over the four deltas, summed over the samples with an object (label > 0) and divided."""
    # Masked before the loss, not after: an unused row may hold anything, and 0 * inf would be NaN in the gradient.
    difference = (deltas - targets).masked_fill((labels <= 0).unsqueeze(-1), 0.0)
    return smooth_l1(difference, beta).sum() / normalizer


def class_deltas(deltas: Float[Tensor, "*B S K 4"], labels: Int[Tensor, "*B S"]) -> Float[Tensor, "*B S 4"]:
    """Pick the deltas of the right class out of the K that the head predicts; rows without a class get the first."""
    column = (labels - 1).clamp(min=0)[..., None, None].expand(*labels.shape, 1, 4)
    return deltas.gather(-2, column).squeeze(-2)
