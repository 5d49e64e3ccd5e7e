"""The explorers of lesson 12: labels, batch and loss agree with hand-made numbers; every control changes something."""

import pytest
import torch

from rcnnlib.datasets.transforms import make_example
from rcnnlib.models.backbone import backbone
from rcnnlib.models.rpn import RPN
from rcnnlib.ops.anchors import cell_anchors
from rcnnlib.view.explorers.anchor_batch import AnchorBatch
from rcnnlib.view.explorers.anchor_labels import BORDERS, BUGS, OUTSIDE, AnchorLabels, anchor_labels
from rcnnlib.view.explorers.rpn_loss_terms import BUGS as LOSS_BUGS
from rcnnlib.view.explorers.rpn_loss_terms import RPNLossTerms, rpn_loss_terms
from rcnnlib.view.explorers.two_gradients import CONVENTIONS, TwoGradients, measure

# --- labels ----------------------------------------------------------------------------------------------------------

SQUARE = {"objects": 1, "base": cell_anchors((32,), (1.0,)), "size": (64, 96)}


def labels(box, positive=0.7, negative=0.3, border=BORDERS[0], bug=BUGS[0]):
    return anchor_labels(torch.tensor([box]), positive, negative, border, bug, **SQUARE)


def test_an_object_equal_to_an_anchor():
    # 4 x 6 cells of 16 pixels, a square of 32: its centre must lie 16 to 48 (rows), 16 to 80 (columns): 2 x 4 inside
    numbers = labels([8.0, 8.0, 40.0, 40.0])
    assert numbers["positive"] == 1
    assert numbers["cross the border"] == 24 - 8
    # half an anchor off to the right or below: IoU (16 x 32) / (32 x 48) = 1/3, ignored; diagonally 1/7, negative
    assert numbers["ignored"] == 2
    assert numbers["negative"] == 8 - 1 - 2
    assert numbers["best IoU"].tolist() == [1.0]
    assert (numbers["maps"] == OUTSIDE).sum() == 16


def test_a_tie_gives_two_positives_and_a_forgotten_rule_none():
    numbers = labels([16.0, 8.0, 48.0, 40.0])  # 8 pixels to the right: IoU (24 x 32) / (40 x 32) = 0.6 with two anchors
    assert numbers["positive"] == numbers["only as best"] == 2
    torch.testing.assert_close(numbers["best IoU"], torch.tensor([0.6]))
    forgotten = labels([16.0, 8.0, 48.0, 40.0], bug=BUGS[2])
    assert (forgotten["positive"], forgotten["objects without a positive"]) == (0, 1)
    assert forgotten["ignored"] == numbers["ignored"] + 2


def test_an_object_that_no_anchor_touches_has_no_positive():
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [200.0, 200.0, 220.0, 220.0]])
    numbers = anchor_labels(boxes, 0.7, 0.3, BORDERS[0], BUGS[0], **SQUARE | {"objects": 2})
    assert (numbers["positive"], numbers["objects without a positive"]) == (1, 1)


def test_ignored_taken_for_negatives():
    right, wrong = labels([8.0, 8.0, 40.0, 40.0]), labels([8.0, 8.0, 40.0, 40.0], bug=BUGS[1])
    assert wrong["ignored"] == 0
    assert wrong["negative"] == right["negative"] + right["ignored"]


def test_those_that_cross_the_border_may_take_part():
    numbers = labels([-8.0, -8.0, 24.0, 24.0], border=BORDERS[1])
    assert numbers["cross the border"] == 0
    assert numbers["positive"] == 1
    assert labels([-8.0, -8.0, 24.0, 24.0])["best IoU"].item() < 0.3


@pytest.fixture(scope="module")
def shown():
    return AnchorLabels(torch.rand(3, 96, 128), [[10.0, 10, 70, 70], [60, 30, 110, 90]], "noise", scales=(24, 48, 64))


CHANGES = [{"positive": 0.9}, {"negative": 0.1}, {"border": BORDERS[1]}, {"bug": BUGS[1]}, {"bug": BUGS[2]}]


@pytest.mark.parametrize("change", [*CHANGES, {"boxes": [[12.0, 10, 70, 70], [60, 30, 110, 90]]}])
def test_every_control_of_the_labels_changes_line_and_chart(shown, change):
    shown.set(positive=0.8, negative=0.3, border=BORDERS[0], bug=BUGS[0], boxes=[[10.0, 10, 70, 70], [60, 30, 110, 90]])
    before = repr(shown)
    shown.set(**change)
    assert repr(shown) != before
    assert shown.canvas.editable == [0, 1]
    assert len(shown.canvas.boxes) == 2 + shown.numbers["positive"]


# --- batch -----------------------------------------------------------------------------------------------------------


def small_rpn():
    torch.manual_seed(0)
    trunk = backbone("tiny").eval()
    rpn = RPN(trunk.out_channels, trunk.stride, scales=(16, 32, 48), ratios=(0.5, 1.0, 2.0), channels=8)
    torch.nn.init.normal_(rpn.head.conv.weight)
    return rpn, trunk


def picture(number, *boxes):
    return make_example(torch.rand(3, 96, 128), list(boxes), [1] * len(boxes), [], id=number)


PICTURES = {"A": picture(0, [10.0, 10, 60, 60]), "B": picture(1, [40.0, 20, 90, 80], [5, 5, 21, 21])}


@pytest.fixture(scope="module")
def batch():
    return AnchorBatch(small_rpn()[0], PICTURES)


def test_negatives_fill_what_positives_leave(batch):
    numbers = batch.set(size=64, fraction=0.5, epoch=0, picture="A").numbers
    assert numbers["asked for"] == 32
    assert numbers["drawn"] == min(32, numbers["positives in all"])
    assert numbers["drawn"] + numbers["negatives"] == 64
    assert batch.set(fraction=0.0).numbers["drawn"] == 0


@pytest.mark.parametrize("change", [{"size": 128}, {"fraction": 0.0}, {"epoch": 3}, {"picture": "B"}])
def test_every_control_of_the_batch_changes_line_and_pictures(batch, change):
    batch.set(size=64, fraction=0.5, epoch=0, picture="A")
    before, chart, boxes = repr(batch), batch.chart.value, batch.canvas.boxes
    batch.set(**change)
    assert repr(batch) != before
    assert batch.chart.value != chart or "epoch" in change or "picture" in change
    assert len(batch.canvas.boxes) != len(boxes) or (batch.canvas.boxes != boxes).any()


# --- loss ------------------------------------------------------------------------------------------------------------


def test_both_terms_by_hand():
    numbers = rpn_loss_terms(1, 0.0, 2.0, 10.0, LOSS_BUGS[0])
    assert numbers["L_cls"] == pytest.approx(0.6931, abs=1e-4)
    assert numbers["p* L_reg"] == pytest.approx(1.5)
    assert numbers["lambda p* L_reg / N_reg"] == pytest.approx(10 * 1.5 / 2400)
    assert rpn_loss_terms(0, 0.0, 2.0, 10.0, LOSS_BUGS[0])["p* L_reg"] == 0
    assert rpn_loss_terms(0, 0.0, 2.0, 10.0, LOSS_BUGS[1])["p* L_reg"] == pytest.approx(1.5)
    assert rpn_loss_terms(-1, 0.0, 2.0, 10.0, LOSS_BUGS[0])["L_cls"] == 0
    assert rpn_loss_terms(-1, 0.0, 2.0, 10.0, LOSS_BUGS[2])["L_cls"] == pytest.approx(0.6931, abs=1e-4)


CHANGES = [{"star": 0}, {"star": -1}, {"difference": 1.0}, {"error": 1.0}, {"weight": 20.0}]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_the_terms_changes_line(change):
    terms = RPNLossTerms()
    before, chart = repr(terms), terms.chart.value
    terms.set(**change)
    assert repr(terms) != before
    assert terms.chart.value != chart or "weight" in change


@pytest.mark.parametrize(("star", "bug"), [(0, LOSS_BUGS[1]), (-1, LOSS_BUGS[2])])
def test_the_planted_bugs_change_line_and_chart(star, bug):
    terms = RPNLossTerms(star=star)
    before, chart = repr(terms), terms.chart.value
    terms.set(bug=bug)
    assert repr(terms) != before
    assert terms.chart.value != chart


@pytest.fixture(scope="module")
def gradients():
    rpn, trunk = small_rpn()
    other, _ = small_rpn()
    torch.nn.init.normal_(other.head.scores.weight)
    return TwoGradients({0: rpn, 10: other}, trunk, PICTURES)


def test_the_three_conventions_differ_by_their_divisors(gradients):
    one, two, three = gradients.set(weight=10.0, moment=0, picture="A").numbers["ratios"]
    assert two / one == pytest.approx(2400 / 300)
    assert three / one == pytest.approx(2400 / 256)
    assert len(CONVENTIONS) == 3


def test_the_norms_are_those_of_the_loss():
    rpn, trunk = small_rpn()
    pull = measure(rpn, trunk, PICTURES["A"])
    rpn.box_weight = 3.0
    again = measure(rpn, trunk, PICTURES["A"])
    assert again.boxes == pytest.approx(pull.boxes, rel=1e-4)
    assert pull.boxes > 0
    assert pull.classes > 0


@pytest.mark.parametrize("change", [{"weight": 1.0}, {"moment": 1}, {"picture": "B"}])
def test_every_control_of_the_gradients_changes_line_and_chart(gradients, change):
    gradients.set(weight=10.0, moment=0, picture="A")
    before, chart = repr(gradients), gradients.chart.value
    gradients.set(**change)
    assert repr(gradients) != before
    assert gradients.chart.value != chart
