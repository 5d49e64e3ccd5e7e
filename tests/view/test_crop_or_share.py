"""Lesson 04's comparison of a crop's features with a crop of the features, and every control of its explorer."""

import pytest
import torch

from rcnnlib.models.backbone import squeezenet
from rcnnlib.view.explorers.crop_or_share import CropOrShare, compare

PHOTO = torch.rand(3, 320, 336, generator=torch.Generator().manual_seed(3))
STATE = {"x": 3, "y": 2, "width": 14, "height": 15, "context": 0}


@pytest.fixture(scope="module")
def parts():
    trunk = squeezenet().trunk
    with torch.inference_mode():
        return {"trunk": trunk, "image": PHOTO, "features": trunk(PHOTO[None])[0]}


def test_cells_that_see_only_the_crop_are_the_same(parts):
    numbers = compare(**STATE, **parts)
    # A cell sees 103 pixels to each side of its middle pixel: six cells at each border see beyond the crop.
    assert (numbers["same"], numbers["cells"]) == ((14 - 12) * (15 - 12), 14 * 15)
    assert numbers["rings"][6] == pytest.approx(1, abs=1e-4)
    assert numbers["rings"][0] < 0.9
    assert numbers["mean cosine"] == pytest.approx(numbers["cosine"].mean().item())


def test_with_six_cells_of_context_all_are_the_same(parts):
    for context, everything in ((6, True), (3, False)):
        numbers = compare(**STATE | {"context": context}, **parts)
        assert (numbers["same"] == numbers["cells"]) is everything


def test_the_border_of_the_photo_is_no_border_of_the_crop(parts):
    numbers = compare(0, 0, 21, 20, 0, **parts)
    assert numbers["same"] == 21 * 20
    assert len(numbers["rings"]) == 10


@pytest.fixture
def explorer(parts):
    return CropOrShare(PHOTO, parts["trunk"], parts["features"], (3, 2, 14, 15), alt="noise")


@pytest.mark.parametrize("change", [{"x": 5}, {"y": 9}, {"width": 6}, {"height": 8}, {"context": 2}])
def test_every_control_changes_numbers_and_chart(explorer, change):
    before, picture = repr(explorer), explorer.chart.value
    explorer.set(**change)
    assert repr(explorer) != before
    assert explorer.chart.value != picture


def test_a_drag_snaps_to_cells(explorer):
    explorer.canvas.boxes = [explorer.canvas.boxes[0], [70, 33, 170, 38]]
    assert [explorer.controls[name].value for name in ("x", "y", "width", "height")] == [4, 2, 7, 2]
    assert explorer.canvas.boxes[1].tolist() == [64, 32, 176, 64]
