"""What the parts of a detector hand to each other: NamedTuples and nothing else.

Every tensor is dense. A batch of B pictures has fixed numbers of rows (ground truths, proposals, detections), and a
mask says which rows are real; so no part needs a Python loop over pictures, and nothing waits for the GPU.

Shapes:
    B  pictures in the batch           H, W  height and width of the padded batch, pixels
    G  ground-truth boxes a picture    I     ignored regions a picture    N  uniform random numbers a picture
    A  anchors                         R     proposals                    S  samples
    P  proposals found beforehand
    K  classes without background      L     K + 1, with background       D     detections
    C, h, w  channels and cells of the feature map                        p     side of a pooled region, cells

Boxes are ``(x1, y1, x2, y2)`` in continuous pixels of the network's input; width is ``x2 - x1``.
Labels are -1 for ignored, 0 for background, 1..K for the classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Batch(NamedTuple):
    """Pictures of one training or test step, padded right and bottom to one size, with all that belongs to them."""

    images: Float[Tensor, "B 3 H W"]  # RGB in [0, 1]; the padding is 0
    sizes: Float[Tensor, "B 2"]  # height, width of the picture inside the padding
    scales: Float[Tensor, "B 2"]  # input pixels per pixel of the photo, along x and along y
    boxes: Float[Tensor, "B G 4"]  # ground truth; rows without an object are zero boxes
    labels: Int[Tensor, "B G"]  # 1..K; 0 in rows without an object
    ignore: Float[Tensor, "B I 4"]  # regions that count neither as right nor as wrong; unused rows are zero boxes
    noise: Float[Tensor, "B N"]  # uniform in [0, 1): the random choices of this step
    ids: Int[Tensor, " B"]  # image ids of the data set
    proposals: Float[Tensor, "B P 4"]  # regions found beforehand, best first (Selective Search); unused rows are zero

    @property
    def valid(self) -> Bool[Tensor, "B G"]:
        """Which rows of ``boxes`` hold an object."""
        return self.labels > 0

    def to(self, device: torch.device | str) -> "Batch":
        """Move every tensor to ``device``; pinned memory is copied without waiting."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class Proposals(NamedTuple):
    """Regions that may hold an object, best first; rows that are not ``valid`` are zero boxes."""

    boxes: Float[Tensor, "B R 4"]
    scores: Float[Tensor, "B R"]  # objectness in [0, 1]; 0 in empty rows
    valid: Bool[Tensor, "B R"]
    index: Int[Tensor, "B R"]  # the anchor that each came from; -1 where there is none
    settled: Bool[Tensor, " B"]  # False: NMS needs more rounds for this picture


class Samples(NamedTuple):
    """The anchors or proposals drawn for a loss: positives first, then negatives, then rows that take no part."""

    index: Int[Tensor, "*B S"]  # which candidate
    labels: Int[Tensor, "*B S"]  # class of the sample, 0 background, -1 takes no part
    matches: Int[Tensor, "*B S"]  # the ground truth that each is compared with; only meaningful where labels > 0


class Losses(NamedTuple):
    """The terms of the multi-task loss, each a scalar; a detector without an RPN leaves those two at zero."""

    rpn_class: Float[Tensor, ""]
    rpn_box: Float[Tensor, ""]
    head_class: Float[Tensor, ""]
    head_box: Float[Tensor, ""]
    settled: Bool[Tensor, " B"]  # False: the step must be repeated with more rounds of NMS

    def total(self) -> Float[Tensor, ""]:
        """Return the sum that is minimised."""
        return self.rpn_class + self.rpn_box + self.head_class + self.head_box


class Detections(NamedTuple):
    """Boxes with class and score, best first; rows that are not ``valid`` are zero boxes with label 0."""

    boxes: Float[Tensor, "B D 4"]
    scores: Float[Tensor, "B D"]
    labels: Int[Tensor, "B D"]
    valid: Bool[Tensor, "B D"]
    settled: Bool[Tensor, " B"]  # False: NMS needs more rounds for this picture

    def to_original(self, batch: Batch) -> "Detections":
        """Return the same detections in pixels of the photos that ``batch`` was made from."""
        return self._replace(boxes=self.boxes / batch.scales.repeat(1, 2)[:, None])


class RoISamples(NamedTuple):
    """The regions that a step of the head learns from, and what it should say about each."""

    boxes: Float[Tensor, "B S 4"]
    labels: Int[Tensor, "B S"]  # class of the region, 0 background, -1 takes no part
    targets: Float[
        Tensor, "B S 4"
    ]  # deltas from the region to its object, normalised; only meaningful where labels > 0


class Stages(NamedTuple):
    """Every intermediate result of a detector, in the order in which it is computed."""

    features: Float[Tensor, "B C h w"]
    anchors: Float[Tensor, "A 4"]  # a detector without an RPN has none
    rpn_scores: Float[Tensor, "B A 2"]  # logits: background, object
    rpn_deltas: Float[Tensor, "B A 4"]
    proposals: Proposals
    pooled: Float[Tensor, "B R C p p"]
    class_scores: Float[Tensor, "B R L"]  # logits; column 0 is the background
    box_deltas: Float[Tensor, "B R K 4"]
    detections: Detections
