import math

import oracles_ap
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnnlib.engine.metrics import (
    Curve,
    ErrorKinds,
    Record,
    average_precision,
    average_recall,
    error_kinds,
    match,
    precision_recall,
    proposal_recall,
    voc_map,
)

FAR = [500.0, 500.0, 510.0, 510.0]


def box(x, y=0.0, width=10.0, height=10.0):
    return [x, y, x + width, y + height]


def record(detections=(), truth=(), ignore=(), *, id=0):
    """A picture from rows (box, score, label), (box, label) and boxes."""
    rows = lambda boxes: torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)  # noqa: E731
    return Record(
        id=id,
        boxes=rows([row[0] for row in detections]),
        scores=torch.tensor([row[1] for row in detections], dtype=torch.float64),
        labels=torch.tensor([row[2] for row in detections], dtype=torch.int64),
        truth=rows([row[0] for row in truth]),
        truth_labels=torch.tensor([row[1] for row in truth], dtype=torch.int64),
        ignore=rows(list(ignore)),
    )


def scene(seed, pictures=4, classes=2):
    """Pictures crowded with boxes of a few whole pixels: many ties of score and of IoU, and pictures of nothing."""
    generator = torch.Generator().manual_seed(seed)
    number = lambda low, high, *size: torch.randint(low, high, size, generator=generator)  # noqa: E731

    def boxes(most):
        count = int(number(0, most + 1, 1))
        corner, sides = number(0, 3, count, 2), torch.tensor([0, 3, 3, 4, 4, 4, 5, 5])
        return torch.cat((corner, corner + sides[number(0, 8, count, 2)]), dim=1).double()  # some are empty

    records = []
    for id in range(pictures):
        found, truth = boxes(20), boxes(6)
        records.append(
            Record(
                id=id,
                boxes=found,
                scores=number(0, 5, len(found)).double() / 4,
                labels=number(1, classes + 1, len(found)),
                truth=truth,
                truth_labels=number(1, classes + 1, len(truth)),
                ignore=boxes(1),
            )
        )
    return records


def test_four_detections_by_hand():
    apart = record(
        [(box(0), 0.9, 1), (FAR, 0.8, 1), (box(20), 0.7, 1), (FAR, 0.6, 1)],
        [(box(0), 1), (box(20), 1), (box(40), 1)],
    )
    curve = precision_recall([apart], 1)
    assert curve.true_positive.tolist() == [True, False, True, False]
    assert curve.precision.tolist() == [1 / 1, 1 / 2, 2 / 3, 2 / 4]
    assert curve.recall.tolist() == [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert curve.total == 3
    # The first third of the recall is had at precision 1, the second at 2/3, the last never: 1/3 + 2/9 = 5/9.
    assert average_precision(curve) == pytest.approx(5 / 9)
    # Four of the eleven recalls (0 to 0.3) at 1, three (0.4 to 0.6) at 2/3, four at 0: (4 + 2) / 11.
    assert average_precision(curve, points="11") == pytest.approx(6 / 11)


def test_precision_that_rises_again_is_carried_back():
    late = record([(FAR, 0.9, 1), (box(0), 0.8, 1), (box(20), 0.7, 1)], [(box(0), 1), (box(20), 1)])
    curve = precision_recall([late], 1)
    assert curve.precision.tolist() == [0, 1 / 2, 2 / 3]
    # 2/3 is to be had at every recall; without the envelope it would be 1/2 * 1/2 + 1/2 * 2/3 = 7/12.
    assert average_precision(curve) == pytest.approx(2 / 3)
    assert average_precision(curve, points="11") == pytest.approx(2 / 3)


def test_a_recall_that_is_just_reached_counts():
    # 3 of 10 objects: the recalls 0, 0.1, 0.2, 0.3 are reached. 3 * 0.1 is above 3 / 10 in floating point.
    some = record([(box(20 * i), 0.9, 1) for i in range(3)], [(box(20 * i), 1) for i in range(10)])
    assert average_precision(precision_recall([some], 1), points="11") == pytest.approx(4 / 11)
    assert average_precision(precision_recall([some], 1)) == pytest.approx(3 / 10)


def test_order_is_by_score_over_all_pictures():
    first = record([(FAR, 0.5, 1), (box(0), 0.9, 1)], [(box(0), 1)])
    second = record([(FAR, 0.7, 1), (box(0), 0.5, 1)], [(box(0), 1)])
    curve = precision_recall([first, second], 1)
    assert curve.scores.tolist() == [0.9, 0.7, 0.5, 0.5]
    assert curve.true_positive.tolist() == [True, False, False, True]  # of the equal ones the first picture's first
    assert precision_recall([second, first], 1).true_positive.tolist() == [True, False, True, False]


def test_exactly_at_the_threshold_is_right_as_in_the_matlab_devkit():
    half = record([(box(0, height=20), 0.9, 1)], [(box(0), 1)])  # 100 / 200
    assert match(half, 1).right.tolist() == [True]
    less = record([(box(0, height=20.01), 0.9, 1)], [(box(0), 1)])
    assert match(less, 1).right.tolist() == [False]
    assert match(less, 1, iou_threshold=0.49).right.tolist() == [True]


def test_an_object_is_claimed_once_and_by_the_best_score():
    twice = record([(box(1), 0.8, 1), (box(2), 0.9, 1)], [(box(0), 1)])  # 90 / 110 and 80 / 120
    matched = match(twice, 1)
    assert matched.rows.tolist() == [1, 0]  # the better score first, though its box is worse
    assert matched.right.tolist() == [True, False]
    assert matched.duplicate.tolist() == [False, True]
    torch.testing.assert_close(matched.iou, torch.tensor([80 / 120, 90 / 110], dtype=torch.float64))


def test_another_class_is_no_object():
    other = record([(box(0), 0.9, 1)], [(box(0), 2)])
    assert precision_recall([other], 1).true_positive.tolist() == [False]
    assert precision_recall([other], 2).total == 1


def test_ignored_regions_take_what_lies_half_in_them_and_is_no_objects():
    detections = [
        (box(100, width=20), 0.9, 1),  # 10 of its 20 columns lie in the region: dropped
        (box(100, width=20.5), 0.8, 1),  # less than half: wrong
        (box(0), 0.7, 1),  # in the other region, but right
        (box(0), 0.6, 1),  # in it too, but a duplicate, which is wrong as in the devkit
    ]
    picture = record(detections, [(box(0), 1)], [box(100), box(0, width=50, height=50)])
    matched = match(picture, 1)
    assert matched.ignored.tolist() == [True, False, False, False]
    assert matched.right.tolist() == [False, False, True, False]
    assert matched.duplicate.tolist() == [False, False, False, True]
    assert precision_recall([picture], 1).precision.tolist() == [0, 1 / 2, 1 / 3]  # three rows: one is not on it


@given(st.integers(0, 100_000), st.sampled_from([0.3, 0.5, 0.75]))
@settings(max_examples=60, deadline=None)
def test_curve_and_ap_are_the_slow_twins(seed, threshold):
    records = scene(seed)
    ours = {points: voc_map(records, 2, iou_threshold=threshold, points=points) for points in ("area", "11")}
    for label in (1, 2):
        scores, right, precision, recall, total = oracles_ap.curve(records, label, threshold)
        curve = precision_recall(records, label, iou_threshold=threshold)
        assert curve.scores.tolist() == scores
        assert curve.true_positive.tolist() == right
        assert curve.precision.tolist() == precision
        assert curve.recall.tolist() == pytest.approx(recall, nan_ok=True)
        assert curve.total == total
        area, eleven = (ours[points]["per_class"][label - 1] for points in ("area", "11"))
        assert area == pytest.approx(oracles_ap.area(precision, recall) if total else math.nan, nan_ok=True)
        assert eleven == pytest.approx(oracles_ap.eleven(precision, recall) if total else math.nan, nan_ok=True)


def test_the_scenes_hold_every_case():
    kinds = torch.tensor([oracles_ap.error_kinds(scene(seed), 2, 0.5, 0.0) for seed in range(30)])
    assert kinds.sum(dim=0).min() > 30
    pictures = [picture for seed in range(30) for picture in scene(seed)]
    assert any(len(picture.truth) == 0 < len(picture.boxes) for picture in pictures)
    assert any(len(picture.boxes) == 0 < len(picture.truth) for picture in pictures)


def test_mean_is_over_the_classes_that_have_objects():
    picture = record([(box(0), 0.9, 1), (FAR, 0.9, 2), (FAR, 0.9, 3)], [(box(0), 1), (box(0), 2)])
    result = voc_map([picture], 3)
    assert result["per_class"][:2] == [1.0, 0.0]
    assert math.isnan(result["per_class"][2])
    assert result["mean"] == 0.5


@pytest.mark.parametrize("points", ["area", "11"])
def test_nothing_found_and_nothing_to_find(points):
    missed = record(truth=[(box(0), 1)])
    assert average_precision(precision_recall([missed], 1), points=points) == 0.0
    wrong = precision_recall([record([(box(0), 0.9, 1)])], 1)
    assert wrong.precision.tolist() == [0.0]
    for curve in (wrong, precision_recall([], 1), precision_recall([record()], 1)):
        assert math.isnan(average_precision(curve, points=points))
    assert math.isnan(voc_map([], 2, points=points)["mean"])


def test_points_are_named_in_the_error():
    nothing = torch.zeros(0, dtype=torch.float64)
    curve = Curve(nothing, nothing.bool(), nothing, nothing, 1)
    with pytest.raises(ValueError, match=r"points must be .* got '101'"):
        average_precision.__wrapped__(curve, points="101")  # past the checker of the tests, as a user calls it


def test_proposal_recall_by_hand():
    truth = torch.tensor([box(0), box(100)])
    proposals = torch.tensor([box(0, width=20), box(100, height=16), box(0)])  # IoU 0.5, 0.625, and 1 at last
    thresholds = torch.tensor([0.5, 0.6, 0.7])
    recall = lambda count: proposal_recall([proposals], [truth], thresholds=thresholds, count=count).tolist()  # noqa: E731
    assert recall(None) == [1.0, 1.0, 0.5]
    assert recall(2) == [1.0, 0.5, 0.0]
    assert recall(1) == [0.5, 0.0, 0.0]
    # The first is found at all ten thresholds, the second at 0.5, 0.55 and 0.6: (10 + 3) / 20.
    assert average_recall([proposals], [truth]) == pytest.approx(13 / 20)


@pytest.mark.parametrize("height", range(10, 20))
def test_recall_at_exactly_a_threshold_counts(height):
    # IoU height / 20 = 0.5, 0.55, ... Some of these float32 rounds down: 0.7 becomes 0.69999999.
    proposal, truth = torch.tensor([box(0, height=height)]), torch.tensor([box(0, height=20)])
    assert average_recall([proposal], [truth]) == pytest.approx((height - 9) / 10)


def test_proposal_recall_is_the_slow_twin():
    thresholds = [0.1, 0.3, 0.5, 0.7, 0.9]
    for seed in range(20):
        records = scene(seed)
        proposals, truths = [r.boxes for r in records], [r.truth for r in records]
        for count in (None, 3, 0):
            ours = proposal_recall(
                proposals, truths, thresholds=torch.tensor(thresholds, dtype=torch.float64), count=count
            )
            theirs = [oracles_ap.recall(proposals, truths, threshold, count) for threshold in thresholds]
            assert ours.tolist() == pytest.approx(theirs, nan_ok=True)
    nothing = torch.zeros(0, 4)
    assert math.isnan(average_recall([], []))
    assert math.isnan(average_recall([torch.tensor([box(0)])], [nothing]))
    assert average_recall([nothing], [torch.tensor([box(0)])]) == 0.0


def test_one_error_of_each_kind():
    detections = [
        (box(0), 0.9, 1),  # correct
        (box(1), 0.8, 1),  # duplicate: 90 / 110 with an object that is taken
        (box(300, width=20), 0.8, 1),  # ignored: half in the region
        (box(25), 0.8, 1),  # localisation: 50 / 150 = 0.33 with the second object
        (box(100), 0.8, 1),  # confusion: an object of class 2
        (box(103.5), 0.8, 1),  # 65 / 135 = 0.48 with it: TIDE's "both", background here
        (FAR, 0.8, 1),  # background
        (FAR, 0.4, 1),  # not shown
    ]
    truth = [(box(0), 1), (box(20), 1), (box(100), 2)]
    errors = error_kinds([record(detections, truth, [box(300)])], 2, score_threshold=0.5)
    expected = ErrorKinds(
        correct=1, duplicate=1, ignored=1, localisation=1, confusion=1, background=2, missed=2
    )  # the second object of class 1, and the one of class 2
    assert errors == expected


def test_localisation_goes_before_confusion():
    both = record([(box(0), 0.9, 1)], [(box(5), 1), (box(0), 2)])  # 50 / 150 with its class, 1 with the other
    assert error_kinds([both], 2, score_threshold=0.5).localisation == 1
    edge = record([(box(0), 0.5, 1)], [(box(0, width=100), 1)])  # exactly 0.1, and exactly the score
    assert error_kinds([edge], 1, score_threshold=0.5).localisation == 1


@given(st.integers(0, 100_000), st.sampled_from([0.0, 0.5, 0.75]))
@settings(max_examples=60, deadline=None)
def test_errors_are_the_slow_twin_and_a_partition(seed, score_threshold):
    records = scene(seed)
    errors = error_kinds(records, 2, score_threshold=score_threshold)
    assert tuple(errors) == oracles_ap.error_kinds(records, 2, 0.5, score_threshold)
    shown = sum(int((picture.scores >= score_threshold).sum()) for picture in records)
    assert sum(errors) - errors.missed == shown
    assert errors.correct + errors.missed == sum(len(picture.truth) for picture in records)


def test_no_errors_without_pictures():
    assert error_kinds([], 3, score_threshold=0.5) == ErrorKinds(0, 0, 0, 0, 0, 0, 0)
