"""Each check of lesson 10 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.checks.anchors import anchor_scales


def anchors_loop(scales, ratios, height, width, stride):
    rows = []
    for i in range(height):
        for j in range(width):
            for ratio in ratios:
                for scale in scales:
                    w, h = scale * ratio**-0.5, scale * ratio**0.5
                    x, y = stride * j + stride / 2, stride * i + stride / 2
                    rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return torch.tensor(rows)


def inside_loop(anchors, height, width):
    rows = [x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height for x1, y1, x2, y2 in anchors.tolist()]
    return torch.tensor(rows, dtype=torch.bool)


def scales_loop(boxes, count):
    sides = sorted(((x2 - x1) * (y2 - y1)) ** 0.5 for x1, y1, x2, y2 in boxes.tolist())
    found = []
    for group in range(count):
        place = (group + 0.5) / count * (len(sides) - 1)
        low = int(place)
        high = min(low + 1, len(sides) - 1)
        found.append(sides[low] + (place - low) * (sides[high] - sides[low]))
    return torch.tensor(found)


RIGHT = {"my_anchors": anchors_loop, "my_inside": inside_loop, "my_anchor_scales": scales_loop}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


WRONG = [
    ("my_anchors", lambda s, r, h, w, d: anchors_loop(s, r, w, h, d), "35|row by row|column"),
    ("my_anchors", lambda s, r, h, w, d: anchors_loop(s, r, h, w, d).round(), "yours gives"),
    ("my_anchors", lambda s, r, h, w, d: anchors_loop(s, r, h, w, d).tolist(), "of type list"),
    ("my_anchors", lambda s, r, h, w, d: anchors_loop(s, r, h, w, d)[: len(s) * len(r)], "yours has shape"),
    ("my_inside", lambda a, h, w: inside_loop(a, h, w).float(), "decimal numbers"),
    ("my_inside", lambda a, h, w: a[inside_loop(a, h, w)], "yours has shape"),
    ("my_anchor_scales", lambda b, n: scales_loop(b, n).flip(0), "23.3333"),
    ("my_anchor_scales", lambda b, n: scales_loop(b, n)[:1], "yours has shape"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)


def test_scales_split_the_boxes_into_equal_groups():
    boxes = torch.tensor([[0.0, 0, side, side] for side in range(10, 100, 10)])
    assert anchor_scales(boxes, 3).tolist() == pytest.approx([70 / 3, 50, 230 / 3])
