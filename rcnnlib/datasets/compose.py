"""Paste cut-outs on backgrounds: the scenes of Scrapbook, with boxes that are exact because we know every pixel.

``data/build/scrapbook.py`` makes the stored scenes with ``compose``; a training loader may call it to get a fresh scene
every step. Numpy and PIL only; every random choice comes from the generator that is passed in.

Rule for hidden objects: at least half of an object's own pixels must be seen, after the border and later objects have
taken theirs. An object that would break the rule, for itself or for one below it, is placed anew, ten times at most;
then it is left out. A box is the smallest that holds the pixels seen.

Leaves out: shadows, light that agrees with the background, sizes that agree between objects. It is a scrapbook.

Shapes: H, W picture; h, w cut-out or background; N objects.
"""

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageFilter

COUNTS = (0.06, 0.24, 0.26, 0.20, 0.14, 0.10)  # how often a scene has 0, 1, ... 5 objects
HEIGHTS = (0.15, 0.90)  # object's height over the picture's, drawn log-uniformly
WIDEST = 0.95  # no object is wider than this share of the picture
ENLARGE = 3.0  # and none is enlarged more than this: small originals would turn to mush
TURNS = {1: 10, 2: 10, 3: 40, 4: 180, 5: 8}  # class: largest turn in degrees; tools lie about anyhow
TRUNCATED = 0.3  # share of objects that may cross the border, by a quarter of their size at most
APART = 0.5  # share of scenes whose objects do not touch
SEEN = 0.5  # least share of an object's pixels that must be seen
SMALLEST = 8  # least side of a box, pixels


class Cutout(NamedTuple):
    """One object with its outline: RGB and alpha, 0..255."""

    name: str
    label: int
    rgba: UInt8[np.ndarray, "h w 4"]


class Parts(NamedTuple):
    """What the scenes of one split are made of."""

    cutouts: list[Cutout]
    backgrounds: dict[str, UInt8[np.ndarray, "h w 3"]]


class Placed(NamedTuple):
    """An object in a scene: its pixels in full, and those that the border and later objects leave."""

    cutout: Cutout
    full: int
    seen: Bool[np.ndarray, "H W"]


class Scene(NamedTuple):
    """A picture as JPEG bytes, and where its objects are: (x1, y1, x2, y2) in pixels, labels 1..K, seen pixels."""

    jpeg: bytes
    boxes: Float[np.ndarray, "N 4"]
    labels: Int[np.ndarray, " N"]
    areas: Int[np.ndarray, " N"]
    names: list[str]  # of the cut-outs
    background: str

    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """Return the decoded picture."""
        return np.asarray(Image.open(io.BytesIO(self.jpeg)))


def load_parts(folder: Path, split: str) -> Parts:
    """Read the cut-outs and backgrounds of ``split`` ("train", "val" or "test") listed in ``folder/parts.json``."""
    listed = json.loads((folder / "parts.json").read_text(encoding="utf-8"))

    def read(file: str, mode: str) -> UInt8[np.ndarray, "h w c"]:
        return np.asarray(Image.open(folder / file).convert(mode))

    cutouts, backgrounds = (
        [(item, read(item["file"], mode)) for item in listed[kind] if item["split"] == split]
        for kind, mode in (("cutouts", "RGBA"), ("backgrounds", "RGB"))
    )
    if not cutouts or not backgrounds:
        raise ValueError(f"split must be 'train', 'val' or 'test', got {split!r}: {folder / 'parts.json'} lists none")
    return Parts(
        [Cutout(item["name"], item["category_id"], rgba) for item, rgba in cutouts],
        {item["name"]: rgb for item, rgb in backgrounds},
    )


def compose(rng: np.random.Generator, parts: Parts, *, height: int = 240, width: int = 320) -> Scene:
    """Make one scene of up to five objects; the classes are equally likely, so are the cut-outs of a class."""
    background = list(parts.backgrounds)[rng.integers(len(parts.backgrounds))]
    canvas = _background(rng, parts.backgrounds[background], height, width)
    apart = rng.random() < APART
    placed: list[Placed] = []
    for _ in range(rng.choice(len(COUNTS), p=COUNTS)):
        label = rng.choice(sorted({cutout.label for cutout in parts.cutouts}))
        choices = [cutout for cutout in parts.cutouts if cutout.label == label]
        cutout = choices[rng.integers(len(choices))]
        for _ in range(10):
            patch, where, full = _place(rng, cutout, height, width)
            mask = np.zeros((height, width), bool)
            mask[where] = patch[..., 3] >= 0.5
            after = [old._replace(seen=old.seen & ~mask) for old in placed] + [Placed(cutout, full, mask)]
            touches = any((old.seen & mask).any() for old in placed)
            if not (apart and touches) and all(_shows(item) for item in after):
                canvas[where] += patch[..., 3:] * (patch[..., :3] - canvas[where])
                placed = after
                break
    return Scene(
        jpeg=_jpeg(rng, canvas),
        boxes=np.array([_box(item.seen) for item in placed], dtype=np.float64).reshape(-1, 4),
        labels=np.array([item.cutout.label for item in placed], dtype=np.int64),
        areas=np.array([item.seen.sum() for item in placed], dtype=np.int64),
        names=[item.cutout.name for item in placed],
        background=background,
    )


def _shows(item: Placed) -> bool:
    sides = item.seen.any(0).sum(), item.seen.any(1).sum()
    return bool(item.seen.sum() >= SEEN * item.full and min(sides) >= SMALLEST)


def _box(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _light(rng: np.random.Generator, rgb: np.ndarray) -> Float[np.ndarray, "h w 3"]:
    """Change brightness by up to a quarter, and each colour by up to 6 %."""
    return rgb.astype(np.float32) * np.float32(rng.uniform(0.75, 1.2) * rng.uniform(0.94, 1.06, 3))


def _background(
    rng: np.random.Generator, photo: UInt8[np.ndarray, "h w 3"], height: int, width: int
) -> Float[np.ndarray, "H W 3"]:
    """Cut a window of the picture's shape at least 0.7 times the largest possible, flip it in half of the cases."""
    scale = min(photo.shape[0] / height, photo.shape[1] / width) * rng.uniform(0.7, 1.0)
    top = rng.uniform(0, photo.shape[0] - scale * height)
    left = rng.uniform(0, photo.shape[1] - scale * width)
    window = (left, top, left + scale * width, top + scale * height)
    view = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR, box=window))
    return _light(rng, view[:, ::-1] if rng.random() < 0.5 else view)


def _place(
    rng: np.random.Generator, cutout: Cutout, height: int, width: int
) -> tuple[Float[np.ndarray, "h w 4"], tuple[slice, slice], int]:
    """Return what the border leaves of an object (RGB 0..255, alpha 0..1), where that lies, and its pixels in full."""
    item = Image.fromarray(cutout.rgba)
    if rng.random() < 0.5:
        item = item.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    item = item.rotate(rng.uniform(-1, 1) * TURNS[cutout.label], Image.Resampling.BILINEAR, expand=True)
    item = item.crop(_box(np.asarray(item)[..., 3] > 127))
    wanted = height * np.exp(rng.uniform(*np.log(HEIGHTS)))
    scale = min(wanted / item.height, WIDEST * width / item.width, ENLARGE)
    item = item.resize((max(1, round(item.width * scale)), max(1, round(item.height * scale))))
    # Feather inwards only, for outside the outline a cut-out has no colour. Blurred alpha of 2/3 becomes 1/2.
    hard = np.asarray(item.getchannel("A"), np.float32) / 255
    soft = np.asarray(item.getchannel("A").filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2))), np.float32) / 255
    alpha = np.minimum(hard, np.clip(1.5 * soft - 0.5, 0, 1))
    rgb = _light(rng, np.asarray(item)[..., :3])
    out = 0.25 if rng.random() < TRUNCATED else 0.0
    left, top = (
        round(rng.uniform(-out * own, room - (1 - out) * own))
        for own, room in ((item.width, width), (item.height, height))
    )
    where = np.s_[max(top, 0) : min(top + item.height, height), max(left, 0) : min(left + item.width, width)]
    inside = np.s_[max(-top, 0) : height - top, max(-left, 0) : width - left]
    return np.dstack([rgb, alpha])[inside], where, int((alpha >= 0.5).sum())


def _jpeg(rng: np.random.Generator, canvas: Float[np.ndarray, "H W 3"]) -> bytes:
    """Add noise of up to 2 grey levels, blur half of the scenes a little, compress with quality 50 to 88."""
    canvas = canvas + np.float32(rng.uniform(0, 2)) * rng.standard_normal(canvas.shape, np.float32)
    picture = Image.fromarray((canvas.clip(0, 255) + 0.5).astype(np.uint8))
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=int(rng.integers(50, 89)))
    return stream.getvalue()
