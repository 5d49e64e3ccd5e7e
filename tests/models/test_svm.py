import math

import pytest
import torch

from rcnnlib.models.svm import fine_tuning_set, fit_ridge, fit_svm, regressor_set, svm_objective, svm_set
from rcnnlib.ops.boxes import box_iou

# Two objects of 10 x 10 pixels, of class 2 and class 1, far apart, and a row without an object.
TRUTH = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0], [0.0, 0.0, 0.0, 0.0]])
LABELS, VALID = torch.tensor([2, 1, 0]), torch.tensor([True, True, False])
REGIONS = torch.tensor(
    [
        [0.0, 0.0, 10.0, 5.0],  # 50 / 100 = 0.5 with the first object
        [0.0, 0.0, 10.0, 4.9],  # 0.49
        [0.0, 0.0, 10.0, 6.0],  # 0.6
        [0.0, 0.0, 10.0, 6.1],  # 0.61
        [50.0, 0.0, 60.0, 3.0],  # 30 / 100 = 0.3 with the second
        [50.0, 0.0, 60.0, 2.9],  # 0.29
        [50.0, 0.0, 60.0, 0.9],  # 0.09
        [90.0, 90.0, 99.0, 99.0],  # 0 with both
    ]
)
IOU = box_iou(REGIONS, TRUTH)


def test_the_set_of_fine_tuning():
    match = fine_tuning_set(IOU, VALID)
    assert match.status.tolist() == [1, 0, 1, 1, 0, 0, 0, 0]  # from 0.5 on positive, all others background
    assert match.matches[:4].tolist() == [0, 0, 0, 0]
    sppnet = fine_tuning_set(IOU, VALID, background_low=0.1)
    assert sppnet.status.tolist() == [1, 0, 1, 1, 0, 0, -1, -1]


def test_the_set_of_the_svms():
    own = torch.cat((torch.zeros(8, dtype=torch.int64), LABELS))  # the objects themselves are candidates 8, 9, 10
    status = svm_set(box_iou(torch.cat((REGIONS, TRUTH)), TRUTH), LABELS, own, 3)
    assert status.T.tolist() == [
        [0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0],  # class 1 is the second object: 0.3 is not below 0.3
        [-1, -1, -1, -1, 0, 0, 0, 0, 1, 0, 0],  # class 2 is the first: 0.61 with an object, and still no positive
        [0] * 11,  # class 3 has no object: everything is its negative
    ]


def test_an_object_counts_only_for_its_own_class():
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0]])  # classes 1 and 2, IoU 0.8
    status = svm_set(box_iou(truth, truth), torch.tensor([1, 2]), torch.tensor([1, 2]), 2)
    assert status.tolist() == [[1, -1], [-1, 1]]


def test_the_set_of_the_regressors():
    match = regressor_set(IOU, VALID)
    assert match.status.tolist() == [-1, -1, -1, 1, -1, -1, -1, -1]  # above 0.6, not at 0.6
    assert match.matches[3] == 0


def test_the_sets_without_objects_or_regions():
    nothing, none = torch.zeros(1, 4), torch.tensor([False])
    iou = box_iou(REGIONS, nothing)
    assert fine_tuning_set(iou, none).status.tolist() == [0] * 8
    assert (svm_set(iou, torch.tensor([0]), torch.zeros(8, dtype=torch.int64), 2) == 0).all()
    assert (regressor_set(iou, none).status == -1).all()
    assert svm_set(IOU[:0], LABELS, LABELS[:0], 2).shape == (0, 2)


def test_a_batch_is_its_pictures():
    own = torch.zeros(2, 8, dtype=torch.int64)
    iou, labels = torch.stack((IOU, IOU.flip(0))), torch.stack((LABELS, LABELS.flip(0)))
    together = svm_set(iou, labels, own, 2)
    for picture in range(2):
        assert torch.equal(together[picture], svm_set(iou[picture], labels[picture], own[picture], 2))


def rows_of(positives, negatives, cost, positive_weight):
    """The rows and costs of ``svm_objective``, made here anew: y (x, 10)."""
    positives, negatives = (torch.cat((x, x.new_full((len(x), 1), 10.0)), dim=1) for x in (positives, negatives))
    costs = [cost * positive_weight] * len(positives) + [cost] * len(negatives)
    return torch.cat((positives, -negatives)), torch.tensor(costs, dtype=positives.dtype)


def coordinate_descent(positives, negatives, cost, positive_weight, rounds):
    """The slow twin: liblinear's way, one number of the dual at a time (Hsieh et al. 2008)."""
    rows, costs = rows_of(positives, negatives, cost, positive_weight)
    w, dual = torch.zeros_like(rows[0]), [0.0] * len(rows)
    for _ in range(rounds):
        for i, row in enumerate(rows):
            after = min(max(dual[i] - float(row @ w - 1) / float(row @ row), 0.0), float(costs[i]))
            w, dual[i] = w + (after - dual[i]) * row, after
    return w[:-1], w[-1] * 10


def separable():
    """Sixty points of the plane in double precision, 2 or more apart along (1, 2)."""
    points = torch.randn(60, 2, dtype=torch.float64)
    side = points @ torch.tensor([1.0, 2.0]).double() > 0
    points = points + torch.where(side.unsqueeze(1), 1.0, -1.0) * torch.tensor([0.5, 1.0]).double()
    return points[side], points[~side]


def test_two_points_by_hand():
    # The margins are 1 where 3 w + b = 1 and w + b = -1: w = 1, b = -2. Both hold with a > 0, so it is the minimum:
    # w = 3 a1 - a2 and b = 100 (a1 - a2) give a1 = 0.51, a2 = 0.53.
    svm = fit_svm(torch.tensor([[3.0]]).double(), torch.tensor([[1.0]]).double(), cost=10.0, tolerance=1e-12)
    assert float(svm.weight) == pytest.approx(1, abs=1e-4)
    assert float(svm.bias) == pytest.approx(-2, abs=1e-4)


def test_the_cost_limits_what_a_point_may_pull():
    # Points at 1 and -1: w = a1 + a2, which would be 1, but each a is at most 0.2.
    svm = fit_svm(torch.ones(1, 1), -torch.ones(1, 1), cost=0.2, positive_weight=1.0, tolerance=1e-6)
    assert float(svm.weight) == pytest.approx(0.4, abs=1e-5)
    assert float(svm.bias) == pytest.approx(0, abs=1e-5)


def test_separable_points_reach_a_margin_of_one():
    positives, negatives = separable()
    svm = fit_svm(positives, negatives, cost=1000.0, tolerance=1e-9)
    ours = torch.cat((positives @ svm.weight + svm.bias, -(negatives @ svm.weight + svm.bias)))
    assert ours.min() == pytest.approx(1, abs=1e-4)
    assert (ours < 1.001).sum() >= 2  # the support vectors; the others are farther away
    assert svm.gap <= 1e-9


@pytest.mark.parametrize(("cost", "weight"), [(0.05, 1.0), (0.01, 2.0)])
def test_it_is_what_coordinate_descent_finds(cost, weight):
    positives, negatives = 2 * torch.randn(20, 3).double() + 1.4, 2 * torch.randn(30, 3).double()
    ours = fit_svm(positives, negatives, cost=cost, positive_weight=weight, tolerance=1e-10)
    theirs = coordinate_descent(positives, negatives, cost, weight, 1000)
    torch.testing.assert_close(ours.weight, theirs[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.bias, theirs[1], rtol=1e-5, atol=1e-5)


def test_the_gap_is_a_bound():
    positives, negatives = torch.randn(40, 5).double() + 0.5, torch.randn(80, 5).double()
    rows, costs = rows_of(positives, negatives, 0.1, 2.0)
    values = {}
    for tolerance in (0.3, 1e-2, 1e-9):
        svm = fit_svm(positives, negatives, cost=0.1, tolerance=tolerance)
        values[tolerance] = svm.gap, float(svm_objective(torch.cat((svm.weight, svm.bias[None] / 10)), rows, costs))
    least = values[1e-9][1]
    for tolerance, (gap, value) in values.items():
        assert least * (1 - 1e-8) <= value <= least / (1 - gap) * (1 + 1e-8)
        assert gap <= tolerance
    # What has not converged says so.
    assert fit_svm(positives, negatives, cost=0.1, tolerance=1e-9, steps=3).gap > 1e-3


def test_no_direction_leads_down():
    positives, negatives = torch.randn(30, 4).double() + 0.5, torch.randn(60, 4).double()
    svm = fit_svm(positives, negatives, cost=0.1, tolerance=1e-10)
    rows, costs = rows_of(positives, negatives, 0.1, 2.0)
    w = torch.cat((svm.weight, svm.bias[None] / 10))
    least = float(svm_objective(w, rows, costs))
    for step in (1e-1, 1e-2, 1e-3):
        for direction in torch.nn.functional.normalize(torch.randn(50, 5).double()):
            assert float(svm_objective(w + step * direction, rows, costs)) >= least - 1e-8


def test_an_svm_of_one_side_or_of_nothing():
    points = torch.randn(5, 3) + 1
    assert fit_svm(points[:0], points[:0]).weight.tolist() == [0, 0, 0]
    alone = fit_svm(points[:0], points, cost=1.0)
    assert (points @ alone.weight + alone.bias).max() <= -0.99


@pytest.mark.parametrize("count", [5, 200])  # fewer examples than features, and more
def test_ridge_is_least_squares_with_rows_of_zeros(count):
    features, targets = torch.randn(count, 20).double() + 3, torch.randn(count, 4).double() - 2
    weight, bias = fit_ridge(features, targets, penalty=7.0)
    # The penalty as 20 more examples: sqrt(7) of one feature shall give 0. The bias is a feature without such a row.
    rows = torch.cat((features, features.new_ones(count, 1)), dim=1)
    penalty = torch.cat((math.sqrt(7) * torch.eye(20), torch.zeros(20, 1)), dim=1).double()
    theirs = torch.linalg.lstsq(torch.cat((rows, penalty)), torch.cat((targets, torch.zeros(20, 4).double()))).solution
    torch.testing.assert_close(weight, theirs[:-1].T)
    torch.testing.assert_close(bias, theirs[-1])


def test_ridge_by_hand_and_without_examples():
    # One feature at -1 and 1, targets at 0 and 4: the slope is sum x y / (sum x x + 2) = 4 / 4, the bias the mean.
    weight, bias = fit_ridge(torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.0], [4.0]]), penalty=2.0)
    assert (weight.tolist(), bias.tolist()) == ([[1.0]], [2.0])
    weight, bias = fit_ridge(torch.zeros(0, 3), torch.zeros(0, 4))
    assert (weight.abs().sum(), bias.abs().sum()) == (0, 0)
    assert weight.shape == (4, 3)
