"""The operators on a real GPU: the CPU's values, and nothing that makes the host wait. Skipped where there is none."""

import pytest
import torch

from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.box_coder import decode, encode
from rcnnlib.ops.boxes import box_iou, clip_boxes
from rcnnlib.ops.losses import box_loss, classification_loss
from rcnnlib.ops.matcher import match_anchors
from rcnnlib.ops.nms import BLOCK, nms, nms_padded
from rcnnlib.ops.roi_ops import roi_align, roi_pool, warp
from rcnnlib.ops.sampler import sample

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]
B, A, G = 2, 900, 4


@pytest.fixture
def no_waiting():
    """Raise wherever the host would wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def step(anchors, truth, labels, noise, deltas, scores, features, sizes):
    """From anchors to losses, proposals and pooled features, as a detector runs it."""
    match = match_anchors(box_iou(anchors.expand(B, A, 4), truth), labels > 0)
    drawn = sample(match, labels, noise, size=64, positive_fraction=0.5)
    goal = encode(truth.gather(1, drawn.matches[..., None].expand(B, 64, 4)), anchors[drawn.index])
    mine = deltas.gather(1, drawn.index[..., None].expand(B, 64, 4))
    loss = box_loss(mine, goal, drawn.labels, beta=1 / 9, normalizer=256)
    loss = loss + classification_loss(
        scores.gather(1, drawn.index[..., None].expand(B, 64, 2)), drawn.labels.clamp(max=1), normalizer=256
    )
    boxes = clip_boxes(decode(deltas, anchors), sizes)
    kept = nms_padded(boxes, scores[..., 1], 0.7, keep=32, rounds=BLOCK)
    rois = boxes.gather(1, kept.index[..., None].expand(B, 32, 4))
    pooled = roi_pool(features, rois, 7, spatial_scale=1 / 16)
    aligned = roi_align(features, rois, 7, spatial_scale=1 / 16)
    return loss, kept.index, pooled, aligned


def inputs():
    anchors = anchor_grid(cell_anchors((32, 64, 128)), (10, 10), 16)
    corner = torch.rand(B, G, 2) * 80
    truth = torch.cat((corner, corner + 20 + torch.rand(B, G, 2) * 60), dim=-1)
    labels, noise = torch.randint(1, 4, (B, G)), torch.rand(B, A)
    return (
        *(anchors, truth, labels, noise, torch.randn(B, A, 4) * 0.1, torch.randn(B, A, 2)),
        *(torch.rand(B, 8, 10, 10), torch.full((B, 2), 160.0)),
    )


def test_the_gpu_gives_the_cpus_values():
    on_cpu = inputs()
    ours = step(*(tensor.cuda() for tensor in on_cpu))
    for gpu, cpu in zip(ours, step(*on_cpu), strict=True):
        torch.testing.assert_close(gpu.cpu(), cpu, rtol=1e-4, atol=1e-4)


def test_a_step_never_waits(no_waiting):
    torch.cuda.set_sync_debug_mode("default")
    on_gpu = [tensor.cuda() for tensor in inputs()]
    on_gpu[4].requires_grad_()
    on_gpu[6].requires_grad_()
    torch.cuda.set_sync_debug_mode("error")
    loss, _, pooled, aligned = step(*on_gpu)
    (loss + pooled.sum() + aligned.sum()).backward()


def test_the_guard_bites(no_waiting):
    with pytest.raises(RuntimeError, match="synchroniz"):
        nms(torch.rand(300, 4, device="cuda"), torch.rand(300, device="cuda"), 0.5)


def test_crops_are_the_cpus():
    images, boxes = torch.rand(1, 3, 64, 64), torch.tensor([[[5.0, 5.0, 60.0, 40.0]]])
    on_gpu = warp(images.cuda(), boxes.cuda(), 32).cpu()
    torch.testing.assert_close(on_gpu, warp(images, boxes, 32), rtol=1e-4, atol=1e-4)
