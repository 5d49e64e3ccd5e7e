import numpy as np
import pytest
import torch

from rcnnlib.datasets.compose import Cutout
from rcnnlib.datasets.scenes import FreshScenes, choose, vary


def test_a_scene_follows_from_its_numbers():
    scenes, again = FreshScenes(length=10), FreshScenes(length=10)
    one, two = scenes.at(3, 4), again.at(3, 4)
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.boxes, two.boxes)
    assert one.image.shape == (3, 240, 320)
    assert one.id == 4
    assert not torch.equal(scenes.at(4, 4).image, one.image)
    assert not torch.equal(FreshScenes(length=10, seed=1).at(3, 4).image, one.image)
    with pytest.raises(IndexError, match="0 to 9, got 10"):
        scenes[10]


def test_labels_are_those_of_the_classes():
    labels = torch.cat([FreshScenes(length=30)[index].labels for index in range(30)])
    assert set(labels.tolist()) == {1, 2, 3, 4, 5}


def test_the_plain_scenes_use_the_cutouts_as_they_are():
    scenes = FreshScenes(length=10, vary=False)
    assert not torch.equal(scenes.at(0, 2).image, FreshScenes(length=10).at(0, 2).image)


def test_a_varied_cutout_keeps_its_outline():
    square = np.zeros((60, 40, 4), np.uint8)
    square[..., :3], square[..., 3] = (200, 60, 30), 255
    rng = np.random.default_rng(0)
    shapes, colours = [], []
    for _ in range(40):
        varied = vary(rng, square)
        opaque = varied[..., 3] > 127
        assert opaque.any(axis=1).all()  # every row of the cut-out is still there
        shapes.append(opaque.sum() / square[..., 3].astype(bool).sum())
        colours.append(varied[opaque][:, :3].mean(axis=0))
        # Sheared and not cut off: all rows have the same number of opaque pixels, but for rounding.
        widths = opaque.sum(axis=1)
        assert widths.max() - widths.min() <= 2
    assert 1 / 1.35 < min(shapes) < 0.95
    assert 1.05 < max(shapes) < 1.35
    spread = np.ptp(np.array(colours), axis=1)
    assert (spread < 3).any()  # grey ones
    assert (spread > 100).any()


def test_one_cutout_of_each_class_may_be_pasted():
    rgba = np.full((8, 8, 4), 255, np.uint8)
    cutouts = [Cutout(f"{label}{number}", label, rgba) for label in (1, 2) for number in range(3)]
    drawn = [[cutout.name for cutout in choose(np.random.default_rng(seed), cutouts)] for seed in range(30)]
    assert all([name[0] for name in names] == ["1", "2"] for names in drawn)
    assert len({name for names in drawn for name in names}) == 6
