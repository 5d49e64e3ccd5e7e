"""Whole detectors trained in different ways, trunk and all: minutes a run, so with few steps.

One function an experiment, as in `studies`. The trunk learns but for its first two blocks. Seconds are those of the
processor, which other work on the machine does not lengthen.
"""

import time
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from rcnnlib.engine.evaluation import coco_ap, run
from rcnnlib.engine.interop import from_torchvision, to_torchvision
from rcnnlib.engine.recipes import COMPACT, RECIPES, SCALES, SCRAPBOOK_CLASSES, Recipe, open_data, start_phase, train
from rcnnlib.engine.schedules import Schedule, stored_proposals, with_steps
from rcnnlib.engine.studies import CLASSES, Figures, figures_of, recalls
from rcnnlib.engine.training import Steps, make_optimizer
from rcnnlib.models.weights import Spec

FASTER = Spec("faster_rcnn", "squeezenet", SCRAPBOOK_CLASSES, {"scales": SCALES} | COMPACT)
JOINT = RECIPES["faster_rcnn_scrapbook"]._replace(spec=FASTER)
FOUR_STEP = RECIPES["faster_rcnn_4step_scrapbook"]._replace(spec=FASTER)
SCHEDULES = {"joint": (JOINT, 1000), "4-step": (FOUR_STEP, 500)}


def four_step_vs_joint(condition: str, seed: int, folder: Path) -> Figures:
    """Train Faster R-CNN by one of the two schedules, shortened: RPN and head each learn for 1000 steps in both."""
    recipe, steps = SCHEDULES[condition]
    return timed_and_tested(recipe, condition, seed, folder, steps)


FAST = Spec("fast_rcnn", "squeezenet", SCRAPBOOK_CLASSES, {"head": COMPACT["head"]})
SOURCES = {
    "Fast R-CNN": Recipe(FAST, "scrapbook_selective_search", stored_proposals(Schedule(steps=1000))),
    "Faster R-CNN": JOINT._replace(data="scrapbook"),
}


def fast_vs_faster(condition: str, seed: int, folder: Path) -> Figures:
    """Train on the same 600 scenes with the boxes of Selective Search or with those of an RPN that learns along."""
    return timed_and_tested(SOURCES[condition], condition, seed, folder, 1000)


def ours_vs_torchvision(condition: str, seed: int, folder: Path) -> Figures:
    """Train the same detector for 500 steps on the same pictures, by our losses or by torchvision's."""
    if condition == "ours":
        return timed_and_tested(JOINT, condition, seed, folder, 500)
    begin = time.process_time()
    torch.manual_seed(seed)
    theirs, (phase,) = to_torchvision(start_phase(JOINT, JOINT.phases[0], {})).train(), with_steps(JOINT.phases, 500)
    theirs.backbone.freeze(JOINT.frozen)
    optimizer = make_optimizer(theirs, phase.schedule)
    steps = Steps(open_data(JOINT.data, "train"), phase.schedule.batch, seed=seed)
    for step in tqdm(range(phase.schedule.steps), desc="torchvision"):
        batch = steps[step]
        rows = zip(batch.boxes, batch.labels, batch.valid, strict=True)
        targets = [{"boxes": boxes[valid], "labels": labels[valid]} for boxes, labels, valid in rows]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(theirs(list(batch.images), targets).values())).sum().backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], phase.schedule.clip)
        for group in optimizer.param_groups:
            group["lr"] = phase.schedule.rate_at(step)
        optimizer.step()
    return {"cpu seconds": time.process_time() - begin} | tested(from_torchvision(theirs))


def timed_and_tested(recipe: Recipe, condition: str, seed: int, folder: Path, steps: int) -> Figures:
    """Train by a recipe, every phase ``steps`` long, and measure."""
    begin = time.process_time()
    model = train(recipe, folder, name=condition, seed=seed, steps=steps)
    return {"cpu seconds": time.process_time() - begin} | tested(model)


def tested(model: nn.Module) -> Figures:
    """Measure a detector on the test scenes of Scrapbook; of an RPN the recall too."""
    data = open_data("scrapbook_selective_search" if model.needs_proposals else "scrapbook", "test")
    records = run(model.eval(), data)
    figures = figures_of(records) | {"AP": coco_ap(records, CLASSES)["AP"]}
    return figures if model.needs_proposals else figures | recalls(model)
