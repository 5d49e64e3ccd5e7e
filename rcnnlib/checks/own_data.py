"""Checks of lesson 16: `my_coco_boxes` reads a COCO file, `my_split` keeps individuals together, `my_background_last`.

They are compared with the functions below, which the lesson uses too.

Shapes:
    N  boxes or photos      I  individuals      R  regions      L = K + 1 classes with background
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake

# --- my_coco_boxes ---------------------------------------------------------------------------------------------------


def coco_boxes(annotations: Sequence[dict[str, Any]], category_ids: Sequence[int]) -> Float[Tensor, "N 5"]:
    """Return x1, y1, x2, y2 and label of each annotation but the crowds; ids in ascending order are labels 1..K."""
    return _read(annotations, sorted(category_ids))


def _corners(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    return x, y, x + width, y + height


def _read(
    annotations: Sequence[dict[str, Any]],
    order: Sequence[int],
    *,
    corners: Callable[..., tuple[float, ...]] = _corners,
    first: int = 1,
    crowds: bool = False,
) -> Tensor:
    """Read a file that lists its categories in ``order``; the options are mistakes."""
    rows = [
        [*corners(*note["bbox"]), order.index(note["category_id"]) + first]
        for note in annotations
        if crowds or not note.get("iscrowd", 0)
    ]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def _ids_as_labels(annotations: Sequence[dict[str, Any]], category_ids: Sequence[int]) -> Tensor:
    rows, notes = coco_boxes(annotations, category_ids), [n for n in annotations if not n.get("iscrowd", 0)]
    labels = torch.tensor([float(note["category_id"]) for note in notes])
    return torch.cat((rows[:, :4], labels.reshape(-1, 1)), dim=1)


def _around(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    """x and y taken for the centre."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _first_is_one(annotations: Sequence[dict[str, Any]], category_ids: Sequence[int]) -> Tensor:
    """The smallest id taken off: right only where there are no holes."""
    rows = _ids_as_labels(annotations, category_ids)
    rows[:, 4] += 1 - min(category_ids)
    return rows


COCO_MISTAKES = (
    Mistake(
        "COCO's bbox is x, y, width, height. You took its last two numbers for x2 and y2.",
        lambda notes, ids: _read(notes, sorted(ids), corners=lambda *box: box),
    ),
    Mistake(
        "x and y are the upper left corner, not the centre: x2 = x + width.",
        lambda notes, ids: _read(notes, sorted(ids), corners=_around),
    ),
    Mistake("A category id is not a label. Map the ids in ascending order onto 1, 2, ..., K.", _ids_as_labels),
    Mistake(
        "Ids may have holes: taking off the smallest is not enough. The label is the place in the sorted list, from 1.",
        _first_is_one,
    ),
    Mistake(
        "Labels begin with 1: 0 is the background.",
        lambda notes, ids: _read(notes, sorted(ids), first=0),
    ),
    Mistake("The ids come in any order: sort them first.", lambda notes, ids: _read(notes, list(ids))),
    Mistake(
        "`iscrowd` 1 marks a region around a group. It is not an object: leave it out.",
        lambda notes, ids: _read(notes, sorted(ids), crowds=True),
    ),
)


def _note(category: int, *bbox: float, crowd: int = 0) -> dict[str, Any]:
    return {"bbox": list(bbox), "category_id": category, "iscrowd": crowd}


def _notes(count: int, ids: Sequence[int], seed: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    numbers = (torch.rand(count, 4, generator=generator) * 100).round().tolist()
    chosen = torch.randint(len(ids), (count,), generator=generator).tolist()
    return [_note(ids[place], *box) for place, box in zip(chosen, numbers, strict=True)]


check_coco_boxes = Contract(
    name="my_coco_boxes",
    wanted="a tensor (N, 5) of decimal numbers: x1, y1, x2, y2, label",
    reference=coco_boxes,
    cases=(
        Case(
            "one box 10, 20, 30, 40 of the only category, 1",
            ([_note(1, 10.0, 20.0, 30.0, 40.0)], [1]),
            "x2 = 10 + 30, y2 = 20 + 40, label 1.",
        ),
        Case(
            "categories 24, 25, 27, a box of each",
            ([_note(number, 5.0, 5.0, 2.0, 3.0) for number in (27, 24, 25)], [24, 25, 27]),
            "Labels 3, 1, 2.",
        ),
        Case(
            "the file lists its categories as 7, 3",
            ([_note(3, 0.0, 0.0, 4.0, 4.0), _note(7, 1.0, 1.0, 4.0, 4.0)], [7, 3]),
            "3 comes first: labels 1 and 2.",
        ),
        Case(
            "one object and one crowd",
            ([_note(1, 1.0, 2.0, 3.0, 4.0), _note(1, 0.0, 0.0, 50.0, 50.0, crowd=1)], [1]),
            "One row: the crowd is no object.",
        ),
        Case("a photo without objects", ([], [1, 2]), "Nothing in, nothing out: (0, 5). `.reshape(-1, 5)` helps."),
        Case("twelve random boxes, ids 2, 5, 9", (_notes(12, (2, 5, 9), 0), [5, 9, 2]), ""),
    ),
    mistakes=COCO_MISTAKES,
)

# --- my_split --------------------------------------------------------------------------------------------------------


def split_by_group(groups: Int[Tensor, " N"], order: Int[Tensor, " I"], count: int) -> Bool[Tensor, " N"]:
    """Return which photos are held out: all of the first individuals of ``order``, until ``count`` photos are out."""
    held = torch.zeros_like(groups, dtype=torch.bool)
    for individual in order.tolist():
        if int(held.sum()) >= count:
            break
        held |= groups == individual
    return held


def _one_too_many(groups: Tensor, order: Tensor, count: int) -> Tensor:
    return split_by_group(groups, order, count + 1)


def _never_more(groups: Tensor, order: Tensor, count: int) -> Tensor:
    """Stop before an individual that would make it more than ``count``."""
    held = torch.zeros_like(groups, dtype=torch.bool)
    for individual in order.tolist():
        more = held | (groups == individual)
        if int(more.sum()) > count:
            break
        held = more
    return held


def _cut_off(groups: Tensor, order: Tensor, count: int) -> Tensor:
    """Exactly ``count`` photos: the last individual is in both parts."""
    held = split_by_group(groups, order, count)
    place = torch.stack([(order == group).nonzero()[0, 0] for group in groups])
    ranked = (place * len(groups) + torch.arange(len(groups))).masked_fill(~held, len(groups) ** 2 + 1)
    found = torch.zeros_like(held)
    found[ranked.argsort()[: min(count, int(held.sum()))]] = True
    return found


SPLIT_MISTAKES = (
    Mistake(
        "You count photos and cut an individual in two. All photos of an individual go to the same part.", _cut_off
    ),
    Mistake(
        "You hold out the first photos, whoever is on them. Hold out whole individuals.",
        lambda groups, order, count: torch.arange(len(groups)) < count,
    ),
    Mistake(
        "True is for photos that are held out; yours marks those for training.",
        lambda groups, order, count: ~split_by_group(groups, order, count),
    ),
    Mistake(
        "Take the individuals as `order` has them: that is the drawing of lots.",
        lambda groups, order, count: split_by_group(groups, order.sort().values, count),
    ),
    Mistake("Stop as soon as `count` photos are out: yours takes one individual more.", _one_too_many),
    Mistake("*At least* `count` photos: yours stops one individual too early.", _never_more),
    Mistake(
        "`count` counts photos. You held out that many individuals.",
        lambda groups, order, count: torch.isin(groups, order[:count]),
    ),
)


def _tensor(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


check_split = Contract(
    name="my_split",
    wanted="a tensor (N,): True for each photo that is held out",
    reference=split_by_group,
    cases=(
        Case(
            "four individuals, one photo each; hold out 2",
            (_tensor(0, 1, 2, 3), _tensor(2, 0, 3, 1), 2),
            "Individuals 2 and 0: [True, False, True, False].",
        ),
        Case(
            "three photos of individual 0, which is drawn first; hold out 2",
            (_tensor(0, 0, 0, 1, 2), _tensor(0, 1, 2), 2),
            "All three photos of 0 go out: [True, True, True, False, False].",
        ),
        Case(
            "photos of the same individual do not stand side by side; hold out 3",
            (_tensor(1, 0, 1, 2, 0), _tensor(1, 2, 0), 3),
            "Individual 1 (two photos), then 2: [True, False, True, True, False].",
        ),
        Case("hold out nothing", (_tensor(0, 1), _tensor(1, 0), 0), "0 photos are enough from the start."),
        Case("hold out more than there are", (_tensor(0, 1, 1), _tensor(1, 0), 9), "Then all are held out."),
        Case(
            "twenty photos of six individuals; hold out 7",
            (
                torch.randint(6, (20,), generator=torch.Generator().manual_seed(0)),
                torch.randperm(6, generator=torch.Generator().manual_seed(1)),
                7,
            ),
            "",
        ),
    ),
    mistakes=SPLIT_MISTAKES,
)

# --- my_background_last ----------------------------------------------------------------------------------------------


def background_last(scores: Float[Tensor, "R L"]) -> Float[Tensor, "R L"]:
    """Return class scores with the background in the last column, where Detectron2 has it, instead of the first."""
    return scores.roll(-1, dims=1)


BACKGROUND_MISTAKES = (
    Mistake("You turned all columns round. The classes keep their order.", lambda scores: scores.flip(1)),
    Mistake("It goes the wrong way: you put the last class first.", lambda scores: scores.roll(1, dims=1)),
    Mistake(
        "You exchanged the first and the last column. Only the background moves; the classes close up.",
        lambda scores: torch.cat((scores[:, -1:], scores[:, 1:-1], scores[:, :1]), dim=1),
    ),
    Mistake("The background is lost: as many columns go out as come in.", lambda scores: scores[:, 1:]),
    Mistake("Nothing has moved.", lambda scores: scores.clone()),
    Mistake("You moved the rows. Columns are dim 1.", lambda scores: scores.roll(-1, dims=0)),
)

check_background_last = Contract(
    name="my_background_last",
    wanted="a tensor (R, K + 1): class 1, class 2, ..., background",
    reference=background_last,
    cases=(
        Case("one region, scores 9, 1, 2, 3", (torch.tensor([[9.0, 1.0, 2.0, 3.0]]),), "1, 2, 3, 9."),
        Case(
            "two regions, one class",
            (torch.tensor([[5.0, 1.0], [6.0, 2.0]]),),
            "[[1, 5], [2, 6]].",
        ),
        Case("no regions", (torch.zeros(0, 4),), "(0, 4) stays (0, 4)."),
        Case("seven random regions, five classes", (torch.rand(7, 6, generator=torch.Generator().manual_seed(0)),), ""),
    ),
    mistakes=BACKGROUND_MISTAKES,
)
