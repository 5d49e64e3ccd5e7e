"""Each check of lesson 04 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import math

import pytest
import torch
from judging import assert_accepted, assert_refused
from torch.nn.functional import adaptive_max_pool2d

# --- right answers, in other words than the library's ---------------------------------------------------------------


def field_from_the_top(layers):
    """From the last layer back to the picture, for each depth anew."""
    sizes = []
    for depth in range(1, len(layers) + 1):
        size = 1
        for kernel, stride in reversed(layers[:depth]):
            size = (size - 1) * stride + kernel
        sizes.append(size)
    return torch.tensor(sizes)


def project_by_sign(boxes, stride):
    exact = boxes.double() / stride
    return (exact.sign() * (exact.abs() + 0.5).floor()).long()


def pyramid_adaptive(features, levels):
    return torch.cat([adaptive_max_pool2d(features[None], p).flatten() for p in levels])


RIGHT = [
    ("my_receptive_field", field_from_the_top),
    ("my_roi_projection", project_by_sign),
    ("my_pyramid", pyramid_adaptive),
]


@pytest.mark.parametrize(("name", "right"), RIGHT)
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def field_stride_first(layers):
    size, jump, sizes = 1, 1, []
    for kernel, stride in layers:
        jump *= stride
        size += (kernel - 1) * jump
        sizes.append(size)
    return torch.tensor(sizes)


def field_last_only(layers):
    return field_from_the_top(layers)[-1]


def project_with_round(boxes, stride):
    return torch.tensor([[round(v / stride) for v in box] for box in boxes.tolist()]).reshape(-1, 4)


def project_half_up(boxes, stride):
    return torch.tensor([[math.floor(v / stride + 0.5) for v in box] for box in boxes.tolist()]).reshape(-1, 4)


def project_in_place(boxes, stride):
    return boxes.div_(stride).round().long()


def pyramid_of_lists(features, levels):
    return pyramid_adaptive(features, levels).tolist()


def pyramid_by_columns(features, levels):
    return pyramid_adaptive(features.T, levels)


WRONG = [
    ("my_receptive_field", field_stride_first, "counts from the next layer on"),
    ("my_receptive_field", field_last_only, "yours has shape (), right is (1,)"),
    ("my_receptive_field", lambda layers: [1], "of type list; wanted is a tensor (L,)"),
    ("my_receptive_field", lambda layers: field_from_the_top(layers) - 1, "begin with size 1"),
    ("my_receptive_field", lambda layers: torch.tensor([k for k, _ in layers]), "3 pixels, then one more on each side"),
    ("my_receptive_field", lambda layers: field_from_the_top(layers).float(), "decimal numbers"),
    ("my_roi_projection", project_with_round, "EVEN"),
    ("my_roi_projection", project_half_up, "AWAY FROM ZERO"),
    ("my_roi_projection", project_in_place, "changes the tensor that it is given"),
    ("my_roi_projection", lambda b, s: b / s, "decimal numbers"),
    ("my_roi_projection", lambda b, s: (b // s).long(), "cut the decimals off"),
    ("my_roi_projection", lambda b, s: project_by_sign(b, 16), "Use the stride that is given"),
    ("my_roi_projection", lambda b, s: project_by_sign(b, s)[0], "yours has shape (4,), right is (1, 4)"),
    ("my_pyramid", pyramid_of_lists, "of type list"),
    ("my_pyramid", pyramid_by_columns, "row by row"),
    ("my_pyramid", lambda f, levels: f.amax()[None], "yours has shape (1,), right is (5,)"),
    ("my_pyramid", lambda f, levels: pyramid_adaptive(f, levels).sort().values, "the toy, levels 2 and 1"),
    ("my_pyramid", lambda f, levels: pyramid_adaptive(f, levels[1:]), "stops with"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
