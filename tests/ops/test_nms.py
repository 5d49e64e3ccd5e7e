import oracles
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import BLOCK, nms, nms_padded, nms_steps

FUNCTIONS = {
    "nms": nms,
    "nms_padded": lambda b, s, t: (k := nms_padded(b, s, t, keep=max(len(b), 1), rounds=BLOCK)).index[k.valid],
    "nms_steps": lambda b, s, t: torch.tensor([step.best for step in nms_steps(b, s, t)], dtype=torch.int64),
}


@pytest.fixture(params=FUNCTIONS)
def function(request):
    """Each of the three must give the same survivors."""
    return FUNCTIONS[request.param]


def random_boxes(n, spread=200.0, dtype=torch.float32):
    corner = torch.rand(n, 2, dtype=dtype) * spread
    return torch.cat((corner, corner + 10 + torch.rand(n, 2, dtype=dtype) * 60), dim=1)


def with_iou(iou):
    """A 10 x 10 box and the same box made longer, so that their overlap is exactly 100 / (1000 / (10 iou))."""
    return torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0 / iou]])


def test_by_hand(function):
    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],
            [0.0, 2.0, 10.0, 12.0],  # 80 / 120 = 0.67 with the first
            [0.0, 4.0, 10.0, 14.0],  # 60 / 140 = 0.43 with the first, 0.67 with the second
            [50.0, 50.0, 60.0, 60.0],  # alone
        ]
    )
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95])
    assert function(boxes, scores, 0.5).tolist() == [3, 0, 2]  # the second is struck, so it cannot strike the third
    assert function(boxes, scores, 0.4).tolist() == [3, 0]
    assert function(boxes, scores, 0.7).tolist() == [3, 0, 1, 2]


@given(st.integers(0, 10_000), st.integers(0, 40), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
@settings(max_examples=40, deadline=None)
def test_all_are_the_slow_twin(seed, n, threshold):
    torch.manual_seed(seed)
    boxes, scores = random_boxes(n, 80, torch.float64), torch.randint(0, 8, (n,)).double()  # many ties
    expected = oracles.nms(boxes.tolist(), scores.tolist(), threshold)
    for function in FUNCTIONS.values():
        assert function(boxes, scores, threshold).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("n", [1, BLOCK, 2 * BLOCK + 1, 700])
def test_against_torchvision(n, threshold, dtype):
    boxes, scores = random_boxes(n, dtype=dtype), torch.rand(n, dtype=dtype)
    theirs = torchvision.ops.nms(boxes, scores, threshold)
    assert torch.equal(nms(boxes, scores, threshold), theirs)
    ours = nms_padded(boxes, scores, threshold, keep=50, rounds=BLOCK)
    assert torch.equal(ours.index[ours.valid], theirs[:50])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_exactly_at_the_threshold_as_torchvision(threshold, dtype, function):
    boxes, scores = with_iou(threshold).to(dtype), torch.tensor([0.9, 0.8], dtype=dtype)
    assert torch.equal(function(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))


def test_just_over_and_just_under(function):
    boxes, scores = with_iou(0.5), torch.tensor([0.9, 0.8])
    assert function(boxes, scores, 0.5).tolist() == [0, 1]  # equal does not remove
    assert function(boxes, scores, 0.4999).tolist() == [0]


def test_a_chain_needs_as_many_rounds_as_it_is_long():
    # Each box overlaps only the next: 0 strikes 1, so 2 lives and strikes 3 ... Nothing can be known out of turn.
    x = torch.arange(BLOCK, dtype=torch.float32) * 4
    boxes = torch.stack((x, torch.zeros_like(x), x + 10, torch.full_like(x, 10.0)), dim=1)  # 60 / 140 = 0.43
    scores = torch.linspace(1, 0.5, BLOCK)
    few = nms_padded(boxes, scores, 0.4, keep=BLOCK, rounds=8)
    enough = nms_padded(boxes, scores, 0.4, keep=BLOCK, rounds=BLOCK)
    assert not few.settled
    assert enough.settled
    expected = list(range(0, BLOCK, 2))
    assert enough.index[enough.valid].tolist() == expected
    assert nms(boxes, scores, 0.4).tolist() == expected


def test_the_last_round_of_a_longest_chain_is_seen_as_settled():
    strikes_all = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(BLOCK, 1)
    kept = nms_padded(strikes_all, torch.linspace(1, 0.5, BLOCK), 0.5, keep=3)
    assert kept.settled
    assert kept.index[kept.valid].tolist() == [0]


def test_padded_rows_and_the_rows_wanted():
    boxes, scores = random_boxes(40), torch.rand(40)
    valid = torch.arange(40) % 3 > 0
    kept = nms_padded(boxes, scores, 0.5, keep=100, valid=valid, rounds=BLOCK)
    rows = valid.nonzero()[:, 0]
    expected = rows[torchvision.ops.nms(boxes[rows], scores[rows], 0.5)]
    assert torch.equal(kept.index[kept.valid], expected)
    assert kept.index.shape == (100,)
    assert kept.valid.tolist() == [True] * len(expected) + [False] * (100 - len(expected))
    assert (kept.index[~kept.valid] == 0).all()


def test_pictures_of_a_batch_do_not_touch_each_other():
    boxes, scores = random_boxes(2 * 3 * 90).view(2, 3, 90, 4), torch.rand(2, 3, 90)
    together = nms_padded(boxes, scores, 0.5, keep=60, rounds=BLOCK)
    for i in range(2):
        for j in range(3):
            alone = nms_padded(boxes[i, j], scores[i, j], 0.5, keep=60, rounds=BLOCK)
            assert torch.equal(together.index[i, j], alone.index)
            assert torch.equal(together.valid[i, j], alone.valid)


def test_no_boxes(function):
    assert function(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    kept = nms_padded(torch.zeros(2, 0, 4), torch.zeros(2, 0), 0.5, keep=3)
    assert kept.valid.tolist() == [[False] * 3] * 2
    assert kept.settled.all()


def test_empty_boxes_remove_nobody(function):
    boxes = torch.tensor([[5.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 10.0, 10.0]])
    assert function(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 1, 2]


def test_survivors_do_not_overlap_and_the_struck_do():
    boxes, scores = random_boxes(200), torch.rand(200)
    kept = nms(boxes, scores, 0.5)
    overlap = box_iou(boxes[kept], boxes)
    assert (overlap[:, kept].fill_diagonal_(0) <= 0.5).all()
    struck = torch.ones(200, dtype=torch.bool).index_fill(0, kept, False)
    by_better = overlap * (scores[kept][:, None] > scores[None])
    assert (by_better.amax(dim=0)[struck] > 0.5).all()


def test_steps_tell_every_fate_once():
    boxes, scores = random_boxes(30, 60), torch.rand(30)
    steps = list(nms_steps(boxes, scores, 0.3))
    fates = [i for step in steps for i in (step.best, *step.removed)]
    assert sorted(fates) == list(range(30))
    torch.testing.assert_close(steps[0].iou, box_iou(boxes[steps[0].best][None], boxes)[0])
    assert steps[-1].waiting == []
