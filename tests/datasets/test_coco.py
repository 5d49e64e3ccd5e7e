import json

import pytest
import torch
from PIL import Image

from rcnnlib.datasets.coco import CocoDataset, scrapbook, wild
from rcnnlib.datasets.paths import data_dir


def small(**changes):
    """A COCO file with two pictures, three objects, and category ids in disorder with gaps."""
    content = {
        "images": [
            {"id": 9, "file_name": "a.png", "width": 8, "height": 6},
            {"id": 4, "file_name": "sub/b.png", "width": 5, "height": 5},
        ],
        "categories": [{"id": 30, "name": "cat"}, {"id": 2, "name": "ant"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 30, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 9, "category_id": 2, "bbox": [0, 0, 8, 6], "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 2, "bbox": [0.5, 0.25, 1, 2], "iscrowd": 0},
        ],
    }
    return content | changes


def write(folder, content):
    (folder / "sub").mkdir(exist_ok=True)
    Image.new("RGB", (8, 6)).save(folder / "a.png")
    Image.new("RGB", (5, 5)).save(folder / "sub/b.png")
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json", folder


def test_reader_table(tmp_path):
    data = CocoDataset(*write(tmp_path, small()))
    assert len(data) == 2
    assert data.class_names == ("ant", "cat")  # ascending ids 2, 30 are labels 1, 2
    assert data.category_ids == (2, 30)
    full, empty = data
    assert full.image.shape == (3, 6, 8)
    assert full.boxes.tolist() == [[1, 2, 4, 6], [0.5, 0.25, 1.5, 2.25]]  # x + w, y + h
    assert full.labels.tolist() == [2, 1]
    assert full.ignore.tolist() == [[0, 0, 8, 6]]  # the crowd
    assert (full.id, empty.id) == (9, 4)
    assert empty.image.shape == (3, 5, 5)
    assert empty.boxes.shape == empty.ignore.shape == (0, 4)
    assert empty.labels.shape == (0,)


def test_boxes_without_area_are_left_out(tmp_path):
    flat = {"id": 4, "image_id": 4, "category_id": 2, "bbox": [1, 1, 3, 0]}
    data = CocoDataset(*write(tmp_path, small(annotations=[flat])))
    assert len(data[1].boxes) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"annotations": [{"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1]}]},
            "annotation 7 .*image 1 ",
        ),
        ({"annotations": [{"id": 7, "image_id": 9, "category_id": 0, "bbox": [0, 0, 1, 1]}]}, "category 0.*validate"),
        ({"annotations": [{"id": 7, "image_id": 9, "category_id": 2, "bbox": [0, 0, 1]}]}, "annotation 7 .*four"),
        ({"annotations": [{"id": 7, "image_id": 9, "category_id": 2}]}, "annotation 7 .*four numbers"),
        ({"annotations": None}, "no list 'annotations'"),
        ({"images": [{"id": 1}]}, "incomplete.*file_name"),
        ({"categories": [{"id": 1}]}, "incomplete.*name"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        CocoDataset(*write(tmp_path, small(**changes)))


def test_missing_files_are_named(tmp_path):
    file, folder = write(tmp_path, small())
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        CocoDataset(folder / "gone.json", folder)
    with pytest.raises(FileNotFoundError, match=r"no folder of pictures at .*gone"):
        CocoDataset(file, folder / "gone")
    file.write_text('{"images": [')
    with pytest.raises(ValueError, match="is not JSON"):
        CocoDataset(file, folder)
    with pytest.raises(ValueError, match="split must be one of"):
        scrapbook("training")


def check_set(data):
    """Read some pictures of a set and hold their boxes against them."""
    assert data.class_names == ("bird", "mammal", "food", "tool", "vehicle")
    assert len({identity for identity, _ in data.images}) == len(data)
    for index in range(0, len(data), len(data) // 8):
        item = data[index]
        height, width = item.image.shape[-2:]
        rows = torch.cat((item.boxes, item.ignore))
        assert (rows >= 0).all()
        assert (rows[:, 2:] <= torch.tensor([width, height])).all()
        assert (rows[:, 2:] > rows[:, :2]).all()
        assert ((item.labels >= 1) & (item.labels <= 5)).all()


@pytest.mark.parametrize(("split", "least"), [("train", 500), ("val", 120), ("test", 120)])
def test_scrapbook(split, least):
    data = scrapbook(split)
    assert len(data) >= least
    check_set(data)
    assert any(len(data._annotations.get(identity, [])) == 0 for identity, _ in data.images)  # empty pictures are kept


def test_scrapbook_splits_share_no_individual():
    seen = {}
    for split in ("train", "val", "test"):
        content = json.loads((data_dir() / "scrapbook" / f"annotations_{split}.json").read_text())
        cutouts = {annotation["cutout"] for annotation in content["annotations"]}
        backgrounds = {image["background"] for image in content["images"]}
        seen[split] = cutouts | backgrounds, {image["id"] for image in content["images"]}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not seen[one][0] & seen[other][0]
        assert not seen[one][1] & seen[other][1]


def test_wild():
    data = wild()
    assert len(data) >= 60
    check_set(data)
