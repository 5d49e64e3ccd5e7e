"""Fresh scenes of Scrapbook for training: a new picture for every step, and cut-outs that never look the same twice.

``compose`` pastes; here each cut-out is first varied in shape and colour, because eight vehicles are too few to learn
what a vehicle is. Everything follows from (seed, epoch, index), so an interrupted run continues with the same pictures.
Leaves out: anything that a cut-out cannot show, such as another side of the animal.

Shapes: H, W  height and width of a cut-out
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageEnhance

from rcnnlib.datasets.compose import Cutout, Parts, compose, load_parts
from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.transforms import Example, make_example

STRETCH = 1.3  # a cut-out becomes up to this much wider or narrower
SHEAR = 0.2  # and leans by up to this much: pixels sideways per pixel down
GREY = 0.15  # share of cut-outs without colour
HUE = 24  # of 256: how far colours turn at the most


class FreshScenes:
    """``length`` scenes an epoch; ``at(epoch, index)`` is always the same one.

    ``vary=False`` pastes the cut-outs as they are, as in the stored scenes.
    """

    def __init__(self, split: str = "train", *, length: int = 600, seed: int = 0, vary: bool = True):
        self.parts = load_parts(data_dir() / "scrapbook", split)
        self.class_names = ("bird", "mammal", "food", "tool", "vehicle")
        self.length, self.seed, self.vary = length, seed, vary

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.length:  # also what ends a ``for`` loop over the data set
            raise IndexError(f"index must be 0 to {self.length - 1}, got {index}")
        return self.at(0, index)

    def at(self, epoch: int, index: int) -> Example:
        """Make the scene with this number in this epoch; its id is ``index``."""
        rng = np.random.default_rng((self.seed, epoch, index))
        parts = Parts(choose(rng, self.parts.cutouts), self.parts.backgrounds) if self.vary else self.parts
        scene = compose(rng, parts)
        image = torch.tensor(scene.image()).permute(2, 0, 1) / 255
        return make_example(image, scene.boxes.tolist(), scene.labels.tolist(), [], id=index)


def choose(rng: np.random.Generator, cutouts: Sequence[Cutout]) -> list[Cutout]:
    """Draw one cut-out of each class and vary it; to vary all of them would take a second."""
    chosen = []
    for label in sorted({cutout.label for cutout in cutouts}):
        same = [cutout for cutout in cutouts if cutout.label == label]
        cutout = same[rng.integers(len(same))]
        chosen.append(cutout._replace(rgba=vary(rng, cutout.rgba)))
    return chosen


def vary(rng: np.random.Generator, rgba: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H2 W2 4"]:
    """Stretch and shear a cut-out, turn its hue, change its saturation and contrast; now and then make it grey."""
    alpha, rgb = Image.fromarray(rgba[..., 3]), Image.fromarray(rgba[..., :3])
    if rng.random() < GREY:
        rgb = rgb.convert("L").convert("RGB")
    else:
        hue, saturation, value = rgb.convert("HSV").split()
        turn = round(rng.uniform(-HUE, HUE))
        rgb = Image.merge("HSV", (hue.point(lambda x: (x + turn) % 256), saturation, value)).convert("RGB")
        rgb = ImageEnhance.Color(rgb).enhance(rng.uniform(0.5, 1.4))
    rgb = ImageEnhance.Contrast(rgb).enhance(rng.uniform(0.75, 1.25))
    rgb.putalpha(alpha)
    height, width = rgba.shape[:2]
    lean = rng.uniform(-SHEAR, SHEAR)
    wide = width * np.exp(rng.uniform(-1, 1) * np.log(STRETCH))
    size = (max(1, round(wide + abs(lean) * height)), height)
    # Output (x, y) comes from input ((x - shift - lean y) width / wide, y).
    shift = max(0.0, -lean) * height
    row = (width / wide, -lean * width / wide, -shift * width / wide)
    return np.asarray(rgb.transform(size, Image.Transform.AFFINE, (*row, 0, 1, 0), Image.Resampling.BILINEAR))
