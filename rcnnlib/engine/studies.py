"""What the experiments measure: one function a study, which runs one condition with one seed and returns its figures.

Heads and RPNs are trained on stored maps of the frozen ImageNet trunk, so a run takes minutes; within a study all
conditions of a seed see the same pictures in the same order and start from the same weights where shapes agree.
Left out: the choice of conditions, seeds and steps (`experiments`).

Shapes: B pictures, P proposals, S samples; see ``rcnnlib.types``
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from rcnnlib.datasets.coco import scrapbook, scrapbook_cutouts
from rcnnlib.datasets.transforms import Example, collate, pad, resize
from rcnnlib.engine.benchmark_stages import stage_seconds
from rcnnlib.engine.bootstrap import draw_individuals, mean_ap
from rcnnlib.engine.evaluation import Pictures, evaluate, to_records
from rcnnlib.engine.metrics import Record, proposal_recall, voc_map
from rcnnlib.engine.recipes import SCALES, open_data, proposals_of
from rcnnlib.engine.schedules import Schedule
from rcnnlib.engine.stored import StoredFeatures, fit
from rcnnlib.models.backbone import backbone
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.rcnn import RCNN
from rcnnlib.models.weights import load_weights, weights_path
from rcnnlib.ops.box_coder import HEAD_STD, encode
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.matcher import match_proposals
from rcnnlib.ops.nms import BLOCK
from rcnnlib.ops.sampler import sample, take_noise
from rcnnlib.ops.selective_search import selective_search
from rcnnlib.types import Batch, RoISamples

Figures = dict[str, float | list[float]]  # a list: the figure for each draw of individuals (`bootstrap`)
CLASSES = 5
SHORT = Schedule(steps=800, warmup=50)


def stored_maps(scenes: Pictures) -> StoredFeatures:
    """Return the maps of scenes under the ImageNet trunk."""
    return StoredFeatures(backbone("squeezenet", pretrained=True).eval(), scenes, progress=True)


@cache
def stored_scenes(split: str = "train") -> StoredFeatures:
    """Return the maps of the scenes of Scrapbook, with their Selective Search boxes."""
    return stored_maps(open_data("scrapbook_selective_search", split))


# --- sampling_mix ----------------------------------------------------------------------------------------------------

MIXES = {  # fraction of positives, least IoU of background; None: as they come
    "25 %, from 0.1": (0.25, 0.1),
    "25 %, from 0": (0.25, 0.0),
    "50 %, from 0.1": (0.5, 0.1),
    "as they come": (None, 0.0),
}


@torch.no_grad()
def draw_mix(batch: Batch, size: int, fraction: float | None, low: float) -> RoISamples:
    """Draw ``size`` regions a picture in a given mix; with None the first ``size`` that the noise names, whatever.

    The objects are added to the proposals in every mix, as the heads do.
    """
    boxes = torch.cat((batch.proposals, batch.boxes), dim=1)
    exists = torch.cat(((batch.proposals[..., 2:] > batch.proposals[..., :2]).all(-1), batch.valid), dim=1)
    noise = take_noise(batch.noise, 0, boxes.shape[1])
    match = match_proposals(box_iou(boxes, batch.boxes), batch.valid, background_low=low)
    match = match._replace(status=match.status.masked_fill(~exists, -1))
    if fraction is None:
        fraction, noise = 1.0, noise.masked_fill(~exists, 1.0)
        last = noise.sort(dim=-1).values[:, min(size, noise.shape[1]) - 1 :][:, :1]
        match = match._replace(status=match.status.masked_fill(noise > last, -1))
    drawn = sample(match, batch.labels, noise, size=size, positive_fraction=fraction)
    boxes = boxes.take_along_dim(drawn.index.unsqueeze(-1), dim=1)
    truth = batch.boxes.take_along_dim(drawn.matches.unsqueeze(-1), dim=1)
    return RoISamples(boxes, drawn.labels, encode(truth, boxes, std=HEAD_STD))


def sampling_mix(condition: str, seed: int, folder: Path) -> Figures:
    """Train the head of a Fast R-CNN on one mix of samples and test it."""
    torch.manual_seed(seed)
    model = FastRCNN(backbone("squeezenet", pretrained=True), CLASSES, head={"reduced": 64})
    head, positives = model.head, []

    def loss(maps: Tensor, batch: Batch) -> Tensor:
        drawn = draw_mix(batch, head.samples, *MIXES[condition])
        positives.append((drawn.labels > 0).float().sum(1).mean().item())
        return sum(head.losses(*head(head.pool(maps, drawn.boxes, batch.sizes)), drawn))

    fit(head, loss, stored_scenes(), SHORT, seed=seed)
    report = evaluate(model, open_data("scrapbook_selective_search", "test"))
    shown = report["errors"]
    return {
        "AP50": report["AP50"],
        "positives a picture": sum(positives) / len(positives),
        "right boxes shown": shown["correct"] / report["objects"],
        "background shown": shown["background"] / report["pictures"],
    }


# --- rpn_3x3_vs_1x1 --------------------------------------------------------------------------------------

HEADS = {"3x3": (3, 128), "1x1": (1, 128), "1x1, as many weights": (1, 1152)}  # kernel, channels: 128 * 9 = 1152


def rpn_loss(model: FasterRCNN) -> Callable[[Tensor, Batch], Tensor]:
    """Return the loss of the RPN alone, on stored maps."""
    return lambda maps, batch: sum(model.rpn.losses(*model.rpn(maps), batch))


@torch.no_grad()
def recalls(model: FasterRCNN, split: str = "test") -> Figures:
    """Return the recall of the proposals of a Faster R-CNN on Scrapbook, at 300, 100 and 30 of them."""
    data = open_data("scrapbook", split)
    proposals, truths = [], []
    model.rpn.after = 300
    for place in range(len(data)):
        batch = collate([data[place]], seed=0, epoch=0, noise_length=1)
        proposals.append(proposals_of(model, batch)[0])
        truths.append(data[place].boxes)
    figures = {}
    for count in (300, 100, 30):
        found = proposal_recall(proposals, truths, thresholds=torch.tensor([0.5, 0.7]), count=count)
        figures |= {f"recall {iou} at {count}": float(each) for iou, each in zip((0.5, 0.7), found, strict=True)}
    return figures


def rpn_3x3_vs_1x1(condition: str, seed: int, folder: Path) -> Figures:
    """Train an RPN with another first convolution and measure the recall of its proposals."""
    torch.manual_seed(seed)
    kernel, channels = HEADS[condition]
    model = FasterRCNN(backbone("squeezenet", pretrained=True), CLASSES, scales=SCALES, rpn={"channels": channels})
    if kernel == 1:
        first = nn.Conv2d(model.trunk.out_channels, channels, kernel_size=1)
        nn.init.normal_(first.weight, std=0.01)
        nn.init.zeros_(first.bias)
        model.rpn.head.conv = first
    fit(model.rpn, rpn_loss(model), stored_scenes(), SHORT, seed=seed)
    return recalls(model.eval()) | {"weights of the first layer": float(model.rpn.head.conv.weight.numel())}


# --- whole detectors -------------------------------------------------------------------------------------------------


@cache
def individuals_of_the_test() -> tuple[dict[int, Int[Tensor, " _"]], Float[Tensor, "T I"]]:
    """Return for each image id of the test scenes the individuals of its boxes, and the draws."""
    cutouts, scenes = scrapbook_cutouts("test"), scrapbook("test")
    labels: dict[str, int] = {}
    for place, (image, _) in enumerate(scenes.images):
        labels |= dict(zip(cutouts[image], scenes[place].labels.tolist(), strict=True))
    places = {name: place for place, name in enumerate(sorted(labels))}
    individuals = {
        image: torch.tensor([places[name] for name in names], dtype=torch.int64) for image, names in cutouts.items()
    }
    return individuals, draw_individuals([labels[name] for name in sorted(labels)])


def figures_of(records: Sequence[Record]) -> Figures:
    """Return VOC's AP50 of detections in the test scenes, and the same for each draw of individuals."""
    individuals, weights = individuals_of_the_test()
    named = [individuals[record.id] for record in records]
    ap = mean_ap(records, named, torch.cat((torch.ones_like(weights[:1]), weights)), CLASSES).tolist()
    return {"AP50": ap[0], "AP50 drawn": ap[1:]}


DETECTORS = {
    "R-CNN": "rcnn_scrapbook",
    "SPPnet": "sppnet_scrapbook",
    "Fast R-CNN": "fast_rcnn_scrapbook",
    "Faster R-CNN": "faster_rcnn_scrapbook",
}


def detectors(condition: str, seed: int, folder: Path) -> Figures:
    """Time a trained detector by stage on the test picture with number ``seed``; minutes and AP are those of its card.

    Proposals are Selective Search or the RPN; features the passes of the trunk; head all that follows.
    """
    path = weights_path(DETECTORS[condition])
    card, model = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), load_weights(path).model
    data = open_data("scrapbook_selective_search", "test")
    batch = collate([data[seed]], seed=0, epoch=0, noise_length=1)
    stage_seconds(model, batch._replace(proposals=batch.proposals[:, :8]))  # warm up
    begin = time.perf_counter()
    if model.needs_proposals:
        selective_search(data[seed].image)
    search = time.perf_counter() - begin
    laps = stage_seconds(model, batch)
    return {
        "proposals s": search + laps.get("proposals", 0.0),
        "features s": laps["trunk"],
        "head s": laps["head"] + laps["detection"],
        "total s": search + sum(laps.values()),
        "regions": float(batch.proposals.shape[1] if model.needs_proposals else model.rpn.after),
        "minutes": card["seconds"] / 60,
        "AP50 Scrapbook": card["figures"]["scrapbook_test"]["AP50"],
        "AP50 Wild": card["figures"]["wild_test"]["AP50"],
    }


class Scored(NamedTuple):
    """A photo of Wild whose regions R-CNN has all seen."""

    example: Example  # 320 pixels long, its regions best first
    scores: Float[Tensor, "1 P L"]
    deltas: Float[Tensor, "1 P K 4"]
    seconds: float  # for one region


@cache
@torch.inference_mode()
def scored_photos() -> tuple[RCNN, list[Scored]]:
    """Send up to 2000 regions of every photo of Wild through R-CNN, once."""
    model, photos = load_weights("rcnn_scrapbook").model, []
    data = open_data("wild_selective_search", "test")
    for place in tqdm(range(len(data)), desc="R-CNN on Wild"):
        example, begin = resize(data[place], 320), time.perf_counter()
        sizes = torch.tensor([example.image.shape[-2:]], dtype=torch.float32)
        scores, deltas = model.head(model.pool(pad(example.image)[None], example.proposals[None], sizes))
        seconds = (time.perf_counter() - begin) / len(example.proposals)
        photos.append(Scored(example, scores, deltas, seconds))
    return model, photos


@torch.inference_mode()
def rcnn_regions(condition: str, seed: int, folder: Path) -> Figures:
    """Give R-CNN only the first regions of every photo of Wild: what is found, and what a photo costs."""
    count, (model, photos) = int(condition), scored_photos()
    records, seconds = [], 0.0
    for example, scores, deltas, each in photos:
        boxes = example.proposals[None, :count]
        sizes = torch.tensor([example.image.shape[-2:]], dtype=torch.float32)
        exists = torch.ones(boxes.shape[:2], dtype=torch.bool)
        found = model.head.detect(boxes, exists, scores[:, :count], deltas[:, :count], sizes, rounds=BLOCK)
        seconds += each * boxes.shape[1]
        records += to_records([example], found)
    truths, regions = [one.example.boxes for one in photos], [one.example.proposals for one in photos]
    recall = proposal_recall(regions, truths, thresholds=torch.tensor([0.5]), count=count)
    figures = {"AP50": voc_map(records, CLASSES)["mean"], "recall": float(recall[0])}
    return figures | {"seconds": seconds / len(photos)}
