"""The check of lesson 00 accepts the reference, waits for the stub, and names the mistakes that people make."""

import pytest
import torch

from rcnnlib.checks import SOLUTIONS, check_area


def stub(boxes):
    raise NotImplementedError


def by_rows(boxes):
    return torch.tensor([max(0, x2 - x1) * max(0, y2 - y1) for x1, y1, x2, y2 in boxes.tolist()])


@pytest.mark.parametrize("right", [SOLUTIONS["my_area"], by_rows])
def test_right_answers_pass(right):
    assert check_area.judge(right).startswith("✓ my_area")


def test_the_stub_is_not_written_yet():
    assert check_area.judge(stub) == "○ my_area: not written yet"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]), "inside out has no area"),
        (lambda b: ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])).clamp(min=0), "before you multiply"),
        (lambda b: (b[:, 2:] - b[:, :2]).prod(1).abs(), "do not use abs"),
        (lambda b: (b[:, 2:] - b[:, :2]).abs().prod(1), "do not use abs"),
        (lambda b: (b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1), "Did you add 1"),
        (lambda b: (b[:, 2] - b[:, 0]) + (b[:, 3] - b[:, 1]), "An area is their product"),
        (lambda b: 2 * (b[:, 2:] - b[:, :2]).sum(1), "the way around the box"),
        (lambda b: b[:, 2] * b[:, 3], "a corner, not a size"),
        (lambda b: (b[:, 1] - b[:, 0]) * (b[:, 3] - b[:, 2]), "Did you read x1, x2, y1, y2"),
        (lambda b: torch.stack([(b[0, 2] - b[0, 0]) * (b[0, 3] - b[0, 1])]).sum(), "shape ()"),
        (lambda b: 1200.0, "of type float"),
        (lambda b: None, "return"),
        (lambda b: b[:, 4], "stops with IndexError"),
    ],
)
def test_wrong_answers_are_refused_and_named(wrong, says):
    said = check_area.judge(wrong)
    assert said.startswith("✗ my_area")
    assert says in said
