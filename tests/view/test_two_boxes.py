"""The explorers of lesson 01: each control changes the numbers, and the pictures follow the boxes."""

import pytest
import torch

from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.explorers.box_formats import BoxFormats, box_formats
from rcnnlib.view.explorers.iou_table import IouTable, iou_table
from rcnnlib.view.explorers.two_boxes import BUGS, TwoBoxes, two_boxes

PHOTO = torch.linspace(0, 1, 3 * 240 * 320).reshape(3, 240, 320)
PAIR = torch.tensor([[40.0, 40, 140, 140], [60, 40, 160, 140]])  # shared 80 x 100, union 12000: IoU 2/3


def test_two_boxes_says_the_parts_of_iou():
    numbers = two_boxes(PAIR, 0.7, 0.3, "none")
    assert numbers["IoU"] == pytest.approx(8000 / 12000)
    assert (numbers["intersection"], numbers["union"], numbers["areas"]) == (8000, 12000, [10000, 10000])


@pytest.mark.parametrize(
    ("positive", "background", "label"),
    [(0.5, 0.3, "positive"), (0.7, 0.3, "ignored"), (0.7, 0.7, "background"), (0.5, 0.9, "positive")],
)
def test_two_thresholds_give_three_labels(positive, background, label):
    assert two_boxes(PAIR, positive, background, "none")["label"] == label


def test_equality_counts_as_positive_and_not_as_background():
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    assert two_boxes(half, 0.5, 0.3, "none")["label"] == "positive"
    assert two_boxes(half, 0.7, 0.5, "none")["label"] == "ignored"


def test_the_planted_bugs_are_the_classic_ones():
    # (100 - 20 + 1) x 101 shared, twice 101 x 101 minus that covered
    assert two_boxes(PAIR, 0.7, 0.3, "+1")["IoU"] == pytest.approx(8181 / (2 * 10201 - 8181))
    # 60, 40, 100, 100 as corners: 40 x 60 pixels, all of them inside the ground truth
    assert two_boxes(PAIR, 0.7, 0.3, BUGS[1])["IoU"] == pytest.approx(2400 / 10000)


def explorer() -> TwoBoxes:
    return TwoBoxes(PHOTO, PAIR, alt="a gradient")


CHANGES = [
    {"positive": 0.6},
    {"background": 0.69},
    {"bug": "+1"},
    {"bug": BUGS[1]},
    {"boxes": PAIR + torch.tensor([[0.0], [9]])},
    {"boxes": PAIR + torch.tensor([[9.0], [0]])},
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_two_boxes_changes_the_numbers(change):
    shown = explorer()
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture


@pytest.mark.parametrize("name", ["left", "top", "width", "height"])
def test_every_slider_moves_the_detection_and_nothing_else(name):
    shown = explorer()
    before = shown.numbers["IoU"]
    shown.places[name].value += 7
    assert shown.numbers["IoU"] != before
    assert shown.canvas.boxes[0].tolist() == PAIR[0].tolist()
    assert "IoU" in shown.canvas.labels[1]


def test_the_sliders_follow_a_drag_and_leave_its_fractions_alone():
    shown = explorer()
    dragged = [[40, 40, 140, 140], [70.25, 50.5, 130.25, 100.5]]
    shown.canvas.boxes = dragged  # what the browser does
    assert [place.value for place in shown.places.values()] == [70, 50, 60, 50]
    assert shown.canvas.boxes.tolist() == dragged


def test_the_detection_stays_on_the_photo():
    shown = explorer()
    shown.places["width"].value = 320
    assert shown.canvas.boxes[1].tolist() == [60, 40, 320, 140]
    assert shown.places["width"].value == 260


def test_boxes_apart_have_no_dark_area():
    shown = explorer().set(boxes=[[0, 0, 50, 50], [100, 100, 150, 150]])
    assert shown.numbers["IoU"] == 0
    assert (shown.areas[2].get_width(), shown.areas[2].get_height()) == (0, 0)


def test_box_formats_reads_the_numbers_three_ways():
    numbers = (60.0, 70.0, 40.0, 20.0)
    assert not box_formats(*numbers, "xyxy")["is a box"]
    assert box_formats(*numbers, "xywh")["corners"].tolist() == [60, 70, 100, 90]
    assert box_formats(*numbers, "cxcywh")["corners"].tolist() == [40, 60, 80, 80]


@pytest.mark.parametrize(
    "change", [{"first": 61}, {"second": 71}, {"third": 90}, {"fourth": 99}, {"read_as": "xywh"}, {"read_as": "cxcywh"}]
)
def test_every_control_of_box_formats_changes_the_numbers(change):
    shown = BoxFormats(PHOTO, (60, 70, 140, 120), alt="a gradient")
    before = repr(shown)
    shown.set(**change)
    assert repr(shown) != before
    assert shown.canvas.boxes[0].tolist() == shown.numbers["corners"].tolist()


TRUTHS = torch.tensor([[40.0, 40, 140, 140], [180, 40, 280, 140]])
PROPOSALS = torch.tensor([[60.0, 40, 160, 140], [200, 100, 300, 200]])


def test_iou_table_says_what_each_proposal_stands_for():
    numbers = iou_table(torch.cat((PROPOSALS, TRUTHS)), 0.5, count=2)
    assert numbers["proposals stand for"].tolist() == [0, -1]
    assert torch.equal(numbers["table"], box_iou(PROPOSALS, TRUTHS))
    assert torch.equal(numbers["best IoU of each ground truth"], numbers["table"].amax(0))


@pytest.mark.parametrize("change", [{"threshold": 0.7}, {"threshold": 0.15}, {"move": 0}, {"move": 1}])
def test_every_control_of_iou_table_changes_the_numbers(change):
    shown = IouTable(PHOTO, TRUTHS, PROPOSALS, alt="a gradient")
    before, picture = repr(shown), shown.chart.value
    if "move" in change:
        boxes = torch.from_numpy(shown.canvas.boxes.copy())
        boxes[change["move"], :2] += 10
        change = {"boxes": boxes}
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture
