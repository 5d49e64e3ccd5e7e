"""Boxes: formats, areas, overlap, the border of the picture.

A box is ``(x1, y1, x2, y2)`` in continuous pixels: its width is ``x2 - x1``, without the ``+ 1`` of the first R-CNN
codes. Rotated boxes and the other overlaps (GIoU, DIoU) are left out: none of the four papers uses them.

Shapes: ``*B`` leading batch dimensions (none for a single picture), N and M boxes.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FORMATS = ("xyxy", "xywh", "cxcywh")


def box_convert(boxes: Float[Tensor, "*B N 4"], in_fmt: str, out_fmt: str) -> Float[Tensor, "*B N 4"]:
    """Write boxes in another format.

    ``xyxy`` two corners, ``xywh`` left upper corner and size (COCO), ``cxcywh`` centre and size (the regressors).

    Raises:
        ValueError: a format is not one of these three.
    """
    for name in (in_fmt, out_fmt):
        if name not in FORMATS:
            raise ValueError(f"box format {name!r} is unknown; use one of {', '.join(FORMATS)}")
    if in_fmt == out_fmt:
        return boxes
    a, b, c, d = boxes.unbind(-1)
    if in_fmt == "xywh":
        a, b, c, d = a, b, a + c, b + d
    elif in_fmt == "cxcywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    if out_fmt == "xywh":
        a, b, c, d = a, b, c - a, d - b
    elif out_fmt == "cxcywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    return torch.stack((a, b, c, d), dim=-1)


def box_area(boxes: Float[Tensor, "*B N 4"]) -> Float[Tensor, "*B N"]:
    """Return width times height, in square pixels; an inside-out box (x2 < x1) has area 0."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def box_intersection(boxes1: Float[Tensor, "*B N 4"], boxes2: Float[Tensor, "*B M 4"]) -> Float[Tensor, "*B N M"]:
    """Return the area that each of N boxes shares with each of M boxes, in square pixels."""
    x1, y1, x2, y2 = boxes1.mT.unsqueeze(-1).unbind(-3)  # (*B, N, 1) each
    # A contiguous copy by coordinate lets the inner loop over M use SIMD; writing in place saves half of the memory.
    left, top, right, bottom = boxes2.mT.contiguous().unsqueeze(-2).unbind(-3)  # (*B, 1, M) each
    width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
    height = torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0)
    return width.mul_(height)


def box_iou(boxes1: Float[Tensor, "*B N 4"], boxes2: Float[Tensor, "*B M 4"]) -> Float[Tensor, "*B N M"]:
    """Return the intersection over union of every pair: 0 apart, 1 equal.

    The overlap of two empty boxes is 0 (torchvision gives NaN), so padded rows need no special case.
    """
    shared = box_intersection(boxes1, boxes2)
    union = (box_area(boxes1).unsqueeze(-1) + box_area(boxes2).unsqueeze(-2)).sub_(shared)
    return shared.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def covered_fraction(boxes: Float[Tensor, "*B N 4"], regions: Float[Tensor, "*B M 4"]) -> Float[Tensor, "*B N"]:
    """Return how much of each box, 0 to 1, lies in the region that covers most of it (for ignored regions)."""
    if regions.shape[-2] == 0:
        return boxes.new_zeros(boxes.shape[:-1])
    area = box_area(boxes).clamp(min=torch.finfo(boxes.dtype).tiny)
    return box_intersection(boxes, regions).amax(dim=-1) / area


def clip_boxes(boxes: Float[Tensor, "*B N 4"], sizes: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B N 4"]:
    """Cut boxes off at the border of their picture; ``sizes`` holds height and width in pixels."""
    height, width = sizes.unsqueeze(-2).unbind(-1)  # (*B, 1)
    limit = torch.stack((width, height, width, height), dim=-1)
    return torch.minimum(boxes.clamp(min=0), limit)


def is_inside(boxes: Float[Tensor, "*B N 4"], sizes: Float[Tensor, "*B 2"]) -> Bool[Tensor, "*B N"]:
    """Say which boxes do not cross the border (Faster R-CNN 3.3); ``sizes`` holds height and width in pixels."""
    height, width = sizes.unsqueeze(-2).unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)


def is_large(boxes: Float[Tensor, "*B N 4"], min_size: float) -> Bool[Tensor, "*B N"]:
    """Say which boxes have both sides at least ``min_size`` pixels long."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= min_size).all(dim=-1)
