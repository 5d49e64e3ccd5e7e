"""The explorers of lesson 11: the list is the map, every control changes the numbers, the moments differ."""

import pytest
import torch

from rcnnlib.datasets.transforms import make_example
from rcnnlib.models.backbone import backbone
from rcnnlib.models.rpn import RPN
from rcnnlib.view.explorers.map_and_list import HEIGHT, RESHAPES, WIDTH, K, MapAndList, flatten, map_and_list
from rcnnlib.view.explorers.watch_it_learn import WatchItLearn


def test_every_entry_of_the_map_has_its_place():
    for channel in range(2 * K):
        for row in range(HEIGHT):
            for column in range(WIDTH):
                numbers = map_and_list(channel, row, column, RESHAPES[0])
                assert numbers["place in the list"] == numbers["should be"]
    # cell (1, 2) of 4 columns is cell 6; three anchors each: entries 18, 19, 20; channel 3 is anchor 1, object
    assert map_and_list(3, 1, 2, RESHAPES[0])["place in the list"] == [19, 1]
    assert map_and_list(3, 1, 2, RESHAPES[0])["rows of the channel"] == list(range(1, 36, 3))


def test_a_reshape_alone_mixes_cells_up():
    # channel 3 holds the numbers 36 to 47 of the map; two a row of the list: 18 to 23
    assert map_and_list(3, 1, 2, RESHAPES[1])["rows of the channel"] == [18, 19, 20, 21, 22, 23]
    assert map_and_list(3, 1, 2, RESHAPES[1])["place in the list"] != [19, 1]
    numbers = torch.arange(24).reshape(4, 2, 3)  # two anchors, 2 x 3 cells
    assert flatten(numbers, RESHAPES[0])[:2].tolist() == [[0, 6], [12, 18]]


@pytest.mark.parametrize("change", [{"channel": 3}, {"row": 2}, {"column": 1}, {"reshape": RESHAPES[1]}])
def test_every_control_of_the_map_changes_numbers_and_chart(change):
    shown = MapAndList().set(channel=2, row=1, column=2)
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture
    assert ("WRONG" in repr(shown)) == ("reshape" in change)


@pytest.fixture(scope="module")
def explorer():
    torch.manual_seed(0)
    options = {"scales": (16, 32, 48), "ratios": (0.5, 1.0, 2.0), "channels": 8}
    trunk = backbone("tiny").eval()
    moments = {steps: RPN(trunk.out_channels, trunk.stride, **options).eval() for steps in (0, 10)}
    for rpn in moments.values():
        torch.nn.init.normal_(rpn.head.conv.weight)
        torch.nn.init.normal_(rpn.head.scores.weight)
    pictures = {
        name: make_example(torch.rand(3, 96, 128), [[10.0, 10, 60, 60]], [1], [], id=number)
        for number, name in enumerate("AB")
    }
    return WatchItLearn(moments, trunk, pictures, alt="noise")


@pytest.mark.parametrize("change", [{"count": 20}, {"moment": 0}, {"anchor": 2}, {"picture": 1}])
def test_every_control_of_the_moments_changes_numbers_and_pictures(explorer, change):
    explorer.set(count=3, moment=1, anchor=4, picture=0)
    before, canvas, chart = repr(explorer), explorer.canvas.boxes.copy(), explorer.chart.value
    explorer.set(**change)
    assert repr(explorer) != before or "count" in change  # more proposals need not reach more
    assert explorer.chart.value != chart or "count" in change or "picture" in change
    if "anchor" not in change:
        assert explorer.canvas.boxes.shape != canvas.shape or (explorer.canvas.boxes != canvas).any()


def test_the_numbers_are_those_of_the_map(explorer):
    numbers = explorer.set(count=3, moment=1, anchor=4, picture=0).numbers
    one = numbers["maps"][4]
    row, column = numbers["row"], numbers["column"]
    assert one[row, column] == one.max() == numbers["highest objectness"]
    assert len(numbers["boxes"]) == 3
