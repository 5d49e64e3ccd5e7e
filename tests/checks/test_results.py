"""Each check of lesson 15 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import numpy as np
import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.checks import SOLUTIONS
from rcnnlib.engine.bootstrap import paired_difference


def speedups_by_loop(search, network):
    rows = []
    for one, other in zip(search.tolist(), network.tolist(), strict=True):
        rows.append([float(network[0]) / other, float(search[0] + network[0]) / (one + other)])
    return torch.tensor(rows)


def recall_by_loop(found, objects, drawn):
    return torch.tensor([sum(float(found[i]) for i in row) / sum(float(objects[i]) for i in row) for row in drawn])


def interval_by_numpy(first, second):
    return torch.from_numpy(np.percentile((first - second).double().numpy(), [2.5, 97.5]))


RIGHT = {"my_speedups": speedups_by_loop, "my_redrawn_recall": recall_by_loop, "my_interval": interval_by_numpy}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


def test_the_interval_is_that_of_the_library_for_one_seed():
    first, second = torch.rand(2, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = paired_difference(first[:1], second[:1], first[None], second[None])
    assert SOLUTIONS["my_interval"](first, second).tolist() == pytest.approx([theirs.low, theirs.high])


WRONG = [
    ("my_speedups", lambda s, n: speedups_by_loop(s, n).T, "yours has shape (2, 2), right is|[[1, 1], [8, 10/3]]"),
    ("my_speedups", lambda s, n: speedups_by_loop(s, n)[:, 0], "yours has shape (2,), right is (2, 2)"),
    ("my_speedups", lambda s, n: speedups_by_loop(s, n).round(), "[8, 10/3]|yours gives"),
    ("my_redrawn_recall", lambda *a: recall_by_loop(*a).tolist(), "something of type list"),
    ("my_redrawn_recall", lambda f, o, d: 1 - recall_by_loop(f, o, d), "[9/15, 16/20, 2/10]"),
    ("my_redrawn_recall", lambda f, o, d: f.cumsum(0), "yours has shape"),
    ("my_interval", lambda a, b: tuple(interval_by_numpy(a, b)), "something of type tuple"),
    ("my_interval", lambda a, b: interval_by_numpy(a, b).flip(0), "yours gives"),
    ("my_interval", lambda a, b: interval_by_numpy(a, b) * 100, "[0.1, 0.1]"),
    ("my_interval", lambda a, b: (a - b).sort().values[[len(a) // 40, len(a) * 39 // 40]], "part of the way"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
