"""Each check of lesson 06 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import math

import pytest
import torch
from judging import assert_accepted, assert_refused
from torch.nn.functional import cross_entropy, smooth_l1_loss

from rcnnlib.checks import SOLUTIONS, check_multi_task_loss

# --- right answers, in other words than the library's ---------------------------------------------------------------


def softmax_loop(scores):
    rows = []
    for row in scores.tolist():
        powers = [math.exp(score - max(row)) for score in row]
        rows.append([power / sum(powers) for power in powers])
    return torch.tensor(rows)


def smooth_loop(x, beta):
    losses = [0.5 * e * e / beta if abs(e) < beta else abs(e) - 0.5 * beta for e in x.flatten().tolist()]
    return torch.tensor(losses).reshape(x.shape)


def multi_task_torch(scores, deltas, labels, targets, weight):
    objects = labels >= 1
    mine = deltas[objects, labels[objects] - 1]
    boxes = smooth_l1_loss(mine, targets[objects], reduction="sum")
    return cross_entropy(scores, labels) + weight * boxes / len(labels)


@pytest.mark.parametrize(
    ("name", "right"),
    [("my_softmax", softmax_loop), ("my_smooth_l1", smooth_loop), ("my_multi_task_loss", multi_task_torch)],
)
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def softmax_one_maximum(scores):
    powers = torch.exp(scores - scores.max())
    return powers / powers.sum(dim=1, keepdim=True)


def smooth_if(x, beta):
    return x**2 / (2 * beta) if x.abs() < beta else x.abs() - beta / 2


def smooth_in_place(x, beta):
    x.abs_()
    return torch.where(x < beta, 0.5 * x * x / beta, x - 0.5 * beta)


def multi_task_one_row(scores, deltas, labels, targets, weight):
    total = 0
    for s, d, u, t in zip(scores, deltas, labels, targets, strict=True):
        total += cross_entropy(s, u)
        total += weight * smooth_l1_loss(d[u - 1], t, reduction="sum")
    return total / len(labels)


def multi_task_column_u(scores, deltas, labels, targets, weight):
    mine = torch.stack([d[u] for d, u in zip(deltas, labels, strict=True)])
    boxes = smooth_l1_loss(mine, targets, reduction="none").sum(1)
    return cross_entropy(scores, labels) + weight * (boxes * (labels >= 1)).mean()


def multi_task_mean(scores, deltas, labels, targets, weight):
    objects = labels >= 1
    boxes = smooth_l1_loss(deltas[objects, labels[objects] - 1], targets[objects])
    return cross_entropy(scores, labels) + weight * boxes


def multi_task_sum(scores, deltas, labels, targets, weight):
    objects = labels >= 1
    boxes = smooth_l1_loss(deltas[objects, labels[objects] - 1], targets[objects], reduction="sum")
    return cross_entropy(scores, labels) + weight * boxes


def multi_task_mean_of_objects(scores, deltas, labels, targets, weight):
    objects = labels >= 1
    boxes = smooth_l1_loss(deltas[objects, labels[objects] - 1], targets[objects], reduction="none")
    return cross_entropy(scores, labels) + weight * boxes.sum(1).mean()


WRONG = [
    ("my_softmax", lambda s: torch.exp(s) / torch.exp(s).sum(1, keepdim=True), "infinity / infinity"),
    ("my_softmax", softmax_one_maximum, "of the whole table"),
    ("my_softmax", lambda s: s.exp() / s.exp().sum(1), "keepdim=True"),
    ("my_softmax", lambda s: s.softmax(0), "down the columns"),
    ("my_softmax", lambda s: s / s.sum(1, keepdim=True), "take exp first"),
    ("my_softmax", lambda s: softmax_loop(s).tolist(), "of type list; wanted is a tensor (N, L)"),
    ("my_softmax", lambda s: s.sub_(s.amax(1, keepdim=True)).softmax(1), "changes the tensor that it is given"),
    ("my_softmax", lambda s: s.softmax(1)[0], "yours has shape (2,), right is (1, 2)"),
    ("my_smooth_l1", smooth_in_place, "changes the tensor that it is given"),
    ("my_smooth_l1", lambda x, beta: torch.nn.functional.smooth_l1_loss(x, x * 0, beta=beta), "Do not take the mean"),
    ("my_smooth_l1", smooth_if, "torch.where"),
    (
        "my_smooth_l1",
        lambda x, beta: torch.where(x.abs() < beta, x**2 / 2 * beta, x.abs() - beta / 2),
        "x**2 / (2 * beta)",
    ),
    ("my_smooth_l1", lambda x, beta: 0.5 * x**2, "That is the parabola everywhere"),
    (
        "my_smooth_l1",
        lambda x, beta: torch.where(x.abs() < beta, 0.5 * x**2, x.abs() - 0.5),
        "|/ beta|beta is ignored|0.5",
    ),
    (
        "my_smooth_l1",
        lambda x, beta: torch.nn.functional.huber_loss(x, x * 0, reduction="none", delta=beta),
        "with beta 2",
    ),
    ("my_multi_task_loss", multi_task_one_row, "Python reads that as the last class"),
    ("my_multi_task_loss", multi_task_column_u, "yours stops with IndexError|place u - 1"),
    ("my_multi_task_loss", multi_task_sum, "Divide it by their number"),
    ("my_multi_task_loss", multi_task_mean_of_objects, "a mean over nothing is NaN"),
    ("my_multi_task_loss", multi_task_mean, "do not take their mean|number of objects"),
    ("my_multi_task_loss", lambda s, d, u, t, w: multi_task_torch(s, d, u, t, w).item(), "of type float"),
    ("my_multi_task_loss", lambda s, d, u, t, w: cross_entropy(s, u), "0.4076"),
    ("my_multi_task_loss", lambda s, d, u, t, w: multi_task_torch(s, d, u, t, 1), "forget the weight"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)


def test_the_arithmetic_of_the_toy():
    # p = e² / (1 + e² + e) = 0.6652; 0.5 * 0.5² = 0.125; 2 - 0.5 = 1.5
    case = check_multi_task_loss.cases[0].arguments
    assert SOLUTIONS["my_multi_task_loss"](*case).item() == pytest.approx(-math.log(0.66524) + 0.125 + 1.5, abs=1e-4)
