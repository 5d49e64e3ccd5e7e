"""The region proposal network: at every cell, is one of k anchors an object, and where exactly? (Faster R-CNN 3.1)

    features (B,C,h,w) -> 3x3 convolution -> two 1x1 convolutions -> 2k scores and 4k deltas a cell
    training:  anchors -> match -> draw 256 -> two losses          proposals: top-N -> decode -> clip -> NMS -> top-R

The map is also a flat list: channel a 2 + c of the scores at cell (i, j) is row (i w + j) k + a, column c of the list.
Left out: several feature levels (FPN), and objectness as one number, which is what a sigmoid of the difference of our
two scores gives.

Shapes:
    B  pictures    C, h, w  channels and cells of the map    k  anchors a cell    A = h w k    G  ground truths
    N  proposals before NMS    R  after    S  anchors drawn for a step
"""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import relu

from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.box_coder import decode, encode
from rcnnlib.ops.boxes import box_iou, clip_boxes, covered_fraction, is_inside, is_large
from rcnnlib.ops.losses import box_loss, classification_loss
from rcnnlib.ops.matcher import Match, ignore_covered, match_anchors
from rcnnlib.ops.nms import ROUNDS, nms_padded
from rcnnlib.ops.sampler import sample, take_noise
from rcnnlib.types import Batch, Proposals

SAMPLES = 256  # anchors of a picture that a step learns from, half of them positive (3.1.3)
BETA = 1 / 9  # where smooth L1 turns from square to straight, in the authors' code
N_REG = 2400  # cells of the paper's pictures
MIN_SIDE = 1.0  # pixels; a smaller proposal holds nothing


class RPNHead(nn.Module):
    """A 3x3 convolution, then 1x1 for 2k scores and 1x1 for 4k deltas."""

    def __init__(self, in_channels: int, k: int, *, channels: int = 256) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1)
        self.scores = nn.Conv2d(channels, 2 * k, kernel_size=1)
        self.deltas = nn.Conv2d(channels, 4 * k, kernel_size=1)
        for layer in (self.conv, self.scores, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)  # 3.1.3
            nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "B C h w"]) -> tuple[Float[Tensor, "B A 2"], Float[Tensor, "B A 4"]]:
        """Return for each anchor two logits (background, object) and four deltas, in the order of ``anchor_grid``."""
        hidden = relu(self.conv(features))
        # (B, k 2, h, w) -> (B, h, w, k 2) -> (B, h w k, 2)
        scores = self.scores(hidden).permute(0, 2, 3, 1).reshape(len(features), -1, 2)
        deltas = self.deltas(hidden).permute(0, 2, 3, 1).reshape(len(features), -1, 4)
        return scores, deltas


class RPN(nn.Module):
    """The head with its anchors, its losses and its proposals.

    Args:
        scales, ratios: of the anchors; sides in pixels, height over width.
        before, after: the N best anchors go into NMS, the R best survivors come out.
        box_weight: lambda of eq. 1.
        allow_border: whether anchors that cross the border take part in training; the paper leaves them out.
    """

    base: Tensor

    def __init__(
        self,
        in_channels: int,
        stride: int,
        *,
        scales: Sequence[float],
        ratios: Sequence[float],
        channels: int = 256,
        before: int = 1000,
        after: int = 200,
        nms_threshold: float = 0.7,
        box_weight: float = 10.0,
        allow_border: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("base", cell_anchors(scales, ratios), persistent=False)
        self.stride, self.before, self.after, self.nms_threshold = stride, before, after, nms_threshold
        self.box_weight, self.allow_border = box_weight, allow_border
        self.head = RPNHead(in_channels, len(self.base), channels=channels)

    def forward(
        self, features: Float[Tensor, "B C h w"]
    ) -> tuple[Float[Tensor, "A 4"], Float[Tensor, "B A 2"], Float[Tensor, "B A 4"]]:
        """Return the anchors, and for each of them two scores and four deltas."""
        height, width = features.shape[-2:]
        return anchor_grid(self.base, (height, width), self.stride), *self.head(features)

    def propose(
        self,
        anchors: Float[Tensor, "A 4"],
        scores: Float[Tensor, "B A 2"],
        deltas: Float[Tensor, "B A 4"],
        sizes: Float[Tensor, "B 2"],
        *,
        rounds: int = ROUNDS,
    ) -> Proposals:
        """Turn scores and deltas into the R best boxes: top-N, decode, clip, NMS, top-R."""
        objectness = scores.softmax(-1)[..., 1].masked_fill(~self.stands_in(anchors, sizes), -1.0)
        objectness, index = objectness.topk(min(self.before, len(anchors)))  # (B, N)
        boxes = decode(deltas.take_along_dim(index.unsqueeze(-1), dim=1), anchors[index])
        boxes = clip_boxes(boxes, sizes)
        possible = is_large(boxes, MIN_SIDE) & (objectness >= 0)
        kept = nms_padded(*(boxes, objectness, self.nms_threshold), keep=self.after, valid=possible, rounds=rounds)
        return Proposals(
            boxes.take_along_dim(kept.index.unsqueeze(-1), dim=1).masked_fill(~kept.valid.unsqueeze(-1), 0.0),
            objectness.gather(1, kept.index).masked_fill(~kept.valid, 0.0),
            kept.valid,
            index.gather(1, kept.index).masked_fill(~kept.valid, -1),
            kept.settled,
        )

    def stands_in(self, anchors: Float[Tensor, "A 4"], sizes: Float[Tensor, "B 2"]) -> Bool[Tensor, "B A"]:
        """Say which anchors stand on cells of the picture, not of the padding that a batch adds."""
        end = (sizes / self.stride).ceil().unsqueeze(1) * self.stride  # (B, 1, 2): y, x
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        return (centres.flip(1) < end).all(dim=-1)

    def match(self, anchors: Float[Tensor, "A 4"], batch: Batch) -> Match:
        """Say which anchors are positive, negative or ignored (3.1.2); negatives on ignored regions are ignored."""
        anchors = anchors.expand(len(batch.images), -1, -1)
        allowed = self.stands_in(anchors[0], batch.sizes)
        if not self.allow_border:
            allowed = allowed & is_inside(anchors, batch.sizes)
        match = match_anchors(box_iou(anchors, batch.boxes), batch.valid, allowed=allowed)
        return ignore_covered(match, covered_fraction(anchors, batch.ignore))

    def losses(
        self,
        anchors: Float[Tensor, "A 4"],
        scores: Float[Tensor, "B A 2"],
        deltas: Float[Tensor, "B A 4"],
        batch: Batch,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the two terms of eq. 1, the second times lambda, for 256 anchors a picture drawn by ``batch.noise``.

        N_cls is 256 a picture. N_reg is the number of cells, about 2400 in the paper, where the box term so weighs
        10 / 2400. A smaller picture has fewer cells but as many samples: N_reg stays 2400, which keeps that balance.
        """
        drawn = sample(
            *(self.match(anchors, batch), batch.valid.long(), take_noise(batch.noise, 0, len(anchors))),
            size=SAMPLES,
            positive_fraction=0.5,
        )
        row = drawn.index.unsqueeze(-1)
        truth = batch.boxes.take_along_dim(drawn.matches.unsqueeze(-1), dim=1)
        targets = encode(truth, anchors[drawn.index])
        class_loss = classification_loss(
            scores.take_along_dim(row, dim=1), drawn.labels, normalizer=SAMPLES * len(scores)
        )
        regression = box_loss(
            *(deltas.take_along_dim(row, dim=1), targets, drawn.labels),
            beta=BETA,
            normalizer=N_REG * len(scores),
        )
        return class_loss, self.box_weight * regression
