import math

import pytest
import torch
from torch.nn.functional import conv2d

from rcnnlib.datasets.transforms import collate, make_example
from rcnnlib.models.rpn import BETA, N_REG, RPN, SAMPLES, RPNHead
from rcnnlib.ops.box_coder import encode
from rcnnlib.ops.boxes import box_iou, is_inside
from rcnnlib.ops.losses import smooth_l1


def one_picture(boxes, ignore=(), size=64):
    return collate([make_example(torch.zeros(3, size, size), boxes, [1] * len(boxes), ignore, id=0)], seed=0, epoch=0)


def make_rpn(**options):
    torch.manual_seed(3)
    return RPN(8, 16, **{"scales": (16, 32), "ratios": (0.5, 1.0, 2.0), "channels": 8} | options)


def test_the_map_is_the_list():
    head, features = RPNHead(8, 6, channels=8), torch.randn(2, 8, 3, 5)
    scores, deltas = head(features)
    hidden = torch.relu(conv2d(features, head.conv.weight, head.conv.bias, padding=1))
    score_map, delta_map = head.scores(hidden), head.deltas(hidden)
    assert scores.shape == (2, 3 * 5 * 6, 2)
    for i, j, anchor in ((0, 0, 0), (2, 4, 5), (1, 3, 2)):
        row = (i * 5 + j) * 6 + anchor
        assert torch.equal(scores[1, row], score_map[1, 2 * anchor : 2 * anchor + 2, i, j])
        assert torch.equal(deltas[1, row], delta_map[1, 4 * anchor : 4 * anchor + 4, i, j])


def test_the_rows_belong_to_their_anchors():
    # Only the cell (1, 2) speaks; so the anchors with a score must be those centred on its middle.
    rpn = make_rpn()
    anchors, scores, _ = rpn(torch.zeros(1, 8, 3, 4).index_fill_(1, torch.tensor([0]), 0.0))
    assert anchors.shape == (3 * 4 * 6, 4)
    rpn.head.conv.weight.data.zero_()[:, 0, 1, 1] = 1.0
    features = torch.zeros(1, 8, 3, 4)
    features[0, 0, 1, 2] = 1.0
    anchors, scores, _ = rpn(features)
    loud = scores[0].abs().sum(dim=1) > 0
    centres = (anchors[loud, :2] + anchors[loud, 2:]) / 2
    assert loud.sum() == 6
    assert torch.equal(centres, torch.tensor([[2.5 * 16, 1.5 * 16]]).expand(6, 2))


def test_losses_of_eq_1_by_hand():
    # With so few anchors all positives and all negatives are drawn, so the sums can be written down.
    rpn, batch = make_rpn(allow_border=True, scales=(16,), ratios=(1.0,)), one_picture([[16, 16, 32, 32]])
    anchors, scores, deltas = rpn(torch.randn(1, 8, 4, 4))
    overlap = box_iou(anchors, batch.boxes[0])[:, 0]
    positive, negative = overlap >= 0.7, overlap < 0.3
    assert (int(positive.sum()), int(negative.sum())) == (1, 15)  # cells do not overlap: IoU is 1 or 0
    log_p = scores[0].log_softmax(-1)
    by_hand = -(log_p[positive, 1].sum() + log_p[negative, 0].sum()) / SAMPLES
    targets = encode(batch.boxes[0].expand(16, 4), anchors)
    box_by_hand = 10 * smooth_l1(deltas[0] - targets, BETA)[positive].sum() / N_REG
    class_loss, regression = rpn.losses(anchors, scores, deltas, batch)
    torch.testing.assert_close(class_loss, by_hand)
    torch.testing.assert_close(regression, box_by_hand)


def test_border_and_ignored_regions():
    batch = one_picture([[20, 20, 44, 44]], ignore=[[0, 0, 20, 20]])
    anchors = make_rpn(scales=(16,))(torch.zeros(1, 8, 4, 4))[0]
    status = make_rpn(scales=(16,)).match(anchors, batch).status[0]
    outside = ~is_inside(anchors, batch.sizes[0])
    assert outside.any()
    assert (status[outside] == -1).all()
    hidden = anchors[status == 0]
    assert not ((hidden[:, 2] <= 20) & (hidden[:, 3] <= 20)).any()  # negatives inside the ignored region are gone
    free = make_rpn(scales=(16,), allow_border=True).match(anchors, batch).status[0]
    assert (free[outside] >= 0).any()


def test_proposals_are_the_best_decoded_clipped_and_apart():
    rpn = make_rpn(before=50, after=20)
    rpn.head.scores.weight.data.mul_(100)
    rpn.head.deltas.weight.data.mul_(20)
    anchors, scores, deltas = rpn(torch.randn(2, 8, 4, 6))
    sizes = torch.tensor([[64.0, 96.0], [50.0, 70.0]])
    found = rpn.propose(anchors, scores, deltas, sizes)
    probability = scores.softmax(-1)[..., 1]
    for image in range(2):
        boxes = found.boxes[image][found.valid[image]]
        assert len(boxes) > 3
        assert (found.scores[image].diff() <= 0).all()
        assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.7
        assert boxes.min() >= 0
        assert (boxes[:, 2] <= sizes[image, 1]).all()
        assert (boxes[:, 3] <= sizes[image, 0]).all()
        index = found.index[image][found.valid[image]]
        torch.testing.assert_close(probability[image][index], found.scores[image][found.valid[image]])
        assert index[0] == probability[image].argmax()
    assert (found.index[~found.valid] == -1).all()


def test_fewer_anchors_than_wanted():
    rpn = make_rpn(before=1000, after=300)
    found = rpn.propose(*rpn(torch.randn(1, 8, 2, 2)), torch.tensor([[32.0, 32.0]]))
    assert found.boxes.shape == (1, 300, 4)
    assert found.valid.sum() <= 24


def test_a_picture_without_objects_has_only_negatives():
    rpn, batch = make_rpn(allow_border=True), one_picture([])
    anchors, scores, deltas = rpn(torch.randn(1, 8, 4, 4))
    class_loss, regression = rpn.losses(anchors, scores, deltas, batch)
    assert float(regression.detach()) == 0
    assert math.isclose(
        float(class_loss.detach()), float(-scores.detach()[0].log_softmax(-1)[:, 0].sum() / SAMPLES), rel_tol=1e-5
    )


def test_too_little_noise_is_said():
    rpn = make_rpn()
    batch = one_picture([[16, 16, 32, 32]])._replace(noise=torch.rand(1, 10))
    with pytest.raises(ValueError, match=r"noise must hold 96 numbers .* got 10; give collate a larger noise_length"):
        rpn.losses(*rpn(torch.randn(1, 8, 4, 4)), batch)
