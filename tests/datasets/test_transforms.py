import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rcnnlib.datasets.transforms import (
    collate,
    crop_tile,
    flip,
    make_example,
    pad,
    read_image,
    recolour,
    resize,
    tiles,
    to_photo,
    uniform_noise,
)
from rcnnlib.types import Detections


def example(height=40, width=60, boxes=(), ignore=(), labels=None, id=7):
    image = torch.rand(3, height, width)
    return make_example(image, boxes, labels if labels is not None else [1] * len(boxes), ignore, id=id)


@st.composite
def pictures(draw, most=200):
    """Draw the arguments of ``example``: any size, up to 5 boxes on a grid of half pixels, up to 2 ignored regions.

    Not the example itself: beartype checks its lists by lot, and hypothesis forbids that inside a strategy.
    """
    height, width = draw(st.integers(8, most)), draw(st.integers(8, most))

    def box():
        x1, y1 = draw(st.integers(0, 2 * width - 2)), draw(st.integers(0, 2 * height - 2))
        x2, y2 = draw(st.integers(x1 + 1, 2 * width)), draw(st.integers(y1 + 1, 2 * height))
        return (x1 / 2, y1 / 2, x2 / 2, y2 / 2)

    boxes = [box() for _ in range(draw(st.integers(0, 5)))]
    return height, width, boxes, [box() for _ in range(draw(st.integers(0, 2)))]


# ------------------------------------------------------------------------------------------------------- read_image


def save(image, path, **options):
    image.save(path, **options)
    return path


def test_read_rgb_values(tmp_path):
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    got = read_image(save(Image.fromarray(pixels), tmp_path / "a.png"))
    assert got.dtype == torch.float32
    assert got.shape == (3, 2, 3)
    assert torch.equal(got, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (Image.new("L", (4, 2), 51), [0.2, 0.2, 0.2]),
        (Image.fromarray(np.full((2, 4), 0.2 * 65535, np.uint16)), [0.2, 0.2, 0.2]),  # 16-bit grey
        (Image.new("RGBA", (4, 2), (255, 0, 0, 0)), [1, 1, 1]),  # quite transparent: white
        (Image.new("RGBA", (4, 2), (255, 0, 0, 255)), [1, 0, 0]),
        (Image.new("1", (4, 2), 1), [1, 1, 1]),
        (Image.new("P", (4, 2), 0), [0, 0, 0]),
    ],
)
def test_read_converts_to_rgb(tmp_path, image, value):
    got = read_image(save(image, tmp_path / "a.png"))
    assert got.shape == (3, 2, 4)
    torch.testing.assert_close(got[:, 0, 0], torch.tensor(value, dtype=torch.float32), atol=2e-5, rtol=0)


def test_read_turns_upright(tmp_path):
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))  # upper left
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    got = read_image(save(image, tmp_path / "a.png", exif=exif))
    assert got.shape == (3, 4, 2)
    assert got[0].nonzero().tolist() == [[0, 1]]  # now upper right


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_truncated_picture_is_named(tmp_path, kind):
    whole = tmp_path / f"whole.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\.{kind} is cut short") as caught:
        read_image(cut)
    assert "\n" not in str(caught.value)


def test_missing_empty_and_alien_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no picture at .*gone\.jpg"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    for name in ("empty", "text"):
        with pytest.raises(ValueError, match=rf"{name}\.jpg is cut short or not a picture"):
            read_image(tmp_path / f"{name}.jpg")


# ----------------------------------------------------------------------------------------------------------- resize


def test_resize_table():
    given = example(480, 640, [(64, 48, 320, 240)], [(0, 0, 640, 480)])
    got = resize(given)
    assert got.image.shape == (3, 240, 320)  # 320 / 640 = 1/2
    assert got.boxes.tolist() == [[32, 24, 160, 120]]
    assert got.ignore.tolist() == [[0, 0, 320, 240]]
    assert got.scale.tolist() == [0.5, 0.5]
    assert got.labels.tolist() == [1]


def test_resize_scales_each_axis_by_itself():
    got = resize(example(101, 200, [(0, 0, 200, 101)]), longer_side=20)
    assert got.image.shape == (3, 10, 20)  # 101 / 10 = 10.1 rows become 10
    torch.testing.assert_close(got.boxes, torch.tensor([[0.0, 0, 20, 10]]))  # still the whole picture
    torch.testing.assert_close(got.scale, torch.tensor([20 / 200, 10 / 101]))


def test_resize_is_antialiased():
    stripes = torch.zeros(3, 64, 64)
    stripes[:, :, ::4] = 1  # at a quarter of the size a plain look-up meets columns 1 and 2 of four: all black
    grey = resize(make_example(stripes, [], [], [], id=0), longer_side=16).image
    torch.testing.assert_close(grey[:, 2:-2, 2:-2], torch.full((3, 12, 12), 0.25), atol=0.01, rtol=0)


def test_resize_narrow_picture_keeps_a_row():
    assert resize(example(1, 1000), longer_side=100).image.shape == (3, 1, 100)


@settings(max_examples=30, deadline=None)
@given(pictures(), st.integers(8, 320))
def test_resize_and_back(picture, longer_side):
    before = example(*picture)
    after = resize(before, longer_side)
    assert max(after.image.shape[-2:]) == longer_side
    assert after.image.min() >= 0
    assert after.image.max() <= 1
    torch.testing.assert_close(to_photo(after.boxes, after), before.boxes, atol=1e-4, rtol=0)
    torch.testing.assert_close(to_photo(after.ignore, after), before.ignore, atol=1e-4, rtol=0)


def test_detections_find_the_way_back_to_the_photo():
    photos = [example(480, 640, [(10.5, 20, 400, 333)], id=1), example(333, 500, [(1, 2, 3, 4)], id=2)]
    batch = collate([resize(photo) for photo in photos], seed=0, epoch=0, noise_length=1)
    found = Detections(batch.boxes, batch.labels.float(), batch.labels, batch.valid, torch.ones(2, dtype=torch.bool))
    original = found.to_original(batch).boxes
    for row, photo in zip(original, photos, strict=True):
        torch.testing.assert_close(row, photo.boxes, atol=1e-4, rtol=0)


# ------------------------------------------------------------------------------------------------------------- flip


def test_flip_table():
    before = example(4, 10, [(1, 0, 4, 2)], [(7, 1, 10, 4)])
    after = flip(before)
    assert after.boxes.tolist() == [[6, 0, 9, 2]]  # 10 - 4 and 10 - 1
    assert after.ignore.tolist() == [[0, 1, 3, 4]]
    assert torch.equal(after.image[:, :, 0], before.image[:, :, 9])


@settings(max_examples=30, deadline=None)
@given(pictures())
def test_flip_twice_changes_nothing(picture):
    before = example(*picture)
    for ours, theirs in zip(flip(flip(before)), before, strict=True):
        assert ours == theirs if isinstance(ours, int) else torch.equal(ours, theirs)


def test_flip_moves_picture_and_box_together():
    image = torch.zeros(3, 6, 8)
    image[:, 1:3, 2:5] = 1
    after = flip(make_example(image, [(2, 1, 5, 3)], [1], [], id=0))
    x1, y1, x2, y2 = after.boxes[0].int().tolist()
    assert after.image[:, y1:y2, x1:x2].min() == 1
    assert after.image.sum() == image.sum()


# ------------------------------------------------------------------------------------------------------------ tiles


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((0, 0, 10, 10), True),
        ((15, 0, 25, 10), True),  # 5 of 10 columns inside: just half
        ((15.5, 0, 25.5, 10), False),  # 45 of 100
        ((15, 15, 25, 25), False),  # a corner: 25 of 100
        ((20, 0, 30, 10), None),  # touches the border from outside
        ((30, 0, 40, 10), None),
    ],
)
def test_crop_keeps_halves(box, kept):
    got = crop_tile(example(40, 60, [box], labels=[3]), (0, 0, 20, 20))
    clipped = [[box[0], box[1], min(box[2], 20), min(box[3], 20)]]
    assert got.boxes.tolist() == (clipped if kept else [])
    assert got.labels.tolist() == ([3] if kept else [])
    assert got.ignore.tolist() == (clipped if kept is False else [])


def test_crop_moves_everything():
    before = resize(example(80, 120, [(60, 40, 80, 60)], [(0, 0, 120, 80)]), longer_side=60)  # scale 1/2
    got = crop_tile(before, (20, 10, 50, 35))
    assert torch.equal(got.image, before.image[:, 10:35, 20:50])
    assert got.boxes.tolist() == [[10, 10, 20, 20]]  # (30, 20, 40, 30) - (20, 10)
    assert got.ignore.tolist() == [[0, 0, 30, 25]]
    assert got.offset.tolist() == [40, 20]  # pixels of the photo
    assert to_photo(got.boxes, got).tolist() == [[60, 40, 80, 60]]


@pytest.mark.parametrize("window", [(0, 0, 61, 10), (-1, 0, 10, 10), (5, 0, 5, 10), (0, 30, 10, 41)])
def test_crop_refuses_windows_outside(window):
    with pytest.raises(ValueError, match="window"):
        crop_tile(example(), window)


def test_tiles_table():
    got = tiles(example(400, 700), size=320)
    assert [tuple(tile.offset.tolist()) for tile in got] == [(x, y) for y in (0, 80) for x in (0, 190, 380)]
    assert {tuple(tile.image.shape) for tile in got} == {(3, 320, 320)}
    assert [tile.offset[0].item() for tile in tiles(example(10, 700), size=320, overlap=64)] == [0, 190, 380]
    assert [tile.offset[0].item() for tile in tiles(example(10, 640), size=320)] == [0, 320]
    assert len(tiles(example(10, 640), size=320, overlap=1)) == 3
    assert tiles(example(10, 20), size=320)[0].image.shape == (3, 10, 20)


def test_tiles_refuse_overlap_of_a_whole_tile():
    for overlap in (-1, 32):
        with pytest.raises(ValueError, match="overlap"):
            tiles(example(), 32, overlap=overlap)


@settings(max_examples=40, deadline=None)
@given(pictures(most=80), st.integers(10, 90), st.integers(0, 7))
def test_tiles_cover_everything(picture, size, overlap):
    before = example(*picture)
    cut = tiles(before, size, overlap=overlap)
    covered = torch.zeros(before.image.shape[-2:], dtype=torch.bool)
    found = {row: False for row in range(len(before.boxes))}
    for tile in cut:
        height, width = tile.image.shape[-2:]
        x, y = tile.offset.int().tolist()
        covered[y : y + height, x : x + width] = True
        rows = torch.cat((tile.boxes, tile.ignore))
        assert (rows >= 0).all()
        assert (rows[:, 0::2] <= width).all()
        assert (rows[:, 1::2] <= height).all()
        assert (rows[:, 2:] > rows[:, :2]).all()
        back = to_photo(rows, tile)
        for row, box in enumerate(before.boxes):
            clipped = torch.cat(
                (box[:2].maximum(tile.offset), box[2:].minimum(tile.offset + torch.tensor([width, height])))
            )
            found[row] |= bool((back == clipped).all(-1).any())
    assert covered.all()
    assert all(found.values())  # as a box, or as an ignored region, in at least one tile


@settings(max_examples=40, deadline=None)
@given(pictures(most=80), st.integers(10, 90))
def test_counted_once(picture, size):
    before = example(*picture)
    often = tiles(before, size)
    once = tiles(before, size, count_once=True)
    assert sum(len(tile.boxes) for tile in once) <= len(before.boxes)
    for some, all_ in zip(once, often, strict=True):  # the same places, but more of them ignored
        assert torch.equal(some.image, all_.image)
        assert len(some.boxes) + len(some.ignore) == len(all_.boxes) + len(all_.ignore)
    if size >= max(before.image.shape[-2:]):
        assert sum(len(tile.boxes) for tile in once) == len(before.boxes)


def test_counted_once_in_the_tile_that_holds_most():
    # Tiles begin at 0, 10, 20; the box has 8 columns in the first, all 12 in the second, 2 in the third.
    once = tiles(example(20, 40, [(12, 0, 22, 10)]), 20, overlap=10, count_once=True)
    assert [tile.boxes.tolist() for tile in once] == [[], [[2, 0, 12, 10]], []]
    assert [tile.ignore.tolist() for tile in once] == [[[12, 0, 20, 10]], [], [[0, 0, 2, 10]]]


# ------------------------------------------------------------------------------------------------- pad, noise, collate


def test_pad_is_right_and_bottom():
    image = torch.rand(3, 17, 32)
    got = pad(image)
    assert got.shape == (3, 32, 32)
    assert torch.equal(got[:, :17], image)
    assert got[:, 17:].eq(0).all()
    assert pad(image, at_least=(33, 1)).shape == (3, 48, 32)


def test_noise_is_uniform_and_stateless():
    noise = uniform_noise(20000, seed=1, epoch=2, id=3)
    assert torch.equal(noise, uniform_noise(20000, seed=1, epoch=2, id=3))
    assert torch.equal(noise[:5], uniform_noise(5, seed=1, epoch=2, id=3))
    assert noise.min() >= 0
    assert noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.01  # the standard deviation of the mean is 0.29 / 141 = 0.002
    others = [(0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3), (1, 3, 2)]
    for seed, epoch, id in others:
        correlation = torch.corrcoef(torch.stack((noise, uniform_noise(20000, seed=seed, epoch=epoch, id=id))))[0, 1]
        assert abs(correlation) < 0.04


def test_noise_refuses_negative_keys():
    for key in ({"seed": -1}, {"epoch": -1}, {"id": -1}):
        with pytest.raises(ValueError, match="must not be negative"):
            uniform_noise(1, **{"seed": 0, "epoch": 0, "id": 0} | key)


def test_collate_table():
    one = example(20, 30, [(1, 2, 3, 4), (5, 6, 7, 8)], [(0, 0, 9, 9)], labels=[2, 1], id=5)
    empty = example(33, 16, id=6)
    batch = collate([one, empty], seed=0, epoch=1, noise_length=8)
    assert batch.images.shape == (2, 3, 48, 32)  # 33 -> 48, 30 -> 32
    assert batch.sizes.tolist() == [[20, 30], [33, 16]]
    assert torch.equal(batch.images[0, :, :20, :30], one.image)
    assert batch.images[0, :, 20:].eq(0).all()
    assert batch.boxes.tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]], [[0, 0, 0, 0]] * 2]
    assert batch.labels.tolist() == [[2, 1], [0, 0]]
    assert batch.valid.tolist() == [[True, True], [False, False]]
    assert batch.ignore.tolist() == [[[0, 0, 9, 9]], [[0, 0, 0, 0]]]
    assert batch.noise.shape == (2, 8)
    assert batch.ids.tolist() == [5, 6]


def test_collate_empty_pictures_have_one_empty_row():
    batch = collate([example()], seed=0, epoch=0)
    assert batch.boxes.shape == (1, 1, 4)
    assert batch.ignore.shape == (1, 1, 4)
    assert not batch.valid.any()


def test_collate_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="at least one example"):
        collate([], seed=0, epoch=0)


def test_order_of_the_batch_changes_nothing():
    photos = [example(16 + 8 * id, 32, [(id, 0, 9, 9)] * id, id=id) for id in range(4)]
    batch = collate(photos, seed=3, epoch=2, noise_length=50)
    order = [2, 0, 3, 1]
    shuffled = collate([photos[i] for i in order], seed=3, epoch=2, noise_length=50)
    for ours, theirs in zip(shuffled, batch, strict=True):
        assert torch.equal(ours, theirs[order])
    alone = collate([photos[2]], seed=3, epoch=2, noise_length=50)  # nor does the company matter
    assert torch.equal(alone.noise[0], batch.noise[2])
    assert len({tuple(row.tolist()) for row in batch.noise}) == 4
    assert not torch.equal(collate(photos, seed=3, epoch=3, noise_length=50).noise, batch.noise)


def test_recolour_by_hand():
    pixel = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1)
    example = make_example(pixel.expand(3, 2, 2), [[0, 0, 1, 1]], [1], [], id=0)
    # saturation 0.6: 0.4 + 0.6 (-0.2, 0, 0.2) = 0.28, 0.4, 0.52; contrast and brightness 1; red 0.85, blue 1.15
    draws = torch.tensor([0.5, 0.5, 0.5, 0.0, 0.5, 1.0])
    changed = recolour(example, draws)
    torch.testing.assert_close(changed.image[:, 0, 0], torch.tensor([0.28 * 0.85, 0.4, 0.52 * 1.15]))
    assert torch.equal(changed.boxes, example.boxes)
    bright = recolour(
        example, torch.ones(6)
    ).image  # 1.4 (0.4 + 1.4 (0.2 - 0.4)) 1.15 = 0.1932 for red; blue stops at 1
    torch.testing.assert_close(bright[:, 0, 0], torch.tensor([0.1932, 0.644, 1.0]))
