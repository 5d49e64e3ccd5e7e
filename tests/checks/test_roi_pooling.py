"""Each check of lesson 05 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import math

import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.checks.roi_pooling import (
    CODE,
    DRAWING,
    FORGOTTEN,
    bilinear,
    bin_maxima,
    divide,
    one_axis,
    pool_one,
)
from rcnnlib.ops.roi_ops import roi_pool

SOLUTIONS = {"my_bins": divide, "my_roi_pool": pool_one, "my_bilinear": bilinear}


# --- right answers, in other words than the library's ---------------------------------------------------------------


def bins_in_whole_numbers(cells, bins):
    return torch.tensor([[i * cells // bins, ((i + 1) * cells + bins - 1) // bins] for i in range(bins)])


def pool_loop(feature_map, roi, bins, *, plus=1, up=math.ceil, best=torch.Tensor.max, offset=True, empty=0.0):
    """The loop of the lesson, with the switches that break it."""
    left, top, right, bottom = roi
    wide, high = right - left + plus, bottom - top + plus
    left, top = (left, top) if offset else (0, 0)
    out = torch.zeros(bins, bins)
    for i in range(bins):
        for j in range(bins):
            rows = slice(top + math.floor(i * high / bins), top + up((i + 1) * high / bins))
            columns = slice(left + math.floor(j * wide / bins), left + up((j + 1) * wide / bins))
            part = feature_map[rows, columns]
            out[i, j] = best(part) if part.numel() else empty
    return out


def bilinear_by_area(feature_map, x, y):
    total = torch.zeros(())
    for row in range(feature_map.shape[0]):
        for column in range(feature_map.shape[1]):
            total = total + max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row)) * feature_map[row, column]
    return total


@pytest.mark.parametrize(
    ("name", "right"),
    [("my_bins", bins_in_whole_numbers), ("my_roi_pool", pool_loop), ("my_bilinear", bilinear_by_area)],
)
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def bilinear_runs_out(feature_map, x, y):
    left, top = int(x), int(y)
    dx, dy = x - left, y - top
    upper = (1 - dx) * feature_map[top, left] + dx * feature_map[top, left + 1]
    lower = (1 - dx) * feature_map[top + 1, left] + dx * feature_map[top + 1, left + 1]
    return (1 - dy) * upper + dy * lower


def pool_overwrites(feature_map, roi, bins):
    feature_map.clamp_(min=0)
    return pool_loop(feature_map, roi, bins)


WRONG = [
    ("my_bins", lambda c, n: torch.tensor([[i * c // n, (i + 1) * c // n] for i in range(n)]), "rounded down"),
    (
        "my_bins",
        lambda c, n: torch.tensor([[c // n * i, c // n * (i + 1)] for i in range(n)]),
        "rounded down|remainder",
    ),
    ("my_bins", lambda c, n: bins_in_whole_numbers(c, n).tolist(), "of type list"),
    ("my_bins", lambda c, n: bins_in_whole_numbers(c, n).float(), "decimal numbers"),
    ("my_bins", lambda c, n: bins_in_whole_numbers(c, n) + torch.tensor([0, -1]), "does **not** belong"),
    ("my_bins", lambda c, n: bins_in_whole_numbers(n, c), "yours"),
    ("my_roi_pool", lambda m, r, n: pool_loop(m, r, n, plus=0), "Did you forget + 1"),
    ("my_roi_pool", lambda m, r, n: pool_loop(m, r, n, up=math.floor), "Your bins do not overlap"),
    ("my_roi_pool", lambda m, r, n: pool_loop(m, r, n, up=math.floor, empty=-math.inf), "Your bins do not overlap"),
    ("my_roi_pool", lambda m, r, n: pool_loop(m, r, n, best=torch.Tensor.mean), "took the mean"),
    ("my_roi_pool", lambda m, r, n: pool_loop(m, r, n, offset=False), "counted from the corner of the RoI"),
    ("my_roi_pool", lambda m, r, n: pool_loop(m, (r[1], r[0], r[3], r[2]), n), "mix up x and y"),
    ("my_roi_pool", lambda m, r, n: pool_loop(m, r, n).T, "turned over"),
    ("my_roi_pool", lambda m, r, n: pool_loop(m, r, n)[None], "yours has shape (1, 1, 1)"),
    ("my_roi_pool", lambda m, r, n: torch.stack([m[0, 0]] * n * n).clamp(min=0).view(n, n), "largest is 29"),
    ("my_roi_pool", pool_overwrites, "changes the tensor"),
    ("my_bilinear", lambda m, x, y: m[round(y), round(x)], "nearest cell"),
    ("my_bilinear", lambda m, x, y: m[int(y), int(x)], "upper left cell alone"),
    ("my_bilinear", lambda m, x, y: bilinear_by_area(m, y, x), "swap x and y"),
    ("my_bilinear", bilinear_runs_out, "IndexError"),
    ("my_bilinear", lambda m, x, y: float(bilinear_by_area(m, x, y)), "of type float"),
    ("my_bilinear", lambda m, x, y: print(end=""), "gives back nothing (None)"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)


# --- the rules that explorers plant ---------------------------------------------------------------------------------


def test_rules_by_hand():
    # 7 cells from 0 into 2 bins: 3.5 is rounded to 3 and to 4
    assert one_axis(0, 6, 2, 8, CODE).tolist() == [[0, 4], [3, 7]]
    assert one_axis(0, 6, 2, 8, DRAWING).tolist() == [[0, 3], [3, 7]]
    assert one_axis(0, 6, 2, 8, FORGOTTEN).tolist() == [[0, 3], [3, 6]]
    # 3 cells from 1 into 4 bins, floor(3 i / 4) = 0 0 1 2: the first bin of the drawing is empty
    assert one_axis(1, 3, 4, 9, DRAWING).tolist() == [[1, 1], [1, 2], [2, 3], [3, 4]]


def test_bins_end_with_the_map():
    assert one_axis(6, 9, 2, 8).tolist() == [[6, 8], [8, 8]]
    assert one_axis(6, 9, 2, 8, DRAWING).tolist() == [[6, 8], [8, 8]]


def test_maxima_are_those_of_the_library_and_winners_hold_them():
    values = torch.randn(9, 12)
    pooled, winners = bin_maxima(values, one_axis(2, 8, 7, 9), one_axis(1, 13, 7, 12))
    box = torch.tensor([[1.0, 2, 13, 8]])
    assert torch.equal(pooled, roi_pool(values[None], box, 7, spatial_scale=1.0)[0, 0])
    filled = winners >= 0
    assert torch.equal(values.flatten()[winners[filled]], pooled[filled])
    assert pooled[~filled].eq(0).all()
