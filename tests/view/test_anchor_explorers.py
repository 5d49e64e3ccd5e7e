"""The explorers of lesson 10: every control changes the numbers, and the numbers are those of the operators."""

import pytest
import torch

from rcnnlib.view.explorers.anchor_recall import AnchorRecall, anchor_recall, best_ious
from rcnnlib.view.explorers.anchors_at_cell import BUGS, AnchorsAtCell, anchors_at_cell
from rcnnlib.view.explorers.delta_frame import DeltaFrame, delta_frame

PHOTO = torch.linspace(0, 1, 3 * 240 * 320).reshape(3, 240, 320)
TRUTHS = torch.tensor([[40.0, 40, 104, 104], [200, 20, 210, 30], [10, 100, 50, 230]])
STATE = {"x": 100, "y": 50, "smallest": 64, "count": 2, "ratios": "1", "stride": 16, "threshold": 0.5, "bug": "none"}


def at_cell(**change):
    return anchors_at_cell(**STATE | change, truths=TRUTHS, size=(240, 320))


def test_anchors_of_a_cell_by_hand():
    numbers = at_cell()
    # 100 // 16 = 6, 50 // 16 = 3; centre (104, 56); sides 64 and 128
    assert (numbers["row"], numbers["column"]) == (3, 6)
    assert numbers["boxes"].tolist() == [[72, 24, 136, 88], [40, -8, 168, 120]]
    assert (numbers["cells"], numbers["anchors"], numbers["anchors a cell"]) == ("20 x 15", 600, 2)
    # side 64: centres from 40 to 280 and from 40 to 200: 16 x 11; side 128: from 72 to 248 and from 72 to 168: 12 x 7
    assert numbers["inside"] == 16 * 11 + 12 * 7
    # the first object is 64 x 64 with centre (72, 72), that of a cell; the second is too small for all anchors
    assert numbers["best IoU"][0] == 1
    assert numbers["objects reached"] == "1 of 3"


def test_the_planted_bugs_move_the_anchors():
    assert at_cell(bug=BUGS[1])["boxes"][0].tolist() == [64, 16, 128, 80]
    assert at_cell(bug=BUGS[2])["boxes"][0].tolist() == [24, 72, 88, 136]


CELL_CHANGES = [
    {"x": 200}, {"y": 150}, {"smallest": 48}, {"count": 3}, {"ratios": "1/2, 1, 2"}, {"stride": 32}, {"threshold": 0.3},
    {"bug": BUGS[1]}, {"bug": BUGS[2]},
]  # fmt: skip


@pytest.mark.parametrize("change", CELL_CHANGES)
def test_every_control_of_the_cell_changes_the_numbers(change):
    shown = AnchorsAtCell(PHOTO, TRUTHS, alt="a gradient").set(**STATE)
    before, picture, boxes = repr(shown), shown.chart.value, shown.canvas.boxes.copy()
    shown.set(**change)
    assert repr(shown) != before or shown.chart.value != picture
    if "threshold" not in change:
        assert shown.canvas.boxes.shape != boxes.shape or (shown.canvas.boxes != boxes).any()


def test_a_click_goes_to_its_cell():
    shown = AnchorsAtCell(PHOTO, TRUTHS, alt="a gradient")
    shown.canvas.clicked = [33.4, 238.9]
    assert (shown.controls["x"].value, shown.controls["y"].value) == (33, 239)
    assert (shown.numbers["row"], shown.numbers["column"]) == (14, 2)


SETS = {
    "large": [(TRUTHS[:1], (240, 320)), (TRUTHS[2:], (240, 320))],
    "small": [(TRUTHS[1:2], (240, 320)), (torch.zeros(0, 4), (320, 320))],
}
RECALL = {"smallest": 64, "factor": 2.0, "count": 1, "ratios": "1", "data": "large", "threshold": 0.5}


def test_recall_by_hand():
    numbers = anchor_recall(**RECALL, sets=SETS)
    # the square is met exactly; 40 x 130 pixels share at most 40 x 64 with 64 x 64: 2560 / (5200 + 4096 - 2560) = 0.38
    assert best_ious(SETS["large"], (64,), (1.0,)).tolist() == pytest.approx([1, 2560 / 6736])
    assert (numbers["recall"], numbers["missed"]) == (0.5, "1 of 2")


@pytest.mark.parametrize(
    "change",
    [
        {"smallest": 40},
        {"factor": 1.5, "count": 2},
        {"count": 2},
        {"ratios": "1/2, 1, 2"},
        {"data": "small"},
        {"threshold": 0.3},
    ],
)
def test_every_control_of_recall_changes_the_numbers(change):
    shown = AnchorRecall(SETS).set(**RECALL)
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture


def test_factor_alone_changes_the_scales():
    two = RECALL | {"count": 2}
    assert anchor_recall(**two, sets=SETS)["scales"] == [64, 128]
    assert anchor_recall(**two | {"factor": 1.5}, sets=SETS)["scales"] == [64, 96]


def test_deltas_by_hand_and_every_control():
    # 16 pixels of a side of 64: a quarter; twice as wide: log 2
    numbers = delta_frame(64, 16, 2.0)
    assert (numbers["t_x"], numbers["t_w"]) == (pytest.approx(0.25), pytest.approx(0.6931, abs=1e-4))
    shown = DeltaFrame()
    for change in ({"side": 128}, {"shift": 40}, {"wider": 1.5}):
        before, picture = repr(shown), shown.chart.value
        shown.set(**change)
        assert repr(shown) != before
        assert shown.chart.value != picture
