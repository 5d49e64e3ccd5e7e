"""The slow twin of Selective Search: regions are sets of pixels, and everything is counted again at every step."""

from collections.abc import Iterator

Pixel = tuple[int, int]
MEASURES = ("colour", "texture", "size", "fill")


def pixels_of(labels: list[list[int]]) -> dict[int, set[Pixel]]:
    """Return the pixels (row, column) of every region."""
    regions: dict[int, set[Pixel]] = {}
    for y, row in enumerate(labels):
        for x, region in enumerate(row):
            regions.setdefault(region, set()).add((y, x))
    return regions


def touch(one: set[Pixel], two: set[Pixel]) -> bool:
    """Say whether a pixel of the one lies beside, above or below a pixel of the other."""
    return any((y + dy, x + dx) in two for y, x in one for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))


def box(region: set[Pixel]) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2; the far sides lie behind the last pixel."""
    ys, xs = [y for y, _ in region], [x for _, x in region]
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def histogram(region: set[Pixel], planes: list[list[list[int]]], bins: int) -> list[float]:
    """Count the region's bins plane after plane and divide by all counts."""
    counts = [0] * (len(planes) * bins)
    for p, plane in enumerate(planes):
        for y, x in region:
            counts[p * bins + plane[y][x]] += 1
    return [count / (len(region) * len(planes)) for count in counts]


def intersection(one: list[float], two: list[float]) -> float:
    """Return what two histograms have in common."""
    return sum(min(a, b) for a, b in zip(one, two, strict=True))


def similarity(one: set[Pixel], two: set[Pixel], measures, colour, texture, area: int) -> float:
    """Return the sum of the chosen measures, from the pixels."""
    total = 0.0
    if "colour" in measures:
        total += intersection(histogram(one, colour, 25), histogram(two, colour, 25))
    if "texture" in measures:
        total += intersection(histogram(one, texture, 10), histogram(two, texture, 10))
    if "size" in measures:
        total += 1 - (len(one) + len(two)) / area
    if "fill" in measures:
        x1, y1, x2, y2 = box(one | two)
        total += 1 - ((x2 - x1) * (y2 - y1) - len(one) - len(two)) / area
    return total


def follow(labels, colour, texture, measures, merges) -> Iterator[tuple[dict[tuple[int, int], float], set[Pixel]]]:
    """Walk through a list of merges; before each, yield the similarity of every touching pair, and what it will make.

    The caller says which of the pairs was merged, so that two equally good pairs are no disagreement.
    """
    regions = pixels_of(labels)
    area = len(labels) * len(labels[0])
    new = len(regions)
    for a, b in merges:
        pairs = [(i, j) for i in regions for j in regions if i < j and touch(regions[i], regions[j])]
        yield (
            {(i, j): similarity(regions[i], regions[j], measures, colour, texture, area) for i, j in pairs},
            regions[a] | regions[b],
        )
        regions[new] = regions.pop(a) | regions.pop(b)
        new += 1
    assert len(regions) == 1, "the merges end before one region is left"
