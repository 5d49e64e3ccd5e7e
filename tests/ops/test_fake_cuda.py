"""The operators on tensors that claim to be on a GPU: no mix of devices, no read by the host, no GPU needed.

FakeTensorMode computes shapes, devices and types only. A CPU operand raises, and so does ``bool(tensor)``, ``.item()``
or a result whose size depends on the data: the things that would make a real GPU wait.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.box_coder import HEAD_STD, decode, encode
from rcnnlib.ops.boxes import box_iou, clip_boxes, covered_fraction, is_inside, is_large
from rcnnlib.ops.losses import box_loss, class_deltas, classification_loss
from rcnnlib.ops.matcher import ignore_covered, match_anchors, match_proposals
from rcnnlib.ops.nms import nms, nms_padded
from rcnnlib.ops.sampler import sample

B, A, G, K = 2, 300, 5, 3


@pytest.fixture
def fake():
    with FakeTensorMode(), torch.device("cuda"):
        yield


def targets():
    """Everything between anchors and losses, as a detector runs it."""
    sizes, truth = torch.full((B, 2), 320.0), torch.rand(B, G, 4)
    labels, ignore = torch.ones(B, G, dtype=torch.int64), torch.rand(B, 2, 4)
    anchors = anchor_grid(cell_anchors((32,), (1.0, 2.0, 0.5), device="cuda"), (10, 10), 16)
    allowed = is_inside(anchors.expand(B, A, 4), sizes)
    match = match_anchors(box_iou(anchors.expand(B, A, 4), truth), labels > 0, allowed=allowed)
    match = ignore_covered(match, covered_fraction(anchors.expand(B, A, 4), ignore))
    drawn = sample(match, labels, torch.rand(B, A), size=64, positive_fraction=0.5)
    return anchors, truth, labels, sizes, drawn


def test_the_way_to_the_losses(fake):
    anchors, truth, _, _, drawn = targets()
    chosen = truth.gather(1, drawn.matches[..., None].expand(B, 64, 4))
    goal = encode(chosen, anchors[drawn.index])
    class_loss = classification_loss(torch.rand(B, 64, 2), drawn.labels, normalizer=256)
    deltas = class_deltas(torch.rand(B, 64, K, 4), drawn.labels)
    loss = class_loss + box_loss(deltas, goal, drawn.labels, beta=1.0, normalizer=256)
    assert loss.device.type == "cuda"


def test_the_way_to_the_detections(fake):
    anchors, truth, labels, sizes, _ = targets()
    boxes = clip_boxes(decode(torch.rand(B, A, 4), anchors, std=HEAD_STD), sizes)
    kept = nms_padded(boxes, torch.rand(B, A), 0.7, keep=50, valid=is_large(boxes, 1.0))
    match = match_proposals(box_iou(boxes, truth), labels > 0)
    assert kept.index.shape == (B, 50)
    assert {t.device.type for t in (*kept, *match)} == {"cuda"}


def test_the_net_catches_what_it_should(fake):
    with pytest.raises(Exception, match="_local_scalar_dense"):
        nms(torch.rand(300, 4), torch.rand(300), 0.5)  # its size depends on the data, so the host must read
    with pytest.raises(Exception, match=r"device"):
        box_iou(torch.rand(3, 4), torch.rand(3, 4, device="cpu"))
