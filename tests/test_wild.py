"""The Wild photos: every one free, credited and looked at; every box inside its photo and as its source line says."""

import csv
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

ROOT = Path(__file__).resolve().parents[1]
WILD = ROOT / "data" / "wild"
WITHOUT_OBJECTS = {"chameleon.jpg", "crocodile.jpg", "dragon.jpg"}  # reptiles: none of the five classes
EXHIBITS = {"bison", "cat", "chameleon", "cow", "dog", "duck", "kangaroo", "pig", "polar_bear", "scarlet_macaw"}


@pytest.fixture(scope="module")
def coco():
    return json.loads((WILD / "annotations.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script():
    """``data/build/wild.py`` as a module; it imports its neighbour ``_sources`` by name."""
    folder = ROOT / "data" / "build"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("build_wild", folder / "wild.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_photos_are_the_listed_files_with_the_listed_sizes(coco):
    assert len(coco["images"]) >= 60
    assert {image["file_name"] for image in coco["images"]} == {path.name for path in (WILD / "images").iterdir()}
    assert len({image["id"] for image in coco["images"]}) == len(coco["images"])
    for image in coco["images"]:
        with Image.open(WILD / "images" / image["file_name"]) as photo:
            photo.load()  # a truncated file raises here
            assert (photo.format, photo.mode) == ("JPEG", "RGB")
            assert photo.size == (image["width"], image["height"])
            assert max(photo.size) <= 640


def test_boxes_lie_inside_their_photos(coco):
    images = {image["id"]: image for image in coco["images"]}
    assert len({box["id"] for box in coco["annotations"]}) == len(coco["annotations"])
    for box in coco["annotations"]:
        x, y, width, height = box["bbox"]
        image = images[box["image_id"]]
        assert width > 0, box
        assert height > 0, box
        assert box["area"] == width * height
        assert x >= 0, box
        assert y >= 0, box
        assert x + width <= image["width"], (image["file_name"], box)
        assert y + height <= image["height"], (image["file_name"], box)
        assert box["iscrowd"] in (0, 1)


def test_categories_are_those_of_the_course(coco):
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert names == {1: "bird", 2: "mammal", 3: "food", 4: "tool", 5: "vehicle"}
    assert {box["category_id"] for box in coco["annotations"]} == {1, 2, 4}


def test_each_photo_was_looked_at(coco):
    """A photo has an object, or stands in the list of photos without one; an ignored region alone is not enough."""
    with_object = {box["image_id"] for box in coco["annotations"] if not box["iscrowd"]}
    assert {image["file_name"] for image in coco["images"] if image["id"] not in with_object} == WITHOUT_OBJECTS


def test_no_box_was_drawn_twice(coco):
    kept = Counter((box["image_id"], *box["bbox"]) for box in coco["annotations"])
    assert max(kept.values()) == 1


def test_annotations_are_the_hand_drawn_lines(coco):
    """The JSON is made from ``wild_boxes.csv``; neither may be changed without the other."""
    ids = {image["id"]: image["file_name"].removesuffix(".jpg") for image in coco["images"]}
    names = {category["id"]: category["name"] for category in coco["categories"]}
    ours = {
        (ids[a["image_id"]], names[a["category_id"]], x, y, x + w, y + h, a["iscrowd"])
        for a in coco["annotations"]
        for x, y, w, h in [a["bbox"]]
    }
    lines = read_csv(ROOT / "data" / "build" / "wild_boxes.csv")
    theirs = {
        (row["photo"], row["class"], *(int(row[key]) for key in ("x1", "y1", "x2", "y2", "ignore")))
        for row in lines
        if row["class"] != "none"
    }
    assert ours == theirs
    assert {f"{row['photo']}.jpg" for row in lines if row["class"] == "none"} == WITHOUT_OBJECTS


def test_every_photo_is_credited_and_free(coco):
    credits = read_csv(WILD / "CREDITS.csv")
    assert [row["file"] for row in credits] == [f"images/{image['file_name']}" for image in coco["images"]]
    assert {row["licence"] for row in credits} == {"public domain", "CC0-1.0"}
    assert all(row["author"] and row["source"].startswith("https://") for row in credits)
    assert "CC0 1.0 Universal" in (WILD / "LICENSE.md").read_text(encoding="utf-8")


def test_size_on_disk():
    sizes = {path: path.stat().st_size for path in WILD.rglob("*") if path.is_file()}
    assert 2e6 < sum(sizes.values()) <= 5e6
    assert sizes[WILD / "example.jpg"] < 200_000


def test_exhibits_have_room_for_40_by_30_cells(coco):
    large = {i["file_name"].removesuffix(".jpg") for i in coco["images"] if i["width"] >= 640 and i["height"] >= 480}
    assert large == EXHIBITS


def test_readme_counts(coco):
    """The table of the README says what the file holds."""
    text = (WILD / "README.md").read_text(encoding="utf-8")
    for category in coco["categories"]:
        boxes = [box for box in coco["annotations"] if box["category_id"] == category["id"]]
        kept = [box for box in boxes if not box["iscrowd"]]
        photos = len({box["image_id"] for box in kept})
        row = f"| {category['name']} | {category['id']} | {len(kept)} | {photos} | {len(boxes) - len(kept)} |"
        assert row in text
    ignored = sum(box["iscrowd"] for box in coco["annotations"])
    assert f"{len(coco['images'])} photos of animals and tools with {len(coco['annotations']) - ignored} boxes" in text
    assert f"{ignored} ignored regions" in text


def test_pycocotools_reads_it(coco, capsys):
    """The ground truth, handed in as detections, has average precision 1: COCO reads the file as we mean it."""
    truth = COCO(str(WILD / "annotations.json"))
    keys = ("image_id", "category_id", "bbox")
    found = [{**{key: box[key] for key in keys}, "score": 0.9} for box in coco["annotations"] if not box["iscrowd"]]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_script_refuses_a_photo_that_is_not_free(script, monkeypatch):
    readme = b"Copyright: A\nSource: https://x\nLicense: CC-BY-SA 4.0\nFiles:\ncat.webp\n"
    folder = script.FOLDERS["explore_farm_animals"]
    monkeypatch.setattr(script, "FOLDERS", {"explore_farm_animals": folder})
    files = {f"{folder}/README": readme, f"{folder}/cat.webp": b""}
    monkeypatch.setattr(script._sources, "gcompris_resources", lambda activity: files)
    with pytest.raises(SystemExit, match=r"cat\.webp is credited .*CC-BY-SA 4\.0.* leave it out"):
        script.read_photos()


def test_script_refuses_a_box_outside_its_photo(script):
    for box in [(0, 0, 0, 5), (0, 0, 11, 5), (4, 0, 3, 5), (-1, 0, 3, 5)]:
        with pytest.raises(SystemExit, match="is empty or leaves its photo of 10x5 pixels"):
            script.annotation(1, 1, script.Row("cat", "mammal", box, False), (10, 5))


def test_script_refuses_a_photo_that_nobody_looked_at(script):
    rows = [script.Row("cat", "mammal", (0, 0, 5, 5), False)]
    with pytest.raises(SystemExit, match=r"differ in \['dog'\]"):
        script.coco({"cat": (10, 5), "dog": (10, 5)}, rows)
