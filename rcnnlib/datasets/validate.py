"""Find what is wrong with a data set before training does, silently.

``validate`` reads a COCO JSON file or a folder of VOC XML files with their pictures, and returns a list of problems:
which file, which annotation, which rule, what to do. It goes on after the first, and never changes a file.

Rules: ``unreadable``, ``incomplete``, ``duplicate id``, ``duplicate image``, ``missing image``, ``truncated image``,
``picture size``, ``unknown image``, ``label``, ``not finite``, ``swapped``, ``no area``, ``outside``.
It leaves out what only eyes can judge: missing objects, wrong classes, loose boxes.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rcnnlib.datasets.coco import load_coco
from rcnnlib.datasets.transforms import read_image
from rcnnlib.datasets.voc import VocFile, find_picture, load_voc

# Exporters round: COCO's own boxes end up to a tenth of a pixel outside. An error in counting is a whole pixel.
TOLERANCE = 0.5


class Problem(NamedTuple):
    """One broken rule; ``str`` makes a sentence of it."""

    file: Path
    item: str  # "annotation 7", "image 3", "object 2 (Tree)"; empty for the file as a whole
    rule: str
    advice: str  # what is there, and what to do

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.file), self.item, self.rule, self.advice)))


def validate(
    path: str | Path, *, image_dir: str | Path | None = None, class_names: Sequence[str] | None = None
) -> list[Problem]:
    """Return the problems of a data set, none for a clean one.

    ``path`` is a COCO JSON file, a folder with ``annotations*.json``, or a folder with VOC XML files (itself or in
    ``Annotations/``). Pictures are looked for beside them, in ``images/`` and in ``JPEGImages/``, or in ``image_dir``.
    ``class_names`` are the names that VOC files may use; COCO files bring their own list.

    Raises:
        FileNotFoundError: there is nothing at ``path``, or nothing that could be validated.
    """
    path = Path(path)
    if path.is_file():
        return list(_coco_problems(path, image_dir))
    folder = path / "Annotations" if (path / "Annotations").is_dir() else path
    if xml_files := sorted(folder.glob("*.xml")):
        return list(_voc_problems(xml_files, image_dir or _image_dir(path), class_names))
    if json_files := sorted(path.glob("annotations*.json")):
        return [problem for file in json_files for problem in _coco_problems(file, image_dir)]
    raise FileNotFoundError(
        f"nothing to validate at {path}: give a COCO .json file, or a folder with VOC .xml files or annotations*.json"
    )


def _image_dir(folder: Path, name: str = "") -> Path:
    """Return where the pictures lie: the first place that has the picture ``name``, or any folder made for them."""
    places = [folder / "JPEGImages", folder / "images"]
    return next((place for place in (folder, *places) if name and (place / name).is_file()), None) or next(
        (place for place in places if not name and place.is_dir()), folder
    )


# ---------------------------------------------------------------------------------------------------------- COCO


def _coco_problems(file: Path, image_dir: str | Path | None) -> Iterator[Problem]:
    """Yield the problems of a COCO file: lists, images, categories, annotations."""
    try:
        content = load_coco(file)
    except ValueError as error:
        yield Problem(file, "", "unreadable", str(error))
        return
    for key in ("images", "categories", "annotations"):
        yield from _entries_problems(file, key, content[key])
    whole = [image for image in content["images"] if _is_whole(image, _FIELDS["images"])]
    first = whole[0]["file_name"] if whole else ""
    sizes = {}
    for image in whole:
        place = Path(image_dir) if image_dir else _image_dir(file.parent, first)
        said = (image.get("width"), image.get("height"))
        true = yield from _picture_problems(file, f"image {image['id']}", place / image["file_name"], said)
        sizes[image["id"]] = true or said
    categories = {category["id"] for category in content["categories"] if _is_whole(category, _FIELDS["categories"])}
    for annotation in content["annotations"]:
        if _is_whole(annotation, _FIELDS["annotations"]):
            yield from _annotation_problems(file, annotation, sizes, categories)


_FIELDS = {
    "images": {"id": int, "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
}
_SINGULAR = {"images": "image", "categories": "category", "annotations": "annotation"}


def _is_whole(entry: Any, fields: dict[str, type]) -> bool:
    """Say whether an entry has all fields, of the right types; a box is four numbers."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), kind) for key, kind in fields.items()):
        return False
    box = entry.get("bbox", (0, 0, 0, 0)) if "bbox" in fields else (0, 0, 0, 0)
    return len(box) == 4 and all(isinstance(number, int | float) for number in box)


def _entries_problems(file: Path, key: str, entries: list[Any]) -> Iterator[Problem]:
    """Yield entries of one list that lack fields, that share an id, or (images) that share a file."""
    ids, names = set(), set()
    for place, entry in enumerate(entries):
        if not _is_whole(entry, _FIELDS[key]):
            fields = ", ".join(f"{name} ({kind.__name__})" for name, kind in _FIELDS[key].items())
            yield Problem(file, f"{key}[{place}]", "incomplete", f"got {entry!r:.80}: give it {fields}")
            continue
        item = f"{_SINGULAR[key]} {entry['id']}"
        if entry["id"] in ids:
            yield Problem(file, item, "duplicate id", f"{key}[{place}] repeats it: give it an id of its own")
        ids.add(entry["id"])
        if key == "categories" and entry["id"] == 0:
            yield Problem(file, item, "label", f"{entry['name']!r} has id 0, the background: number from 1")
        if key == "images" and entry["file_name"] in names:
            yield Problem(file, item, "duplicate image", f"{entry['file_name']!r} is listed twice: remove one of them")
        names.add(entry.get("file_name"))


def _annotation_problems(
    file: Path, annotation: dict[str, Any], sizes: dict[int, tuple], categories: set[int]
) -> Iterator[Problem]:
    """Yield the problems of one annotation: its image, its label, its box."""
    item, image, label = f"annotation {annotation['id']}", annotation["image_id"], annotation["category_id"]
    if image not in sizes:
        yield Problem(file, item, "unknown image", f"image_id {image} is not among the images: correct or remove it")
    if label not in categories:
        meaning = "which means background" if label == 0 else "which is not among the categories"
        yield Problem(file, item, "label", f"category_id is {label}, {meaning}: use one of {sorted(categories)}")
    x, y, width, height = annotation["bbox"]
    corners, size = (x, y, x + width, y + height), sizes.get(image, (None, None))
    if found := _box_problem(corners, size):
        rule, advice = found
        if rule == "outside" and not _box_problem((x, y, width, height), size):
            advice += "; it would fit as (x1, y1, x2, y2), but COCO wants (x, y, width, height)"
        yield Problem(file, item, rule, advice)


# ----------------------------------------------------------------------------------------------------------- VOC


def _voc_problems(files: Iterable[Path], image_dir: str | Path, class_names: Sequence[str] | None) -> Iterator[Problem]:
    """Yield the problems of VOC files: the XML, its picture, its objects."""
    seen: dict[Path, Path] = {}
    for file in files:
        try:
            annotation = load_voc(file)
        except ValueError as error:
            yield Problem(file, "", "unreadable", str(error))
            continue
        try:
            picture = find_picture(annotation, image_dir)
        except FileNotFoundError as error:
            yield Problem(file, "", "missing image", str(error))
            size = annotation.size or (None, None)
        else:
            true = yield from _picture_problems(file, "", picture, annotation.size or (None, None))
            size = true or annotation.size or (None, None)
            if picture in seen:
                yield Problem(file, "", "duplicate image", f"{seen[picture]} is about {picture.name} too: remove one")
            seen.setdefault(picture, file)
        yield from _object_problems(file, annotation, size, class_names)


def _object_problems(
    file: Path, annotation: VocFile, size: tuple, class_names: Sequence[str] | None
) -> Iterator[Problem]:
    """Yield the problems of the objects of one VOC file, counted from 1.

    Corners are taken as written: that allows boxes counted from 0 and from 1, save those one pixel wide, which are no
    use to a detector.
    """
    for number, item in enumerate(annotation.objects, start=1):
        place = f"object {number} ({item.name})"
        if item.name in ("", "0", "background"):
            yield Problem(file, place, "label", f"name is {item.name!r}, which means background: name the object")
        elif class_names is not None and item.name not in class_names:
            yield Problem(file, place, "label", f"the name is unknown: use one of {', '.join(class_names)}")
        if found := _box_problem(item.corners, size):
            yield Problem(file, place, *found)


# ------------------------------------------------------------------------------------------------ pictures and boxes


def _picture_problems(file: Path, item: str, picture: Path, said: tuple) -> Any:
    """Yield the problems of a picture; return its true (width, height), or None where it cannot be read."""
    try:
        height, width = read_image(picture).shape[-2:]
    except FileNotFoundError as error:
        yield Problem(file, item, "missing image", str(error))
        return None
    except ValueError as error:
        yield Problem(file, item, "truncated image", str(error))
        return None
    if said != (None, None) and tuple(said) != (width, height):
        advice = f"{picture.name} has {width} x {height} pixels, the annotation says {said[0]} x {said[1]}"
        yield Problem(file, item, "picture size", f"{advice}: correct it, and check that the boxes fit this picture")
    return width, height


def _box_problem(corners: tuple, size: tuple) -> tuple[str, str] | None:
    """Return the first rule that a box (x1, y1, x2, y2) breaks in a picture of (width, height), and what to do."""
    x1, y1, x2, y2 = corners
    box = "({})".format(", ".join(f"{number:g}" for number in corners))
    if not all(map(math.isfinite, corners)):
        return "not finite", f"corners are {box}: draw the box again or remove it"
    if x2 < x1 or y2 < y1:
        return "swapped", f"corners are {box}, so the area is negative: exchange the corners, x1 < x2 and y1 < y2"
    if x2 == x1 or y2 == y1:
        return "no area", f"corners are {box}, so the area is zero: draw the box again or remove it"
    if None in size or _fits(corners, size):
        return None
    if _fits((y1, x1, y2, x2), size):
        return "swapped", f"corners {box} fit in {size[0]} x {size[1]} pixels only if x and y are exchanged: do so"
    return "outside", f"corners {box} leave the picture of {size[0]} x {size[1]} pixels: clip or correct the box"


def _fits(corners: tuple, size: tuple) -> bool:
    """Say whether a box lies within a picture of (width, height), but for rounding."""
    x1, y1, x2, y2 = corners
    return min(x1, y1) >= -TOLERANCE and x2 <= size[0] + TOLERANCE and y2 <= size[1] + TOLERANCE
