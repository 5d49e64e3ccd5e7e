"""The VOC format: one XML file a picture, with ``bndbox`` corners in pixels and a ``difficult`` flag.

Which pixel is number 1? In PASCAL VOC the upper left pixel is (1, 1) and ``xmax`` is the last pixel *inside* the
object; in continuous coordinates, where pixel n covers [n - 1, n], that is x1 = xmin - 1, x2 = xmax. Many newer tools
write continuous coordinates counted from 0 into the same tags. No file says which, so the reader must be told:
``one_based``. Treetops counts from 1: of its 914 boxes 6 have xmin = 1, 9 have ymin = 1, none has a 0, and those at the
other border end at the full width (DeepForest's own reader takes the numbers as they are, one pixel off left and top).

``difficult`` objects become ignored regions, as in the VOC evaluation. It leaves out parts, poses and segmentation.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from rcnnlib.datasets.coco import SPLITS
from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.transforms import Example, crop_tile, make_example, read_image, tiles

CORNERS = ("xmin", "ymin", "xmax", "ymax")
SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


class VocObject(NamedTuple):
    """One object as the file has it: corners are not yet converted."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


class VocFile(NamedTuple):
    """What one XML file says."""

    path: Path
    filename: str
    size: tuple[int, int] | None  # width, height; None where the file does not say
    objects: list[VocObject]


def load_voc(path: str | Path) -> VocFile:
    """Read one VOC XML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not XML, or an object has no complete ``bndbox``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file at {path}: check the path and that the data is complete")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML ({error}): export or fetch it again") from error
    objects = []
    for number, node in enumerate(root.iter("object"), start=1):
        try:
            x1, y1, x2, y2 = (float(node.findtext(f"bndbox/{corner}", "")) for corner in CORNERS)
        except ValueError as error:
            raise ValueError(f"{path}: object {number} needs a bndbox with the numbers {', '.join(CORNERS)}") from error
        difficult = node.findtext("difficult", "0").strip() == "1"
        objects.append(VocObject(node.findtext("name", "").strip(), (x1, y1, x2, y2), difficult))
    width, height = root.findtext("size/width", ""), root.findtext("size/height", "")
    size = (int(width), int(height)) if width.strip().isdigit() and height.strip().isdigit() else None
    return VocFile(path, root.findtext("filename", "").strip(), size, objects)


def find_picture(annotation: VocFile, image_dir: str | Path) -> Path:
    """Return the picture of an XML file: the ``filename`` in it, else the picture with the XML's own name.

    Raises:
        FileNotFoundError: there is neither.
    """
    names = [annotation.filename, *(annotation.path.stem + suffix for suffix in SUFFIXES)]
    for name in filter(None, names):
        if (Path(image_dir) / name).is_file():
            return Path(image_dir) / name
    raise FileNotFoundError(
        f"{annotation.path}: no picture {annotation.filename!r} nor {annotation.path.stem}.jpg in {image_dir}: "
        "put it there, or correct <filename>"
    )


class VocDataset:
    """Pictures and boxes of a folder of XML files, in the order of their names; the id is the place in that order.

    ``class_names[label - 1]`` is the name of a label. Without ``class_names`` they are the names found, sorted: give
    them where a split may lack a class. ``one_based`` says whether the first pixel is 1 (see the module's header).

    Raises:
        FileNotFoundError: the folder holds no XML file.
        ValueError: a name is not among ``class_names``, or a coordinate of 0 shows that the file counts from 0.
    """

    def __init__(
        self,
        annotation_dir: str | Path,
        image_dir: str | Path,
        *,
        class_names: Sequence[str] | None = None,
        one_based: bool = True,
    ):
        self.image_dir = Path(image_dir)
        self.files = [load_voc(path) for path in sorted(Path(annotation_dir).glob("*.xml"))]
        if not self.files:
            raise FileNotFoundError(f"no XML file in {annotation_dir}: give the folder with one VOC file a picture")
        found = {item.name for file in self.files for item in file.objects}
        self.class_names = tuple(sorted(found) if class_names is None else class_names)
        if unknown := sorted(found - set(self.class_names)):
            raise ValueError(
                f"{annotation_dir} has objects named {unknown}: add them to class_names {self.class_names}"
            )
        self.shift = 1 if one_based else 0
        for file in self.files:
            if one_based and any(min(item.corners[:2]) < 1 for item in file.objects):
                raise ValueError(f"{file.path} has a coordinate below 1, so it counts from 0: pass one_based=False")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        file = self.files[index]
        objects = [item for item in file.objects if not item.difficult]
        return make_example(
            read_image(find_picture(file, self.image_dir)),
            boxes=[self._corners(item) for item in objects],
            labels=[self.class_names.index(item.name) + 1 for item in objects],
            ignore=[self._corners(item) for item in file.objects if item.difficult],
            id=index,
        )

    def _corners(self, item: VocObject) -> tuple[float, float, float, float]:
        """Return the box in continuous pixels."""
        x1, y1, x2, y2 = item.corners
        return (x1 - self.shift, y1 - self.shift, x2, y2)


class TileDataset:
    """Tiles that are already cut, numbered from 0; they are views of the photos, which stay in memory."""

    def __init__(self, tiles: Sequence[Example], class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        self._tiles = [tile._replace(id=number) for number, tile in enumerate(tiles)]

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> Example:
        return self._tiles[index]


def treetops(split: str) -> TileDataset:
    """Open Treetops, crowns of trees seen from the air, as tiles: ``split`` is ``train``, ``val`` or ``test``.

    ``splits.json`` names the rectangles of the photos that belong to a split. Training tiles share 64 pixels with their
    neighbours, so that an average crown (40 pixels) is whole in one of them. For evaluation each crown counts once.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    folder = data_dir() / "treetops"
    photos = VocDataset(folder, folder, class_names=("Tree",))
    places = {file.filename: index for index, file in enumerate(photos.files)}
    plan = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    cut = []
    for part in plan["splits"][split]:
        region = crop_tile(photos[places[part["photo"]]], tuple(part["rectangle"]))
        cut += tiles(region, plan["tile"], overlap=64 if split == "train" else 0, count_once=split != "train")
    return TileDataset(cut, photos.class_names)
