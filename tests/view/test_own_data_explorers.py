"""The explorers of lesson 16: labelling loses nothing, and every control of the others changes their numbers."""

import json

import pytest
import torch
from PIL import Image

from rcnnlib.datasets.validate import validate
from rcnnlib.engine.metrics import Record
from rcnnlib.view.explorers.before_after import BeforeAfter
from rcnnlib.view.explorers.box_conventions import CONVENTIONS, BoxConventions, box_conventions, read_box, write_box
from rcnnlib.view.explorers.class_numbers import AS_THEY_ARE, MAPPED, OURS, THEIRS, ClassNumbers, class_numbers
from rcnnlib.view.explorers.group_split import WAYS, GroupSplit
from rcnnlib.view.explorers.label_boxes import LabelBoxes

SIZE = (64, 48)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("a.jpg", "b.png", "c.JPG")):
        Image.new("RGB", SIZE, (60 * number, 90, 120)).save(tmp_path / name, "PNG" if name == "b.png" else "JPEG")
    (tmp_path / "notes.txt").write_text("not a photo")
    return tmp_path


@pytest.fixture
def labels(folder):
    return LabelBoxes(folder, folder / "labels.json", ("cat", "dog"), suggested={"a.jpg": [((4, 4, 30, 30), "dog")]})


def press(explorer, name):
    explorer.buttons[name].click()


def content(explorer):
    return json.loads(explorer.file.read_text())


# --- labelling


def test_a_first_session(labels):
    assert labels.numbers["for the file"] == "1 of 3 photos, 1 boxes"
    assert (labels.canvas.selected, labels.controls["name"].value) == (0, "dog")
    press(labels, "Add a box")
    assert labels.canvas.boxes[1].tolist() == pytest.approx([24.8, 16.8, 39.2, 31.2])  # 0.3 of 48 pixels, in the middle
    assert labels.canvas.labels == ["0 dog", "1 dog"]
    labels.controls["name"].value = "cat"  # of the new box, which is selected
    labels.canvas.boxes = [[4, 4, 30, 30], [10, 5, 20, 25]]  # what a drag does
    press(labels, "Save")
    first = content(labels)
    assert [note["bbox"] for note in first["annotations"]] == [[4, 4, 26, 26], [10, 5, 10, 20]]
    assert [note["category_id"] for note in first["annotations"]] == [2, 1]
    assert first["images"] == [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}]
    assert first["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert "saved labels.json" in labels.message.value
    assert validate(labels.file) == []
    press(labels, "Save")
    assert content(labels) == first, "saving twice gives the same file"


def test_a_second_session_goes_on(labels, folder):
    press(labels, "Save")
    first = content(labels)
    again = LabelBoxes(folder, labels.file, ("bird",))  # a new class; the old ones are not lost
    assert again.class_names == ["bird", "cat", "dog"]
    assert again.canvas.labels == ["0 dog"]
    press(again, "Save")
    assert content(again) == first | {"categories": [*first["categories"], {"id": 3, "name": "bird"}]}


def test_turning_the_page_keeps_boxes(labels):
    labels.canvas.boxes = [[5, 5, 40, 40]]
    labels.controls["photo"].value = 1
    assert len(labels.canvas.boxes) == 0
    press(labels, "Add a box")
    labels.controls["photo"].value = 0
    assert labels.canvas.boxes.tolist() == [[5, 5, 40, 40]]
    assert labels.numbers["for the file"] == "2 of 3 photos, 2 boxes"


def test_a_click_says_where_the_next_box_goes_and_it_stays_on_the_photo(labels):
    labels.canvas.clicked = [63.0, 2.0]
    press(labels, "Add a box")
    assert labels.canvas.boxes[1].tolist() == pytest.approx([49.6, 0, 64, 14.4], abs=1e-4)
    press(labels, "Add a box")  # the click is used up
    assert labels.canvas.boxes[2].tolist() == pytest.approx([24.8, 16.8, 39.2, 31.2])


def test_deleting_a_box_leaves_the_class_of_the_next_alone(labels):
    press(labels, "Add a box")
    labels.controls["name"].value = "cat"
    labels.canvas.selected = 0
    press(labels, "Delete this box")
    assert labels.canvas.labels == ["0 cat"]
    assert labels.controls["name"].value == "cat"


def test_the_message_goes_when_the_page_changes(labels):
    for change in (lambda: press(labels, "Add a box"), lambda: labels.set(name="cat"), lambda: labels.set(selected=0)):
        press(labels, "Save")
        change()
        assert bool(labels.message.value) == (labels.canvas.selected == 0)  # picking a box changes nothing
    press(labels, "Delete this box")
    assert labels.message.value == ""


def test_delete_and_pick(labels):
    press(labels, "Add a box")
    labels.canvas.selected = 0
    press(labels, "Delete this box")
    assert labels.canvas.boxes[:, 0].tolist() == pytest.approx([24.8])
    press(labels, "Delete this box")
    press(labels, "Delete this box")
    assert "Click a box first" in labels.message.value
    assert labels.numbers["boxes"] == 0


def test_picking_a_box_shows_its_class_and_does_not_change_it(labels):
    press(labels, "Add a box")
    labels.controls["name"].value = "cat"
    labels.canvas.selected = 0
    assert labels.controls["name"].value == "dog"
    labels.canvas.selected = -1
    labels.controls["name"].value = "cat"  # for the next box: nothing is picked
    assert labels.canvas.labels == ["0 dog", "1 cat"]


def test_a_photo_without_objects_is_said_to_have_none(labels):
    labels.set(photo=1).set(empty=True)
    press(labels, "Save")
    assert [image["file_name"] for image in content(labels)["images"]] == ["a.jpg", "b.png"]
    labels.set(empty=False)
    press(labels, "Save")
    assert [image["file_name"] for image in content(labels)["images"]] == ["a.jpg"]
    labels.set(photo=0, empty=True)
    assert not labels.controls["empty"].value, "it has a box"


CHANGES = [{"photo": 1}, {"name": "cat"}, {"photo": 2, "empty": True}, {"boxes": [[4, 4, 31, 30]]}, {"selected": -1}]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_the_labels_changes_the_numbers(labels, change):
    before = repr(labels)
    labels.set(**{"photo": change["photo"]} if "photo" in change else {})
    between = repr(labels)
    labels.set(**change)
    assert repr(labels) != before
    assert "empty" not in change or repr(labels) != between


def test_what_cannot_be_shown_is_kept(folder):
    file = folder / "labels.json"
    crowd = {"id": 7, "image_id": 40, "category_id": 9, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    broken = {"id": 8, "image_id": 40, "category_id": 9, "bbox": [1, 2, 3]}
    elsewhere = {"id": 9, "image_id": 41, "category_id": 9, "bbox": [1, 2, 3, 4]}
    mine = {"id": 10, "image_id": 40, "category_id": 9, "bbox": [1, 2, 30, 40], "score": 0.5, "segmentation": [[1, 2]]}
    images = [{"id": 40, "file_name": "a.jpg", "licence": "mine"}, {"id": 41, "file_name": "far/away.jpg"}]
    old = {"info": "x", "images": images, "annotations": [crowd, broken, elsewhere, mine]}
    file.write_text(json.dumps(old | {"categories": [{"id": 9, "name": "cat"}]}))
    labels = LabelBoxes(folder, file, ("dog",))
    press(labels, "Save")
    new = content(labels)
    assert new["annotations"][:3] == [crowd, broken, elsewhere]
    assert new["annotations"][3] == mine | {"area": 1200, "iscrowd": 0}
    assert new["images"] == [images[0] | {"width": 64, "height": 48}, images[1]]
    assert (new["info"], new["categories"][1]) == ("x", {"id": 10, "name": "dog"})
    labels.canvas.boxes = [[2, 2, 31, 42]]
    press(labels, "Save")
    assert "segmentation" not in content(labels)["annotations"][3], "an outline does not follow a box"
    press(labels, "Delete this box")
    press(labels, "Save")
    assert [image["id"] for image in content(labels)["images"]] == [40, 41], "the crowd still stands on 40"


def test_bad_input_loses_nothing(folder, labels):
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    found = LabelBoxes(folder, folder / "other.json", ("cat",))
    assert found.names == ["a.jpg", "b.png", "c.JPG"]
    assert "cut.jpg cannot be read" in found.message.value
    (folder / "wrong.json").write_text("[1, 2")
    with pytest.raises(ValueError, match="not JSON"):
        LabelBoxes(folder, folder / "wrong.json", ("cat",))
    assert (folder / "wrong.json").read_text() == "[1, 2"
    with pytest.raises(FileNotFoundError, match="no photo in"):
        LabelBoxes(folder / "nowhere", folder / "x.json", ("cat",))
    (folder / "b.png").unlink()
    labels.set(photo=1)
    assert "b.png cannot be read any more" in labels.message.value
    labels.set(photo=0)
    assert labels.numbers["boxes"] == 1


def test_a_file_that_cannot_be_written_is_said_and_the_boxes_stay(labels, folder):
    press(labels, "Save")
    before = content(labels)
    (folder / "labels.json.part").mkdir()  # stands in the way
    press(labels, "Add a box")
    press(labels, "Save")
    assert "NOT saved" in labels.message.value
    assert content(labels) == before
    assert labels.numbers["boxes"] == 2


# --- conventions


def test_conventions_by_hand():
    box = torch.tensor([10.0, 20.0, 30.0, 60.0])
    assert write_box(box, "COCO", (100, 80)).tolist() == [10, 20, 20, 40]
    assert write_box(box, "VOC", (100, 80)).tolist() == [11, 21, 30, 60]
    torch.testing.assert_close(write_box(box, "YOLO", (100, 80)), torch.tensor([0.2, 0.5, 0.2, 0.5]))
    for name in CONVENTIONS:
        torch.testing.assert_close(read_box(write_box(box, name, (100, 80)), name, (100, 80)), box)
    # read with the ones left in: 19 x 39 of 20 x 40 pixels
    assert box_conventions(box[None], "VOC", "course", size=(100, 80))["IoU"] == pytest.approx(741 / 800)
    assert not box_conventions(box[None] + 40, "COCO", "course", size=(100, 80))["is a box"]


@pytest.mark.parametrize("change", [{"written": "COCO"}, {"read": "VOC"}, {"boxes": [[5, 20, 30, 60]]}])
def test_every_control_of_conventions_changes_the_numbers(change):
    shown = BoxConventions(torch.rand(3, 80, 100), [10, 20, 30, 60], "noise")
    before = repr(shown)
    shown.set(**change)
    assert repr(shown) != before
    assert shown.canvas.editable == [0]


# --- numbers of classes

FILES = {
    "1, 2, 3": {"zebra": 1, "giraffe": 2, "backpack": 3},
    "24, 25, 27": {"zebra": 24, "giraffe": 25, "backpack": 27},
    "0, 1, 2": {"zebra": 0, "giraffe": 1, "backpack": 2},
}


@pytest.mark.parametrize(
    ("name", "ids", "reading", "library", "column", "owner"),
    [
        ("giraffe", "24, 25, 27", MAPPED, OURS, 2, "giraffe"),
        ("giraffe", "24, 25, 27", MAPPED, THEIRS, 1, "giraffe"),
        ("giraffe", "24, 25, 27", AS_THEY_ARE, OURS, 25, "nobody: no such column"),
        ("zebra", "1, 2, 3", AS_THEY_ARE, OURS, 1, "zebra"),
        ("zebra", "1, 2, 3", AS_THEY_ARE, THEIRS, 1, "giraffe"),
        ("backpack", "1, 2, 3", AS_THEY_ARE, THEIRS, 3, "background"),
        ("zebra", "0, 1, 2", AS_THEY_ARE, OURS, 0, "background"),
    ],
)
def test_class_numbers_by_hand(name, ids, reading, library, column, owner):
    numbers = class_numbers(name, ids, reading, library, files=FILES)
    assert (numbers["column"], numbers["trains"], numbers["right"]) == (column, owner, owner == name)


@pytest.mark.parametrize(
    "change", [{"name": "giraffe"}, {"ids": "24, 25, 27"}, {"reading": AS_THEY_ARE}, {"library": THEIRS}]
)
def test_every_control_of_class_numbers_changes_the_numbers(change):
    shown = ClassNumbers(FILES).set(ids="0, 1, 2")
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture or "ids" in change


# --- splits

GROUPS = ["hammer"] * 5 + ["cat", "saw", "saw", "dog", "file", "file", "file", "owl", "axe", "axe"]


def test_whole_groups_are_in_one_part():
    shown = GroupSplit(GROUPS)
    assert shown.numbers["in both parts"] > 0
    for seed in range(5):
        numbers = shown.set(way=WAYS[0], seed=seed).numbers
        assert numbers["in both parts"] == 0
        assert numbers["held out"] >= 5


@pytest.mark.parametrize("change", [{"count": 7}, {"seed": 3}, {"way": WAYS[0]}])
def test_every_control_of_the_split_changes_the_numbers(change):
    shown = GroupSplit(GROUPS)
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture


# --- before and after


def record(*rows, truth=((0, 0, 10, 10),)):
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
    return Record(
        id=0,
        boxes=boxes,
        scores=torch.tensor([row[4] for row in rows]),
        labels=torch.tensor([row[5] for row in rows], dtype=torch.int64),
        truth=torch.tensor(truth, dtype=torch.float32),
        truth_labels=torch.ones(len(truth), dtype=torch.int64),
        ignore=torch.zeros(0, 4),
    )


@pytest.fixture
def two():
    before = [record((50, 50, 60, 60, 0.9, 2), (0, 0, 10, 9, 0.6, 2)), record()]
    after = [record((0, 0, 10, 9, 0.8, 1), (20, 0, 30, 9, 0.3, 1)), record((0, 0, 9, 9, 0.6, 1))]
    images = [torch.rand(3, 80, 100), torch.rand(3, 64, 100)]
    return BeforeAfter(images, {"before": before, "after": after}, ("cat", "dog"))


def test_before_and_after_by_hand(two):
    assert two.numbers["on this photo"] == "0 right, 2 not, 1 missed"
    assert two.set(detector="after").numbers["on this photo"] == "1 right, 0 not, 0 missed"
    assert two.set(score=0.1).numbers["on this photo"] == "1 right, 1 not, 0 missed"
    assert two.numbers["on all"] == "2 right, 0 missed, 1 on background"
    assert two.canvas.labels[1:] == ["✓ cat 0.80", "✗ cat 0.30"]


@pytest.mark.parametrize("change", [{"photo": 1}, {"detector": "after"}, {"score": 0.8}])
def test_every_control_of_before_and_after_changes_the_numbers(two, change):
    before = repr(two)
    assert repr(two.set(**change)) != before
