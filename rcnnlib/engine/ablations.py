"""The tables by which the papers argued, measured again: heads and RPNs on stored maps of the frozen ImageNet trunk.

One function an experiment, which makes one condition with one seed. All conditions of a seed start from the same
weights where shapes agree and see the same pictures in the same order. What several conditions need, such as the RPN
of a seed, is trained once and kept. AP50 is VOC's (area), with its draws of individuals beside it (`bootstrap`).
Left out: the choice of conditions, seeds and steps (`experiments`); whole detectors (`studies`).

Shapes: B pictures, P proposals; see ``rcnnlib.types``
"""

import copy
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.engine.evaluation import to_records
from rcnnlib.engine.metrics import Record, proposal_recall, voc_map
from rcnnlib.engine.recipes import COMPACT, SCALES
from rcnnlib.engine.schedules import Schedule
from rcnnlib.engine.stored import StoredFeatures, fit
from rcnnlib.engine.studies import CLASSES, SHORT, Figures, figures_of, stored_scenes
from rcnnlib.models.backbone import backbone
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.roi_heads import RoIHead, given_proposals
from rcnnlib.models.rpn import RPN
from rcnnlib.ops.nms import BLOCK
from rcnnlib.types import Batch

RATIOS = (0.5, 1.0, 2.0)
RECALLS = (0.5, 0.6, 0.7, 0.8, 0.9)
ALL = 10_000  # more regions than any picture has

# --- pictures, truth, figures ----------------------------------------------------------------------------------------


@torch.inference_mode()
def detect(
    head: RoIHead, regions: Sequence[Float[Tensor, "_ 4"]], *, split: str = "test", moved: bool = True
) -> list[Record]:
    """Send regions of every scene through a head; without ``moved`` each detection is the region as it came."""
    records, stored = [], stored_scenes(split)
    head.eval()
    for (maps, _), (example, _), boxes in zip(stored.maps, stored.examples, regions, strict=True):
        sizes = torch.tensor([example.image.shape[-2:]], dtype=torch.float32)
        scores, deltas = head(head.pool(maps[None].float(), boxes[None], sizes))
        exists = torch.ones(1, len(boxes), dtype=torch.bool)
        found = head.detect(boxes[None], exists, scores, deltas if moved else 0 * deltas, sizes, rounds=BLOCK)
        records += to_records([example], found)
    return records


def searched(count: int = ALL, *, split: str = "test") -> list[Float[Tensor, "_ 4"]]:
    """Return the first boxes of Selective Search for each scene."""
    return [example.proposals[:count] for example, _ in stored_scenes(split).examples]


@torch.inference_mode()
def proposed(
    rpn: RPN, count: int, *, split: str = "test", nms: bool = True, ranked: bool = True, moved: bool = True
) -> list[Float[Tensor, "_ 4"]]:
    """Return the proposals of an RPN for each scene.

    Args:
        nms: without it overlapping proposals stay.
        ranked: without it the anchors are drawn at random, which leaves nothing for NMS to go by either.
        moved: without it the proposals are the anchors themselves.
    """
    rpn, boxes = copy.copy(rpn), []
    rpn.after, rpn.before = count, max(count, rpn.before)
    if not (nms and ranked):
        rpn.nms_threshold = math.inf  # no overlap is above it
    stored = stored_scenes(split)
    for (maps, _), (example, _) in zip(stored.maps, stored.examples, strict=True):
        sizes = torch.tensor([example.image.shape[-2:]], dtype=torch.float32)
        anchors, scores, deltas = rpn(maps[None].float())
        if not ranked:
            scores = torch.randn(scores.shape, generator=torch.Generator().manual_seed(example.id))
        found = rpn.propose(anchors, scores, deltas if moved else 0 * deltas, sizes, rounds=BLOCK)
        boxes.append(found.boxes[0][found.valid[0]])
    return boxes


def recalls_of(regions: Sequence[Float[Tensor, "_ 4"]], *, split: str = "test") -> Figures:
    """Return which part of the objects some region overlaps, at several IoUs."""
    truths = [example.boxes for example, _ in stored_scenes(split).examples]
    found = proposal_recall(regions, truths, thresholds=torch.tensor(RECALLS)).tolist()
    return {f"recall {iou}": each for iou, each in zip(RECALLS, found, strict=True)}


# --- what is trained -------------------------------------------------------------------------------------------------


def fit_rpn(
    seed: int,
    scales: tuple = SCALES,
    ratios: tuple = RATIOS,
    *,
    box_weight: float = 10.0,
    schedule: Schedule = SHORT,
    stored: StoredFeatures | None = None,
) -> RPN:
    """Train an RPN on stored maps; None: those of the training scenes."""
    torch.manual_seed(seed)
    trunk = backbone("squeezenet", pretrained=False)
    options = COMPACT["rpn"] | {"scales": scales, "ratios": ratios, "box_weight": box_weight}
    rpn = RPN(trunk.out_channels, trunk.stride, **options)

    def loss(maps: Tensor, batch: Batch) -> Tensor:
        return sum(rpn.losses(*rpn(maps), batch))

    fit(rpn, loss, stored or stored_scenes(), schedule, seed=seed)
    return rpn.eval()


def fit_head(
    seed: int,
    *,
    terms: tuple[float, float] = (1.0, 1.0),
    proposer: RPN | None = None,
    schedule: Schedule = SHORT,
    stored: StoredFeatures | None = None,
    **options,
) -> RoIHead:
    """Train the head of a Fast R-CNN on Selective Search's boxes, or on those of ``proposer``.

    ``terms`` are the weights of the two terms of the loss, ``options`` those of the head.
    """
    torch.manual_seed(seed)
    options = COMPACT["head"] | ({"background_low": 0.0} if proposer else {}) | options
    head = FastRCNN(backbone("squeezenet", pretrained=False), CLASSES, head=options).head

    def loss(maps: Tensor, batch: Batch) -> Tensor:
        boxes = batch.proposals
        if proposer is not None:
            with torch.no_grad():
                boxes = proposer.propose(*proposer(maps), batch.sizes, rounds=BLOCK).boxes
        pair = head_losses(head, maps, boxes, batch)
        return sum(weight * term for weight, term in zip(terms, pair, strict=True))

    fit(head, loss, stored or stored_scenes(), schedule, seed=seed)
    return head.eval()


def head_losses(head: RoIHead, maps: Tensor, boxes: Float[Tensor, "B P 4"], batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the two terms for regions of a batch; rows without area are padding."""
    given = given_proposals(boxes)
    drawn = head.sample(given.boxes, given.valid, batch, 0)
    return head.losses(*head(head.pool(maps, drawn.boxes, batch.sizes)), drawn)


trained_rpn, trained_head = cache(fit_rpn), cache(fit_head)


@cache
def stage_wise_head(seed: int) -> RoIHead:
    """Train the classifier alone, then, with all else as it is, the last layer that moves the boxes."""
    head = copy.deepcopy(trained_head(seed, terms=(1.0, 0.0)))
    head.requires_grad_(False).predict.deltas.requires_grad_(True)

    def loss(maps: Tensor, batch: Batch) -> Tensor:
        return head_losses(head, maps, batch.proposals, batch)[1]

    fit(head.predict.deltas, loss, stored_scenes(), SHORT, seed=seed)
    return head.eval()


# --- the experiments -------------------------------------------------------------------------------------------------

STEPS = ("200", "400", "800", "1600")


def steps(condition: str, seed: int, folder: Path) -> Figures:
    """Train head and RPN for so many steps; measured on the validation scenes, because this chooses a setting."""
    schedule = SHORT._replace(steps=int(condition))
    records = detect(trained_head(seed, schedule=schedule), searched(split="val"), split="val")
    found = recalls_of(proposed(trained_rpn(seed, schedule=schedule), 100, split="val"), split="val")
    return {"AP50": voc_map(records, CLASSES)["mean"]} | found


MULTI_TASK = ("classification only", "multi-task, boxes not moved", "stage-wise", "multi-task")


def multi_task(condition: str, seed: int, folder: Path) -> Figures:
    """Fast R-CNN, table 6: does learning to move boxes help to name them?"""
    if condition == "stage-wise":
        return figures_of(detect(stage_wise_head(seed), searched()))
    head = trained_head(seed, terms=(1.0, 0.0) if condition == "classification only" else (1.0, 1.0))
    return figures_of(detect(head, searched(), moved=condition == "multi-task"))


PROPOSALS: dict[str, dict] = {  # how many, and what is left out; of Selective Search and of the RPN
    "SS, all": {"search": ALL},
    "SS, 300": {"search": 300},
    "SS, 100": {"search": 100},
    "SS, 30": {"search": 30},
    "RPN, 300": {"count": 300},
    "RPN, 100": {"count": 100},
    "RPN, 30": {"count": 30},
    "RPN, 1000 without NMS": {"count": 1000, "nms": False},
    "RPN, 300 without NMS": {"count": 300, "nms": False},
    "RPN, 300 without scores": {"count": 300, "ranked": False},
    "RPN, 100 without scores": {"count": 100, "ranked": False},
    "RPN, 300 without regression": {"count": 300, "moved": False},
    "RPN, 300, head trained on them": {"count": 300, "own": True},
}


def proposals(condition: str, seed: int, folder: Path) -> Figures:
    """Faster R-CNN, table 2 and figure 4: a head trained on Selective Search's boxes is given others at test."""
    options = dict(PROPOSALS[condition])
    head = trained_head(seed, proposer=trained_rpn(seed)) if options.pop("own", False) else trained_head(seed)
    boxes = searched(options["search"]) if "search" in options else proposed(trained_rpn(seed), **options)
    return figures_of(detect(head, boxes)) | recalls_of(boxes) | {"regions": sum(map(len, boxes)) / len(boxes)}


ANCHORS = {  # scales, ratios
    "1 scale, 1 ratio": ((96,), (1.0,)),
    "1 scale, 3 ratios": ((96,), RATIOS),
    "3 scales, 1 ratio": (SCALES, (1.0,)),
    "3 scales, 3 ratios": (SCALES, RATIOS),
}


def anchors(condition: str, seed: int, folder: Path) -> Figures:
    """Faster R-CNN, table 8: RPNs with other anchors; the head is the one trained on Selective Search's boxes."""
    return _with_the_same_head(seed, trained_rpn(seed, *ANCHORS[condition]))


LAMBDAS = ("0.1", "1", "10", "100")


def box_weight(condition: str, seed: int, folder: Path) -> Figures:
    """Faster R-CNN, table 9: lambda of the RPN's loss."""
    return _with_the_same_head(seed, trained_rpn(seed, box_weight=float(condition)))


def _with_the_same_head(seed: int, rpn: RPN) -> Figures:
    figures = figures_of(detect(trained_head(seed), proposed(rpn, 300)))
    for count in (300, 100):
        found = recalls_of(proposed(rpn, count))
        figures |= {f"{name} at {count}": number for name, number in found.items()}
    return figures
