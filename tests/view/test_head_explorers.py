"""The explorers of lesson 06: each control changes the numbers, and the numbers are those of the library."""

import math

import pytest
import torch

from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.transforms import collate, resize
from rcnnlib.models.roi_heads import BoxPredictor, RoIHead
from rcnnlib.models.weights import load_weights
from rcnnlib.ops.box_coder import HEAD_STD
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.losses import smooth_l1
from rcnnlib.view.explorers.head_size import BOXES, HeadSize, head_size
from rcnnlib.view.explorers.hinge_or_softmax import HingeOrSoftmax, hinge_or_softmax
from rcnnlib.view.explorers.roi_head import ALL, RoIHeadView, look_at_roi, open_photo
from rcnnlib.view.explorers.smooth_l1_curve import OTHERS, SmoothL1Curve, gradient, smooth_l1_curve
from rcnnlib.view.explorers.softmax_scores import WRITTEN, SoftmaxScores, softmax_scores
from rcnnlib.view.explorers.target_spread import TARGETS, TargetSpread, target_spread
from rcnnlib.view.explorers.two_losses import ALL as ALL_ROIS
from rcnnlib.view.explorers.two_losses import BUGS, Regions, TwoLosses, two_losses

PHOTO = torch.linspace(0, 1, 3 * 240 * 320).reshape(3, 240, 320)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


def check_changes(explorer, change, *, picture=True):
    """Set one control; the line must change, and the chart with it."""
    before, shown = repr(explorer), explorer.chart.value
    explorer.set(**change)
    assert repr(explorer) != before
    assert not picture or explorer.chart.value != shown


# --- softmax ----------------------------------------------------------------------------------------------------------


def test_softmax_by_hand():
    numbers = softmax_scores(0.0, 2.0, 1.0, 0.0, WRITTEN[0])
    total = 1 + math.exp(2) + math.exp(1)
    assert numbers["probabilities"].tolist() == pytest.approx([1 / total, math.exp(2) / total, math.exp(1) / total])


def test_adding_to_all_scores_changes_nothing_until_exp_overflows():
    state = {"background": 0.0, "bird": 2.0, "mammal": 1.0}
    plain, stable = (softmax_scores(**state, added=0.0, written=way)["probabilities"] for way in WRITTEN)
    assert torch.allclose(plain, stable)
    assert softmax_scores(**state, added=90.0, written=WRITTEN[0])["probabilities"].isnan().any()
    assert torch.allclose(softmax_scores(**state, added=90.0, written=WRITTEN[1])["probabilities"], plain)


@pytest.mark.parametrize("change", [{"background": 0.5}, {"bird": -1.0}, {"mammal": 3.0}])
def test_every_score_changes_the_numbers(change):
    check_changes(SoftmaxScores(), change)


def test_what_is_added_changes_the_powers_and_the_way_of_writing_saves_them():
    explorer = SoftmaxScores()
    check_changes(explorer, {"added": 50.0}, picture=False)
    check_changes(explorer, {"added": 100.0})
    assert "nan" in repr(explorer)
    check_changes(explorer, {"written": WRITTEN[1]})
    assert "nan" not in repr(explorer)


# --- the head on a photo ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector():
    return load_weights("fast_rcnn_scrapbook")


@pytest.fixture(scope="module")
def view(detector):
    return RoIHeadView(detector, photos=("sheep", "owl"))


START = {"photo": "sheep", "shown": "the likeliest class", "left": 184, "top": 90, "width": 308, "height": 368}


SHEEP = [name for _, name in wild().images].index("sheep.jpg")


def test_the_explorer_says_what_the_stages_of_the_detector_say(detector):
    photo = open_photo("sheep", detector.model)
    roi = torch.tensor([184.0, 90, 492, 458])
    probabilities, boxes = look_at_roi(photo, roi, detector.model)
    batch = collate([resize(wild()[SHEEP], 320)], seed=0, epoch=0)
    with torch.inference_mode():
        stages = detector.model.stages(batch.images, batch.sizes, (roi * batch.scales.repeat(1, 2))[None])
    assert torch.allclose(probabilities, stages.class_scores[0, 0].softmax(-1), atol=1e-4)
    assert probabilities.argmax() == 2  # a mammal
    assert box_iou(boxes[1:2], photo.boxes).item() > box_iou(roi[None], photo.boxes).item() + 0.1


CHANGES = [
    {"photo": "owl"},
    {"shown": "tool"},
    {"shown": ALL},
    {"left": 260},
    {"top": 140},
    {"width": 200},
    {"height": 200},
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_the_head_changes_the_numbers(view, change):
    view.set(**START)
    before, boxes, chart = repr(view), view.canvas.boxes.copy(), view.chart.value
    view.set(**change)
    assert repr(view) != before
    assert boxes.shape != view.canvas.boxes.shape or (boxes != view.canvas.boxes).any()
    assert view.chart.value != chart


def test_the_sliders_follow_a_drag(view):
    view.set(**START)
    boxes = view.canvas.boxes.copy()
    boxes[0] = [100, 50, 400, 350]
    view.canvas.boxes = boxes  # what the browser does
    assert [view.controls[name].value for name in ("left", "top", "width", "height")] == [100, 50, 300, 300]
    assert view.canvas.boxes[0].tolist() == [100, 50, 400, 350]


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "grid", "width", "classes"), [(128, 7, 256, 5), (16, 3, 64, 1)])
def test_the_formula_counts_the_weights_of_the_real_head(channels, grid, width, classes):
    head = RoIHead(512, classes, 16, reduced=channels, grid=grid, width=width)
    numbers = head_size(channels, grid, width, classes, BOXES[0])
    assert numbers["total"] == sum(parameter.numel() for parameter in head.parameters())
    assert numbers["weights"]["fc6"] == sum(parameter.numel() for parameter in head.mlp.fc6.parameters())


@pytest.mark.parametrize(
    "change", [{"channels": 64}, {"grid": 3}, {"width": 512}, {"classes": 80}, {"box_layer": BOXES[1]}]
)
def test_every_control_of_head_size_changes_the_numbers(change):
    check_changes(HeadSize(), change)


# --- targets ----------------------------------------------------------------------------------------------------------

DELTAS = normal(400, 4) * torch.tensor(HEAD_STD)
IOU = torch.linspace(0.5, 1, 400)


def test_divided_targets_have_unit_spread_and_a_loss_that_counts():
    raw, divided = (target_spread(name, 0.5, deltas=DELTAS, iou=IOU) for name in TARGETS)
    assert raw["spread"].tolist() == pytest.approx(DELTAS.std(dim=0).tolist())
    assert divided["spread"].tolist() == pytest.approx([1] * 4, abs=0.1)
    assert divided["L_loc"] == pytest.approx(smooth_l1(DELTAS / torch.tensor(HEAD_STD)).sum(1).mean().item())
    assert raw["share of tw, th"] > 0.7 > 0.6 > divided["share of tw, th"]
    assert raw["histograms"].sum().item() == 4 * 400


@pytest.mark.parametrize("change", [{"targets": TARGETS[1]}, {"positive": 0.7}])
def test_every_control_of_targets_changes_the_numbers(change):
    check_changes(TargetSpread(DELTAS, IOU), change)


# --- smooth L1 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 6.0])
def test_the_gradient_is_that_of_autograd(beta):
    x = torch.tensor([-5.0, -0.3, 0.2, 0.7, 4.0], requires_grad=True)
    (theirs,) = torch.autograd.grad(smooth_l1(x, beta).sum(), x)
    assert torch.allclose(gradient(x.detach(), beta), theirs)


def test_the_share_of_an_outlier_by_hand():
    numbers = smooth_l1_curve(1.0, 4.0)
    others = sum(map(abs, OTHERS))  # 1.8, all within the parabola
    assert (numbers["loss"], numbers["gradient"]) == (3.5, 1.0)
    assert numbers["share"] == pytest.approx(1 / (1 + others))
    assert numbers["L2 share"] == pytest.approx(4 / (4 + others))


@pytest.mark.parametrize("change", [{"beta": 0.0}, {"beta": 5.0}, {"error": -4.0}, {"error": 0.5}])
def test_every_control_of_smooth_l1_changes_the_numbers(change):
    check_changes(SmoothL1Curve(), change)


# --- both losses ------------------------------------------------------------------------------------------------------

REGIONS = Regions(normal(3, 8), torch.tensor([2, 0, 1]), normal(3, 4), ("A", "B", "C"))


@pytest.fixture
def predict():
    made = BoxPredictor(8, 3)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    return made


def test_the_background_has_no_box_loss_and_no_pull(predict):
    numbers = two_losses(2.0, "B", 0, BUGS[0], regions=REGIONS, predict=predict)
    assert numbers["lambda L_loc"] == numbers["pull of lambda L_loc"] == 0
    assert two_losses(2.0, "B", 0, BUGS[1], regions=REGIONS, predict=predict)["lambda L_loc"] > 0


def test_both_terms_are_means_over_the_rois(predict):
    one = [
        two_losses(1.0, name, int(u), BUGS[0], regions=REGIONS, predict=predict)
        for name, u in zip("ABC", REGIONS.labels, strict=True)
    ]
    both = two_losses(1.0, ALL_ROIS, 2, BUGS[0], regions=REGIONS, predict=predict)
    for name in ("L_cls", "lambda L_loc"):
        assert both[name] == pytest.approx(sum(each[name] for each in one) / 3, rel=1e-5)


def test_the_shifted_labels_name_the_next_class(predict):
    wrong = two_losses(1.0, "A", 2, BUGS[2], regions=REGIONS, predict=predict)
    right = two_losses(1.0, "A", 1, BUGS[0], regions=REGIONS, predict=predict)
    assert wrong["L_cls"] == right["L_cls"]


def test_lambda_scales_one_pull_only(predict):
    one, three = (two_losses(w, "A", 2, BUGS[0], regions=REGIONS, predict=predict) for w in (1.0, 3.0))
    assert three["pull of L_cls"] == one["pull of L_cls"]
    assert three["pull of lambda L_loc"] == pytest.approx(3 * one["pull of lambda L_loc"], rel=1e-5)


@pytest.mark.parametrize(
    "change", [{"weight": 3.0}, {"roi": "B"}, {"roi": ALL_ROIS}, {"label": 0}, {"label": 3}, {"bug": BUGS[2]}]
)
def test_every_control_of_two_losses_changes_the_numbers(predict, change):
    check_changes(two_losses_view(predict), change)


def test_the_forgotten_indicator_shows_where_the_label_is_background(predict):
    check_changes(two_losses_view(predict).set(label=0), {"bug": BUGS[1]})


def two_losses_view(predict) -> TwoLosses:
    boxes = [[20, 20, 120, 120], [100, 50, 200, 150], [200, 100, 300, 200]]
    return TwoLosses(
        *(PHOTO, boxes, boxes[:1], REGIONS), predict=predict, classes=("background", "a", "b", "c"), alt="a gradient"
    )


# --- hinge or softmax -------------------------------------------------------------------------------------------------


def test_hinge_and_cross_entropy_by_hand():
    numbers = hinge_or_softmax(1.5, -0.5, -2.0)
    total = 1 + math.exp(1.5) + math.exp(-0.5) + math.exp(-2)
    assert numbers["cross entropy"] == pytest.approx(math.log(total) - 1.5)
    assert numbers["hinge"] == pytest.approx(0.5)  # the mammal's -0.5 should be -1
    assert numbers["gradient of hinge"].tolist() == [0, 1, 0]
    assert (numbers["answer"], numbers["SVMs say yes to"]) == ("bird", ["bird"])


def test_only_the_softmax_competes():
    before, after = hinge_or_softmax(1.5, -2.0, -2.0), hinge_or_softmax(1.5, 2.5, -2.0)
    assert after["probabilities"][1] < before["probabilities"][1] - 0.4
    assert after["margins"][0] == before["margins"][0]
    assert after["SVMs say yes to"] == ["bird", "mammal"]
    assert hinge_or_softmax(-1.0, -1.0, -1.0)["SVMs say yes to"] == []


@pytest.mark.parametrize("change", [{"bird": 2.0}, {"mammal": 1.0}, {"tool": 0.5}])
def test_every_control_of_hinge_or_softmax_changes_the_numbers(change):
    check_changes(HingeOrSoftmax(), change)
