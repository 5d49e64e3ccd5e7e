"""Checks of lesson 05, RoI pooling: `my_bins`, `my_roi_pool`, `my_bilinear`; and the wrong ways to divide a region.

Each contract compares with `rcnnlib.ops.roi_ops`; below the cases stand the mistakes it knows by name. The three rules
of `one_axis` are also what the explorers of the lesson plant as bugs.

Shapes:
    h, w  rows and columns of a map      n  bins of one axis      p, q  rows and columns of bins
A region is (first column, first row, last column, last row), in cells; the last cell belongs to it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.roi_ops import roi_align, roi_pool, roi_pool_bins

CODE, DRAWING, FORGOTTEN = RULES = ("floor, ceil", "floor, floor", "last cell forgotten")
Region = tuple[int, int, int, int]


def one_axis(first: int, last: int, bins: int, limit: int, rule: str = CODE) -> Int[Tensor, "n 2"]:
    """Return start and stop of each bin over the cells first..last of one axis of ``limit`` cells.

    ``rule`` is the library's, or one of two that people write instead: bins that never overlap, and a last cell that
    is taken for the first one outside.
    """
    box = torch.tensor([[0.0, first, 0.0, last - (rule == FORGOTTEN)]])
    start, stop, _, _ = roi_pool_bins(box, (limit, 1), bins, spatial_scale=1.0)
    if rule == DRAWING:
        stop = torch.cat((start[:, 1:], torch.tensor([[min(last + 1, limit)]])), dim=1)
    return torch.stack((start[0], stop[0]), dim=1)


def bin_maxima(
    values: Float[Tensor, "h w"], rows: Int[Tensor, "p 2"], columns: Int[Tensor, "q 2"]
) -> tuple[Float[Tensor, "p q"], Int[Tensor, "p q"]]:
    """Return for each bin its maximum (0 if it is empty), and the number of the first cell that holds it (or -1)."""
    pooled = values.new_zeros(len(rows), len(columns))
    winners = torch.full(pooled.shape, -1)
    for i, (top, bottom) in enumerate(rows.tolist()):
        for j, (left, right) in enumerate(columns.tolist()):
            part = values[top:bottom, left:right]
            if part.numel():
                row, column = divmod(int(part.argmax()), right - left)
                pooled[i, j] = part[row, column]
                winners[i, j] = (top + row) * values.shape[1] + left + column
    return pooled, winners


def bin_corners(rows: Int[Tensor, "p 2"], columns: Int[Tensor, "q 2"]) -> Float[Tensor, "N 4"]:
    """Return all bins as boxes to be drawn, every second one a little smaller: so neighbours that overlap are seen."""

    def edges(ranges: Tensor) -> Tensor:
        inset = torch.where(torch.arange(len(ranges)) % 2 == 1, 0.22, 0.07)
        return ranges + torch.stack((inset, -inset), dim=1) * (ranges[:, 1:] > ranges[:, :1])

    y, x = edges(rows), edges(columns)
    y, x = y.repeat_interleave(len(columns), dim=0), x.repeat(len(rows), 1)
    return torch.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), dim=1)


# --- my_bins --------------------------------------------------------------------------------------------------------


def divide(cells: int, bins: int) -> Int[Tensor, "n 2"]:
    """Return for each bin of one axis its first cell, and the first cell after it."""
    return one_axis(0, cells - 1, bins, cells)


def _edges(start: Callable[[float], float], stop: Callable[[float], float]) -> Callable[[int, int], Tensor]:
    """Return a wrong division: other roundings of the two edges of a bin."""

    def wrong(cells: int, bins: int) -> Tensor:
        return torch.tensor([[start(i * cells / bins), stop((i + 1) * cells / bins)] for i in range(bins)]).long()

    return wrong


def _floor(edge: float) -> int:
    return int(edge // 1)


def _ceil(edge: float) -> int:
    return int(-(-edge // 1))


def _equal(cells: int, bins: int) -> Tensor:
    width = max(cells // bins, 1)
    return torch.tensor([[i * width, (i + 1) * width] for i in range(bins)])


BINS_MISTAKES = (
    Mistake(
        "Both edges are rounded down, so where the division has a remainder a cell is missing or a bin is empty. "
        "Round the end of a bin up.",
        _edges(_floor, _floor),
    ),
    Mistake("Both edges are rounded up. Round the start of a bin down.", _edges(_ceil, _ceil)),
    Mistake("You rounded to the nearest cell. Round the start down and the end up.", _edges(round, round)),
    Mistake("Down and up are mixed up: round the start down, the end up.", _edges(_ceil, _floor)),
    Mistake("`cells // bins` throws the remainder away before you multiply. Multiply first: i * cells / bins.", _equal),
    Mistake(
        "The end is the first cell that does **not** belong to the bin. Did you give the last one that does?",
        lambda cells, bins: divide(cells, bins) - torch.tensor([0, 1]),
    ),
    Mistake("Did you forget the last cell of the RoI?", lambda cells, bins: divide(max(cells - 1, 1), bins)),
    Mistake("Wanted is one row for each bin, (bins, 2). Yours is turned over.", lambda c, n: divide(c, n).T.clone()),
)

_BINS_HINT = "Bin i begins at i * cells / bins, rounded down, and ends at (i + 1) * cells / bins, rounded up."

check_bins = Contract(
    name="my_bins",
    wanted="a tensor (bins, 2) of whole numbers: start and end of each bin",
    reference=divide,
    cases=(
        Case("6 cells into 2 bins", (6, 2), _BINS_HINT),
        Case("7 cells into 2 bins", (7, 2), "3.5 is no cell. Down for the start, up for the end."),
        Case("5 cells into 7 bins", (5, 7), "No bin may be empty, even if there are more bins than cells."),
        Case("1 cell into 7 bins", (1, 7), "All seven bins hold the same cell."),
        *(Case(f"{cells} cells into {bins} bins", (cells, bins), _BINS_HINT) for cells, bins in ((25, 7), (13, 4))),
    ),
    mistakes=BINS_MISTAKES,
)


# --- my_roi_pool ----------------------------------------------------------------------------------------------------


def pool_one(feature_map: Float[Tensor, "h w"], roi: Region, bins: int) -> Float[Tensor, "bins bins"]:
    """Return the maximum of each bin of one region on one map."""
    return roi_pool(feature_map[None], torch.tensor([roi], dtype=torch.float32), bins, spatial_scale=1.0)[0, 0]


def _by_rule(rule: str) -> Callable[[Tensor, Region, int], Tensor]:
    """Return a wrong pooling: the region is divided by another rule."""

    def wrong(feature_map: Tensor, roi: Region, bins: int) -> Tensor:
        (h, w), (left, top, right, bottom) = feature_map.shape, roi
        return bin_maxima(feature_map, one_axis(top, bottom, bins, h, rule), one_axis(left, right, bins, w, rule))[0]

    return wrong


def _from_corner(feature_map: Tensor, roi: Region, bins: int) -> Tensor:
    left, top, right, bottom = roi
    return pool_one(feature_map, (0, 0, right - left, bottom - top), bins)


def _mean(feature_map: Tensor, roi: Region, bins: int) -> Tensor:
    (h, w), (left, top, right, bottom) = feature_map.shape, roi
    columns = one_axis(left, right, bins, w).tolist()
    rows = [[feature_map[a:b, c:d].mean() for c, d in columns] for a, b in one_axis(top, bottom, bins, h).tolist()]
    return torch.tensor(rows)


POOL_MISTAKES = (
    Mistake("The last cell belongs to the RoI. Did you forget + 1?", _by_rule(FORGOTTEN)),
    Mistake("Your bins do not overlap. Round the end of a bin up.", _by_rule(DRAWING)),
    Mistake("You took the mean of a bin. RoI pooling takes the maximum.", _mean),
    Mistake("Bins are counted from the corner of the RoI, not of the map. Add its first row and column.", _from_corner),
    Mistake("Did you pool the whole map? Only the cells of the RoI count.", lambda m, roi, n: _whole(m, n)),
    Mistake(
        "Did you mix up x and y? The RoI is (first column, first row, last column, last row).",
        lambda m, roi, n: pool_one(m, (roi[1], roi[0], roi[3], roi[2]), n),
    ),
    Mistake("Rows and columns of your answer are turned over.", lambda m, roi, n: pool_one(m, roi, n).T.clone()),
    Mistake(
        "The maximum may be negative. Did you begin with 0 and look for something larger?",
        lambda m, roi, n: pool_one(m, roi, n).clamp(min=0),
    ),
)


def _whole(feature_map: Tensor, bins: int) -> Tensor:
    h, w = feature_map.shape
    return pool_one(feature_map, (0, 0, w - 1, h - 1), bins)


def _random_map(rows: int, columns: int, seed: int) -> Float[Tensor, "h w"]:
    """Return a map that is not drawn from the learner's numbers."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


_STAIRS = torch.arange(30.0).view(5, 6)

check_roi_pool = Contract(
    name="my_roi_pool",
    wanted="a tensor (bins, bins)",
    reference=pool_one,
    cases=(
        Case("numbers 0 to 29 on 5 rows, the whole map, 1 bin", (_STAIRS, (0, 0, 5, 4), 1), "The largest is 29."),
        Case("the same map, columns 1 to 4, rows 1 to 2, 2 bins", (_STAIRS, (1, 1, 4, 2), 2), "Draw it on paper."),
        Case("the same map, columns 0 to 4, rows 0 to 2, 2 bins", (_STAIRS, (0, 0, 4, 2), 2), "5 / 2 has a remainder."),
        Case("2 x 1 cells, 3 bins", (_STAIRS, (2, 3, 3, 3), 3), "Bins may share cells, but none may be empty."),
        Case("a map of negative numbers", (-1 - _STAIRS, (0, 1, 5, 4), 2), "A maximum may be negative."),
        Case("a random map, columns 2 to 8, rows 3 to 7", (_random_map(9, 12, 1), (2, 3, 8, 7), 2), ""),
        Case("a random map, columns 1 to 11, rows 0 to 5", (_random_map(9, 12, 2), (1, 0, 11, 5), 7), ""),
    ),
    mistakes=POOL_MISTAKES,
)


# --- my_bilinear ----------------------------------------------------------------------------------------------------


def bilinear(feature_map: Float[Tensor, "h w"], x: float, y: float) -> Float[Tensor, ""]:
    """Return the value of a map between its cells; cell (row i, column j) stands at the point x = j, y = i."""
    point = torch.tensor([[x + 0.5, y + 0.5, x + 0.5, y + 0.5]])  # RoI align with one sample, on a box without size
    return roi_align(feature_map[None], point, 1, spatial_scale=1.0, sampling_ratio=1)[0, 0, 0, 0]


def _at(column: Callable[[float], float], row: Callable[[float], float]) -> Callable[[Tensor, float, float], Tensor]:
    """Return a wrong sample: the point is moved first."""
    return lambda feature_map, x, y: bilinear(feature_map, float(column(x)), float(row(y)))


def _mean_of_four(feature_map: Tensor, x: float, y: float) -> Tensor:
    left, top = _floor(x), _floor(y)
    return feature_map[top : top + 2, left : left + 2].mean()


BILINEAR_MISTAKES = (
    Mistake("You took the nearest cell. Mix the four cells around the point.", _at(round, round)),
    Mistake("You took the upper left cell alone. Mix the four cells around the point.", _at(_floor, _floor)),
    Mistake("The four cells do not count alike: the nearer a cell, the larger its weight.", _mean_of_four),
    Mistake(
        "The weights are mixed up: a point at 0.2 is near to the left cell, so the left cell gets 0.8.",
        _at(lambda x: _floor(x) + 1 - x % 1, lambda y: _floor(y) + 1 - y % 1),
    ),
    Mistake("Did you mix along x only? Do the same along y.", _at(float, _floor)),
    Mistake("Did you mix along y only? Do the same along x.", _at(_floor, float)),
    Mistake(
        "Did you swap x and y? The map is indexed [row, column], that is [y, x].", lambda m, x, y: bilinear(m, y, x)
    ),
)

_SQUARE = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
_MIX = "First mix left and right in the upper row and in the lower row. Then mix the two results."

check_bilinear = Contract(
    name="my_bilinear",
    wanted="a tensor with one number",
    reference=bilinear,
    cases=(
        Case("cells 10 20 / 30 40, the point x = 0, y = 0", (_SQUARE, 0.0, 0.0), "Exactly on a cell: its own value."),
        Case("the same cells, x = 0.25, y = 0", (_SQUARE, 0.25, 0.0), "A quarter of the way from 10 to 20."),
        Case("the same cells, x = 0.25, y = 0.5", (_SQUARE, 0.25, 0.5), _MIX),
        Case("a random map, x = 3.2, y = 1.7", (_random_map(5, 6, 3), 3.2, 1.7), _MIX),
        Case(
            "a random map, the last cell: x = 5, y = 4",
            (_random_map(5, 6, 3), 5.0, 4.0),
            "There is no cell after the last one. Its weight would be 0: use min(left + 1, width - 1).",
        ),
        Case("a random map, x = 0.9, y = 3.4", (_random_map(5, 6, 4), 0.9, 3.4), _MIX),
    ),
    mistakes=BILINEAR_MISTAKES,
)
