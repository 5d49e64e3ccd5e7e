"""The data files are whole, honest and small enough: what ``data/`` promises, held against what lies there."""

import copy
import csv
import fnmatch
import importlib
import io
import json
import os
import pickle
import struct
import zlib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

from rcnnlib.datasets import compose

DATA = Path(__file__).resolve().parents[1] / "data"
PICTURES = (".jpg", ".png", ".webp")
MEGABYTE = 10**6


@pytest.fixture
def build(monkeypatch):
    """Return a function that imports a build script by its name."""
    monkeypatch.syspath_prepend(DATA / "build")
    return importlib.import_module


def pictures(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in PICTURES]


def read(path: str) -> dict:
    return json.loads((DATA / path).read_text(encoding="utf-8"))


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def scrapbook(split: str) -> dict:
    return read(f"scrapbook/annotations_{split}.json")


# What is there


@pytest.mark.parametrize(("split", "scenes", "objects"), [("train", 600, 1465), ("val", 150, 356), ("test", 150, 335)])
def test_scrapbook_counts(split, scenes, objects):
    truth = scrapbook(split)
    assert (len(truth["images"]), len(truth["annotations"])) == (scenes, objects)
    assert len(list((DATA / "scrapbook" / split).glob("*.jpg"))) == scenes
    of_image = Counter(item["image_id"] for item in truth["annotations"])
    assert {of_image[image["id"]] for image in truth["images"]} == {0, 1, 2, 3, 4, 5}
    assert {item["category_id"] for item in truth["annotations"]} == {1, 2, 3, 4, 5}
    assert [item["name"] for item in truth["categories"]] == ["bird", "mammal", "food", "tool", "vehicle"]


def test_treetops_counts():
    trees = [ElementTree.parse(path).findall("object") for path in sorted((DATA / "treetops").glob("*.xml"))]
    assert [len(objects) for objects in trees] == [574, 279, 61]
    assert sum(len(objects) for objects in trees) == 914


def test_sizes_stay_within_the_budget():
    shipped = [p for p in DATA.rglob("*") if p.is_file() and p.relative_to(DATA).parts[0] != "build"]
    total = sum(path.stat().st_size for path in shipped)
    weights = sum(path.stat().st_size for path in shipped if path.suffix == ".safetensors")
    assert sum(path.stat().st_size for path in pictures(DATA)) <= 24 * MEGABYTE
    assert weights <= 28 * MEGABYTE
    assert total <= 62 * MEGABYTE


def test_manifest_agrees_with_the_files(build):
    made = build("manifest").manifest(DATA)
    stored = read("manifest.json")
    hint = "run `python data/build/manifest.py` if you changed the data on purpose"
    for kind in ("files", "folders"):
        assert stored[kind].keys() == made[kind].keys(), hint
        changed = [name for name in made[kind] if made[kind][name] != stored[kind][name]]
        assert not changed, f"{changed} differ from the manifest; {hint}"


def test_the_table_of_detectors_says_what_their_cards_say(build):
    text = (DATA / "weights/README.md").read_text(encoding="utf-8")
    made = build("weights_table").table(DATA / "weights")
    assert made in text, "run `python data/build/weights_table.py`"
    assert made.count("\n") > 1


def test_a_card_gains_what_other_seeds_gave(build):
    seeds, table = build("card_seeds"), build("weights_table")
    card = read("weights/faster_rcnn_scrapbook.json") | {"other_seeds": {}}
    other = copy.deepcopy(card) | {"seed": 2, "seconds": 9}
    other["figures"]["wild_test"] |= {"AP50": 0.25, "AP": 0.125}
    both = seeds.with_seed(seeds.with_seed(card, other), other | {"seed": 1})
    assert list(both["other_seeds"]) == ["1", "2"]
    assert both["other_seeds"]["2"]["seconds"] == 9
    assert both["other_seeds"]["2"]["figures"]["wild_test"] == {"AP": 0.125, "AP50": 0.25}
    assert both["figures"] == card["figures"]
    before, after = table.row(card).split(" | "), table.row(both).split(" | ")
    assert [cell for cell in after if cell not in before][1] == f"{before[5]}; 0.250; 0.250"
    with pytest.raises(SystemExit, match="are those of seed 0; train with another"):
        seeds.with_seed(card, other | {"seed": 0})
    with pytest.raises(SystemExit, match=r"steps: the card has .*12000.*, the other run .*60"):
        seeds.with_seed(card, other | {"steps": {"joint": 60}})


# Credits


@pytest.mark.parametrize("name", ["scrapbook", "treetops", "wild", "weights"])
def test_every_file_has_its_credit(name):
    with open(DATA / name / "CREDITS.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["file"] and row["author"] and row["source"] and row["licence"] for row in rows)
    patterns = [row["file"] for row in rows]
    files = [p.relative_to(DATA / name).as_posix() for p in pictures(DATA / name) if p.name != "example.jpg"]
    files += [path.name for path in (DATA / name).glob("*.safetensors")] if name == "weights" else []
    assert files
    assert [file for file in files if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not list((DATA / name).glob(pattern))] == []
    assert any(path.name.startswith("LICENSE") for path in (DATA / name).iterdir())


def test_no_licence_that_we_left_out():
    with open(DATA / "scrapbook/CREDITS.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    backgrounds = {row["licence"] for row in rows if row["file"].startswith("backgrounds/")}
    assert backgrounds == {"Public Domain", "CC0-1.0"}
    assert {row["licence"] for row in rows if row["file"].startswith("cutouts/")} == {"GPL-2.0-or-later"}
    names = {Path(row["file"]).stem.partition("-")[2] for row in rows if row["file"].startswith("cutouts/")}
    gfdl = {"Apricot_whole", "Cherry_Stella", "Strawberry2", "helmeted_guineafowl", "pelican", "heron_greatblue"}
    assert not names & (gfdl | {"hedgehog", "cementmixer", "7spoke256", "wheel_tractor"})
    assert not [name for name in names if name.endswith("_mirror")]


# Splits


def test_scrapbook_is_split_by_individual(build):
    parts = read("scrapbook/parts.json")
    for kind, key in (("cutouts", "cutout"), ("backgrounds", "background")):
        split_of = {item["name"]: item["split"] for item in parts[kind]}
        assert len(split_of) == len(parts[kind])  # no name is listed twice
        for split in ("train", "val", "test"):
            truth = scrapbook(split)
            used = {item[key] for item in truth["annotations" if key == "cutout" else "images"]}
            assert {split_of[name] for name in used} == {split}
        blobs = [(DATA / "scrapbook" / item["file"]).read_bytes() for item in parts[kind]]
        assert len(set(blobs)) == len(blobs)  # nor is a picture stored under two names
    split_of = {item["name"]: item["split"] for item in parts["cutouts"]}
    for group in build("scrapbook").SAME:
        assert len({split_of[name] for name in group.split()}) == 1


def test_treetops_rectangles_are_a_tile_apart():
    splits = read("treetops/splits.json")["splits"]
    train, val = splits["train"][0], splits["val"][0]
    assert train["photo"] == val["photo"]
    width, height = size_of(DATA / "treetops" / train["photo"])
    assert train["rectangle"] == [0, 0, round(0.7 * width), height]
    assert val["rectangle"] == [train["rectangle"][2] + 320, 0, width, height]
    photos = {path.name for path in (DATA / "treetops").glob("*.jpg")} - {"example.jpg"}
    assert {item["photo"] for item in splits["test"]} == photos - {train["photo"]}


# Boxes


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_scrapbook_annotations_fit_the_pictures(split):
    truth = scrapbook(split)
    label_of = {item["name"]: item["category_id"] for item in read("scrapbook/parts.json")["cutouts"]}
    size = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    assert len(size) == len(truth["images"])
    for image in truth["images"]:
        assert size_of(DATA / "scrapbook" / image["file_name"]) == size[image["id"]] == (320, 240)
    assert len({item["id"] for item in truth["annotations"]}) == len(truth["annotations"])
    for item in truth["annotations"]:
        x, y, w, h = item["bbox"]
        assert x >= 0
        assert y >= 0
        assert min(w, h) >= 8
        assert x + w <= 320
        assert y + h <= 240
        assert 0 < item["area"] <= w * h
        assert item["iscrowd"] == 0
        assert item["category_id"] == label_of[item["cutout"]]


def test_scrapbook_sizes_are_varied():
    boxes = np.array([item["bbox"] for item in scrapbook("train")["annotations"]])
    heights = boxes[:, 3] / 240
    assert np.quantile(heights, 0.05) < 0.18
    assert np.quantile(heights, 0.95) > 0.65  # or the detector boxes the head of a large animal only
    assert heights.max() > 0.85


def test_treetops_boxes_lie_in_the_photos():
    for path in (DATA / "treetops").glob("*.xml"):
        tree = ElementTree.parse(path)
        width, height = size_of(DATA / "treetops" / tree.findtext("filename"))
        assert [tree.findtext("size/width"), tree.findtext("size/height")] == [str(width), str(height)]
        for box in tree.iter("bndbox"):
            x1, y1, x2, y2 = (float(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height


# Composing


def test_stored_scenes_come_from_compose(build):
    seed = build("scrapbook").SEED
    parts, truth = compose.load_parts(DATA / "scrapbook", "val"), scrapbook("val")
    for i in (0, 1, 2):
        scene = compose.compose(np.random.default_rng([seed, 2, i]), parts)
        image = truth["images"][i]
        stored = [item for item in truth["annotations"] if item["image_id"] == image["id"]]
        assert scene.background == image["background"]
        assert scene.names == [item["cutout"] for item in stored]
        ours = np.array([item["bbox"] for item in stored]).reshape(-1, 4)
        ours[:, 2:] += ours[:, :2]
        np.testing.assert_allclose(scene.boxes, ours, atol=1)  # another Pillow may round a pixel otherwise
        stored_pixels = np.asarray(Image.open(DATA / "scrapbook" / image["file_name"]).convert("RGB"), float)
        assert np.abs(scene.image() - stored_pixels).mean() < 2


def test_boxes_hold_exactly_the_pixels_seen():
    """One red object on black: its box is that of the red pixels, read from the decoded picture."""
    disc = np.zeros((60, 80, 4), np.uint8)
    y, x = np.mgrid[:60, :80]
    disc[((x - 39.5) / 40) ** 2 + ((y - 29.5) / 30) ** 2 < 1] = (220, 0, 0, 255)
    parts = compose.Parts([compose.Cutout("disc", 5, disc)], {"night": np.zeros((300, 400, 3), np.uint8)})
    alone = 0
    for seed in range(40):
        scene = compose.compose(np.random.default_rng(seed), parts)
        if len(scene.boxes) == 1:
            alone += 1
            rows, columns = np.nonzero(scene.image()[..., 0] > 90)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(scene.boxes[0], seen, atol=2)  # blur, JPEG
    assert alone >= 5


@pytest.mark.parametrize(
    ("full", "rows", "columns", "shows"),
    [
        (200, 10, 10, True),  # 100 of 200 pixels: just half
        (201, 10, 10, False),
        (80, 8, 10, True),  # a side of 8 is just enough
        (70, 7, 10, False),
    ],
)
def test_half_of_an_object_must_be_seen(full, rows, columns, shows):
    seen = np.zeros((240, 320), bool)
    seen[100 : 100 + rows, 300 : 300 + columns] = True
    cutout = compose.Cutout("square", 3, np.zeros((1, 1, 4), np.uint8))
    assert compose._shows(compose.Placed(cutout, full, seen)) is shows


def test_box_of_one_pixel_and_of_the_whole_picture():
    seen = np.zeros((240, 320), bool)
    seen[3, 5] = True
    assert compose._box(seen) == (5, 3, 6, 4)
    assert compose._box(~seen) == (0, 0, 320, 240)


def test_boxes_stay_inside_when_objects_cross_the_border():
    square = np.full((90, 90, 4), 255, np.uint8)
    parts = compose.Parts([compose.Cutout("square", 3, square)], {"night": np.zeros((300, 400, 3), np.uint8)})
    scenes = [compose.compose(np.random.default_rng(seed), parts) for seed in range(30)]
    boxes = np.concatenate([scene.boxes for scene in scenes])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes <= [320, 240, 320, 240]).all()
    assert (boxes[:, :2] == 0).any()  # some do cross it
    assert (boxes[:, 2:] - boxes[:, :2] >= 8).all()


def test_same_generator_same_scene():
    parts = compose.load_parts(DATA / "scrapbook", "test")
    first, second, other = (compose.compose(np.random.default_rng(seed), parts) for seed in (1, 1, 2))
    assert first.jpeg == second.jpeg
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert first.jpeg != other.jpeg


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="'dev'"):
        compose.load_parts(DATA / "scrapbook", "dev")


# Weights


def test_squeezenet_knows_what_it_sees():
    """The whole network, fed as ``data/weights/README.md`` says, names four cut-outs; fed as usual, it does not."""
    net = torchvision.models.squeezenet1_1(weights=None).eval()
    state = load_file(DATA / "weights/squeezenet1_1_imagenet.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert sum(tensor.numel() for tensor in state.values()) == 1_235_496
    net.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
    names = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]
    wanted = {
        "mammal-zebra": "zebra",
        "food-broccoli": "broccoli",
        "mammal-camel": "Arabian camel",
        "vehicle-green_korean_bus": "minibus",
    }
    rows = []
    for name in wanted:
        item = Image.open(DATA / f"scrapbook/cutouts/{name}.png").convert("RGBA")
        white = Image.alpha_composite(Image.new("RGBA", item.size, "white"), item).convert("RGB").resize((224, 224))
        rows.append(torch.from_numpy(np.array(white)).permute(2, 0, 1) / 255)
    images = torch.stack(rows)
    with torch.no_grad():
        bgr = 255 * images.flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
        probabilities, best = net(bgr).softmax(1).max(1)
        usual = torchvision.transforms.functional.normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        wrong = net(usual).argmax(1)
    assert [names[i] for i in best] == list(wanted.values())
    assert (probabilities > 0.85).all()
    assert not set(best.tolist()) & set(wrong.tolist())


# The build scripts' own tools


def rcc(version: int, flags: int, stored: bytes) -> bytes:
    """Write a Qt resource file that holds one file, ``a/b.txt``, by hand."""
    texts = ["a", "b.txt"]
    names, at = b"", []
    for text in texts:
        at.append(len(names))
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
    date = b"" if version == 1 else bytes(8)
    tree = struct.pack(">IHII", 0, 2, 1, 1) + date  # the root: one child, at index 1
    tree += struct.pack(">IHII", at[0], 2, 1, 2) + date  # the folder a: one child, at index 2
    tree += struct.pack(">IHHHI", at[1], flags, 0, 0, 0) + date  # the file: its data at offset 0
    data = struct.pack(">I", len(stored)) + stored
    extra = struct.pack(">I", 0) if version == 3 else b""
    start = 20 + len(extra)
    header = struct.pack(">4sIIII", b"qres", version, start, start + len(tree), start + len(tree) + len(data))
    return header + extra + tree + data + names


@pytest.mark.parametrize("version", [1, 2, 3])
def test_reader_of_qt_resources(build, version):
    sources = build("_sources")
    assert sources.read_rcc(rcc(version, 0, b"hello")) == {"a/b.txt": b"hello"}
    packed = struct.pack(">I", 5) + zlib.compress(b"hello")
    assert sources.read_rcc(rcc(version, 1, packed)) == {"a/b.txt": b"hello"}
    with pytest.raises(ValueError, match="zstd"):
        sources.read_rcc(rcc(version, 4, b"?"))


def test_reader_refuses_other_files(build):
    with pytest.raises(ValueError, match="Qt resource file"):
        build("_sources").read_rcc(b"RIFF" + bytes(40))


def test_changed_package_is_refused(build, tmp_path):
    (tmp_path / "x.deb").write_bytes(b"tampered")
    with pytest.raises(SystemExit, match=r"x\.deb has SHA-256 .* wanted 00"):
        build("_sources").check(tmp_path / "x.deb", "00" * 32)


def test_unpickler_admits_arrays_only(build):
    squeezenet = build("squeezenet")
    with pytest.raises(pickle.UnpicklingError, match=r"system; only numpy arrays"):
        squeezenet.ArraysOnly(io.BytesIO(pickle.dumps(os.system))).load()


def test_credits_of_gcompris_are_read(build):
    readme = "Copyright: A\nLicense: CC0-1.0\nSource: http://x\nFiles:\na.webp\nb.webp\n\nCopyright: B\nLicense: GPL\n"
    assert build("_sources").gcompris_credits(readme + "Files:\nc.webp\n") == {
        "a.webp": ["A", "http://x", "CC0-1.0"],
        "b.webp": ["A", "http://x", "CC0-1.0"],
        "c.webp": ["B", "unknown", "GPL"],
    }
