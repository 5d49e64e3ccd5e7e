"""Checks of lesson 03, R-CNN: `my_warp`, `my_svm_label` (`my_encode` and `my_decode` are in `box_coder`).

Each contract compares with `rcnnlib.ops.roi_ops` or `rcnnlib.models.svm`, and knows some mistakes by name.

Shapes:
    N  regions      M  objects      C, H, W  channels, height and width of a picture      S  side of a crop
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.models.svm import svm_set
from rcnnlib.ops.boxes import box_convert
from rcnnlib.ops.roi_ops import warp

GREY = 0.5  # what a crop shows of the world outside the picture


def _random(*shape: int, seed: int) -> Tensor:
    """Return uniform numbers without touching the learner's."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- my_warp --------------------------------------------------------------------------------------------------------


def warp_one(
    image: Float[Tensor, "C H W"], box: Float[Tensor, " 4"], size: int, context: int, *, fill: float = GREY
) -> Float[Tensor, "C S S"]:
    """Warp one region as R-CNN does, with one colour for all that lies outside the picture."""
    return warp(image, box[None], size, context=context, fill=(fill,) * len(image))[0]


def _context_in_photo(image: Tensor, box: Tensor, size: int, context: int) -> Tensor:
    return warp_one(image, box + context * torch.tensor([-1.0, -1, 1, 1]), size, 0)


def _surroundings_grey(image: Tensor, box: Tensor, size: int, context: int) -> Tensor:
    crop = warp_one(image, box, size, context)
    inside = torch.zeros(size, size, dtype=torch.bool)
    inside[context : size - context, context : size - context] = True
    return torch.where(inside, crop, torch.full_like(crop, GREY))


def _not_stretched(image: Tensor, box: Tensor, size: int, context: int) -> Tensor:
    x, y, w, h = box_convert(box[None], "xyxy", "cxcywh")[0]
    side = torch.maximum(w, h)
    return warp_one(image, box_convert(torch.stack((x, y, side, side))[None], "cxcywh", "xyxy")[0], size, context)


def _border_repeated(image: Tensor, box: Tensor, size: int, context: int) -> Tensor:
    x, y = (edges[0] + _steps(edges, size, context) for edges in (box[0::2], box[1::2]))
    rows, columns = y.clamp(0.5, image.shape[1] - 0.5), x.clamp(0.5, image.shape[2] - 0.5)
    points = [torch.stack((columns - 0.5, row - 0.5 + 0 * columns)) for row in rows]
    return torch.stack([_look_up(image, *point) for point in points], dim=1)


def _steps(edges: Tensor, size: int, context: int) -> Tensor:
    """Return how far from its edge each pixel of the crop looks, in pixels of the photo."""
    return (torch.arange(size) + 0.5 - context) * (edges[1] - edges[0]) / (size - 2 * context)


def _look_up(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the picture between its pixels; x and y count from the middle of the first pixel."""
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=image.shape[2] - 1), (top + 1).clamp(max=image.shape[1] - 1)
    upper = torch.lerp(image[:, top, left], image[:, top, right], x - left)
    return torch.lerp(upper, torch.lerp(image[:, bottom, left], image[:, bottom, right], x - left), y - top)


def _nearest(image: Tensor, box: Tensor, size: int, context: int) -> Tensor:
    return _resized(image, box, size, context, mode="nearest")


def _corners_on_corners(image: Tensor, box: Tensor, size: int, context: int) -> Tensor:
    return _resized(image, box, size, context, mode="bilinear", align_corners=True)


def _resized(image: Tensor, box: Tensor, size: int, context: int, **how: object) -> Tensor:
    """Cut the region with its context out pixel by pixel, then resize it."""
    wide, high = ((edges[1] - edges[0]) / (size - 2 * context) for edges in (box[0::2], box[1::2]))
    grown = box + context * torch.stack((-wide, -high, wide, high))
    cut = warp(
        image, grown[None], (round(size * high.item()), round(size * wide.item())), context=0, fill=(GREY,) * len(image)
    )[0]
    return interpolate(cut[None], (size, size), **how)[0]


WARP_MISTAKES = (
    Mistake("Where is the context? Show also what lies around the box.", lambda i, b, s, c: warp_one(i, b, s, 0)),
    Mistake(
        "`context` counts pixels of the crop, not of the photo. How many pixels of the photo is one of the crop?",
        _context_in_photo,
    ),
    Mistake("The context shows the photo around the box. Yours is a grey frame.", _surroundings_grey),
    Mistake("The box is stretched to a square, whatever its shape. Did you cut out a square instead?", _not_stretched),
    Mistake(
        "Context stands on each side of the box. Did you share one `context` between two sides?",
        lambda i, b, s, c: warp_one(i, b, s, c // 2),
    ),
    Mistake(
        "Did you swap x and y? A picture is (C, row, column), and the row is y.",
        lambda i, b, s, c: warp_one(i, b[[1, 0, 3, 2]], s, c),
    ),
    Mistake(
        "You read the box as x, y, width, height. Here it is corners: x1, y1, x2, y2.",
        lambda i, b, s, c: warp_one(i, box_convert(b[None], "xywh", "xyxy")[0], s, c),
    ),
    Mistake(
        "What lies outside the photo is grey, 0.5. Yours is black.", lambda i, b, s, c: warp_one(i, b, s, c, fill=0)
    ),
    Mistake("What lies outside the photo is grey, 0.5. Did you repeat the pixels of its border?", _border_repeated),
    Mistake('Resize with mode="bilinear": "nearest" leaves pixels out.', _nearest),
    Mistake("Leave align_corners alone: edges should lie on edges, not centres on centres.", _corners_on_corners),
    Mistake(
        "The crop, with its context, should be `size` pixels wide. Did you add the context on top?",
        lambda i, b, s, c: warp_one(i, b, s + 2 * c, c),
    ),
)


_PICTURE = _random(3, 60, 80, seed=11)
_WARP_HINT = "Here one pixel of the crop is {} pixels of the photo wide and {} high."

check_warp = Contract(
    name="my_warp",
    wanted="a tensor (C, size, size)",
    reference=warp_one,
    cases=(
        Case("no context, a square", (_PICTURE, torch.tensor([20.0, 10, 36, 26]), 8, 0), _WARP_HINT.format(2, 2)),
        Case(
            "no context, twice as wide as high",
            (_PICTURE, torch.tensor([8.0, 16, 40, 32]), 8, 0),
            _WARP_HINT.format(4, 2),
        ),
        Case("context 2, a square", (_PICTURE, torch.tensor([20.0, 20, 36, 36]), 12, 2), _WARP_HINT.format(2, 2)),
        Case(
            "context 2, twice as high as wide",
            (_PICTURE, torch.tensor([40.0, 16, 48, 32]), 8, 2),
            _WARP_HINT.format(2, 4),
        ),
        Case(
            "context that leaves the photo on the left and above",
            (_PICTURE, torch.tensor([4.0, 0, 36, 32]), 20, 2),
            "Two columns and four rows of the photo's surroundings are grey.",
        ),
        Case(
            "context that leaves the photo on the right and below",
            (_PICTURE, torch.tensor([48.0, 36, 80, 60]), 12, 2),
            _WARP_HINT.format(4, 3),
        ),
        Case(
            "a picture of one channel, context 1",
            (_random(1, 40, 40, seed=12), torch.tensor([6.0, 9, 36, 29]), 12, 1),
            "Take the number of channels from the picture.",
        ),
    ),
    mistakes=WARP_MISTAKES,
)


# --- my_svm_label ---------------------------------------------------------------------------------------------------


def svm_label(iou: Float[Tensor, "N M"], is_object: Bool[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Label the regions for the SVM of one class: 1 its objects, 0 its negatives, -1 takes no part (R-CNN 2.3)."""
    one = torch.ones(iou.shape[1], dtype=torch.int64, device=iou.device)
    return svm_set(iou, one, is_object.long(), 1)[:, 0]


def _label(low: float, middle: int, positive: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a rule with another limit, another label between, or other positives."""

    def rule(iou: Tensor, is_object: Tensor) -> Tensor:
        best = iou.amax(dim=1)
        return torch.where(positive(best, is_object), 1, torch.where(best < low, 0, middle))

    return rule


def _objects(_best: Tensor, is_object: Tensor) -> Tensor:
    return is_object


LABEL_MISTAKES = (
    Mistake(
        "An IoU of exactly 0.3 is not below 0.3: such a region takes no part.",
        lambda iou, own: torch.where(own, 1, torch.where(iou.amax(1) <= 0.3, 0, -1)),
    ),
    Mistake(
        "Between 0.3 and the object itself a region takes no part: -1. You made it background.",
        _label(0.3, 0, _objects),
    ),
    Mistake(
        "That is the rule of fine-tuning. For the SVM only the object itself is positive.",
        _label(0.5, 0, lambda best, own: own | (best >= 0.5)),
    ),
    Mistake(
        "A region that overlaps an object well is not a positive here: only the object itself is.",
        _label(0.3, -1, lambda best, own: own | (best >= 0.5)),
    ),
    Mistake("The limit of the SVM is 0.3; 0.5 is that of fine-tuning.", _label(0.5, -1, _objects)),
    Mistake(
        "A negative lies below 0.3 with every object. One low IoU in the row is not enough.",
        lambda iou, own: torch.where(own, 1, torch.where(iou.amin(1) < 0.3, 0, -1)),
    ),
    Mistake(
        "Compare the largest IoU of a row with 0.3. Did you take the mean?",
        lambda iou, own: torch.where(own, 1, torch.where(iou.mean(1) < 0.3, 0, -1)),
    ),
    Mistake(
        "Where are the objects? The regions that are objects themselves get 1.",
        _label(0.3, -1, lambda b, own: own & ~own),
    ),
    Mistake(
        "0 and -1 are the wrong way round: 0 is a negative, -1 takes no part.",
        lambda iou, own: torch.where(own, 1, torch.where(iou.amax(1) < 0.3, -1, 0)),
    ),
)

_NOTHING, _SELF = torch.zeros(3, dtype=torch.bool), torch.tensor([False, True, False])
_ROWS = "Go row by row: is it an object? If not, what is its largest IoU?"

check_svm_label = Contract(
    name="my_svm_label",
    wanted="a tensor (N,) of whole numbers 1, 0 and -1",
    reference=svm_label,
    cases=(
        Case("three regions, one object, which is region 1", (torch.tensor([[0.1], [1.0], [0.6]]), _SELF), _ROWS),
        Case("two objects", (torch.tensor([[0.1, 0.8], [0.0, 0.2], [0.4, 0.1]]), _NOTHING), _ROWS),
        Case("IoU of exactly 0.3", (torch.tensor([[0.3], [0.25], [0.35]]), _NOTHING), "Below 0.3 means <."),
        Case("IoU 0.5 and more", (torch.tensor([[0.5], [0.9], [0.29]]), _NOTHING), _ROWS),
        Case("nothing overlaps", (torch.zeros(3, 2), _NOTHING), "All three are negatives."),
        Case(
            "twelve random regions, four objects, two of the regions are objects",
            (_random(12, 4, seed=13) ** 3, torch.arange(12) >= 10),
            _ROWS,
        ),
    ),
    mistakes=LABEL_MISTAKES,
)
