"""Regions to grids: Q2's example by hand, slow twins, torchvision bit for bit, properties, fake CUDA."""

import inspect

import pytest
import torch
import torchvision.ops as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles_roi import slow_roi_align, slow_roi_pool, slow_warp
from torch._subclasses.fake_tensor import FakeTensorMode

from rcnnlib.ops import roi_ops
from rcnnlib.ops.roi_ops import project, quantize, roi_align, roi_pool, roi_pool_bins, spatial_pyramid_pool, warp

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def random_boxes(kind: str, count: int, dtype=torch.float32) -> torch.Tensor:
    """Boxes in pixels for a map of about 10 cells of 16 pixels; (2, count, 4)."""
    boxes = torch.rand(2, count, 4, dtype=dtype) * 160
    corners = torch.cat(
        (torch.minimum(boxes[..., :2], boxes[..., 2:]), torch.maximum(boxes[..., :2], boxes[..., 2:])), -1
    )
    return {
        "inside": corners,
        "inside out": boxes,  # half of them have x2 < x1
        "crossing": corners * 3 - 160,
        "far": corners * 100 - 8000,  # bins larger than the map, or nowhere near it
        "halves": (corners / 8).round() * 8,  # multiples of half a cell
        "points": corners[..., [0, 1, 0, 1]],
    }[kind]


KINDS = pytest.mark.parametrize("kind", ["inside", "inside out", "crossing", "far", "halves", "points"])


# --- projection -----------------------------------------------------------------------------------------------------


def test_projection_exact_and_rounded():
    boxes = torch.tensor([[40.0, 24.0, 200.0, 100.0], [-40.0, -24.0, 8.0, 7.0]])
    exact = torch.tensor([[2.5, 1.5, 12.5, 6.25], [-2.5, -1.5, 0.5, 0.4375]])  # a sixteenth
    cells = torch.tensor([[3, 2, 13, 6], [-3, -2, 1, 0]])  # halves go away from zero: 2.5 -> 3, -2.5 -> -3
    assert torch.equal(project(boxes, 1 / 16), exact)
    assert torch.equal(quantize(exact), cells)


def test_quantize_is_exact_just_below_a_half():
    below = torch.tensor([[0.49999997, -0.49999997, 8388607.0, -0.0]])  # x + 0.5 would round the first up to 1
    assert quantize(below).tolist() == [[0, 0, 8388607, 0]]


# --- bins -----------------------------------------------------------------------------------------------------------


def test_bins_of_the_lecture_example():
    """Q2: map 8x8, region 7 wide and 5 high, target 2x2; the region is columns 0-6, rows 3-7 of the drawing."""
    box = torch.tensor([[0.0, 3.0, 6.0, 7.0]])  # one pixel a cell, ends included: 6 - 0 + 1 = 7 columns, 5 rows
    y_start, y_stop, x_start, x_stop = roi_pool_bins(box, (8, 8), 2, spatial_scale=1.0)
    # columns: floor(0 * 3.5) = 0 .. ceil(1 * 3.5) = 4; floor(3.5) = 3 .. ceil(7) = 7. Column 3 is in both.
    assert (x_start.tolist(), x_stop.tolist()) == ([[0, 3]], [[4, 7]])
    # rows: 3 + floor(0) = 3 .. 3 + ceil(2.5) = 6; 3 + floor(2.5) = 5 .. 3 + ceil(5) = 8. Row 5 is in both.
    assert (y_start.tolist(), y_stop.tolist()) == ([[3, 5]], [[6, 8]])
    ramp = torch.arange(64.0).view(1, 8, 8)  # cell (y, x) holds 8 y + x: a bin's maximum is its last cell
    assert roi_pool(ramp, box, 2, spatial_scale=1.0).tolist() == [[[[43.0, 46.0], [59.0, 62.0]]]]


def test_bins_without_remainder_do_not_overlap():
    bins = roi_pool_bins(torch.tensor([[1.0, 0.0, 6.0, 3.0]]), (8, 8), (2, 3), spatial_scale=1.0)
    assert [b.tolist() for b in bins] == [[[0, 2]], [[2, 4]], [[1, 3, 5]], [[3, 5, 7]]]


def test_bins_outside_the_map_are_empty_and_pool_to_zero():
    box = torch.tensor([[-6.0, 0.0, -1.0, 3.0], [6.0, 0.0, 9.0, 3.0]])  # left of the map; half over its right border
    *_, x_start, x_stop = roi_pool_bins(box, (4, 8), 2, spatial_scale=1.0)
    assert x_start.tolist() == [[0, 0], [6, 8]]
    assert x_stop.tolist() == [[0, 0], [8, 8]]  # columns 6-7, and nothing
    pooled = roi_pool(torch.full((1, 4, 8), -5.0), box, 2, spatial_scale=1.0)
    assert pooled.tolist() == [[[[0.0, 0.0], [0.0, 0.0]]], [[[-5.0, 0.0], [-5.0, 0.0]]]]


# --- RoI max pooling ------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("size", [(7, 7), (2, 3), (1, 1)])
def test_pool_equals_the_slow_twin(kind, size):
    features, boxes = torch.randn(2, 3, 7, 10), random_boxes(kind, 5)
    ours = roi_pool(features, boxes, size, spatial_scale=1 / 16)
    slow = torch.stack([slow_roi_pool(f, b, size, 1 / 16) for f, b in zip(features, boxes, strict=True)])
    assert torch.equal(ours, slow)


@DTYPES
@KINDS
@pytest.mark.parametrize("size", [(7, 7), (3, 2)])
@pytest.mark.parametrize("grad", [False, True])
def test_pool_is_torchvisions_bit_for_bit(dtype, kind, size, grad):
    features = torch.randn(2, 37, 9, 11, dtype=dtype, requires_grad=grad)  # 37: the channels do not fill the last part
    boxes = random_boxes(kind, 30, dtype)
    ours = roi_pool(features, boxes, size, spatial_scale=1 / 16)
    theirs = tv.roi_pool(features, list(boxes), size, 1 / 16).view_as(ours)
    assert torch.equal(ours, theirs)
    if grad:
        weight = torch.randn_like(ours)
        (ours_grad,), (theirs_grad,) = (torch.autograd.grad(out, features, weight) for out in (ours, theirs))
        torch.testing.assert_close(ours_grad, theirs_grad)


@DTYPES
@pytest.mark.parametrize("odd", [1 / 3, 0.1, 1 / 7])
def test_pool_takes_the_rounding_errors_of_the_bins_along(dtype, odd):
    """(i + 1) * (length / bins) may miss the whole number that it stands for; torchvision's ceil takes a cell more."""
    first = torch.arange(40, dtype=dtype) / odd
    boxes = torch.stack((first * 0, first * 0, first, first), dim=-1)  # 1 to 40 cells
    features = torch.randn(2, 41, 41, dtype=dtype)
    for bins in (3, 5, 7, 14):
        ours = roi_pool(features, boxes, bins, spatial_scale=odd)
        assert torch.equal(ours, tv.roi_pool(features[None], [boxes], bins, odd))


def test_ties_send_the_whole_gradient_into_their_bin():
    features = torch.zeros(1, 4, 4, requires_grad=True)  # every cell is the maximum
    box = torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    weight = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    (grad,) = torch.autograd.grad(roi_pool(features, box, 2, spatial_scale=1.0), features, weight)
    assert grad.view(2, 2, 2, 2).sum(dim=(1, 3)).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert int((grad != 0).sum()) == 4  # one winner a bin, nothing is shared out


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_training_and_inference_see_the_same_values(dtype):
    """With gradients the winner is found by integers of the same order; that order must hold for every float type."""
    features = torch.cat((torch.randn(500), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 6e4, -6e4]))).to(dtype)
    features = features[torch.randperm(506)].view(1, 22, 23)
    boxes = random_boxes("inside", 20)[0]
    plain = roi_pool(features, boxes, 5, spatial_scale=1 / 8)
    assert torch.equal(plain, roi_pool(features.requires_grad_(), boxes, 5, spatial_scale=1 / 8))


# --- RoI align ------------------------------------------------------------------------------------------------------


def test_align_by_hand():
    ramp = torch.arange(64.0).view(1, 8, 8)  # 8 y + x at cell (y, x), whose centre is the point (x + 0.5, y + 0.5)
    box = torch.tensor([[1.0, 1.0, 5.0, 3.0]])
    # A mean over a plane is its value in the middle of the bin. Middles: x = 2, 4 and y = 1.5, 2.5;
    # minus half a cell: columns 1.5, 3.5 and rows 1, 2. 8 * 1 + 1.5 = 9.5.
    assert roi_align(ramp, box, 2, spatial_scale=1.0).tolist() == [[[[9.5, 11.5], [17.5, 19.5]]]]
    # Half a cell too far to the right and down, the error that "aligned" mended: + 8 * 0.5 + 0.5.
    assert roi_align(ramp, box, 2, spatial_scale=1.0, aligned=False).tolist() == [[[[14.0, 16.0], [22.0, 24.0]]]]


def test_align_at_the_border():
    ones = torch.ones(1, 4, 4)
    # One sample each, at the points -0.5 and -1: column -1, still a copy of the border, and column -1.5, nothing.
    boxes = torch.tensor([[-1.0, 1.0, 0.0, 2.0], [-1.5, 1.0, -0.5, 2.0]])
    assert roi_align(ones, boxes, 1, spatial_scale=1.0, sampling_ratio=1).flatten().tolist() == [1.0, 0.0]


@KINDS
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_align_equals_the_slow_twin(kind, samples):
    features, boxes = torch.randn(2, 2, 7, 10), random_boxes(kind, 4)
    ours = roi_align(features, boxes, (3, 2), spatial_scale=1 / 16, sampling_ratio=samples)
    slow = torch.stack([slow_roi_align(f, b, (3, 2), 1 / 16, samples) for f, b in zip(features, boxes, strict=True)])
    torch.testing.assert_close(ours, slow, atol=1e-5, rtol=1e-4)


@DTYPES
@KINDS
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 4])
def test_align_is_torchvisions(dtype, kind, aligned, samples):
    features, boxes = torch.randn(2, 5, 9, 11, dtype=dtype, requires_grad=True), random_boxes(kind, 30, dtype)
    ours = roi_align(features, boxes, 7, spatial_scale=1 / 16, sampling_ratio=samples, aligned=aligned)
    theirs = tv.roi_align(features, list(boxes), 7, 1 / 16, samples, aligned).view_as(ours)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(ours)
    (ours_grad,), (theirs_grad,) = (torch.autograd.grad(out, features, weight) for out in (ours, theirs))
    torch.testing.assert_close(ours_grad, theirs_grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("operator", [roi_align, roi_pool])
def test_gradients_are_those_of_finite_differences(operator):
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    boxes = random_boxes("inside", 3, torch.float64) / 2
    assert torch.autograd.gradcheck(lambda f: operator(f, boxes, 3, spatial_scale=1 / 16), features)


def test_align_gives_boxes_no_gradient():
    features, boxes = (
        torch.randn(1, 5, 6, requires_grad=True),
        torch.tensor([[0.0, 0.0, 50.0, 40.0]], requires_grad=True),
    )
    roi_align(features, boxes, 2, spatial_scale=1 / 16).sum().backward()
    assert boxes.grad is None


# --- pyramid and warp -----------------------------------------------------------------------------------------------


def test_pyramid_has_the_length_and_the_parts_it_says():
    features, boxes = torch.randn(2, 4, 7, 10), random_boxes("inside", 3)
    pyramid = spatial_pyramid_pool(features, boxes, spatial_scale=1 / 16)
    assert pyramid.shape == (2, 3, 4 * (36 + 9 + 4 + 1))  # SPPnet's 50 bins
    assert torch.equal(pyramid[..., -4:], roi_pool(features, boxes, 1, spatial_scale=1 / 16).flatten(-3))
    single = spatial_pyramid_pool(features, boxes, (7,), spatial_scale=1 / 16)
    assert torch.equal(single, roi_pool(features, boxes, 7, spatial_scale=1 / 16).flatten(-3))


def test_warp_of_the_whole_picture_without_context_is_the_picture():
    image = torch.rand(3, 12, 12)
    crop = warp(image, torch.tensor([[0.0, 0.0, 12.0, 12.0]]), 12, context=0)
    torch.testing.assert_close(crop[0], image)


def test_context_is_counted_in_pixels_of_the_crop():
    ramp = torch.arange(40.0).expand(1, 40, 40) + 0.5  # the value is x
    crop = warp(ramp, torch.tensor([[10.0, 10.0, 18.0, 26.0]]), 8, context=2, fill=(0.0,))
    # 8 - 2 * 2 = 4 pixels hold the 8 of the box, 2 each: the box begins at crop pixel 2, and pixel 0 is centred on
    # 10 - 2 * 2 + 1 = 7.
    torch.testing.assert_close(crop[0, 0, 3], torch.tensor([7.0, 9.0, 11.0, 13.0, 15.0, 17.0, 19.0, 21.0]))


@pytest.mark.parametrize(
    "box", [[2.0, 3.0, 15.0, 9.0], [-4.0, -6.0, 9.0, 8.0], [14.0, 8.0, 30.0, 20.0], [5.0, 5.0, 5.0, 5.0]]
)
def test_warp_equals_the_slow_twin(box):
    image = torch.rand(3, 13, 17, dtype=torch.float64)
    ours = warp(image, torch.tensor([box], dtype=torch.float64), 11, context=2, fill=(0.1, 0.2, 0.3))
    torch.testing.assert_close(ours[0], slow_warp(image, box, 11, 2, [0.1, 0.2, 0.3]))


def test_warp_fills_what_is_padding():
    image = torch.zeros(1, 3, 8, 16)
    image[..., :8] = 1.0  # the picture is 8 x 8, the rest is padding
    box = torch.tensor([[[0.0, 0.0, 16.0, 8.0]]])
    crop = warp(image, box, (8, 64), context=0, sizes=torch.tensor([[8.0, 8.0]]), fill=(0.2, 0.3, 0.4))
    # Four pixels of the crop for one of the picture: 31 is centred on 7.875, still the picture, without a shadow.
    torch.testing.assert_close(crop[0, 0, :, 0, 31:33], torch.tensor([[1.0, 0.2], [1.0, 0.3], [1.0, 0.4]]))


# --- what holds for all ---------------------------------------------------------------------------------------------

OPERATORS = {
    "pool": lambda f, b: roi_pool(f, b, (3, 2), spatial_scale=1 / 16),
    "align": lambda f, b: roi_align(f, b, (3, 2), spatial_scale=1 / 16),
    "pyramid": lambda f, b: spatial_pyramid_pool(f, b, (2, 1), spatial_scale=1 / 16),
    "warp": lambda f, b: warp(f, b, (9, 8), context=2, fill=(0.0, 0.0, 0.0)),
}
ALL = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())


@ALL
def test_leading_dimensions_change_nothing(operator):
    features, boxes = torch.randn(2, 3, 3, 7, 10), torch.stack([random_boxes("crossing", 4) for _ in range(3)], dim=1)
    together = operator(features, boxes)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(operator(features[i, j], boxes[i, j]), together[i, j])


@ALL
@pytest.mark.parametrize(("images", "regions"), [(2, 0), (0, 3)])
def test_nothing_in_nothing_out(operator, images, regions):
    features = torch.randn(images, 3, 7, 10, requires_grad=True)
    out = operator(features, torch.zeros(images, regions, 4))
    assert out.shape[:2] == (images, regions)
    out.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_boxes_of_another_batch_are_refused():
    inner = inspect.unwrap(roi_ops._flatten_batch)  # the shape checker of the tests would speak first
    with pytest.raises(ValueError, match=r"boxes must be \(2, 'R', 4\) .* got \(1, 4, 4\)"):
        inner(torch.randn(2, 3, 7, 10), torch.zeros(1, 4, 4))


def test_options_out_of_range_are_refused():
    features, boxes = torch.randn(3, 7, 10), torch.zeros(1, 4)
    with pytest.raises(ValueError, match="sampling_ratio must be"):
        roi_align(features, boxes, spatial_scale=1 / 16, sampling_ratio=-1)
    with pytest.raises(ValueError, match="size must be more than twice"):
        warp(features, boxes, 32, context=16)
    with pytest.raises(ValueError, match="fill must have one number for each of the 3 channels"):
        warp(features, boxes, 64, fill=(0.5,))


@ALL
@pytest.mark.parametrize("grad", [False, True])
def test_runs_on_a_fake_gpu(operator, grad):
    """FakeTensorMode refuses a mix of devices and any number that the host would have to wait for."""
    with FakeTensorMode():
        features = torch.randn(2, 3, 7, 10, device="cuda", requires_grad=grad)
        out = operator(features, torch.rand(2, 5, 4, device="cuda"))
    assert out.device.type == "cuda"
    assert out.shape[:2] == (2, 5)
    assert out.requires_grad == grad


coordinate = st.floats(-200, 400, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(coordinate, coordinate, coordinate, coordinate), st.integers(1, 8), st.integers(1, 9), st.integers(1, 9)
)
def test_pool_of_any_box(box, bins, h, w):
    """Constant maps pool to the constant or 0; a picture shifted by whole cells gives the same; torchvision agrees."""
    boxes, features = torch.tensor([box]), torch.randn(2, h, w)
    pooled = roi_pool(features, boxes, bins, spatial_scale=1 / 16)
    assert torch.equal(pooled, tv.roi_pool(features[None], [boxes], bins, 1 / 16))
    constant = roi_pool(torch.full((1, h, w), -3.0), boxes, bins, spatial_scale=1 / 16)
    assert torch.isin(constant, torch.tensor([-3.0, 0.0])).all()
    assert torch.equal(constant[:, :1] == 0, pooled[:, :1] == 0)  # the same bins are empty


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 159)] * 4), st.integers(1, 5))
def test_align_of_a_mirrored_picture_is_mirrored(box, bins):
    x1, x2, y1, y2 = *sorted(box[:2]), *sorted(box[2:])
    features = torch.randn(1, 10, 10, dtype=torch.float64)
    boxes, mirrored = torch.tensor([[x1, y1, x2, y2], [160 - x2, y1, 160 - x1, y2]], dtype=torch.float64).split(1)
    ours = roi_align(features.flip(-1), mirrored, bins, spatial_scale=1 / 16).flip(-1)
    torch.testing.assert_close(ours, roi_align(features, boxes, bins, spatial_scale=1 / 16))
