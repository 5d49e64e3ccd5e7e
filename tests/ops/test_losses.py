import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import fastrcnn_loss

from rcnnlib.ops.losses import box_loss, class_deltas, classification_loss, smooth_l1


def test_smooth_l1_by_hand():
    x = torch.tensor([0.0, 0.5, 1.0, -3.0])
    torch.testing.assert_close(smooth_l1(x), torch.tensor([0.0, 0.125, 0.5, 2.5]))
    # beta 1/9: 0.5 * 0.01 * 9 inside; |x| - 1/18 outside
    torch.testing.assert_close(smooth_l1(torch.tensor([0.1, 1.0]), 1 / 9), torch.tensor([0.045, 1 - 1 / 18]))


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0, 3.0])
def test_smooth_l1_and_its_gradient_are_pytorchs(beta):
    ours, theirs = (torch.linspace(-4, 4, 41, dtype=torch.float64).requires_grad_() for _ in range(2))
    a, b = smooth_l1(ours, beta), F.smooth_l1_loss(theirs, torch.zeros(41).double(), beta=beta, reduction="none")
    torch.testing.assert_close(a, b)
    a.sum().backward()
    b.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_classification_by_hand():
    # Equal scores of 3 classes cost log 3 each; the ignored row costs nothing.
    scores, labels = torch.zeros(1, 3, 3), torch.tensor([[0, 2, -1]])
    torch.testing.assert_close(classification_loss(scores, labels, normalizer=4), torch.tensor(2 * math.log(3) / 4))


def test_box_loss_counts_only_objects():
    deltas, targets = torch.zeros(1, 3, 4), torch.full((1, 3, 4), 2.0)
    labels = torch.tensor([[1, 0, -1]])
    loss = box_loss(deltas, targets, labels, beta=1.0, normalizer=2)
    torch.testing.assert_close(loss, torch.tensor(4 * 1.5 / 2))


def test_a_row_that_does_not_count_cannot_spoil_the_gradient():
    deltas = torch.zeros(1, 2, 4, requires_grad=True)
    targets = torch.tensor([[[1.0] * 4, [math.inf] * 4]])
    box_loss(deltas, targets, torch.tensor([[1, 0]]), beta=1.0, normalizer=1).backward()
    assert deltas.grad.isfinite().all()
    assert (deltas.grad[0, 1] == 0).all()


def test_the_head_loss_is_torchvisions():
    scores, deltas = torch.randn(1, 20, 4), torch.randn(1, 20, 3, 4)
    labels, targets = torch.randint(0, 4, (1, 20)), torch.randn(1, 20, 4)
    with_background = torch.cat((torch.zeros(1, 20, 1, 4), deltas), dim=2).view(20, 16)  # theirs has a row for it
    theirs_class, theirs_box = fastrcnn_loss(scores[0], with_background, [labels[0]], [targets[0]])
    torch.testing.assert_close(classification_loss(scores, labels, normalizer=20), theirs_class)
    mine = class_deltas(deltas, labels)
    torch.testing.assert_close(box_loss(mine, targets, labels, beta=1 / 9, normalizer=20), theirs_box)


def test_class_deltas_picks_the_column_of_the_label():
    deltas = torch.arange(2 * 3 * 4.0).view(1, 2, 3, 4)
    assert class_deltas(deltas, torch.tensor([[2, 0]])).tolist() == [[[4, 5, 6, 7], [12, 13, 14, 15]]]


def test_nothing_sampled_costs_nothing():
    none = torch.zeros(1, 0, 4, requires_grad=True)
    assert classification_loss(none, torch.zeros(1, 0, dtype=torch.int64), normalizer=1) == 0
    assert box_loss(none, none, torch.zeros(1, 0, dtype=torch.int64), beta=1.0, normalizer=1) == 0
