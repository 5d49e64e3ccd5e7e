"""How sure is a difference? The individuals of the test set are drawn again, with replacement, and AP is counted anew.

A test set of 150 scenes sounds large, but it shows the same 25 cut-outs again and again: a detector that knows the
giraffe finds it in every scene. What could have been otherwise is *which* individuals are in the test set. So these are
drawn, class by class (no class is ever empty), and an individual that is drawn twice counts twice: its objects, the
detections that find them, and the false ones nearest to them. A false detection far from all objects counts once.
All conditions and seeds see the same draws, so differences are taken draw by draw (Efron 1979; paired).
Left out: corrections of bias, and AP at more than one IoU.

Shapes: D detections of a class in all pictures, by falling score; I individuals; T draws
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from rcnnlib.engine.metrics import LOCALISATION_LOW, Record, match
from rcnnlib.ops.boxes import box_iou

DRAWS = 200
NOBODY = -1


class Judged(NamedTuple):
    """The detections of one class in all pictures by falling score, each with the individual it belongs to."""

    right: Bool[Tensor, " D"]
    individual: Int[Tensor, " D"]  # the place in the list of individuals, NOBODY where none is near
    objects: Int[Tensor, " G"]  # the individual of each object of this class


def judge(records: Sequence[Record], individuals: Sequence[Int[Tensor, " _"]], label: int) -> Judged:
    """Judge as VOC does, and say whom each detection of a class looks at: the object that it overlaps most.

    Args:
        individuals: for each record the individual of each of its objects.
    """
    scores, right = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)]
    whom, objects = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=torch.int64)]
    for record, names in zip(records, individuals, strict=True):
        matched = match(record, label)
        mine = record.truth_labels == label
        iou = box_iou(record.boxes[matched.rows], record.truth)  # (D, G)
        # A right detection belongs to the object that it found, a wrong one to the nearest of any class.
        iou = iou.masked_fill(matched.right[:, None] & ~mine, 0.0)
        best, place = pad(iou, (0, 1)).max(dim=1)
        near = pad(names, (0, 1), value=NOBODY)[place]
        kept = ~matched.ignored
        scores.append(record.scores[matched.rows][kept])
        right.append(matched.right[kept])
        whom.append(near.masked_fill(best < LOCALISATION_LOW, NOBODY)[kept])
        objects.append(names[mine])
    order = torch.cat(scores).argsort(descending=True, stable=True)
    return Judged(torch.cat(right)[order], torch.cat(whom)[order], torch.cat(objects))


def weighted_ap(judged: Judged, weights: Float[Tensor, "T I"]) -> Float[Tensor, " T"]:
    """Return the area under the envelope of precision over recall, each individual counted ``weights`` times."""
    weights = pad(weights.double(), (0, 1), value=1.0)  # the last column is NOBODY's
    mine = weights[:, judged.individual]  # (T, D)
    found = mine * judged.right
    precision = found.cumsum(1) / mine.cumsum(1).clamp(min=1e-12)
    envelope = precision.flip(1).cummax(1).values.flip(1) if precision.shape[1] else precision
    return (found * envelope).sum(1) / weights[:, judged.objects].sum(1)


def draw_individuals(classes: Sequence[int], draws: int = DRAWS, *, seed: int = 0) -> Float[Tensor, "T I"]:
    """Return how often each individual is in each draw; within a class as many are drawn as there are."""
    generator, classes = np.random.default_rng(seed), np.asarray(classes)
    weights = np.zeros((draws, len(classes)))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        weights[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    return torch.from_numpy(weights)


def mean_ap(
    records: Sequence[Record], individuals: Sequence[Int[Tensor, " _"]], weights: Float[Tensor, "T I"], classes: int
) -> Float[Tensor, " T"]:
    """Return VOC's AP at IoU 0.5, the mean over the labels 1..classes, for each row of weights."""
    every = [weighted_ap(judge(records, individuals, label), weights) for label in range(1, classes + 1)]
    return torch.stack(every).mean(dim=0)


class Difference(NamedTuple):
    """A mean difference and the interval that holds it in 95 % of the draws."""

    mean: float
    low: float
    high: float

    @property
    def seen(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        verdict = "" if self.seen else ", no difference seen"
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f}){verdict}"


def paired_difference(
    first: Float[Tensor, "S"],
    second: Float[Tensor, "S"],
    first_drawn: Float[Tensor, "S T"],
    second_drawn: Float[Tensor, "S T"],
) -> Difference:
    """Return first minus second, over S seeds and T draws of individuals; seeds are drawn too, with replacement."""
    mean = (first - second).mean().item()
    seeds, draws = first_drawn.shape
    chosen = torch.from_numpy(np.random.default_rng(0).integers(seeds, size=(seeds, draws)))
    drawn = (first_drawn - second_drawn).gather(0, chosen).mean(dim=0)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Difference(mean, low, high)
