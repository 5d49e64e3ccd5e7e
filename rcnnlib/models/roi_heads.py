"""What happens to a region once it is known: pool it, name it, correct its box (Fast R-CNN 2.1 to 2.3).

    features, boxes -> 1x1 reduction -> RoI pooling -> two fully connected layers -> K + 1 scores, 4 deltas a class
    training:   add the truth -> match -> draw -> two losses
    detection:  softmax -> decode -> threshold -> NMS within each class

The reduction is ours, not the papers': a first layer of 512 x 7 x 7 x 256 numbers would be most of the detector.
Left out: masks, cascades, heads without fully connected layers.

Shapes:
    B  pictures    C, h, w  channels and cells of the map    M  channels after the reduction    p  side of the grid
    R  regions     S  regions drawn for a step               K  classes     L = K + 1 with background    D  detections
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import relu

from rcnnlib.models.backbone import whole_cells
from rcnnlib.ops.box_coder import HEAD_STD, decode, encode
from rcnnlib.ops.boxes import box_iou, clip_boxes, covered_fraction, is_large
from rcnnlib.ops.losses import box_loss, class_deltas, classification_loss
from rcnnlib.ops.matcher import ignore_covered, match_proposals
from rcnnlib.ops.nms import ROUNDS, nms_padded
from rcnnlib.ops.roi_ops import roi_align, roi_pool
from rcnnlib.ops.sampler import sample, take_noise
from rcnnlib.types import Batch, Detections, Proposals, RoISamples

Pooling = Literal["align", "pool"]
MIN_SIDE = 0.01  # pixels: an empty box is no detection


class TwoMLPHead(nn.Module):
    """Two fully connected layers on the pooled grid: (N, M, p, p) -> (N, width)."""

    def __init__(self, in_channels: int, grid: int, width: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(in_channels * grid * grid, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, pooled: Float[Tensor, "N M p p"]) -> Float[Tensor, "N W"]:
        """Return one vector a region."""
        return relu(self.fc7(relu(self.fc6(pooled.flatten(1)))))


@torch.no_grad()
def truncated_svd(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Return two layers that do nearly what one did, with the ``rank`` largest singular values (Fast R-CNN 3.1).

    W (u x v) becomes U_t (S_t V_t): rank (u + v) numbers instead of u v. The first layer has no bias.

    Raises:
        ValueError: the layer has fewer singular values.
    """
    most = min(layer.weight.shape)
    if not 1 <= rank <= most:
        raise ValueError(f"rank must be 1 to {most}, the number of singular values of this layer; got {rank}")
    u, s, v = torch.linalg.svd(layer.weight, full_matrices=False)
    first, second = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features)
    first.weight.copy_(s[:rank, None] * v[:rank])
    second.weight.copy_(u[:, :rank])
    second.bias.copy_(layer.bias)
    return nn.Sequential(first, second).to(layer.weight.device)


class BoxPredictor(nn.Module):
    """The two sibling layers: a score for the background and each class, four deltas for each class."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.scores = nn.Linear(in_channels, classes + 1)
        self.deltas = nn.Linear(in_channels, 4 * classes)
        for layer, std in ((self.scores, 0.01), (self.deltas, 0.001)):  # Fast R-CNN 2.3
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "N W"]) -> tuple[Float[Tensor, "N L"], Float[Tensor, "N K 4"]]:
        """Return logits (column 0 is the background) and normalised deltas."""
        return self.scores(x), self.deltas(x).unflatten(1, (-1, 4))


class RoIHead(nn.Module):
    """Everything after the proposals, the same in Fast and in Faster R-CNN.

    Args:
        samples: regions of a picture that a step learns from, a quarter of them with an object (Fast R-CNN 2.3).
        background_low: least IoU of a background region; 0.1 in Fast R-CNN, 0 in Faster R-CNN.
        pooling: ``align`` (Mask R-CNN 3) or ``pool``, Fast R-CNN's own, which rounds to whole cells.
        score_threshold, nms_threshold, detections: what becomes a detection, and how many a picture.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        stride: int,
        *,
        reduced: int = 128,
        width: int = 256,
        grid: int = 7,
        pooling: Pooling = "align",
        samples: int = 64,
        background_low: float = 0.0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections: int = 100,
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, reduced, kernel_size=1)
        self.mlp = TwoMLPHead(reduced, grid, width)
        self.predict = BoxPredictor(width, classes)
        self.stride, self.grid, self.pooling = stride, grid, pooling
        self.samples, self.background_low = samples, background_low
        self.score_threshold, self.nms_threshold, self.detections = score_threshold, nms_threshold, detections

    def pool(
        self, features: Float[Tensor, "B C h w"], boxes: Float[Tensor, "B R 4"], sizes: Float[Tensor, "B 2"]
    ) -> Float[Tensor, "B R M p p"]:
        """Cut every region out of the shared map, as a grid of fixed size."""
        pooling = roi_align if self.pooling == "align" else roi_pool
        reduced = extend(relu(self.reduce(features)), whole_cells(sizes, self.stride))
        return pooling(reduced, boxes, self.grid, spatial_scale=1 / self.stride)

    def forward(self, pooled: Float[Tensor, "B R M p p"]) -> tuple[Float[Tensor, "B R L"], Float[Tensor, "B R K 4"]]:
        """Return the logits of every region and its deltas for each class."""
        scores, deltas = self.predict(self.mlp(pooled.flatten(0, 1)))
        return scores.unflatten(0, pooled.shape[:2]), deltas.unflatten(0, pooled.shape[:2])

    @torch.no_grad()
    def sample(self, boxes: Float[Tensor, "B R 4"], valid: Bool[Tensor, "B R"], batch: Batch, start: int) -> RoISamples:
        """Draw the regions that a step learns from; the truth is added, or early training would see few positives.

        No gradient: the drawn boxes are data to the head, which is what makes joint training approximate (Faster R-CNN
        3.2). Random numbers are taken from ``batch.noise`` from ``start`` on.
        """
        boxes, exists = torch.cat((boxes, batch.boxes), dim=1), torch.cat((valid, batch.valid), dim=1)
        match = match_proposals(box_iou(boxes, batch.boxes), batch.valid, background_low=self.background_low)
        match = ignore_covered(match, covered_fraction(boxes, batch.ignore))
        match = match._replace(status=match.status.masked_fill(~exists, -1))
        noise = take_noise(batch.noise, start, boxes.shape[1])
        drawn = sample(match, batch.labels, noise, size=self.samples, positive_fraction=0.25)
        boxes = boxes.take_along_dim(drawn.index.unsqueeze(-1), dim=1)
        truth = batch.boxes.take_along_dim(drawn.matches.unsqueeze(-1), dim=1)
        return RoISamples(boxes, drawn.labels, encode(truth, boxes, std=HEAD_STD))

    def losses(
        self, scores: Float[Tensor, "B S L"], deltas: Float[Tensor, "B S K 4"], samples: RoISamples
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return cross entropy and smooth L1 of the right class, each a mean over all regions drawn (2.3, eq. 1)."""
        count = self.samples * len(scores)
        mine = class_deltas(deltas, samples.labels)
        return (
            classification_loss(scores, samples.labels, normalizer=count),
            box_loss(mine, samples.targets, samples.labels, beta=1.0, normalizer=count),
        )

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
        """Return the detections of each picture: NMS within each class, then the best of all classes."""
        classes = deltas.shape[2]
        probability = scores.softmax(-1)[..., 1:].transpose(1, 2)  # (B, R, L) -> (B, K, R)
        moved = decode(deltas.flatten(1, 2), boxes.repeat_interleave(classes, dim=1), std=HEAD_STD)
        moved = clip_boxes(moved, sizes).unflatten(1, (-1, classes)).transpose(1, 2)  # (B, R K, 4) -> (B, K, R, 4)
        possible = valid.unsqueeze(1) & (probability > self.score_threshold)
        return best_detections(
            *(moved, probability, possible), threshold=self.nms_threshold, count=self.detections, rounds=rounds
        )


def best_detections(
    boxes: Float[Tensor, "B K R 4"],
    scores: Float[Tensor, "B K R"],
    possible: Bool[Tensor, "B K R"],
    *,
    threshold: float,
    count: int,
    rounds: int,
) -> Detections:
    """Run NMS within each class, then keep the ``count`` best of all classes; scores are above 0."""
    rows = min(count, boxes.shape[2])
    kept = nms_padded(boxes, scores, threshold, keep=rows, valid=possible & is_large(boxes, MIN_SIDE), rounds=rounds)
    boxes = boxes.take_along_dim(kept.index.unsqueeze(-1), dim=2).flatten(1, 2)  # (B, K rows, 4)
    scores = scores.gather(2, kept.index).masked_fill(~kept.valid, 0.0).flatten(1)
    scores, index = scores.topk(min(count, scores.shape[1]))  # (B, D)
    real = scores > 0
    return Detections(
        boxes.take_along_dim(index.unsqueeze(-1), dim=1).masked_fill(~real.unsqueeze(-1), 0.0),
        scores,
        (index.div(max(rows, 1), rounding_mode="floor") + 1).masked_fill(~real, 0),
        real,
        kept.settled.all(dim=1),
    )


def extend(features: Float[Tensor, "B C h w"], cells: Int[Tensor, "B 2"]) -> Float[Tensor, "B C h w"]:
    """Repeat the last cells of each picture over the padding, as pooling does beyond the border of a picture alone."""
    height, width = features.shape[-2:]
    rows = torch.arange(height, device=features.device).minimum(cells[:, :1] - 1)  # (B, h)
    columns = torch.arange(width, device=features.device).minimum(cells[:, 1:] - 1)
    image = torch.arange(len(features), device=features.device)[:, None, None]
    cell_rows = features.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]  # (B, h, w, C)
    return cell_rows.permute(0, 3, 1, 2)


def given_proposals(boxes: Float[Tensor, "B P 4"]) -> Proposals:
    """Return regions that were found beforehand as ``Proposals``; rows without area are padding."""
    valid = is_large(boxes, MIN_SIDE)
    index = torch.full_like(valid, -1, dtype=torch.int64)
    return Proposals(boxes, valid.to(boxes.dtype), valid, index, boxes.new_ones(len(boxes), dtype=torch.bool))


def no_anchors(images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the anchors, scores and deltas of a detector that has no RPN: none."""
    count = len(images)
    return images.new_zeros(0, 4), images.new_zeros(count, 0, 2), images.new_zeros(count, 0, 4)
