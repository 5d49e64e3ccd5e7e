"""What R-CNN and SPPnet fit once their network is trained: SVMs by the hinge loss, box regressors by ridge regression.

Fine-tuning, SVMs and regressors each have a training set of their own, told apart by IoU (R-CNN 2.3, appendices B, C):

    fine-tuning    IoU >= 0.5 with an object: its class     all others: background
    SVM            the objects themselves                   IoU < 0.3 with every object of the class; between: ignored
    regressor      IoU > 0.6 with an object                 all others: not used

These are pure functions on features; ``engine.after_training`` collects the features and the hard negatives.
Left out: kernels, probabilities fitted to the margins, and the whitened targets of the authors' regressors.

Shapes:
    *B  leading batch dimensions    N  candidates or examples    G  rows of ground truth    K  classes
    D   features    P, M  positives and negatives    T  numbers that a regressor predicts
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from rcnnlib.ops.matcher import IGNORED, NEGATIVE, POSITIVE, Match, match_proposals

SVM_NEGATIVE = 0.3  # below this IoU; 0.5 cost 5 points of mAP, 0 cost 4 (R-CNN 2.3)
REGRESSOR_POSITIVE = 0.6  # above this IoU: from farther away the task is hopeless (R-CNN, appendix C)
BIAS = 10.0  # the feature that stands for the bias: large, so that |w|² hardly holds the bias back (the authors' code)
LOOK = 25  # steps between two looks at the gap


def fine_tuning_set(iou: Float[Tensor, "*B N G"], valid: Bool[Tensor, "*B G"], *, background_low: float = 0.0) -> Match:
    """Label candidates for the softmax: from IoU 0.5 on positive, the others background (R-CNN 2.3).

    SPPnet leaves the background below ``background_low`` = 0.1 out, and Fast R-CNN after it.
    """
    return match_proposals(iou, valid, positive=0.5, background_low=background_low)


def svm_set(
    iou: Float[Tensor, "*B N G"], labels: Int[Tensor, "*B G"], own: Int[Tensor, "*B N"], classes: int
) -> Int[Tensor, "*B N K"]:
    """Label candidates for the SVM of each class: 1 its objects, 0 its negatives, -1 takes no part (R-CNN 2.3).

    An object of another class is a negative like any region.

    Args:
        labels: class of each ground truth; 0 in rows without an object.
        own: class of a candidate that is itself an object; 0 for a region that was proposed.
        classes: K.
    """
    number = torch.arange(1, classes + 1, device=iou.device)
    of_class = (labels.unsqueeze(-1) == number).unsqueeze(-3)  # (*B, 1, G, K)
    best = torch.where(of_class, iou.unsqueeze(-1), 0.0).amax(dim=-2)  # (*B, N, K)
    status = torch.where(best < SVM_NEGATIVE, NEGATIVE, IGNORED)
    return torch.where(own.unsqueeze(-1) == number, POSITIVE, status)


def regressor_set(iou: Float[Tensor, "*B N G"], valid: Bool[Tensor, "*B G"]) -> Match:
    """Say which candidates teach the box regressors, and towards which object: IoU above 0.6 (R-CNN, appendix C)."""
    match = match_proposals(iou, valid)
    return match._replace(status=torch.where(match.iou > REGRESSOR_POSITIVE, POSITIVE, IGNORED))


class SVM(NamedTuple):
    """A linear SVM: the margin of x is w·x + b."""

    weight: Float[Tensor, " D"]
    bias: Float[Tensor, ""]
    gap: float  # how far its objective is above the least possible at most, as a fraction


def svm_objective(w: Float[Tensor, " D"], rows: Float[Tensor, "N D"], costs: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Return |w|² / 2 + sum of cost · max(0, 1 - y w·x); a row is y x, its features times its sign."""
    return w @ w / 2 + (costs * (1 - rows @ w).clamp(min=0)).sum()


def fit_svm(
    positives: Float[Tensor, "P D"],
    negatives: Float[Tensor, "M D"],
    *,
    cost: float = 1e-3,
    positive_weight: float = 2.0,
    tolerance: float = 1e-3,
    steps: int = 20_000,
) -> SVM:
    """Fit a linear SVM by the hinge loss; the constants are the authors', for features with a norm of about 20.

    Seen from its dual, each row has a number a between 0 and its cost, and w is the sum of a y x. Gradient steps in a,
    clipped to that range, with Nesterov's momentum, climb towards the least objective from below; what ``w`` costs is
    above it. The fit ends where the two meet up to ``tolerance``, or after so many ``steps``.
    """
    rows = torch.cat((pad(positives, (0, 1), value=BIAS), -pad(negatives, (0, 1), value=BIAS)))
    costs = rows.new_full((len(rows),), cost)
    costs[: len(positives)] *= positive_weight
    step = 1 / torch.linalg.eigvalsh(rows.T @ rows)[-1]
    dual, ahead, momentum, gap = torch.zeros_like(costs), torch.zeros_like(costs), 1.0, math.inf
    for count in range(1, steps + 1):
        after = (ahead + step * (1 - rows @ (rows.T @ ahead))).clamp(min=0).minimum(costs)
        if (ahead - after) @ (after - dual) > 0:  # the momentum leads astray: begin anew from here
            momentum = 1.0
        faster = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = after + (momentum - 1) / faster * (after - dual)
        dual, momentum = after, faster
        if count % LOOK == 0 or count == steps:
            w = rows.T @ dual
            above, below = float(svm_objective(w, rows, costs)), float(dual.sum() - w @ w / 2)
            gap = (above - below) / above if above else 0.0
            if gap <= tolerance:
                break
    w = rows.T @ dual
    return SVM(w[:-1], w[-1] * BIAS, gap)


def fit_ridge(
    features: Float[Tensor, "N D"], targets: Float[Tensor, "N T"], *, penalty: float = 1000.0
) -> tuple[Float[Tensor, "T D"], Float[Tensor, " T"]]:
    """Return the weights and biases that minimise sum |y - W x - b|² + penalty |W|² (R-CNN, appendix C).

    With X and Y the tables less their means, W' = (X'X + penalty)⁻¹ X'Y = X' (XX' + penalty)⁻¹ Y: of the two systems,
    with D and with N unknowns, the smaller is solved. Without examples all is 0.
    """
    count = max(len(features), 1)
    x_mean, y_mean = features.sum(dim=0) / count, targets.sum(dim=0) / count
    x, y = (features - x_mean).double(), (targets - y_mean).double()
    few = len(x) < x.shape[1]
    gram = x @ x.T if few else x.T @ x
    gram.diagonal().add_(penalty)
    weight = (x.T @ torch.linalg.solve(gram, y) if few else torch.linalg.solve(gram, x.T @ y)).to(features.dtype)
    return weight.T, y_mean - x_mean @ weight
