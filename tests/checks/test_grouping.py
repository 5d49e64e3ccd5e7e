"""Each check of lesson 02 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.checks import SOLUTIONS
from rcnnlib.checks.grouping import merge_rows
from rcnnlib.engine.metrics import proposal_recall
from rcnnlib.ops.boxes import box_iou

# --- right answers, in other words than the library's ---------------------------------------------------------------


def fill_loop(boxes_a, sizes_a, boxes_b, sizes_b, area, *, below=None, whole=True):
    """Pair by pair, with the switches that break it."""
    answers = []
    for a, m, b, n in zip(boxes_a.tolist(), sizes_a.tolist(), boxes_b.tolist(), sizes_b.tolist(), strict=True):
        common = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
        answers.append((1 if whole else 0) - (common - m - n) / (common if below else area))
    return torch.tensor(answers)


def merge_numbers(rows, a, b, *, weights=True, union=True):
    one, two = rows[a].tolist(), rows[b].tolist()
    m, n = (one[0], two[0]) if weights else (1, 1)
    low, high = (min, max) if union else (max, min)
    box = [low(one[1], two[1]), low(one[2], two[2]), high(one[3], two[3]), high(one[4], two[4])]
    return torch.tensor(
        [one[0] + two[0], *box, *((m * x + n * y) / (m + n) for x, y in zip(one[5:], two[5:], strict=True))]
    )


def recall_loop(iou, count, threshold):
    found = [max(row[:count]) >= torch.tensor(threshold).item() for row in iou.tolist()]
    return torch.tensor(sum(found) / len(found))


RIGHT = {"my_fill": fill_loop, "my_merge": merge_numbers, "my_recall": recall_loop}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


def test_recall_of_one_picture_is_the_metric_of_the_course():
    torch.manual_seed(0)
    corners = torch.rand(2, 60, 2) * 50
    proposals, truths = torch.cat((corners[0], corners[0] + 30), dim=1), torch.cat((corners[1], corners[1] + 25), dim=1)
    for count, threshold in ((1, 0.3), (10, 0.5), (60, 0.7)):
        ours = SOLUTIONS["my_recall"](box_iou(truths[:8], proposals), count, threshold)
        theirs = proposal_recall([proposals], [truths[:8]], thresholds=torch.tensor([threshold]), count=count)
        assert ours.item() == pytest.approx(theirs.item())


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def merge_in_place(rows, a, b):
    rows[a] = merge_rows(rows, a, b)
    return rows[a]


WRONG = [
    ("my_fill", lambda *arguments: fill_loop(*arguments, below=True), "divide by the common box"),
    ("my_fill", lambda *arguments: fill_loop(*arguments, whole=False), "negative|take it from 1|right is 1.0000"),
    ("my_fill", lambda *arguments: fill_loop(*arguments).tolist(), "of type list"),
    ("my_fill", lambda *arguments: fill_loop(*arguments)[:1], "shape"),
    ("my_fill", lambda *arguments: 1 - fill_loop(*arguments), "take it from 1"),
    ("my_merge", lambda rows, a, b: merge_numbers(rows, a, b, weights=False), "Weight each by its size"),
    ("my_merge", lambda rows, a, b: merge_numbers(rows, a, b, union=False), "overlap of the boxes"),
    ("my_merge", lambda rows, a, b: (rows[a] + rows[b]) / 2, "Size 4, box"),
    ("my_merge", merge_in_place, "changes the tensor that it is given"),
    ("my_merge", lambda rows, a, b: merge_rows(rows, a, b)[1:], "yours has shape (6,), right is (7,)"),
    ("my_merge", lambda rows, a, b: torch.cat((merge_rows(rows, a, b)[:5], rows[a, 5:])), "first region only"),
    ("my_recall", lambda iou, count, t: recall_loop(iou, count, t).item(), "of type float"),
    ("my_recall", lambda iou, count, t: (iou.amax(dim=1) >= t).float().mean(), "first `count` proposals only"),
    ("my_recall", lambda iou, count, t: (iou[:count] >= t).any(dim=1).float().mean(), "yours gives"),
    ("my_recall", lambda iou, count, t: iou[:, :count].amax(dim=1) >= t, "shape"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
