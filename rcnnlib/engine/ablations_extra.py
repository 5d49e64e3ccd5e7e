"""More of the papers' tables, on the same stored maps and with the same heads as `ablations`.

Left out: which layers to fine-tune (Fast R-CNN, table 5), because here no layer of the trunk learns; softmax against
SVM (table 8).
"""

import copy
from pathlib import Path

import numpy as np

from rcnnlib.datasets.compose import Parts
from rcnnlib.datasets.scenes import FreshScenes
from rcnnlib.engine.ablations import ALL, detect, fit_head, fit_rpn, proposed, recalls_of, searched, trained_head
from rcnnlib.engine.stored import StoredFeatures
from rcnnlib.engine.studies import SHORT, Figures, figures_of
from rcnnlib.models.backbone import backbone
from rcnnlib.models.roi_heads import truncated_svd

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
    stored = StoredFeatures(backbone("squeezenet", pretrained=True).eval(), scenes, progress=True)
    rpn = fit_rpn(seed, stored=stored)
    head = fit_head(seed, proposer=rpn, stored=stored)
    boxes = proposed(rpn, 300)
    return figures_of(detect(head, boxes)) | recalls_of(boxes) | {"individuals": float(len(chosen))}
