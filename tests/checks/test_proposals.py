"""Each check of lesson 13 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
import torchvision
from judging import assert_accepted, assert_refused

from rcnnlib.checks import SOLUTIONS
from rcnnlib.models.rpn import RPN
from rcnnlib.ops.box_coder import decode


def propose_with_torchvision(objectness, boxes, size, before, threshold, after):
    scores, rows = objectness.topk(min(before, len(objectness)))
    found = torchvision.ops.clip_boxes_to_image(boxes[rows], tuple(size.tolist()))
    large = torchvision.ops.remove_small_boxes(found, 1.0)
    kept = torchvision.ops.nms(found[large], scores[large], threshold)
    return found[large[kept[:after]]]


def suppressed_loop(boxes, scores, threshold):
    iou = torchvision.ops.box_iou(boxes, boxes)
    found, winners = torch.full((len(boxes),), -1), []
    for row in scores.argsort(descending=True, stable=True).tolist():
        strikers = [winner for winner in winners if iou[winner, row] > threshold]
        found[row] = strikers[0] if strikers else -1
        if not strikers:
            winners.append(row)
    return found


RIGHT = {"my_propose": propose_with_torchvision, "my_suppressed_by": suppressed_loop}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


def test_the_reference_is_the_proposals_of_the_library():
    torch.manual_seed(0)
    rpn = RPN(4, 16, scales=(32, 64), ratios=(0.5, 1.0, 2.0), channels=8, before=120, after=30)
    size = torch.tensor([96.0, 128.0])
    anchors, _, _ = rpn(torch.zeros(1, 4, 6, 8))
    scores, deltas = torch.randn(1, len(anchors), 2), torch.randn(1, len(anchors), 4) * 0.3
    found = rpn.propose(anchors, scores, deltas, size[None], rounds=64)
    ours = SOLUTIONS["my_propose"](scores[0].softmax(-1)[:, 1], decode(deltas[0], anchors), size, 120, 0.7, 30)
    torch.testing.assert_close(ours, found.boxes[0][found.valid[0]])


def test_an_iou_of_exactly_the_threshold():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 7]])
    assert SOLUTIONS["my_suppressed_by"](boxes, torch.tensor([0.9, 0.8]), 0.7).tolist() == [-1, -1]
    assert SOLUTIONS["my_suppressed_by"](boxes, torch.tensor([0.9, 0.8]), 0.69).tolist() == [-1, 0]


WRONG = [
    ("my_propose", lambda o, b, *_: torch.arange(len(b)), "right is (2, 4)"),
    ("my_propose", lambda *_: None, "nothing (None)"),
    ("my_suppressed_by", lambda b, s, t: [-1] * len(b), "of type list"),
    ("my_suppressed_by", lambda b, s, t: torch.full((len(b),), -1), "Row 2 wins and strikes row 0"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
