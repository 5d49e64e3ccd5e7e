import json

import pytest
import torch
from oracles_voc import xml
from PIL import Image

from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.transforms import to_photo
from rcnnlib.datasets.voc import VocDataset, find_picture, load_voc, treetops


def write(folder, **files):
    for name, text in files.items():
        Image.new("RGB", (8, 6)).save(folder / f"{name}.png")
        (folder / f"{name}.xml").write_text(text)
    return folder


def test_reader_table(tmp_path):
    folder = write(
        tmp_path,
        a=xml(("dog", (1, 1, 8, 6)), ("cat", (3, 2, 3, 4)), ("dog", (1, 1, 2, 2), 1)),
        b=xml(filename="b.png"),
    )
    data = VocDataset(folder, folder)
    assert len(data) == 2
    assert data.class_names == ("cat", "dog")
    full, empty = data
    # Pixels 1..8 of 1..6 are the whole picture; pixel 3 alone covers [2, 3].
    assert full.boxes.tolist() == [[0, 0, 8, 6], [2, 1, 3, 4]]
    assert full.labels.tolist() == [2, 1]
    assert full.ignore.tolist() == [[0, 0, 2, 2]]  # difficult
    assert (full.id, empty.id) == (0, 1)
    assert empty.boxes.shape == (0, 4)


def test_counted_from_zero(tmp_path):
    folder = write(tmp_path, a=xml(("dog", (0, 1.5, 8, 6))))
    assert VocDataset(folder, folder, one_based=False)[0].boxes.tolist() == [[0, 1.5, 8, 6]]
    with pytest.raises(ValueError, match=r"a\.xml .*one_based=False"):
        VocDataset(folder, folder)


def test_class_names_can_be_given(tmp_path):
    folder = write(tmp_path, a=xml(("dog", (1, 1, 2, 2))))
    assert VocDataset(folder, folder, class_names=["cat", "dog"])[0].labels.tolist() == [2]
    with pytest.raises(ValueError, match=r"named \['dog'\].*class_names"):
        VocDataset(folder, folder, class_names=["cat"])


def test_picture_is_found_by_name_or_stem(tmp_path):
    folder = write(tmp_path, a=xml(filename="elsewhere.tif"))
    annotation = load_voc(folder / "a.xml")
    assert find_picture(annotation, folder) == folder / "a.png"
    (folder / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.xml: no picture 'elsewhere\.tif'"):
        find_picture(annotation, folder)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no XML file"):
        VocDataset(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.xml"):
        load_voc(tmp_path / "gone.xml")
    (tmp_path / "a.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"a\.xml is not XML"):
        load_voc(tmp_path / "a.xml")
    for broken in ("<bndbox><xmin>1</xmin></bndbox>", ""):
        (tmp_path / "a.xml").write_text(f"<annotation><object>{broken}</object></annotation>")
        with pytest.raises(ValueError, match="object 1 needs a bndbox"):
            load_voc(tmp_path / "a.xml")


# --------------------------------------------------------------------------------------------------------- Treetops


def test_treetops_photos_have_914_crowns_counted_from_one():
    folder = data_dir() / "treetops"
    photos = VocDataset(folder, folder, class_names=("Tree",))
    assert [len(file.objects) for file in photos.files] == [574, 279, 61]
    corners = torch.cat([torch.tensor([item.corners for item in file.objects]) for file in photos.files])
    # The border counts in the module's header: what says that these files count from 1.
    assert [(corners[:, axis] == 1).sum().item() for axis in (0, 1)] == [6, 9]
    assert (corners[:, :2] >= 1).all()
    for file, item in zip(photos.files, photos, strict=True):
        width, height = file.size
        assert item.image.shape == (3, height, width)
        assert item.boxes[:, 2].max() == width
        assert item.boxes[:, 3].max() == height
        assert item.boxes[:, 1].min() == 0  # a crown at the upper border begins there


@pytest.fixture(scope="module")
def splits():
    return {split: treetops(split) for split in ("train", "val", "test")}


def test_treetops_tiles(splits):
    assert {split: len(data) for split, data in splits.items()} == {"train": 70, "val": 16, "test": 20}
    for data in splits.values():
        assert data.class_names == ("Tree",)
        assert [item.id for item in data] == list(range(len(data)))
        for item in data:
            assert item.image.shape == (3, 320, 320)
            assert set(item.labels.tolist()) <= {1}
            rows = torch.cat((item.boxes, item.ignore))
            assert (rows >= 0).all()
            assert (rows <= 320).all()
            assert (rows[:, 2:] > rows[:, :2]).all()


def test_treetops_counts_every_test_crown_once(splits):
    assert sum(len(item.boxes) for item in splits["test"]) == 279 + 61


def test_treetops_boxes_lead_back_to_the_photo(splits):
    annotation = load_voc(data_dir() / "treetops/2019_YELL_2_528000_4978000_image_crop2.xml")
    crowns = {(x1 - 1, y1 - 1, x2, y2) for x1, y1, x2, y2 in (item.corners for item in annotation.objects)}
    inside = 0
    for item in splits["train"]:
        border = ((item.boxes == 0) | (item.boxes == 320)).any(dim=1)  # cut, or just touching
        whole = to_photo(item.boxes[~border], item).tolist()
        assert {tuple(row) for row in whole} <= crowns
        inside += len(whole)
    assert inside > 300


def test_treetops_train_and_val_are_a_tile_apart(splits):
    plan = json.loads((data_dir() / "treetops/splits.json").read_text())["splits"]
    train = max(item.offset[0].item() + 320 for item in splits["train"])
    val = min(item.offset[0].item() for item in splits["val"])
    assert val - train >= 320
    assert {part["photo"] for part in plan["test"]}.isdisjoint(part["photo"] for part in plan["train"] + plan["val"])


def test_treetops_refuses_unknown_splits():
    with pytest.raises(ValueError, match="split must be one of"):
        treetops("trian")
