"""Lesson 04's pyramid: a vector of one length for every RoI, its grids against the library, and every control."""

import pytest
import torch

from rcnnlib.ops.roi_ops import roi_pool
from rcnnlib.view.explorers.pyramid import LEVELS, Pyramid, pool_roi

FEATURES = torch.rand(4, 15, 20, generator=torch.Generator().manual_seed(2))
PHOTO = torch.linspace(0, 1, 3 * 240 * 320).reshape(3, 240, 320)
STATE = {"x": 32, "y": 48, "width": 128, "height": 96, "levels": "6, 3, 2, 1 (SPPnet)"}
MAP = {"features": FEATURES, "stride": 16, "channel": 1}


def test_by_hand():
    numbers = pool_roi(**STATE | {"levels": "2, 1"}, **MAP)
    # 32..160 and 48..144 over 16: columns 2..10, rows 3..9, last cells included
    assert (numbers["cells"], numbers["bins"], numbers["numbers"]) == ([9, 7], [4, 1], 5 * 4)
    assert numbers["grids"][1].item() == FEATURES[1, 3:10, 2:11].max()
    assert numbers["grids"][0][0, 0] == FEATURES[1, 3:7, 2:7].max()  # floor(0), ceil(3.5) and ceil(4.5)
    assert numbers["bin boxes"][0].tolist() == [32, 48, 112, 112]
    assert numbers["cells in a bin"] == [20, 20]


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("size", [(8, 8), (20, 200), (320, 240)])
def test_the_length_depends_on_the_levels_alone(levels, size):
    numbers = pool_roi(**STATE | {"levels": levels, "width": size[0], "height": size[1]}, **MAP)
    assert numbers["numbers"] == 4 * sum(side * side for side in LEVELS[levels])
    for side, grid in zip(LEVELS[levels], numbers["grids"], strict=True):
        assert torch.equal(grid, roi_pool(FEATURES, numbers["box"][None], side, spatial_scale=1 / 16)[0, 1])


@pytest.fixture
def explorer():
    return Pyramid(PHOTO, FEATURES, (32, 48, 128, 96), "a gradient", channel=1)


@pytest.mark.parametrize(
    "change", [{"x": 260}, {"y": 200}, {"width": 40}, {"height": 40}, *({"levels": name} for name in list(LEVELS)[1:])]
)
def test_every_control_changes_numbers_and_chart(explorer, change):
    before, picture = repr(explorer), explorer.chart.value
    explorer.set(**change)
    assert repr(explorer) != before
    assert explorer.chart.value != picture


def test_a_drag_moves_the_sliders_and_the_bins_follow(explorer):
    boxes = explorer.canvas.boxes.copy()
    boxes[-1] = [64, 64, 128, 160]
    explorer.canvas.boxes = boxes
    assert [explorer.controls[name].value for name in ("x", "y", "width", "height")] == [64, 64, 64, 96]
    assert len(explorer.canvas.boxes) == 36 + 1
    explorer.set(levels="1")
    assert len(explorer.canvas.boxes) == 2
    assert explorer.canvas.editable == [1]
