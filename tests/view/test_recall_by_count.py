"""Recall under two sliders, lesson 02: the numbers are those of `proposal_recall`, every control counts."""

import pytest
import torch

from rcnnlib.engine.metrics import proposal_recall
from rcnnlib.view.explorers.recall_by_count import (
    ORDERS,
    Found,
    RecallByCount,
    best_so_far,
    open_sets,
    order_boxes,
    recall_by_count,
)


def boxes(count, seed, size=60):
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * size
    return torch.cat((corner, corner + 10 + torch.rand(count, 2, generator=random) * 40), dim=1)


def small(seed):
    truths = [boxes(n, seed + n) for n in (3, 0, 2)]
    return Found(truths, [boxes(n, seed + 50 + n) for n in (400, 5, 90)], [(110, 110)] * 3)


SETS = {"one": small(0), "two": small(100), "three": small(200)}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("count", "threshold"), [(1, 0.5), (60, 0.5), (60, 0.7), (2000, 0.6)])
def test_recall_equals_the_metric(order, count, threshold):
    shown = RecallByCount(SETS).set(count=count, threshold=threshold, order=order)
    for name, found in SETS.items():
        proposals, at = order_boxes(found, order), torch.tensor([threshold]).double()
        theirs = proposal_recall(proposals, found.truths, thresholds=at, count=count).item()
        assert shown.numbers["recall"][name] == pytest.approx(theirs)


def test_curves_pass_through_the_numbers():
    shown = RecallByCount(SETS).set(count=2500, threshold=0.6)
    for name, recall in shown.numbers["recall"].items():
        assert shown.numbers["by count"][name][-1].item() == pytest.approx(recall)
        assert shown.numbers["by threshold"][name][2].item() == pytest.approx(recall)


def test_orders():
    found = SETS["one"]
    for order in ORDERS:
        mixed = order_boxes(found, order)
        assert [len(one) for one in mixed] == [len(one) for one in found.proposals]
        assert all(torch.equal(one, two) for one, two in zip(mixed, order_boxes(found, order), strict=True))
    again = order_boxes(found, ORDERS[1])
    assert not torch.equal(again[0], found.proposals[0])
    assert torch.equal(again[0].unique(dim=0), found.proposals[0].unique(dim=0))
    with pytest.raises(ValueError, match="order must be one of"):
        order_boxes(found, "best first")


@pytest.mark.parametrize(
    "change", [{"count": 40}, {"threshold": 0.65}, {"order": ORDERS[1]}, {"order": ORDERS[2]}], ids=str
)
def test_every_control_changes_numbers_and_chart(change):
    shown = RecallByCount(SETS).set(count=60)
    before, chart = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != chart


def test_best_so_far_never_falls_and_ends_with_the_best():
    found = SETS["two"]
    table = best_so_far(found.proposals, found.truths)
    assert table.shape == (5, 400)
    assert (table.diff(dim=1) >= 0).all()


def test_the_three_sets_of_the_course():
    sets = open_sets()
    assert [sum(map(len, found.truths)) for found in sets.values()] == [89, 335, 340]
    assert all(len(found.truths) == len(found.proposals) == len(found.sizes) for found in sets.values())


def test_numbers_need_no_explorer():
    tables = {"any": {"set": torch.tensor([[0.2, 0.9], [0.4, 0.4]])}}
    numbers = recall_by_count(2, 0.5, "any", tables=tables)
    assert numbers["recall"] == {"set": 0.5}
    assert recall_by_count(1, 0.5, "any", tables=tables)["recall"] == {"set": 0.0}
