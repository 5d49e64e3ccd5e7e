"""The recipes of the course's detectors: which data, which parts, which phases; and the run of one.

``python -m rcnnlib train NAME`` runs one. Left out: any search for better settings; what was tried stands in
``data/weights/README.md``.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rcnnlib.datasets.coco import scrapbook, wild
from rcnnlib.datasets.proposals import WithProposals, selective_search_boxes
from rcnnlib.datasets.scenes import FreshScenes
from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.voc import treetops
from rcnnlib.engine.after_training import fit_after_training
from rcnnlib.engine.distributed import World
from rcnnlib.engine.schedules import (
    Phase,
    Schedule,
    approximate_joint,
    fine_tuning,
    four_step_alternating,
    stored_proposals,
    with_steps,
)
from rcnnlib.engine.training import ALONE, Trainer
from rcnnlib.models.weights import Spec
from rcnnlib.ops.nms import BLOCK
from rcnnlib.types import Batch

SCRAPBOOK_CLASSES = ("bird", "mammal", "food", "tool", "vehicle")
SCALES = (48, 96, 192)  # reach 91 % of Scrapbook's objects and 87 % of Wild's at IoU 0.5; 40, 80, 160: 94 % and 78 %
SHAPES_HEAD = {"reduced": 32, "width": 128}


class Recipe(NamedTuple):
    """A detector and the way to train it."""

    spec: Spec
    data: str  # a name for ``open_data``
    phases: tuple[Phase, ...]
    frozen: int = 2  # blocks of the trunk that keep their first weights
    colours: bool = False  # whether the light of stored pictures changes


def _spec(detector: str, trunk: str, classes: tuple[str, ...], **options) -> Spec:
    return Spec(detector, trunk, classes, options)


COMPACT = {"rpn": {"channels": 128}, "head": {"reduced": 64}}  # 4.4 MB instead of 7.3; what experiments train
SMALL = {"rpn": {"channels": 48}, "head": {"reduced": 32, "width": 128}}  # 2.4 MB, of which the trunk is 1.4
LONG = Schedule(steps=12_000)
RECIPES = {
    "faster_rcnn_shapes": Recipe(
        Spec(
            *("faster_rcnn", "tiny", Shapes.class_names),
            options={"scales": (16, 32, 48), "ratios": (1.0,), "head": SHAPES_HEAD},
            longer_side=96,
        ),
        "shapes",
        approximate_joint(Schedule(steps=600, batch=8, rate=2e-3, warmup=20), trunk="nothing"),
        frozen=0,
    ),
    "faster_rcnn_scrapbook": Recipe(
        _spec("faster_rcnn", "squeezenet", SCRAPBOOK_CLASSES, scales=SCALES),
        "scrapbook_fresh",
        approximate_joint(LONG),
    ),
    "faster_rcnn_4step_scrapbook": Recipe(
        _spec("faster_rcnn", "squeezenet", SCRAPBOOK_CLASSES, scales=SCALES, **SMALL),
        "scrapbook_fresh",
        four_step_alternating(LONG._replace(steps=2000), LONG._replace(steps=1000)),
    ),
    "fast_rcnn_scrapbook": Recipe(
        _spec("fast_rcnn", "squeezenet", SCRAPBOOK_CLASSES),
        "scrapbook_selective_search",
        stored_proposals(LONG._replace(steps=1500)),
    ),
    "rcnn_scrapbook": Recipe(
        _spec("rcnn", "squeezenet", SCRAPBOOK_CLASSES),
        "scrapbook_selective_search",
        fine_tuning(LONG._replace(steps=600, rate=2e-4), learns=("trunk", "head")),
    ),
    "sppnet_scrapbook": Recipe(
        _spec("sppnet", "squeezenet", SCRAPBOOK_CLASSES),
        "scrapbook_selective_search",
        fine_tuning(LONG._replace(steps=1500), learns=("head",)),
    ),
    "faster_rcnn_treetops": Recipe(
        _spec(
            *("faster_rcnn", "squeezenet", ("Tree",)),
            **{"scales": (24, 40, 64), "ratios": (1.0,)} | SMALL,
        ),
        "treetops",
        approximate_joint(LONG._replace(steps=1000)),
        colours=True,
    ),
}


def open_data(name: str, split: str):
    """Open a data set of the course by name: shapes, scrapbook, scrapbook_fresh, ..._selective_search, treetops, wild.

    Raises:
        ValueError: there is no such data set.
    """
    if name == "scrapbook_fresh":
        return FreshScenes(split) if split == "train" else scrapbook(split)
    base, found = name.removesuffix("_selective_search"), name.endswith("_selective_search")
    openers: dict[str, Callable] = {"scrapbook": scrapbook, "treetops": treetops, "wild": lambda split: wild()}
    if name == "shapes":
        return Shapes(2000 if split == "train" else 200, seed={"train": 0, "val": 1, "test": 2}[split])
    if base not in openers:
        names = ("shapes", "scrapbook_fresh", *openers, *(f"{base}_selective_search" for base in openers))
        raise ValueError(f"data set {name!r} is unknown; use one of {', '.join(names)}")
    dataset = openers[base](split)
    boxes = "wild" if base == "wild" else f"{base}_{split}"
    return WithProposals(dataset, selective_search_boxes(boxes)) if found else dataset


@torch.no_grad()
def proposals_of(model: nn.Module, batch: Batch) -> Tensor:
    """Return what the RPN of a Faster R-CNN proposes for a batch, (B, R, 4); exact, whatever the chains."""
    anchors, scores, deltas = model.rpn(model.trunk(batch.images, batch.sizes))
    return model.rpn.propose(anchors, scores, deltas, batch.sizes, rounds=BLOCK).boxes


def start_phase(recipe: Recipe, phase: Phase, done: dict[str, nn.Module]) -> nn.Module:
    """Build the module of a phase: its parts from where the table says, and only what learns set to learn."""
    spec = recipe.spec
    if spec.detector == "faster_rcnn" and "rpn" not in phase.learns:  # a head on given boxes is a Fast R-CNN
        head = {"background_low": 0.0} | spec.options.get("head", {})
        spec = spec._replace(detector="fast_rcnn", options={"head": head})
    model = spec.build(pretrained=phase.trunk == "imagenet")
    if phase.trunk in done:
        model.trunk.load_state_dict(done[phase.trunk].trunk.state_dict())
    for name, part in model.named_children():
        part.requires_grad_(name in phase.learns)
        if name != "trunk" and name in phase.learns and phase.starts in done:
            part.load_state_dict(getattr(done[phase.starts], name).state_dict())
    if "trunk" in phase.learns:
        model.trunk.freeze(recipe.frozen)
    return model


def run_recipe(
    name: str,
    folder: str | Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    workers: int = 0,
    world: World = ALONE,
) -> nn.Module:
    """Train a detector by its recipe, going on where a run in ``folder`` ended; ``steps`` shortens every phase.

    Raises:
        ValueError: there is no such recipe, or the folder holds another run.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown; use one of {', '.join(RECIPES)}")
    return train(RECIPES[name], folder, name=name, seed=seed, steps=steps, workers=workers, world=world)


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    name: str,
    seed: int = 0,
    steps: int | None = None,
    workers: int = 0,
    world: World = ALONE,
) -> nn.Module:
    """Train a detector by any recipe; the checkpoints in ``folder`` are called ``name``. See ``run_recipe``."""
    done: dict[str, nn.Module] = {}
    dataset = open_data(recipe.data, "train")
    for phase in with_steps(recipe.phases, steps):
        torch.manual_seed(seed)  # the first weights of what is not pretrained
        model = start_phase(recipe, phase, done).to(world.device)
        proposer = partial(proposals_of, done[phase.proposals]) if phase.proposals in done else None
        trainer = Trainer(
            *(model, phase.schedule, Path(folder) / phase.name),
            **{"seed": seed, "world": world, "proposer": proposer, "facts": {"recipe": name, "phase": phase.name}},
        )
        trainer.run(dataset, workers=workers, longer_side=recipe.spec.longer_side, colours=recipe.colours)
        done[phase.name] = model
    if recipe.spec.detector in ("rcnn", "sppnet"):
        fit_after_training(
            model, dataset, longer_side=recipe.spec.longer_side, seed=seed, device=world.device, progress=True
        )
    return gather_parts(recipe, done)


def gather_parts(recipe: Recipe, done: dict[str, nn.Module]) -> nn.Module:
    """Return the finished detector: each part from the last phase in which it learned."""
    model = recipe.spec.build(pretrained=False)
    for name, part in model.named_children():
        last = [phase.name for phase in recipe.phases if name in phase.learns] or [recipe.phases[-1].name]
        part.load_state_dict(getattr(done[last[-1]], name).state_dict())
    return model
