"""Where the seconds of a picture go: R-CNN, SPPnet, Fast and Faster R-CNN, stage by stage.

Part of ``python -m rcnnlib benchmark models``. Left out: training, and time on a GPU.
"""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from rcnnlib.datasets.transforms import collate
from rcnnlib.engine.recipes import RECIPES, open_data
from rcnnlib.models.rcnn import RCNN
from rcnnlib.models.roi_heads import given_proposals
from rcnnlib.models.sppnet import SPPnet
from rcnnlib.models.weights import load_weights
from rcnnlib.ops.nms import BLOCK
from rcnnlib.ops.selective_search import selective_search
from rcnnlib.types import Batch

DETECTORS = {"R-CNN": "rcnn", "SPPnet": "sppnet", "Fast R-CNN": "fast_rcnn", "Faster R-CNN": "faster_rcnn"}
STAGES = ("Selective Search", "trunk", "proposals", "head", "detection")


def load(name: str) -> tuple[Any, bool]:
    """Return a detector of the course and whether it is trained; without its file the heads are random, of seed 0."""
    try:
        return load_weights(name).model, True
    except FileNotFoundError:
        torch.manual_seed(0)
        return RECIPES[name].spec.build().eval(), False


def pieces(model: Any, batch: Batch) -> Iterator[tuple[str, Any]]:
    """Run a detector as its ``stages`` does and pause after each piece; the last one is the detections."""
    images, sizes, proposals = batch.images, batch.sizes, given_proposals(batch.proposals)
    if isinstance(model, RCNN):  # every region goes through the trunk on its own, so pooling is part of it
        pooled = model.pool(images, proposals.boxes, sizes)
        yield "trunk", pooled
    else:
        features = model.trunk(images, sizes)
        yield "trunk", features
        if hasattr(model, "rpn"):
            proposals = model.rpn.propose(*model.rpn(features), sizes, rounds=BLOCK)
            yield "proposals", proposals
        where = (features, proposals.boxes)
        pooled = model.pool(*where) if isinstance(model, SPPnet) else model.head.pool(*where, sizes)
    scores, deltas = model.head(pooled)
    yield "head", (scores, deltas)
    yield "detection", model.head.detect(proposals.boxes, proposals.valid, scores, deltas, sizes, rounds=BLOCK)


@torch.inference_mode()
def stage_seconds(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Return the seconds of each piece of a detector."""
    seconds, begin = {}, time.perf_counter()
    for name, _ in pieces(model, batch):
        seconds[name], begin = time.perf_counter() - begin, time.perf_counter()
    return seconds


def stage_lines(count: int = 4) -> Iterator[str]:
    """R-CNN against SPPnet, Fast and Faster R-CNN: where a picture's seconds go; each test picture on its own."""
    data = open_data("scrapbook_selective_search", "test")
    batches = [collate([data[index]], seed=0, epoch=0) for index in range(count)]
    selective_search(batches[0].images[0, :, :64, :64])  # warm up
    begin = time.perf_counter()
    regions = sum(len(selective_search(batch.images[0])) for batch in batches) / count
    search = (time.perf_counter() - begin) / count
    yield f"seconds a picture by stage, mean of {count} pictures, with {regions:.0f} regions of Selective Search"
    yield f"{'':14}{''.join(f'{stage:>18}' for stage in STAGES)}{'all':>9}"
    for title, name in DETECTORS.items():
        model, trained = load(f"{name}_scrapbook")
        stage_seconds(model, batches[0]._replace(proposals=batches[0].proposals[:, :8]))  # warm up
        laps = [stage_seconds(model, batch) for batch in batches]
        seconds = {"Selective Search": search} if model.needs_proposals else {}
        seconds |= {stage: sum(lap[stage] for lap in laps) / count for stage in laps[0]}
        cells = "".join(f"{seconds[stage]:18.3f}" if stage in seconds else f"{'-':>18}" for stage in STAGES)
        yield f"{title:14}{cells}{sum(seconds.values()):9.3f}{'' if trained else '   random heads'}"
