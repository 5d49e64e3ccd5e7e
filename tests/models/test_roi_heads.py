import math

import pytest
import torch
import torchvision

from rcnnlib.datasets.transforms import collate, make_example
from rcnnlib.models.roi_heads import BoxPredictor, RoIHead, given_proposals, truncated_svd
from rcnnlib.ops.box_coder import HEAD_STD, decode, encode
from rcnnlib.ops.boxes import box_iou, clip_boxes
from rcnnlib.ops.losses import smooth_l1
from rcnnlib.types import RoISamples


def make_head(classes=3, **options):
    torch.manual_seed(4)
    return RoIHead(8, classes, 16, **{"reduced": 4, "width": 16, "samples": 8} | options)


def batch_of(boxes, labels, ignore=()):
    return collate([make_example(torch.zeros(3, 96, 96), boxes, labels, ignore, id=0)], seed=0, epoch=0)


@pytest.mark.parametrize(("pooling", "peer"), [("align", "roi_align"), ("pool", "roi_pool")])
def test_it_pools_the_reduced_map(pooling, peer):
    head, features = make_head(pooling=pooling), torch.randn(1, 8, 6, 6)
    boxes = torch.tensor([[[10.0, 20.0, 60.0, 90.0], [0.0, 0.0, 96.0, 96.0]]])
    reduced = torch.relu(head.reduce(features))
    options = {"sampling_ratio": 2, "aligned": True} if pooling == "align" else {}
    theirs = getattr(torchvision.ops, peer)(reduced, [boxes[0]], 7, 1 / 16, **options)
    sizes = torch.full((1, 2), 96.0)
    torch.testing.assert_close(head.pool(features, boxes, sizes)[0], theirs, rtol=1e-4, atol=1e-5)


def test_the_sample_holds_the_truth_and_a_quarter_of_objects():
    truth = [[10.0, 10, 50, 50], [40.0, 40, 90, 90]]
    batch = batch_of(truth, [2, 3])
    near = torch.tensor([truth[0]]).repeat(20, 1) + torch.rand(20, 4)
    far = torch.tensor([[60.0, 0, 90, 30]]).repeat(20, 1)
    boxes = torch.cat((near, far))[None]
    drawn = make_head().sample(boxes, torch.ones(1, 40, dtype=torch.bool), batch, 0)
    assert drawn.labels[0].tolist().count(0) == 6  # 8 samples, a quarter with an object
    assert (drawn.labels[0, :2] > 0).all()
    for box, label, target in zip(drawn.boxes[0], drawn.labels[0], drawn.targets[0], strict=True):
        if label > 0:
            mine = torch.tensor(truth[0] if label == 2 else truth[1])
            torch.testing.assert_close(target, encode(mine[None], box[None], std=HEAD_STD)[0])


def test_no_proposals_leaves_the_truth():
    batch = batch_of([[10.0, 10, 50, 50]], [2])
    drawn = make_head().sample(torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.bool), batch, 0)
    assert drawn.labels[0].tolist() == [2] + 7 * [-1]
    torch.testing.assert_close(drawn.targets[0, 0], torch.zeros(4))


@pytest.mark.parametrize(("low", "background"), [(0.1, 0), (0.0, 6)])
def test_the_lower_bound_of_the_background(low, background):
    # Far boxes share nothing with the object: Fast R-CNN leaves them out, Faster R-CNN takes them.
    batch = batch_of([[10.0, 10, 50, 50]], [1])
    far = torch.tensor([[60.0, 60, 90, 90]]).repeat(6, 1)[None]
    drawn = make_head(background_low=low).sample(far, torch.ones(1, 6, dtype=torch.bool), batch, 0)
    assert drawn.labels[0].tolist().count(0) == background


def test_regions_that_are_padding_or_ignored_never_count():
    batch = batch_of([[10.0, 10, 50, 50]], [1], ignore=[[55.0, 55, 96, 96]])
    boxes = torch.tensor([[[60.0, 60, 90, 90], [0.0, 60, 40, 90], [0.0, 0, 0, 0]]])
    drawn = make_head(background_low=0.0).sample(boxes, torch.tensor([[True, True, False]]), batch, 0)
    assert sorted(drawn.labels[0].tolist()) == 6 * [-1] + [0, 1]
    assert torch.equal(drawn.boxes[0][drawn.labels[0] == 0], boxes[0, 1:2])


def test_losses_by_hand():
    head = make_head(classes=2, samples=2)
    scores = torch.tensor([[[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]]])
    deltas = torch.zeros(1, 2, 2, 4)
    deltas[0, 0, 1] = torch.tensor([0.5, 0.0, 0.0, 3.0])
    deltas[0, 0, 0] = 9.0  # of the other class: takes no part
    samples = RoISamples(torch.zeros(1, 2, 4), torch.tensor([[2, 0]]), torch.zeros(1, 2, 4))
    class_loss, regression = head.losses(scores, deltas, samples)
    # -log softmax: 1.0 + e + e^2 = 11.1073, 2 - log = -0.4076;  e + 2 = 4.7183, 1 - log = -0.5514
    assert math.isclose(float(class_loss), (0.4076 + 0.5514) / 2, abs_tol=1e-4)
    assert math.isclose(float(regression), (0.5 * 0.25 + 2.5) / 2, abs_tol=1e-6)
    assert float(smooth_l1(torch.tensor([3.0]))) == 2.5


def slow_detect(head, boxes, scores, deltas, size):
    """One class and one box at a time, with torchvision's NMS."""
    found = []
    for label in range(1, scores.shape[1]):
        probability = scores.softmax(-1)[:, label]
        moved = clip_boxes(decode(deltas[:, label - 1], boxes, std=HEAD_STD), size)
        good = (probability > head.score_threshold).nonzero()[:, 0]
        kept = good[torchvision.ops.nms(moved[good], probability[good], head.nms_threshold)]
        found += [(float(probability[i]), label, moved[i].tolist()) for i in kept]
    return sorted(found, reverse=True)[: head.detections]


def test_detections_are_the_slow_ones():
    head = make_head(detections=30)
    corner = torch.rand(2, 50, 2) * 60
    boxes = torch.cat((corner, corner + 10 + 40 * torch.rand(2, 50, 2)), dim=-1)
    scores, deltas = 2 * torch.randn(2, 50, 4), torch.randn(2, 50, 3, 4)
    sizes = torch.tensor([[96.0, 96.0], [80.0, 96.0]])
    found = head.detect(boxes, torch.ones(2, 50, dtype=torch.bool), scores, deltas, sizes)
    for image in range(2):
        slow = slow_detect(head, boxes[image], scores[image], deltas[image], sizes[image])
        assert int(found.valid[image].sum()) == len(slow)
        for row, (probability, label, box) in enumerate(slow):
            assert math.isclose(float(found.scores[image, row]), probability, rel_tol=1e-5)
            assert int(found.labels[image, row]) == label
            torch.testing.assert_close(found.boxes[image, row], torch.tensor(box))
    assert (found.labels[~found.valid] == 0).all()


def test_nms_spares_another_class():
    head, box = make_head(classes=2, score_threshold=0.3), torch.tensor([[[10.0, 10, 50, 50]] * 2])
    scores = torch.tensor([[[-9.0, 1.0, 0.9], [-9.0, 0.9, 1.0]]])
    found = head.detect(
        box, torch.ones(1, 2, dtype=torch.bool), scores, torch.zeros(1, 2, 2, 4), torch.full((1, 2), 96.0)
    )
    assert found.labels[0][found.valid[0]].tolist() in ([1, 2], [2, 1])
    assert float(box_iou(found.boxes[0, :1], found.boxes[0, 1:2])) == 1


def test_no_regions_no_detections():
    head = make_head()
    none = torch.zeros(2, 0, 4)
    scores, deltas = head(head.pool(torch.randn(2, 8, 6, 6), none, torch.full((2, 2), 96.0)))
    found = head.detect(none, torch.zeros(2, 0, dtype=torch.bool), scores, deltas, torch.full((2, 2), 96.0))
    assert found.boxes.shape == (2, 0, 4)
    assert found.settled.all()


def test_zero_boxes_are_padding():
    found = given_proposals(torch.tensor([[[1.0, 2, 30, 40], [0.0, 0, 0, 0]]]))
    assert found.valid.tolist() == [[True, False]]
    assert found.scores.tolist() == [[1, 0]]


def test_first_scores_are_equal_and_first_deltas_small():
    scores, deltas = BoxPredictor(16, 3)(torch.rand(5, 16))
    assert scores.abs().max() < 0.3
    assert deltas.abs().max() < 0.05
    assert deltas.shape == (5, 3, 4)


def test_truncated_svd_is_the_best_of_its_rank():
    layer, x = torch.nn.Linear(20, 12), torch.randn(5, 20)
    torch.testing.assert_close(truncated_svd(layer, 12)(x), layer(x), rtol=1e-4, atol=1e-5)
    first, second = truncated_svd(layer, 3)
    assert sum(p.numel() for p in (first.weight, second.weight)) == 3 * (20 + 12)
    # Eckart and Young: the error is the root of the sum of the squares of the singular values left out.
    error = (second.weight @ first.weight - layer.weight).norm()
    torch.testing.assert_close(error, torch.linalg.svdvals(layer.weight)[3:].norm())
    with pytest.raises(ValueError, match=r"rank must be 1 to 12, .* got 13"):
        truncated_svd(layer, 13)
