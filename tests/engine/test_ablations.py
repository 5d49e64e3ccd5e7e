"""What the ablations leave out is left out, and what they share is shared; on two scenes and untrained heads."""

import pytest
import torch

from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.scenes import FreshScenes
from rcnnlib.engine import ablations, ablations_extra, studies
from rcnnlib.engine.ablations import detect, fit_head, fit_rpn, head_losses, proposed, recalls_of, searched
from rcnnlib.engine.metrics import Record
from rcnnlib.engine.recipes import open_data
from rcnnlib.engine.schedules import Schedule
from rcnnlib.engine.stored import StoredFeatures
from rcnnlib.models.backbone import backbone
from rcnnlib.ops.boxes import box_iou

FEW = Schedule(steps=2, batch=2, warmup=0)


@pytest.fixture(scope="module")
def scenes():
    data = open_data("scrapbook_selective_search", "test")
    return StoredFeatures(backbone("squeezenet", pretrained=True).eval(), [data[0], data[1]])


@pytest.fixture
def stored(scenes, monkeypatch):
    for module in (ablations, studies):
        monkeypatch.setattr(module, "stored_scenes", lambda split="train": scenes)
    monkeypatch.setattr(ablations, "SHORT", FEW)
    monkeypatch.setattr(ablations_extra, "SHORT", FEW)
    for cached in ("trained_rpn", "trained_head"):
        plain = {"trained_rpn": fit_rpn, "trained_head": fit_head}[cached]
        for module in (ablations, ablations_extra):
            if hasattr(module, cached):
                monkeypatch.setattr(
                    module, cached, lambda *args, plain=plain, **more: plain(*args, schedule=FEW, **more)
                )
    return scenes


@pytest.fixture
def rpn(stored):
    return fit_rpn(0, schedule=FEW, stored=stored)


def test_proposals_with_and_without(rpn):
    whole, dense = proposed(rpn, 300), proposed(rpn, 300, nms=False)
    assert [len(boxes) for boxes in dense] == [300, 300]
    for kept, all_of_them in zip(whole, dense, strict=True):
        assert box_iou(kept, kept).fill_diagonal_(0).max() <= 0.7 + 1e-6
        assert box_iou(all_of_them, all_of_them).fill_diagonal_(0).max() > 0.7
        assert torch.equal(kept[0], all_of_them[0]), "the best stays the best"
    unranked = proposed(rpn, 300, ranked=False)
    assert [len(boxes) for boxes in unranked] == [300, 300]
    assert not torch.equal(unranked[0], dense[0])
    assert torch.equal(unranked[0], proposed(rpn, 300, ranked=False)[0]), "random, but the same each time"
    assert (rpn.nms_threshold, rpn.after) == (0.7, 200), "the RPN itself is as it was"


def test_without_regression_proposals_are_anchors(rpn, stored):
    anchors = rpn(stored.maps[0][0][None].float())[0]
    stretched = anchors.clamp(min=0).minimum(torch.tensor([320.0, 240.0, 320.0, 240.0]))
    for box in proposed(rpn, 30, moved=False)[0]:
        assert (stretched - box).abs().amax(dim=1).min() < 1e-3


def test_boxes_that_are_not_moved_are_the_regions(stored):
    head = fit_head(0, schedule=FEW, stored=stored, score_threshold=0.0)
    regions = searched(20)
    still, moved = (detect(head, regions, moved=moved)[0] for moved in (False, True))
    assert (still.boxes[:, None] - regions[0]).abs().amax(-1).min(dim=1).values.max() < 1e-3
    assert (moved.boxes[:, None] - regions[0]).abs().amax(-1).min(dim=1).values.max() > 1e-3


def test_terms_say_what_learns(stored):
    start = fit_head(0, schedule=FEW._replace(steps=0), stored=stored)
    classifier = fit_head(0, terms=(1.0, 0.0), schedule=FEW, stored=stored)
    deltas = start.predict.deltas.weight
    torch.testing.assert_close(classifier.predict.deltas.weight, deltas, rtol=1e-3, atol=1e-6)  # only weight decay
    assert not torch.equal(classifier.predict.scores.weight, start.predict.scores.weight)
    assert not torch.allclose(fit_head(0, schedule=FEW, stored=stored).predict.deltas.weight, deltas, rtol=1e-3)


def test_stage_wise_moves_only_the_last_layer(stored):
    first = fit_head(0, terms=(1.0, 0.0), schedule=FEW, stored=stored).state_dict()
    second = ablations.stage_wise_head.__wrapped__(0).state_dict()
    changed = [name for name in first if not torch.equal(first[name], second[name])]
    assert set(changed) <= {"predict.deltas.weight", "predict.deltas.bias"}
    assert changed


def test_regions_without_area_are_padding(stored):
    head = fit_head(0, schedule=FEW, stored=stored)
    maps, batch = stored.batch([0, 1], seed=0, epoch=0)
    boxes = batch.proposals[:, :40]
    padded = torch.cat((boxes, torch.zeros(2, 30, 4)), dim=1)
    batch = batch._replace(noise=torch.linspace(0, 0.99, batch.noise.shape[1]).expand(2, -1))
    ours = head_losses(head, maps, padded, batch)
    assert all(torch.isfinite(term) for term in ours)
    drawn = head.sample(padded, (padded[..., 2:] > padded[..., :2]).all(-1), batch, 0)
    assert not ((drawn.boxes.abs().sum(-1) == 0) & (drawn.labels >= 0)).any()


CONDITIONS = [
    (ablations.multi_task, "stage-wise"),
    (ablations.multi_task, "multi-task, boxes not moved"),
    (ablations.proposals, "SS, 30"),
    (ablations.proposals, "RPN, 300, head trained on them"),
    (ablations.proposals, "RPN, 100 without scores"),
    (ablations.anchors, "1 scale, 1 ratio"),
    (ablations.box_weight, "100"),
    (ablations_extra.regions, "30"),
    (ablations_extra.pooling, "pool"),
    (ablations_extra.svd, "8"),
    (ablations_extra.pictures_a_step, "2"),
    (ablations_extra.cutouts, "1/4"),
    (ablations_extra.photos, "varied, scales 40, 80, 160"),
]


@pytest.mark.parametrize(("study", "condition"), CONDITIONS, ids=lambda value: getattr(value, "__name__", value))
def test_every_study_runs(study, condition, stored, monkeypatch, tmp_path):
    photo = wild()[0]
    monkeypatch.setattr(ablations_extra, "stored_maps", lambda scenes: stored)
    monkeypatch.setattr(ablations_extra, "stored_fresh", lambda seed, vary: stored)
    monkeypatch.setattr(ablations_extra, "wild", lambda: [photo])
    monkeypatch.setattr(ablations, "figures_of", lambda records: {"AP50": float(len(records))})
    monkeypatch.setattr(ablations_extra, "figures_of", lambda records: {"AP50": float(len(records))})
    assert study(condition, 0, tmp_path)["AP50"] == 2.0


def test_recalls_fall_with_the_threshold(stored):
    found = list(recalls_of(searched()).values())
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.5
    exact = recalls_of([example.boxes for example, _ in stored.examples])
    assert set(exact.values()) == {1.0}


def test_found_and_found_whole():
    truth = torch.tensor([[0.0, 0, 100, 100], [200, 0, 300, 100], [400, 0, 500, 100], [600, 0, 700, 100]])
    boxes = torch.tensor([[0.0, 0, 100, 95], [200, 0, 300, 60], [400, 0, 500, 100], [600, 0, 700, 100], [0, 0, 9, 9]])
    labels, scores = torch.tensor([1, 1, 2, 1, 1]), torch.tensor([0.9, 0.9, 0.9, 0.2, 0.9])
    record = Record(0, boxes, scores, labels, truth, torch.tensor([1, 1, 1, 1]), torch.zeros(0, 4))
    none = Record(1, boxes[:0], scores[:0], labels[:0], truth, torch.tensor([1, 1, 1, 1]), torch.zeros(0, 4))
    # whole, three fifths of it, another name, too low a score
    assert ablations_extra.shares_found([record]) == {"found": 0.5, "found whole": 0.25}
    assert ablations_extra.shares_found([record, none]) == {"found": 0.25, "found whole": 0.125}


@pytest.mark.parametrize("vary", [True, False])
def test_fresh_scenes_are_stored(vary):
    stored = ablations_extra.stored_fresh(1, vary, 2)
    scene = FreshScenes("train", length=2, seed=1, vary=vary)[1]
    assert (len(stored), torch.equal(stored.examples[1][0].boxes, scene.boxes)) == (2, True)
