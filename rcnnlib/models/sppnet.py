"""SPPnet (He, Zhang, Ren and Sun 2014): one pass over the picture, and a spatial pyramid for every region of its map.

Compare with ``rcnn.py``: what differs is how a region becomes a grid. The convolutions stay as ImageNet left them,
all of them, as in the paper (4.1): only the fully connected layers are fine-tuned, then SVMs and regressors are fitted
(``engine.after_training``). Left out: the picture at five sizes, of which each region takes the one that shows it about
224 pixels large (4.1), and the paper's own rounding of corners; ours is Fast R-CNN's.

Shapes: B pictures, H x W pixels, R regions, P regions found beforehand, C, h, w the shared map, D numbers of a pyramid.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rcnnlib.models.backbone import Trunk
from rcnnlib.models.roi_heads import given_proposals, no_anchors
from rcnnlib.models.svm_head import SVMHead
from rcnnlib.ops.nms import ROUNDS
from rcnnlib.ops.roi_ops import spatial_pyramid_pool
from rcnnlib.types import Batch, Detections, Losses, Stages


class SPPnet(nn.Module):
    """Trunk and head; the trunk is frozen. ``head`` are options of the latter.

    Args:
        levels: sides of the pyramid's grids; (6, 3, 2, 1) in the paper, whose first layer would be 10 MB here.
    """

    needs_proposals = True

    def __init__(
        self,
        trunk: Trunk,
        classes: int,
        *,
        levels: Sequence[int] = (3, 2, 1),
        head: dict | None = None,
    ) -> None:
        super().__init__()
        numbers = trunk.out_channels * sum(side * side for side in levels)
        self.trunk = trunk.requires_grad_(False)
        options: dict[str, Any] = {"background_low": 0.1, **(head or {})}
        self.head = SVMHead(numbers, 1, classes, **options)
        self.levels = tuple(levels)

    def pool(self, features: Float[Tensor, "B C h w"], boxes: Float[Tensor, "B R 4"]) -> Float[Tensor, "B R D 1 1"]:
        """Pool the cells of every region into the grids of the pyramid: a vector, or a grid of a single cell (3.1)."""
        vectors = spatial_pyramid_pool(features, boxes, self.levels, spatial_scale=1 / self.trunk.stride)
        return vectors.unflatten(-1, (-1, 1, 1))

    def stages(
        self,
        images: Float[Tensor, "B 3 H W"],
        sizes: Float[Tensor, "B 2"],
        regions: Float[Tensor, "B P 4"],
        *,
        rounds: int = ROUNDS,
    ) -> Stages:
        """Return every intermediate result; ``sizes`` are height and width of the pictures without padding."""
        features = self.trunk(images, sizes)
        anchors, scores, deltas = no_anchors(images)
        proposals = given_proposals(regions)
        pooled = self.pool(features, proposals.boxes)
        class_scores, box_deltas = self.head(pooled)
        detections = self.head.detect(proposals.boxes, proposals.valid, class_scores, box_deltas, sizes, rounds=rounds)
        return Stages(features, anchors, scores, deltas, proposals, pooled, class_scores, box_deltas, detections)

    def losses(self, batch: Batch, *, rounds: int = ROUNDS) -> Losses:
        """Return the loss of fine-tuning (4.1): regions of all pictures, on maps that do not learn."""
        with torch.no_grad():
            features = self.trunk(batch.images, batch.sizes)
        proposals = given_proposals(batch.proposals)
        drawn = self.head.sample(proposals.boxes, proposals.valid, batch)
        # Pooling every region on every map is cheaper than a copy of its map for each region.
        pooled = self.pool(features, drawn.boxes.expand(len(features), -1, -1))
        pooled = pooled[drawn.pictures, torch.arange(len(drawn.boxes), device=pooled.device)].unsqueeze(0)
        head_class = self.head.loss(pooled, drawn.labels)
        none = head_class.new_zeros(())
        return Losses(none, none, head_class, none, proposals.settled)

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        sizes: Float[Tensor, "B 2"],
        regions: Float[Tensor, "B P 4"],
        *,
        rounds: int = ROUNDS,
    ) -> Detections:
        """Return the detections, in pixels of ``images``; none before the SVMs are fitted."""
        return self.stages(images, sizes, regions, rounds=rounds).detections
