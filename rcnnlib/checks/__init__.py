"""Checks of the exercises: one contract each, which takes the learner's function and speaks like a teacher.

``SOLUTIONS`` names for every exercise the function of the library that solves it.
"""

from collections.abc import Callable
from typing import Any

from rcnnlib.checks.anchors import (
    anchor_scales,
    check_anchor_scales,
    check_anchors,
    check_inside,
    inside,
    make_anchors,
)
from rcnnlib.checks.box_coder import check_decode, check_encode
from rcnnlib.checks.boxes import best_match, check_best_match, check_convert, check_iou
from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.checks.detections import (
    area_under_envelope,
    check_average_precision,
    check_nms,
    check_precision_recall,
    precision_and_recall,
)
from rcnnlib.checks.grouping import (
    check_fill,
    check_merge,
    check_recall,
    merge_rows,
    pair_fill,
    recall_at,
)
from rcnnlib.checks.head_losses import (
    check_multi_task_loss,
    check_smooth_l1,
    check_softmax,
    multi_task_loss,
    softmax,
)
from rcnnlib.checks.projection import (
    check_pyramid,
    check_receptive_field,
    check_roi_projection,
    pyramid,
    receptive_field,
    roi_projection,
)
from rcnnlib.checks.proposals import check_propose, check_suppressed_by, proposals, suppressed_by
from rcnnlib.checks.rcnn import check_svm_label, check_warp, svm_label, warp_one
from rcnnlib.checks.results import (
    check_interval,
    check_redrawn_recall,
    check_speedups,
    interval,
    redrawn_recall,
    speedups,
)
from rcnnlib.checks.roi_pooling import (
    bilinear,
    check_bilinear,
    check_bins,
    check_roi_pool,
    divide,
    pool_one,
)
from rcnnlib.checks.rpn import check_objectness, check_rpn_head, objectness, rpn_scores
from rcnnlib.checks.rpn_loss import anchor_loss, check_match, check_rpn_loss, match_table
from rcnnlib.checks.sampling import (
    check_epoch_cost,
    check_label_proposals,
    check_sampler,
    draw_sample,
    epoch_cost,
    label_proposals,
)
from rcnnlib.checks.start import check_area
from rcnnlib.checks.training import (
    check_learning_rate,
    check_low_rank,
    check_speedup,
    learning_rates,
    low_rank,
    speedup,
)
from rcnnlib.checks.training_faster import (
    check_freeze_plan,
    check_head_sample,
    check_joint_gradient,
    freeze_plan,
    head_sample,
    joint_gradient,
)
from rcnnlib.ops.box_coder import decode, encode
from rcnnlib.ops.boxes import box_area, box_convert, box_iou
from rcnnlib.ops.losses import smooth_l1
from rcnnlib.ops.nms import nms

SOLUTIONS: dict[str, Callable[..., Any]] = {
    "my_area": box_area,
    "my_anchors": make_anchors,
    "my_inside": inside,
    "my_anchor_scales": anchor_scales,
    "my_rpn_head": rpn_scores,
    "my_objectness": objectness,
    "my_match": match_table,
    "my_rpn_loss": anchor_loss,
    "my_propose": proposals,
    "my_suppressed_by": suppressed_by,
    "my_convert": box_convert,
    "my_iou": box_iou,
    "my_best_match": best_match,
    "my_fill": pair_fill,
    "my_merge": merge_rows,
    "my_recall": recall_at,
    "my_warp": warp_one,
    "my_svm_label": svm_label,
    "my_encode": encode,
    "my_decode": decode,
    "my_receptive_field": receptive_field,
    "my_roi_projection": roi_projection,
    "my_pyramid": pyramid,
    "my_bins": divide,
    "my_roi_pool": pool_one,
    "my_bilinear": bilinear,
    "my_softmax": softmax,
    "my_smooth_l1": smooth_l1,
    "my_multi_task_loss": multi_task_loss,
    "my_nms": nms,
    "my_precision_recall": precision_and_recall,
    "my_average_precision": area_under_envelope,
    "my_label_proposals": label_proposals,
    "my_sampler": draw_sample,
    "my_epoch_cost": epoch_cost,
    "my_learning_rate": learning_rates,
    "my_speedup": speedup,
    "my_low_rank": low_rank,
    "my_head_sample": head_sample,
    "my_freeze_plan": freeze_plan,
    "my_joint_gradient": joint_gradient,
    "my_speedups": speedups,
    "my_redrawn_recall": redrawn_recall,
    "my_interval": interval,
}

__all__ = [
    "SOLUTIONS",
    "Case",
    "Contract",
    "Mistake",
    "anchor_loss",
    "anchor_scales",
    "area_under_envelope",
    "best_match",
    "bilinear",
    "check_anchor_scales",
    "check_anchors",
    "check_area",
    "check_average_precision",
    "check_best_match",
    "check_bilinear",
    "check_bins",
    "check_convert",
    "check_decode",
    "check_encode",
    "check_epoch_cost",
    "check_fill",
    "check_freeze_plan",
    "check_head_sample",
    "check_inside",
    "check_interval",
    "check_iou",
    "check_joint_gradient",
    "check_label_proposals",
    "check_learning_rate",
    "check_low_rank",
    "check_match",
    "check_merge",
    "check_multi_task_loss",
    "check_nms",
    "check_objectness",
    "check_precision_recall",
    "check_propose",
    "check_pyramid",
    "check_recall",
    "check_receptive_field",
    "check_redrawn_recall",
    "check_roi_pool",
    "check_roi_projection",
    "check_rpn_head",
    "check_rpn_loss",
    "check_sampler",
    "check_smooth_l1",
    "check_softmax",
    "check_speedup",
    "check_speedups",
    "check_suppressed_by",
    "check_svm_label",
    "check_warp",
    "divide",
    "draw_sample",
    "epoch_cost",
    "freeze_plan",
    "head_sample",
    "inside",
    "interval",
    "joint_gradient",
    "label_proposals",
    "learning_rates",
    "low_rank",
    "make_anchors",
    "match_table",
    "merge_rows",
    "multi_task_loss",
    "objectness",
    "pair_fill",
    "pool_one",
    "precision_and_recall",
    "proposals",
    "pyramid",
    "recall_at",
    "receptive_field",
    "redrawn_recall",
    "roi_projection",
    "rpn_scores",
    "softmax",
    "speedup",
    "speedups",
    "suppressed_by",
    "svm_label",
    "warp_one",
]
