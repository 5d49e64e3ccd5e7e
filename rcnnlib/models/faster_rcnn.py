"""Faster R-CNN (Ren, He, Girshick and Sun 2015): the network proposes its own regions, on the map it shares.

Compare with ``fast_rcnn.py``: what differs is where the regions come from.
Left out: feature pyramids and the gradient through the coordinates of the proposals (3.2 iii).

Shapes: B pictures, H x W pixels; see ``rcnnlib.types``.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from rcnnlib.models.backbone import Trunk
from rcnnlib.models.roi_heads import RoIHead
from rcnnlib.models.rpn import RPN
from rcnnlib.ops.nms import ROUNDS
from rcnnlib.types import Batch, Detections, Losses, Stages


class FasterRCNN(nn.Module):
    """Trunk, region proposal network and head. ``rpn`` and ``head`` are options of those two."""

    needs_proposals = False

    def __init__(
        self,
        trunk: Trunk,
        classes: int,
        *,
        scales: Sequence[float] = (40, 80, 160),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        rpn: dict | None = None,
        head: dict | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.rpn = RPN(trunk.out_channels, trunk.stride, scales=scales, ratios=ratios, **(rpn or {}))
        self.head = RoIHead(trunk.out_channels, classes, trunk.stride, **(head or {}))

    def stages(self, images: Float[Tensor, "B 3 H W"], sizes: Float[Tensor, "B 2"], *, rounds: int = ROUNDS) -> Stages:
        """Return every intermediate result; ``sizes`` are height and width of the pictures without padding."""
        features = self.trunk(images, sizes)
        anchors, scores, deltas = self.rpn(features)
        proposals = self.rpn.propose(anchors, scores, deltas, sizes, rounds=rounds)
        pooled = self.head.pool(features, proposals.boxes, sizes)
        class_scores, box_deltas = self.head(pooled)
        detections = self.head.detect(proposals.boxes, proposals.valid, class_scores, box_deltas, sizes, rounds=rounds)
        detections = detections._replace(settled=detections.settled & proposals.settled)
        return Stages(features, anchors, scores, deltas, proposals, pooled, class_scores, box_deltas, detections)

    def losses(self, batch: Batch, *, rounds: int = ROUNDS) -> Losses:
        """Return the four terms of the joint loss (3.2 ii): one pass, both networks."""
        features = self.trunk(batch.images, batch.sizes)
        anchors, scores, deltas = self.rpn(features)
        rpn_class, rpn_box = self.rpn.losses(anchors, scores, deltas, batch)
        proposals = self.rpn.propose(anchors, scores.detach(), deltas.detach(), batch.sizes, rounds=rounds)
        samples = self.head.sample(proposals.boxes, proposals.valid, batch, len(anchors))
        pooled = self.head.pool(features, samples.boxes, batch.sizes)
        head_class, head_box = self.head.losses(*self.head(pooled), samples)
        return Losses(rpn_class, rpn_box, head_class, head_box, proposals.settled)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], sizes: Float[Tensor, "B 2"], *, rounds: int = ROUNDS
    ) -> Detections:
        """Return the detections, in pixels of ``images``."""
        return self.stages(images, sizes, rounds=rounds).detections
