"""Slow twins of roi_ops: what the papers say, cell by cell, for one picture. Nothing here is fast or shared."""

import math

import torch
from torch import Tensor


def round_half_away(value: float) -> int:
    """C's ``round``."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def slow_bins(first: int, last: int, bins: int, limit: int) -> list[range]:
    """The cells of every bin of one axis, in whole numbers: floor and ceil of i L / n, cut off at the map."""
    length = max(last - first + 1, 1)
    return [
        range(
            min(max(first + i * length // bins, 0), limit),
            min(max(first - (-(i + 1) * length // bins), 0), limit),
        )
        for i in range(bins)
    ]


def slow_roi_pool(features: Tensor, boxes: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    """The maximum of every bin, loop by loop: (C, h, w), (R, 4) -> (R, C, p, q)."""
    channels, h, w = features.shape
    out = features.new_zeros(len(boxes), channels, *size)
    for r, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (round_half_away(value * scale) for value in box)
        for i, rows in enumerate(slow_bins(y1, y2, size[0], h)):
            for j, columns in enumerate(slow_bins(x1, x2, size[1], w)):
                for c in range(channels):
                    values = [features[c, y, x] for y in rows for x in columns]
                    out[r, c, i, j] = max(values, default=0.0)
    return out


def bilinear(channel: Tensor, y: float, x: float) -> float:
    """One sample of a map (h, w); cell (i, j) lies at (i, j), the border rule is torchvision's."""
    h, w = channel.shape
    if not (-1 <= y <= h and -1 <= x <= w):
        return 0.0
    y, x = min(max(y, 0.0), h - 1.0), min(max(x, 0.0), w - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
    dy, dx = y - top, x - left
    upper = (1 - dx) * channel[top, left] + dx * channel[top, right]
    lower = (1 - dx) * channel[bottom, left] + dx * channel[bottom, right]
    return float((1 - dy) * upper + dy * lower)


def slow_roi_align(features: Tensor, boxes: Tensor, size: tuple[int, int], scale: float, samples: int) -> Tensor:
    """The mean of samples x samples bilinear samples of every bin (aligned): (C, h, w), (R, 4) -> (R, C, p, q)."""
    out = features.new_zeros(len(boxes), len(features), *size)
    for r, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (value * scale - 0.5 for value in box)
        for i in range(size[0]):
            for j in range(size[1]):
                ys = [y1 + (i + (k + 0.5) / samples) * (y2 - y1) / size[0] for k in range(samples)]
                xs = [x1 + (j + (k + 0.5) / samples) * (x2 - x1) / size[1] for k in range(samples)]
                for c, channel in enumerate(features):
                    out[r, c, i, j] = sum(bilinear(channel, y, x) for y in ys for x in xs) / samples**2
    return out


def slow_warp(image: Tensor, box: list[float], size: int, context: int, fill: list[float]) -> Tensor:
    """R-CNN's crop, pixel by pixel: (C, H, W), one box -> (C, size, size)."""
    _, height, width = image.shape
    x1, y1, x2, y2 = box
    out = torch.empty(len(image), size, size, dtype=image.dtype)
    for i in range(size):
        for j in range(size):
            y = y1 + (i + 0.5 - context) * (y2 - y1) / (size - 2 * context)
            x = x1 + (j + 0.5 - context) * (x2 - x1) / (size - 2 * context)
            inside = 0 <= y <= height and 0 <= x <= width
            for c, channel in enumerate(image):
                out[c, i, j] = bilinear(channel, y - 0.5, x - 0.5) if inside else fill[c]
    return out
