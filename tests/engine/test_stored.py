"""Stored maps are those of the trunk, mirrored pictures included, and heads learn from them as from the pictures."""

import pytest
import torch

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import collate, flip, resize
from rcnnlib.engine.schedules import Schedule
from rcnnlib.engine.stored import StoredFeatures, fit
from rcnnlib.engine.studies import draw_mix, rpn_loss
from rcnnlib.models.backbone import backbone
from rcnnlib.models.faster_rcnn import FasterRCNN


@pytest.fixture(scope="module")
def data():
    shapes = Shapes(8, seed=0)
    return [shapes[place] for place in range(8)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return FasterRCNN(backbone("tiny"), 3, scales=(16, 32), ratios=(1.0,), rpn={"channels": 16})


def test_maps_are_the_trunks_mirrored_or_not(model, data):
    stored, seen = StoredFeatures(model.trunk, data), set()
    for epoch in range(8):
        maps, batch = stored.batch([3, 5], seed=1, epoch=epoch)
        for row, place in enumerate((3, 5)):
            mirrored = not torch.equal(batch.boxes[row, : len(data[place].boxes)], data[place].boxes)
            picture = flip(data[place]) if mirrored else data[place]
            with torch.no_grad():
                theirs = model.trunk(picture.image[None], torch.tensor([picture.image.shape[-2:]]).float())
            torch.testing.assert_close(maps[row], theirs[0], atol=2e-3, rtol=2e-3)  # half precision
            seen.add(mirrored)
    assert seen == {True, False}
    assert batch.images.abs().sum() == 0, "the pictures themselves are not kept"


def test_same_seed_same_losses_and_they_fall(model, data):
    stored = StoredFeatures(model.trunk, data)
    schedule = Schedule(steps=30, batch=4, rate=3e-3, warmup=0)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = fit(model.rpn, rpn_loss(model), stored, schedule, seed=0)
    trunk = model.trunk.state_dict()
    assert all(torch.equal(trunk[name], start[f"trunk.{name}"]) for name in trunk), "the trunk does not learn"
    model.load_state_dict(start)
    assert fit(model.rpn, rpn_loss(model), stored, schedule, seed=0) == first
    assert sum(first[-5:]) < 0.8 * sum(first[:5])


def test_other_sizes_are_refused(model, data):
    with pytest.raises(ValueError, match="must be of one size"):
        StoredFeatures(model.trunk, [data[0], resize(data[1], 64)])


def batch_with_proposals():
    """One object, 90 boxes on it (IoU 1), 210 far away with a corner in common (IoU 0.04), 50 rows that are empty."""
    truth, away, empty = [40.0, 40, 80, 80], [72.0, 72, 112, 112], [0.0, 0, 0, 0]
    example = Shapes(1, seed=0)[0]._replace(
        boxes=torch.tensor([truth]), labels=torch.tensor([2]), proposals=torch.tensor([truth] * 90 + [away] * 210)
    )
    other = example._replace(id=9, proposals=torch.tensor([truth] * 90 + [away] * 210 + [empty] * 50))
    return collate([example, other], seed=0, epoch=0)


@pytest.mark.parametrize(("fraction", "positives"), [(0.25, 16), (0.5, 32)])
def test_mix_takes_its_share(fraction, positives):
    drawn = draw_mix(batch_with_proposals(), 64, fraction, 0.0)
    assert (drawn.labels == 2).sum(1).tolist() == [positives] * 2
    assert (drawn.labels == 0).sum(1).tolist() == [64 - positives] * 2
    assert (draw_mix(batch_with_proposals(), 64, fraction, 0.1).labels == 0).sum() == 0, "no box has IoU 0.1 to 0.5"


def test_without_a_mix_the_share_is_that_of_the_boxes():
    counts = []
    for epoch in range(30):
        batch = batch_with_proposals()
        batch = batch._replace(noise=torch.rand(batch.noise.shape, generator=torch.Generator().manual_seed(epoch)))
        drawn = draw_mix(batch, 64, None, 0.0)
        assert (drawn.labels >= 0).all(), "empty rows are never drawn"
        counts += (drawn.labels == 2).sum(1).tolist()
    # 91 of 301 boxes: 64 * 91 / 301 = 19.3 on average
    assert abs(sum(counts) / len(counts) - 19.3) < 1.5
    assert len(set(counts)) > 3
