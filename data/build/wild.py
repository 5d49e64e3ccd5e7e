"""Make ``data/wild``: real photos of animals and tools, with the boxes that we drew by hand.

The photos come out of three activities of the Debian package ``gcompris-qt-data``; each must be credited there as
public domain or CC0. The boxes are not computed: they are lines of ``wild_boxes.csv``, in pixels of the photo *after*
it was resized here, and this script only checks them and writes them as COCO JSON. To change a box, change its line,
run this script and look at the picture again.

Leaves out: splits (nothing is ever trained on these photos) and the activities about fish, insects, energy and
monuments. Run: ``python data/build/wild.py``; a second run changes nothing.
"""

import csv
import io
import json
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import _sources
from PIL import Image, ImageDraw, ImageFont

OUT = _sources.DATA / "wild"
BOXES = Path(__file__).with_name("wild_boxes.csv")
CLASSES = ("bird", "mammal", "food", "tool", "vehicle")  # the category id is the place, from 1: as in Scrapbook
LONGER_SIDE = 640
FOLDERS = {  # activity: the folder of its photos inside the resource file
    "categorization": "gcompris/src/activities/categorization/resource/images/tools",
    "explore_farm_animals": "gcompris/src/activities/explore_farm_animals/resource/animals",
    "explore_world_animals": "gcompris/src/activities/explore_world_animals/resource/animals",
}
FREE = {"Public Domain": "public domain", "CC0-1.0": "CC0-1.0"}
# A slip of the pen in the package's credits: no such file exists, screwDriver.webp is the only photo without a credit,
# and the title of the source that is named, "Schraubenzieher", is German for screwdriver.
RENAMED = {"screDriver.webp": "screwDriver.webp"}
EXAMPLES = ("horse", "chicken", "lemur", "hammer4")
GROUND_TRUTH, IGNORED = "#009E73", "#999999"  # the course's colours for these two kinds of box


class Credit(NamedTuple):
    """Who made a photo, where it was published, and under what terms."""

    author: str
    source: str
    licence: str


class Row(NamedTuple):
    """A line of ``wild_boxes.csv``: one box, or class ``none`` for a photo without an object of our classes."""

    photo: str
    label: str
    box: tuple[int, ...]  # x1, y1, x2, y2 in pixels; empty for class none
    ignore: bool


def read_credits(text: str) -> dict[str, Credit]:
    """Return ``{file: credit}`` of a README of GCompris: paragraphs of ``Key: value`` lines that end in file names."""
    credits = {}
    for paragraph in text.strip().split("\n\n"):
        head, _, files = paragraph.partition("Files:\n")
        fields = dict(line.split(": ", 1) for line in head.strip().splitlines())
        credit = Credit(fields["Copyright"], fields.get("Source", ""), fields["License"])
        credits.update({RENAMED.get(name, name): credit for name in files.split()})
    return credits


def read_photos() -> dict[str, tuple[bytes, Credit]]:
    """Return ``{name: (WebP, credit)}`` of all photos; stop at one that is neither public domain nor CC0."""
    photos = {}
    for activity, folder in FOLDERS.items():
        files = _sources.gcompris_resources(activity)
        credits = read_credits(files[f"{folder}/README"].decode())
        for path in map(PurePosixPath, sorted(files)):
            if str(path.parent) != folder or path.suffix != ".webp":
                continue
            credit = credits.get(path.name)
            if credit is None or credit.licence not in FREE:
                raise SystemExit(f"{path} is credited {credit}: only public domain and CC0 may be used; leave it out")
            photos[path.stem] = (files[str(path)], credit)
    return photos


def read_rows() -> list[Row]:
    """Return the hand-drawn boxes in the order of the file."""
    with open(BOXES, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    corners = ("x1", "y1", "x2", "y2")
    return [
        Row(line["photo"], line["class"], tuple(int(line[c]) for c in corners if line[c]), line["ignore"] == "1")
        for line in lines
    ]


def resized(blob: bytes) -> Image.Image:
    """Return the photo as RGB with its longer side at most 640 pixels; a smaller one keeps its size."""
    image = Image.open(io.BytesIO(blob)).convert("RGB")
    scale = LONGER_SIDE / max(image.size)
    if scale >= 1:
        return image
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def annotation(number: int, image_id: int, row: Row, size: tuple[int, int]) -> dict:
    """Return a box as COCO has it, after checking that it lies inside a picture of ``size`` (width, height)."""
    x1, y1, x2, y2 = row.box
    if not (0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]):
        raise SystemExit(f"{BOXES.name}: {row} is empty or leaves its photo of {size[0]}x{size[1]} pixels")
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CLASSES.index(row.label) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(row.ignore),
    }


def coco(sizes: dict[str, tuple[int, int]], rows: list[Row]) -> dict:
    """Return the data set in COCO's form; photos are numbered from 1 in the order of ``sizes``."""
    ids = {name: number for number, name in enumerate(sizes, start=1)}
    if missing := ids.keys() ^ {row.photo for row in rows}:
        raise SystemExit(
            f"{BOXES.name} and the package differ in {sorted(missing)}: look at each photo and give it a line"
        )
    boxed = [row for row in rows if row.label != "none"]
    return {
        "images": [
            {"id": ids[name], "file_name": f"{name}.jpg", "width": width, "height": height}
            for name, (width, height) in sizes.items()
        ],
        "annotations": [
            annotation(number, ids[row.photo], row, sizes[row.photo]) for number, row in enumerate(boxed, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
    }


def write_json(path: Path, data: dict) -> None:
    """Write lists of records one record a line, so that a changed box is one changed line."""
    parts = [
        f' "{key}": [\n' + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n ]" for key, rows in data.items()
    ]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def write_credits(path: Path, photos: dict[str, tuple[bytes, Credit]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "author", "source", "licence"))
        for name, (_, credit) in photos.items():
            writer.writerow((f"images/{name}.jpg", credit.author, credit.source, FREE[credit.licence]))


def drawn(name: str, rows: list[Row]) -> Image.Image:
    """Return a photo with its boxes and their classes, 480 pixels wide and 320 high at most, for the README."""
    image = Image.open(OUT / "images" / f"{name}.jpg")
    scale = min(480 / image.width, 320 / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    rows = [row for row in rows if row.photo == name]
    boxes = [tuple(corner * scale for corner in row.box) for row in rows]
    for row, (x1, y1, x2, y2) in zip(rows, boxes, strict=True):
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline="black", width=4)
        pen.rectangle((x1 + 1, y1 + 1, x2 - 2, y2 - 2), outline=IGNORED if row.ignore else GROUND_TRUTH, width=2)
    for row, (x1, y1, _, _) in zip(rows, boxes, strict=True):  # words last, so that no box crosses them
        words = f"ignored ({row.label})" if row.ignore else row.label
        left = min(x1 + 5, image.width - pen.textlength(words, font) - 4)
        pen.text((left, y1 + 3), words, font=font, fill="white", stroke_width=2, stroke_fill="black")
    return image


def write_example(path: Path, rows: list[Row]) -> None:
    """Write four photos with their boxes on one sheet."""
    pictures = [drawn(name, rows) for name in EXAMPLES]
    sheet = Image.new("RGB", (2 * 480 + 8, 2 * 320 + 8), "white")
    for place, picture in enumerate(pictures):
        x, y = place % 2 * 488, place // 2 * 328
        sheet.paste(picture, (x + (480 - picture.width) // 2, y + (320 - picture.height) // 2))
    sheet.save(path, quality=80)


def main() -> None:
    photos = dict(sorted(read_photos().items()))
    rows = read_rows()
    pictures = {name: resized(blob) for name, (blob, _) in photos.items()}
    data = coco({name: picture.size for name, picture in pictures.items()}, rows)
    folder = OUT / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.iterdir()) - {folder / f"{name}.jpg" for name in pictures}:
        stale.unlink()
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.jpg", quality=88)
    write_json(OUT / "annotations.json", data)
    write_credits(OUT / "CREDITS.csv", photos)
    write_example(OUT / "example.jpg", rows)
    print(f"{len(photos)} photos, {len(data['annotations'])} boxes in {OUT}")


if __name__ == "__main__":
    main()
