import oracles
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnnlib.ops.boxes import (
    box_area,
    box_convert,
    box_intersection,
    box_iou,
    clip_boxes,
    covered_fraction,
    is_inside,
    is_large,
)

corner = st.floats(-50, 400, width=32)
side = st.floats(1, 200, width=32)
box = st.tuples(corner, corner, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


def test_iou_by_hand():
    square = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    others = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],  # the same: 100 / 100
            [5.0, 0.0, 15.0, 10.0],  # half over: 50 / (100 + 100 - 50)
            [5.0, 5.0, 15.0, 15.0],  # a quarter: 25 / 175
            [10.0, 0.0, 20.0, 10.0],  # they touch: 0
            [2.0, 2.0, 8.0, 8.0],  # inside: 36 / 100
            [4.0, 4.0, 4.0, 4.0],  # empty: 0
        ]
    )
    expected = torch.tensor([[1.0, 1 / 3, 1 / 7, 0.0, 0.36, 0.0]])
    torch.testing.assert_close(box_iou(square, others), expected)


def test_two_empty_boxes_overlap_zero():
    nothing = torch.zeros(2, 4)
    assert torch.equal(box_iou(nothing, nothing), torch.zeros(2, 2))


@given(st.lists(box, min_size=0, max_size=5), st.lists(box, min_size=0, max_size=5))
@settings(max_examples=50, deadline=None)
def test_iou_is_the_slow_twin_and_torchvisions(one, two):
    a = torch.tensor(one, dtype=torch.float64).reshape(-1, 4)
    b = torch.tensor(two, dtype=torch.float64).reshape(-1, 4)
    ours = box_iou(a, b)
    slow = torch.tensor([[oracles.iou(p, q) for q in b.tolist()] for p in a.tolist()]).reshape(len(a), len(b))
    torch.testing.assert_close(ours, slow.double())
    torch.testing.assert_close(ours, torchvision.ops.box_iou(a, b))
    assert ((ours >= 0) & (ours <= 1 + 1e-12)).all()
    torch.testing.assert_close(ours, box_iou(b, a).mT)


def test_iou_keeps_leading_dimensions_apart():
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 5, 4)
    torch.testing.assert_close(box_iou(a, b)[1, 2], box_iou(a[1, 2], b[1, 2]))


def test_iou_has_a_gradient():
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0]], requires_grad=True)
    box_iou(a, torch.tensor([[5.0, 0.0, 15.0, 10.0]])).sum().backward()
    # iou = 10 (x2 - 5) / (10 x2 + 100 - 10 (x2 - 5)), so d/dx2 at 10 is 10 / 150
    torch.testing.assert_close(a.grad[0, 2], torch.tensor(10 / 150))


@pytest.mark.parametrize("other", ["xyxy", "xywh", "cxcywh"])
def test_convert_there_and_back(other):
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    by_hand = {"xyxy": [10, 20, 30, 60], "xywh": [10, 20, 20, 40], "cxcywh": [20, 40, 20, 40]}
    there = box_convert(boxes, "xyxy", other)
    torch.testing.assert_close(there, torch.tensor([by_hand[other]], dtype=torch.float32))
    torch.testing.assert_close(there, torchvision.ops.box_convert(boxes, "xyxy", other))
    torch.testing.assert_close(box_convert(there, other, "xyxy"), boxes)


def test_convert_names_the_unknown_format():
    with pytest.raises(ValueError, match="'yolo' is unknown; use one of xyxy, xywh, cxcywh"):
        box_convert(torch.zeros(1, 4), "yolo", "xyxy")


def test_area_of_an_inside_out_box_is_zero():
    boxes = torch.tensor([[0.0, 0.0, 4.0, 5.0], [4.0, 0.0, 0.0, 5.0], [4.0, 5.0, 0.0, 0.0]])
    assert box_area(boxes).tolist() == [20.0, 0.0, 0.0]


def test_clip_inside_and_large():
    boxes = torch.tensor([[-5.0, 2.0, 30.0, 8.0], [0.0, 0.0, 20.0, 10.0], [1.0, 1.0, 2.0, 9.0]])
    size = torch.tensor([10.0, 20.0])  # height, width
    assert clip_boxes(boxes, size).tolist() == [[0, 2, 20, 8], [0, 0, 20, 10], [1, 1, 2, 9]]
    assert is_inside(boxes, size).tolist() == [False, True, True]  # exactly on the border is inside
    assert is_large(boxes, 2).tolist() == [True, True, False]
    sizes = torch.tensor([[10.0, 20.0], [4.0, 4.0]])
    assert clip_boxes(boxes.expand(2, 3, 4), sizes)[1, 0].tolist() == [0, 2, 4, 4]


def test_covered_fraction():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 0.0, 0.0]])
    regions = torch.tensor([[5.0, 0.0, 100.0, 100.0], [0.0, 0.0, 2.0, 10.0]])
    assert covered_fraction(boxes, regions).tolist() == [0.5, 0.0]
    assert covered_fraction(boxes, regions[:0]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_boxes_at_all(dtype):
    none, some = torch.zeros(0, 4, dtype=dtype), torch.rand(3, 4, dtype=dtype)
    assert box_iou(none, some).shape == (0, 3)
    assert box_intersection(some, none).shape == (3, 0)
    assert box_iou(none, some).dtype == dtype
