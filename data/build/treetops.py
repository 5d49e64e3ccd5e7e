"""Make ``data/treetops``: three aerial photos with 914 tree crowns boxed by hand, and the split in pixels.

The photos come from the wheel of DeepForest 2.1.0 (MIT), which shows them in its documentation; they were taken by the
airborne camera of NEON, the National Ecological Observatory Network of the USA. We store them whole as JPEG of quality
90 with the VOC XML that they came with; only the file name inside the XML is changed. Tiles are cut when loading.

Run: ``python data/build/treetops.py`` (needs the wheel, 20 MB; some seconds)
"""

import csv
import json
import re
from xml.etree import ElementTree

import _sources
from PIL import Image, ImageDraw

OUT = _sources.DATA / "treetops"
TILE = 320
LARGE = "2019_YELL_2_528000_4978000_image_crop2"
PHOTOS = {LARGE: 574, "2019_YELL_2_541000_4977000_image_crop": 279, "OSBS_029": 61}  # with their crowns, counted
AUTHOR = "NEON (photo); Ben Weinstein and the DeepForest team (boxes)"


def splits(width: int, height: int) -> dict[str, list[dict]]:
    """Return the rectangles of each split: left 70 % of the large photo, a gap of one tile, the rest; the other two."""
    edge = round(0.7 * width)
    whole = {name: Image.open(OUT / f"{name}.jpg").size for name in PHOTOS if name != LARGE}
    return {
        "train": [{"photo": f"{LARGE}.jpg", "rectangle": [0, 0, edge, height]}],
        "val": [{"photo": f"{LARGE}.jpg", "rectangle": [edge + TILE, 0, width, height]}],
        "test": [{"photo": f"{name}.jpg", "rectangle": [0, 0, *size]} for name, size in whole.items()],
    }


def write_example() -> None:
    """Draw the crowns of a part of the first test photo into ``example.jpg``, for the README."""
    name = list(PHOTOS)[1]
    photo = Image.open(OUT / f"{name}.jpg")
    pen = ImageDraw.Draw(photo)
    for box in ElementTree.parse(OUT / f"{name}.xml").iter("bndbox"):
        pen.rectangle([int(float(box.findtext(key, ""))) for key in ("xmin", "ymin", "xmax", "ymax")], outline="white")
    photo.crop((200, 200, 1000, 650)).save(OUT / "example.jpg", quality=85)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    source = _sources.unpacked("deepforest") / "deepforest/data"
    credits = [["file", "author", "source", "licence"]]
    for name, crowns in PHOTOS.items():
        Image.open(source / f"{name}.png").convert("RGB").save(OUT / f"{name}.jpg", quality=90)
        xml = (source / f"{name}.xml").read_text(encoding="utf-8")
        if (count := xml.count("<object>")) != crowns:
            raise SystemExit(f"{name}.xml has {count} crowns, wanted {crowns}")
        xml = re.sub(r"<filename>.*?</filename>", f"<filename>{name}.jpg</filename>", xml)
        (OUT / f"{name}.xml").write_text(xml, encoding="utf-8")
        origin = f"PyPI deepforest 2.1.0: deepforest/data/{name}"
        credits += [[f"{name}.{end}", AUTHOR, f"{origin}.{of}", "MIT"] for end, of in (("jpg", "png"), ("xml", "xml"))]
    write_example()
    credits.append(["example.jpg", AUTHOR, "part of the photo 2019_YELL_2_541000", "MIT"])
    text = {
        "tile": TILE,
        "rectangle": "x1, y1, x2, y2 in pixels",
        "splits": splits(*Image.open(OUT / f"{LARGE}.jpg").size),
    }
    (OUT / "splits.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    licence = source.parents[1] / "deepforest-2.1.0.dist-info/licenses/LICENSE"
    (OUT / "LICENSE-deepforest").write_bytes(licence.read_bytes())
    with open(OUT / "CREDITS.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(credits)
    print(f"treetops: {len(PHOTOS)} photos, {sum(PHOTOS.values())} crowns")


if __name__ == "__main__":
    main()
