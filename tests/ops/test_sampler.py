import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnnlib.ops.matcher import Match
from rcnnlib.ops.sampler import sample


def make(status, matches=None):
    status = torch.tensor(status, dtype=torch.int64)
    matches = torch.zeros_like(status) if matches is None else torch.tensor(matches)
    return Match(status, matches, torch.zeros(status.shape))


def test_by_hand():
    match = make([1, 0, 1, -1, 0, 1], matches=[0, 0, 1, 0, 0, 1])
    noise = torch.tensor([0.9, 0.2, 0.1, 0.0, 0.7, 0.5])
    drawn = sample(match, torch.tensor([3, 5]), noise, size=4, positive_fraction=0.5)
    assert drawn.index.tolist() == [2, 5, 1, 4]  # the two positives with the smallest numbers, then two negatives
    assert drawn.labels.tolist() == [5, 5, 0, 0]
    assert drawn.matches[:2].tolist() == [1, 1]


def test_too_few_positives_are_filled_up_with_negatives():
    drawn = sample(make([0, 1, 0, 0, 0]), torch.tensor([2]), torch.rand(5), size=4, positive_fraction=0.5)
    assert drawn.labels.tolist() == [2, 0, 0, 0]


def test_too_few_of_both_leave_rows_without_part():
    drawn = sample(make([0, 1, -1]), torch.tensor([2]), torch.rand(3), size=5, positive_fraction=0.5)
    assert drawn.labels.tolist() == [2, 0, -1, -1, -1]
    only = sample(make([1, 1, 1, 1]), torch.tensor([2]), torch.rand(4), size=4, positive_fraction=0.25)
    assert only.labels.tolist() == [2, -1, -1, -1]  # positives never take the place of negatives


@given(st.integers(0, 10_000), st.integers(0, 60), st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@settings(max_examples=80, deadline=None)
def test_the_counts_are_the_rule(seed, n, size, fraction):
    torch.manual_seed(seed)
    match = make(torch.randint(-1, 2, (n,)).tolist())
    drawn = sample(
        match,
        torch.tensor([1]),
        torch.rand(n),
        size=size,
        positive_fraction=fraction,
    )
    positives, negatives = int((match.status == 1).sum()), int((match.status == 0).sum())
    want_positive = min(positives, int(size * fraction))
    want_negative = min(negatives, size - want_positive)
    assert (drawn.labels == 1).sum() == want_positive
    assert (drawn.labels == 0).sum() == want_negative
    assert (drawn.labels == -1).sum() == size - want_positive - want_negative
    taken = drawn.index[drawn.labels >= 0]
    assert len(taken.unique()) == len(taken)  # nobody is drawn twice
    assert torch.equal(match.status[taken], drawn.labels[drawn.labels >= 0])


def test_the_largest_number_below_one_is_drawn_too():
    largest = torch.tensor([1.0]).nextafter(torch.tensor([0.0]))
    drawn = sample(make([0]), torch.tensor([1]), largest, size=1, positive_fraction=0.5)
    assert drawn.labels.tolist() == [0]  # 1 + this is 2 in float32


def test_every_positive_has_the_same_chance():
    status = [1] * 8 + [0] * 8
    noise = torch.rand(4000, 16)
    match = Match(
        torch.tensor(status).expand(4000, 16), torch.zeros(4000, 16, dtype=torch.int64), torch.zeros(4000, 16)
    )
    drawn = sample(match, torch.ones(4000, 1, dtype=torch.int64), noise, size=8, positive_fraction=0.25)
    counts = torch.bincount(drawn.index[drawn.labels == 1], minlength=16)[:8]
    # 2 of 8 each time: 1000 expected, standard deviation sqrt(4000 * 0.25 * 0.75) = 27
    assert ((counts - 1000).abs() < 5 * 27).all()


def test_pictures_of_a_batch_do_not_touch_each_other():
    match = make(torch.randint(-1, 2, (3, 50)).tolist())
    labels, noise = torch.randint(1, 4, (3, 1)), torch.rand(3, 50)
    together = sample(match, labels, noise, size=16, positive_fraction=0.25)
    for i in range(3):
        alone = sample(Match(*(t[i] for t in match)), labels[i], noise[i], size=16, positive_fraction=0.25)
        assert torch.equal(together.index[i], alone.index)
        assert torch.equal(together.labels[i], alone.labels)


def test_the_fraction_is_checked():
    with pytest.raises(ValueError, match=r"positive_fraction must lie in \[0, 1\]; got 25"):
        sample(make([1, 0]), torch.tensor([1]), torch.rand(2), size=2, positive_fraction=25)
