"""Checks of lesson 04: `my_receptive_field`, `my_roi_projection`, `my_pyramid`, and the functions that solve them.

Shapes:
    L  layers      R  regions (boxes)      h, w  rows and columns of a map of one channel      D  bins of all levels
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, max_pool2d

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.roi_ops import project, quantize, spatial_pyramid_pool

# --- my_receptive_field ---------------------------------------------------------------------------------------------


def receptive_field(layers: Sequence[tuple[int, int]]) -> Int[Tensor, " L"]:
    """Return the side of what a cell sees after each layer (kernel, stride), in pixels of the picture.

    A layer adds ``kernel - 1`` steps between neighbours of the map below it; ``jump`` pixels lie between two of them.
    """
    size, jump, sizes = 1, 1, []
    for kernel, stride in layers:
        size += (kernel - 1) * jump
        jump *= stride
        sizes.append(size)
    return torch.tensor(sizes, dtype=torch.int64)


def _field(
    grow: Callable[[int, int, int, int], int], step: Callable[[int, int], int] = int.__mul__, start: int = 1
) -> Callable[[Sequence[tuple[int, int]]], Tensor]:
    """Return a wrong recurrence: ``grow`` says the new size from size, jump, kernel and stride, ``step`` the jump."""

    def wrong(layers: Sequence[tuple[int, int]]) -> Tensor:
        size, jump, sizes = start, 1, []
        for kernel, stride in layers:
            size, jump = grow(size, jump, kernel, stride), step(jump, stride)
            sizes.append(size)
        return torch.tensor(sizes)

    return wrong


def _jumps(layers: Sequence[tuple[int, int]]) -> Tensor:
    return torch.tensor([stride for _, stride in layers]).cumprod(0)


FIELD_MISTAKES = (
    Mistake(
        "The stride of a layer counts from the next layer on. Make the field larger first, then change jump.",
        _field(lambda size, jump, kernel, stride: size + (kernel - 1) * jump * stride),
    ),
    Mistake(
        "After a stride of 2 neighbours lie 2 pixels apart: a step of a kernel is then 2 pixels. Did you forget jump?",
        _field(lambda size, jump, kernel, stride: size + kernel - 1),
    ),
    Mistake(
        "A kernel of 3 reaches 1 to the left and 1 to the right: it adds kernel - 1 steps, not kernel.",
        _field(lambda size, jump, kernel, stride: size + kernel * jump),
    ),
    Mistake(
        "Strides are multiplied: two layers of stride 2 give a jump of 4. With three of them it is 8. Did you add?",
        _field(lambda size, jump, kernel, stride: size + (kernel - 1) * jump, step=int.__add__),
    ),
    Mistake(
        "Strides are multiplied: two layers of stride 2 give a jump of 4. You keep only the stride of the last layer.",
        _field(lambda size, jump, kernel, stride: size + (kernel - 1) * jump, step=lambda _, stride: stride),
    ),
    Mistake(
        "Before the first layer a cell is one pixel: begin with size 1, not 0.",
        _field(lambda size, jump, kernel, stride: size + (kernel - 1) * jump, start=0),
    ),
    Mistake(
        "(size - 1) * stride + kernel is right from the last layer to the first. You went forward.",
        _field(lambda size, jump, kernel, stride: (size - 1) * stride + kernel),
    ),
    Mistake("You multiply the kernels. Each layer adds to the field.", _field(lambda s, j, kernel, _: s * kernel)),
    Mistake("This is jump, the stride of the map. Asked for is the size of the field.", _jumps),
)

_FIELD_HINT = "Write a table with the columns kernel, stride, size, jump, and fill it on paper."

check_receptive_field = Contract(
    name="my_receptive_field",
    wanted="a tensor (L,) of whole numbers: the size of the field after each layer",
    reference=receptive_field,
    cases=tuple(
        Case(what, (layers,), hint)
        for what, layers, hint in (
            ("one layer with kernel 5", [(5, 1)], "It sees 5 pixels."),
            ("two layers with kernel 3, no stride", [(3, 1), (3, 1)], "3 pixels, then one more on each side."),
            ("the toy: kernel 3 and stride 2, then kernel 3", [(3, 2), (3, 1)], "3 pixels, then 2 steps of 2 pixels."),
            (
                "a kernel of 1 with stride 2, then a kernel of 2",
                [(1, 2), (2, 1)],
                "Two pixels, 2 apart: 3 from end to end.",
            ),
            ("three layers with stride 2, then one without", [(3, 2), (3, 2), (3, 2), (3, 1)], _FIELD_HINT),
            ("strides 2, 1, 3 and kernels 7, 3, 4", [(7, 2), (3, 1), (4, 3), (3, 1)], _FIELD_HINT),
        )
    ),
    mistakes=FIELD_MISTAKES,
)


# --- my_roi_projection ----------------------------------------------------------------------------------------------


def roi_projection(boxes: Float[Tensor, "R 4"], stride: float) -> Int[Tensor, "R 4"]:
    """Return first column, first row, last column and last row of the cells of each box, as Fast R-CNN rounds them."""
    return quantize(project(boxes, 1 / stride))


def _outward(boxes: Tensor, stride: float) -> Tensor:
    exact = boxes / stride
    return torch.cat((exact[:, :2].floor(), exact[:, 2:].ceil()), dim=1).long()


def _as_sppnet(boxes: Tensor, stride: float) -> Tensor:
    exact = boxes / stride
    return torch.cat((exact[:, :2].floor() + 1, exact[:, 2:].ceil() - 1), dim=1).long()


def _as_sizes(boxes: Tensor, stride: float) -> Tensor:
    cells = roi_projection(boxes, stride)
    return torch.cat((cells[:, :2], cells[:, 2:] - cells[:, :2] + 1), dim=1)


_LAST = torch.tensor([0, 0, 1, 1])

PROJECTION_MISTAKES = (
    Mistake(
        "round() and torch.round take a half to the EVEN number: 6.5 becomes 6. Fast R-CNN rounds it up, to 7.",
        lambda boxes, stride: (boxes / stride).round().long(),
    ),
    Mistake(
        "You cut the decimals off (int, floor or //). Round to the nearest: 6.9 becomes 7.",
        lambda boxes, stride: (boxes / stride).floor().long(),
    ),
    Mistake("You cut the decimals off (int or trunc). Round to the nearest.", lambda b, stride: (b / stride).long()),
    Mistake("You round outward. Fast R-CNN rounds all four to the nearest.", _outward),
    Mistake("You round inward, as SPPnet did. Fast R-CNN rounds all four to the nearest.", _as_sppnet),
    Mistake("The last cell belongs to the region here: do not take 1 off.", lambda b, s: roi_projection(b, s) - _LAST),
    Mistake("Do not add 1 to the last cell: 80 pixels are 5 cells of 16.", lambda b, s: roi_projection(b, s) + _LAST),
    Mistake(
        "You give rows before columns. The order is that of the boxes: x, y, x, y.",
        lambda boxes, stride: roi_projection(boxes, stride)[:, [1, 0, 3, 2]],
    ),
    Mistake("You multiply by the stride. From pixels to cells you divide.", lambda b, s: quantize(b * s)),
    Mistake("This is the first cell and the number of cells. Asked for are first and last cell.", _as_sizes),
    Mistake(
        "floor(x + 0.5) is right from 0 up. Half AWAY FROM ZERO means that -0.5 becomes -1.",
        lambda boxes, stride: (boxes / stride + 0.5).floor().long(),
    ),
)


def _boxes(*rows: tuple[float, ...]) -> Float[Tensor, "R 4"]:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _random_boxes(count: int, seed: int) -> Float[Tensor, "R 4"]:
    """Return boxes on 640 x 480 pixels with corners at multiples of 4, so that halves occur."""
    random = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 2, 2, generator=random) * torch.tensor([640.0, 480.0])
    return (torch.cat((points.amin(1), points.amax(1)), dim=1) / 4).round() * 4


check_roi_projection = Contract(
    name="my_roi_projection",
    wanted="a tensor (R, 4) of whole numbers: first column, first row, last column, last row",
    reference=roi_projection,
    cases=(
        Case(
            "a box whose corners are multiples of 16",
            (_boxes((32, 48, 80, 160)), 16),
            "Divide by 16; whole numbers by .long().",
        ),
        Case("corners that fall between two cells", (_boxes((102, 60, 219, 197)), 16), "Round to the nearest."),
        Case("an edge at x = 104, exactly between 6 and 7", (_boxes((104, 40, 232, 200)), 16), "A half goes up."),
        Case("a stride of 8", (_boxes((100, 61, 300, 155)), 8), "Use the stride that is given."),
        Case("a box smaller than a cell", (_boxes((33, 33, 38, 38)), 16), "First and last cell are the same."),
        Case("seven random boxes, stride 16", (_random_boxes(7, 1), 16), "Take one corner and compute it by hand."),
        Case("seven random boxes, stride 32", (_random_boxes(7, 2), 32), "Take one corner and compute it by hand."),
        Case(
            "a box that begins 8 pixels outside of the photo",
            (_boxes((-8, -24, 60, 100)), 16),
            "Half away from zero: -0.5 becomes -1, as 0.5 becomes 1.",
        ),
        Case(
            "no boxes at all, a tensor (0, 4)",
            (_boxes(), 16),
            "Nothing in, nothing out: (0, 4). torch.tensor([]) has a float type: add dtype=torch.int64.",
        ),
    ),
    mistakes=PROJECTION_MISTAKES,
)


# --- my_pyramid -----------------------------------------------------------------------------------------------------


def pyramid(features: Float[Tensor, "h w"], levels: Sequence[int]) -> Float[Tensor, " D"]:
    """Return the largest number of each bin of the whole map, level after level, each row by row."""
    high, wide = features.shape
    everything = features.new_tensor([[0, 0, wide - 1, high - 1]])
    return spatial_pyramid_pool(features[None], everything, tuple(levels), spatial_scale=1.0)[0]


def _floored(features: Tensor, levels: Sequence[int]) -> Tensor:
    """Bins that end where they should go on: floor on both sides, no overlap; an empty one gives 0."""
    high, wide = features.shape
    bins = [
        features[y * high // p : (y + 1) * high // p, x * wide // p : (x + 1) * wide // p]
        for p in levels
        for y in range(p)
        for x in range(p)
    ]
    return torch.stack([part.amax() if part.numel() else features.new_zeros(()) for part in bins])


def _windows(features: Tensor, levels: Sequence[int]) -> Tensor:
    """One window size for all bins of a level; what is left over is dropped."""
    high, wide = features.shape
    sizes = [(max(1, high // p), max(1, wide // p)) for p in levels]
    pooled = [max_pool2d(features[None], size)[0, :p, :p] for p, size in zip(levels, sizes, strict=True)]
    return torch.cat([grid.flatten() for grid in pooled])


def _pooled(pool: Callable[..., Tensor], features: Tensor, levels: Sequence[int]) -> Tensor:
    return torch.cat([pool(features[None], p).flatten() for p in levels])


PYRAMID_MISTAKES = (
    Mistake(
        "You took the mean. The pyramid keeps the largest number.", lambda f, p: _pooled(adaptive_avg_pool2d, f, p)
    ),
    Mistake("Round the end of a bin up: a cell that it only touches counts too.", _floored),
    Mistake("Cells at the right or lower border are left out. The bins must reach over the whole map.", _windows),
    Mistake(
        "The levels come in the order in which they are given. Yours are the other way round.",
        lambda features, levels: pyramid(features, list(levels)[::-1]),
    ),
    Mistake(
        "Go row by row: first the bins of the upper row, from left to right. You went down the columns.",
        lambda features, levels: torch.cat([pyramid(features, [p]).view(p, p).T.flatten() for p in levels]),
    ),
    Mistake("This is only the first level. Join all levels.", lambda features, levels: pyramid(features, levels[:1])),
    Mistake("This is only the last level. Join all levels.", lambda features, levels: pyramid(features, levels[-1:])),
    Mistake(
        "A level p has p x p bins, not p.",
        lambda features, levels: torch.cat([adaptive_max_pool2d(features[None], (p, 1)).flatten() for p in levels]),
    ),
)


def _map(rows: int, columns: int, seed: int) -> Float[Tensor, "h w"]:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


_PAPER = torch.tensor([[1.0, 0, 2, 3], [5, 1, 0, 1], [0, 2, 7, 1], [2, 0, 4, 3]])
_BIN = "Bin i of p begins at floor(i L / p) and ends before ceil((i + 1) L / p); L is the number of cells."

check_pyramid = Contract(
    name="my_pyramid",
    wanted="a tensor (D,): one number for each bin, all levels one after the other",
    reference=pyramid,
    cases=(
        Case("the toy, level 1 alone", (_PAPER, (1,)), "One bin: the largest number of the map."),
        Case("the toy, levels 2 and 1", (_PAPER, (2, 1)), "Four corners of 2 x 2 cells, then the whole map."),
        Case("a map of 4 rows and 6 columns, levels 2 and 1", (_map(4, 6, 1), (2, 1)), "A bin is 2 rows by 3 columns."),
        Case("a map of 5 x 5 cells, level 2", (_map(5, 5, 2), (2,)), _BIN),
        Case(
            "fewer cells than bins: 2 x 2 cells, level 3",
            (_map(2, 2, 3), (3,)),
            "Then neighbours share a cell. " + _BIN,
        ),
        Case("a map of 7 rows and 11 columns, levels 6, 3, 2, 1", (_map(7, 11, 4), (6, 3, 2, 1)), _BIN),
    ),
    mistakes=PYRAMID_MISTAKES,
)
