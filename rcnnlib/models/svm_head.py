"""What R-CNN and SPPnet do with a region once it is a grid of features: the last step before Fast R-CNN.

    fine-tuning:  two fully connected layers -> softmax over K + 1 classes, which is then thrown away
    detection:    the same two layers -> a linear SVM a class; the grid itself -> a box regressor a class; NMS per class

The regressors look at the grid, the papers' pool5, and not at the fully connected layers: these were trained to forget
where in its region an object lies. Left out: the truncated SVD and the joint loss, which came with Fast R-CNN.

Shapes:
    B  pictures    R  regions    C, p  channels and side of a region's grid    W  width of the layers    G  objects
    S  regions drawn for a step, out of all pictures together    K  classes    L = K + 1    D  detections
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from rcnnlib.models.roi_heads import TwoMLPHead, best_detections
from rcnnlib.models.svm import fine_tuning_set
from rcnnlib.ops.box_coder import decode
from rcnnlib.ops.boxes import box_iou, clip_boxes, covered_fraction
from rcnnlib.ops.losses import classification_loss
from rcnnlib.ops.matcher import IGNORED, Match, ignore_covered
from rcnnlib.ops.nms import ROUNDS
from rcnnlib.ops.sampler import sample, take_noise
from rcnnlib.types import Batch, Detections


class FittedLinear(nn.Module):
    """A linear layer that no gradient reaches: weights and biases are buffers, to be filled once they are fitted."""

    weight: Tensor
    bias: Tensor

    def __init__(self, in_features: int, out_features: int, *, bias: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(out_features, in_features))
        self.register_buffer("bias", torch.full((out_features,), bias))

    def forward(self, x: Float[Tensor, "B R I"]) -> Float[Tensor, "B R O"]:
        """Return W x + b."""
        return linear(x, self.weight, self.bias)


class Drawn(NamedTuple):
    """The regions that a step of fine-tuning learns from, out of all pictures of its batch."""

    boxes: Float[Tensor, "S 4"]
    labels: Int[Tensor, " S"]  # class of the region, 0 background, -1 takes no part
    pictures: Int[Tensor, " S"]  # the picture that each comes from


class SVMHead(nn.Module):
    """Everything after the grid, the same in R-CNN and in SPPnet.

    Args:
        width: of the fully connected layers; the papers' have 4096.
        samples: regions of a batch that a step of fine-tuning learns from, a quarter with an object (R-CNN 2.3).
        background_low: least IoU of a background region there; 0 in R-CNN, 0.1 in SPPnet.
        score_threshold, nms_threshold, detections: what becomes a detection, and how many a picture.
    """

    def __init__(
        self,
        in_channels: int,
        grid: int,
        classes: int,
        *,
        width: int = 192,
        samples: int = 128,
        background_low: float = 0.0,
        score_threshold: float = 0.25,  # a margin of -1.1: the SVMs want their negatives below -1
        nms_threshold: float = 0.3,
        detections: int = 100,
    ) -> None:
        super().__init__()
        self.mlp = TwoMLPHead(in_channels, grid, width)
        self.softmax = nn.Linear(width, classes + 1)
        nn.init.normal_(self.softmax.weight, std=0.01)
        nn.init.zeros_(self.softmax.bias)
        self.svm = FittedLinear(width, classes, bias=-5.0)  # until it is fitted nothing is detected
        self.ridge = FittedLinear(in_channels * grid * grid, 4 * classes)
        self.classes, self.samples, self.background_low = classes, samples, background_low
        self.score_threshold, self.nms_threshold, self.detections = score_threshold, nms_threshold, detections

    def describe(self, pooled: Float[Tensor, "B R C p p"]) -> Float[Tensor, "B R W"]:
        """Return what the SVMs see of a region: the second fully connected layer, fc7."""
        return self.mlp(pooled.flatten(0, 1)).float().unflatten(0, pooled.shape[:2])

    def forward(self, pooled: Float[Tensor, "B R C p p"]) -> tuple[Float[Tensor, "B R L"], Float[Tensor, "B R K 4"]]:
        """Return the margin of each class, after a 0 for the background, which has no SVM, and its deltas."""
        margins, deltas = self.svm(self.describe(pooled)), self.ridge(pooled.float().flatten(2))
        return pad(margins, (1, 0)), deltas.unflatten(2, (-1, 4))

    @torch.no_grad()
    def sample(self, boxes: Float[Tensor, "B R 4"], valid: Bool[Tensor, "B R"], batch: Batch) -> Drawn:
        """Draw the regions of a step out of all pictures at once; the objects themselves are added (R-CNN 2.3)."""
        boxes, exists = torch.cat((boxes, batch.boxes), dim=1), torch.cat((valid, batch.valid), dim=1)
        match = fine_tuning_set(box_iou(boxes, batch.boxes), batch.valid, background_low=self.background_low)
        match = ignore_covered(match, covered_fraction(boxes, batch.ignore))
        status = match.status.masked_fill(~exists, IGNORED)
        noise = take_noise(batch.noise, 0, boxes.shape[1])
        # The pictures' lists become one, and so do their objects: number g of picture b is number b G + g.
        first = torch.arange(len(boxes), device=boxes.device).unsqueeze(1) * batch.boxes.shape[1]
        match = Match(status.flatten(), (match.matches + first).flatten(), match.iou.flatten())
        drawn = sample(match, batch.labels.flatten(), noise.flatten(), size=self.samples, positive_fraction=0.25)
        return Drawn(boxes.flatten(0, 1)[drawn.index], drawn.labels, drawn.index // boxes.shape[1])

    def loss(self, pooled: Float[Tensor, "1 S C p p"], labels: Int[Tensor, " S"]) -> Float[Tensor, ""]:
        """Return the cross entropy of the softmax, a mean over all regions drawn."""
        scores = self.softmax(self.describe(pooled)[0]).float()
        return classification_loss(scores, labels, normalizer=self.samples)

    def detect(
        self,
        boxes: Float[Tensor, "B R 4"],
        valid: Bool[Tensor, "B R"],
        scores: Float[Tensor, "B R L"],
        deltas: Float[Tensor, "B R K 4"],
        sizes: Float[Tensor, "B 2"],
        *,
        rounds: int = ROUNDS,
    ) -> Detections:
        """Return the detections of each picture: NMS within each class, then the best of all classes.

        A score is the sigmoid of the margin: in the order of the margins, 0.5 where the SVM decides, no probability.
        """
        classes = deltas.shape[2]
        score = scores[..., 1:].sigmoid().transpose(1, 2)  # (B, R, L) -> (B, K, R)
        moved = decode(deltas.flatten(1, 2), boxes.repeat_interleave(classes, dim=1))
        moved = clip_boxes(moved, sizes).unflatten(1, (-1, classes)).transpose(1, 2)  # (B, R K, 4) -> (B, K, R, 4)
        possible = valid.unsqueeze(1) & (score > self.score_threshold)
        return best_detections(
            *(moved, score, possible), threshold=self.nms_threshold, count=self.detections, rounds=rounds
        )
