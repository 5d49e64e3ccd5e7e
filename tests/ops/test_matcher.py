import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher

from rcnnlib.ops.matcher import ignore_covered, match_anchors, match_proposals

ALL = torch.tensor([True, True])


def test_anchors_by_hand():
    iou = torch.tensor(
        [
            [0.80, 0.10],  # above 0.7: positive for object 0
            [0.70, 0.00],  # exactly 0.7: positive
            [0.69, 0.00],  # between: no part
            [0.30, 0.20],  # exactly 0.3: no part
            [0.29, 0.20],  # below 0.3: negative
            [0.00, 0.40],  # the best that object 1 has: positive
            [0.00, 0.40],  # and so is its equal
        ]
    )
    match = match_anchors(iou, ALL)
    assert match.status.tolist() == [1, 1, -1, -1, 0, 1, 1]
    assert match.matches.tolist() == [0, 0, 0, 0, 0, 1, 1]
    torch.testing.assert_close(match.iou, iou.amax(dim=1))


def test_proposals_by_hand():
    iou = torch.tensor([[0.9, 0.0], [0.0, 0.5], [0.49, 0.0], [0.1, 0.05], [0.09, 0.0], [0.0, 0.0]])
    fast = match_proposals(iou, ALL)
    assert fast.status.tolist() == [1, 1, 0, 0, -1, -1]  # Fast R-CNN: [0.1, 0.5) is background
    assert fast.matches[:2].tolist() == [0, 1]
    faster = match_proposals(iou, ALL, background_low=0.0)
    assert faster.status.tolist() == [1, 1, 0, 0, 0, 0]


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_anchors_are_the_slow_twin_and_torchvisions(seed, n, g):
    torch.manual_seed(seed)
    iou = torch.randint(0, 11, (n, g)) / 10  # many ties, and values exactly at 0.3 and 0.7
    match = match_anchors(iou, torch.ones(g, dtype=torch.bool))
    thresholds = torch.tensor([0.7, 0.3]).tolist()  # as float32 sees them
    assert match.status.tolist() == oracles.match_anchors(iou.tolist(), *thresholds)
    if (iou.amax(dim=0) > 0).all():  # torchvision calls every anchor the best of an object that none of them touches
        theirs = Matcher(0.7, 0.3, allow_low_quality_matches=True)(iou.mT)
        assert torch.equal(match.status, torch.where(theirs >= 0, 1, torch.where(theirs == -1, 0, -1)))
        positive = theirs >= 0
        assert torch.equal(match.matches[positive], theirs[positive])


def test_an_object_that_no_anchor_touches_makes_no_positive():
    match = match_anchors(torch.tensor([[0.8, 0.0], [0.1, 0.0]]), ALL)
    assert match.status.tolist() == [1, 0]


def test_padded_objects_do_not_exist():
    iou = torch.tensor([[0.2, 0.9], [0.8, 0.9]])
    match = match_anchors(iou, torch.tensor([True, False]))
    assert match.status.tolist() == [0, 1]
    assert match.matches.tolist() == [0, 0]
    empty = match_anchors(iou, torch.tensor([False, False]))
    assert empty.status.tolist() == [0, 0]  # a picture without objects: all negative
    assert match_proposals(iou, torch.tensor([False, False]), background_low=0.0).status.tolist() == [0, 0]


def test_anchors_across_the_border_take_no_part():
    iou = torch.tensor([[0.9, 0.0], [0.6, 0.0], [0.0, 0.9], [0.1, 0.2]])
    match = match_anchors(iou, ALL, allowed=torch.tensor([False, True, True, True]))
    assert match.status.tolist() == [-1, 1, 1, 0]  # the second is now the best that object 0 has


def test_batches_are_apart():
    iou, valid = torch.rand(3, 20, 4), torch.rand(3, 4) > 0.3
    together = match_anchors(iou, valid)
    for i in range(3):
        alone = match_anchors(iou[i], valid[i])
        assert torch.equal(together.status[i], alone.status)
        assert torch.equal(together.matches[i], alone.matches)


def test_ignored_regions_take_negatives_out_and_leave_positives():
    match = match_proposals(torch.tensor([[0.8, 0.0], [0.2, 0.0], [0.2, 0.0]]), ALL)
    hidden = ignore_covered(match, torch.tensor([0.9, 0.5, 0.49]))
    assert hidden.status.tolist() == [1, -1, 0]


@pytest.mark.parametrize("function", [match_anchors, match_proposals])
def test_no_candidates(function):
    assert function(torch.zeros(0, 2), ALL).status.shape == (0,)
