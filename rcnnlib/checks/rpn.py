"""Checks of lesson 11: `my_rpn_head`, the score half of the RPN with its flat list, and `my_objectness`.

They are compared with `models.rpn.RPNHead`'s two lines and with a softmax.

Shapes:
    C, h, w  channels and cells of the feature map      M  channels in the middle      k  anchors      A = h w k
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, relu

from rcnnlib.checks.contract import Case, Contract, Mistake

# --- my_rpn_head -----------------------------------------------------------------------------------------------------


def rpn_scores(
    features: Float[Tensor, "1 C h w"],
    conv_weight: Float[Tensor, "M C 3 3"],
    conv_bias: Float[Tensor, " M"],
    score_weight: Float[Tensor, "L M 1 1"],
    score_bias: Float[Tensor, " L"],
) -> Float[Tensor, "A 2"]:
    """Return the two scores of every anchor: a 3x3 convolution, ReLU, a 1x1 convolution, and the map as a list."""
    score_map = conv2d(relu(conv2d(features, conv_weight, conv_bias, padding=1)), score_weight, score_bias)
    return score_map.permute(0, 2, 3, 1).reshape(-1, 2)  # (1, 2k, h, w) -> (1, h, w, 2k) -> (h w k, 2)


def _head(
    flatten: Callable[[Tensor], Tensor], *, activate: Callable[[Tensor], Tensor] = relu, padding: int = 1
) -> Callable[..., Tensor]:
    """Return `rpn_scores` with something wrong."""

    def function(features, conv_weight, conv_bias, score_weight, score_bias):
        hidden = activate(conv2d(features, conv_weight, conv_bias, padding=padding))
        return flatten(conv2d(hidden, score_weight, score_bias))

    return function


def _right(score_map: Tensor) -> Tensor:
    return score_map.permute(0, 2, 3, 1).reshape(-1, 2)


def _twos_apart(score_map: Tensor) -> Tensor:
    """All background channels first, then all object channels."""
    moved = score_map.permute(0, 2, 3, 1)
    return moved.unflatten(-1, (2, -1)).transpose(-1, -2).reshape(-1, 2)


def _anchors_first(score_map: Tensor) -> Tensor:
    moved = score_map.unflatten(1, (-1, 2))  # (1, k, 2, h, w)
    return moved.permute(0, 1, 3, 4, 2).reshape(-1, 2)


HEAD_MISTAKES = (
    Mistake(
        "A reshape alone walks through a channel first and mixes the cells up. Bring the channels to the end before: "
        "`.permute(0, 2, 3, 1)`.",
        _head(lambda score_map: score_map.reshape(-1, 2)),
    ),
    Mistake(
        "You went column by column. The list goes row by row.", _head(lambda m: m.permute(0, 3, 2, 1).reshape(-1, 2))
    ),
    Mistake(
        "All anchors of a cell stand together in the list. You put all cells of an anchor together.",
        _head(_anchors_first),
    ),
    Mistake("The two scores of an anchor are neighbours: channels 0 and 1, then 2 and 3.", _head(_twos_apart)),
    Mistake("Between the two convolutions stands a ReLU.", _head(_right, activate=lambda x: x)),
    Mistake("The 3x3 convolution must keep h and w: padding=1.", _head(_right, padding=0)),
    Mistake("After the scores comes no ReLU: a score may be negative.", _head(lambda m: _right(relu(m)))),
    Mistake("Give the scores themselves; the softmax comes later.", _head(lambda m: _right(m).softmax(-1))),
)


def _weights(seed: int, channels: int, middle: int, k: int, h: int, w: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((1, channels, h, w), (middle, channels, 3, 3), (middle,), (2 * k, middle, 1, 1), (2 * k,))
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def _numbered(k: int, h: int, w: int) -> tuple[Tensor, ...]:
    """Weights that make the score of channel c at cell (i, j) equal to 100 c + 10 i + j."""
    features = (10 * torch.arange(float(h))[:, None] + torch.arange(float(w)))[None, None]
    conv_weight = torch.zeros(1, 1, 3, 3)
    conv_weight[0, 0, 1, 1] = 1.0
    return features, conv_weight, torch.zeros(1), torch.ones(2 * k, 1, 1, 1), 100 * torch.arange(2.0 * k)


check_rpn_head = Contract(
    name="my_rpn_head",
    wanted="a tensor (h w k, 2): two scores for each anchor",
    reference=rpn_scores,
    cases=(
        Case(
            "3 x 4 cells, one anchor; the map holds 100 · channel + 10 · row + column",
            _numbered(1, 3, 4),
            "The first entries are [0, 100], [1, 101], [2, 102], [3, 103], then [10, 110].",
        ),
        Case(
            "one cell, two anchors; the map holds 100 · channel",
            _numbered(2, 1, 1),
            "Anchor 0 has the channels 0 and 1, anchor 1 the channels 2 and 3: [[0, 100], [200, 300]].",
        ),
        Case(
            "2 x 3 cells, three anchors, numbered in the same way",
            _numbered(3, 2, 3),
            "18 entries; entry 3 is anchor 0 of the second cell: [1, 101].",
        ),
        Case(
            "random weights, 4 x 5 cells, nine anchors",
            _weights(0, 6, 4, 9, 4, 5),
            "Is there a ReLU, and the right padding?",
        ),
        Case("random weights, a map of one row", _weights(1, 3, 8, 2, 1, 7), "Is there a ReLU, and the right padding?"),
    ),
    mistakes=HEAD_MISTAKES,
)

# --- my_objectness ---------------------------------------------------------------------------------------------------


def objectness(scores: Float[Tensor, "A 2"]) -> Float[Tensor, " A"]:
    """Return the probability of an object: the second of two numbers after a softmax."""
    return scores.softmax(-1)[:, 1]


OBJECTNESS_MISTAKES = (
    Mistake("Column 0 is the background. The object is column 1.", lambda s: s.softmax(-1)[:, 0]),
    Mistake("Both scores count: take the sigmoid of their difference.", lambda s: s[:, 1].sigmoid()),
    Mistake(
        "You let the anchors compete with each other. The two scores of *one* anchor do: dim=1.",
        lambda s: s.softmax(0)[:, 1],
    ),
    Mistake("A difference is no probability yet: it still wants a sigmoid.", lambda s: s[:, 1] - s[:, 0]),
    Mistake("Divide exp of the scores, not the scores themselves.", lambda s: s[:, 1] / s.sum(-1)),
    Mistake(
        "exp of a large score is infinite. Subtract the larger score first, or use the sigmoid of the difference.",
        lambda s: s[:, 1].exp() / s.exp().sum(-1),
    ),
    Mistake("Give one number for each anchor: the second column.", lambda s: s.softmax(-1)),
)

check_objectness = Contract(
    name="my_objectness",
    wanted="a tensor (A,): one probability for each anchor",
    reference=objectness,
    cases=(
        Case("two equal scores", (torch.tensor([[3.0, 3.0]]),), "Nobody knows: 0.5."),
        Case(
            "scores 0 and log 3 = 1.0986, then the same two swapped",
            (torch.tensor([[0.0, 1.0986123], [1.0986123, 0.0]]),),
            "exp gives 1 and 3: 3 / (1 + 3) = 0.75, and 0.25.",
        ),
        Case(
            "negative scores", (torch.tensor([[-2.0, -1.0], [-5.0, 5.0]]),), "Only the difference matters: 1, then 10."
        ),
        Case(
            "very large scores, 200 and 201",
            (torch.tensor([[200.0, 201.0]]),),
            "The difference is 1, so the answer is 0.7311.",
        ),
        Case("no anchors at all, a tensor (0, 2)", (torch.zeros(0, 2),), "Nothing in, nothing out: (0,)."),
    ),
    mistakes=OBJECTNESS_MISTAKES,
)
