"""The explorers of lesson 05: their numbers by hand, each control changes them, and the pictures follow."""

import time

import pytest
import torch

from rcnnlib.checks.roi_pooling import CODE, DRAWING, FORGOTTEN, RULES, bin_corners, one_axis
from rcnnlib.ops.roi_ops import roi_align, roi_pool
from rcnnlib.view.explorers.gradient_road import WHICH, GradientRoad
from rcnnlib.view.explorers.paper_bins import PaperBins, paper_bins
from rcnnlib.view.explorers.pooled_roi import BUGS, SHOWS, PooledRoi, pool_region
from rcnnlib.view.explorers.small_rois import SmallRois, collect_edges, small_rois
from rcnnlib.view.explorers.subcell_shift import SubcellShift

PHOTO = torch.linspace(0, 1, 3 * 240 * 320).reshape(3, 240, 320)
STAIRS = torch.arange(64.0).view(8, 8)
RANDOM = torch.Generator().manual_seed(5)
FEATURES = torch.randn(6, 15, 20, generator=RANDOM).relu() * 100
BOX = (40, 50, 250, 180)  # 2.5 to 15.625 and 3.125 to 11.25 cells: columns 3 to 16, rows 3 to 11


def changes(shown, change) -> None:
    before, picture = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != picture


# --- paper bins -----------------------------------------------------------------------------------------------------


def test_the_students_example():
    numbers = paper_bins(2, 7, 5, CODE, values=STAIRS, corner=(0, 3))
    assert (numbers["map"], numbers["RoI"], numbers["target"]) == ("8 x 8", "7 x 5", "2 x 2")
    assert (numbers["bins wide"], numbers["bins high"]) == ([4, 4], [3, 3])
    # the last cell of each bin is its largest: row 5 or 7, column 3 or 6
    assert numbers["pooled"] == [[43, 46], [59, 62]]
    assert numbers["cells in several bins"] == 5 + 7 - 1  # column 3 of 5 rows, row 5 of 7 columns
    drawn = paper_bins(2, 7, 5, DRAWING, values=STAIRS, corner=(0, 3))
    assert (drawn["bins wide"], drawn["bins high"], drawn["cells in several bins"]) == ([3, 4], [2, 3], 0)
    assert paper_bins(7, 5, 5, DRAWING, values=STAIRS, corner=(0, 3))["empty bins"] == 49 - 5 * 5


@pytest.mark.parametrize(
    "change", [{"target": 3}, {"width": 6}, {"height": 4}, *({"rule": rule} for rule in RULES[1:]), {"target": 8}]
)
def test_every_control_of_paper_bins_changes_the_numbers(change):
    changes(PaperBins(STAIRS, corner=(0, 3), width=7, height=5), change)


def test_overlapping_bins_are_drawn_apart():
    corners = bin_corners(one_axis(0, 6, 2, 8), one_axis(0, 6, 2, 8))
    assert corners.shape == (4, 4)
    assert corners[0].tolist() == pytest.approx([0.07, 0.07, 3.93, 3.93])
    assert corners[1].tolist() == pytest.approx([3.22, 0.07, 6.78, 3.93])


# --- pooled RoI -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", range(1, 9))
def test_the_grid_is_the_librarys(target):
    numbers = pool_region(target, 2, BOX[0], BOX[1], 210, 130, SHOWS[2], BUGS[0], features=FEATURES, size=(240, 320))
    theirs = roi_pool(FEATURES[2:3], torch.tensor([BOX]).float(), target, spatial_scale=1 / 16)[0, 0]
    assert torch.equal(numbers["pooled"], theirs)
    assert (numbers["cells"], numbers["RoI"]) == ((3, 3, 16, 11), "14 x 9 cells")


def pooled_roi() -> PooledRoi:
    return PooledRoi(PHOTO, FEATURES, box=BOX, channel=2, alt="a gradient")


@pytest.mark.parametrize(
    "change",
    [
        {"target": 6},
        {"channel": 3},
        {"left": 70},
        {"top": 80},
        {"width": 100},
        {"height": 60},
        {"show": SHOWS[1]},
        {"show": SHOWS[2]},
        {"bug": FORGOTTEN},
        {"bug": DRAWING},
    ],
)
def test_every_control_of_pooled_roi_changes_the_numbers(change):
    changes(pooled_roi().set(show=SHOWS[2] if "channel" in change else SHOWS[0]), change)


def test_a_drag_moves_the_sliders_and_the_box_stays_on_the_photo():
    shown = pooled_roi()
    shown.canvas.boxes = [[60.2, 70.4, 160, 150]]  # what the browser does
    assert [shown.state[name] for name in ("left", "top", "width", "height")] == [60, 70, 100, 80]
    shown.set(left=300)
    assert shown.canvas.boxes[0].tolist() == [300, 70, 320, 150]


def test_floor_floor_leaves_bins_empty_where_the_region_is_small():
    state = {"show": SHOWS[0], "features": FEATURES, "size": (240, 320)}
    assert pool_region(7, 0, 32, 32, 48, 48, bug=BUGS[0], **state)["empty bins"] == 0
    assert pool_region(7, 0, 32, 32, 48, 48, bug=DRAWING, **state)["empty bins"] == 49 - 16  # 4 x 4 cells


# --- gradient road --------------------------------------------------------------------------------------------------


def road() -> GradientRoad:
    return GradientRoad(FEATURES, BOX, channel=2)


def test_one_winner_a_channel():
    numbers = road().set(zeros=True).numbers
    assert numbers["arrives"] == len(FEATURES)
    x, y = numbers["at"]
    assert FEATURES[2, y, x].item() == pytest.approx(numbers["maximum"])
    assert numbers["image"][y, x] >= 1


def test_all_bins_and_those_that_are_zero():
    flat = FEATURES.clone()
    flat[0] = 0
    shown = GradientRoad(flat, BOX, channel=2).set(which=WHICH[1], zeros=True)
    assert shown.numbers["arrives"] == 49 * len(FEATURES)
    pooled = roi_pool(flat, torch.tensor([BOX]).float(), 7, spatial_scale=1 / 16)
    assert shown.set(zeros=False).numbers["arrives"] == int((pooled > 0).sum()) < 49 * len(FEATURES)


def test_a_flat_bin_is_a_tie():
    flat = FEATURES.clone()
    flat[2] = 0
    shown = GradientRoad(flat, BOX, channel=2)
    left, top, right, bottom = shown.numbers["bin"]
    assert shown.numbers["cells that hold it"] == (right - left) * (bottom - top)
    assert "a tie of" in repr(shown)


@pytest.mark.parametrize(
    "change", [{"row": 2}, {"column": 6}, {"channel": 4}, {"which": WHICH[1]}, {"zeros": True}], ids=str
)
def test_every_control_of_gradient_road_changes_the_numbers(change):
    flat = FEATURES.clone()
    flat[0] = 0
    changes(GradientRoad(flat, BOX, channel=2), change)


# --- small RoIs -----------------------------------------------------------------------------------------------------

# 32 x 112 pixels from 0: cells 0..2 and 0..7, so 3 and 8; 152 / 16 = 9.5 is rounded to 10: 11 and 11
BOXES = torch.tensor([[0.0, 0, 32, 112], [0, 0, 152, 152]])


def test_small_regions_by_hand():
    across, down = collect_edges(BOXES, (240, 320))
    numbers = small_rois(7, 1.0, across=across, down=down)
    assert numbers["smaller than the target"] == 0.5
    # 3 cells into 7: [0,1) [0,1) [0,2) [1,2) [1,3) [2,3) [2,3): bins 0, 1 and 5, 6 are copies, 5 are different
    assert numbers["bins with a copy"] == pytest.approx(4 / 7 / 2)
    assert numbers["different bins"] == pytest.approx((5 * 7 + 49) / 2)
    assert numbers["histogram"][2] == numbers["histogram"][10] == 1
    assert small_rois(7, 4.0, across=across, down=down)["smaller than the target"] == 0


@pytest.mark.parametrize("change", [{"target": 3}, {"target": 8}, {"enlarge": 2.0}])
def test_every_control_of_small_rois_changes_the_numbers(change):
    changes(SmallRois(BOXES, (240, 320)), change)


# --- sub-cell shift -------------------------------------------------------------------------------------------------


def shift() -> SubcellShift:
    return SubcellShift(FEATURES[:1], (90, 60), size=112)


def test_values_are_those_of_the_operators_and_weights_sum_to_one():
    numbers = shift().set(shift=5, row=2, column=3).numbers
    box = torch.tensor([[95.0, 60, 207, 172]])
    for name, operator in (("RoI pooling", roi_pool), ("RoI align", roi_align)):
        right = operator(FEATURES[:1], box, 7, spatial_scale=1 / 16)[0, 0, 1, 2].item()
        assert numbers[name] == pytest.approx(right)
    assert numbers["sum of weights"] == pytest.approx(1)
    assert numbers["weighted cells"] <= 16
    assert (numbers["weights"] * FEATURES[0]).sum().item() == pytest.approx(numbers["RoI align"], rel=1e-4)


def test_half_a_cell_makes_rounding_jump_and_nothing_else():
    shown = shift()
    seen = {at: (shown.set(shift=at).numbers["rounded"], shown.numbers["RoI pooling"]) for at in range(-8, 9)}
    # 90 / 16 = 5.625 and 202 / 16 = 12.625: rounded up until both shrink by 0.125, which is 2 pixels
    assert seen[-2][0] == [6, 13]
    assert seen[-3][0] == [5, 12]
    assert len({value for _, value in seen.values()}) <= 3


@pytest.mark.parametrize("change", [{"shift": 3}, {"size": 160}, {"row": 1}, {"column": 7}])
def test_every_control_of_subcell_shift_changes_the_numbers(change):
    changes(shift(), change)


# --- all ------------------------------------------------------------------------------------------------------------


def test_a_move_is_quick():
    boxes = torch.rand(30000, 2, 2, generator=RANDOM) * 200
    boxes = torch.cat((boxes.amin(1), boxes.amax(1)), dim=1).round()
    moves = [
        (PaperBins(STAIRS, corner=(0, 3), width=7, height=5), {"target": 8}),
        (pooled_roi(), {"target": 8}),
        (road(), {"row": 2}),
        (SmallRois(boxes, (240, 320)), {"target": 5}),
        (shift(), {"shift": 3}),
    ]
    for shown, move in moves:
        start = time.perf_counter()
        shown.set(**move)
        print(type(shown).__name__, f"{1000 * (time.perf_counter() - start):.0f} ms")
