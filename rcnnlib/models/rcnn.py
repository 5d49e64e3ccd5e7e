"""R-CNN (Girshick, Donahue, Darrell and Malik 2014): every region is a picture of its own for the network.

A region is warped to one size, whatever its shape, and goes through the trunk alone; a pass for each of 2000 regions is
what makes R-CNN slow. The trunk and the head are fine-tuned here; the SVMs and the box regressors are fitted on their
features afterwards (``engine.after_training``). Left out: the other ways to crop (appendix A).

Shapes: B pictures, H x W pixels, R regions, P regions found beforehand, C channels, p side of the grid, cells.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from rcnnlib.models.backbone import Trunk
from rcnnlib.models.roi_heads import given_proposals, no_anchors
from rcnnlib.models.svm_head import SVMHead
from rcnnlib.ops.nms import ROUNDS
from rcnnlib.ops.roi_ops import warp
from rcnnlib.types import Batch, Detections, Losses, Stages


class RCNN(nn.Module):
    """Trunk and head. ``head`` are options of the latter.

    Args:
        crop: side of a warped region, pixels, a multiple of the trunk's stride; 227 in the paper.
        context: pixels of its surroundings on each side of it, within ``crop``; 16 in the paper.
        chunk: regions that go through the trunk at a time, so that memory does not grow with their number.
    """

    needs_proposals = True

    def __init__(
        self,
        trunk: Trunk,
        classes: int,
        *,
        crop: int = 112,
        context: int = 8,
        chunk: int = 64,
        head: dict | None = None,
    ) -> None:
        super().__init__()
        cells = crop // trunk.stride
        if crop % trunk.stride or cells < 3:
            raise ValueError(
                f"crop must be a multiple of {trunk.stride}, the trunk's stride, and at least {3 * trunk.stride}; "
                f"got {crop}; 7 cells, {7 * trunk.stride} pixels, are usual"
            )
        self.trunk = trunk
        self.head = SVMHead(trunk.out_channels, (cells - 3) // 2 + 1, classes, **(head or {}))
        self.crop, self.context, self.chunk = crop, context, chunk

    def pool(
        self, images: Float[Tensor, "B 3 H W"], boxes: Float[Tensor, "B R 4"], sizes: Float[Tensor, "B 2"]
    ) -> Float[Tensor, "B R C p p"]:
        """Send every region through the trunk and pool its map once more, 3x3 at stride 2: AlexNet's pool5 (2.1)."""
        grids = []
        for part in boxes.split(max(1, self.chunk // len(images)), dim=1):
            crops = warp(images, part, self.crop, context=self.context, sizes=sizes)
            grids.append(max_pool2d(self.trunk(crops.flatten(0, 1)), 3, stride=2).unflatten(0, part.shape[:2]))
        return torch.cat(grids, dim=1)

    def stages(
        self,
        images: Float[Tensor, "B 3 H W"],
        sizes: Float[Tensor, "B 2"],
        regions: Float[Tensor, "B P 4"],
        *,
        rounds: int = ROUNDS,
    ) -> Stages:
        """Return every intermediate result; ``sizes`` are height and width of the pictures without padding."""
        features = images.new_zeros(len(images), 0, 0, 0)  # there is no map that the regions share
        anchors, scores, deltas = no_anchors(images)
        proposals = given_proposals(regions)
        pooled = self.pool(images, proposals.boxes, sizes)
        class_scores, box_deltas = self.head(pooled)
        detections = self.head.detect(proposals.boxes, proposals.valid, class_scores, box_deltas, sizes, rounds=rounds)
        return Stages(features, anchors, scores, deltas, proposals, pooled, class_scores, box_deltas, detections)

    def losses(self, batch: Batch, *, rounds: int = ROUNDS) -> Losses:
        """Return the loss of fine-tuning (2.3): regions of all pictures, each on its own."""
        proposals = given_proposals(batch.proposals)
        drawn = self.head.sample(proposals.boxes, proposals.valid, batch)
        images, sizes = batch.images[drawn.pictures], batch.sizes[drawn.pictures]  # (S, 3, H, W): one for each region
        pooled = self.pool(images, drawn.boxes.unsqueeze(1), sizes).transpose(0, 1)
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
