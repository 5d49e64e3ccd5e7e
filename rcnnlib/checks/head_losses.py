"""Checks of lesson 06, the head and its losses: `my_softmax`, `my_smooth_l1`, `my_multi_task_loss`.

Shapes:
    N  RoIs      K  classes      L = K + 1, with the background      S  samples of a step
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, nll_loss

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.losses import box_loss, class_deltas, classification_loss, smooth_l1

# --- my_softmax -----------------------------------------------------------------------------------------------------


def softmax(scores: Float[Tensor, "N L"]) -> Float[Tensor, "N L"]:
    """Return the probabilities of each row; PyTorch's own, which takes the largest score off first."""
    return torch.softmax(scores, dim=-1)


def _plain(scores: Tensor) -> Tensor:
    return scores.exp() / scores.exp().sum(dim=-1, keepdim=True)


def _flat(scores: Tensor) -> Tensor:
    return softmax(scores.reshape(1, -1)).reshape(scores.shape)


SOFTMAX_MISTAKES = (
    Mistake(
        "exp(1000) is too large for a float: infinity, and infinity / infinity is NaN. "
        "Take the largest score of the row off first; the answer stays the same.",
        _plain,
    ),
    Mistake(
        "You took off the largest score of the whole table. A row far below it becomes 0 / 0, NaN. "
        "Take off the largest of each row.",
        lambda s: _plain(s - s.amax()),
    ),
    Mistake(
        "You divided down the columns. Each row is one RoI, and each row must add up to 1.", lambda s: s.softmax(0)
    ),
    Mistake("All numbers together add up to 1. Each row must, on its own.", _flat),
    Mistake("Your rows do not add up to 1. Divide by the sum of the row.", lambda s: s.exp()),
    Mistake("Scores may be negative, probabilities may not: take exp first.", lambda s: s / s.sum(-1, keepdim=True)),
    Mistake("The sigmoid looks at one score alone. The softmax compares all scores of a row.", torch.sigmoid),
)


def _rows(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def _random(*shape: int, seed: int, size: float = 1.0) -> Tensor:
    """Return normal random numbers, drawn without touching the learner's."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size


check_softmax = Contract(
    name="my_softmax",
    wanted="a tensor (N, L) of probabilities",
    reference=softmax,
    cases=(
        Case("two equal scores", (_rows((0, 0)),), "exp is 1 for both: one half each."),
        Case("the scores of the toy, 0, 2, 1", (_rows((0, 2, 1)),), "exp gives 1, 7.389, 2.718; the sum is 11.107."),
        Case(
            "two RoIs, one row each",
            (_rows((0, 2, 1), (3, 0, 0)),),
            "Each row is a RoI of its own: with keepdim=True its sum stays in its row.",
        ),
        Case("negative scores", (_rows((-1, -2, -1)),), "exp of a negative number is a small positive one."),
        Case("large scores, 1000, 1001, 999", (_rows((1000, 1001, 999)),), "Does exp overflow?"),
        Case("large scores in one row, small in the other", (_rows((1000, 1001, 999), (0, 2, 1)),), "Row by row."),
        Case("scores far apart, 0 and 500", (_rows((0, 500, 0)),), "Take the largest score of the row off first."),
        Case("seven random RoIs, six classes", (_random(7, 6, seed=1, size=3),), "Try one row by hand."),
    ),
    mistakes=SOFTMAX_MISTAKES,
)


# --- my_smooth_l1 ---------------------------------------------------------------------------------------------------


def _branches(
    small: Callable[[Tensor, float], Tensor],
    large: Callable[[Tensor, float], Tensor],
    *,
    signed: bool = False,
) -> Callable[[Tensor, float], Tensor]:
    """Return a smooth L1 with other formulas; ``signed`` compares x itself with beta, and not its size."""
    return lambda x, beta: torch.where((x if signed else x.abs()) < beta, small(x, beta), large(x, beta))


def _square(x: Tensor, beta: float) -> Tensor:
    return 0.5 * x * x / beta


def _line(x: Tensor, beta: float) -> Tensor:
    return x.abs() - 0.5 * beta


SMOOTH_L1_MISTAKES = (
    Mistake("That is the parabola everywhere (L2). From |x| = beta on it must be a line.", _square),
    Mistake("That is L1. Close to 0 it must be a parabola.", lambda x, beta: x.abs()),
    Mistake(
        "The two pieces do not meet: at |x| = beta the parabola is at 0.5 beta, your line at beta.",
        _branches(_square, lambda x, beta: x.abs()),
    ),
    Mistake(
        "Did you write 0.5 for 0.5 * beta in the line? They agree only at beta = 1.",
        _branches(_square, lambda x, beta: x.abs() - 0.5),
    ),
    Mistake(
        "The parabola needs / beta, or the two pieces meet only at beta = 1.",
        _branches(lambda x, beta: 0.5 * x * x, _line),
    ),
    Mistake(
        "Your parabola is multiplied by beta. x**2 / 2 * beta means (x**2 / 2) * beta: write x**2 / (2 * beta).",
        _branches(lambda x, beta: 0.5 * x * x * beta, _line),
    ),
    Mistake("The parabola needs the factor 0.5.", _branches(lambda x, beta: x * x / beta, _line)),
    Mistake("beta is ignored: the pieces must meet at |x| = beta, not at 1.", lambda x, beta: smooth_l1(x, 1.0)),
    Mistake(
        "An error of -3 is as bad as one of 3. Compare |x| with beta, not x.",
        _branches(_square, _line, signed=True),
    ),
    Mistake(
        "An error of -3 is as bad as one of 3. Take |x| in the line.",
        _branches(_square, lambda x, beta: x - 0.5 * beta),
    ),
    Mistake("You swapped the two pieces: the parabola is for small |x|.", _branches(_line, _square)),
    Mistake("One loss for each error is asked for. Do not add them up.", lambda x, beta: smooth_l1(x, beta).sum()),
    Mistake("One loss for each error is asked for. Do not take the mean.", lambda x, beta: smooth_l1(x, beta).mean()),
)

_LADDER = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])

check_smooth_l1 = Contract(
    name="my_smooth_l1",
    wanted="a tensor of the shape of x",
    reference=smooth_l1,
    cases=(
        Case("a small error, 0.5, with beta 1", (torch.tensor([0.5]), 1.0), "0.5 * 0.5 * 0.5 = 0.125"),
        Case("a large error, 3, with beta 1", (torch.tensor([3.0]), 1.0), "3 - 0.5 = 2.5"),
        Case("an error of exactly beta", (torch.tensor([1.0]), 1.0), "Both pieces give 0.5."),
        Case(
            "errors from -3 to 3, with beta 1",
            (_LADDER, 1.0),
            "Decide for each error on its own (torch.where). Left and right of 0 are alike.",
        ),
        Case("errors from -3 to 3, with beta 2", (_LADDER, 2.0), "The pieces meet at |x| = 2, at the height 1."),
        Case("errors from -3 to 3, with beta 1/9", (_LADDER, 1 / 9), "The parabola is narrow: 0.5 x² / beta."),
        Case("a table of errors (5, 4)", (_random(5, 4, seed=2, size=2), 0.7), "The shape stays as it is."),
        Case("no errors at all", (torch.zeros(0), 1.0), "Nothing in, nothing out."),
    ),
    mistakes=SMOOTH_L1_MISTAKES,
)


# --- my_multi_task_loss ---------------------------------------------------------------------------------------------


def multi_task_loss(
    scores: Float[Tensor, "S L"],
    deltas: Float[Tensor, "S K 4"],
    labels: Int[Tensor, " S"],
    targets: Float[Tensor, "S 4"],
    weight: float,
) -> Float[Tensor, ""]:
    """Return L_cls + weight [u >= 1] L_loc, a mean over all S samples (Fast R-CNN eq. 1)."""
    count = len(labels)
    mine = class_deltas(deltas, labels)
    boxes = box_loss(mine, targets, labels, beta=1.0, normalizer=count)
    return classification_loss(scores, labels, normalizer=count) + weight * boxes


def _with_boxes(
    box_term: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]:
    """Return the loss with another box term, a function of (deltas, labels, targets)."""
    return lambda s, d, u, t, w: cross_entropy(s, u) + w * box_term(d, u, t)


def _sums(deltas: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The box loss of every row against its own class, whether or not it has an object."""
    return smooth_l1(class_deltas(deltas, labels) - targets).sum(dim=-1)


def _last_class(deltas: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    rows = torch.arange(len(labels))
    return smooth_l1(deltas[rows, labels - 1] - targets).sum(dim=-1).mean()


def _next_class(deltas: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    rows, columns = torch.arange(len(labels)), labels.clamp(max=deltas.shape[1] - 1)
    return (smooth_l1(deltas[rows, columns] - targets).sum(dim=-1) * (labels >= 1)).mean()


def _all_classes(deltas: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return (smooth_l1(deltas - targets[:, None]).sum(dim=(-1, -2)) * (labels >= 1)).mean()


def _squared(deltas: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return ((class_deltas(deltas, labels) - targets).square().sum(dim=-1) * (labels >= 1)).mean()


def _per_object(deltas: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    inside = labels >= 1
    return (_sums(deltas, labels, targets) * inside).sum() / inside.sum().clamp(min=1)


MULTI_TASK_MISTAKES = (
    Mistake(
        "A background RoI has no box: its box loss must be 0. Where u = 0, u - 1 is -1, "
        "and Python reads that as the last class.",
        _with_boxes(_last_class),
    ),
    Mistake(
        "A background RoI has no box: its box loss must be 0. Where is the [u >= 1]?",
        _with_boxes(lambda d, u, t: _sums(d, u, t).mean()),
    ),
    Mistake(
        "Class 1 is an object too: the box loss counts from u = 1 on.",
        _with_boxes(lambda d, u, t: (_sums(d, u, t) * (u > 1)).mean()),
    ),
    Mistake("Class u has its deltas in place u - 1, because the background has none.", _with_boxes(_next_class)),
    Mistake(
        "You divide the box loss by the number of objects. Divide both terms by the number of all samples.",
        _with_boxes(_per_object),
    ),
    Mistake(
        "A batch may hold no object, and a mean over nothing is NaN. Sum up, and divide by the number of all samples.",
        _with_boxes(lambda d, u, t: _sums(d, u, t)[u >= 1].mean()),
    ),
    Mistake(
        "Your box loss is a sum over the RoIs. Divide it by their number, as cross_entropy does.",
        _with_boxes(lambda d, u, t: (_sums(d, u, t) * (u >= 1)).sum()),
    ),
    Mistake(
        "Add the four numbers of a box up; do not take their mean.",
        _with_boxes(lambda d, u, t: (_sums(d, u, t) * (u >= 1)).mean() / 4),
    ),
    Mistake("Only the deltas of the right class count, not those of all classes.", _with_boxes(_all_classes)),
    Mistake("That is the squared error. The paper's L_loc is smooth L1.", _with_boxes(_squared)),
    Mistake("Did you forget the weight of the box loss?", lambda s, d, u, t, w: multi_task_loss(s, d, u, t, 1.0)),
    Mistake(
        "That is the sum over the samples. Divide by their number.",
        lambda s, d, u, t, w: multi_task_loss(s, d, u, t, w) * len(u),
    ),
    Mistake(
        "cross_entropy takes the scores: it has the softmax inside. You took it twice.",
        lambda s, d, u, t, w: multi_task_loss(s.softmax(-1), d, u, t, w),
    ),
    Mistake(
        "The class loss is -log of the probability of u. Is the minus or the log missing?",
        lambda s, d, u, t, w: multi_task_loss(s, d, u, t, w) - cross_entropy(s, u) + nll_loss(s.softmax(-1), u),
    ),
)


def _sample(seed: int, *labels: int, classes: int = 3, weight: float = 1.0) -> tuple[Any, ...]:
    count = len(labels)
    scores = _random(count, classes + 1, seed=seed, size=2)
    deltas = _random(count, classes, 4, seed=seed + 1)
    return scores, deltas, torch.tensor(labels), _random(count, 4, seed=seed + 2, size=2), weight


_TOY = (
    torch.tensor([[0.0, 2.0, 1.0]]),
    torch.tensor([[[0.5, 0.0, 0.0, 2.0], [9.0, 9.0, 9.0, 9.0]]]),
    torch.tensor([1]),
    torch.zeros(1, 4),
)

check_multi_task_loss = Contract(
    name="my_multi_task_loss",
    wanted="one number, a tensor without dimensions",
    reference=multi_task_loss,
    cases=(
        Case(
            "the toy: scores 0, 2, 1, label 1",
            (*_TOY, 1.0),
            "L_cls = -log 0.6652 = 0.4076; L_loc = 0.125 + 1.5 = 1.625.",
        ),
        Case("one RoI of the background", _sample(10, 0), "Only the class loss counts."),
        Case("one RoI of class 1", _sample(13, 1), "Both terms count."),
        Case("four RoIs, two of them background", _sample(16, 0, 2, 0, 1), "A mean over all four."),
        Case("the last class is there too", _sample(19, 3, 0, 3), "Class 3 has its deltas in place 2."),
        Case("with a weight of 3", _sample(22, 1, 0, 2, weight=3.0), "L_cls + 3 * L_loc"),
        Case("with a weight of 0", _sample(25, 1, 0, 2, weight=0.0), "The class loss alone."),
        Case("sixteen RoIs of five classes", _sample(28, *[0] * 12, 5, 1, 4, 2, classes=5), "Try one row by hand."),
    ),
    mistakes=MULTI_TASK_MISTAKES,
)
