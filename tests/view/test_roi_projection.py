"""Lesson 04's RoI on the map: exact and rounded cells by hand, the planted bugs, and every control."""

import pytest
import torch

from rcnnlib.models.backbone import TinyTrunk
from rcnnlib.view.explorers.roi_projection import BUGS, RoIProjection, look_up, mean_map

PHOTO = torch.linspace(0, 1, 3 * 480 * 640).reshape(3, 480, 640)
STATE = {"x": 104, "y": 60, "width": 200, "height": 140, "longer_side": 640, "bug": "none"}
PLACE = {"size": (480, 640), "stride": 16}


def test_by_hand():
    numbers = look_up(**STATE, **PLACE)
    # 104, 60, 304, 200 over 16; 6.5 rounds up to 7, 12.5 to 13; the last cells reach to 20 x 16 and 14 x 16
    assert numbers["exact"].tolist() == [6.5, 3.75, 19.0, 12.5]
    assert numbers["cells"] == [7, 4, 19, 13]
    assert numbers["covered"].tolist() == [112, 64, 320, 224]
    assert numbers["errors"] == [8, 4, 16, 24]
    assert numbers["IoU"] == pytest.approx(192 * 136 / (200 * 140 + 208 * 160 - 192 * 136))


def test_a_smaller_copy_has_larger_cells():
    numbers = look_up(**STATE | {"longer_side": 320}, **PLACE)
    assert numbers["exact"].tolist() == [3.25, 1.875, 9.5, 6.25]
    assert numbers["cells"] == [3, 2, 10, 6]
    assert numbers["covered"].tolist() == [96, 64, 352, 224]  # a cell is 32 pixels of the photo


def test_the_planted_bugs_are_the_classic_ones():
    assert look_up(**STATE | {"bug": BUGS[1]}, **PLACE)["cells"] == [6, 4, 19, 12]
    forgotten = STATE | {"bug": BUGS[2]}
    assert look_up(**forgotten, **PLACE)["cells"] == look_up(**STATE, **PLACE)["cells"], "it hides at full size"
    assert look_up(**forgotten | {"longer_side": 320}, **PLACE)["exact"].tolist() == [6.5, 3.75, 19.0, 12.5]


def test_cells_beyond_the_map_cover_nothing():
    numbers = look_up(**STATE | {"x": 600, "width": 640, "y": 470}, **PLACE)
    assert numbers["box"].tolist() == [600, 470, 640, 480]
    assert numbers["covered"].tolist() == [608, 464, 640, 480]


@pytest.fixture
def explorer():
    return RoIProjection(PHOTO, TinyTrunk().eval(), (104, 60, 200, 140), alt="a gradient")


CHANGES = [
    {"x": 130},
    {"y": 80},
    {"width": 222},
    {"height": 99},
    {"longer_side": 320},
    {"bug": BUGS[1]},
    {"bug": BUGS[2], "longer_side": 320},
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_changes_numbers_and_map(explorer, change):
    explorer.compute = lambda **state: look_up(**state, **PLACE)
    explorer.set(longer_side=change.get("longer_side", 640) if "bug" in change else 640)
    before, picture = repr(explorer), explorer.chart.value
    explorer.set(**change)
    assert repr(explorer) != before
    assert explorer.chart.value != picture


def test_a_drag_moves_the_sliders(explorer):
    explorer.canvas.boxes = [explorer.canvas.boxes[0], [50, 60.4, 150, 160]]
    assert [explorer.controls[name].value for name in ("x", "y", "width", "height")] == [50, 60, 100, 100]
    assert explorer.numbers["box"].tolist() == [50, 60, 150, 160]


def test_maps_are_padded_to_whole_cells():
    assert mean_map(TinyTrunk().eval(), PHOTO[:, :300], 320).shape == (19, 40)  # 150 pixels are 18.75 cells of 8
