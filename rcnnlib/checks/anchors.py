"""Checks of lesson 10: `my_anchors`, `my_inside` and `my_anchor_scales`.

The first two are compared with `rcnnlib.ops.anchors` and `rcnnlib.ops.boxes`, the third with `anchor_scales` below,
which chooses scales from the boxes of a data set.

Shapes:
    A  anchors      N  boxes      h, w  cells      k  anchors of a cell
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.boxes import box_area, is_inside

# --- my_anchors ------------------------------------------------------------------------------------------------------


def make_anchors(
    scales: Sequence[float], ratios: Sequence[float], height: int, width: int, stride: float
) -> Float[Tensor, "A 4"]:
    """Return the anchors of ``height`` x ``width`` cells: row by row, cell by cell, ratio by ratio, scale by scale."""
    return anchor_grid(cell_anchors(scales, ratios), (height, width), stride)


def _base(scales: Sequence[float], ratios: Sequence[float], *, order: str, area: bool, turned: bool) -> Tensor:
    pairs = [(s, r) for r in ratios for s in scales] if order == "ratio" else [(s, r) for s in scales for r in ratios]
    rows = []
    for scale, ratio in pairs:
        width, height = (scale / ratio**0.5, scale * ratio**0.5) if area else (scale, scale * ratio)
        rows.append((height, width) if turned else (width, height))
    half = torch.tensor(rows, dtype=torch.float32).reshape(-1, 2) / 2
    return torch.cat((-half, half), dim=-1)


def _grid(
    *,
    order: str = "ratio",
    area: bool = True,
    turned: bool = False,
    offset: float = 0.5,
    columns_first: bool = False,
    anchors_first: bool = False,
    swapped: bool = False,
) -> Callable[..., Tensor]:
    """Return `make_anchors` with something wrong."""

    def function(scales, ratios, height, width, stride):
        base = _base(scales, ratios, order=order, area=area, turned=turned)
        centres = [((j + offset) * stride, (i + offset) * stride) for i in range(height) for j in range(width)]
        if columns_first:
            centres = [((j + offset) * stride, (i + offset) * stride) for j in range(width) for i in range(height)]
        if swapped:
            centres = [(y, x) for x, y in centres]
        centre = torch.tensor(centres, dtype=torch.float32).repeat(1, 2)
        if anchors_first:
            return (base[:, None] + centre).reshape(-1, 4)
        return (centre[:, None] + base).reshape(-1, 4)

    return function


def _not_centred(scales, ratios, height, width, stride):
    """The anchor's corner put where its centre should be."""
    anchors = make_anchors(scales, ratios, height, width, stride)
    size = anchors[:, 2:] - anchors[:, :2]
    return anchors + size.repeat(1, 2) / 2


def _forgot_stride(scales, ratios, height, width, stride):
    return make_anchors(scales, ratios, height, width, 1.0)


ANCHOR_MISTAKES = (
    Mistake(
        "The centre of cell (i, j) is ((j + 0.5) stride, (i + 0.5) stride). You took its corner.", _grid(offset=0.0)
    ),
    Mistake(
        "A ratio is height / width. You have width / height: your wide anchors should be tall.", _grid(turned=True)
    ),
    Mistake("The ratio must keep the area: width = scale / √ratio and height = scale * √ratio.", _grid(area=False)),
    Mistake(
        "Within a cell the ratio comes first: all scales of the first ratio, then the next ratio.", _grid(order="s")
    ),
    Mistake("Go row by row: the column changes fastest. You went column by column.", _grid(columns_first=True)),
    Mistake(
        "All anchors of a cell stand together. You put all cells of one anchor together.", _grid(anchors_first=True)
    ),
    Mistake("x belongs to the column and y to the row. You have them the other way round.", _grid(swapped=True)),
    Mistake("An anchor reaches half its width to the left of the centre and half to the right.", _not_centred),
    Mistake("Cells are `stride` pixels apart, and anchors are measured in pixels. Multiply by stride.", _forgot_stride),
)

check_anchors = Contract(
    name="my_anchors",
    wanted="a tensor (A, 4): rows x1, y1, x2, y2 in pixels, for h w cells and k anchors each",
    reference=make_anchors,
    cases=(
        Case(
            "one cell of 16 pixels, scale 32, ratio 1",
            ((32.0,), (1.0,), 1, 1, 16),
            "The centre is (8, 8), and the anchor reaches 16 pixels to each side: -8, -8, 24, 24.",
        ),
        Case(
            "one cell, scale 32, ratio 4",
            ((32.0,), (4.0,), 1, 1, 16),
            "Ratio 4: 16 wide and 64 high. The area is still 32 * 32.",
        ),
        Case(
            "one cell, scales 16 and 32, ratios 1 and 4",
            ((16.0, 32.0), (1.0, 4.0), 1, 1, 16),
            "Order: ratio 1 with scale 16, ratio 1 with scale 32, then ratio 4.",
        ),
        Case(
            "two rows and three columns of cells",
            ((32.0,), (1.0,), 2, 3, 16),
            "Six anchors, row by row; the second is 16 pixels further right, the fourth 16 pixels further down.",
        ),
        Case("stride 8", ((20.0,), (1.0,), 2, 2, 8), "The first centre is (4, 4)."),
        Case(
            "nine anchors on 3 x 5 cells",
            ((32.0, 64.0, 128.0), (0.5, 1.0, 2.0), 3, 5, 16),
            "135 rows: 3 rows of cells, 5 columns, 9 anchors.",
        ),
    ),
    mistakes=ANCHOR_MISTAKES,
)

# --- my_inside -------------------------------------------------------------------------------------------------------


def inside(anchors: Float[Tensor, "A 4"], height: float, width: float) -> Bool[Tensor, " A"]:
    """Say which anchors lie wholly in a picture; one that touches the border does."""
    return is_inside(anchors, torch.tensor([float(height), float(width)]))


def _sides(anchors: Tensor, height: float, width: float, *, checks: str, strict: bool = False) -> Tensor:
    x1, y1, x2, y2 = anchors.unbind(-1)
    tests = {
        "l": x1 > 0 if strict else x1 >= 0,
        "t": y1 > 0 if strict else y1 >= 0,
        "r": x2 < width if strict else x2 <= width,
        "b": y2 < height if strict else y2 <= height,
    }
    return torch.stack([tests[check] for check in checks]).all(0)


def _centre_inside(anchors: Tensor, height: float, width: float) -> Tensor:
    x, y = (anchors[:, 0] + anchors[:, 2]) / 2, (anchors[:, 1] + anchors[:, 3]) / 2
    return (x >= 0) & (y >= 0) & (x <= width) & (y <= height)


def _any_side(anchors: Tensor, height: float, width: float) -> Tensor:
    return (anchors[:, 0] < width) & (anchors[:, 1] < height) & (anchors[:, 2] > 0) & (anchors[:, 3] > 0)


INSIDE_MISTAKES = (
    Mistake(
        "x2 is compared with the width, y2 with the height. You have them swapped.",
        lambda anchors, height, width: inside(anchors, width, height),
    ),
    Mistake("An anchor can also leave at the left or at the top.", lambda *a: _sides(*a, checks="rb")),
    Mistake("An anchor can also leave at the right or at the bottom.", lambda *a: _sides(*a, checks="lt")),
    Mistake("An anchor that only touches the border is inside.", lambda *a: _sides(*a, checks="ltrb", strict=True)),
    Mistake("The whole anchor must be inside, not only its centre.", _centre_inside),
    Mistake("You ask which anchors touch the picture at all. Ask which lie wholly in it.", _any_side),
    Mistake("You have the crossing ones. Turn the answer round.", lambda *a: ~inside(*a)),
    Mistake("Give True or False for each anchor, not their number.", lambda *a: inside(*a).sum()),
)


def _rows(*rows: tuple[float, ...]) -> Float[Tensor, "N 4"]:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


check_inside = Contract(
    name="my_inside",
    wanted="a tensor (A,) of True and False",
    reference=inside,
    cases=(
        Case(
            "one anchor inside, two that cross the left border",
            (_rows((5, 5, 20, 20), (-3, 5, 20, 20), (-30, 5, 10, 20)), 50, 100),
            "x1 = -3 and x1 = -30 lie outside.",
        ),
        Case("an anchor that crosses the top", (_rows((5, -1, 20, 20)), 50, 100), "y1 = -1 lies outside."),
        Case(
            "a picture 100 wide and 50 high, anchors that end at x = 80 and at y = 80",
            (_rows((5, 5, 80, 20), (5, 5, 20, 80)), 50, 100),
            "The first is inside, the second is not.",
        ),
        Case("an anchor that crosses at the right", (_rows((90, 5, 104, 20)), 50, 100), "104 is more than 100."),
        Case("an anchor that fills the picture", (_rows((0, 0, 100, 50)), 50, 100), "It touches the border: inside."),
        Case("no anchors at all, a tensor (0, 4)", (_rows(), 50, 100), "Nothing in, nothing out: (0,)."),
        Case(
            "the nine anchors of 4 x 6 cells",
            (make_anchors((16, 32, 64), (0.5, 1.0, 2.0), 4, 6, 16), 64, 96),
            "Most of the large ones cross the border.",
        ),
    ),
    mistakes=INSIDE_MISTAKES,
)

# --- my_anchor_scales ------------------------------------------------------------------------------------------------


def anchor_scales(boxes: Float[Tensor, "N 4"], count: int) -> Float[Tensor, " k"]:
    """Return ``count`` scales for boxes: sort them by side, cut into ``count`` equal groups, take each group's median.

    The side of a box is the root of its area.
    """
    sides = box_area(boxes).sqrt()
    return sides.quantile((torch.arange(count) + 0.5) / count)


def _scales_of(
    measure: Callable[[Tensor], Tensor], places: Callable[[int], Tensor] | None = None
) -> Callable[[Tensor, int], Tensor]:
    places = places or (lambda count: (torch.arange(count) + 0.5) / count)
    return lambda boxes, count: measure(boxes).quantile(places(count))


def _evenly_spread(boxes: Tensor, count: int) -> Tensor:
    sides = box_area(boxes).sqrt()
    return torch.linspace(sides.min().item(), sides.max().item(), count)


SCALE_MISTAKES = (
    Mistake("A scale is a side: take the root of the area.", _scales_of(box_area)),
    Mistake(
        "The side is the root of width times height. You took the width alone.", _scales_of(lambda b: b[:, 2] - b[:, 0])
    ),
    Mistake(
        "The side is the root of width times height. You took their mean.",
        _scales_of(lambda b: (b[:, 2:] - b[:, :2]).mean(1)),
    ),
    Mistake(
        "You spread the scales evenly between smallest and largest. Let the boxes decide: use quantiles.",
        _evenly_spread,
    ),
    Mistake(
        "With the quantiles 0 to 1 the ends are the one smallest and the one largest box. Take middles of groups.",
        _scales_of(lambda b: box_area(b).sqrt(), lambda count: torch.linspace(0, 1, count)),
    ),
    Mistake(
        "Those are the borders between the groups. Take the middle of each group: (i + 0.5) / count.",
        _scales_of(lambda b: box_area(b).sqrt(), lambda count: (torch.arange(count) + 1) / (count + 1)),
    ),
)

_SQUARES = _rows(*((0, 0, side, side) for side in (10, 20, 30, 40, 50, 60, 70, 80, 90)))

check_anchor_scales = Contract(
    name="my_anchor_scales",
    wanted="a tensor (count,): the scales in pixels, the smallest first",
    reference=anchor_scales,
    cases=(
        Case(
            "nine squares with sides 10, 20, ..., 90, and three scales",
            (_SQUARES, 3),
            "The quantiles 1/6, 3/6 and 5/6 of the sides: 23.3333, 50, 76.6667.",
        ),
        Case("one scale", (_SQUARES, 1), "The median of the sides: 50."),
        Case(
            "boxes that are not square",
            (_rows((0, 0, 4, 100), (0, 0, 90, 10), (5, 5, 45, 95)), 1),
            "4 x 100 pixels have the side 20, 90 x 10 have 30.",
        ),
        Case(
            "thirty random boxes and four scales",
            (torch.rand(30, 4, generator=torch.Generator().manual_seed(5)).cumsum(1) * 80, 4),
            "Use `sides.quantile(...)`.",
        ),
    ),
    mistakes=SCALE_MISTAKES,
)
