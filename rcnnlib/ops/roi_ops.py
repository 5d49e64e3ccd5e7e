"""From a region of the picture to a grid of fixed size: projection, RoI max pooling, RoI align, pyramid, R-CNN's warp.

R-CNN (appendix A) warps the pixels of a region; SPPnet (3.1) and Fast R-CNN (2.1) pool its cells on a feature map that
all regions share; Mask R-CNN (3) samples the map between the cells. Left out: gradients for the boxes, rotated regions,
and torchvision's adaptive ``sampling_ratio=-1``.

Shapes:
    *B       leading batch dimensions (none for a single picture); inside, n is all of them in one
    R        regions (boxes)                       C, h, w  channels, rows and columns of the feature map
    p, q     rows and columns of bins              H, W     height and width of the picture, pixels
    S, T     the same of a crop
"""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

ROW_BYTES = 128  # roi_pool treats so many channels at a time: their windows stay in the cache, and memory stays small
NUMBER_BITS = 2**29 - 1  # the binary digits that a float64 has beyond those of a float32
Bins = tuple[Int[Tensor, "*B R p"], Int[Tensor, "*B R p"], Int[Tensor, "*B R q"], Int[Tensor, "*B R q"]]
MEAN_COLOUR = (0.485, 0.458, 0.408)  # of ImageNet, RGB in [0, 1]


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a size that may be one number."""
    return (size, size) if isinstance(size, int) else size


def _flatten_batch(maps: Shaped[Tensor, "*B C h w"], boxes: Float[Tensor, "*B R 4"]) -> tuple[Tensor, Tensor]:
    """Return maps (n C h w) and boxes (n R 4) with all leading dimensions in one; without any, n is 1."""
    lead = maps.shape[:-3]
    if boxes.shape[:-2] != lead or boxes.shape[-1] != 4:
        wanted, got = (*lead, "R", 4), tuple(boxes.shape)
        raise ValueError(f"boxes must be {wanted} beside maps {tuple(maps.shape)}, got {got}; add the batch dimension")
    n = math.prod(lead)
    return maps.reshape(n, *maps.shape[-3:]), boxes.reshape(n, *boxes.shape[-2:])


def project(boxes: Float[Tensor, "*B R 4"], spatial_scale: float) -> Float[Tensor, "*B R 4"]:
    """Map boxes from pixels to cells of the feature map, exactly; ``spatial_scale`` is 1 / stride, 1/16 for VGG."""
    return boxes * spatial_scale


def quantize(boxes: Float[Tensor, "*B R 4"]) -> Int[Tensor, "*B R 4"]:
    """Round projected boxes to their first and last cell, half away from zero, as Fast R-CNN does.

    The last cell belongs to the region: a box from 0 to 6 holds seven cells.
    """
    return (boxes.trunc() + (2 * boxes.frac()).trunc()).long()  # torch.round takes halves to the even number


def _divide(first: Int[Tensor, "*B R"], last: Int[Tensor, "*B R"], bins: int, limit: int, dtype: torch.dtype):
    """Divide the cells first..last of one axis into ``bins`` ranges [start, stop), cut off at 0 and ``limit``."""
    cells = (last - first + 1).clamp(min=1)  # an inside-out region counts as one cell
    # A tensor as divisor: a GPU multiplies by the rounded 1 / bins where the divisor is a number.
    step = cells.to(dtype) / torch.full((), bins, dtype=dtype, device=cells.device)
    edges = step.unsqueeze(-1) * torch.arange(bins + 1, dtype=dtype, device=cells.device)
    start, stop = edges[..., :-1].floor().long(), edges[..., 1:].ceil().long()
    return (first.unsqueeze(-1) + start).clamp(0, limit), (first.unsqueeze(-1) + stop).clamp(0, limit)


def roi_pool_bins(
    boxes: Float[Tensor, "*B R 4"],
    map_size: tuple[int, int],
    output_size: int | tuple[int, int],
    *,
    spatial_scale: float,
) -> Bins:
    """Return the cells of each bin of ``roi_pool``: rows [y_start, y_stop), columns [x_start, x_stop).

    Bin i of n over L cells is [floor(i L / n), ceil((i + 1) L / n)): where n does not divide L, neighbours overlap.
    A bin outside the map (``map_size`` = rows, columns of cells) is empty: start equals stop.
    """
    (p, q), (h, w) = _pair(output_size), map_size
    x_first, y_first, x_last, y_last = quantize(project(boxes, spatial_scale)).unbind(-1)
    return *_divide(y_first, y_last, p, h, boxes.dtype), *_divide(x_first, x_last, q, w, boxes.dtype)


def roi_pool(
    features: Float[Tensor, "*B C h w"],
    boxes: Float[Tensor, "*B R 4"],
    output_size: int | tuple[int, int] = 7,
    *,
    spatial_scale: float,
) -> Float[Tensor, "*B R C p q"]:
    """Return the maximum of each bin of each region (Fast R-CNN 2.1); an empty bin gives 0.

    Boxes are in pixels, ``features`` finite. Values are torchvision's bit for bit, gradients are but for the
    order of summation; and where several cells of a bin hold its maximum, another of them may receive the gradient.
    """
    p, q = _pair(output_size)
    maps, regions = _flatten_batch(features, boxes)
    h, w = maps.shape[-2:]
    bins = roi_pool_bins(regions, (h, w), (p, q), spatial_scale=spatial_scale)
    if features.requires_grad and torch.is_grad_enabled():
        with torch.no_grad():  # which cell wins each bin? In an empty bin it is number 0, a zero put before the others
            winners = _bin_maxima(_number(maps), bins).view(torch.int64).bitwise_and_(NUMBER_BITS)
        pooled = F.pad(maps.flatten(), (1, 0)).index_select(0, winners.flatten())
    else:
        pooled = _bin_maxima(maps, bins)
    return pooled.view(*boxes.shape[:-1], maps.shape[1], p, q)


def _bin_maxima(maps: Float[Tensor, "n C h w"], bins: Bins) -> Float[Tensor, "n R C p*q"]:
    """Return the maximum of each bin by four look-ups, however many cells it has; 0 where it has none.

    The maxima of all windows of 1, 2, 4, ... by 1, 2, 4, ... cells stand in a table. A bin 6 cells wide is two windows
    of 4 that overlap, which does a maximum no harm. Two windows across and two down make four.
    """
    n, channels, h, w = maps.shape
    rows, regions, grid = _table_rows(bins, h, w), bins[0].shape[1], bins[0].shape[2] * bins[2].shape[2]
    step = min(ROW_BYTES // maps.element_size(), channels)
    table = maps.new_empty(h.bit_length() * w.bit_length() * n * h * w + 1, step)  # a row: a window, or the empty bin
    table[-1] = 0
    windows = table[:-1].view(h.bit_length(), w.bit_length(), n, h, w, step)
    unions = _unions(windows)
    maxima = maps.new_empty(n, regions, channels, grid)
    best, rival = maps.new_empty(2, n * regions * grid, step)
    for start in range(0, channels, step):
        part = slice(min(start, channels - step), min(start, channels - step) + step)
        windows[0, 0] = maps[:, part].permute(0, 2, 3, 1)
        for one, other, both in unions:
            torch.maximum(one, other, out=both)
        torch.index_select(table, 0, rows[0], out=best)
        for row in rows[1:]:
            torch.maximum(best, torch.index_select(table, 0, row, out=rival), out=best)
        maxima[:, :, part] = best.view(n, regions, grid, step).transpose(2, 3)
    return maxima


def _unions(windows: Shaped[Tensor, "i j n h w C"]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """List which entries of the table are the union of which two, in the order in which they can be computed.

    Entry [i, j, :, y, x] is for the window of 2^i x 2^j cells that begins at (y, x). A window that would leave the map
    is not computed and never read.
    """
    unions = []
    for i, j in itertools.product(range(windows.shape[0]), range(windows.shape[1])):
        height, width = windows.shape[3] - 2**i + 1, windows.shape[4] - 2**j + 1  # how many windows fit
        if j > 0:  # left and right half
            half = windows[i, j - 1, :, :height]
            one, other = half[:, :, :width], half[:, :, 2 ** (j - 1) :][:, :, :width]
        elif i > 0:  # upper and lower half
            one, other = windows[i - 1, 0, :, :height], windows[i - 1, 0, :, 2 ** (i - 1) :][:, :height]
        else:
            continue
        unions.append((one, other, windows[i, j, :, :height, :width]))
    return unions


def _cover(start: Tensor, stop: Tensor, limit: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Cover each range by two windows of 2^level cells, one at its start, one at its end: levels, where they begin."""
    level = torch.frexp((stop - start).clamp(min=1).float()).exponent.long() - 1  # floor(log2(length))
    return level, (start.clamp(max=limit - 1), (stop - 2**level).clamp(min=0))


def _table_rows(bins: Bins, h: int, w: int) -> list[Int[Tensor, " N"]]:
    """Return for all N bins the rows of the four windows that cover them; an empty bin gets the last row."""
    y_start, y_stop, x_start, x_stop = bins
    y_level, y_windows = _cover(y_start, y_stop, h)
    x_level, x_windows = _cover(x_start, x_stop, w)
    n = len(y_start)
    image = torch.arange(n, device=y_start.device).view(n, 1, 1)
    down = [((y_level * w.bit_length() * n + image) * h + y) * w for y in y_windows]
    across = [x_level * n * h * w + x for x in x_windows]
    empty = (y_start == y_stop).unsqueeze(-1) | (x_start == x_stop).unsqueeze(-2)
    last = h.bit_length() * w.bit_length() * n * h * w
    return [(y.unsqueeze(-1) + x.unsqueeze(-2)).masked_fill(empty, last).flatten() for y in down for x in across]


def _number(maps: Float[Tensor, "n C h w"]) -> Float[Tensor, "n C h w"]:
    """Write the number of each cell, from 1, into its value, so that a maximum also says where it was.

    A float64 has 29 binary digits more than a float32: they hold the number, and the order of the values stays.
    """
    if maps.dtype == torch.float64:  # no digits to spare: the rank takes the place of the value
        maps = maps.flatten(2).argsort(-1).argsort(-1).view_as(maps)
    number = torch.arange(1, maps.numel() + 1, device=maps.device).view_as(maps)
    return number.bitwise_or_(maps.double().view(torch.int64)).view(torch.float64)


def roi_align(
    features: Float[Tensor, "*B C h w"],
    boxes: Float[Tensor, "*B R 4"],
    output_size: int | tuple[int, int] = 7,
    *,
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Float[Tensor, "*B R C p q"]:
    """Return the mean of ``sampling_ratio`` x ``sampling_ratio`` samples of each bin, without rounding (Mask R-CNN 3).

    Boxes are in pixels. A sample is bilinear between four cells; more than one cell outside the map it is 0.
    ``aligned=False`` is the first version: half a cell off, and regions of at least one cell. Equal to torchvision's up
    to rounding; its ``sampling_ratio=-1`` is left out, since there the number of samples depends on the boxes.
    """
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio must be a number of samples from 1 up, got {sampling_ratio}; 2 is usual")
    (p, q), (maps, regions) = _pair(output_size), _flatten_batch(features, boxes)
    x1, y1, x2, y2 = (project(regions, spatial_scale) - (0.5 if aligned else 0.0)).unbind(-1)
    least = -torch.inf if aligned else 1.0
    y, y_weight = _sample_axis(y1, (y2 - y1).clamp(min=least), p, sampling_ratio, maps.shape[2])
    x, x_weight = _sample_axis(x1, (x2 - x1).clamp(min=least), q, sampling_ratio, maps.shape[3])
    weights = y_weight[..., :, None, :, None] * x_weight[..., None, :, None, :]  # n R p q 4 4
    sums = _weighted_sums(maps, y[..., :, None, :, None], x[..., None, :, None, :], weights.detach().to(maps.dtype))
    return sums.view(*boxes.shape[:-1], p, q, maps.shape[1]).movedim(-1, -3)


def _weighted_sums(maps: Float[Tensor, "n C h w"], y: Tensor, x: Tensor, weights: Tensor) -> Float[Tensor, "N C"]:
    """Return for each of N bins the weighted sum of its cells: 16, for 2 samples between 2 cells on each axis.

    So each bin is a bag of an embedding bag whose vocabulary are the cells: one pass over whole rows of channels, where
    torchvision visits every channel for itself.
    """
    _, channels, h, w = maps.shape
    image = torch.arange(len(maps), device=maps.device).view(-1, 1, 1, 1, 1, 1)
    cells = (image * h + y) * w + x
    vocabulary = maps.permute(0, 2, 3, 1).contiguous().view(-1, channels)  # strided rows would be ten times slower
    bags, weights = (table.flatten(0, 3).flatten(1) for table in (cells, weights))
    return F.embedding_bag(bags, vocabulary, mode="sum", per_sample_weights=weights)


def _sample_axis(first: Float[Tensor, "n R"], length: Float[Tensor, "n R"], bins: int, samples: int, limit: int):
    """Return for one axis the cells each bin is a weighted sum of, two for each sample, and the weights."""
    step = (length / bins)[..., None, None]
    bin_number = torch.arange(bins, dtype=first.dtype, device=first.device).view(-1, 1)
    part = torch.arange(samples, dtype=first.dtype, device=first.device) + 0.5
    at = first[..., None, None] + bin_number * step + part * step / samples  # n R bins samples
    weight = ((at >= -1) & (at <= limit)).to(first.dtype) / samples  # farther out a sample counts as 0 ...
    at = at.clamp(0, limit - 1)  # ... and at the border as the outermost cell
    low = at.floor()
    share = at - low
    cells = torch.stack((low, (low + 1).clamp(max=limit - 1)), dim=-1)
    weights = torch.stack(((1 - share) * weight, share * weight), dim=-1)
    return cells.flatten(-2).long(), weights.flatten(-2)


def spatial_pyramid_pool(
    features: Float[Tensor, "*B C h w"],
    boxes: Float[Tensor, "*B R 4"],
    levels: tuple[int, ...] = (6, 3, 2, 1),
    *,
    spatial_scale: float,
) -> Float[Tensor, "*B R D"]:
    """Pool every region into grids of several sizes and join them to one vector (SPPnet 3.1; its 50 bins by default).

    D is C times the number of all bins; grids follow each other as in ``levels``. RoI pooling is a single level of it.
    """
    return torch.cat([roi_pool(features, boxes, p, spatial_scale=spatial_scale).flatten(-3) for p in levels], dim=-1)


def warp(
    images: Float[Tensor, "*B C H W"],
    boxes: Float[Tensor, "*B R 4"],
    size: int | tuple[int, int] = 224,
    *,
    context: int = 16,
    sizes: Float[Tensor, "*B 2"] | None = None,
    fill: tuple[float, ...] = MEAN_COLOUR,
) -> Float[Tensor, "*B R C S T"]:
    """Cut every region out and stretch it to one size, whatever its shape (R-CNN, appendix A, "warp").

    ``context`` pixels on each side of the crop show the surroundings, to the same scale. What lies outside the picture
    gets the colour ``fill``; ``sizes`` (height, width) tells pictures from padding. Pixels of the crop are bilinear at
    their centres, with no blur before shrinking, as in the authors' code.
    """
    (s, t), (pictures, regions) = _pair(size), _flatten_batch(images, boxes)
    channels, height, width = pictures.shape[1:]
    if len(fill) != channels:
        raise ValueError(f"fill must have one number for each of the {channels} channels, got {len(fill)}")
    bottom, right = (height, width) if sizes is None else sizes.reshape(len(pictures), 2, 1, 1).unbind(1)
    y, above = _crop_axis(regions[..., 1::2], s, context, height, bottom)
    x, beside = _crop_axis(regions[..., 0::2], t, context, width, right)
    # All regions of a picture are one tall grid of R * S rows: no loop, and the picture is not copied for each.
    grid = torch.stack(torch.broadcast_tensors(x.unsqueeze(-2), y.unsqueeze(-1)), dim=-1).flatten(1, 2)
    crops = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False).unflatten(2, (-1, s))
    for channel, value in enumerate(fill):
        crops[:, channel].masked_fill_(above.unsqueeze(-1) | beside.unsqueeze(-2), value)
    return crops.transpose(1, 2).reshape(*boxes.shape[:-1], channels, s, t)


def _crop_axis(sides: Float[Tensor, "n R 2"], size: int, context: int, length: int, end: int | Tensor):
    """Return where the pixel centres of a crop lie on one axis, from -1 to 1 over ``length``, and which are outside.

    The box fills the crop but for ``context`` on both sides; the picture reaches from 0 to ``end`` <= ``length``.
    """
    if size <= 2 * context:
        raise ValueError(
            f"size must be more than twice the context, or no room is left for the box; got {size}, {context}"
        )
    first, last = sides.unsqueeze(-1).unbind(-2)
    centres = torch.arange(size, dtype=sides.dtype, device=sides.device) + 0.5 - context
    at = first + centres * (last - first) / (size - 2 * context)
    outside = (at < 0) | (at > end)
    return 2 * at.clamp(max=end - 0.5) / length - 1, outside  # the last centre: padding must not shine in
