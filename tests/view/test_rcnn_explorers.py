"""The explorers of lesson 03: each control changes the numbers, and the numbers are those of the library."""

import pytest
import torch

from rcnnlib.datasets.transforms import collate, make_example
from rcnnlib.models.backbone import squeezenet
from rcnnlib.models.roi_heads import given_proposals
from rcnnlib.models.svm import fine_tuning_set, regressor_set, svm_objective, svm_set
from rcnnlib.models.weights import load_weights
from rcnnlib.ops.box_coder import decode
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.roi_ops import warp
from rcnnlib.view.explorers.box_deltas import BUGS, SOURCES, BoxDeltas, box_deltas, encode_with
from rcnnlib.view.explorers.box_regressor import BoxRegressor, Near, box_regressor, row_iou
from rcnnlib.view.explorers.crop_cost import CropCost, crop_cost, times_seen
from rcnnlib.view.explorers.region_count import RegionCount, region_count
from rcnnlib.view.explorers.svm_margins import SvmMargins, collect_crops, pick_regions, svm_margins
from rcnnlib.view.explorers.training_sets import TrainingSets, training_sets
from rcnnlib.view.explorers.warped_crop import CROP, WarpedCrop

PHOTO = torch.linspace(0, 1, 3 * 240 * 320).reshape(3, 240, 320)
TRUTHS = torch.tensor([[40.0, 40, 140, 140], [180, 40, 280, 140]])


def random_boxes(count, seed=0, width=300, height=220):
    random = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 2, 2, generator=random) * torch.tensor([width, height])
    boxes = torch.cat((points.amin(1), points.amax(1) + 5), dim=1)
    return boxes.round()


PROPOSALS = random_boxes(60)


def changes(shown, change, *, chart=True):
    """Set what is in ``change``; the line, and the chart if there is one, must change."""
    before, picture = repr(shown), shown.chart.value if chart else None
    shown.set(**change)
    assert repr(shown) != before
    assert not chart or shown.chart.value != picture


# --- warped crop ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return load_weights("rcnn_scrapbook").model


@pytest.fixture(scope="module")
def warped(model):
    names = ("bird", "mammal", "food", "tool", "vehicle")
    start = torch.cat((torch.tensor([[50.0, 40, 150, 90]]), TRUTHS))
    return WarpedCrop(PHOTO, start, net=squeezenet(), model=model, classes=names, alt="a gradient")


def test_warped_crop_is_the_librarys_and_says_how_it_was_made(warped):
    warped.set(context=28, boxes=torch.cat((torch.tensor([[50.0, 40, 150, 90]]), TRUTHS)))
    numbers = warped.numbers
    expected = warp(PHOTO, torch.tensor([[50.0, 40, 150, 90]]), CROP, context=28)[0]
    assert torch.equal(numbers["crop"], expected)
    assert numbers["stretch"] == 2
    # 168 of 224 pixels hold the region: 28 pixels of context are 28 / 168 of 100 and of 50 pixels
    assert numbers["surroundings"] == pytest.approx([100 / 6, 50 / 6])
    assert numbers["IoU"] == pytest.approx(4500 / (5000 + 10000 - 4500))


def test_warped_crop_asks_the_detector_as_it_was_trained(warped, model):
    numbers = warped.set(context=16).numbers
    box = torch.from_numpy(warped.canvas.boxes[:1].copy())
    pooled = model.pool(PHOTO[None], box[None], torch.tensor([[240.0, 320]]))
    with torch.no_grad():
        torch.testing.assert_close(numbers["scores"], model.head(pooled)[0][0, 0, 1:].sigmoid(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("change", [{"context": 40}, {"context": 0}, {"move": True}])
def test_every_control_of_warped_crop_changes_the_numbers(warped, change):
    if "move" in change:
        boxes = torch.from_numpy(warped.canvas.boxes.copy())
        boxes[0, 2:] += 20
        change = {"boxes": boxes}
    changes(warped, change)


# --- training sets --------------------------------------------------------------------------------------------------

REGION = [60.0, 40, 160, 140]


def test_training_sets_counts_as_the_library_does():
    numbers = training_sets(torch.cat((torch.tensor([REGION]), TRUTHS)), 0.5, 0.3, 0.6, proposals=PROPOSALS)
    iou, real = box_iou(PROPOSALS, TRUTHS), torch.ones(2, dtype=torch.bool)
    fine = fine_tuning_set(iou, real).status
    status = svm_set(iou, torch.tensor([1, 1]), torch.zeros(60, dtype=torch.int64), 1)
    assert numbers["fine-tuning"] == [int((fine == 1).sum()), int((fine == 0).sum())]
    assert numbers["SVM"] == [2, int((status == 0).sum())]
    assert numbers["regressor"] == int((regressor_set(iou, real).status == 1).sum())
    assert numbers["IoU"] == pytest.approx(8000 / 12000)
    assert numbers["roles"] == ["positive", "not used", "used"]
    assert int(numbers["histogram"].sum()) == 60


@pytest.mark.parametrize(
    "change", [{"fine_tuning": 0.3}, {"svm": 0.1}, {"regressor": 0.2}, {"boxes": [[0, 0, 50, 60], *TRUTHS.tolist()]}]
)
def test_every_control_of_training_sets_changes_the_numbers(change):
    changes(TrainingSets(PHOTO, REGION, TRUTHS, PROPOSALS, alt="a gradient"), change)


# --- box deltas -----------------------------------------------------------------------------------------------------

PAIR = torch.tensor([[40.0, 40, 140, 120], [60, 60, 110, 100]])


def test_box_deltas_round_trip_and_bugs():
    right = box_deltas(PAIR, 0, 0, 0, 0, SOURCES[1], BUGS[0])
    assert right["IoU after"] == pytest.approx(1)
    assert right["decoded"].tolist() == pytest.approx([40, 40, 140, 120])
    # the centre must go by (5, 0); over the object's width of 100 instead of 50 only half of that is done
    wrong = box_deltas(PAIR, 0, 0, 0, 0, SOURCES[1], BUGS[2])
    assert wrong["decoded"].tolist() == pytest.approx([37.5, 40, 137.5, 120])
    assert encode_with(BUGS[1], PAIR[:1], PAIR[1:])[0].tolist() == pytest.approx([0, 0.1, 0.6931, 0.6931], abs=1e-4)


def test_box_deltas_applies_the_sliders():
    numbers = box_deltas(PAIR, 0.5, -0.25, 0.0, 0.0, SOURCES[0], BUGS[0])
    assert torch.equal(numbers["decoded"], decode(torch.tensor([[0.5, -0.25, 0, 0]]), PAIR[1:])[0])


@pytest.mark.parametrize(
    "change", [{"tx": 0.5}, {"ty": 0.5}, {"tw": 0.5}, {"th": 0.5}, {"source": SOURCES[1]}, {"bug": BUGS[2]}]
)
def test_every_control_of_box_deltas_changes_the_numbers(change):
    shown = BoxDeltas(PHOTO, PAIR, alt="a gradient")
    changes(shown, change, chart=False)
    assert shown.canvas.boxes[2].tolist() == pytest.approx(shown.numbers["decoded"].tolist())


def test_box_deltas_follows_a_drag_and_shows_the_encoded_deltas_on_its_sliders():
    shown = BoxDeltas(PHOTO, PAIR, alt="a gradient").set(source=SOURCES[1])
    before = repr(shown)
    shown.canvas.boxes = [PAIR[0].tolist(), [50, 60, 100, 100], shown.canvas.boxes[2].tolist()]
    assert repr(shown) != before
    assert shown.numbers["IoU after"] == pytest.approx(1)
    assert shown.controls["tx"].value == pytest.approx(0.3)  # 15 of 50 pixels


# --- SVM ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud():
    random = torch.Generator().manual_seed(4)
    positives = torch.randn(20, 8, generator=random) + 1.2
    return positives * 7, torch.randn(200, 8, generator=random) * 7


def test_hard_negatives_are_added_and_false_alarms_fall(cloud):
    positives, negatives = cloud
    first, second = (svm_margins(rounds, -3.0, positives=positives, negatives=negatives) for rounds in (0, 1))
    assert first["learned from"] == 20
    assert second["learned from"] == 20 + first["hard ones left"]
    assert second["false alarms"] < first["false alarms"]
    assert first["false alarms"] == pytest.approx((first["negatives"] > 0).float().mean().item())


def test_the_fit_is_the_least_of_the_objective(cloud):
    positives, negatives = cloud
    few = negatives[:20]
    margins = svm_margins(0, -3.0, positives=positives, negatives=few)
    rows = torch.cat((torch.nn.functional.pad(positives, (0, 1), value=10.0),
                      -torch.nn.functional.pad(few, (0, 1), value=10.0)))  # fmt: skip
    signed = torch.cat((margins["positives"], -margins["negatives"]))
    w = torch.linalg.lstsq(rows, signed).solution
    costs = torch.cat((torch.full((20,), 2e-3), torch.full((20,), 1e-3)))
    least = svm_objective(w, rows, costs)
    random = torch.Generator().manual_seed(5)
    assert all(
        svm_objective(w + 0.01 * torch.randn(9, generator=random), rows, costs) >= least - 1e-4 for _ in range(9)
    )


@pytest.mark.parametrize("change", [{"rounds": 1}, {"cost": -5.0}])
def test_every_control_of_svm_margins_changes_the_numbers(cloud, change):
    changes(SvmMargins(*cloud), change)


def test_pick_regions_takes_the_near_ones_first_and_spreads_the_others():
    example = make_example(PHOTO, TRUTHS.tolist(), [2, 1], [], id=1)._replace(proposals=PROPOSALS)
    picked = pick_regions(example, 2, 3, 6)
    best = box_iou(picked, TRUTHS[:1])[:, 0]
    assert len(picked) == 9
    assert torch.equal(best[:3], box_iou(PROPOSALS, TRUTHS[:1])[:, 0].topk(3).values)
    assert best[3:].amax() <= best[2]


def test_crops_say_what_the_svm_and_the_regressor_learn(model):
    crops = collect_crops(model, "val", 2, pictures=2, near=3, far=4)
    assert crops.features.shape[1] == 192
    assert len(crops.features) == len(crops.status)
    assert int((crops.status == 1).sum()) >= 2  # each picture holds at least one object of the class
    assert len(crops.grids) == len(crops.regions) == len(crops.truth)
    assert row_iou(crops.regions, crops.truth).amin() >= 0.3


# --- box regressor --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def near():
    random = torch.Generator().manual_seed(6)
    truth = torch.tensor([[40.0, 40, 140, 140]]).repeat(40, 1)
    shift = torch.randn(40, 1, generator=random) * 12
    regions = truth + shift * torch.tensor([1.0, 0, 1, 0])
    return Near(torch.cat((shift, torch.randn(40, 3, generator=random)), dim=1), regions, truth)


def test_the_regressor_learns_a_shift_that_its_features_tell(near):
    numbers = box_regressor(0.0, 0.0, learn=near, new=near)
    assert numbers["learned from"] == 40
    before, after = numbers["new"].mean(dim=1).tolist()
    assert before < 0.9
    assert after > 0.98


@pytest.mark.parametrize("change", [{"above": 0.8}, {"penalty": 6.0}])
def test_every_control_of_box_regressor_changes_the_numbers(near, change):
    changes(BoxRegressor(near, near), change)


def test_row_iou_is_the_diagonal():
    other = random_boxes(60, seed=1)
    torch.testing.assert_close(row_iou(PROPOSALS, other), box_iou(PROPOSALS, other).diagonal())


# --- region count ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered(model):
    """What the detector says about the objects themselves and about regions away from them."""
    boxes = torch.cat((torch.tensor([[5.0, 180, 60, 230], [250, 180, 310, 235]]), TRUTHS))
    example = make_example(PHOTO, TRUTHS.tolist(), [2, 4], [], id=1)._replace(proposals=boxes)
    batch = collate([example], seed=0, epoch=0, noise_length=1)
    with torch.no_grad():
        stages = model.stages(batch.images, batch.sizes, batch.proposals)
    scores = torch.full((1, 4, 6), -4.0)
    scores[0, 2, 2], scores[0, 3, 4] = 2.0, 0.5  # region 2 is surely a mammal, region 3 perhaps a tool
    return stages._replace(
        class_scores=scores, box_deltas=torch.zeros(1, 4, 5, 4), proposals=given_proposals(boxes[None])
    )


def parts(answered, model):
    size = torch.tensor([240.0, 320])
    return {"stages": answered, "head": model.head, "size": size, "truths": TRUTHS, "labels": torch.tensor([2, 4])}


@pytest.mark.parametrize(
    ("regions", "score", "reached", "found"), [(2, 0.3, 0, 0), (3, 0.3, 1, 1), (4, 0.3, 2, 2), (4, 0.7, 2, 1)]
)
def test_region_count_finds_what_regions_and_score_allow(answered, model, regions, score, reached, found):
    numbers = region_count(regions, score, **parts(answered, model))
    assert (numbers["objects with a region"], numbers["objects found"]) == (reached, found)
    assert numbers["detections"] == len(numbers["boxes"]) == found


@pytest.mark.parametrize("change", [{"regions": 3}, {"score": 0.8}])
def test_every_control_of_region_count_changes_the_numbers(answered, model, change):
    names = ("bird", "mammal", "food", "tool", "vehicle")
    shown = RegionCount(PHOTO, answered, model.head, TRUTHS, torch.tensor([2, 4]), names, alt="a gradient")
    shown.set(regions=4)
    assert [text for text in shown.canvas.labels if text] == ["mammal 0.88", "tool 0.62"]
    changes(shown, change)


# --- cost -----------------------------------------------------------------------------------------------------------


def test_times_seen_counts_every_pixel_by_hand():
    slow = torch.zeros(240, 320)
    for x1, y1, x2, y2 in PROPOSALS.int().tolist():
        slow[y1:y2, x1:x2] += 1
    assert torch.equal(times_seen(PROPOSALS, 240, 320), slow)


def test_crop_cost_is_regions_times_pixels():
    numbers = crop_cost(10, 100, proposals=PROPOSALS, height=240, width=320, pixels=50_000, seconds=0.5)
    assert (numbers["passes"], numbers["pixels"], numbers["times one pass"]) == (10, 100_000, 2.0)
    assert numbers["seconds"] == pytest.approx(0.05)


@pytest.mark.parametrize("change", [{"regions": 40}, {"crop": 224}])
def test_every_control_of_crop_cost_changes_the_numbers(change):
    shown = CropCost(PHOTO, PROPOSALS, pixels=320 * 240, seconds=0.3)
    changes(shown, change)
