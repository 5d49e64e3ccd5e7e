"""Shapes: circles, squares and triangles on noise, drawn at run time; boxes exact to the pixel, no file needed.

For unit tests and for training in seconds. It leaves out what makes real pictures hard: texture, light, variety.
Everything follows from (seed, index), so picture 7 is the same picture today, tomorrow and in another process.

Shapes:
    s  side of a shape in pixels    H, W  height and width of the picture (equal here)
"""

import numpy as np
import torch
from jaxtyping import Bool, Float

from rcnnlib.datasets.transforms import Example, make_example

CLASS_NAMES = ("circle", "square", "triangle")


class Shapes:
    """A data set of ``length`` pictures of ``size`` x ``size`` pixels with 0 to ``most`` shapes each.

    One picture in ``most + 1``, about, is empty. A shape that would hide another is left out, so a picture may hold
    fewer than were drawn by lot. Use another ``seed`` for validation: the picture with this index is another one.
    """

    class_names = CLASS_NAMES

    def __init__(self, length: int, *, size: int = 96, most: int = 4, seed: int = 0):
        if length < 0 or most < 0 or seed < 0:
            raise ValueError(f"length, most and seed must not be negative, got {length}, {most} and {seed}")
        if size < 32:
            raise ValueError(f"size must be at least 32 pixels, so that shapes can be told apart, got {size}")
        self.length, self.size, self.most, self.seed = length, size, most, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.length:  # also what ends a ``for`` loop over the data set
            raise IndexError(f"index must be 0 to {self.length - 1}, got {index}")
        random = np.random.default_rng((self.seed, index))
        ground = random.uniform(0.3, 0.7, 3)
        image = np.broadcast_to(ground, (self.size, self.size, 3)).copy()
        boxes, labels = [], []
        for _ in range(random.integers(self.most + 1)):
            box, label, colour = self._next_shape(random, ground)
            if any(_hides(box, other) for other in boxes):
                continue
            x1, y1, x2, y2 = box
            image[y1:y2, x1:x2][shape_mask(label, x2 - x1)] = colour
            boxes.append(box)
            labels.append(label)
        image += 0.06 * random.standard_normal(image.shape, np.float32)
        pixels = torch.from_numpy(image.clip(0, 1).astype(np.float32)).permute(2, 0, 1).contiguous()
        return make_example(pixels, boxes, labels, [], id=index)

    def _next_shape(
        self, random: np.random.Generator, ground: Float[np.ndarray, " 3"]
    ) -> tuple[tuple[int, int, int, int], int, Float[np.ndarray, " 3"]]:
        """Draw by lot where the next shape lies (whole pixels), its label and its colour."""
        side = int(random.integers(self.size // 6, self.size // 2 + 1))
        x, y = (int(value) for value in random.integers(0, self.size - side + 1, 2))
        # Every channel differs from the ground by 0.3 or more, far above the noise of 0.06.
        colour = ground + random.choice((-1, 1), 3) * random.uniform(0.3, 0.45, 3)
        return (x, y, x + side, y + side), int(random.integers(1, len(CLASS_NAMES) + 1)), colour


def shape_mask(label: int, side: int) -> Bool[np.ndarray, "s s"]:
    """Return which pixels of its box a shape covers; it touches all four sides, so the box is exact."""
    row, column = np.mgrid[:side, :side] + 0.5  # centres of the pixels
    across = np.abs(column - side / 2)
    if label == 1:
        return across**2 + (row - side / 2) ** 2 <= (side / 2) ** 2
    if label == 2:
        return np.ones((side, side), bool)
    return across <= (row + 0.5) / 2  # apex up; measured at the lower edge of the row, or the first row would be empty


def _hides(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    """Say whether two boxes share more than 30 % of the smaller one."""
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    return width * height > 0.3 * min(one[2] - one[0], other[2] - other[0]) ** 2
