"""The explorers of lesson 08: each control changes the numbers; the numbers are the library's."""

import pytest
import torch

from rcnnlib.engine.metrics import KINDS, Record, error_kinds, kind_of_each
from rcnnlib.models.roi_heads import RoIHead
from rcnnlib.ops.nms import BLOCK, nms
from rcnnlib.view.explorers.ap_of_five import SCORES, ApOfFive, ap_of_five
from rcnnlib.view.explorers.candidates import BUGS, FromScores, Said, detect_with_bug
from rcnnlib.view.explorers.error_bars import SHOWN, ErrorBars, missed_objects
from rcnnlib.view.explorers.matching import Matching, matching
from rcnnlib.view.explorers.nms_rounds import ALONE, TOGETHER, NmsRounds, nms_rounds
from rcnnlib.view.explorers.score_slider import ScoreSlider

NAMES = ("bird", "mammal", "food")
PHOTO = torch.linspace(0, 1, 3 * 120 * 160).reshape(3, 120, 160)


def crowd(count: int, seed: int) -> torch.Tensor:
    """Boxes that overlap a lot, some reaching over the border of 160 x 120 pixels when they are moved."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * torch.tensor([90.0, 60.0])
    return torch.cat((corner, corner + 30 + torch.rand(count, 2, generator=random) * 30), dim=1)


def said(seed: int = 0) -> Said:
    random = torch.Generator().manual_seed(seed)
    logits, deltas = torch.randn(60, 4, generator=random) * 3, torch.randn(60, 3, 4, generator=random)
    return Said(PHOTO, torch.tensor([120.0, 160.0]), crowd(60, seed), logits, deltas)


# --- from scores to detections --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("score", "threshold"), [(0.05, 0.5), (0.3, 0.3)])
def test_the_five_steps_are_those_of_the_library(score, threshold):
    one = said()
    head = RoIHead(8, 3, 16, score_threshold=score, nms_threshold=threshold)
    rows = (one.regions, torch.ones(60, dtype=torch.bool), one.logits, one.deltas, one.size)
    theirs = head.detect(*(tensor[None] for tensor in rows), rounds=BLOCK)
    ours, counts, _ = detect_with_bug(one, score, threshold)
    count = int(theirs.valid.sum())
    assert counts[:3] == [60, 180, 180]
    assert counts[3] > counts[4] == count > 5
    for mine, their in zip(ours, theirs[:3], strict=True):
        torch.testing.assert_close(mine, their[0, :count])


def test_the_planted_bugs_are_the_classic_ones():
    found = {bug: detect_with_bug(said(), 0.3, 0.5, bug)[0] for bug in BUGS}
    right = found["none"]
    assert len(found["all classes together"].boxes) < len(right.boxes)
    one, above = said(), detect_with_bug(said(), 0.3)[2][3]
    scores = one.logits.softmax(-1)[:, 1:].flatten().sort(descending=True).values[: len(above)]
    best_of_each_crowd = above[nms(above, scores, 0.5)]
    torch.testing.assert_close(found["all classes together"].boxes, best_of_each_crowd)
    assert found["scores upward"].scores[0] < right.scores[0], "the best box is struck by a worse one"
    assert len(found["NMS before decode"].boxes) != len(right.boxes)
    assert not set(found["std forgotten"].boxes[:, 0].tolist()) & set(right.boxes[:, 0].tolist()) - {0.0}


@pytest.mark.parametrize(
    "change",
    [{"step": 2}, {"step": 3}, {"step": 4}, {"score": 0.6}, {"threshold": 0.1}, {"picture": "b"}]
    + [{"bug": bug} for bug in BUGS[1:]],
)
def test_every_control_of_from_scores_changes_the_numbers(change):
    shown = FromScores({"a": said(), "b": said(1)}, NAMES)
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture


def test_the_menu_of_bugs_is_shown_only_where_a_bug_is_asked_for():
    for start, menus in (({}, 0), ({"bug": BUGS[0]}, 1)):
        columns = FromScores({"a": said()}, NAMES, **start).children[0].children
        shown = [control.description for column in columns for control in column.children]
        assert shown.count("planted bug") == menus


def test_boxes_are_clipped_in_step_3_and_named_in_step_5():
    shown = FromScores({"a": said()}, NAMES, step=2)
    assert shown.numbers["outside"] > 0
    assert shown.set(step=3).numbers["outside"] == 0
    assert not any(shown.canvas.labels)
    shown.set(step=5)
    assert any(label.split()[0] in NAMES for label in shown.canvas.labels if label)
    assert set(shown.canvas.kinds) == {"detection"}


# --- NMS by rounds --------------------------------------------------------------------------------------------------

ROW = torch.tensor([[0.0, 0, 40, 40], [4, 0, 44, 40], [60, 0, 100, 40], [2, 0, 42, 40], [62, 0, 102, 40]])
FIVE = {"boxes": ROW, "scores": torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), "labels": torch.tensor([1, 1, 1, 2, 1])}


def test_two_classes_on_one_place_do_not_strike_each_other():
    alone = nms_rounds(5, 0.5, ALONE, **FIVE)
    assert alone["kept so far"] == [0, 2, 3]
    assert nms_rounds(5, 0.5, TOGETHER, **FIVE)["kept so far"] == [0, 2]
    assert nms_rounds(5, 0.5, TOGETHER, **FIVE)["kept so far"] == nms(ROW, FIVE["scores"], 0.5).tolist()


def test_rounds_by_hand():
    start = nms_rounds(0, 0.5, ALONE, **FIVE)
    assert (start["winner"], start["wait"]) == ("none yet", [0, 1, 2, 3, 4])
    first = nms_rounds(1, 0.5, ALONE, **FIVE)
    assert (first["round"], first["winner"], first["strikes"], first["wait"]) == ("1 of 3", 0, [1], [2, 3, 4])
    assert first["IoU with the winner"][1].item() == pytest.approx(36 / 44)
    assert first["IoU with the winner"][3].isnan(), "another class is not asked"
    last = nms_rounds(3, 0.5, ALONE, **FIVE)
    assert (last["winner"], last["kept so far"], last["wait"]) == (3, [0, 2, 3], [])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_played_to_the_end_it_is_the_librarys_nms(threshold):
    boxes, scores = crowd(12, 4), torch.linspace(0.9, 0.2, 12)
    numbers = nms_rounds(12, threshold, ALONE, boxes=boxes, scores=scores, labels=torch.ones(12, dtype=torch.int64))
    assert numbers["kept so far"] == sorted(nms(boxes, scores, threshold).tolist())
    assert numbers["wait"] == []


@pytest.mark.parametrize("change", [{"round": 2}, {"round": 0}, {"threshold": 0.9}, {"groups": TOGETHER}])
def test_every_control_of_nms_rounds_changes_the_numbers(change):
    shown = NmsRounds(PHOTO, *FIVE.values(), NAMES, alt="a gradient").set(round=1)
    before, picture, kinds = repr(shown), shown.chart.value, list(shown.canvas.kinds)
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture
    assert shown.canvas.kinds != kinds


# --- matching -------------------------------------------------------------------------------------------------------

OBJECTS = torch.tensor([[20.0, 20, 60, 60], [32, 20, 72, 60]])
DETECTIONS = torch.tensor([[20.0, 20, 60, 60], [25, 20, 65, 60]])  # IoU with the objects: 1, 28/52; 35/45, 33/47
TWO = (0.9, 0.8)


def test_the_hand_case_where_voc_and_coco_differ():
    numbers = matching(torch.cat((DETECTIONS, OBJECTS)), 0.5, objects=2, a=0.9, b=0.8)
    assert (numbers["a"], numbers["b"]) == ("✓ right, IoU 1.0000", "✗ duplicate, IoU 0.7778")
    assert numbers["missed objects"] == [1]
    assert numbers["IoU"][1].tolist() == pytest.approx([35 / 45, 33 / 47])
    assert (numbers["VOC AP"], numbers["COCO AP50"]) == (0.5, pytest.approx(1.0))


MOVES = {"a": torch.tensor([[40.0, 40], [0, 0]]), "b": torch.tensor([[0, 0], [40.0, 40]])}


@pytest.mark.parametrize("change", [{"threshold": 0.8}, {"a": 0.7}, {"b": 0.95}, {"move": "a"}, {"move": "b"}])
def test_every_control_of_matching_changes_the_numbers(change):
    ignore = [[100.0, 60, 150, 110]]
    shown = Matching(PHOTO, OBJECTS, DETECTIONS, TWO, "a gradient", ignore=ignore)
    before, picture = repr(shown), shown.chart.value
    if "move" in change:
        boxes = torch.from_numpy(shown.canvas.boxes.copy())
        boxes[:2] += MOVES[change["move"]].repeat(1, 2)
        change = {"boxes": boxes}
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture


def test_a_detection_in_the_ignored_region_is_neither_right_nor_wrong():
    shown = Matching(PHOTO, OBJECTS, DETECTIONS, TWO, "a gradient", ignore=[[100.0, 60, 150, 110]], ap=True)
    boxes = torch.from_numpy(shown.canvas.boxes.copy())
    boxes[1] = torch.tensor([105.0, 65, 145, 105])
    assert shown.set(boxes=boxes).numbers["b"] == "– ignored, IoU 0.0000"
    assert "VOC AP 0.5000" in repr(shown)


# --- score threshold, AP, errors ------------------------------------------------------------------------------------


def records(count: int = 3) -> list[Record]:
    """Pictures with objects, and detections near some of them, of three classes."""
    made = []
    for seed in range(count):
        random = torch.Generator().manual_seed(seed)
        truth = crowd(4, seed)
        boxes = torch.cat((truth + 3, truth + 12, crowd(6, seed + 50)))
        labels = torch.tensor([1, 2, 3, 1] * 2 + [1, 2, 3] * 2)
        scores = torch.rand(14, generator=random)
        made.append(Record(seed, boxes, scores, labels, truth, torch.tensor([1, 2, 3, 2]), torch.zeros(0, 4)))
    return made


@pytest.mark.parametrize("change", [{"score": 0.2}, {"name": "mammal"}, {"picture": 2}])
def test_every_control_of_the_score_slider_changes_the_numbers(change):
    shown = ScoreSlider([PHOTO] * 3, records(), NAMES)
    before, labels = repr(shown), list(shown.canvas.labels)
    shown.set(**change)
    assert repr(shown) != before
    assert shown.canvas.labels != labels


@pytest.mark.parametrize("score", [0.05, 0.4, 0.9])
def test_counts_at_a_score_are_those_of_the_errors(score):
    shown = ScoreSlider([PHOTO] * 3, records(), NAMES, score=score)
    numbers = [shown.set(name=name).numbers for name in NAMES]
    errors = error_kinds(records(), 3, score_threshold=score)
    assert sum(one["right"] for one in numbers) == errors.correct
    assert sum(one["missed"] for one in numbers) == errors.missed
    here = error_kinds(records()[:1], 3, score_threshold=score)
    words = [shown.set(name=name).numbers["on this picture"].split() for name in NAMES]
    assert sum(int(one[0]) for one in words) == here.correct
    assert sum(int(one[4]) for one in words) == here.missed


def test_ap_of_five_by_hand():
    numbers = ap_of_five(3, **SCORES)
    assert numbers["ranking"] == "a✓ b✗ c✓ d✓ e✗"
    assert numbers["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5])
    assert numbers["AP area"] == pytest.approx(5 / 6)  # 1/3 at 1, 2/3 at 3/4
    assert numbers["AP 11-point"] == pytest.approx((4 + 7 * 0.75) / 11)
    without = ap_of_five(3, **SCORES | {"b": 0.0})
    assert (without["ranking"], without["AP area"]) == ("a✓ c✓ d✓ e✗", 1.0)
    assert ap_of_five(4, **dict.fromkeys(SCORES, 0.0))["AP area"] == 0.0


@pytest.mark.parametrize("change", [{letter: 0.0} for letter in SCORES] + [{"e": 0.95}, {"objects": 4}])
def test_every_control_of_ap_of_five_changes_the_numbers(change):
    shown = ApOfFive()
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture


@pytest.mark.parametrize("score", [0.05, 0.5])
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_a_score_threshold_changes_the_kind_of_none(score, iou):
    kinds = []
    for record in [record._replace(ignore=crowd(1, record.id + 9)) for record in records(6)]:
        good = record.scores >= score
        parts = {name: getattr(record, name)[good] for name in ("boxes", "scores", "labels")}
        kept = kind_of_each(record._replace(**parts), 3, iou_threshold=iou)
        assert torch.equal(kept, kind_of_each(record, 3, iou_threshold=iou)[good])
        kinds += kept.tolist()
    if score == 0.05:
        assert {KINDS[kind] for kind in kinds} >= {"correct", "localisation", "confusion", "background"}


@pytest.mark.parametrize("change", [{"score": 0.2}, {"iou": 0.7}, {"iou": 0.3}, {"picture": 1}])
def test_every_control_of_error_bars_changes_the_numbers(change):
    shown = ErrorBars({0: PHOTO, 2: PHOTO}, records(), NAMES)
    before, picture = repr(shown), shown.to_image().tobytes()
    shown.set(**change)
    assert repr(shown) != before
    assert shown.to_image().tobytes() != picture


def test_error_bars_count_as_the_library_does():
    shown = ErrorBars({0: PHOTO, 2: PHOTO}, records(), NAMES)
    expected = error_kinds(records(), 3, score_threshold=0.5)
    missed = [missed_objects(one, kind_of_each(one, 3), 0.5).sum().item() for one in records()]
    assert sum(missed) == expected.missed
    assert shown.canvas.labels[:4].count("missed") == missed[0]
    assert {name: shown.numbers[name] for name in SHOWN} == {name: getattr(expected, name) for name in SHOWN}
