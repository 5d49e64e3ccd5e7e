"""Fast R-CNN (Girshick 2015): one pass over the picture, then a look at every region on the shared map.

The regions come from outside, from Selective Search. Left out: image pyramids (2.4), which the paper finds not needed.

Shapes: B pictures, H x W pixels, P regions found beforehand; see ``rcnnlib.types``.
"""

from jaxtyping import Float
from torch import Tensor, nn

from rcnnlib.models.backbone import Trunk
from rcnnlib.models.roi_heads import RoIHead, given_proposals, no_anchors
from rcnnlib.ops.nms import ROUNDS
from rcnnlib.types import Batch, Detections, Losses, Stages


class FastRCNN(nn.Module):
    """Trunk and head. ``head`` are options of the latter."""

    needs_proposals = True

    def __init__(
        self,
        trunk: Trunk,
        classes: int,
        *,
        head: dict | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = RoIHead(trunk.out_channels, classes, trunk.stride, **({"background_low": 0.1} | (head or {})))

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
        pooled = self.head.pool(features, proposals.boxes, sizes)
        class_scores, box_deltas = self.head(pooled)
        detections = self.head.detect(proposals.boxes, proposals.valid, class_scores, box_deltas, sizes, rounds=rounds)
        return Stages(features, anchors, scores, deltas, proposals, pooled, class_scores, box_deltas, detections)

    def losses(self, batch: Batch, *, rounds: int = ROUNDS) -> Losses:
        """Return the two terms of the multi-task loss (2.3)."""
        features = self.trunk(batch.images, batch.sizes)
        proposals = given_proposals(batch.proposals)
        samples = self.head.sample(proposals.boxes, proposals.valid, batch, 0)
        pooled = self.head.pool(features, samples.boxes, batch.sizes)
        head_class, head_box = self.head.losses(*self.head(pooled), samples)
        none = head_class.new_zeros(())
        return Losses(none, none, head_class, head_box, proposals.settled)

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        sizes: Float[Tensor, "B 2"],
        regions: Float[Tensor, "B P 4"],
        *,
        rounds: int = ROUNDS,
    ) -> Detections:
        """Return the detections, in pixels of ``images``."""
        return self.stages(images, sizes, regions, rounds=rounds).detections
