"""The explorers of lesson 07: each control changes the numbers; the counts are those of a table made by hand."""

import pytest
import torch

from rcnnlib.datasets.transforms import make_example
from rcnnlib.view.explorers.hard_negatives import HardNegatives, hard_negatives
from rcnnlib.view.explorers.mini_batch import BUGS, MiniBatch, mini_batch
from rcnnlib.view.explorers.pictures_and_rois import (
    Cost,
    PicturesAndRois,
    likeness_of,
    mosaic,
    pictures_and_rois,
    shares,
    thumbnails,
)
from rcnnlib.view.explorers.proposal_kinds import ProposalKinds, best_iou, proposal_kinds

PHOTO = torch.linspace(0, 1, 3 * 120 * 160).reshape(3, 120, 160)
# One object of 100 x 100. Proposals of h rows have IoU h / 100: 20 positives, 30 of background, 50 ignored.
HEIGHTS = torch.tensor([60.0] * 10 + [80.0] * 10 + [20.0] * 15 + [40.0] * 15 + [4.0] * 50)


def picture(heights=HEIGHTS, objects=((0, 0, 100, 100),), number=7):
    zero = torch.zeros(len(heights))
    boxes = torch.stack((zero, zero, zero + 100, heights), dim=1)
    example = make_example(PHOTO, list(objects), [1] * len(objects), [], id=number)
    return example._replace(proposals=boxes)


PICTURES = {"full": picture(), "starved": picture(HEIGHTS[8:40]), "empty": picture(objects=(), number=8)}
STATE = {"positive": 0.5, "background": 0.1, "fraction": 0.25, "rows": 40, "epoch": 0, "truth": False, "bug": BUGS[0]}


def drawn(name="full", **changes):
    return mini_batch(name, **STATE | changes, pictures=PICTURES)


def test_kinds_are_counted():
    numbers = proposal_kinds("full", 0.5, 0.1, "positive", ious={"full": best_iou(PICTURES["full"])})
    assert (numbers["positive"], numbers["background"], numbers["ignored"]) == (20, 30, 50)
    assert numbers["share of positives"] == pytest.approx(0.2)
    assert numbers["mean IoU"] == pytest.approx(0.7)
    assert numbers["histogram"].sum() == 100
    assert best_iou(PICTURES["empty"]).tolist() == [0.0] * 100


KINDS = [{"positive": 0.7}, {"background": 0.3}, {"show": "background"}, {"show": "ignored"}, {"picture": "starved"}]


@pytest.mark.parametrize("change", KINDS)
def test_every_control_of_proposal_kinds_changes_the_numbers(change):
    shown = ProposalKinds(PICTURES)
    before, pixels = repr(shown), (bytes(shown.chart.value), shown.canvas.boxes.tobytes())
    shown.set(**change)
    assert repr(shown) != before
    assert (bytes(shown.chart.value), shown.canvas.boxes.tobytes()) != pixels


def test_a_batch_is_capped_and_filled():
    numbers = drawn()
    assert numbers["before"] == {"positive": 20, "background": 30, "ignored": 50}
    assert numbers["after"] == {"positive": 10, "background": 30, "empty": 0}
    # 12 positives, 20 of background: 10 and 20, ten rows stay empty
    assert drawn("starved")["after"] == {"positive": 10, "background": 20, "empty": 10}
    assert drawn("starved")["positive share"] == pytest.approx(1 / 3)
    assert drawn("empty")["after"] == {"positive": 0, "background": 0, "empty": 40}
    assert drawn("empty", background=0.0)["after"] == {"positive": 0, "background": 40, "empty": 0}


def test_the_object_itself_is_one_more_positive():
    assert drawn(truth=True)["before"]["positive"] == 21
    assert drawn("empty", truth=True)["before"]["positive"] == 0


def test_the_planted_bugs_are_the_classic_ones():
    assert drawn(bug=BUGS[2])["after"] == {"positive": 20, "background": 20, "empty": 0}
    wrong = drawn(bug=BUGS[1])
    assert wrong["after"] == {"positive": 10, "background": 30, "empty": 0}
    assert wrong["wrong labels"] == wrong["kinds"].count("ignored") > 0
    assert drawn()["wrong labels"] == 0


BATCH = [
    {"picture": "starved"},
    {"positive": 0.7},
    {"background": 0.3},
    {"fraction": 0.5},
    {"rows": 16},
    {"truth": True},
    {"bug": BUGS[1]},
    {"bug": BUGS[2]},
]


@pytest.mark.parametrize("change", BATCH)
def test_every_control_of_mini_batch_changes_the_numbers(change):
    shown = MiniBatch(PICTURES)
    before, pixels = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != pixels


def test_another_epoch_draws_others():
    assert drawn(epoch=0)["index"].tolist() != drawn(epoch=1)["index"].tolist()
    assert torch.equal(drawn(epoch=1)["index"], drawn(epoch=1)["index"])
    shown = MiniBatch(PICTURES)
    before = repr(shown)
    assert repr(shown.set(epoch=3)) != before


def test_hard_negatives_by_hand():
    iou, loss = torch.tensor([0.0, 0.05, 0.2, 0.4]), torch.tensor([0.1, 0.1, 0.2, 0.6])
    numbers = hard_negatives(0.1, iou=iou, loss=loss)
    # two of four boxes, 0.8 of a loss of 1.0; means 0.4 and 0.1
    assert list(numbers.values()) == pytest.approx([0.5, 0.8, 0.4, 0.1])
    assert hard_negatives(0.0, iou=iou, loss=loss)["of those left out"] == 0
    shown = HardNegatives(iou, loss)
    before = repr(shown)
    assert repr(shown.set(bound=0.3)) != before


COST = Cost(picture_seconds=0.1, roi_seconds=0.001, picture_mb=32, roi_mb=0.5)


def test_a_step_costs_passes_of_the_trunk_and_of_the_head():
    two, many = (pictures_and_rois(n, 128, 0.0, cost=COST) for n in (2, 128))
    assert (two["seconds"], two["MB"]) == (pytest.approx(0.328), pytest.approx(128))  # 2 x 0.1 + 128 x 0.001
    assert many["trunk passes"] / two["trunk passes"] == 64
    assert two["worth"] == 128
    # 64 RoIs that are all the same are worth one
    assert pictures_and_rois(2, 128, 1.0, cost=COST)["worth"] == pytest.approx(2)
    assert pictures_and_rois(128, 16, 0.5, cost=COST)["trunk passes"] == 16


def test_likeness_of_copies_is_one_and_of_strangers_nothing():
    random = torch.Generator().manual_seed(0)
    residuals, features = torch.randn(60, 1, 3, generator=random), torch.randn(60, 1, 8, generator=random)
    assert likeness_of(residuals.expand(-1, 5, -1), features.expand(-1, 5, -1)) == pytest.approx(1, abs=1e-4)
    strangers = torch.randn(60, 5, 3, generator=random), torch.randn(60, 5, 8, generator=random)
    assert abs(likeness_of(*strangers)) < 0.03


def test_likeness_is_that_of_the_textbook():
    random = torch.Generator().manual_seed(1)
    features = torch.randn(6, 4, 2, generator=random) + torch.randn(6, 1, 2, generator=random)
    residuals = torch.ones(6, 4, 1)
    flat = features.double()
    means = flat.mean(1)
    between = 4 * ((means - flat.mean((0, 1))) ** 2).sum() / 5
    within = ((flat - means[:, None]) ** 2).sum() / 18
    assert likeness_of(residuals, features) == pytest.approx(((between - within) / (between + 3 * within)).item())


def test_thumbnails_and_shares():
    assert shares(3, 16) == [6, 5, 5]
    assert shares(32, 16) == [1] * 16
    tiles = thumbnails(PICTURES["full"], HEIGHTS.new_tensor([[0, 0, 20, 20], [40, 40, 90, 90]]), side=8)
    assert tiles.shape == (2, 8, 8, 3)
    assert mosaic(tiles).shape == (8, 128, 3)
    assert (mosaic(tiles)[:, 8:16] == tiles[1]).all()
    assert thumbnails(PICTURES["full"], torch.zeros(0, 4)).shape[0] == 0


def several():
    boxes = PICTURES["full"].proposals.repeat(2, 1)
    return PicturesAndRois([PICTURES["full"]] * 8, [boxes] * 8, COST, 0.1)


@pytest.mark.parametrize("change", [{"pictures": 8}, {"rois": 64}, {"likeness": 0.5}])
def test_every_control_of_pictures_and_rois_changes_the_numbers(change):
    shown = several()
    before, pixels = repr(shown), shown.chart.value
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != pixels


def test_the_thumbnails_follow_the_number_of_rois():
    shown = several()
    assert shown.canvas.pixels.shape == (8 * 40, 16 * 40, 3)
    shown.set(rois=64)
    assert shown.canvas.pixels.shape == (4 * 40, 16 * 40, 3)
