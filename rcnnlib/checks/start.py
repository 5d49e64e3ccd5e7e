"""Check of lesson 00: `my_area`, the warm-up.

It compares with `rcnnlib.ops.boxes.box_area`; below the cases stand the mistakes it knows by name.

Shapes:
    N  boxes
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.boxes import box_area


def _sides(boxes: Float[Tensor, "N 4"]) -> tuple[Tensor, Tensor]:
    """Return width and height as they are, negative ones too."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return x2 - x1, y2 - y1


def _no_clamp(boxes: Tensor) -> Tensor:
    width, height = _sides(boxes)
    return width * height


def _clamped_late(boxes: Tensor) -> Tensor:
    """The area clamped instead of the sides: minus times minus is plus."""
    return _no_clamp(boxes).clamp(min=0)


def _turned(boxes: Tensor) -> Tensor:
    """An inside-out box counted as if its corners were swapped."""
    return _no_clamp(boxes).abs()


def _plus_one(boxes: Tensor) -> Tensor:
    width, height = _sides(boxes)
    return (width + 1).clamp(min=0) * (height + 1).clamp(min=0)


def _added(boxes: Tensor) -> Tensor:
    width, height = _sides(boxes)
    return width + height


def _perimeter(boxes: Tensor) -> Tensor:
    return 2 * _added(boxes)


def _as_xywh(boxes: Tensor) -> Tensor:
    """The second corner taken for width and height."""
    return boxes[:, 2] * boxes[:, 3]


def _as_xxyy(boxes: Tensor) -> Tensor:
    """The numbers read as x1, x2, y1, y2."""
    return (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])


MISTAKES = (
    Mistake("A box turned inside out has no area. Clamp the width and the height at 0.", _no_clamp),
    Mistake("Minus times minus is plus! Clamp the width and the height at 0 before you multiply.", _clamped_late),
    Mistake("A box turned inside out has area 0, not the area of its mirror image. Clamp; do not use abs.", _turned),
    Mistake("The width is x2 - x1. Did you add 1, as the old codes did?", _plus_one),
    Mistake("You added width and height. An area is their product.", _added),
    Mistake("That is the way around the box. An area is width times height.", _perimeter),
    Mistake("x2 and y2 are a corner, not a size. The width is x2 - x1.", _as_xywh),
    Mistake("The order is x1, y1, x2, y2. Did you read x1, x2, y1, y2?", _as_xxyy),
    Mistake("You gave one number for all boxes. Give one number for each.", lambda boxes: box_area(boxes).sum()),
)


def _boxes(*rows: tuple[float, ...]) -> Float[Tensor, "N 4"]:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


_TOY = (10, 20, 40, 60)

check_area = Contract(
    name="my_area",
    wanted="a tensor (N,): one area for each box",
    reference=box_area,
    cases=(
        Case(
            "the box (10, 20, 40, 60)",
            (_boxes(_TOY),),
            "`boxes` has one row here, shape (1, 4); this box is 30 wide and 40 high.",
        ),
        Case(
            "two boxes",
            (_boxes((0, 0, 5, 4), (2, 1, 9, 11)),),
            "Work on all rows at once, one area for each: 20 and 70.",
        ),
        Case("a box without width", (_boxes((3, 3, 3, 9), _TOY),), "Nothing times 6 is nothing."),
        Case("a box with x2 < x1", (_boxes((40, 20, 10, 60), _TOY),), "A negative width counts as 0."),
        Case(
            "a box with x2 < x1 and y2 < y1",
            (_boxes((40, 60, 10, 20), _TOY),),
            "Two negative sides make no area.",
        ),
        Case("no boxes at all, a tensor (0, 4)", (_boxes(),), "Nothing in, nothing out: (0,)."),
        Case(
            "five random boxes",
            (torch.rand(5, 4, generator=torch.Generator().manual_seed(3)).cumsum(1) * 100,),
            "Check the first one by hand.",
        ),
    ),
    mistakes=MISTAKES,
)
