"""The first explorer: the pure function by hand, every control, and the box that sliders and mouse share."""

from functools import cache

import numpy as np
import pytest
import torch

from rcnnlib.models.backbone import imagenet_classes, squeezenet
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.explorers.first_look import LEAST, MAPS, PHOTOS, FirstLook, choose_channel, look_at, open_photo


@pytest.fixture(scope="module")
def look():
    """`look_at` with the network and each photo opened once, at a state that a test changes."""
    net = squeezenet()
    photos = cache(lambda name: open_photo(name, net))
    start = {"photo": "dog", "x": 24, "y": 16, "width": 544, "height": 440, "map": MAPS[0], "channel": 0}
    return lambda **changed: look_at(**(start | changed), net=net, photos=photos)


def test_the_hand_drawn_box_is_a_german_shepherd(look):
    numbers = look()
    assert numbers["IoU"] == 1
    assert numbers["names"][0] == "German shepherd"
    assert numbers["probabilities"][0] > 0.95
    assert numbers["cells"].tolist() == [1.5, 1, 35.5, 28.5]  # 24 / 16, 16 / 16, 568 / 16, 456 / 16
    assert numbers["crop"].shape == (3, 224, 224)
    assert numbers["map"].shape == (30, 40)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"photo": "polar_bear"}, "names"),
        ({"x": 200}, "IoU"),
        ({"y": 100}, "IoU"),
        ({"width": 300}, "cells"),
        ({"height": 200}, "crop"),
        ({"map": MAPS[1]}, "channel"),
        ({"map": MAPS[2], "channel": 7}, "map"),
    ],
)
def test_every_control_changes_what_is_returned(look, changed, what):
    old, new = look(), look(**changed)
    same = torch.equal(old[what], new[what]) if torch.is_tensor(old[what]) else old[what] == new[what]
    assert not same


def test_the_channel_slider_counts_where_one_channel_is_shown(look):
    one, other = (look(map=MAPS[2], channel=channel)["map"] for channel in (239, 328))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("photo", PHOTOS)
def test_the_box_stays_inside_each_photo(look, photo):
    box = look(photo=photo, x=632, y=488, width=640, height=496)["box"]
    assert (box[2:] - box[:2]).tolist() == [LEAST, LEAST]
    assert look(photo=photo, x=0, y=0, width=640, height=496)["probabilities"][0] <= 1


def test_a_photo_with_odd_sides_is_padded_to_whole_cells():
    photo = open_photo("hedgehog", squeezenet())
    assert photo.image.shape == (3, 457, 640)
    assert photo.features.shape == (512, 29, 40)  # 457 / 16 = 28.6


def test_iou_is_that_of_the_best_hand_drawn_box(look):
    photo = open_photo("bison", squeezenet())
    box = [320.0, 20.0, 356.0, 44.0]
    numbers = look(photo="bison", x=320, y=20, width=36, height=24)
    assert numbers["IoU"] == pytest.approx(max(box_iou(torch.tensor([box]), photo.boxes)[0].tolist()))
    assert len(numbers["names"]) == 3
    assert set(numbers["names"]) <= set(imagenet_classes())


def test_the_chosen_channel_is_the_one_that_lives_in_the_box():
    features = torch.zeros(3, 4, 5)
    features[0] = 9  # large, but everywhere
    features[1, 1:3, 2:4] = 2
    features[2, 0, 0] = 5
    assert choose_channel(features, torch.tensor([1.5, 0.6, 3.9, 2.7])) == 1
    assert choose_channel(features, torch.tensor([0.0, 0.0, 1.0, 1.0])) == 2


def test_mouse_and_sliders_hold_one_box():
    explorer = FirstLook()
    before = repr(explorer)
    explorer.canvas.boxes = np.array([[30.4, 20, 500, 400.6], *explorer.canvas.boxes[1:]])
    assert [explorer.controls[name].value for name in ("x", "y", "width", "height")] == [30, 20, 470, 381]
    assert explorer.canvas.boxes[0].tolist() == [30, 20, 500, 401]
    assert repr(explorer) != before
    explorer.controls["x"].value = 600
    assert explorer.canvas.boxes[0].tolist() == [600, 20, 640, 401]
    assert "cells (37.5, 1.25, 40, 25.0625)" in repr(explorer)
    explorer.set(photo="bison")
    assert len(explorer.canvas.boxes) == 10
    assert explorer.canvas.kinds[0] == "proposal"
    assert "bison" in explorer.canvas.alt
