"""Make ``data/scrapbook``: cut-outs pasted on travel photos, 320 x 240, with exact boxes in COCO JSON.

Cut-outs: Debian's ``tuxpaint-stamps-default``; backgrounds: the monuments of Debian's ``gcompris-qt-data``, those in
the public domain or under CC0. Split by individual: no cut-out, no pair that shows the same thing, and no background
is in two splits. The scenes come from ``rcnnlib/datasets/compose.py``. Same packages and same libraries: same bytes.

We looked at every cut-out and background; what is left out and why is written below.
Run: ``python data/build/scrapbook.py`` (half a minute)
"""

import csv
import io
import json
import shutil
from pathlib import Path

import _sources
import numpy as np
from PIL import Image, ImageDraw
from scrapbook_credits import stamp_credit
from skimage.measure import label as components

from rcnnlib.datasets.compose import compose, load_parts

OUT = _sources.DATA / "scrapbook"
STAMPS = "usr/share/tuxpaint/stamps"
SEED = 20150604  # the day on which the Faster R-CNN paper appeared
SCENES = {"train": 600, "val": 150, "test": 150}
LONGEST = 256  # pixels; the originals are mostly smaller

CLASSES = {1: "bird", 2: "mammal", 3: "food", 4: "tool", 5: "vehicle"}
FOLDERS = {  # of the stamps, for each class
    1: "animals/birds",
    2: "animals/mammals/apes animals/mammals/bears animals/mammals/bovines animals/mammals/camel animals/mammals/cats "
    "animals/mammals/deer animals/mammals/dogs animals/mammals/equines animals/mammals/rodents animals/marsupials",
    3: "food/fruit food/vegetables",
    4: "household/tools household/arttools",
    5: "vehicles vehicles/auto vehicles/construction vehicles/cycle vehicles/emergency vehicles/flight "
    "vehicles/flight/planes vehicles/masstransit vehicles/race vehicles/ship",
}

LEFT_OUT = {
    "licence GFDL or CC BY-SA": "Apricot_whole Cherry_Stella Strawberry2 helmeted_guineafowl pelican heron_greatblue "
    "heron_greatblue_flying",
    "source without a clear free licence (sxc.hu, unnamed page of Wikipedia)": "grapes sliced_lime sliced_orange "
    "pineapple apricot",
    "a drawing": "cementmixer 7spoke256 chineseJunk",
    "a mirrored or tinted copy, or an overlay": "measuring_tape_mirror dumper_mirror sedan_police sedan_police_mirror",
    "a wheel": "wheel_tractor",
    "licence CC BY 2.5, free but not the collection's": "firetruck",
    "cut out together with a nest, a stump or a log: the box would not be the animal's": "albino_peahen fox koala",
}

# Cut-outs that show the same individual, or may do: each group stays in one split.
SAME = ["gnu-baby gnu-baby-stand gnu-stand gnu-sitting", "scissors_small_open scissors_small_closed",
        "apple_green apple_red", "garlic garlics", "rabbit rabbit-2"]  # fmt: skip

BACKGROUNDS_LEFT_OUT = {
    "licence CC BY-SA": "chichenItza christTheRedeemer tajMahal",
    "cars, statues of animals, or people large enough to be objects": "aulaPalatina berlinCathedral colosseum "
    "mysorePalace brandenburgGate",
    "black and white, framed, or too narrow": "castleClinton georgeWashingtonBirthplace cabrillo",
}
MORE_BACKGROUNDS = "zimniPalace IndiaGate leMusee parthenon usCapitol monument1 monument2"  # of `categorization`


def find_stamps() -> list[tuple[str, int, Path]]:
    """Return (name, class, path) of every cut-out that is used."""
    left_out = set(" ".join(LEFT_OUT.values()).split())
    folder = _sources.unpacked("tuxpaint-stamps-default") / STAMPS
    found = [
        (path.stem, number, path)
        for number, places in FOLDERS.items()
        for place in places.split()
        for path in sorted((folder / place).glob("*.png"))
        if path.stem not in left_out
    ]
    names = [name for name, _, _ in found]
    if len(set(names)) != len(names):
        raise SystemExit("two cut-outs have the same name")
    return found


def clean(path: Path) -> Image.Image:
    """Read a stamp, drop specks (under 1 % of the largest piece), crop to the outline, shrink to 256 pixels."""
    rgba = np.array(Image.open(path).convert("RGBA"))
    pieces = components(rgba[..., 3] > 127, connectivity=2)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    keep = (sizes >= 0.01 * sizes.max())[pieces]
    near = keep.copy()  # the soft rim, two pixels wide, belongs to what it surrounds
    for _ in range(2):
        grown = np.pad(near, 1)
        near = grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:] | near
    rgba[~near] = 0
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    image = Image.fromarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return image


def split(rng: np.random.Generator, names: list[str]) -> dict[str, str]:
    """Return the split of each name: about 15 % val, 18 % test (at least 2 each), the rest train; groups together."""
    group = {name: group for group in SAME for name in group.split()}
    units = sorted({group.get(name, name) for name in names})
    test, val = max(2, round(0.18 * len(units))), max(2, round(0.15 * len(units)))
    order = [units[i] for i in rng.permutation(len(units))]
    which = {unit: "test" if i < test else "val" if i < test + val else "train" for i, unit in enumerate(order)}
    return {name: which[group.get(name, name)] for name in names}


def write_cutouts(rng: np.random.Generator, credits: list[list[str]]) -> list[dict]:
    """Write the cut-outs as PNG; return their entries for ``parts.json``."""
    stamps, entries = find_stamps(), []
    for number, label in CLASSES.items():
        of_class = [(name, path) for name, which, path in stamps if which == number]
        splits = split(rng, [name for name, _ in of_class])
        for name, path in of_class:
            file = f"cutouts/{label}-{name}.png"
            clean(path).save(OUT / file, optimize=True)
            inside = str(path).partition("tuxpaint/stamps/")[2]
            credits.append([file, *stamp_credit(name, inside)])
            entries.append({"name": name, "file": file, "category_id": number, "split": splits[name]})
    return entries


def find_backgrounds() -> dict[str, tuple[bytes, list[str]]]:
    """Return ``{name: (picture, [author, source, licence])}`` of every background that is used."""
    left_out = set(" ".join(BACKGROUNDS_LEFT_OUT.values()).split())
    found = {}
    for activity in ("explore_monuments", "categorization"):
        files = _sources.gcompris_resources(activity)
        readme = next(path for path in files if path.endswith("README") and ("explore" in path or "monuments" in path))
        for path, credit in _sources.gcompris_credits(files[readme].decode()).items():
            name = Path(path).stem
            wanted = name not in left_out if activity == "explore_monuments" else name in MORE_BACKGROUNDS.split()
            if path.endswith(".webp") and wanted and (found_at := f"{readme[:-6]}{path}") in files:
                if credit[2] not in ("Public Domain", "CC0-1.0"):
                    raise SystemExit(
                        f"background {name} has the licence {credit[2]}; only public domain and CC0 are used"
                    )
                found[name] = files[found_at], credit
    return found


def write_backgrounds(rng: np.random.Generator, credits: list[list[str]]) -> list[dict]:
    """Write the backgrounds as JPEG that just covers 400 x 300; return their entries for ``parts.json``."""
    found, entries = find_backgrounds(), []
    splits = split(rng, list(found))
    for name, (blob, credit) in sorted(found.items()):
        image = Image.open(io.BytesIO(blob)).convert("RGB")
        scale = min(1.0, max(400 / image.width, 300 / image.height))
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        file = f"backgrounds/{name}.jpg"
        image.save(OUT / file, quality=85)
        credits.append([file, *credit])
        entries.append({"name": name, "file": file, "split": splits[name]})
    return entries


def write_scenes(name: str, parts_seed: int) -> dict:
    """Compose the scenes of one split, write them, and return their annotations in COCO form."""
    parts, count = load_parts(OUT, name), SCENES[name]
    images, annotations = [], []
    for i in range(count):
        scene = compose(np.random.default_rng([SEED, parts_seed, i]), parts)
        image_id = 1000 * parts_seed + i + 1
        file = f"{name}/{image_id:04d}.jpg"
        (OUT / file).write_bytes(scene.jpeg)
        images.append({"id": image_id, "file_name": file, "width": 320, "height": 240, "background": scene.background})
        for box, label, area, cutout in zip(scene.boxes.tolist(), scene.labels, scene.areas, scene.names, strict=True):
            x1, y1, x2, y2 = box
            annotations.append(
                {"id": 10_000 * parts_seed + len(annotations) + 1, "image_id": image_id, "category_id": int(label),
                 "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(area), "iscrowd": 0, "cutout": cutout}
            )  # fmt: skip
    categories = [{"id": number, "name": label} for number, label in CLASSES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_example() -> None:
    """Draw the boxes of six test scenes into ``example.jpg``, for the README."""
    truth = json.loads((OUT / "annotations_test.json").read_text(encoding="utf-8"))
    sheet = Image.new("RGB", (3 * 324 - 4, 2 * 244 - 4), "white")
    for i, image in enumerate(truth["images"][20:26]):
        scene = Image.open(OUT / image["file_name"])
        pen = ImageDraw.Draw(scene)
        for item in truth["annotations"]:
            if item["image_id"] == image["id"]:
                x, y, w, h = item["bbox"]
                pen.rectangle([x, y, x + w - 1, y + h - 1], outline=(0, 158, 115), width=2)
                pen.text((x + 4, y + 2), CLASSES[item["category_id"]], "white", stroke_fill="black", stroke_width=1)
        sheet.paste(scene, (324 * (i % 3), 244 * (i // 3)))
    sheet.save(OUT / "example.jpg", quality=85)


def main() -> None:
    for folder in ("cutouts", "backgrounds", *SCENES):
        shutil.rmtree(OUT / folder, ignore_errors=True)
        (OUT / folder).mkdir(parents=True)
    rng, credits = np.random.default_rng(SEED), [["file", "author", "source", "licence"]]
    parts = {"cutouts": write_cutouts(rng, credits), "backgrounds": write_backgrounds(rng, credits)}
    (OUT / "parts.json").write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
    for number, name in enumerate(SCENES, start=1):
        annotations = write_scenes(name, number)
        (OUT / f"annotations_{name}.json").write_text(json.dumps(annotations) + "\n", encoding="utf-8")
        credits.append([f"{name}/*.jpg", "this project", "composed of the files above", "GPL-2.0-or-later"])
        print(f"{name}: {len(annotations['images'])} scenes, {len(annotations['annotations'])} objects")
    write_example()
    credits.append(["example.jpg", "this project", "composed of the files above", "GPL-2.0-or-later"])
    with open(OUT / "CREDITS.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(credits)


if __name__ == "__main__":
    main()
