"""A weighted AP is VOC's where all weights are 1, and what is drawn are individuals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcnnlib.datasets.coco import scrapbook, scrapbook_cutouts
from rcnnlib.engine.bootstrap import (
    NOBODY,
    Difference,
    draw_individuals,
    judge,
    mean_ap,
    paired_difference,
    weighted_ap,
)
from rcnnlib.engine.metrics import Record, voc_map


def record(boxes, scores, labels, truth, truth_labels, number=1):
    shaped = [torch.tensor(each, dtype=torch.float32).reshape(-1, 4) for each in (boxes, truth)]
    return Record(
        number,
        shaped[0],
        torch.tensor(scores),
        torch.tensor(labels),
        shaped[1],
        torch.tensor(truth_labels),
        torch.zeros(0, 4),
    )


LEFT, RIGHT, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (60.0, 60.0, 70.0, 70.0)
NEAR_LEFT = (0.0, 5.0, 10.0, 15.0)  # IoU 50 / 150 = 1/3 with LEFT


@pytest.fixture
def scene():
    """Individuals 0 (left) and 1 (right); right box on 1, wrong box near 0, wrong box near nobody, right box on 0."""
    return record([RIGHT, NEAR_LEFT, FAR, LEFT], [0.9, 0.8, 0.7, 0.6], [1, 1, 1, 1], [LEFT, RIGHT], [1, 1])


def test_each_detection_belongs_to_whom_it_looks_at(scene):
    judged = judge([scene], [torch.tensor([0, 1])], 1)
    assert judged.right.tolist() == [True, False, False, True]
    assert judged.individual.tolist() == [1, 0, NOBODY, 0]
    assert judged.objects.tolist() == [0, 1]


def test_an_individual_drawn_twice_counts_twice(scene):
    judged = judge([scene], [torch.tensor([0, 1])], 1)
    # weights 1, 1: precision 1, 1/2, 1/3, 1/2 -> envelope 1 and 1/2; AP = (1 + 1/2) / 2
    # left twice:   precision 1, 1/3, 1/4, 3/6 -> (1 * 1 + 2 * 1/2) / 3
    # left never:   precision 1, 1,   1/2, 1/2 -> 1
    weights = torch.tensor([[1.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    expected = torch.tensor([3 / 4, 2 / 3, 1.0], dtype=torch.float64)
    torch.testing.assert_close(weighted_ap(judged, weights), expected)


@given(seed=st.integers(0, 10_000))
def test_with_equal_weights_it_is_vocs(seed):
    generator = torch.Generator().manual_seed(seed)
    records = []
    for number in range(3):
        corners = torch.rand(9, 2, generator=generator) * 40
        boxes = torch.cat((corners, corners + 5 + 20 * torch.rand(9, 2, generator=generator)), dim=1)
        labels = torch.randint(1, 3, (9,), generator=generator)
        scores = torch.rand(6, generator=generator)
        labels[-2:] = torch.tensor([1, 2])  # every class has an object
        records.append(Record(number, boxes[:6], scores, labels[:6], boxes[6:], labels[6:], torch.zeros(0, 4)))
    individuals = [torch.tensor([0, 1, 2])] * 3
    ours = mean_ap(records, individuals, torch.ones(1, 3), 2).item()
    assert ours == pytest.approx(voc_map(records, 2)["mean"], abs=1e-9)


def test_draws_keep_the_classes():
    classes = [1, 1, 1, 2, 2, 3]
    weights = draw_individuals(classes, 50)
    assert weights.shape == (50, 6)
    for label in (1, 2, 3):
        members = torch.tensor(classes) == label
        assert torch.equal(weights[:, members].sum(1), torch.full((50,), float(members.sum()), dtype=torch.float64))
    assert len(weights[:, :3].unique(dim=0)) > 3
    assert torch.equal(weights, draw_individuals(classes, 50)), "the same draws for every condition and seed"


def test_nothing_detected_and_nothing_there():
    empty = record([], [], [], [LEFT], [1])._replace(scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64))
    assert mean_ap([empty], [torch.tensor([0])], torch.ones(2, 1), 1).tolist() == [0.0, 0.0]
    bare = Record(2, *empty[1:4], torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    assert judge([bare, empty], [torch.zeros(0, dtype=torch.int64), torch.tensor([0])], 1).objects.tolist() == [0]


def test_a_difference_is_seen_when_its_interval_leaves_out_zero():
    draws = torch.linspace(-0.1, 0.1, 201).expand(5, -1)
    first = torch.full((5,), 0.5)
    same = paired_difference(first, first, 0.5 + draws, 0.5 - draws)
    assert not same.seen
    assert same.mean == 0
    assert str(same).endswith("no difference seen")
    better = paired_difference(first + 0.2, first, 0.7 + draws, 0.5 + draws)
    assert better.seen
    assert better.mean == pytest.approx(0.2)
    assert (better.low, better.high) == pytest.approx((0.2, 0.2)), "paired: what both share cancels"
    assert str(Difference(0.2, 0.1, 0.3)) == "+0.200 (+0.100 to +0.300)"


def test_seeds_are_drawn_too():
    gains = torch.tensor([0.3, 0.1, -0.1, 0.2, 0.0])
    found = paired_difference(
        0.5 + gains, torch.full((5,), 0.5), (0.5 + gains)[:, None].expand(-1, 200), torch.full((5, 200), 0.5)
    )
    assert found.low < 0.05 < 0.15 < found.high


@pytest.mark.parametrize("split", ["val", "test"])
def test_every_box_of_scrapbook_has_its_cutout(split):
    cutouts, scenes = scrapbook_cutouts(split), scrapbook(split)
    labels = {}
    for place, (image, _) in enumerate(scenes.images):
        found = scenes[place].labels.tolist()
        assert len(found) == len(cutouts[image])
        for name, label in zip(cutouts[image], found, strict=True):
            assert labels.setdefault(name, label) == label, f"{name} is of one class"
    assert len(labels) == {"val": 19, "test": 25}[split]
