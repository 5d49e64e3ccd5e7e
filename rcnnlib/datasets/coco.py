"""The COCO format: one JSON file that lists ``images``, ``annotations`` and ``categories``.

A ``bbox`` is (x, y, width, height) in continuous pixels. Category ids are any numbers (COCO's own have gaps), so they
are mapped in ascending order onto the labels 1..K. ``iscrowd`` marks a box around a group: an ignored region.

It leaves out segmentations and key points. Whether a file is sound is the business of ``validate``; the reader stops
at the first thing it cannot understand.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.transforms import Example, make_example, read_image

SPLITS = ("train", "val", "test")
_ADVICE = "`python -m rcnnlib validate FILE` lists every such place"


def load_coco(annotation_file: str | Path) -> dict[str, Any]:
    """Read a COCO JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or lacks one of the three lists.
    """
    if not Path(annotation_file).is_file():
        raise FileNotFoundError(
            f"no annotation file at {annotation_file}: check the path, and that the data is complete"
        )
    try:
        content = json.loads(Path(annotation_file).read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{annotation_file} is not JSON ({error}): export or fetch it again") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{annotation_file} has no list {key!r}, which a COCO file needs")
    return content


class CocoDataset:
    """Pictures and boxes of one COCO file, in the order of its ``images``; those without annotation are kept.

    ``class_names[label - 1]`` is the name of a label, ``category_ids[label - 1]`` the file's own number for it.
    Boxes without area, of which COCO itself has two, cannot be learned and are left out; ``validate`` lists them.

    Raises:
        FileNotFoundError: the annotation file or the folder of pictures is missing.
        ValueError: an annotation belongs to no image or to no category, or has no box.
    """

    def __init__(self, annotation_file: str | Path, image_dir: str | Path):
        self.image_dir = Path(image_dir)
        if not self.image_dir.is_dir():
            raise FileNotFoundError(f"no folder of pictures at {image_dir}: give the one that file_name starts from")
        content = load_coco(annotation_file)
        try:
            categories = sorted(content["categories"], key=lambda category: category["id"])
            self.class_names = tuple(str(category["name"]) for category in categories)
            self.category_ids = tuple(int(category["id"]) for category in categories)
            self.images = [(int(image["id"]), str(image["file_name"])) for image in content["images"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{annotation_file}: an image or category is incomplete ({error!r}); {_ADVICE}") from error
        self._annotations = self._by_image(annotation_file, content["annotations"])

    def _by_image(self, file: str | Path, annotations: list[dict[str, Any]]) -> dict[int, list[tuple]]:
        """Return for each image id its rows (box as corners, label, whether a crowd)."""
        labels = {category: label for label, category in enumerate(self.category_ids, start=1)}
        known = {image for image, _ in self.images}
        rows = defaultdict(list)
        for annotation in annotations:
            image, category = annotation.get("image_id"), annotation.get("category_id")
            if image not in known or category not in labels:
                raise ValueError(
                    f"{file}: annotation {annotation.get('id')} names image {image} and category {category}, "
                    f"of which one is not in the file; {_ADVICE}"
                )
            try:
                x, y, width, height = (float(number) for number in annotation["bbox"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{file}: annotation {annotation.get('id')} needs bbox = four numbers; {_ADVICE}"
                ) from error
            if width > 0 and height > 0:
                box = (x, y, x + width, y + height)
                rows[image].append((box, labels[category], bool(annotation.get("iscrowd", 0))))
        return rows

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        image, name = self.images[index]
        rows = self._annotations.get(image, [])
        return make_example(
            read_image(self.image_dir / name),
            boxes=[box for box, _, crowd in rows if not crowd],
            labels=[label for _, label, crowd in rows if not crowd],
            ignore=[box for box, _, crowd in rows if crowd],
            id=image,
        )


def scrapbook(split: str) -> CocoDataset:
    """Open Scrapbook, cut-outs pasted on photos: ``split`` is ``train``, ``val`` or ``test``."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    folder = data_dir() / "scrapbook"
    return CocoDataset(folder / f"annotations_{split}.json", folder)


def scrapbook_cutouts(split: str) -> dict[int, list[str]]:
    """Return for each image id of Scrapbook the names of the cut-outs in it, in the order of its boxes."""
    content = load_coco(data_dir() / "scrapbook" / f"annotations_{split}.json")
    names: dict[int, list[str]] = {int(image["id"]): [] for image in content["images"]}
    for annotation in content["annotations"]:
        names[annotation["image_id"]].append(annotation["cutout"])
    return names


def wild() -> CocoDataset:
    """Open Wild, real photos boxed by hand, all of them for testing."""
    folder = data_dir() / "wild"
    return CocoDataset(folder / "annotations.json", folder / "images")
