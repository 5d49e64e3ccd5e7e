"""The merge slider of lesson 02: each control changes the numbers, which are those of the library's own tree."""

import numpy as np
import pytest
import torch

from rcnnlib.ops import selective_search as search
from rcnnlib.ops.boxes import box_area, box_iou
from rcnnlib.view.explorers.merge_steps import (
    BUGS,
    MEASURES,
    MergeSteps,
    grow,
    merge_steps,
    open_start,
    paint_regions,
    planted,
)

PHOTO = "hammer7"  # small, so quick to cut
STATE = {"photo": PHOTO, "scale": 100, "merges": 20, "bug": "none"} | dict.fromkeys(MEASURES, True)


def test_numbers_are_those_of_the_tree():
    start, tree = open_start(PHOTO, 100), grow(PHOTO, 100, MEASURES)
    count = len(start.regions.sizes)
    numbers = merge_steps(**STATE)
    assert (numbers["regions left"], numbers["boxes so far"]) == (count - 20, count + 20)
    assert len(numbers["labels"].unique()) == count - 20
    so_far = box_iou(start.truths, tree.boxes[: count + 20])
    assert torch.equal(numbers["best IoU of each object"], so_far.amax(dim=1))
    assert torch.equal(box_iou(start.truths, numbers["best"]).diagonal(), so_far.amax(dim=1))
    assert torch.equal(numbers["curve"][:, 20], so_far.amax(dim=1))
    assert numbers["last merge"] == tree.similarity[19].item()
    assert torch.equal(numbers["boxes"], tree.boxes[: count + 20])


def test_the_first_and_the_last_step():
    count = len(open_start(PHOTO, 100).regions.sizes)
    first, last = merge_steps(**STATE | {"merges": 0}), merge_steps(**STATE | {"merges": 10_000})
    assert (first["regions left"], first["last merge"]) == (count, None)
    assert (last["regions left"], last["boxes so far"]) == (1, 2 * count - 1)


def test_nothing_ticked_merges_nothing():
    numbers = merge_steps(**STATE | dict.fromkeys(MEASURES, False))
    assert numbers["merges"] == 0
    shown = MergeSteps([PHOTO, "spray"], merges=20).set(**dict.fromkeys(MEASURES, False))
    assert "tick at least one measure" in shown.line.value


def test_bugs_are_planted_and_taken_out_again():
    right = search.similarity, search.merge_histograms
    for bug in BUGS[1:]:
        with planted(bug):
            assert (search.similarity, search.merge_histograms) != right
        assert (search.similarity, search.merge_histograms) == right
        with pytest.raises(ValueError, match="at least one of"), planted(bug):
            search.hierarchical_grouping(open_start(PHOTO, 100).regions, measures=())
        assert (search.similarity, search.merge_histograms) == right
    with pytest.raises(ValueError, match="bug must be one of none, plain mean"), planted("x"):
        pass


def test_what_the_bugs_do():
    start = open_start(PHOTO, 100)
    regions = start.regions
    with planted("plain mean"):
        assert search.merge_histograms(np.array([1.0, 0]), np.array([0.0, 1]), 1, 3).tolist() == [0.5, 0.5]
    with planted("least similar first"):
        a, b = regions.pairs[0].tolist()
        assert search.similarity(regions, a, b) < 0
    large = [
        (box_area(grow(PHOTO, 100, MEASURES, bug).boxes[len(regions.sizes) :]) > regions.area / 2).float().mean()
        for bug in (BUGS[0], BUGS[2])
    ]
    assert large[1] > 3 * large[0]  # one region eats the others


CHANGES = [
    *({name: False} for name in MEASURES),
    {"merges": 50},
    {"scale": 300},
    {"photo": "spray"},
    {"bug": BUGS[1]},
    {"bug": BUGS[2]},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_control_changes_numbers_and_pictures(change):
    shown = MergeSteps([PHOTO, "spray"], merges=57)
    before, chart, picture = repr(shown), shown.chart.value, shown.canvas.picture
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != chart
    assert shown.canvas.picture != picture


def test_the_slider_ends_with_the_last_merge():
    shown = MergeSteps([PHOTO, "spray"], merges=20)
    for change in ({"photo": "spray"}, {"scale": 300}, {"photo": PHOTO}):
        shown.set(**change)
        count = len(open_start(shown.state["photo"], shown.state["scale"]).regions.sizes)
        assert shown.controls["merges"].max == count - 1
        shown.set(merges=count - 1)
        assert shown.numbers["regions left"] == 1


def test_the_state_can_be_given():
    assert MergeSteps([PHOTO, "spray"], merges=20, size=False).state["size"] is False


def test_regions_are_painted_in_their_mean_colour():
    image = torch.tensor([[[0.0, 1, 0.2, 0.2]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]])
    painted = paint_regions(image, torch.tensor([[0, 0, 5, 5]]))
    # Region 0 is (0 + 1) / 2 of 255; its neighbour begins with a white border.
    assert painted[0].tolist() == [[128, 0, 0], [128, 0, 0], [255, 255, 255], [51, 0, 0]]
