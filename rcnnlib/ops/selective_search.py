"""Selective Search: propose the boxes that may hold an object, without learning anything (R-CNN 2.1, Fast R-CNN 2.3).

Uijlings et al., Selective Search for Object Recognition, IJCV 2013. A graph segmentation (Felzenszwalb 2004, from
scikit-image) cuts the picture into small regions; the two most similar neighbours are merged until one region is left
(3.1, algorithm 1); the box of every region met on the way is a proposal. Several colour spaces, scales and similarities
make the proposals diverse (3.2). ``selective_search`` is the paper's fast mode, which R-CNN used.

Grouping is greedy, each merge changes the next: so this module, unlike the rest of ``ops``, is sequential work for one
picture on the CPU, in numpy. A GPU cannot help; that is why Faster R-CNN learns its proposals. Left out: the paper's
quality mode, and R-CNN's resizing of every picture to a width of 500. Changed: the paper segments with k = 50 and 100;
on the course's pictures 100 and 300 give half as many boxes and find as many objects (OpenCV: 150, 300, 450).

Shapes:
    H, W  picture            n  regions of the segmentation      M = n - 1  merges      R = n + M  regions in all
    E  pairs of neighbours   P  planes that are counted (3 for colour, 24 for texture)  C  bins in all
Region ids are 0..n-1 for the segmentation; merge number m (from 0) makes region n + m.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

COLOUR_BINS, TEXTURE_BINS = 25, 10  # 3.2, "complementary similarity measures"
FAST_SCALES, FAST_MIN_SIZE = (100, 300), 100  # k for values 0..255; pixels. The paper: k = 50, 100, see the header
SRGB_TO_XYZ = (0.433953, 0.376219, 0.189828), (0.212671, 0.715160, 0.072169), (0.017758, 0.109477, 0.872766)
FAST_MEASURES = (("colour", "texture", "size", "fill"), ("texture", "size", "fill"))
Ids = int | Int[np.ndarray, "..."]  # one region, or many at once
Scores = float | Float[np.ndarray, "..."]


class Regions(NamedTuple):
    """What the similarities need to know of each region, and which regions touch."""

    sizes: Float[np.ndarray, " R"]  # pixels
    boxes: Float[np.ndarray, "R 4"]
    colour: Float[np.ndarray, "R 75"]  # 3 channels x 25 bins; each row sums to 1
    texture: Float[np.ndarray, "R 240"]  # 3 channels x 8 directions x 10 bins; each row sums to 1
    area: float  # of the picture, pixels
    pairs: Int[np.ndarray, "E 2"]  # neighbours in the segmentation, smaller id first


class Hierarchy(NamedTuple):
    """The tree of regions: merge m joins regions ``merges[m]`` into region n + m."""

    boxes: Float[Tensor, "R 4"]  # first the n regions of the segmentation, then one a merge
    merges: Int[Tensor, "M 2"]
    similarity: Float[Tensor, " M"]  # of the two that were merged


def to_hsv(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Turn RGB into hue, saturation, value, each in [0, 1]; grey has hue 0."""
    value, top = image.max(dim=0)
    spread = value - image.amin(dim=0)
    safe = torch.where(spread > 0, spread, 1)
    red, green, blue = image
    sector = torch.stack(((green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe))
    hue = (sector.gather(0, top[None])[0] / 6) % 1
    return torch.stack((hue, spread / torch.where(value > 0, value, 1), value))


def to_lab(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Turn sRGB into CIE L*a*b* (white D65), scaled into [0, 1]: L / 100, (a + 128) / 255, (b + 128) / 255."""
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    xyz = torch.tensordot(image.new_tensor(SRGB_TO_XYZ), linear, dims=1)  # white is (1, 1, 1)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    lab = torch.stack(((116 * y - 16) / 100, (500 * (x - y) + 128) / 255, (200 * (y - z) + 128) / 255))
    return lab.clamp(0, 1)


def segment(image: Float[Tensor, "3 H W"], *, scale: float, sigma: float = 0.8, min_size: int) -> Int[Tensor, "H W"]:
    """Cut a picture into small, even regions by Felzenszwalb's graph segmentation; return region ids from 0.

    Two regions are joined while the step between them is not larger than the steps inside them plus scale / size; so a
    larger ``scale`` (the paper's k, for values 0..255) gives larger regions. A Gaussian of width ``sigma`` smooths the
    picture first; regions of fewer than ``min_size`` pixels are joined to a neighbour at the end. The picture may be in
    any colour space scaled to [0, 1]; else a ValueError. Source: ``skimage.segmentation.felzenszwalb``.
    """
    from skimage.segmentation import felzenszwalb  # only proposals need it, and it loads slowly

    _check_image(image)
    pixels = image.detach().permute(1, 2, 0).cpu().numpy()  # (3, H, W) -> (H, W, 3)
    labels = felzenszwalb(pixels, scale=scale, sigma=sigma, min_size=min_size)
    return torch.as_tensor(labels, device=image.device)


def colour_planes(image: Float[Tensor, "3 H W"]) -> UInt8[Tensor, "3 H W"]:
    """Return the bin, 0..24, of every value."""
    return (image * COLOUR_BINS).clamp_(max=COLOUR_BINS - 1).byte()


def texture_planes(image: Float[Tensor, "3 H W"]) -> UInt8[Tensor, "24 H W"]:
    """Return the bin, 0..9, of the slope at every pixel: 8 directions a channel, Gaussian derivatives with sigma 1.

    A direction counts climbs only; a descent is a climb in the opposite direction. The scale of each channel and
    direction ends at the steepest climb in the picture.
    """
    steps = torch.arange(-3, 4, dtype=image.dtype, device=image.device)
    smooth = torch.softmax(-(steps**2) / 2, dim=0)[None, None, None]  # (1, 1, 1, 7)
    slope = smooth * steps
    padded = functional.pad(image[:, None], (3, 3, 3, 3), mode="replicate")  # (3, 1, H + 6, W + 6)
    along_x = functional.conv2d(functional.conv2d(padded, slope), smooth.mT)  # (3, 1, H, W)
    along_y = functional.conv2d(functional.conv2d(padded, smooth), slope.mT)
    diagonal = 0.5**0.5  # cosine and sine of 45 degrees
    half = torch.cat((along_x, diagonal * (along_x + along_y), along_y, diagonal * (along_y - along_x)), dim=1)
    climb = torch.cat((half, -half), dim=1).clamp_(min=0).flatten(0, 1)  # (24, H, W), steps of 45 degrees
    steepest = climb.flatten(1).amax(dim=1).clamp(min=1e-6)[:, None, None]
    return climb.mul_(TEXTURE_BINS / steepest).clamp_(max=TEXTURE_BINS - 1).byte()


def histograms(labels: Int[Tensor, "H W"], planes: UInt8[Tensor, "P H W"], bins: int) -> Float[np.ndarray, "n C"]:
    """Count each region's bins in every plane: (n, C = P x bins), each row divided by its sum."""
    count = int(labels.max()) + 1
    first = (labels * bins).flatten()  # where the counts of a pixel's region begin
    counts = torch.stack([torch.bincount(first + plane.flatten(), minlength=count * bins) for plane in planes])
    rows = counts.view(-1, count, bins).transpose(0, 1).flatten(1).double()  # (P, n, bins) -> (n, P x bins)
    return (rows / rows.sum(dim=1, keepdim=True)).cpu().numpy()


def region_boxes(labels: Int[Tensor, "H W"]) -> Float[np.ndarray, "n 4"]:
    """Return the tightest box around each region; the right edge of the last pixel is its column + 1."""
    ids, sides = labels.cpu().numpy(), {}
    for axis, pixel in zip("yx", np.indices(ids.shape, sparse=True), strict=True):
        touched = np.zeros((ids.max() + 1, pixel.size), dtype=bool)  # which rows or columns a region touches
        touched[ids, pixel] = True
        sides[axis] = touched.argmax(axis=1), pixel.size - touched[:, ::-1].argmax(axis=1)
    return np.stack((sides["x"][0], sides["y"][0], sides["x"][1], sides["y"][1]), axis=1).astype(np.float64)


def neighbour_pairs(labels: Int[Tensor, "H W"]) -> Int[np.ndarray, "E 2"]:
    """Return the pairs of regions that share the edge of a pixel, smaller id first, sorted."""
    ids, count = labels.cpu().numpy(), int(labels.max()) + 1
    sides = ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:]))
    codes = [(np.minimum(a, b) * count + np.maximum(a, b))[a != b] for a, b in sides]
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), count), axis=1)


def describe_regions(
    labels: Int[Tensor, "H W"], colour: UInt8[Tensor, "3 H W"], texture: UInt8[Tensor, "24 H W"]
) -> Regions:
    """Measure each region; planes: ``colour_planes``, ``texture_planes``. A ValueError if an id has no pixel."""
    sizes = torch.bincount(labels.flatten().clamp(min=0))
    if labels.numel() == 0 or labels.min() < 0 or sizes.min() == 0:
        raise ValueError("labels must use every id from 0 up; mend them with labels.unique(return_inverse=True)[1]")
    return Regions(
        sizes=sizes.double().cpu().numpy(),
        boxes=region_boxes(labels),
        colour=histograms(labels, colour, COLOUR_BINS),
        texture=histograms(labels, texture, TEXTURE_BINS),
        area=float(labels.numel()),
        pairs=neighbour_pairs(labels),
    )


def colour_similarity(regions: Regions, a: Ids, b: Ids) -> Scores:
    """Return how much of the two colour histograms coincides: sum over bins of min(c_a, c_b), eq. 1."""
    return np.minimum(regions.colour[a], regions.colour[b]).sum(axis=-1)


def texture_similarity(regions: Regions, a: Ids, b: Ids) -> Scores:
    """Return how much of the two texture histograms coincides: sum over bins of min(t_a, t_b), eq. 3."""
    return np.minimum(regions.texture[a], regions.texture[b]).sum(axis=-1)


def size_similarity(regions: Regions, a: Ids, b: Ids) -> Scores:
    """Return 1 - (size_a + size_b) / area: small regions merge first, so all parts of the picture grow alike, eq. 4."""
    return 1 - (regions.sizes[a] + regions.sizes[b]) / regions.area


def fill_similarity(regions: Regions, a: Ids, b: Ids) -> Scores:
    """Return 1 - (area of the common box - size_a - size_b) / area: regions that fit into each other, eq. 5."""
    left_top = np.minimum(regions.boxes[a, :2], regions.boxes[b, :2])
    width_height = np.maximum(regions.boxes[a, 2:], regions.boxes[b, 2:]) - left_top
    return 1 - (width_height.prod(axis=-1) - regions.sizes[a] - regions.sizes[b]) / regions.area


MEASURES = dict(colour=colour_similarity, texture=texture_similarity, size=size_similarity, fill=fill_similarity)


def similarity(regions: Regions, a: Ids, b: Ids, measures: Sequence[str] = tuple(MEASURES)) -> Scores:
    """Return the sum of the chosen measures, each in [0, 1], eq. 6; a ValueError if one is unknown or none is named."""
    if not measures or not set(measures) <= MEASURES.keys():
        raise ValueError(f"measures must name at least one of {', '.join(MEASURES)}; got {measures!r}")
    return sum(MEASURES[name](regions, a, b) for name in measures)


def merge_histograms(histogram_a, histogram_b, size_a, size_b):
    """Return the histogram of two regions together without looking at a pixel: the mean weighted by size, eq. 2."""
    return (size_a * histogram_a + size_b * histogram_b) / (size_a + size_b)


def merge_regions(regions: Regions, a: int, b: int, new: int) -> None:
    """Write into row ``new`` what regions ``a`` and ``b`` are together."""
    for rows in (regions.colour, regions.texture):
        rows[new] = merge_histograms(rows[a], rows[b], regions.sizes[a], regions.sizes[b])
    regions.sizes[new] = regions.sizes[a] + regions.sizes[b]
    regions.boxes[new, :2] = np.minimum(regions.boxes[a, :2], regions.boxes[b, :2])
    regions.boxes[new, 2:] = np.maximum(regions.boxes[a, 2:], regions.boxes[b, 2:])


def hierarchical_grouping(regions: Regions, *, measures: Sequence[str] = tuple(MEASURES)) -> Hierarchy:
    """Merge the two most similar neighbours until one region is left (3.1, algorithm 1); ties: smallest ids first."""
    count = len(regions.sizes)
    neighbours: dict[int, set[int]] = {region: set() for region in range(count)}  # of the regions that still stand
    for a, b in np.concatenate((regions.pairs, regions.pairs[:, ::-1])).tolist():
        neighbours[a].add(b)
    rows = [np.concatenate((values, np.zeros_like(values[1:]))) for values in regions[:4]]  # room for n - 1 merges
    regions = Regions(*rows, area=regions.area, pairs=regions.pairs)
    queue = _compare(regions, regions.pairs[:, 0], regions.pairs[:, 1], measures)
    heapq.heapify(queue)
    merges, scores = [], []
    for new in range(count, 2 * count - 1):
        score, a, b = heapq.heappop(queue)
        while a not in neighbours or b not in neighbours:  # one of them was merged after this pair was compared
            score, a, b = heapq.heappop(queue)
        merges.append((a, b))
        scores.append(-score)
        merge_regions(regions, a, b, new)
        neighbours[new] = (neighbours.pop(a) | neighbours.pop(b)) - {a, b}
        for other in neighbours[new]:
            neighbours[other] = neighbours[other] - {a, b} | {new}
        for entry in _compare(regions, np.fromiter(neighbours[new], dtype=np.int64), new, measures):
            heapq.heappush(queue, entry)
    tree = torch.tensor(merges, dtype=torch.int64).view(-1, 2)
    return Hierarchy(torch.from_numpy(regions.boxes).float(), tree, torch.tensor(scores, dtype=torch.float32))


def _compare(regions: Regions, a: Int[np.ndarray, " Q"], b: Ids, measures: Sequence[str]) -> list:
    """Return (-similarity, a, b) of each pair: the smallest of these is the most similar pair."""
    scores = np.asarray(similarity(regions, a, b, measures))
    return list(zip((-scores).tolist(), a.tolist(), np.broadcast_to(b, a.shape).tolist(), strict=True))


def regions_after(hierarchy: Hierarchy, labels: Int[Tensor, "H W"], merges: int) -> Int[Tensor, "H W"]:
    """Return the id of every pixel's region after that many merges; a ValueError if there are not so many."""
    total = len(hierarchy.merges)
    if not 0 <= merges <= total:
        raise ValueError(f"merges must be from 0 to {total}, the merges of this hierarchy; got {merges}")
    count = len(hierarchy.boxes) - total
    now = list(range(count + merges))
    for step, (a, b) in reversed(list(enumerate(hierarchy.merges[:merges].tolist()))):
        now[a] = now[b] = now[count + step]  # from the last merge back, so what a and b became is final
    return torch.tensor(now, device=labels.device)[labels]


def selective_search(
    image: Float[Tensor, "3 H W"], *, min_side: float = 10, noise: Float[Tensor, " S"] | None = None
) -> Float[Tensor, "N 4"]:
    """Propose boxes in the paper's fast mode: 2 colour spaces x 2 scales x 2 sums of measures.

    Args:
        image: RGB in [0, 1]; else a ValueError.
        min_side: boxes of smaller width or height are dropped (R-CNN: 20 in pictures 500 wide).
        noise: uniform numbers in [0, 1), at least one for each region of all eight trees, else a ValueError. A region's
            rank is its place, counted from the whole picture, times its number (3.3); None leaves the number out.

    Returns:
        Boxes in pixels, each once, best rank first; how many depends on the picture.
    """
    _check_image(image)
    trees = []
    for convert in (to_hsv, to_lab):
        converted = convert(image)
        colour, texture = colour_planes(converted), texture_planes(converted)
        for scale in FAST_SCALES:
            regions = describe_regions(segment(converted, scale=scale, min_size=FAST_MIN_SIZE), colour, texture)
            trees += [hierarchical_grouping(regions, measures=measures) for measures in FAST_MEASURES]
    boxes = rank_boxes(trees, noise)
    return boxes[(boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= min_side].to(image)


def rank_boxes(trees: Sequence[Hierarchy], noise: Float[Tensor, " S"] | None = None) -> Float[Tensor, "N 4"]:
    """Mix the boxes of several trees, large regions first, and keep each box once (3.3); see ``selective_search``."""
    boxes = torch.cat([tree.boxes.flip(0) for tree in trees])  # the last merge, the whole picture, first
    rank = torch.cat([torch.arange(1, len(tree.boxes) + 1) for tree in trees])
    if noise is not None:
        if len(noise) < len(rank):
            raise ValueError(f"noise must have at least {len(rank)} numbers for this picture; got {len(noise)}")
        rank = rank * noise[: len(rank)].cpu()
    boxes = boxes[rank.argsort(stable=True)].numpy()
    _, first = np.unique(boxes, axis=0, return_index=True)
    return torch.from_numpy(boxes[np.sort(first)])


def _check_image(image: Tensor) -> None:
    """Raise a ValueError unless the image is (3, H, W), floating, not empty, and in [0, 1]."""
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0 or not image.is_floating_point():
        raise ValueError(f"image must be a float tensor (3, H, W) with pixels; got {image.dtype} {tuple(image.shape)}")
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"image must lie in [0, 1], without NaN; got {low:.4g} to {high:.4g}; divide bytes by 255")
