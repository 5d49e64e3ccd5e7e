"""Selective Search against arithmetic on paper, a twin that recounts every pixel, and scikit-image's colours."""

from functools import cache
from inspect import unwrap
from itertools import combinations

import numpy as np
import oracles_selective_search as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnnlib.ops import selective_search as ss
from rcnnlib.ops.boxes import box_iou

ALL = ("colour", "texture", "size", "fill")


def describe(labels, image):
    return ss.describe_regions(labels, ss.colour_planes(image), ss.texture_planes(image))


def random_labels(generator, height, width, count):
    """Cut a picture into the cells around random points (connected or not), numbered without gaps."""
    points = torch.rand(count, 2, generator=generator) * torch.tensor([height, width])
    pixels = torch.cartesian_prod(torch.arange(height), torch.arange(width)) + 0.5
    nearest = torch.cdist(pixels, points, p=1).argmin(dim=1)
    return nearest.unique(return_inverse=True)[1].view(height, width)


def random_case(seed, height=11, width=13, count=9):
    generator = torch.Generator().manual_seed(seed)
    labels = random_labels(generator, height, width, count)
    shade = torch.rand(3, count, generator=generator)[:, labels]
    return labels, (0.7 * shade + 0.3 * torch.rand(3, height, width, generator=generator))


@cache
def discs(height=120, width=160):
    """Three plain discs on a ramp with a little noise, and the boxes around them."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = (0.3 + 0.2 * x / width).repeat(3, 1, 1)
    boxes = []
    for cx, cy, r, colour in (
        (40, 40, 25, (0.9, 0.1, 0.1)),
        (110, 50, 30, (0.1, 0.8, 0.2)),
        (70, 95, 18, (0.1, 0.2, 0.9)),
    ):
        image = torch.where((x - cx) ** 2 + (y - cy) ** 2 < r**2, torch.tensor(colour)[:, None, None], image)
        boxes.append([cx - r, cy - r, cx + r, cy + r])
    noise = torch.randn(3, height, width, generator=torch.Generator().manual_seed(1))
    return (image + 0.02 * noise).clamp(0, 1), torch.tensor(boxes).float()


@cache
def proposals():
    return ss.selective_search(discs()[0])


def test_size_alone_on_paper():
    labels = torch.tensor([[0, 1, 1, 2, 2, 2, 3, 3, 3, 3]])
    tree = ss.hierarchical_grouping(describe(labels, torch.zeros(3, 1, 10)), measures=("size",))
    assert tree.merges.tolist() == [
        [0, 1],  # 1 - (1 + 2) / 10 = 0.7 beats 1 - (2 + 3) / 10 and 1 - (3 + 4) / 10
        [2, 4],  # region 4 has 3 pixels: 1 - (3 + 3) / 10 = 0.4 beats 1 - (3 + 4) / 10
        [3, 5],  # 1 - (4 + 6) / 10 = 0
    ]
    assert tree.similarity.tolist() == pytest.approx([0.7, 0.4, 0.0])
    assert tree.boxes.tolist() == [
        [0, 0, 1, 1],
        [1, 0, 3, 1],
        [3, 0, 6, 1],
        [6, 0, 10, 1],
        [0, 0, 3, 1],  # 0 and 1
        [0, 0, 6, 1],  # and 2
        [0, 0, 10, 1],  # and 3
    ]


def test_colour_alone_on_paper():
    labels = torch.tensor([[0, 0, 1, 1], [2, 2, 3, 3]])
    shade = torch.tensor([0.1, 0.9, 0.1, 0.9])  # bins 2 and 22: the left half is dark, the right half light
    tree = ss.hierarchical_grouping(describe(labels, shade[labels].repeat(3, 1, 1)), measures=("colour",))
    # 0-2 and 1-3 share everything (1), 0-1 and 2-3 nothing (0); of the equal pairs the smaller ids go first.
    assert tree.merges.tolist() == [[0, 2], [1, 3], [4, 5]]
    assert tree.similarity.tolist() == pytest.approx([1, 1, 0])


def test_fill_alone_on_paper():
    labels = torch.tensor([[0, 1, 1, 1], [0, 2, 2, 2]])
    regions = describe(labels, torch.zeros(3, 2, 4))
    # Box of 0 and 1: 2 x 4 = 8, of which 2 + 3 are filled: 1 - 3 / 8. Box of 1 and 2: 2 x 3 = 6, all filled: 1.
    assert ss.fill_similarity(regions, 0, 1) == pytest.approx(5 / 8)
    assert ss.fill_similarity(regions, 1, 2) == pytest.approx(1)
    assert ss.hierarchical_grouping(regions, measures=("fill",)).merges.tolist() == [[1, 2], [0, 3]]


def test_texture_sees_the_direction_of_a_slope():
    ramp = torch.linspace(0, 1, 20)
    sawtooth = 0.5 + 0.5 * torch.sin(ramp * 9)
    labels = torch.zeros(20, 60, dtype=torch.int64)
    labels[:, 20:40], labels[:, 40:] = 1, 2
    along_x, along_y = sawtooth.expand(20, 20), sawtooth[:, None].expand(20, 20)
    regions = describe(labels, torch.cat((along_x, along_y, along_x), dim=1).repeat(3, 1, 1))
    assert ss.texture_similarity(regions, 0, 2) > ss.texture_similarity(regions, 0, 1) + 0.1


def test_climb_is_counted_in_one_of_two_opposite_directions():
    image = torch.linspace(0, 1, 16).expand(3, 16, 16)  # rises to the right everywhere
    planes = ss.texture_planes(image).view(3, 8, 16, 16)
    assert (planes[:, 0, :, 4:-4] == 9).all()  # the steepest climb there is
    assert (planes[:, 4] == 0).all()  # nothing climbs to the left
    assert (planes[:, 2] <= 9).all()


@pytest.mark.parametrize("measures", [m for n in (1, 2, 4) for m in combinations(ALL, n)], ids="+".join)
def test_grouping_equals_the_twin_that_recounts_every_pixel(measures):
    clear = total = 0
    for seed in range(4):
        labels, image = random_case(seed)
        colour, texture = ss.colour_planes(image), ss.texture_planes(image)
        ours = ss.hierarchical_grouping(ss.describe_regions(labels, colour, texture), measures=measures)
        merges = [tuple(pair) for pair in ours.merges.tolist()]
        count = len(ours.boxes) - len(merges)
        steps = oracle.follow(labels.tolist(), colour.tolist(), texture.tolist(), measures, merges)
        for m, (candidates, made) in enumerate(steps):
            best = [pair for pair, s in candidates.items() if s > max(candidates.values()) - 1e-9]
            assert merges[m] in best
            assert ours.similarity[m].item() == pytest.approx(candidates[merges[m]], abs=1e-5)
            assert ours.boxes[count + m].tolist() == list(oracle.box(made))
            clear, total = clear + (len(best) == 1), total + 1
    assert clear > 0.6 * total  # else ties would hide a wrong order


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 12), width=st.integers(1, 12), count=st.integers(1, 12))
def test_merged_regions_equal_recounting_the_pixels(seed, height, width, count):
    labels, image = random_case(seed, height, width, count)
    colour, texture = ss.colour_planes(image), ss.texture_planes(image)
    regions = ss.describe_regions(labels, colour, texture)
    tree = ss.hierarchical_grouping(regions)
    first = len(regions.sizes)
    assert len(tree.merges) == first - 1
    assert regions.sizes.sum() == regions.area == height * width
    assert tree.boxes[-1].tolist() == [0, 0, width, height]
    assert (tree.boxes[:, :2] >= 0).all()
    assert (tree.boxes[:, 2:] <= torch.tensor([width, height])).all()
    assert (tree.boxes[:, 2:] > tree.boxes[:, :2]).all()
    rows = [np.concatenate((x, np.zeros_like(x[1:]))) for x in regions[:4]]
    replay = ss.Regions(*rows, area=regions.area, pairs=regions.pairs)
    for m, (a, b) in enumerate(tree.merges.tolist()):
        ss.merge_regions(replay, a, b, first + m)
        mask = ss.regions_after(tree, labels, m + 1) == first + m
        assert replay.sizes[first + m] == mask.sum()
        colours, textures = ss.histograms(mask.long(), colour, 25)[1], ss.histograms(mask.long(), texture, 10)[1]
        np.testing.assert_allclose(replay.colour[first + m], colours, atol=1e-12)
        np.testing.assert_allclose(replay.texture[first + m], textures, atol=1e-12)


def test_counts_of_the_first_regions_equal_the_twins():
    labels, image = random_case(3)
    for planes, bins in ((ss.colour_planes(image), 25), (ss.texture_planes(image), 10)):
        ours = ss.histograms(labels, planes, bins)
        theirs = [
            oracle.histogram(pixels, planes.tolist(), bins)
            for _, pixels in sorted(oracle.pixels_of(labels.tolist()).items())
        ]
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
        np.testing.assert_allclose(ours.sum(axis=1), 1)


def test_neighbours_share_an_edge_not_a_corner():
    labels = torch.tensor([[0, 1], [2, 0]])
    assert ss.neighbour_pairs(labels).tolist() == [[0, 1], [0, 2]]


def test_each_measure_changes_the_merges():
    labels, image = random_case(7, 30, 40, 25)
    regions = describe(labels, image)
    everything = ss.hierarchical_grouping(regions).merges.tolist()
    for left_out in ALL:
        measures = [name for name in ALL if name != left_out]
        assert ss.hierarchical_grouping(regions, measures=measures).merges.tolist() != everything, left_out
    alone = [ss.hierarchical_grouping(regions, measures=(name,)).merges.tolist() for name in ALL]
    assert all(one != two for one, two in combinations(alone, 2))


def test_grouping_leaves_its_input_alone_and_repeats_itself():
    labels, image = random_case(5)
    regions = describe(labels, image)
    before = [np.copy(values) for values in regions[:4]]
    one, two = ss.hierarchical_grouping(regions), ss.hierarchical_grouping(regions)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(before, regions[:4], strict=True))


def test_regions_after_replays_the_merges():
    labels = torch.tensor([[0, 1, 1, 2, 2, 2, 3, 3, 3, 3]])
    tree = ss.hierarchical_grouping(describe(labels, torch.zeros(3, 1, 10)), measures=("size",))
    assert torch.equal(ss.regions_after(tree, labels, 0), labels)
    assert ss.regions_after(tree, labels, 1).tolist() == [[4, 4, 4, 2, 2, 2, 3, 3, 3, 3]]
    assert ss.regions_after(tree, labels, 2).tolist() == [[5, 5, 5, 5, 5, 5, 3, 3, 3, 3]]
    assert (ss.regions_after(tree, labels, 3) == 6).all()
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"from 0 to 3, the merges of this hierarchy; got {wrong}"):
            ss.regions_after(tree, labels, wrong)


def test_colours_equal_scikit_image():
    color = pytest.importorskip("skimage.color")
    image = torch.rand(3, 20, 30, dtype=torch.float64)
    image[:, 0], image[:, 1], image[:, 2] = 0, 1, 0.5  # black, white, grey
    pixels = image.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ss.to_hsv(image).permute(1, 2, 0), color.rgb2hsv(pixels), atol=1e-6)
    lab = (color.rgb2lab(pixels) + np.array([0, 128, 128])) / np.array([100, 255, 255])
    np.testing.assert_allclose(
        ss.to_lab(image).permute(1, 2, 0), lab, atol=1e-4
    )  # its rows do not add up to its white: 2e-5


def test_it_finds_plain_discs():
    image, boxes = discs()
    found = proposals()
    assert (box_iou(boxes, found).amax(dim=1) > 0.9).all()
    assert len(found) == len(found.unique(dim=0))
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= torch.tensor([160, 120])).all()
    assert found[0].tolist() == [0, 0, 160, 120]  # the whole picture is the last merge of every tree
    assert torch.equal(found, ss.selective_search(image))


def test_small_boxes_are_dropped():
    image, _ = discs()
    every, large = proposals(), ss.selective_search(image, min_side=40)
    keep = (every[:, 2:] - every[:, :2]).amin(dim=1) >= 40
    assert 0 < len(large) < len(every)
    assert torch.equal(large, every[keep])


def test_noise_changes_the_order_alone():
    image, _ = discs()
    plain = proposals()
    noisy = ss.selective_search(image, noise=torch.rand(5000))
    assert not torch.equal(plain, noisy)
    assert torch.equal(plain.unique(dim=0), noisy.unique(dim=0))
    assert torch.equal(plain, ss.selective_search(image, noise=torch.full((5000,), 0.5)))
    with pytest.raises(ValueError, match=r"noise must have at least \d+ numbers for this picture; got 3"):
        ss.selective_search(image, noise=torch.rand(3))


def test_rank_on_paper():
    def tree(*boxes):
        return ss.Hierarchy(torch.tensor(boxes).float(), torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0))

    a, b, c = [0, 0, 1, 1], [1, 0, 2, 1], [0, 0, 2, 1]
    trees = [tree(a, b, c), tree(b, c)]  # places from the end: c 1, b 2, a 3; c 1, b 2
    assert ss.rank_boxes(trees).tolist() == [c, b, a]
    noise = torch.tensor([0.9, 0.4, 0.1, 0.9, 0.9])  # ranks: c 0.9, b 0.8, a 0.3; c 0.9, b 1.8
    assert ss.rank_boxes(trees, noise).tolist() == [a, b, c]


def test_a_larger_scale_gives_fewer_regions():
    image, _ = discs()
    fine, coarse = (ss.segment(image, scale=scale, min_size=5) for scale in (5, 500))
    assert fine.max() > coarse.max() >= 3  # three discs and the ground
    assert fine.unique().tolist() == list(range(int(fine.max()) + 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 8)])
def test_a_picture_of_one_region(size):
    image = torch.full((3, *size), 0.4)
    tree = ss.hierarchical_grouping(describe(torch.zeros(size, dtype=torch.int64), image))
    assert tree.boxes.tolist() == [[0, 0, size[1], size[0]]]
    assert tree.merges.shape == (0, 2)
    assert tree.similarity.shape == (0,)
    assert ss.selective_search(image, min_side=1).tolist() == [[0, 0, size[1], size[0]]]
    assert ss.selective_search(image).shape == (0, 4)  # narrower than 10 pixels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strides_do_not_matter_and_the_type_stays(dtype):
    image = discs()[0].to(dtype)
    strided = image.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not strided.is_contiguous()
    found = ss.selective_search(strided)
    assert found.dtype == dtype
    assert torch.equal(found, ss.selective_search(image) if dtype == torch.float64 else proposals())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(4, 5, 5), r"float tensor \(3, H, W\).*got torch.float32 \(4, 5, 5\)"),
        (torch.rand(5, 5), r"float tensor \(3, H, W\).*\(5, 5\)"),
        (torch.rand(3, 0, 5), r"with pixels.*\(3, 0, 5\)"),
        (torch.zeros(3, 5, 5, dtype=torch.uint8), r"float tensor.*torch.uint8"),
        (torch.full((3, 5, 5), float("nan")), "without NaN; got nan to nan"),
        (torch.rand(3, 5, 5) * 255, r"lie in \[0, 1\].*divide bytes by 255"),
        (torch.rand(3, 5, 5) - 1, r"lie in \[0, 1\]"),
    ],
)
def test_bad_pictures_are_named(image, message):
    # unwrap: outside the tests nothing checks the shapes before the function does.
    with pytest.raises(ValueError, match=message):
        unwrap(ss.selective_search)(image)
    with pytest.raises(ValueError, match=message):
        unwrap(ss.segment)(image, scale=100, min_size=10)


@pytest.mark.parametrize("labels", [[[0, 2]], [[-1, 0]]])
def test_labels_with_gaps_are_named(labels):
    with pytest.raises(ValueError, match="labels must use every id from 0 up"):
        describe(torch.tensor(labels), torch.zeros(3, 1, 2))


@pytest.mark.parametrize("measures", [(), ("colour", "shape")])
def test_unknown_measures_are_named(measures):
    regions = describe(torch.tensor([[0, 1]]), torch.zeros(3, 1, 2))
    with pytest.raises(ValueError, match="at least one of colour, texture, size, fill; got"):
        ss.hierarchical_grouping(regions, measures=measures)
