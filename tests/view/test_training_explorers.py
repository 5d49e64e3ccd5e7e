"""The explorers of lesson 09: each control changes the numbers, and the numbers are right where they can be counted."""

import pytest
import torch

from rcnnlib.datasets.transforms import collate, make_example
from rcnnlib.engine.metrics import Record
from rcnnlib.models.backbone import backbone
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.roi_heads import RoIHead, truncated_svd
from rcnnlib.view.explorers.frozen_blocks import FrozenBlocks, frozen_blocks, parts_of
from rcnnlib.view.explorers.loss_curves import LossCurves, loss_curves
from rcnnlib.view.explorers.rate_curve import RateCurve, rate_curve
from rcnnlib.view.explorers.region_sources import YOURS, RegionSources
from rcnnlib.view.explorers.svd_rank import SVDRank, probabilities, svd_rank
from rcnnlib.view.explorers.training_snapshots import Snapshot, TrainingSnapshots, smooth, training_snapshot
from rcnnlib.view.explorers.where_time_goes import Seconds, WhereTimeGoes, where_time_goes

PHOTO = torch.linspace(0, 1, 3 * 64 * 96).reshape(3, 64, 96)
TRUTH = torch.tensor([[10.0, 10, 40, 40], [50, 20, 80, 60]])
LABELS = torch.tensor([1, 2])


# --- TrainingSnapshots ----------------------------------------------------------------------------------------------


def record(*rows: tuple[list[float], float, int]) -> Record:
    boxes = torch.tensor([box for box, _, _ in rows], dtype=torch.float32).reshape(-1, 4)
    scores, labels = torch.tensor([s for _, s, _ in rows]), torch.tensor([c for _, _, c in rows], dtype=torch.int64)
    return Record(1, boxes, scores, labels, TRUTH, LABELS, torch.zeros(0, 4))


SNAPSHOTS = [
    Snapshot(0, [record(), record()]),
    Snapshot(10, [record(([10, 10, 40, 40], 0.9, 1), ([0, 0, 9, 9], 0.4, 2)), record(([50, 20, 80, 60], 0.6, 2))]),
]


def test_a_snapshot_counts_what_is_right():
    numbers = training_snapshot(1, 0, 0.3, snapshots=SNAPSHOTS, classes=2)
    assert (numbers["step"], numbers["detections"], numbers["right"], numbers["objects missed"]) == (10, 2, 1, 1)
    assert training_snapshot(1, 0, 0.5, snapshots=SNAPSHOTS, classes=2)["detections"] == 1
    assert training_snapshot(0, 0, 0.3, snapshots=SNAPSHOTS, classes=2)["objects missed"] == 2


@pytest.mark.parametrize("change", [{"snapshot": 0}, {"score": 0.5}, {"picture": 1}])
def test_every_control_of_the_snapshots_changes_the_numbers(change):
    losses = [(1.0, 0.5)] * 10
    shown = TrainingSnapshots(SNAPSHOTS, [PHOTO, PHOTO.flip(-1)], ("a", "b"), losses, alt="a gradient").set(snapshot=1)
    before, boxes = repr(shown), len(shown.canvas.boxes)
    shown.set(**change)
    assert repr(shown) != before
    assert len(shown.canvas.boxes) != boxes
    assert (
        shown.canvas.pixels.tolist()
        == (255 * (PHOTO.flip(-1) if "picture" in change else PHOTO)).round().byte().permute(1, 2, 0).tolist()
    )


def test_smooth_averages_the_last_values():
    assert smooth([1, 2, 3, 6], 2).tolist() == [1, 1.5, 2.5, 4.5]


# --- RateCurve ------------------------------------------------------------------------------------------------------


def test_rate_curve_by_hand():
    numbers = rate_curve(99, 0.5, 0.5, 49)
    assert numbers["this step"] == pytest.approx(0.25)  # half of the warm-up
    assert numbers["last step"] == pytest.approx(0.005)  # two drops
    assert max(numbers["rates"]) == 0.5
    assert numbers["rates"][len(numbers["rates"]) // 2] == pytest.approx(0.05)
    assert numbers["first drop at step"] == 750


@pytest.mark.parametrize("change", [{"step": 20}, {"warmup": 200}, {"rate": 0.5}, {"drop": 0.4}])
def test_every_control_of_the_rate_changes_the_numbers(change):
    shown = RateCurve()
    before, picture = repr(shown), shown.chart.value
    assert repr(shown.set(**change)) != before
    assert shown.chart.value != picture


# --- FrozenBlocks ---------------------------------------------------------------------------------------------------


def tiny() -> tuple[FastRCNN, object]:
    torch.manual_seed(0)
    model = FastRCNN(backbone("tiny"), 2, head={"reduced": 8, "width": 16, "samples": 16})
    example = make_example(PHOTO, TRUTH.tolist(), [1, 2], [], id=3)
    example = example._replace(proposals=TRUTH + torch.tensor([2.0, 0, 2, 0]))
    return model, collate([example], seed=0, epoch=0, noise_length=64)


def test_frozen_blocks_get_no_gradient_and_all_others_do():
    model, batch = tiny()
    for frozen in range(5):
        numbers = frozen_blocks(frozen, "both", model=model, batch=batch)
        assert numbers["learn"] == [f"block {n}" for n in range(frozen + 1, 5)] + ["head"]
    assert numbers["numbers that learn"] == sum(p.numel() for p in parts_of(model)["head"].parameters())


@pytest.mark.parametrize("change", [{"frozen": 4}, {"term": "class term"}, {"term": "box term"}])
def test_every_control_of_frozen_blocks_changes_the_numbers(change):
    shown = FrozenBlocks(*tiny())
    before, picture = dict(shown.numbers["norms"]), shown.chart.value
    shown.set(**change)
    assert shown.numbers["norms"] != before
    assert shown.chart.value != picture


# --- WhereTimeGoes --------------------------------------------------------------------------------------------------

SECONDS = {"R-CNN": Seconds(1.0, 8.0, 1.0), "Fast R-CNN": Seconds(1.0, 0.5, 0.5)}


def test_amdahl_by_hand():
    numbers = where_time_goes(2, 100, 10, seconds=SECONDS, measured=100)
    assert numbers["R-CNN s"] == pytest.approx(2 * (1 + 0.9))
    assert numbers["whole detector quicker"]["Fast R-CNN"] == pytest.approx(2 / 1.1)
    assert numbers["Selective Search's share"]["Fast R-CNN"] == pytest.approx(1 / 1.1)


def test_regions_cost_features_in_rcnn_alone():
    numbers = where_time_goes(1, 200, 1, seconds=SECONDS, measured=100)
    assert numbers["R-CNN s"] == pytest.approx(1 + 16 + 2)
    assert numbers["Fast R-CNN s"] == pytest.approx(1 + 0.5 + 1)


@pytest.mark.parametrize("change", [{"quicker": 10}, {"regions": 300}, {"pictures": 7}])
def test_every_control_of_where_time_goes_changes_the_numbers(change):
    shown = WhereTimeGoes(SECONDS, 100)
    before, picture = repr(shown), shown.chart.value
    assert repr(shown.set(**change)) != before
    assert shown.chart.value != picture


# --- RegionSources --------------------------------------------------------------------------------------------------


def sources_explorer() -> RegionSources:
    model = tiny()[0]
    model.head.predict.scores.bias.data = torch.tensor([0.0, 2.0, 0.0])  # calls everything class 1
    example = make_example(PHOTO, TRUTH.tolist(), [1, 2], [], id=3)
    sources = {
        "all": torch.cat((TRUTH, TRUTH + 4)),
        "corner": torch.tensor([[0.0, 0, 12, 12]]),
        "none": torch.zeros(0, 4),
    }
    return RegionSources(model.eval(), example, sources, ("a", "b"), [12, 12, 42, 42], alt="a gradient")


def test_the_learners_box_is_judged_and_only_it():
    shown = sources_explorer()
    assert (shown.numbers["regions"], shown.numbers["detections"], shown.numbers["right"]) == (1, 1, 1)
    assert shown.numbers["recall at IoU 0.5"] == 0.5
    assert shown.canvas.kinds[0] == "proposal"
    assert shown.set(source="all").canvas.kinds[0] == "ignored"


def test_without_regions_there_is_nothing():
    numbers = sources_explorer().set(source="none").numbers
    assert (numbers["regions"], numbers["detections"], numbers["recall at IoU 0.5"]) == (0, 0, 0.0)


@pytest.mark.parametrize(
    "change", [{"source": "corner"}, {"count": 1}, {"score": 0.95}, {"boxes": [[60.0, 0, 90, 20]], "source": YOURS}]
)
def test_every_control_of_region_sources_changes_the_numbers(change):
    shown = sources_explorer().set(source=change.get("source", "all"), count=3)
    before = repr(shown)
    if change.get("source") == YOURS:
        change = {"boxes": [*change["boxes"], *shown.canvas.boxes[1:]]}
    elif "source" in change:
        shown.set(source="all")
        before = repr(shown)
    assert repr(shown.set(**change)) != before


# --- SVDRank --------------------------------------------------------------------------------------------------------


def head_and_regions() -> tuple[RoIHead, torch.Tensor]:
    torch.manual_seed(0)
    return RoIHead(8, 2, 16, reduced=4, width=12, grid=3), torch.rand(9, 4, 3, 3)


def test_full_rank_changes_nothing():
    head, pooled = head_and_regions()
    pairs = {name: truncated_svd(getattr(head.mlp, name), 12) for name in ("fc6", "fc7")}
    numbers = svd_rank("fc6", 12, head=head, pairs=pairs, pooled=pooled)
    assert numbers["a probability moves by"] < 1e-6
    assert numbers["same class"] == 1
    assert (numbers["weights"], numbers["instead of"]) == (12 * (36 + 12), 36 * 12)


def test_a_rank_gives_what_the_library_gives():
    head, pooled = head_and_regions()
    pairs = {"fc6": truncated_svd(head.mlp.fc6, 12)}
    cut = {"fc6": truncated_svd(head.mlp.fc6, 3)}
    expected = (probabilities(head, pooled, cut) - probabilities(head, pooled, {})).abs().mean()
    numbers = svd_rank("fc6", 3, head=head, pairs=pairs, pooled=pooled)
    assert numbers["a probability moves by"] == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("change", [{"rank": 2}, {"layer": "fc7"}])
def test_every_control_of_svd_rank_changes_the_numbers(change):
    shown = SVDRank(*head_and_regions(), rank=8)
    before, picture = repr(shown), shown.chart.value
    assert repr(shown.set(**change)) != before
    assert shown.chart.value != picture


# --- LossCurves -----------------------------------------------------------------------------------------------------

RUNS = {"none": [(2.0 - step / 20, 0.5) for step in range(30)], "wild": [(40.0, 9.0)] * 10 + [(0.8, 0.4)] * 20}


def test_loss_curves_are_means():
    numbers = loss_curves("none", 2, runs=RUNS)
    assert numbers["class term, first"] == pytest.approx(1.975)
    assert numbers["class term, last"] == pytest.approx((0.6 + 0.55) / 2)
    assert len(numbers["curves"][0]) == 29


def test_the_line_says_words():
    assert "class term falls by a third or more, box term hardly changes" in repr(LossCurves(RUNS))
    assert "class term explodes, box term explodes" in repr(LossCurves(RUNS).set(bug="wild"))


@pytest.mark.parametrize("change", [{"bug": "wild"}, {"window": 3}])
def test_every_control_of_loss_curves_changes_the_numbers(change):
    shown = LossCurves(RUNS)
    before, picture = repr(shown), shown.chart.value
    assert repr(shown.set(**change)) != before
    assert shown.chart.value != picture
