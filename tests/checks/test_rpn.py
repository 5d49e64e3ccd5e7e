"""Each check of lesson 11 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused
from torch.nn.functional import unfold

from rcnnlib.checks import SOLUTIONS
from rcnnlib.models.rpn import RPNHead


def head_by_windows(features, conv_weight, conv_bias, score_weight, score_bias):
    windows = unfold(features, 3, padding=1)[0].T  # a row for each cell
    hidden = (windows @ conv_weight.flatten(1).T + conv_bias).clamp(min=0)
    return (hidden @ score_weight.flatten(1).T + score_bias).reshape(-1, 2)


def objectness_by_difference(scores):
    return torch.sigmoid(scores[:, 1] - scores[:, 0])


RIGHT = {"my_rpn_head": head_by_windows, "my_objectness": objectness_by_difference}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


def test_the_reference_is_the_head_of_the_library():
    torch.manual_seed(0)
    head, features = RPNHead(6, 9, channels=4), torch.randn(1, 6, 4, 5)
    ours = SOLUTIONS["my_rpn_head"](features, *head.conv.parameters(), *head.scores.parameters())
    torch.testing.assert_close(ours, head(features)[0][0])


WRONG = [
    ("my_rpn_head", lambda *a: head_by_windows(*a).reshape(-1), "yours has shape (24,), right is (12, 2)"),
    ("my_rpn_head", lambda *a: head_by_windows(*a).flip(1), "[0, 100], [1, 101]"),
    ("my_rpn_head", lambda *a: head_by_windows(*a)[None], "yours has shape (1, 12, 2)"),
    ("my_objectness", lambda s: objectness_by_difference(s)[:, None], "yours has shape (1, 1), right is (1,)"),
    ("my_objectness", lambda s: (s[:, 1] > s[:, 0]).float(), "0.5"),
    ("my_objectness", lambda s: s.sigmoid()[:, 1] / s.sigmoid().sum(1), "0.75"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
