"""From a file on disk to a batch: read, resize, flip, cut into tiles, pad, collate.

One sample is an ``Example``. Every transform is a pure function of it that moves picture, boxes, ignored regions and
proposals together, and keeps account of the way back to the photo. A picture keeps its aspect ratio; a batch is padded
right and bottom, so padding never moves a box.

It leaves out any hidden random state: the caller says which picture is flipped, and brings the numbers for its colours.

Shapes:
    G  ground-truth boxes    I  ignored regions    P  proposals found beforehand    H, W  height and width in pixels
    T  tiles                 N  random numbers
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from rcnnlib.ops.boxes import box_area, box_intersection, clip_boxes
from rcnnlib.types import Batch

STRIDE = 16  # the trunks shrink a picture 16 times, so both sides of a batch are multiples of it

# Enough for one number an anchor and one a proposal at the largest course setting: 512 x 512 pixels have
# 32 * 32 * 9 = 9216 anchors, and some 2000 proposals.
NOISE_LENGTH = 16384


class Example(NamedTuple):
    """One picture with its boxes, not yet in a batch."""

    image: Float[Tensor, "3 H W"]  # RGB in [0, 1]
    boxes: Float[Tensor, "G 4"]  # pixels of ``image``
    labels: Int[Tensor, " G"]  # 1..K
    ignore: Float[Tensor, "I 4"]  # regions that count neither as right nor as wrong
    id: int
    scale: Float[Tensor, " 2"]  # pixels of ``image`` per pixel of the photo, along x and along y
    offset: Float[Tensor, " 2"]  # where the upper left corner of ``image`` lies in the photo, x and y; 0 but for tiles
    proposals: Float[Tensor, "P 4"]  # regions found beforehand, best first; mostly none


def make_example(
    image: Float[Tensor, "3 H W"], boxes: Sequence, labels: Sequence[int], ignore: Sequence, *, id: int
) -> Example:
    """Return an untouched photo as an ``Example``; boxes and ignored regions are lists of four numbers, or empty."""
    return Example(
        image=image,
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        ignore=torch.tensor(ignore, dtype=torch.float32).reshape(-1, 4),
        id=id,
        scale=torch.ones(2),
        offset=torch.zeros(2),
        proposals=torch.zeros(0, 4),
    )


def read_image(path: str | Path) -> Float[Tensor, "3 H W"]:
    """Read a picture as RGB in [0, 1], upright as its EXIF note says; grey is repeated, transparent becomes white.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short or not a picture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no picture at {path}: check the name, or fetch the file again")
    try:
        with Image.open(path) as file:
            pixels = _to_rgb(ImageOps.exif_transpose(file))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} is cut short or not a picture ({reason}): fetch or save the file again") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().div_(255)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Return height x width x 3 float32 values from 0 to 255."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255 instead of scaling it
        return np.repeat(np.asarray(image, np.float32)[..., None] / 257, 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), np.float32)


def resize(example: Example, longer_side: int = 320) -> Example:
    """Scale a picture so that its longer side has ``longer_side`` pixels, keeping its aspect ratio.

    Bilinear and antialiased: a plain bilinear look-up would skip pixels when it shrinks. The shorter side is rounded to
    whole pixels, so the two axes may differ a little in scale; boxes follow each its own.
    """
    height, width = example.image.shape[-2:]
    ratio = longer_side / max(height, width)
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    if size == (height, width):
        return example
    image = functional.interpolate(example.image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    factor = torch.tensor([size[1] / width, size[0] / height])  # x, y
    return example._replace(
        image=image,
        boxes=example.boxes * factor.repeat(2),
        ignore=example.ignore * factor.repeat(2),
        proposals=example.proposals * factor.repeat(2),
        scale=example.scale * factor,
    )


def to_photo(boxes: Float[Tensor, "N 4"], example: Example) -> Float[Tensor, "N 4"]:
    """Return boxes on ``example.image`` in pixels of the photo it was made from; a flip is not undone.

    ``Detections.to_original`` does the same for a batch of whole photos. A batch knows nothing of tiles: for them
    ``to_original`` gives pixels of the unscaled tile, and adding ``example.offset`` gives those of the photo.
    """
    return boxes / example.scale.repeat(2) + example.offset.repeat(2)


def flip(example: Example) -> Example:
    """Mirror a picture left to right, for training: x becomes W - x, so x1 and x2 change places."""
    width = example.image.shape[-1]

    def mirrored(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
        x1, y1, x2, y2 = boxes.unbind(-1)
        return torch.stack((width - x2, y1, width - x1, y2), dim=-1)

    return example._replace(
        image=example.image.flip(-1),
        boxes=mirrored(example.boxes),
        ignore=mirrored(example.ignore),
        proposals=mirrored(example.proposals),
    )


def recolour(example: Example, draws: Float[Tensor, " 6"]) -> Example:
    """Change the light of a picture, for training: saturation, contrast, brightness and the strength of each colour.

    ``draws`` are uniform in [0, 1). Saturation falls to 20 % at the least, contrast and brightness change by up to
    40 %, each colour by up to 15 %.
    """
    saturation, contrast, brightness = 0.2 + 0.8 * draws[0], 0.6 + 0.8 * draws[1], 0.6 + 0.8 * draws[2]
    grey = example.image.mean(dim=0, keepdim=True)
    image = grey + saturation * (example.image - grey)
    image = image.mean() + contrast * (image - image.mean())
    gain = brightness * (0.85 + 0.3 * draws[3:]).view(3, 1, 1)
    return example._replace(image=(image * gain).clamp(0, 1))


def crop_tile(example: Example, window: tuple[int, int, int, int]) -> Example:
    """Cut out ``window`` = (x1, y1, x2, y2), whole pixels of the image, as a view without copying.

    A box keeps its part inside if that is at least half of its area; of less no detector could tell what it is, so the
    place is ignored. Ignored regions keep whatever part is inside.

    Raises:
        ValueError: the window is empty or reaches outside the picture.
    """
    x1, y1, x2, y2 = window
    height, width = example.image.shape[-2:]
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise ValueError(f"window must be (x1, y1, x2, y2) inside the picture of {width} x {height}, got {window}")
    corner, size = torch.tensor([x1, y1, x1, y1]), torch.tensor([float(y2 - y1), float(x2 - x1)])
    boxes = clip_boxes(example.boxes - corner, size)
    ignore = clip_boxes(example.ignore - corner, size)
    proposals = clip_boxes(example.proposals - corner, size)
    some = box_area(boxes) > 0
    kept = some & (box_area(boxes) >= 0.5 * box_area(example.boxes))
    return example._replace(
        image=example.image[:, y1:y2, x1:x2],
        boxes=boxes[kept],
        labels=example.labels[kept],
        ignore=torch.cat((ignore[box_area(ignore) > 0], boxes[some & ~kept])),
        proposals=proposals[box_area(proposals) > 0],
        offset=example.offset + corner[:2] / example.scale,
    )


def tiles(example: Example, size: int = 320, *, overlap: int = 0, count_once: bool = False) -> list[Example]:
    """Cut a picture into as few tiles of ``size`` x ``size`` as cover it, evenly spread, row by row.

    Neighbours share at least ``overlap`` pixels, in general more: all tiles have full size (unless the picture itself
    is smaller), and 400 pixels need two tiles of 320. Tiles keep the id of their photo.

    ``count_once`` is for evaluation: an object stays a box only in the tile that holds most of it, and is ignored in
    the others. In training an object may well be learned from two tiles.

    Raises:
        ValueError: ``overlap`` is negative or not smaller than ``size``.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"overlap must be at least 0 and less than the tile size {size}, got {overlap}")
    height, width = example.image.shape[-2:]
    windows = [
        (x, y, min(x + size, width), min(y + size, height))
        for y in _starts(height, size, overlap)
        for x in _starts(width, size, overlap)
    ]
    if not count_once:
        return [crop_tile(example, window) for window in windows]
    shared = box_intersection(torch.tensor(windows, dtype=torch.float32), example.boxes)  # (T, G)
    home = shared.argmax(dim=0)
    return [crop_tile(_ignore_others(example, home == tile), window) for tile, window in enumerate(windows)]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Return where the tiles along one axis begin."""
    if length <= size:
        return [0]
    count = math.ceil((length - overlap) / (size - overlap))
    return [round(tile * (length - size) / (count - 1)) for tile in range(count)]


def _ignore_others(example: Example, chosen: Shaped[Tensor, " G"]) -> Example:
    """Keep the chosen boxes and ignore the places of all others."""
    return example._replace(
        boxes=example.boxes[chosen],
        labels=example.labels[chosen],
        ignore=torch.cat((example.ignore, example.boxes[~chosen])),
    )


def pad(image: Float[Tensor, "3 H W"], at_least: tuple[int, int] = (0, 0)) -> Float[Tensor, "3 H2 W2"]:
    """Add zeros right and bottom until height and width are multiples of 16 and no less than ``at_least``."""
    height, width = (
        math.ceil(max(have, wanted) / STRIDE) * STRIDE for have, wanted in zip(image.shape[-2:], at_least, strict=True)
    )
    return functional.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))


def uniform_noise(length: int, *, seed: int, epoch: int, id: int) -> Float[Tensor, " N"]:
    """Draw ``length`` numbers, uniform in [0, 1), that depend on (seed, epoch, id) and on nothing else.

    Philox is a counter turned into random bits: it has no state to carry along, so the same picture gets the same
    numbers in any order, in any process, and after a restart (Salmon et al. 2011, "Parallel random numbers: as easy as
    1, 2, 3"). Seed and epoch are its key; the id is the highest word of its counter, 2^192 blocks away from the next.
    """
    if seed < 0 or epoch < 0 or id < 0:
        raise ValueError(f"seed, epoch and image id must not be negative, got {seed}, {epoch} and {id}")
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=np.array([0, 0, 0, id], np.uint64))
    return torch.from_numpy(np.random.Generator(generator).random(length, np.float32))


def collate(examples: Sequence[Example], *, seed: int, epoch: int, noise_length: int = NOISE_LENGTH) -> Batch:
    """Put pictures of any sizes into one ``Batch``; for a loader: ``partial(collate, seed=0, epoch=3)``.

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("a batch needs at least one example, got an empty list")
    sizes = torch.tensor([example.image.shape[-2:] for example in examples], dtype=torch.float32)
    largest = (max(e.image.shape[-2] for e in examples), max(e.image.shape[-1] for e in examples))
    return Batch(
        images=torch.stack([pad(example.image, at_least=largest) for example in examples]),
        sizes=sizes,
        scales=torch.stack([example.scale for example in examples]),
        boxes=_stack_rows([example.boxes for example in examples]),
        labels=_stack_rows([example.labels for example in examples]),
        ignore=_stack_rows([example.ignore for example in examples]),
        noise=torch.stack([uniform_noise(noise_length, seed=seed, epoch=epoch, id=e.id) for e in examples]),
        ids=torch.tensor([example.id for example in examples]),
        proposals=_stack_rows([example.proposals for example in examples]),
    )


def _stack_rows(rows: list[Tensor]) -> Tensor:
    """Stack tables of unequal length, filled up with zero rows to the longest, and to at least one row."""
    longest = max(1, *(len(table) for table in rows))
    stacked = rows[0].new_zeros(len(rows), longest, *rows[0].shape[1:])
    for place, table in zip(stacked, rows, strict=True):
        place[: len(table)] = table
    return stacked
