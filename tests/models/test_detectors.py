"""What every detector must do, whatever its parts: one picture learned by heart, batches that change nothing."""

import difflib
from pathlib import Path

import pytest
import torch
from demo import DETECTORS, inputs, make_detector, shapes_batch, sharpen
from torch._subclasses.fake_tensor import FakeTensorMode

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import collate, make_example
from rcnnlib.models import fast_rcnn, faster_rcnn
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import BLOCK

BUSY = 9  # a picture of Shapes with a square and a circle
EVERY = pytest.mark.parametrize("name", DETECTORS)


def rows(found, image):
    """Return boxes, scores and labels of the detections of one picture."""
    good = found.valid[image]
    return found.boxes[image][good], found.scores[image][good], found.labels[image][good]


@EVERY
def test_one_picture_is_learned_by_heart(name):
    batch, model = shapes_batch([BUSY]), make_detector(name, background_low=0.0)  # else far regions stay unlearned
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        model.losses(batch).total().backward()
        optimizer.step()
    found = model.eval()(*inputs(model, batch))
    truth, labels = batch.boxes[0][batch.valid[0]], batch.labels[0][batch.valid[0]]
    sure = found.scores[0] > 0.5
    assert len(truth) > 1
    assert int(sure.sum()) == len(truth)
    best, match = box_iou(found.boxes[0][sure], truth).max(dim=1)
    assert best.min() > 0.7
    assert torch.equal(found.labels[0][sure], labels[match])


@EVERY
def test_gradients_are_the_differences(name):
    # float64; the sampled regions and their targets are data, so within a small step nothing else may change.
    model, batch = make_detector(name).double(), shapes_batch([BUSY])
    batch = type(batch)(*(tensor.double() if tensor.is_floating_point() else tensor for tensor in batch))
    parameter = model.head.mlp.fc6.weight
    model.losses(batch).total().backward()
    place = parameter.grad.abs().flatten().argmax()
    step, totals = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            parameter.view(-1)[place] += sign * step
            totals.append(float(model.losses(batch).total()))
    numeric = (totals[0] - totals[1]) / (2 * step)
    assert numeric == pytest.approx(float(parameter.grad.flatten()[place]), rel=1e-4)


@EVERY
def test_every_part_that_learns_gets_a_gradient(name):
    model, batch = make_detector(name), shapes_batch()
    model.trunk.freeze(1)
    model.losses(batch).total().backward()
    without = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {key for key, _ in model.named_parameters() if key.startswith("trunk.features.0.")}


@EVERY
@torch.inference_mode()
def test_the_order_of_the_pictures_changes_nothing(name):
    batch, model = shapes_batch(), sharpen(make_detector(name))
    order = torch.tensor([2, 0, 1])
    turned = type(batch)(*(tensor[order] for tensor in batch))
    found, other = model(*inputs(model, batch)), model(*inputs(model, turned))
    assert found.valid.any(dim=1).all()
    for ours, theirs in zip(found, other, strict=True):
        torch.testing.assert_close(ours[order], theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.losses(batch).total(), model.losses(turned).total(), rtol=1e-4, atol=1e-5)


@EVERY
@torch.inference_mode()
def test_a_picture_alone_is_the_picture_padded_in_a_batch(name):
    batch, model = shapes_batch([BUSY]), sharpen(make_detector(name))
    batch = batch._replace(images=batch.images.clone(), proposals=batch.proposals.clamp(max=64))
    batch.images[..., 64:] = 0.0  # a picture 64 wide: alone, and in a batch that is padded to 96
    sizes = torch.tensor([[96.0, 64.0]])
    narrow = batch._replace(images=batch.images[..., :64], sizes=sizes)
    alone, padded = (model.stages(*inputs(model, one)) for one in (narrow, batch._replace(sizes=sizes)))
    torch.testing.assert_close(padded.features[..., :8], alone.features)
    for name in ("pooled", "class_scores", "box_deltas"):
        torch.testing.assert_close(getattr(padded, name), getattr(alone, name), rtol=1e-4, atol=1e-5)
    # The best alone: with random weights hundreds of boxes overlap by just about the threshold of NMS.
    for ours, theirs in zip(rows(padded.detections, 0), rows(alone.detections, 0), strict=True):
        torch.testing.assert_close(ours[:10], theirs[:10], rtol=1e-4, atol=1e-4)


@EVERY
def test_pictures_without_objects_regions_or_both(name):
    model = make_detector(name)
    empty = make_example(torch.rand(3, 96, 96), [], [], [], id=0)
    batch = collate([empty, Shapes(100)[3]], seed=0, epoch=0, noise_length=2000)
    losses = model.losses(batch)
    losses.total().backward()
    assert all(term.isfinite() for term in losses[:4])
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    with torch.inference_mode():
        assert model.eval()(*inputs(model, batch)).boxes.isfinite().all()


@EVERY
def test_two_thousand_objects(name):
    corner = torch.rand(2000, 2) * 80
    boxes = torch.cat((corner, corner + 3 + 10 * torch.rand(2000, 2)), dim=1)
    crowd = make_example(torch.rand(3, 96, 96), boxes.tolist(), [1] * 2000, [], id=0)._replace(proposals=boxes)
    model = make_detector(name)
    losses = model.losses(collate([crowd], seed=0, epoch=0, noise_length=8000))
    losses.total().backward()
    assert losses.total().isfinite()


@EVERY
def test_losses_and_detections_on_fake_cuda(name):
    # FakeTensorMode raises on a mix of devices and wherever the host would have to read a tensor.
    batch, model = shapes_batch(), make_detector(name)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake = type(batch)(*(torch.empty_like(mode.from_tensor(tensor), device="cuda") for tensor in batch))
        with torch.device("cuda"):
            model = make_detector(name)
        losses = model.losses(fake)
        found = model(*inputs(model, fake))
    assert {term.device.type for term in losses} == {"cuda"}
    assert {tensor.device.type for tensor in found} == {"cuda"}


@EVERY
@torch.inference_mode()
def test_more_rounds_change_nothing_where_nms_settled(name):
    batch, model = shapes_batch(), sharpen(make_detector(name))
    one, many = model(*inputs(model, batch)), model(*inputs(model, batch), rounds=BLOCK)
    assert many.settled.all()
    for image in one.settled.nonzero()[:, 0].tolist():
        for ours, theirs in zip(rows(one, image), rows(many, image), strict=True):
            assert torch.equal(ours, theirs)


def test_stages_end_in_what_forward_returns():
    batch, model = shapes_batch(), sharpen(make_detector("faster_rcnn"))
    with torch.inference_mode():
        stages = model.stages(batch.images, batch.sizes)
        found = model(batch.images, batch.sizes)
    for ours, theirs in zip(stages.detections, found, strict=True):
        assert torch.equal(ours, theirs)
    assert stages.anchors.shape == (12 * 12 * 3, 4)
    assert stages.pooled.shape == (3, 40, 16, 7, 7)


def test_the_proposals_carry_no_gradient():
    # Approximate joint training (3.2 ii): the head's loss must not reach the RPN.
    batch, model = shapes_batch(), make_detector("faster_rcnn")
    losses = model.losses(batch)
    (losses.head_class + losses.head_box).backward()
    assert all(parameter.grad is None for parameter in model.rpn.parameters())


def test_the_difference_of_the_two_files_is_the_papers():
    ours, theirs = (Path(module.__file__).read_text().splitlines() for module in (fast_rcnn, faster_rcnn))
    lines = [line for line in difflib.unified_diff(ours, theirs, lineterm="", n=0) if line[0] in "+-"]
    added = "\n".join(line for line in lines if line.startswith("+"))
    assert len(lines) < 70
    for word in ("self.rpn", "rpn_class, rpn_box", "scores.detach()"):
        assert word in added
    methods = [[line.split("(")[0] for line in text if line.startswith("    def ")] for text in (ours, theirs)]
    assert methods[0] == methods[1] == [f"    def {name}" for name in ("__init__", "stages", "losses", "forward")]
