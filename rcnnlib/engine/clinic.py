"""The clinic of lesson 17: one small healthy detector, and eight that are broken in one place each.

The healthy one is Faster R-CNN with the tiny trunk on `Signs`. A patient differs from it by one subclass that replaces
one method (of the RPN, its head, or the RoI head), or by one wrong reading of the pictures. Nothing global is changed.
A fault of training is there in training and at test; a fault of test alone has the healthy weights.
``data/build/clinic.py`` trains them and writes ``data/clinic/clinic.json``, which the lesson reads.
Left out: faults that stop with an error, which Python names by itself.

Shapes: B pictures, A anchors, C, h, w channels and cells of the map, k anchors a cell, R regions, K classes, L = K + 1,
    H, W pixels of a picture, H2, W2 of the enlarged one
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu

from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import Example
from rcnnlib.engine.schedules import Schedule
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.roi_heads import MIN_SIDE, RoIHead, best_detections
from rcnnlib.models.rpn import RPN, RPNHead
from rcnnlib.models.weights import Spec
from rcnnlib.ops.anchors import anchor_grid
from rcnnlib.ops.box_coder import HEAD_STD, decode
from rcnnlib.ops.boxes import clip_boxes, is_large
from rcnnlib.ops.matcher import IGNORED, NEGATIVE, Match
from rcnnlib.ops.nms import ROUNDS, nms_padded
from rcnnlib.types import Batch, Detections

FILE = "clinic/clinic.json"
CLASSES = ("circle", "square", "red triangle")
SCENERY = 4  # a blue triangle, which is no object: only the paint tells it from a red one
PAINT = {3: (0.85, 0.15, 0.15), SCENERY: (0.15, 0.15, 0.85)}
RPN_OPTIONS = {"scales": (16, 32, 48), "ratios": (1.0,)}
BUDGET = {"before": 200, "after": 100}  # of proposals, in training
FEW = 20  # of them at test, so that a lame RPN is felt
HEAD = {"reduced": 32, "width": 128}
SPEC = Spec("faster_rcnn", "tiny", CLASSES, RPN_OPTIONS | {"rpn": BUDGET, "head": HEAD}, longer_side=96)
SCHEDULE = Schedule(steps=1000, batch=4, rate=2e-3, warmup=20, drops=(0.8,))


class Signs(Shapes):
    """`Shapes` with three classes: circles and squares of any colour, and red triangles. Blue triangles are scenery.

    So a detector has to look at colours, to tell an object from the background.
    """

    class_names = CLASSES

    def __getitem__(self, index: int) -> Example:
        example = super().__getitem__(index)
        sign = example.labels != SCENERY
        return example._replace(boxes=example.boxes[sign], labels=example.labels[sign])

    def _next_shape(self, random: np.random.Generator, ground: Float[np.ndarray, " 3"]) -> tuple:
        box, label, colour = super()._next_shape(random, ground)
        if label == 3:
            label += int(random.integers(2))
            colour = np.array(PAINT[label]) + random.uniform(-0.08, 0.08, 3)
        return box, label, colour


# --- readings of the pictures ----------------------------------------------------------------------------------------

Reading = Callable[[Example], Example]


def read_well(example: Example) -> Example:
    """Return a picture as the data set gives it."""
    return example


def count_from_zero(example: Example) -> Example:
    """Labels 0 to K - 1; but 0 is the background."""
    return example._replace(labels=example.labels - 1)


def swap_axes(example: Example) -> Example:
    """Boxes stored as (y1, x1, y2, x2), as some file formats do, and taken for (x1, y1, x2, y2)."""
    return example._replace(boxes=example.boxes[:, [1, 0, 3, 2]])


def swap_colours(example: Example) -> Example:
    """Pixels in the order blue, green, red, as OpenCV reads them."""
    return example._replace(image=example.image.flip(0))


class Reader:
    """A data set through the eyes of a patient's loader."""

    def __init__(self, dataset: Any, reading: Reading) -> None:
        self.dataset, self.reading, self.class_names = dataset, reading, dataset.class_names

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        return self.reading(self.dataset[index])


# --- parts of the detector, each with one method replaced ------------------------------------------------------------


class CornerRPN(RPN):
    """Its anchors stand on the corners of the cells; the weights were trained with anchors on the centres."""

    def forward(self, features: Float[Tensor, "B C h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return anchors, scores and deltas."""
        height, width = features.shape[-2:]
        return anchor_grid(self.base, (height, width), self.stride, offset=0), *self.head(features)


class StrictRPN(RPN):
    """Whatever is not positive is negative: anchors of IoU 0.3 to 0.7 too, and those that cross the border."""

    def match(self, anchors: Float[Tensor, "A 4"], batch: Batch) -> Match:
        """Say which anchors are positive and which negative."""
        match = super().match(anchors, batch)
        return match._replace(status=match.status.masked_fill(match.status == IGNORED, NEGATIVE))


class UnpermutedHead(RPNHead):
    """The score map (B, 2k, h, w) is reshaped into a list as it lies in memory, channel by channel."""

    def forward(self, features: Float[Tensor, "B C h w"]) -> tuple[Tensor, Tensor]:
        """Return for each anchor two logits, of the wrong places, and four deltas."""
        hidden = relu(self.conv(features))
        scores = self.scores(hidden).reshape(len(features), -1, 2)
        deltas = self.deltas(hidden).permute(0, 2, 3, 1).reshape(len(features), -1, 4)
        return scores, deltas


class UnscaledHead(RoIHead):
    """Deltas are learned divided by their std, and applied as they come."""

    def detect(self, boxes, valid, scores, deltas, sizes, *, rounds: int = ROUNDS) -> Detections:
        """Return the detections, with deltas 5 and 10 times too large."""
        return super().detect(boxes, valid, scores, deltas / deltas.new_tensor(HEAD_STD), sizes, rounds=rounds)


class HastyHead(RoIHead):
    """NMS compares the proposals, before they are corrected; then the survivors are decoded."""

    def detect(
        self,
        boxes: Float[Tensor, "B R 4"],
        valid: Tensor,
        scores: Float[Tensor, "B R L"],
        deltas: Float[Tensor, "B R K 4"],
        sizes: Float[Tensor, "B 2"],
        *,
        rounds: int = ROUNDS,
    ) -> Detections:
        """Return the detections, with copies of one another."""
        classes, rows = deltas.shape[2], boxes.shape[1]
        probability = scores.softmax(-1)[..., 1:].transpose(1, 2)  # (B, K, R)
        possible = valid.unsqueeze(1) & (probability > self.score_threshold)
        before = boxes.unsqueeze(1).expand(-1, classes, -1, -1)  # (B, K, R, 4)
        kept = nms_padded(before, probability, self.nms_threshold, keep=rows, valid=possible, rounds=rounds)
        chosen = kept.index.unsqueeze(-1)
        moved = decode(
            deltas.transpose(1, 2).take_along_dim(chosen, dim=2), before.take_along_dim(chosen, dim=2), std=HEAD_STD
        )
        moved = clip_boxes(moved.flatten(1, 2), sizes).unflatten(1, (classes, -1))
        found = kept.valid & is_large(moved, MIN_SIDE)
        # A threshold of 1 strikes nobody: what is left to do is to gather the best of all classes.
        return best_detections(
            *(moved, probability.gather(2, kept.index), found), threshold=1.0, count=self.detections, rounds=rounds
        )


# --- the patients ----------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """What is wrong with a patient, and where: one of ``reading`` or ``part`` is set."""

    name: str
    learned: bool  # whether the fault is there in training, too
    reading: Reading = read_well
    part: type[nn.Module] | None = None


HEALTHY = Fault("nothing", learned=False)
FAULTS = {
    "A": Fault("deltas not normalised back", learned=False, part=UnscaledHead),
    "B": Fault("labels counted from 0", learned=True, reading=count_from_zero),
    "C": Fault("x and y swapped", learned=True, reading=swap_axes),
    "D": Fault("NMS before decode", learned=False, part=HastyHead),
    "E": Fault("blue and red swapped", learned=False, reading=swap_colours),
    "F": Fault("scores reshaped without permute", learned=True, part=UnpermutedHead),
    "G": Fault("anchors half a stride off", learned=False, part=CornerRPN),
    "H": Fault("ignored anchors count as negative", learned=True, part=StrictRPN),
}


def build(fault: Fault = HEALTHY, *, seed: int = 0) -> FasterRCNN:
    """Return an untrained detector with this fault; the first weights are the healthy one's."""
    torch.manual_seed(seed)
    model = SPEC.build(pretrained=False)
    return infect(model, fault)


def infect(model: FasterRCNN, fault: Fault) -> FasterRCNN:
    """Replace one part of a detector by the patient's, with the same weights."""
    width, stride, k = model.trunk.out_channels, model.trunk.stride, len(model.rpn.base)
    if fault.part is None:
        return model
    if issubclass(fault.part, RPN):
        model.rpn = _with_weights(fault.part(width, stride, **RPN_OPTIONS, **BUDGET), model.rpn)
    elif issubclass(fault.part, RPNHead):
        model.rpn.head = _with_weights(fault.part(width, k), model.rpn.head)
    else:
        model.head = _with_weights(fault.part(width, len(CLASSES), stride, **HEAD), model.head)
    return model


def _with_weights(part: nn.Module, of: nn.Module) -> nn.Module:
    part.load_state_dict(of.state_dict())
    return part.train(of.training)


def enlarge(image: Float[Tensor, "3 H W"], zoom: int = 4) -> Float[Tensor, "3 H2 W2"]:
    """Return a picture for eyes: larger, its noise averaged, in six shades of each colour."""
    calm = image[None]
    for _ in range(3):
        calm = avg_pool2d(calm, 3, stride=1, padding=1, count_include_pad=False)
    return interpolate((5 * calm).round() / 5, scale_factor=zoom)[0]


# --- what the script has measured ------------------------------------------------------------------------------------


def read_clinic() -> dict[str, Any]:
    """Return the stored runs: ``cases`` by letter (and ``healthy``) with curves, vital signs and pictures.

    Raises:
        FileNotFoundError: the file is missing.
    """
    path = data_dir() / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; 'git checkout data' or 'python data/build/clinic.py' brings it")
    return json.loads(path.read_text(encoding="utf-8"))
