"""Anchors: the reference boxes of the RPN, the same k at every cell (Faster R-CNN 3.1.1).

A scale is the side of a square anchor in pixels; a ratio is height over width and keeps the area. Anchors have no
weights. Left out: several feature levels (FPN came later), and rounding to whole pixels, which torchvision does.

Shapes: k anchors a cell, h x w cells, A = h w k anchors.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def cell_anchors(
    scales: Sequence[float] = (128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "k 4"]:
    """Return the k = len(ratios) * len(scales) anchors of a cell, centred on (0, 0), ratio-major.

    w = scale / sqrt(ratio) and h = scale * sqrt(ratio), so that w h = scale² and h / w = ratio.

    Raises:
        ValueError: a scale or ratio is not positive, or there is none.
    """
    for name, values in (("scales", scales), ("ratios", ratios)):
        if len(values) == 0 or min(values) <= 0:
            raise ValueError(f"{name} must be positive numbers, at least one; got {tuple(values)}")
    scale = torch.tensor(scales, device=device, dtype=dtype)
    root = torch.tensor(ratios, device=device, dtype=dtype).sqrt()[:, None]  # (ratios, 1)
    half = torch.stack((scale / root, scale * root), dim=-1).reshape(-1, 2) / 2  # (ratios, scales, 2) -> (k, 2)
    return torch.cat((-half, half), dim=-1)


def anchor_grid(
    base: Float[Tensor, "k 4"], feature_size: tuple[int, int], stride: float, *, offset: float = 0.5
) -> Float[Tensor, "A 4"]:
    """Place the anchors of a cell on each of h x w cells, in pixels; order (row, column, anchor).

    The centre of cell (i, j) is ((j + offset) stride, (i + offset) stride); ``offset=0`` is torchvision's corner.
    """
    height, width = feature_size
    x = (torch.arange(width, device=base.device, dtype=base.dtype) + offset) * stride
    y = (torch.arange(height, device=base.device, dtype=base.dtype) + offset) * stride
    centres = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)  # (h, w, 2): x, y
    return (centres.repeat(1, 1, 2)[:, :, None] + base).reshape(-1, 4)  # (h, w, 1, 4) + (k, 4) -> (h w k, 4)
