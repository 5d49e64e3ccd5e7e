import pytest
import torch
from demo import around

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import collate, make_example, resize
from rcnnlib.engine.after_training import Described, Store, begin, describe, fit_after_training, mine, regress
from rcnnlib.models.backbone import backbone
from rcnnlib.models.rcnn import RCNN
from rcnnlib.models.sppnet import SPPnet
from rcnnlib.models.svm_head import SVMHead
from rcnnlib.ops.box_coder import decode, encode
from rcnnlib.ops.boxes import box_iou

EVERY = pytest.mark.parametrize("name", ["rcnn", "sppnet"])
BUSY = 9  # a picture of Shapes with a square and a circle


def make(name):
    torch.manual_seed(1)
    head = {"width": 32, "samples": 24}
    if name == "rcnn":
        return RCNN(backbone("tiny"), 3, crop=40, context=4, head=head)
    return SPPnet(backbone("tiny"), 3, head=head)


def pictures(*indices):
    torch.manual_seed(2)
    examples = [Shapes(100)[index] for index in indices]
    return [example._replace(proposals=around(example.boxes)) for example in examples]


@EVERY
def test_one_picture_is_learned_by_heart(name):
    data, model = pictures(BUSY), make(name)
    batch = collate(data, seed=0, epoch=0, noise_length=100)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model.losses(batch).total().backward()
        optimizer.step()
    fit_after_training(model, data, cost=1.0, penalty=10.0)
    with torch.inference_mode():
        found = model.eval()(batch.images, batch.sizes, batch.proposals)
    truth, labels = batch.boxes[0], batch.labels[0]
    sure = found.scores[0] > 0.5
    assert len(truth) == int(sure.sum()) == 2
    best, match = box_iou(found.boxes[0][sure], truth).max(dim=1)
    assert best.min() > 0.7
    assert torch.equal(found.labels[0][sure], labels[match])


def fits(model, data, **options):
    """Return what was fitted, and the numbers that are in the head now."""
    fit = fit_after_training(model, data, **options)
    return fit, torch.cat([tensor.flatten() for name, tensor in model.head.state_dict().items() if "svm" in name])


@EVERY
def test_the_same_seed_gives_the_same_detector(name):
    data = pictures(9, 3, 4)
    model, twin = make(name), make(name)
    first = fits(model, data)
    torch.rand(3)  # the state of torch's own generator must not matter
    second = fits(twin, data)
    assert torch.equal(first[1], second[1])
    assert first[0].hard_negatives == second[0].hard_negatives
    assert not torch.equal(first[1], fits(make(name), data, random_negatives=1)[1])


def test_what_is_described():
    # One object of class 2; regions with IoU 1/2, 0.8, 0.2 and 0; one on the ignored place; a row without a region.
    example = make_example(torch.rand(3, 96, 96), [[0, 0, 40, 40]], [2], [[60, 60, 96, 96]], id=0)
    proposals = [[0, 0, 40, 20], [0, 0, 40, 32], [0, 0, 40, 8], [60, 0, 90, 30], [61, 61, 90, 90], [0, 0, 0, 0]]
    example, model = example._replace(proposals=torch.tensor(proposals, dtype=torch.float32)), make("sppnet")
    described = describe(model, example)
    assert described.status.tolist() == [
        [0, -1, 0],  # 0.5 is too much for a negative of class 2
        [0, -1, 0],
        [0, 0, 0],
        [0, 0, 0],
        [-1, -1, -1],  # ignored
        [0, 1, 0],  # the object itself, after the regions
    ]
    regions = torch.cat((example.proposals[:5], example.boxes))
    pooled = model.pool(model.trunk(example.image[None]), regions[None])
    torch.testing.assert_close(described.features, model.head.describe(pooled)[0])
    assert described.labels.tolist() == [2]  # only 0.8 is above 0.6, and the object itself is left out
    torch.testing.assert_close(described.grids, pooled[0, 1].flatten()[None])
    torch.testing.assert_close(decode(described.targets, regions[1:2]), example.boxes)


def test_features_are_stored_and_come_back_with_a_norm_of_20(tmp_path):
    store = Store(tmp_path)
    for size in (1.0, 3.0):
        unit = torch.nn.functional.normalize(torch.randn(50, 8), dim=1) * size
        zeros = torch.zeros(50, dtype=torch.int64)
        store.append(Described(unit, zeros[:, None].to(torch.int8), unit[:5] * 7, zeros[:5], torch.zeros(5, 4)))
    first, second = store.read(0), store.read(1)
    assert float(torch.cat((first.features, second.features)).norm(dim=1).mean()) == pytest.approx(20, rel=1e-3)
    assert float(torch.cat((first.grids, second.grids)).norm(dim=1).mean()) == pytest.approx(20, rel=1e-3)
    torch.testing.assert_close(second.features / store.scales[0], unit, rtol=1e-3, atol=1e-3)


def described(positives, negatives):
    """A picture whose regions have these features, two numbers each; a class of objects, and one without any."""
    features = torch.tensor(positives + negatives, dtype=torch.float32)
    status = torch.zeros(len(features), 2, dtype=torch.int8)
    status[: len(positives), 0] = 1
    return Described(features, status, torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))


def test_hard_negatives_are_found_that_the_lot_missed(tmp_path):
    # Objects at (20, 0), background left of (-20, 0); in each picture region 21 is background at (20, -8).
    store, far = Store(tmp_path), [[-20 - step, 0] for step in range(40)]
    for _ in range(4):
        store.append(described([[20, 0]], [*far[:20], [20, -8], *far[20:]]))
    trainings = begin(store, SVMHead(2, 1, 2, width=2), each=2, seed=0)
    hard = torch.tensor([[20.0, -8]]) * store.scales[0]
    assert len(trainings[0].positives) == 4
    assert trainings[0].added == 8
    assert (trainings[0].negatives[:, 1] == 0).all()  # the lot missed all four
    trainings[0].fit(1.0)
    assert trainings[0].margins(hard) > 0.9  # and so the SVM takes them for objects
    mine(store, trainings, cost=1.0)
    assert set((torch.arange(4) * 2**20 + 21).tolist()) <= set(trainings[0].keys.tolist())
    assert trainings[0].margins(hard) < -0.9
    assert trainings[0].margins(torch.tensor([[20.0, 0]]) * store.scales[0]) > 0.9
    assert trainings[0].margins(trainings[0].negatives).min() >= -1.2  # the easy ones were dropped
    assert len(trainings[0].keys) == len(trainings[0].negatives) < trainings[0].added
    assert trainings[1].fits == 0  # no objects, no SVM


def test_a_negative_comes_only_once(tmp_path):
    store = Store(tmp_path)
    store.append(described([[20, 0]], [[20, 1], [20, -1]]))
    trainings = begin(store, SVMHead(2, 1, 2, width=2), each=2, seed=0)
    mine(store, trainings, cost=1e-3)  # too cheap to tell them apart: both are still hard, and here already
    assert trainings[0].added == 2
    assert sorted(trainings[0].keys.tolist()) == [1, 2]


def test_an_svm_is_fitted_anew_after_2000_negatives(tmp_path, monkeypatch):
    monkeypatch.setattr("rcnnlib.engine.after_training.REFIT", 3)
    store = Store(tmp_path)
    for place in range(4):
        store.append(described([[20, place]], [[20, -8 - place - step] for step in range(8)]))
    trainings = begin(store, SVMHead(2, 1, 2, width=2), each=1, seed=0)
    mine(store, trainings, cost=1e-5)
    assert trainings[0].fits == 2 + 4  # at first, at last, and after each picture, for seven new ones are more than 3


def test_regressors_are_those_of_their_class(tmp_path):
    # Two classes whose objects lie to the left and to the right: with a small penalty each is what its regions say.
    store, grids = Store(tmp_path), torch.randn(40, 6)
    labels = torch.arange(40) % 2 + 1
    slopes = torch.randn(2, 6, 4)
    targets = (grids.unsqueeze(1) @ slopes[labels - 1]).squeeze(1) + labels.unsqueeze(1)
    for rows in range(0, 40, 10):
        part = slice(rows, rows + 10)
        store.append(
            Described(grids[part], torch.zeros(10, 2, dtype=torch.int8), grids[part], labels[part], targets[part])
        )
    for label in (1, 2):
        regressor = regress(store, label, penalty=1e-6)
        assert regressor.count == 20
        torch.testing.assert_close(regressor.weight * store.scales[1], slopes[label - 1].T, rtol=0.01, atol=0.01)
        torch.testing.assert_close(regressor.bias, torch.full((4,), float(label)), rtol=0.01, atol=0.01)


@EVERY
def test_the_head_gets_what_was_fitted(name):
    # Costs and penalties that let everything be learned by heart: then the head must say what it was told.
    data, model = pictures(9, 3), make(name)
    fit = fit_after_training(model, data, cost=100.0, penalty=1e-3)
    assert fit.objects == [2, 1, 0]
    assert fit.regions == 30 + 20 + 3
    assert (fit.fits[0] > 1, fit.fits[2]) == (True, 0)
    batch = collate(data, seed=0, epoch=0, noise_length=1)
    stages = model.stages(batch.images, batch.sizes, batch.proposals)
    truth = model.stages(batch.images, batch.sizes, batch.boxes)
    own = truth.class_scores.gather(2, batch.labels.unsqueeze(2)).squeeze(2)[batch.valid]
    assert own.min() > 0.9
    assert (truth.class_scores[..., 3] == -5).all()  # the class without objects
    best, match = box_iou(batch.proposals, batch.boxes).max(dim=2)
    near = best > 0.6
    assert int(near.sum()) == sum(fit.moved)
    assert stages.class_scores[..., 1:][(best < 0.3) & stages.proposals.valid].max() < -0.9
    goal = encode(batch.boxes.take_along_dim(match.unsqueeze(2), dim=1), batch.proposals)[near]
    label = batch.labels.take_along_dim(match, dim=1)[near]
    deltas = stages.box_deltas[near].take_along_dim((label - 1)[:, None, None], dim=1).squeeze(1)
    # Regions of SPPnet that are rounded to the same cells look the same: they get the mean of what each should.
    same = (torch.cdist(stages.pooled[near].flatten(1), stages.pooled[near].flatten(1)) < 1e-3).float()
    torch.testing.assert_close(deltas, same @ goal / same.sum(dim=1, keepdim=True), rtol=0.02, atol=0.02)


def test_pictures_are_resized_first():
    data = pictures(9, 3)
    _, ours = fits(make("sppnet"), data, longer_side=64)
    _, theirs = fits(make("sppnet"), [resize(example, 64) for example in data])
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, fits(make("sppnet"), data)[1])


def test_pictures_without_regions_or_objects():
    empty = make_example(torch.rand(3, 96, 96), [], [], [], id=0)
    fit = fit_after_training(make("sppnet"), [empty, Shapes(100)[3]])
    assert (fit.regions, sum(fit.objects), sum(fit.moved)) == (1, 1, 0)
    with pytest.raises(ValueError, match="at least one picture"):
        fit_after_training(make("sppnet"), [])
