"""Each check of lesson 08 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.checks.detections import (
    area_under_envelope,
)
from rcnnlib.ops.boxes import box_iou

# --- right answers, in other words than the library's ---------------------------------------------------------------


def nms_keep_list(boxes, scores, threshold, *, descending=True, equal_strikes=False):
    """A list of kept boxes that each new one is compared with, with the switches that break it."""
    kept = []
    for row in scores.argsort(descending=descending, stable=True).tolist():
        ious = [box_iou(boxes[row : row + 1], boxes[one : one + 1]).item() for one in kept]
        if all(iou < threshold or (iou == threshold and not equal_strikes) for iou in ious):
            kept.append(row)
    return torch.tensor(kept, dtype=torch.int64)


def rates_loop(right, objects, *, start=1):
    found, rows = 0, []
    for shown, verdict in enumerate(right.tolist(), start=start):
        found += verdict
        rows.append((found / shown if shown else 0.0, found / objects))
    return torch.tensor(rows).reshape(-1, 2).T


def area_from_the_right(precision, recall, *, envelope=True):
    """From the last detection to the first, carrying the best precision along."""
    area, height = 0.0, 0.0
    before = [0.0, *recall.tolist()]
    for place in reversed(range(len(recall))):
        height = max(height, precision[place].item()) if envelope else precision[place].item()
        area += height * (recall[place].item() - before[place])
    return torch.tensor(area)


RIGHT = {"my_nms": nms_keep_list, "my_precision_recall": rates_loop, "my_average_precision": area_from_the_right}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


def test_area_by_hand():
    # 1/3 of width at height 1, and 2/3 at 3/4: 1/3 + 1/2.
    precision, recall = torch.tensor([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5]), torch.tensor([1, 1, 2, 3, 3]) / 3
    assert area_under_envelope(precision, recall).item() == pytest.approx(5 / 6)


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def nms_all_pairs(boxes, scores, threshold):
    order = scores.argsort(descending=True)
    table = box_iou(boxes[order], boxes[order]).triu(1)
    return order[table.amax(0) <= threshold] if len(order) else order


def nms_places(boxes, scores, threshold):
    order = scores.argsort(descending=True)
    return nms_keep_list(boxes[order], scores[order], threshold)


WRONG = [
    ("my_nms", lambda b, s, t: nms_keep_list(b, s, t, descending=False), "The worst box won"),
    ("my_nms", lambda b, s, t: nms_keep_list(b, s, t, equal_strikes=True), "not >="),
    ("my_nms", nms_all_pairs, "A box that is struck strikes nobody"),
    ("my_nms", lambda b, s, t: nms_keep_list(b, s, t).sort().values, "order of the input"),
    ("my_nms", nms_places, "places in your sorted list"),
    ("my_nms", lambda b, s, t: b[nms_keep_list(b, s, t)], "You gave boxes"),
    ("my_nms", lambda b, s, t: nms_keep_list(b, s, t).tolist(), "of type list"),
    ("my_nms", lambda b, s, t: nms_keep_list(b.sub_(1), s, t), "changes the tensor"),
    ("my_precision_recall", lambda r, n: rates_loop(r, n).T, "turned over|order|shape"),
    ("my_precision_recall", lambda r, n: rates_loop(r, n).flip(0), "swapped"),
    ("my_precision_recall", lambda r, n: rates_loop(r, len(r) or 1), "divide by `objects`"),
    ("my_precision_recall", lambda r, n: rates_loop(r, max(1, int(r.sum()))), "Missed objects count too"),
    ("my_precision_recall", lambda r, n: torch.stack((r.float(), r / n)), "running sum"),
    ("my_average_precision", lambda p, r: area_from_the_right(p, r, envelope=False), "envelope"),
    ("my_average_precision", lambda p, r: area_from_the_right(p, r).item(), "of type float"),
    ("my_average_precision", lambda p, r: p.mean(), "mean of the precision|nan"),
    ("my_average_precision", lambda p, r: torch.trapezoid(p, r), "1/3 of width at 1, then 2/3 at 3/4"),
    ("my_average_precision", lambda p, r: area_from_the_right(p, r)[None], "shape (1,)"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
