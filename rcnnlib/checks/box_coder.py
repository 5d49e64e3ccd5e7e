"""Checks of lesson 03, the deltas between two boxes: `my_encode`, `my_decode`.

Each contract compares with `rcnnlib.ops.box_coder`, and knows some mistakes by name.

Shapes:
    N  boxes, and as many proposals
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.ops.box_coder import decode, encode
from rcnnlib.ops.boxes import box_convert


def _rows(*rows: tuple[float, ...]) -> Float[Tensor, "N 4"]:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _random(*shape: int, seed: int) -> Tensor:
    """Return uniform numbers without touching the learner's."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres and sizes, (N, 2) each."""
    centre, size = box_convert(boxes, "xyxy", "cxcywh").split(2, dim=-1)
    return centre, size


def _encoded(shift: Callable[..., Tensor], scale: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a way to encode: both parts are functions of centre and size of box and proposal."""

    def wrong(boxes: Tensor, proposals: Tensor) -> Tensor:
        numbers = (*_sides(boxes), *_sides(proposals))
        return torch.cat((shift(*numbers), scale(*numbers)), dim=1)

    return wrong


def _shift(c: Tensor, s: Tensor, pc: Tensor, ps: Tensor) -> Tensor:
    return (c - pc) / ps


def _scale(c: Tensor, s: Tensor, pc: Tensor, ps: Tensor) -> Tensor:
    return torch.log(s / ps)


ENCODE_MISTAKES = (
    Mistake(
        "Divide by the size of the proposal. You divided by that of the box, which a detector does not know.",
        _encoded(lambda c, s, pc, ps: (c - pc) / s, _scale),
    ),
    Mistake(
        "tw and th are logarithms of a quotient. Where is the logarithm?", _encoded(_shift, lambda c, s, pc, ps: s / ps)
    ),
    Mistake("Use the natural logarithm, torch.log.", _encoded(_shift, lambda c, s, pc, ps: torch.log2(s / ps))),
    Mistake("Use the natural logarithm, torch.log.", _encoded(_shift, lambda c, s, pc, ps: torch.log10(s / ps))),
    Mistake(
        "tw is log(width of the box / width of the proposal). Yours is turned over.",
        _encoded(_shift, lambda c, s, pc, ps: torch.log(ps / s)),
    ),
    Mistake(
        "tx and ty are measured in widths and heights of the proposal, not in pixels. Divide.",
        _encoded(lambda c, s, pc, ps: c - pc, _scale),
    ),
    Mistake(
        "Centre to centre, please. You took corner to corner.",
        _encoded(lambda c, s, pc, ps: (c - s / 2 - pc + ps / 2) / ps, _scale),
    ),
    Mistake(
        "tx is (x of the box - x of the proposal), not the other way round.",
        _encoded(lambda c, s, pc, ps: (pc - c) / ps, _scale),
    ),
    Mistake(
        "You go from the box to the proposal. Asked for is the way from the proposal to the box.",
        lambda boxes, proposals: encode(proposals, boxes),
    ),
    Mistake("The order is tx, ty, tw, th. Did you swap x and y?", lambda b, p: encode(b, p)[:, [1, 0, 3, 2]]),
    Mistake(
        "Divide tx by the width and ty by the height. Yours are crossed.",
        _encoded(lambda c, s, pc, ps: (c - pc) / ps.flip(1), _scale),
    ),
    Mistake(
        "You read the boxes as x, y, width, height. Here they are corners.",
        lambda b, p: encode(box_convert(b, "xywh", "xyxy"), box_convert(p, "xywh", "xyxy")),
    ),
)


def _decoded(
    place: Callable[..., Tensor], scale: Callable[..., Tensor], half: float = 0.5
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a way to decode: centre and size from (shift, growth, centre, size of the proposal)."""

    def wrong(deltas: Tensor, proposals: Tensor) -> Tensor:
        numbers = (*deltas.split(2, dim=1), *_sides(proposals))
        centre, size = place(*numbers), scale(*numbers)
        return torch.cat((centre - half * size, centre + half * size), dim=1)

    return wrong


def _place(t: Tensor, g: Tensor, pc: Tensor, ps: Tensor) -> Tensor:
    return pc + t * ps


def _grown(t: Tensor, g: Tensor, pc: Tensor, ps: Tensor) -> Tensor:
    return ps * g.exp()


def _from_corner(deltas: Tensor, proposals: Tensor) -> Tensor:
    corner, size = proposals[:, :2], _sides(proposals)[1]
    first = corner + deltas[:, :2] * size
    return torch.cat((first, first + size * deltas[:, 2:].exp()), dim=1)


DECODE_MISTAKES = (
    Mistake(
        "The opposite of the logarithm is exp. Did you multiply by tw itself?",
        _decoded(_place, lambda t, g, pc, ps: ps * g),
    ),
    Mistake(
        "The opposite of the logarithm is exp. 1 + tw is only close to it for small tw.",
        _decoded(_place, lambda t, g, pc, ps: ps * (1 + g)),
    ),
    Mistake(
        "tx counts widths of the proposal, not pixels. Multiply by the width first.",
        _decoded(lambda t, g, pc, ps: pc + t, _grown),
    ),
    Mistake(
        "The shift begins at the centre of the proposal. Did you forget to add it?",
        _decoded(lambda t, g, pc, ps: t * ps, _grown),
    ),
    Mistake("The shift begins at the centre of the proposal. You added it to the corner.", _from_corner),
    Mistake(
        "The new centre is the old one plus the shift. You took it off.",
        _decoded(lambda t, g, pc, ps: pc - t * ps, _grown),
    ),
    Mistake(
        "From the centre to an edge it is half of the side. Did you take the whole side?", _decoded(_place, _grown, 1)
    ),
    Mistake(
        "x1 and y1 are the centre minus half of the side. Did you begin the box at its centre?",
        lambda t, p: decode(t, p) + _sides(decode(t, p))[1].repeat(1, 2) / 2,
    ),
    Mistake(
        "You measure the shift in the new width. It is measured in the width of the proposal.",
        _decoded(lambda t, g, pc, ps: pc + t * ps * g.exp(), _grown),
    ),
    Mistake(
        "Give corners back: x1, y1, x2, y2. Yours are centre and size.",
        lambda deltas, proposals: box_convert(decode(deltas, proposals), "xyxy", "cxcywh"),
    ),
    Mistake(
        "The size comes from the proposal: its width times exp(tw).", _decoded(_place, lambda t, g, pc, ps: g.exp())
    ),
    Mistake("The order is tx, ty, tw, th. Did you swap x and y?", lambda t, p: decode(t[:, [1, 0, 3, 2]], p)),
)

_PROPOSAL, _OBJECT = _rows((10, 20, 50, 40)), _rows((20, 20, 100, 60))
_PAPER = "On paper: the proposal has centre (30, 30), size 40 x 20; the box has centre (60, 40), size 80 x 40."


def _some_boxes(count: int, seed: int) -> Float[Tensor, "N 4"]:
    corner = _random(count, 2, seed=seed) * 50
    return torch.cat((corner, corner + 5 + _random(count, 2, seed=seed + 1) * 45), dim=1)


check_encode = Contract(
    name="my_encode",
    wanted="a tensor (N, 4), rows tx, ty, tw, th",
    reference=encode,
    cases=(
        Case("a box and itself", (_OBJECT, _OBJECT), "Nothing is to be done: four zeros."),
        Case("the box of the toy", (_OBJECT, _PROPOSAL), _PAPER),
        Case(
            "a shift alone, 4 to the right and 3 down",
            (_PROPOSAL + _rows((4, 3, 4, 3)), _PROPOSAL),
            "4 of 40 pixels is 0.1, 3 of 20 is 0.15; the size stays.",
        ),
        Case("twelve random boxes", (_some_boxes(12, 14), _some_boxes(12, 16)), _PAPER),
        Case("no boxes at all, a tensor (0, 4)", (_rows(), _rows()), "Nothing in, nothing out: (0, 4)."),
    ),
    mistakes=ENCODE_MISTAKES,
)

check_decode = Contract(
    name="my_decode",
    wanted="a tensor (N, 4), rows x1, y1, x2, y2",
    reference=decode,
    cases=(
        Case("four zeros", (torch.zeros(1, 4), _PROPOSAL), "Then the proposal stays as it is."),
        Case(
            "a shift alone, tx 0.1 and ty 0.15",
            (_rows((0.1, 0.15, 0, 0)), _PROPOSAL),
            "0.1 of 40 pixels is 4, 0.15 of 20 is 3.",
        ),
        Case(
            "twice as wide, tw = log 2", (_rows((0, 0, 0.693147, 0)), _PROPOSAL), "exp(log 2) is 2; the centre stays."
        ),
        Case("the deltas of the toy", (encode(_OBJECT, _PROPOSAL), _PROPOSAL), "They lead to (20, 20, 100, 60)."),
        Case("twelve random rows", (_random(12, 4, seed=18) - 0.5, _some_boxes(12, 19)), _PAPER),
        Case("no boxes at all, a tensor (0, 4)", (_rows(), _rows()), "Nothing in, nothing out: (0, 4)."),
    ),
    mistakes=DECODE_MISTAKES,
)
