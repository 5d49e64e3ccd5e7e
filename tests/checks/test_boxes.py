"""Each check of lesson 01 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.checks import check_iou
from rcnnlib.ops.boxes import box_iou

# --- right answers, in other words than the library's ---------------------------------------------------------------


def convert_rows(boxes, in_fmt, out_fmt):
    rows = []
    for a, b, c, d in boxes.tolist():
        x1, y1 = (a - c / 2, b - d / 2) if in_fmt == "cxcywh" else (a, b)
        w, h = (c - a, d - b) if in_fmt == "xyxy" else (c, d)
        first = (x1 + w / 2, y1 + h / 2) if out_fmt == "cxcywh" else (x1, y1)
        rows.append((*first, *((x1 + w, y1 + h) if out_fmt == "xyxy" else (w, h))))
    return torch.tensor(rows).reshape(-1, 4)


def iou_loop(boxes1, boxes2, *, clamp=True, plus=0, less_shared=True, empty=0.0):
    """The loop of the lesson, with the switches that break it."""
    table = torch.zeros(len(boxes1), len(boxes2))
    for n, (x1, y1, x2, y2) in enumerate(boxes1.tolist()):
        for m, (left, top, right, bottom) in enumerate(boxes2.tolist()):
            width = min(x2, right) - max(x1, left) + plus
            height = min(y2, bottom) - max(y1, top) + plus
            shared = max(0, width) * max(0, height) if clamp else width * height
            both = (x2 - x1 + plus) * (y2 - y1 + plus) + (right - left + plus) * (bottom - top + plus)
            union = both - shared if less_shared else both
            table[n, m] = shared / union if union else empty
    return table


def match_loop(iou, threshold):
    found = []
    for row in iou.tolist():
        best = max(range(len(row)), key=row.__getitem__)
        found.append(best if row[best] >= torch.tensor(threshold).item() else -1)
    return torch.tensor(found, dtype=torch.int64)


@pytest.mark.parametrize(
    ("name", "right"), [("my_convert", convert_rows), ("my_iou", iou_loop), ("my_best_match", match_loop)]
)
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def convert_overwrites(boxes, in_fmt, out_fmt):
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def convert_half(boxes, in_fmt, out_fmt):
    a, b, c, d = boxes.unbind(1)
    return torch.stack((a - c // 2, b - d // 2, a + c // 2, b + d // 2), dim=1)


def iou_divides_blindly(boxes1, boxes2):
    return torch.tensor([[iou_pair(a, b) for b in boxes2.tolist()] for a in boxes1.tolist()]).reshape(
        len(boxes1), len(boxes2)
    )


def iou_pair(a, b):
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


WRONG = [
    ("my_convert", lambda boxes, i, o: boxes, "gave the boxes back as they came"),
    ("my_convert", convert_overwrites, "changes the tensor that it is given"),
    ("my_convert", convert_half, "from xyxy to xyxy, the box of the toy"),
    ("my_convert", lambda boxes, i, o: convert_rows(boxes, i, o).int(), "whole numbers"),
    ("my_convert", lambda boxes, i, o: convert_rows(boxes, i, o).tolist(), "of type list; wanted is a tensor (N, 4)"),
    ("my_convert", lambda boxes, i, o: convert_rows(boxes, i, o)[0], "yours has shape (4,), right is (1, 4)"),
    ("my_convert", lambda boxes: boxes, "stops with TypeError"),
    ("my_iou", lambda a, b: iou_loop(a, b, clamp=False), "forget to clamp it at 0"),
    ("my_iou", lambda a, b: iou_loop(a, b, plus=1), "Did you add 1"),
    ("my_iou", lambda a, b: iou_loop(a, b, less_shared=False), "count the overlap twice"),
    ("my_iou", lambda a, b: iou_loop(a, b, empty=float("nan")), "0 / 0 is NaN"),
    ("my_iou", lambda a, b: iou_loop(a, b, empty=1.0), "Their union is 0"),
    ("my_iou", lambda a, b: iou_loop(b, a), "turned over"),
    ("my_iou", lambda a, b: print(end=""), "gives back nothing (None)"),
    ("my_iou", iou_divides_blindly, "in the line `return shared / "),
    ("my_iou", lambda a, b: box_iou(a.sub_(1), b.sub_(1)), "changes the tensor that it is given"),
    ("my_iou", lambda a, b: iou_loop(a, b).clamp(min=0.01), "yours gives 0.0100, right is 0.0000"),
    ("my_best_match", lambda iou, t: iou.argmax(dim=1), "Did you forget the threshold"),
    ("my_best_match", lambda iou, t: iou.argmax(dim=0), "searched down the columns"),
    ("my_best_match", lambda iou, t: torch.where(iou.amax(1) > t, iou.argmax(1), -1), "use >="),
    ("my_best_match", lambda iou, t: (iou >= t).int().argmax(dim=1), "shape|-1|largest"),
    ("my_best_match", lambda iou, t: match_loop(iou, t).tolist(), "of type list"),
    ("my_best_match", lambda iou, t: iou.masked_fill_(iou < t, 0).argmax(1), "changes the tensor"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)


def test_a_check_leaves_the_random_numbers_and_its_own_cases_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check_iou.judge(lambda a, b: box_iou(a.zero_(), b.zero_()))
    assert torch.equal(torch.rand(2), expected)
    assert check_iou.judge(box_iou).startswith("✓")
