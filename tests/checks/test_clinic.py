"""The exercises of lesson 17: right answers in other words pass, and half-mended patients are named."""

import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.ops.box_coder import HEAD_STD, decode
from rcnnlib.ops.boxes import box_iou, clip_boxes
from rcnnlib.ops.nms import nms


def offset_in_a_loop(boxes, truth):
    found = []
    for box in boxes:
        iou = box_iou(box[None], truth)[0]
        if iou.max() >= 0.1:
            best = truth[iou.argmax()]
            found.append([(box[0] + box[2] - best[0] - best[2]) / 2, (box[1] + box[3] - best[1] - best[3]) / 2])
    return torch.tensor(found).median(dim=0).values


def test_right_answers_in_other_words():
    assert_accepted("my_offset", offset_in_a_loop)
    assert_accepted("my_read_rows", lambda rows: rows[:, [2, 1, 4, 3, 0]] + torch.tensor([0.0, 0, 0, 0, 1]))
    assert_accepted("my_flat_scores", lambda m: m.movedim(1, -1).contiguous().view(m.shape[0], -1, 2))
    assert_accepted("my_head_boxes", in_other_words)


def in_other_words(proposals, deltas, scores, size, threshold):
    boxes = clip_boxes(decode(deltas * torch.tensor(HEAD_STD), proposals), size)
    order = nms(boxes, scores, threshold)
    return boxes.index_select(0, order)


WRONG = [
    ("my_offset", lambda boxes, truth: (boxes - truth[0])[:, :2].median(0).values, "my_offset"),
    ("my_offset", lambda boxes, truth: -offset_in_a_loop(boxes, truth), "sign"),
    ("my_offset", lambda boxes, truth: boxes[:, :2].mean(0), "Each box minus its object"),
    ("my_read_rows", lambda rows: rows[:, [2, 1, 4, 3, 0]], "count from 0"),
    ("my_read_rows", lambda rows: rows[:, [2, 1, 4, 3]], "shape"),
    ("my_flat_scores", lambda m: m.reshape(m.shape[0], -1, 2), "patient's own line"),
    ("my_flat_scores", lambda m: m.permute(0, 2, 3, 1).flatten(1, 2), "shape"),
    ("my_head_boxes", lambda p, d, s, z, t: clip_boxes(decode(d, p), z), "std"),
    ("my_head_boxes", lambda p, d, s, z, t: decode(d, p, std=HEAD_STD)[nms(p, s, t)], "NMS compared|Clip|outside"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_named(name, function, message):
    assert_refused(name, function, message)


def test_a_wrong_function_is_told_from_a_right_one():
    with pytest.raises(AssertionError):
        assert_accepted("my_flat_scores", lambda m: m.reshape(m.shape[0], -1, 2))
