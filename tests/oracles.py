"""The slow twins: what the operators compute, written as the papers' sentences, one box at a time."""

import math


def iou(a, b):
    """Overlap of two boxes given as four numbers."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    area_a = max(0.0, a[2] - a[0]) * max(0.0, a[3] - a[1])
    area_b = max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1])
    union = area_a + area_b - shared
    return shared / union if union > 0 else 0.0


def encode(box, anchor):
    """Deltas of Faster R-CNN eq. 2 for one box."""
    w, h, wa, ha = box[2] - box[0], box[3] - box[1], anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y, xa, ya = box[0] + w / 2, box[1] + h / 2, anchor[0] + wa / 2, anchor[1] + ha / 2
    return [(x - xa) / wa, (y - ya) / ha, math.log(w / wa), math.log(h / ha)]


def nms(boxes, scores, threshold):
    """The greedy rule, literally."""
    waiting = sorted(range(len(boxes)), key=lambda i: -scores[i])  # sorted() is stable: ties keep their order
    kept = []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [i for i in waiting if not iou(boxes[best], boxes[i]) > threshold]
    return kept


def match_anchors(overlaps, positive, negative):
    """Status of each anchor from an N x G table: Faster R-CNN 3.1.2."""
    status = []
    best_of = [max(row[g] for row in overlaps) for g in range(len(overlaps[0]))]
    for row in overlaps:
        if max(row) >= positive or any(row[g] == best_of[g] > 0 for g in range(len(row))):
            status.append(1)
        elif max(row) < negative:
            status.append(0)
        else:
            status.append(-1)
    return status
