"""Non-maximum suppression: of boxes that overlap too much, keep the one with the best score (R-CNN 2.2).

The greedy rule takes boxes by falling score and strikes every later box whose IoU with it is above the threshold.
Taken literally it is a chain of N decisions. Here it goes block by block: the few decisions inside a block are found
as a fixed point, all boxes of the block at once; what the block's survivors strike is one comparison.
Left out: soft NMS and other rules that came later.

Shapes: ``*B`` leading batch dimensions, N boxes, S boxes of a block, R rows wanted.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rcnnlib.ops.boxes import box_iou

BLOCK = 64  # boxes whose mutual decisions are found together; nms_padded(rounds=BLOCK) is always exact
ROUNDS = 8  # enough for nearly every block: a box waits only for a chain of boxes that strike one another


class Kept(NamedTuple):
    """The survivors of :func:`nms_padded`, best first."""

    index: Int[Tensor, "*B R"]  # rows of the input; 0 where not valid
    valid: Bool[Tensor, "*B R"]
    settled: Bool[Tensor, "*B"]  # False: some block needs more rounds


class NmsStep(NamedTuple):
    """One round of the greedy rule, for a single picture."""

    best: int  # the box that this round keeps
    iou: Float[Tensor, " N"]  # its overlap with every box
    removed: list[int]  # the boxes that it strikes, best first
    waiting: list[int]  # the boxes whose fate is still open, best first


def _limit(iou_threshold: float, dtype: torch.dtype) -> float:
    """Return the largest number of ``dtype`` that is not above the threshold.

    0.3 lies between two float32 numbers, and the nearest is above it. torchvision compares in double precision, so an
    IoU that rounds to that number is struck; comparing with the number below does the same without leaving float32.
    """
    nearest = np.float32(iou_threshold)
    if dtype == torch.float64 or float(nearest) <= iou_threshold:
        return iou_threshold
    return float(np.nextafter(nearest, np.float32(-1)))


def _strikes(boxes: Float[Tensor, "*B S 4"], limit: float) -> Float[Tensor, "*B S S"]:
    """Say which later boxes each box of a block would remove: 1 where the IoU is above the limit, else 0."""
    return (box_iou(boxes, boxes) > limit).to(boxes.dtype).triu_(diagonal=1)


def _settle(
    strikes: Float[Tensor, "*B S S"], exists: Float[Tensor, "*B 1 S"], alive: Float[Tensor, "*B 1 S"], rounds: int
) -> tuple[Float[Tensor, "*B 1 S"], Bool[Tensor, "*B"]]:
    """Play the greedy rule inside a block for some rounds; 1 is alive, 0 struck.

    Each round asks for all boxes at once: does a living box strike me? After round n the first n boxes are right,
    whatever was believed before, so S rounds are always enough; once a round changes nothing, all are right.
    """
    before = alive
    for _ in range(rounds):
        before = alive
        alive = exists * (alive @ strikes == 0)  # the product counts the living boxes that strike each box
        if alive.device.type == "cpu" and torch.equal(alive, before):
            break  # looking is free on the CPU; a GPU would have to wait for the answer
    return alive, (alive == before).flatten(-2).all(dim=-1)


def _struck(winners: Float[Tensor, "K 4"], later: Float[Tensor, "M 4"], limit: float) -> Bool[Tensor, " M"]:
    """Say which later boxes a winner removes; 1024 at a time, so that the table of overlaps stays in the cache."""
    return torch.cat([(box_iou(winners, part) > limit).any(dim=0) for part in later.split(1024)])


def nms(boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], iou_threshold: float) -> Int[Tensor, " K"]:
    """Return the indices of the boxes kept, by falling score; torchvision's signature and result.

    Equal scores keep the order of the input. An IoU equal to the threshold does not remove a box. How many survive
    depends on the data, so a GPU has to wait here: models use :func:`nms_padded`.
    """
    limit = _limit(iou_threshold, boxes.dtype)
    waiting = scores.argsort(descending=True, stable=True)
    boxes, kept = boxes[waiting], []
    while len(waiting):
        size = 4 * BLOCK if len(waiting) > 6 * BLOCK else len(waiting)  # a short rest is quickest in one piece
        block, later = boxes[:size], boxes[size:]
        strikes, exists = _strikes(block, limit), block.new_ones(1, len(block))
        alive, settled = _settle(strikes, exists, exists, 4)
        while not settled:
            alive, settled = _settle(strikes, exists, alive, 4)
        winners = alive[0] > 0
        kept.append(waiting[:size][winners])
        free = ~_struck(block[winners], later, limit)
        waiting, boxes = waiting[size:][free], later[free]  # so later blocks hold only boxes that nobody has struck
    return torch.cat(kept) if kept else waiting


def nms_padded(
    boxes: Float[Tensor, "*B N 4"],
    scores: Float[Tensor, "*B N"],
    iou_threshold: float,
    *,
    keep: int,
    valid: Bool[Tensor, "*B N"] | None = None,
    rounds: int = ROUNDS,
) -> Kept:
    """Run NMS for a whole batch with a fixed number of rows and no read by the host.

    Args:
        boxes, scores: N candidates a picture, in any order.
        keep: how many survivors are wanted, R; the rest of the rows is not ``valid``.
        valid: which candidates exist at all.
        rounds: rounds of the fixed point in a block. Where ``settled`` is False call again with ``rounds=BLOCK``.
    """
    limit, n = _limit(iou_threshold, boxes.dtype), boxes.shape[-2]
    exists = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid
    order = scores.masked_fill(~exists, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    boxes = boxes.gather(-2, order.unsqueeze(-1).expand(*order.shape, 4))
    exists = exists.gather(-1, order)

    lead = scores.shape[:-1]
    kept = boxes.new_zeros(*lead, keep + 1, 4)  # zero boxes overlap nothing; the last row takes what is too many
    index = order.new_zeros(*lead, keep + 1)
    count = order.new_zeros(*lead, 1)
    settled = torch.ones(lead, dtype=torch.bool, device=boxes.device)
    for start in range(0, n, BLOCK):
        here, stop = boxes[..., start : start + BLOCK, :], start + BLOCK
        struck = (box_iou(kept[..., :keep, :], here) > limit).any(dim=-2)
        open_ = (exists[..., start:stop] & ~struck).to(here.dtype).unsqueeze(-2)
        alive, done = _settle(_strikes(here, limit), open_, open_, rounds)
        alive = alive.squeeze(-2) > 0
        row = torch.where(alive, count + alive.cumsum(dim=-1) - 1, keep).clamp(max=keep)
        kept = kept.scatter(-2, row.unsqueeze(-1).expand(*row.shape, 4), here)
        index = index.scatter(-1, row, order[..., start:stop])
        settled = settled & (done | (count.squeeze(-1) >= keep))
        count = count + alive.sum(dim=-1, keepdim=True)
        if boxes.device.type == "cpu" and bool((count >= keep).all()):
            break  # enough for every picture
    found = torch.arange(keep, device=boxes.device) < count
    return Kept(index[..., :keep].masked_fill(~found, 0), found, settled)


def nms_steps(boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], iou_threshold: float) -> Iterator[NmsStep]:
    """Play the greedy rule round by round, as the paper tells it; the kept boxes are those of :func:`nms`."""
    limit = _limit(iou_threshold, boxes.dtype)
    waiting: list[int] = scores.argsort(descending=True, stable=True).tolist()
    while waiting:
        best, *rest = waiting
        iou = box_iou(boxes[best : best + 1], boxes)[0]
        removed = [i for i in rest if iou[i] > limit]
        waiting = [i for i in rest if i not in removed]
        yield NmsStep(best, iou, removed, waiting)
