import pytest
import torch

from rcnnlib.datasets.shapes import CLASS_NAMES, Shapes, shape_mask


@pytest.mark.parametrize("label", [1, 2, 3])
@pytest.mark.parametrize("side", [5, 6, 16, 31, 48])
def test_mask_touches_all_four_sides(label, side):
    mask = shape_mask(label, side)
    assert mask.shape == (side, side)
    assert mask[0].any()
    assert mask[-1].any()
    assert mask[:, 0].any()
    assert mask[:, -1].any()
    assert (mask == mask[:, ::-1]).all()  # and is symmetric


def test_masks_have_their_areas():
    areas = [shape_mask(label, 300).mean() for label in (1, 2, 3)]
    assert areas == pytest.approx([3.1416 / 4, 1, 1 / 2], abs=0.005)


def test_same_picture_every_time():
    for ours, theirs in zip(Shapes(5, seed=4)[3], Shapes(9, seed=4)[3], strict=True):
        assert ours == theirs if isinstance(ours, int) else torch.equal(ours, theirs)
    assert not torch.equal(Shapes(5, seed=4)[3].image, Shapes(5, seed=5)[3].image)
    assert not torch.equal(Shapes(5)[0].image, Shapes(5)[1].image)


@pytest.mark.parametrize("size", [32, 96, 128])
def test_examples_are_sound(size):
    data = Shapes(60, size=size)
    counts = [len(item.labels) for item in data]  # a data set can be looped over
    assert len(counts) == len(data) == 60
    assert 0 in counts
    assert max(counts) >= 3
    labels = torch.cat([item.labels for item in data])
    assert labels.unique().tolist() == [1, 2, 3] == list(range(1, len(CLASS_NAMES) + 1))
    for index, item in enumerate(data):
        assert item.image.shape == (3, size, size)
        assert item.image.dtype == torch.float32
        assert item.image.min() >= 0
        assert item.image.max() <= 1
        assert (item.boxes >= 0).all()
        assert (item.boxes <= size).all()
        assert (item.boxes[:, 2:] - item.boxes[:, :2] >= size // 6).all()
        assert item.id == index
        assert item.ignore.shape == (0, 4)


def test_box_is_where_the_shape_is():
    """With one shape and the noise smoothed by a threshold, the pixels unlike the corner's colour fill the box."""
    for item in Shapes(200):
        if len(item.labels) != 1:
            continue
        x1, y1, x2, y2 = item.boxes[0].int().tolist()
        outside = torch.ones(96, 96, dtype=torch.bool)
        outside[y1:y2, x1:x2] = False
        ground = item.image[:, outside].mean(1)
        unlike = (item.image - ground[:, None, None]).abs().mean(0) > 0.18  # the shape differs by 0.3, clipped a little
        rows, columns = unlike.float().mean(1) > 0, unlike.float().mean(0) > 0
        assert unlike[outside].float().mean() < 0.01
        mask = torch.from_numpy(shape_mask(int(item.labels[0]), x2 - x1).copy())
        assert unlike[y1:y2, x1:x2][mask].float().mean() > 0.9
        assert rows[y1:y2].float().mean() > 0.9
        assert columns[x1:x2].float().mean() > 0.9


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="length"):
        Shapes(-1)
    with pytest.raises(ValueError, match="size must be at least 32"):
        Shapes(1, size=8)
    with pytest.raises(IndexError, match="index must be 0 to 1"):
        Shapes(2)[2]
    assert list(Shapes(0)) == []
    assert len(Shapes(1, most=0)[0].labels) == 0
