"""Each check of lesson 12 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused
from torch.nn.functional import binary_cross_entropy, smooth_l1_loss

from rcnnlib.checks import SOLUTIONS
from rcnnlib.ops.losses import box_loss, classification_loss


def match_by_loop(iou, positive, negative):
    rows, tops = iou.tolist(), [max(column) for column in iou.T.tolist()]
    labels = [1 if max(row) >= positive else 0 if max(row) < negative else -1 for row in rows]
    for place, row in enumerate(rows):
        if any(value == top > 0 for value, top in zip(row, tops, strict=True)):
            labels[place] = 1
    return torch.tensor(labels)


def loss_by_pytorch(p, star, error, n_cls, n_reg, weight):
    took, positive = star >= 0, star == 1
    naming = binary_cross_entropy(p[took], star[took].float(), reduction="sum")
    boxing = smooth_l1_loss(error[positive], torch.zeros_like(error[positive]), reduction="sum")
    return naming / n_cls + weight * boxing / n_reg


RIGHT = {"my_match": match_by_loop, "my_rpn_loss": loss_by_pytorch}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


def test_the_reference_is_the_loss_of_the_library():
    torch.manual_seed(0)
    scores, error = torch.randn(50, 2), torch.randn(50, 4)
    star = torch.randint(-1, 2, (50,))
    ours = SOLUTIONS["my_rpn_loss"](scores.softmax(-1)[:, 1], star, error, 256.0, 2400.0, 10.0)
    theirs = classification_loss(scores, star, normalizer=256)
    theirs = theirs + 10 * box_loss(error, torch.zeros(50, 4), star, beta=1.0, normalizer=2400)
    torch.testing.assert_close(ours, theirs)


WRONG = [
    ("my_match", lambda *a: match_by_loop(*a).float(), "yours holds decimal numbers"),
    ("my_match", lambda *a: match_by_loop(*a)[:, None], "yours has shape (3, 1), right is (3,)"),
    ("my_match", lambda *a: match_by_loop(*a).clamp(min=0) * 2, "[1, -1, 0]"),
    ("my_rpn_loss", lambda *a: loss_by_pytorch(*a).item(), "something of type float"),
    ("my_rpn_loss", lambda *a: 2 * loss_by_pytorch(*a), "0.6931"),
    ("my_rpn_loss", lambda *a: loss_by_pytorch(*a)[None], "yours has shape (1,), right is ()"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
