"""Lesson 04's receptive field: the gradient agrees with the recurrence, and every control changes the numbers."""

import pytest
import torch

from rcnnlib.models.backbone import SqueezeNetTrunk, squeezenet
from rcnnlib.view.explorers.receptive_field import ReceptiveField, layers_of, look_back, seen_pixels

PHOTO = torch.rand(3, 320, 336, generator=torch.Generator().manual_seed(1))
STATE = {"column": 10, "row": 9, "layer": "fire9", "share": 0.5}


@pytest.fixture(scope="module")
def trunk():
    return squeezenet().trunk


def test_layers_are_those_of_the_paper():
    layers = layers_of(SqueezeNetTrunk())
    assert " ".join(layers) == "conv1 pool1 fire2 fire3 pool3 fire4 fire5 pool5 fire6 fire7 fire8 fire9"
    assert [layers[name].field for name in ("conv1", "pool1", "fire2", "fire9")] == [3, 7, 15, 207]
    assert [layers[name].jump for name in ("conv1", "pool3", "pool5", "fire9")] == [2, 8, 16, 16]


@pytest.mark.parametrize("layer", layers_of(SqueezeNetTrunk()))
def test_the_gradient_reaches_as_far_as_the_recurrence_says(trunk, layer):
    numbers = look_back(**STATE | {"layer": layer}, trunk=trunk, image=PHOTO)
    x1, y1, x2, y2 = numbers["seen"]
    assert (x2 - x1, y2 - y1) == (numbers["field"], numbers["field"])
    assert numbers["centre"] == [10 * 16 + 8.5, 9 * 16 + 8.5]  # of every layer
    assert 0 < numbers["square"] <= numbers["field"]


@pytest.mark.parametrize(("column", "row"), [(0, 0), (10, 9), (20, 19)])
def test_a_part_of_the_photo_gives_the_gradient_of_the_whole(trunk, column, row):
    pixels = PHOTO[None].clone().requires_grad_()
    trunk(pixels)[0, :, row, column].sum().backward()
    whole = pixels.grad[0].abs().sum(0)
    ours = seen_pixels(trunk, PHOTO, column, row, layers_of(trunk)["fire9"])
    assert torch.allclose(ours, whole, atol=1e-4 * whole.max().item())


def test_the_square_holds_its_share():
    numbers = look_back(**STATE | {"share": 0.95}, trunk=squeezenet().trunk, image=PHOTO)
    (x, y), half = numbers["point"], numbers["square"] // 2
    seen = numbers["gradient"]
    for reach, holds in ((half, True), (half - 1, False)):
        inside = seen[y - reach : y + reach + 1, x - reach : x + reach + 1].sum()
        assert bool(inside >= 0.95 * seen.sum()) is holds


@pytest.mark.parametrize("change", [{"column": 4}, {"row": 2}, {"layer": "pool3"}, {"share": 0.9}])
def test_every_control_changes_numbers_and_chart(trunk, change):
    shown = ReceptiveField(PHOTO, trunk, (10, 9), alt="noise")
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture


def test_a_click_picks_the_cell_under_it(trunk):
    shown = ReceptiveField(PHOTO, trunk, (10, 9), alt="noise")
    shown.canvas.clicked = [335.9, 33.0]
    assert (shown.controls["column"].value, shown.controls["row"].value) == (20, 2)
    shown.canvas.clicked = [336.0, 320.0]  # the corner itself lies in no cell
    assert (shown.controls["column"].value, shown.controls["row"].value) == (20, 19)
