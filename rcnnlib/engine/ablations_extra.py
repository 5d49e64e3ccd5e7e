"""More of the papers' tables, on the same stored maps and with the same heads as `ablations`.

Left out: which layers to fine-tune (Fast R-CNN, table 5), because here no layer of the trunk learns; softmax against
SVM (table 8).
"""

import copy
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.compose import Parts
from rcnnlib.datasets.scenes import FreshScenes
from rcnnlib.engine.ablations import (
    ALL,
    detect,
    fit_head,
    fit_rpn,
    proposed,
    recalls_of,
    searched,
    trained_head,
)
from rcnnlib.engine.evaluation import run
from rcnnlib.engine.metrics import Record, voc_map
from rcnnlib.engine.recipes import SCALES
from rcnnlib.engine.stored import StoredFeatures
from rcnnlib.engine.studies import CLASSES, SHORT, Figures, figures_of, stored_maps
from rcnnlib.models.backbone import backbone
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.roi_heads import RoIHead, truncated_svd
from rcnnlib.models.rpn import RPN
from rcnnlib.ops.boxes import box_iou, covered_fraction

POOLINGS = ("pool", "align")


def pooling(condition: str, seed: int, folder: Path) -> Figures:
    """RoI pooling, which rounds to whole cells, against RoIAlign."""
    return figures_of(detect(trained_head(seed, pooling=condition), searched()))


RANKS = ("none", "128", "64", "32", "16", "8")


def svd(condition: str, seed: int, folder: Path) -> Figures:
    """Fast R-CNN, 3.1 and 4.4: the first fully connected layer cut down to so many singular values."""
    head = copy.deepcopy(trained_head(seed))
    whole = head.mlp.fc6
    if condition != "none":
        head.mlp.fc6 = truncated_svd(whole, int(condition))
    weights = sum(parameter.numel() for parameter in head.mlp.fc6.parameters())
    return figures_of(detect(head, searched())) | {"weights": float(weights)}


COUNTS = ("10", "30", "100", "300", "1000", "all")


def regions(condition: str, seed: int, folder: Path) -> Figures:
    """Fast R-CNN, figure 3: how many of Selective Search's boxes does a picture need at test?"""
    boxes = searched(ALL if condition == "all" else int(condition))
    figures = figures_of(detect(trained_head(seed), boxes)) | recalls_of(boxes)
    return figures | {"regions": sum(map(len, boxes)) / len(boxes)}


REGIONS_A_STEP = 128
PICTURES = ("1", "2", "8", "32")


def pictures_a_step(condition: str, seed: int, folder: Path) -> Figures:
    """Fast R-CNN, 2.3: 128 regions of a step, out of so many pictures. On stored maps a picture costs nothing."""
    count = int(condition)
    schedule = SHORT._replace(batch=count)
    head = fit_head(seed, schedule=schedule, samples=REGIONS_A_STEP // count)
    return figures_of(detect(head, searched()))


def fit_both(seed: int, stored: StoredFeatures, scales: tuple = SCALES) -> tuple[RPN, RoIHead, Figures]:
    """Train an RPN and a head on its proposals; return them, and their figures on the test scenes."""
    rpn = fit_rpn(seed, scales, schedule=SHORT, stored=stored)
    head = fit_head(seed, proposer=rpn, schedule=SHORT, stored=stored)
    boxes = proposed(rpn, 300)
    return rpn, head, figures_of(detect(head, boxes)) | recalls_of(boxes)


SHARES = ("1/4", "1/2", "all")


def cutouts(condition: str, seed: int, folder: Path) -> Figures:
    """Train RPN and head on 600 scenes that are made of fewer individuals, drawn anew for each seed."""
    share = {"1/4": 0.25, "1/2": 0.5, "all": 1.0}[condition]
    scenes = FreshScenes("train", seed=seed)
    order, chosen = np.random.default_rng(seed).permutation(len(scenes.parts.cutouts)), []
    for label in range(1, len(scenes.class_names) + 1):
        same = [scenes.parts.cutouts[place] for place in order if scenes.parts.cutouts[place].label == label]
        chosen += same[: max(1, round(share * len(same)))]
    scenes.parts = Parts(chosen, scenes.parts.backgrounds)
    _, _, figures = fit_both(seed, stored_maps(scenes))
    return figures | {"individuals": float(len(chosen))}


PHOTOS = {  # whether each cut-out is varied, and the scales of the anchors
    "varied": (True, SCALES),
    "varied, scales 40, 80, 160": (True, (40, 80, 160)),
    "as they are": (False, SCALES),
}


@lru_cache(maxsize=1)  # conditions that share pictures follow each other, and five seeds would not fit in memory
def stored_fresh(seed: int, vary: bool, length: int = 600) -> StoredFeatures:
    """Return the maps of fresh scenes, with their cut-outs varied or as they are."""
    return stored_maps(FreshScenes("train", length=length, seed=seed, vary=vary))


def shares_found(records: Sequence[Record], score: float = 0.3) -> Figures:
    """Return which part of the objects a detection of their class fits (IoU 0.5), and which part it also holds whole.

    Whole means nine tenths of the object's box; of several detections with ``score`` or more the best IoU counts.
    """
    found = whole = 0
    for record in records:
        for box, label in zip(record.truth[:, None], record.truth_labels, strict=True):
            boxes = record.boxes[(record.labels == label) & (record.scores >= score)]
            ious = box_iou(box, boxes)[0]
            if len(boxes) and ious.max() >= 0.5:
                best = boxes[ious.argmax()][None]
                found, whole = found + 1, whole + int(covered_fraction(box, best)[0] >= 0.9)
    objects = sum(len(record.truth) for record in records)
    return {"found": found / objects, "found whole": whole / objects}


def photos(condition: str, seed: int, folder: Path) -> Figures:
    """Train RPN and head on pasted scenes, and look at the photos of Wild, which show whole animals."""
    vary, scales = PHOTOS[condition]
    model = FasterRCNN(backbone("squeezenet", pretrained=True), CLASSES, scales=scales)
    model.rpn, model.head, figures = fit_both(seed, stored_fresh(seed, vary), scales)
    records = run(model, wild())
    return figures | {"AP50 Wild": voc_map(records, CLASSES)["mean"]} | shares_found(records)
