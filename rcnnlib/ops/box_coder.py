"""Box regression: the four numbers that turn one box into another (R-CNN appendix C; Faster R-CNN eq. 2).

    tx = (x - xa) / wa      ty = (y - ya) / ha      tw = log(w / wa)      th = log(h / ha)

with (x, y) the centre and w, h the size of the box, and a for the anchor or proposal that it starts from.
Each is divided by its ``std``: 0.1, 0.1, 0.2, 0.2 in the heads of Fast and Faster R-CNN, 1 in the RPN.

Shapes: ``*B`` leading batch dimensions, N boxes.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

HEAD_STD = (0.1, 0.1, 0.2, 0.2)  # about the spread of the deltas of RoIs with IoU >= 0.5: it makes them unit size
RPN_STD = (1.0, 1.0, 1.0, 1.0)
MAX_LOG_SCALE = math.log(1000 / 16)  # a box grows at most 62.5 times; without a limit exp overflows early in training
MIN_SIDE = 1e-3  # pixels; the zero boxes of padded rows would give log(0)

Std = tuple[float, float, float, float]


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    w, h = x2 - x1, y2 - y1
    return x1 + w / 2, y1 + h / 2, w, h


def encode(
    boxes: Float[Tensor, "*B N 4"], anchors: Float[Tensor, "*A N 4"], *, std: Std = RPN_STD
) -> Float[Tensor, "*B N 4"]:
    """Return the deltas (tx, ty, tw, th) that lead from ``anchors`` to ``boxes``, row by row.

    ``anchors`` may lack the batch dimensions of ``boxes``. Empty boxes give finite deltas.
    """
    x, y, w, h = _centre_and_size(boxes)
    xa, ya, wa, ha = _centre_and_size(anchors)
    w, h, wa, ha = (side.clamp_(min=MIN_SIDE) for side in (w, h, wa, ha))  # in place: these are our own
    tx = (x - xa) / (wa * std[0])
    ty = (y - ya) / (ha * std[1])
    tw = torch.log(w / wa).div_(std[2])
    th = torch.log(h / ha).div_(std[3])
    return torch.stack((tx, ty, tw, th), dim=-1)


def decode(
    deltas: Float[Tensor, "*B N 4"], anchors: Float[Tensor, "*A N 4"], *, std: Std = RPN_STD
) -> Float[Tensor, "*B N 4"]:
    """Apply deltas to ``anchors``, row by row: the inverse of :func:`encode`. tw and th stop at log(1000 / 16)."""
    tx, ty, tw, th = deltas.unbind(-1)
    xa, ya, wa, ha = _centre_and_size(anchors)
    x = tx * (wa * std[0]) + xa
    y = ty * (ha * std[1]) + ya
    half_w = torch.exp((tw * std[2]).clamp(max=MAX_LOG_SCALE)) * (wa / 2)
    half_h = torch.exp((th * std[3]).clamp(max=MAX_LOG_SCALE)) * (ha / 2)
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), dim=-1)
