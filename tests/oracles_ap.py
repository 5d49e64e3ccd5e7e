"""The slow twins of the metrics: the VOC devkit's matching, one detection at a time, and what follows from it."""

import math

from oracles import iou


def covered(box, region):
    """The part of a box that lies in a region."""
    width = max(0.0, min(box[2], region[2]) - max(box[0], region[0]))
    height = max(0.0, min(box[3], region[3]) - max(box[1], region[1]))
    area = max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
    return width * height / area if area > 0 else 0.0


def verdicts(records, label, threshold):
    """(score, verdict) of every detection of a class, by falling score; claims are marked as the devkit marks them."""
    detections = [
        (score, picture, box)
        for picture, record in enumerate(records)
        for box, score, found in zip(record.boxes.tolist(), record.scores.tolist(), record.labels.tolist(), strict=True)
        if found == label
    ]
    detections.sort(key=lambda row: -row[0])  # sort() is stable: ties keep their order
    objects = [truth_of(record, label) for record in records]
    claimed = set()
    said = []
    for score, picture, box in detections:
        best, place = -math.inf, None
        for g, truth in enumerate(objects[picture]):
            if iou(box, truth) > best:
                best, place = iou(box, truth), g
        if best >= threshold:
            said.append((score, "duplicate" if (picture, place) in claimed else "right"))
            claimed.add((picture, place))
        elif any(covered(box, region) >= 0.5 for region in records[picture].ignore.tolist()):
            said.append((score, "ignored"))
        else:
            said.append((score, "wrong"))
    return said


def truth_of(record, label):
    """The objects of a class in a picture."""
    labels = record.truth_labels.tolist()
    return [box for box, of in zip(record.truth.tolist(), labels, strict=True) if of == label]


def curve(records, label, threshold):
    """(scores, true positive, precision, recall, total) of a class, lists."""
    total = sum(len(truth_of(record, label)) for record in records)
    rows = [(score, said == "right") for score, said in verdicts(records, label, threshold) if said != "ignored"]
    precision, recall, right = [], [], 0
    for seen, (_, is_right) in enumerate(rows, start=1):
        right += is_right
        precision.append(right / seen)
        recall.append(right / total if total else math.nan)
    return [score for score, _ in rows], [is_right for _, is_right in rows], precision, recall, total


def area(precision, recall):
    """xVOCap.m: the area under the precision made monotone from the right."""
    precision, recall = [0.0, *precision, 0.0], [0.0, *recall, 1.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def eleven(precision, recall):
    """VOC2007's rule: the mean over 11 recalls of the best precision at that recall or more."""
    levels = [k / 10 for k in range(11)]
    return sum(max((p for p, r in zip(precision, recall, strict=True) if r >= k), default=0.0) for k in levels) / 11


def error_kinds(records, classes, threshold, score_threshold):
    """The six kinds of detections and the objects missed, one detection at a time."""
    kinds = dict.fromkeys(("right", "duplicate", "ignored", "localisation", "confusion", "background", "missed"), 0)
    for record in records:
        for label in range(1, classes + 1):
            own = truth_of(record, label)
            others = [box for k in range(1, classes + 1) if k != label for box in truth_of(record, k)]
            mine = [
                (score, box)
                for box, score, k in zip(
                    record.boxes.tolist(), record.scores.tolist(), record.labels.tolist(), strict=True
                )
                if k == label
            ]
            mine.sort(key=lambda row: -row[0])
            said = verdicts([record], label, threshold)  # the same order
            missed = len(own)
            for (score, box), (_, verdict) in zip(mine, said, strict=True):
                if score < score_threshold:
                    continue
                if verdict == "wrong" and any(iou(box, truth) >= 0.1 for truth in own):
                    verdict = "localisation"
                elif verdict == "wrong":
                    close = any(iou(box, truth) >= threshold for truth in others)
                    verdict = "confusion" if close else "background"
                kinds[verdict] += 1
                missed -= verdict == "right"
            kinds["missed"] += missed
    return tuple(kinds.values())


def recall(proposals, truths, threshold, count):
    """The part of all objects that one of the first proposals of their picture overlaps enough."""
    hits = [
        any(iou(box, truth) >= threshold for box in boxes.tolist()[:count])
        for boxes, objects in zip(proposals, truths, strict=True)
        for truth in objects.tolist()
    ]
    return sum(hits) / len(hits) if hits else math.nan
