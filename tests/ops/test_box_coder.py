import math

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder

from rcnnlib.ops.box_coder import HEAD_STD, decode, encode


def random_boxes(n, dtype=torch.float32):
    corner = torch.rand(n, 2, dtype=dtype) * 300
    return torch.cat((corner, corner + 5 + torch.rand(n, 2, dtype=dtype) * 200), dim=1)


def test_by_hand():
    anchor = torch.tensor([[0.0, 0.0, 10.0, 20.0]])  # centre (5, 10), 10 x 20
    box = torch.tensor([[5.0, 0.0, 25.0, 20.0]])  # centre (15, 10), 20 x 20
    expected = torch.tensor([[(15 - 5) / 10, (10 - 10) / 20, math.log(20 / 10), math.log(20 / 20)]])
    torch.testing.assert_close(encode(box, anchor), expected)
    torch.testing.assert_close(decode(expected, anchor), box)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_torchvision(dtype):
    boxes, anchors = random_boxes(50, dtype), random_boxes(50, dtype)
    theirs = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    ours = encode(boxes, anchors, std=HEAD_STD)
    torch.testing.assert_close(ours, theirs.encode_single(boxes, anchors))
    deltas = torch.randn(50, 4, dtype=dtype) * 5  # some above the limit of tw, th
    torch.testing.assert_close(decode(deltas, anchors, std=HEAD_STD), theirs.decode_single(deltas, anchors))


def test_against_the_slow_twin():
    boxes, anchors = random_boxes(20, torch.float64), random_boxes(20, torch.float64)
    slow = [oracles.encode(b, a) for b, a in zip(boxes.tolist(), anchors.tolist(), strict=True)]
    torch.testing.assert_close(encode(boxes, anchors), torch.tensor(slow, dtype=torch.float64))


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_decode_undoes_encode(seed):
    torch.manual_seed(seed)
    boxes, anchors = random_boxes(8, torch.float64), random_boxes(8, torch.float64)
    for std in ((1.0, 1.0, 1.0, 1.0), HEAD_STD):
        torch.testing.assert_close(decode(encode(boxes, anchors, std=std), anchors, std=std), boxes)


def test_with_the_old_plus_one_decode_does_not_undo_encode():
    # The first codes measured width as x2 - x1 + 1 and took x2 = x + w / 2 in decoding: the box grows by a pixel.
    box = torch.tensor([[10.0, 10.0, 19.0, 19.0]])
    wide = box + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert not torch.allclose(decode(encode(wide, wide), wide), box)


def test_empty_boxes_stay_finite():
    nothing, box = torch.zeros(1, 4), torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    for pair in ((nothing, box), (box, nothing), (nothing, nothing)):
        assert encode(*pair).isfinite().all()


def test_the_limit_on_growth():
    grown = decode(torch.tensor([[0.0, 0.0, 50.0, 50.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    torch.testing.assert_close(grown[0, 2] - grown[0, 0], torch.tensor(1000.0))


def test_batch_against_shared_anchors():
    boxes, anchors = torch.stack([random_boxes(6), random_boxes(6)]), random_boxes(6)
    deltas = encode(boxes, anchors)
    torch.testing.assert_close(deltas[1], encode(boxes[1], anchors))
    torch.testing.assert_close(decode(deltas, anchors), boxes)
    assert encode(boxes[:, :0], anchors[:0]).shape == (2, 0, 4)
