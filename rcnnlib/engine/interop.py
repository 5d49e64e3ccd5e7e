"""Our Faster R-CNN as torchvision's, and back; and what each part is called in three libraries.

The numbers are the same, the places differ: torchvision's anchors stand in the corner of a cell and are rounded, its
RPN has one score an anchor (a sigmoid), its head has deltas for the background too, and it resizes pictures itself.
The classes below change just that; everything else is torchvision's own code with our weights in it.

The detections are equal up to rounding, with two exceptions. Where rounding decides, each library may choose another:
scores that are the same (anchors on a plain background, objectness so near 1 that a float32 says 1), or an IoU that is
its threshold to six digits. And torchvision does not tell its trunk where a picture ends: in a batch of unequal sizes
it looks into the padding, so give it those one by one; ours are the same alone and in a batch.
Left out: what only training asks and torchvision has no word for (lambda, the border rule, a lower bound for
background, ignored regions), and detectors with feature pyramids.

Shapes: k anchors a cell    A anchors of the map    R regions of all pictures    M channels after the reduction
        p side of the pooled grid
"""

import copy
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision import ops
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection import faster_rcnn, rpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from rcnnlib.models.backbone import Trunk
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.roi_heads import RoIHead
from rcnnlib.models.rpn import MIN_SIDE, SAMPLES, RPNHead
from rcnnlib.ops.anchors import cell_anchors


class CentredAnchors(AnchorGenerator):
    """torchvision's anchors, moved to the middle of their cell and not rounded to whole pixels."""

    def generate_anchors(
        self, scales, aspect_ratios, dtype=torch.float32, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "k 4"]:
        """Return the anchors of a cell as ours: torchvision's without the last line, which rounds."""
        return cell_anchors(scales, aspect_ratios, dtype=dtype, device=device)

    def grid_anchors(self, grid_sizes, strides) -> list[Float[Tensor, "A 4"]]:
        """Return the anchors of each map, half a stride to the right of and below torchvision's."""
        corners = super().grid_anchors(grid_sizes, strides)
        return [boxes + torch.stack((x, y, x, y)) / 2 for boxes, (y, x) in zip(corners, strides, strict=True)]


class KeepSize(GeneralizedRCNNTransform):
    """torchvision's way from pictures to a batch, but it only pads: our trunks take off the mean themselves."""

    def __init__(self, stride: int) -> None:
        super().__init__(0, 0, image_mean=[0.0] * 3, image_std=[1.0] * 3, size_divisible=stride)

    def resize(self, image, target=None):
        """Return both as they are."""
        return image, target


class ReduceThenPool(ops.MultiScaleRoIAlign):
    """Our 1x1 reduction and RoI pooling, where torchvision has its pooling over the levels of a pyramid.

    That one samples half a cell farther right and down (``aligned=False``), as the first Mask R-CNN codes did.
    """

    def __init__(self, head: RoIHead) -> None:
        super().__init__(["0"], output_size=head.grid, sampling_ratio=2)
        self.reduce = nn.Conv2d(head.reduce.in_channels, head.reduce.out_channels, kernel_size=1)
        self.pooling, self.stride = head.pooling, head.stride

    def forward(self, x, boxes, image_shapes) -> Float[Tensor, "R M p p"]:
        """Pool the regions of each picture, a list, on the only map there is, ``x["0"]``."""
        features, where = relu(self.reduce(x["0"])), (boxes, self.output_size, 1 / self.stride)
        if self.pooling == "pool":
            return ops.roi_pool(features, *where)
        return ops.roi_align(features, *where, self.sampling_ratio, aligned=True)


# Beginnings of the names of weights, ours and theirs. Two layers also change their shape: see to_their_weights.
NAMES = {
    "trunk.": "backbone.",
    "rpn.head.conv.": "rpn.head.conv.0.0.",
    "rpn.head.scores.": "rpn.head.cls_logits.",
    "rpn.head.deltas.": "rpn.head.bbox_pred.",
    "head.reduce.": "roi_heads.box_roi_pool.reduce.",
    "head.mlp.": "roi_heads.box_head.",
    "head.predict.scores.": "roi_heads.box_predictor.cls_score.",
    "head.predict.deltas.": "roi_heads.box_predictor.bbox_pred.",
}


def _rename(weights: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Change the beginnings of all names."""
    found = {}
    for name, tensor in weights.items():
        start = next(start for start in names if name.startswith(start))
        found[names[start] + name.removeprefix(start)] = tensor
    return found


def to_their_weights(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of our FasterRCNN for torchvision's.

    softmax(background, object) is sigmoid(object - background), and the difference of two layers is a layer.
    """
    weights = _rename(ours, NAMES)
    for kind in ("weight", "bias"):
        scores, deltas = f"rpn.head.cls_logits.{kind}", f"roi_heads.box_predictor.bbox_pred.{kind}"
        background, thing = weights[scores].unflatten(0, (-1, 2)).unbind(1)
        weights[scores] = thing - background
        none = torch.zeros_like(weights[deltas][:4])  # of the background: nobody reads its deltas
        weights[deltas] = torch.cat((none, weights[deltas]))
    return weights


def to_our_weights(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a converted detector for ours.

    Only the difference of two logits counts, so which two they were cannot be known: the background's become 0.
    """
    weights = _rename(theirs, {theirs: ours for ours, theirs in NAMES.items()})
    for kind in ("weight", "bias"):
        scores, deltas = f"rpn.head.scores.{kind}", f"head.predict.deltas.{kind}"
        thing = weights[scores]
        weights[scores] = torch.stack((torch.zeros_like(thing), thing), dim=1).flatten(0, 1)
        weights[deltas] = weights[deltas][4:]
    return weights


def scales_and_ratios(base: Float[Tensor, "k 4"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what ``cell_anchors`` made these anchors from; they are ratio-major."""
    width, height = (base[:, 2:] - base[:, :2]).double().unbind(-1)
    scale, ratio = (width * height).sqrt().float(), (height / width).float()
    count = int(torch.isclose(ratio, ratio[0], rtol=1e-5).sum())
    return tuple(scale[:count].tolist()), tuple(ratio[::count].tolist())


def _rpn_head(ours: RPNHead) -> rpn.RPNHead:
    """Return torchvision's head with our number of channels; its own always has as many as the map."""
    channels = ours.scores.in_channels
    theirs: Any = rpn.RPNHead(channels, ours.scores.out_channels // 2)
    theirs.conv[0][0] = nn.Conv2d(ours.conv.in_channels, channels, kernel_size=3, padding=1)
    return theirs


def to_torchvision(model: FasterRCNN) -> TorchvisionFasterRCNN:
    """Return a copy of a detector as torchvision's class: the same detections, and it can be trained on there.

    It takes a list of pictures (3, H, W), RGB in [0, 1], of any size; they are padded, not resized.
    """
    ours, head = model.rpn, model.head
    scales, ratios = scales_and_ratios(ours.base)
    theirs: Any = TorchvisionFasterRCNN(
        copy.deepcopy(model.trunk),
        rpn_anchor_generator=CentredAnchors((scales,), (ratios,)),
        rpn_head=_rpn_head(ours.head),
        **dict.fromkeys(("rpn_pre_nms_top_n_train", "rpn_pre_nms_top_n_test"), ours.before),
        **dict.fromkeys(("rpn_post_nms_top_n_train", "rpn_post_nms_top_n_test"), ours.after),
        rpn_nms_thresh=ours.nms_threshold,
        rpn_batch_size_per_image=SAMPLES,
        box_roi_pool=ReduceThenPool(head),
        box_head=faster_rcnn.TwoMLPHead(head.mlp.fc6.in_features, head.mlp.fc6.out_features),
        box_predictor=faster_rcnn.FastRCNNPredictor(head.mlp.fc7.out_features, head.predict.scores.out_features),
        box_score_thresh=head.score_threshold,
        box_nms_thresh=head.nms_threshold,
        box_detections_per_img=head.detections,
        box_batch_size_per_image=head.samples,
    )
    theirs.rpn.min_size = MIN_SIDE
    theirs.transform = KeepSize(ours.stride)
    theirs.load_state_dict(to_their_weights(model.state_dict()))
    return theirs.to(ours.base.device).train(model.training)


# What torchvision's detector must have to be one of ours, and what that means.
WANTED = (
    ("backbone", Trunk, "one feature map without a pyramid"),
    ("rpn.anchor_generator", CentredAnchors, "anchors in the middle of their cell and not rounded"),
    ("roi_heads.box_roi_pool", ReduceThenPool, "a 1x1 reduction before the pooling"),
    ("roi_heads.box_head", faster_rcnn.TwoMLPHead, "two fully connected layers"),
    ("roi_heads.box_predictor", faster_rcnn.FastRCNNPredictor, "one layer for scores and one for deltas"),
    ("transform", KeepSize, "pictures that are padded and not resized"),
)


def _check(theirs: TorchvisionFasterRCNN) -> None:
    """Raise ValueError for a detector that has no counterpart here, with a list of what it lacks."""
    parts = [(name, attrgetter(name)(theirs), kind, meaning) for name, kind, meaning in WANTED]
    lacks = [
        f"{meaning} ({name} is {type(part).__name__})"
        for name, part, kind, meaning in parts
        if not isinstance(part, kind)
    ]
    if lacks:
        raise ValueError(
            f"theirs must be a detector that to_torchvision made, got one that lacks {', '.join(lacks)}; "
            "make a FasterRCNN of the course, convert it and train that one with torchvision"
        )


def from_torchvision(theirs: TorchvisionFasterRCNN) -> FasterRCNN:
    """Return a copy of what ``to_torchvision`` made, perhaps trained further since, as our class.

    Options that torchvision does not know (see above) are our defaults again.

    Raises:
        ValueError: it is another detector of torchvision's, such as one with a feature pyramid.
    """
    _check(theirs)
    net: Any = theirs  # torchvision does not declare the types of its parts
    anchors, head, pool = net.rpn.anchor_generator, net.roi_heads, net.roi_heads.box_roi_pool
    model = FasterRCNN(
        copy.deepcopy(net.backbone),
        head.box_predictor.cls_score.out_features - 1,
        scales=anchors.sizes[0],
        ratios=anchors.aspect_ratios[0],
        rpn={
            "channels": net.rpn.head.cls_logits.in_channels,
            "before": net.rpn.pre_nms_top_n(),
            "after": net.rpn.post_nms_top_n(),
            "nms_threshold": net.rpn.nms_thresh,
        },
        head={
            "reduced": pool.reduce.out_channels,
            "width": head.box_head.fc7.out_features,
            "grid": pool.output_size[0],
            "pooling": pool.pooling,
            "samples": head.fg_bg_sampler.batch_size_per_image,
            "score_threshold": head.score_thresh,
            "nms_threshold": head.nms_thresh,
            "detections": head.detections_per_img,
        },
    )
    model.load_state_dict(to_our_weights(net.state_dict()))
    return model.to(pool.reduce.weight.device).train(net.training)


class Part(NamedTuple):
    """What one thing is called elsewhere; a dash where there is no name for it."""

    ours: str
    torchvision: str
    detectron2: str
    config: str  # Detectron2's key
    mmdetection: str  # mostly the ``type`` in its configuration files


# Same name, other meaning. Detectron2 and mmdetection count the background last; ours and torchvision's is 0.
# Detectron2's anchors are size-major, and mmdetection's scales are multiples of the stride. RoI align takes half a cell
# off in Detectron2's "ROIAlignV2" and mmdetection's RoIAlign as in ours, but not in torchvision's MultiScaleRoIAlign.
PARTS = (
    Part("FasterRCNN", "FasterRCNN", "GeneralizedRCNN", "MODEL.META_ARCHITECTURE", "FasterRCNN"),
    Part("FastRCNN", "-", "GeneralizedRCNN", "MODEL.LOAD_PROPOSALS", "FastRCNN"),
    Part("resize", "GeneralizedRCNNTransform", "ResizeShortestEdge", "INPUT.MIN_SIZE_TEST", "Resize"),
    Part("collate", "GeneralizedRCNNTransform", "ImageList", "-", "DetDataPreprocessor"),
    Part("Trunk", "IntermediateLayerGetter", "Backbone", "MODEL.BACKBONE.NAME", "ResNet"),
    Part("Trunk.freeze", "-", "ResNet.freeze", "MODEL.BACKBONE.FREEZE_AT", "ResNet"),
    Part(
        "cell_anchors", "AnchorGenerator", "DefaultAnchorGenerator", "MODEL.ANCHOR_GENERATOR.SIZES", "AnchorGenerator"
    ),
    Part(
        "anchor_grid", "AnchorGenerator", "DefaultAnchorGenerator", "MODEL.ANCHOR_GENERATOR.OFFSET", "AnchorGenerator"
    ),
    Part("RPNHead", "RPNHead", "StandardRPNHead", "MODEL.RPN.HEAD_NAME", "RPNHead"),
    Part("RPN", "RegionProposalNetwork", "RPN", "MODEL.PROPOSAL_GENERATOR.NAME", "RPNHead"),
    Part("RPN.propose", "RegionProposalNetwork", "find_top_rpn_proposals", "MODEL.RPN.PRE_NMS_TOPK_TEST", "RPNHead"),
    Part("encode", "BoxCoder", "Box2BoxTransform", "MODEL.RPN.BBOX_REG_WEIGHTS", "DeltaXYWHBBoxCoder"),
    Part("decode", "BoxCoder", "Box2BoxTransform", "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "DeltaXYWHBBoxCoder"),
    Part("match_anchors", "Matcher", "Matcher", "MODEL.RPN.IOU_THRESHOLDS", "MaxIoUAssigner"),
    Part("match_proposals", "Matcher", "Matcher", "MODEL.ROI_HEADS.IOU_THRESHOLDS", "MaxIoUAssigner"),
    Part(
        "sample", "BalancedPositiveNegativeSampler", "subsample_labels", "MODEL.RPN.POSITIVE_FRACTION", "RandomSampler"
    ),
    Part("nms", "nms", "batched_nms", "MODEL.RPN.NMS_THRESH", "nms"),
    Part("RoIHead", "RoIHeads", "StandardROIHeads", "MODEL.ROI_HEADS.NAME", "StandardRoIHead"),
    Part("roi_align", "MultiScaleRoIAlign", "ROIPooler", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "RoIAlign"),
    Part("roi_pool", "RoIPool", "ROIPooler", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "RoIPool"),
    Part("TwoMLPHead", "TwoMLPHead", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NAME", "Shared2FCBBoxHead"),
    Part(
        "BoxPredictor", "FastRCNNPredictor", "FastRCNNOutputLayers", "MODEL.ROI_HEADS.NUM_CLASSES", "Shared2FCBBoxHead"
    ),
    Part("classification_loss", "fastrcnn_loss", "FastRCNNOutputLayers", "-", "CrossEntropyLoss"),
    Part("box_loss", "fastrcnn_loss", "FastRCNNOutputLayers", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "SmoothL1Loss"),
    Part("RoIHead.detect", "RoIHeads", "fast_rcnn_inference", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "Shared2FCBBoxHead"),
    Part("Detections", "-", "Instances", "TEST.DETECTIONS_PER_IMAGE", "InstanceData"),
)


def parts_table() -> str:
    """Return PARTS as a table to print."""
    rows = (Part("ours", "torchvision", "Detectron2", "its configuration key", "mmdetection"), *PARTS)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)
