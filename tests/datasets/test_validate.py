"""Every rule has a file that breaks just that rule; the clean file breaks none."""

import copy
import json
import math
import re

import numpy as np
import pytest
from oracles_voc import xml
from PIL import Image

from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.validate import Problem, validate

CLEAN = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 80, "height": 40},
        {"id": 2, "file_name": "b.png", "width": 80, "height": 40},
    ],
    "categories": [{"id": 1, "name": "ant"}, {"id": 5, "name": "bee"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 80, 40]},
        {"id": 2, "image_id": 1, "category_id": 5, "bbox": [10.5, 5, 20.25, 30], "iscrowd": 1},
    ],
}
BOX = ("annotations", 1, "bbox")


def pictures(folder):
    for name in ("a.png", "b.png"):
        noise = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
        Image.fromarray(noise).save(folder / name)


def truncate(path):
    path.write_bytes(path.read_bytes()[:3000])


@pytest.fixture
def coco(tmp_path):
    """Return a function that writes the clean file with some values replaced and validates it."""
    pictures(tmp_path)

    def problems(*changes):
        content = copy.deepcopy(CLEAN)
        for (key, row, field), value in changes:
            content[key][row][field] = value
        file = tmp_path / "annotations.json"
        file.write_text(json.dumps(content))
        return validate(file)

    return problems


def test_clean_coco_has_no_problems(coco):
    assert coco() == []


@pytest.mark.parametrize(
    ("change", "item", "rule", "words"),
    [
        ((BOX, [10, 5, 0, 30]), "annotation 2", "no area", "draw the box again"),
        ((BOX, [10, 5, 20, 0]), "annotation 2", "no area", "area is zero"),
        ((BOX, [10, 5, -5, 30]), "annotation 2", "swapped", "area is negative: exchange the corners"),
        ((BOX, [10, 5, 20, -2]), "annotation 2", "swapped", "area is negative"),
        ((BOX, [70, 5, 12, 30]), "annotation 2", "outside", "80 x 40"),
        ((BOX, [-1, 5, 12, 30]), "annotation 2", "outside", "clip or correct"),
        ((BOX, [60, 5, 75, 30]), "annotation 2", "outside", "fit as .x1, y1, x2, y2"),
        ((BOX, [5, 60, 30, 15]), "annotation 2", "swapped", "only if x and y are exchanged"),
        ((BOX, [math.nan, 5, 12, 30]), "annotation 2", "not finite", "nan"),
        ((BOX, [1, 5, math.inf, 30]), "annotation 2", "not finite", "inf"),
        ((BOX, [1, 5, 3]), "annotations[1]", "incomplete", "bbox"),
        ((BOX, [1, 5, 3, None]), "annotations[1]", "incomplete", "bbox"),
        ((("annotations", 1, "category_id"), 0), "annotation 2", "label", "means background: use one of .1, 5."),
        ((("annotations", 1, "category_id"), 7), "annotation 2", "label", "not among the categories"),
        ((("annotations", 1, "id"), 1), "annotation 1", "duplicate id", "annotations.1. repeats it"),
        ((("annotations", 1, "image_id"), 3), "annotation 2", "unknown image", "image_id 3"),
        ((("images", 1, "file_name"), "a.png"), "image 2", "duplicate image", "'a.png' is listed twice"),
        ((("images", 1, "file_name"), "c.png"), "image 2", "missing image", "no picture at .*c.png"),
        ((("images", 1, "width"), 81), "image 2", "picture size", "b.png has 80 x 40 pixels, .* says 81 x 40"),
        ((("images", 1, "id"), 1), "image 1", "duplicate id", "images.1. repeats it"),
        ((("images", 1, "id"), "2"), "images[1]", "incomplete", "id .int."),
        ((("categories", 1, "name"), None), "categories[1]", "incomplete", "name"),
    ],
)
def test_coco_rules(coco, change, item, rule, words):
    found = coco(change)
    if rule == "incomplete" and item == "categories[1]":  # its annotation has no category then
        assert found.pop().rule == "label"
    assert [(problem.item, problem.rule) for problem in found] == [(item, rule)]
    assert found[0].file.name == "annotations.json"
    assert re.search(words, found[0].advice)


def test_category_zero_is_named(coco):
    changes = (("categories", 1, "id"), 0), (("annotations", 1, "category_id"), 0)
    assert [(problem.item, problem.rule) for problem in coco(*changes)] == [("category 0", "label")]


def test_rounding_is_forgiven_and_a_whole_pixel_is_not(coco):
    assert coco((BOX, [0, 0, 80.1, 40])) == []
    assert [problem.rule for problem in coco((BOX, [0, 0, 81, 40]))] == ["outside"]


def test_truncated_picture_is_named(coco, tmp_path):
    truncate(tmp_path / "b.png")
    (problem,) = coco()
    assert (problem.item, problem.rule) == ("image 2", "truncated image")
    assert "b.png is cut short" in problem.advice


def test_all_problems_are_found_at_once(coco):
    found = coco((BOX, [10, 5, 0, 30]), (("images", 1, "height"), 3), (("annotations", 0, "category_id"), 9))
    assert {problem.rule for problem in found} == {"no area", "picture size", "label"}


def test_problem_reads_as_a_sentence(coco, tmp_path):
    (problem,) = coco((BOX, [10, 5, 0, 30]))
    assert str(problem) == (
        f"{tmp_path / 'annotations.json'}: annotation 2: no area: corners are (10, 5, 10, 35), so the area is zero: "
        "draw the box again or remove it"
    )
    assert str(Problem(tmp_path, "", "unreadable", "try")) == f"{tmp_path}: unreadable: try"  # the file as a whole


def test_files_that_are_not_coco(tmp_path):
    file = tmp_path / "annotations.json"
    for text in ("{", "[]", '{"images": []}'):
        file.write_text(text)
        assert [problem.rule for problem in validate(file)] == ["unreadable"]
    with pytest.raises(FileNotFoundError, match="nothing to validate"):
        validate(tmp_path / "gone.json")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="nothing to validate"):
        validate(tmp_path)


def test_pictures_are_found_in_images(tmp_path):
    (tmp_path / "images").mkdir()
    pictures(tmp_path / "images")
    (tmp_path / "annotations.json").write_text(json.dumps(CLEAN))
    assert validate(tmp_path) == []
    assert len(validate(tmp_path, image_dir=tmp_path)) == 2  # looked for in the wrong place


# -------------------------------------------------------------------------------------------------------------- VOC


def voc(folder, *objects, a=None, **options):
    """Write two VOC files, the second with the objects given, and validate them."""
    pictures(folder)
    (folder / "a.xml").write_text(a or xml(("ant", (1, 1, 80, 40)), ("bee", (0, 0, 5, 5), 1), size=(80, 40)))
    (folder / "b.xml").write_text(xml(*objects, **{"filename": "b.png", "size": (80, 40)} | options))
    return validate(folder, class_names=("ant", "bee"))


def test_clean_voc_has_no_problems(tmp_path):
    assert voc(tmp_path, ("bee", (3, 4, 5, 6))) == []


@pytest.mark.parametrize(
    ("name", "corners", "rule"),
    [
        ("ant", (5, 5, 5, 9), "no area"),
        ("ant", (9, 5, 5, 9), "swapped"),
        ("ant", (5, 60, 30, 75), "swapped"),
        ("ant", (5, 5, 81, 9), "outside"),
        ("ant", (-1, 5, 8, 9), "outside"),
        ("ant", ("nan", 5, 8, 9), "not finite"),
        ("cow", (5, 5, 8, 9), "label"),
        ("background", (5, 5, 8, 9), "label"),
        ("", (5, 5, 8, 9), "label"),
    ],
)
def test_voc_rules_for_objects(tmp_path, name, corners, rule):
    (problem,) = voc(tmp_path, ("ant", (1, 1, 9, 9)), (name, corners))
    assert (problem.file.name, problem.item, problem.rule) == ("b.xml", f"object 2 ({name})", rule)


def test_voc_rules_for_files(tmp_path):
    def rules(found):
        return [(problem.file.name, problem.rule) for problem in found]

    assert rules(voc(tmp_path, size=(40, 80))) == [("b.xml", "picture size")]
    assert rules(voc(tmp_path, filename="a.png")) == [("b.xml", "duplicate image")]
    assert rules(voc(tmp_path, a="<annotation>")) == [("a.xml", "unreadable")]
    assert rules(voc(tmp_path, ("ant", ("", 1, 2, 3)))) == [("b.xml", "unreadable")]
    (tmp_path / "b.xml").write_text(xml(filename="b.png", size=(80, 40)))
    truncate(tmp_path / "b.png")
    assert rules(validate(tmp_path)) == [("b.xml", "truncated image")]
    (tmp_path / "b.png").unlink()
    assert rules(validate(tmp_path)) == [("b.xml", "missing image")]


def test_voc_folders_as_in_the_challenge(tmp_path):
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / name).mkdir()
    pictures(tmp_path / "JPEGImages")
    (tmp_path / "Annotations/a.xml").write_text(xml(size=(80, 40)))
    assert validate(tmp_path) == []


@pytest.mark.parametrize("name", ["scrapbook", "wild", "treetops"])
def test_our_own_sets_are_clean(name):
    assert [str(problem) for problem in validate(data_dir() / name)] == []
