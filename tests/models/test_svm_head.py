"""What R-CNN and SPPnet must do, and the head that they share."""

import difflib
from pathlib import Path

import pytest
import torch
from demo import shapes_batch
from torch._subclasses.fake_tensor import FakeTensorMode

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import collate, make_example, pad
from rcnnlib.models import rcnn, sppnet
from rcnnlib.models.backbone import backbone
from rcnnlib.models.rcnn import RCNN
from rcnnlib.models.sppnet import SPPnet
from rcnnlib.models.svm_head import SVMHead
from rcnnlib.models.weights import Spec, load_weights, save_weights
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import BLOCK

EVERY = pytest.mark.parametrize("name", ["rcnn", "sppnet"])


def make(name, **head):
    """Return a small detector for Shapes, random and not yet fitted; the same each time."""
    torch.manual_seed(1)
    head = {"width": 32, "samples": 16} | head
    if name == "rcnn":
        return RCNN(backbone("tiny"), 3, crop=40, context=4, chunk=20, head=head)
    return SPPnet(backbone("tiny"), 3, head=head)


def fitted(model):
    """Put random numbers where the SVMs and the regressors will be, such that some regions are detections."""
    for layer, size in ((model.head.svm, 3.0), (model.head.ridge, 0.003)):
        layer.weight.normal_(std=size)
        layer.bias.zero_()
    return model.eval()


def inputs(batch):
    return batch.images, batch.sizes, batch.proposals


@EVERY
def test_a_step_draws_from_all_pictures_at_once(name):
    head, batch = make(name, samples=8).head, shapes_batch((9, 3, 5), noise_length=200)
    drawn = head.sample(batch.proposals, batch.proposals.any(dim=-1), batch)
    assert (drawn.labels > 0).sum() == 2  # a quarter of 8, of all pictures together
    assert (drawn.labels == 0).sum() == 6
    assert len(drawn.pictures.unique()) == 3
    for box, label, picture in zip(*drawn, strict=True):
        candidates = torch.cat((batch.proposals[picture], batch.boxes[picture]))
        assert (candidates == box).all(dim=1).any()
        best, match = box_iou(box[None], batch.boxes[picture])[0].max(dim=0)
        assert label == (batch.labels[picture, match] if best >= 0.5 else 0)
        assert label > 0 or best >= head.background_low


def test_the_paper_draws_32_and_96():
    boxes = Shapes(100)[9].boxes
    many = make_example(torch.rand(3, 96, 96), boxes.tolist(), [1] * len(boxes), [], id=0)
    many = many._replace(
        proposals=torch.cat((boxes.repeat(50, 1), torch.rand(200, 2).repeat(1, 2) + torch.tensor([0, 0, 9, 9])))
    )
    batch = collate([many, many._replace(id=1)], seed=0, epoch=0, noise_length=1000)
    drawn = SVMHead(4, 1, 3).sample(batch.proposals, batch.proposals.any(dim=-1), batch)
    assert torch.bincount(drawn.labels).tolist() == [96, 32]
    assert 32 < (drawn.pictures == 0).sum() < 96  # by lot, not half of each


@EVERY
def test_what_is_ignored_or_does_not_exist_takes_no_part(name):
    example = make_example(torch.rand(3, 96, 96), [], [], [[0, 0, 96, 96]], id=0)
    example = example._replace(proposals=torch.tensor([[10.0, 10, 50, 50], [0, 0, 0, 0]]))
    batch = collate([example], seed=0, epoch=0, noise_length=10)
    model = make(name, background_low=0.0)
    assert model.head.sample(batch.proposals, batch.proposals.any(dim=-1), batch).labels.unique().tolist() == [-1]
    assert model.losses(batch).total() == 0
    batch = batch._replace(ignore=torch.zeros(1, 1, 4))
    assert model.head.sample(batch.proposals, batch.proposals.any(dim=-1), batch).labels.tolist() == [0] + [-1] * 15


@EVERY
def test_the_order_of_the_pictures_changes_nothing(name):
    batch, model = shapes_batch(noise_length=200), fitted(make(name))
    order = torch.tensor([2, 0, 1])
    turned = type(batch)(*(tensor[order] for tensor in batch))
    torch.testing.assert_close(model.losses(batch).total(), model.losses(turned).total(), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        found, other = model(*inputs(batch)), model(*inputs(turned))
    assert found.valid.any(dim=1).all()
    for ours, theirs in zip(found, other, strict=True):
        torch.testing.assert_close(ours[order], theirs, rtol=1e-4, atol=1e-4)


@EVERY
def test_a_picture_alone_is_the_picture_padded_in_a_batch(name):
    model = fitted(make(name))
    batch, larger = shapes_batch([9], noise_length=200), make_example(torch.rand(3, 128, 160), [], [], [], id=1)
    together = batch._replace(
        images=torch.stack((pad(batch.images[0], (128, 160)), larger.image)),
        sizes=torch.tensor([[96.0, 96.0], [128.0, 160.0]]),
        proposals=torch.cat((batch.proposals, batch.proposals)),
    )
    with torch.inference_mode():
        alone, padded = model(*inputs(batch)), model(*inputs(together))
    assert alone.valid.sum() > 3
    for ours, theirs in zip(alone, padded, strict=True):
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-4)


@EVERY
@torch.inference_mode()
def test_nothing_is_detected_before_the_svms_are_fitted(name):
    model, batch = make(name), shapes_batch(noise_length=200)
    assert not model(*inputs(batch)).valid.any()
    assert fitted(model)(*inputs(batch)).valid.any()


@EVERY
@torch.inference_mode()
def test_stages_are_margins_and_boxes(name):
    model, batch = fitted(make(name)), shapes_batch(noise_length=200)
    stages = model.stages(*inputs(batch), rounds=BLOCK)
    pictures, regions = batch.proposals.shape[:2]
    assert stages.class_scores.shape == (pictures, regions, 4)
    assert (stages.class_scores[..., 0] == 0).all()
    fc7 = model.head.describe(stages.pooled)
    torch.testing.assert_close(stages.class_scores[..., 1:], fc7 @ model.head.svm.weight.T)
    grid = stages.pooled.flatten(2) @ model.head.ridge.weight.T
    torch.testing.assert_close(stages.box_deltas.flatten(2), grid)
    found = stages.detections
    for ours, theirs in zip(found, model(*inputs(batch), rounds=BLOCK), strict=True):
        assert torch.equal(ours, theirs)
    assert (found.scores >= 0).all()
    assert (found.scores <= 1).all()
    assert (found.scores.diff(dim=1) <= 0).all()
    for picture in range(pictures):
        for label in (1, 2, 3):
            boxes = found.boxes[picture][found.labels[picture] == label]
            assert box_iou(boxes, boxes).triu(diagonal=1).max() <= 0.3 if len(boxes) else True


def test_detections_by_hand():
    head = SVMHead(1, 1, 2)
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 70, 70], [0, 0, 10, 10]]])
    valid = torch.tensor([[True, True, True, False]])
    scores = torch.tensor([[[0.0, 1.0, -3.0], [0.0, 2.0, -0.5], [0.0, -1.0, 0.0], [0.0, 9.0, 9.0]]])
    deltas = torch.zeros(1, 4, 2, 4)
    deltas[0, 2, 1] = torch.tensor([0.5, 0.0, 0.0, 0.0])  # half of its 20 pixels to the right
    found = head.detect(boxes, valid, scores, deltas, torch.tensor([[100.0, 75.0]]))
    # Class 1: the second box beats the first (IoU 0.8), the third has sigmoid(-1) = 0.269 > 0.25.
    # Class 2: the third moves to x = 60..80, cut off at 75; sigmoid(-0.5) = 0.378; sigmoid(-3) = 0.047 is too little.
    assert found.labels[0].tolist()[:5] == [1, 2, 2, 1, 0]
    assert found.boxes[0, :4].tolist() == [[0, 0, 10, 8], [60, 50, 75, 70], [0, 0, 10, 8], [50, 50, 70, 70]]
    assert found.scores[0, :4].tolist() == pytest.approx([0.8808, 0.5, 0.3775, 0.2689], abs=1e-4)


@EVERY
def test_no_objects_and_no_regions(name):
    model = fitted(make(name))
    empty = make_example(torch.rand(3, 96, 96), [], [], [], id=0)
    batch = collate([empty, Shapes(100)[3]], seed=0, epoch=0, noise_length=200)
    losses = model.losses(batch)
    losses.total().backward()
    assert losses.settled.all()
    assert losses.total() > 0  # the object of the second picture itself
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.inference_mode():
        assert not model(*inputs(batch)).valid.any()
        none = torch.zeros(2, 0, 4)
        pooled = (
            model.pool(batch.images, none, batch.sizes)
            if name == "rcnn"
            else model.pool(model.trunk(batch.images), none)
        )
        found = model.head.detect(none, none.any(dim=-1), *model.head(pooled), batch.sizes)
    assert pooled.shape[:2] == (2, 0)
    assert found.boxes.shape == (2, 0, 4)


@EVERY
def test_losses_and_detections_on_fake_cuda(name):
    # FakeTensorMode raises on a mix of devices and wherever the host would have to read a tensor.
    batch = shapes_batch(noise_length=200)
    with FakeTensorMode() as mode, torch.device("cuda"):
        fake = type(batch)(*(torch.empty_like(mode.from_tensor(tensor), device="cuda") for tensor in batch))
        model = make(name)
        losses, found = model.losses(fake), model(*inputs(fake))
    assert {tensor.device.type for tensor in (*losses, *found)} == {"cuda"}


@EVERY
def test_the_file_is_small_and_comes_back(name, tmp_path):
    classes = ("bird", "mammal", "food", "tool", "vehicle")
    spec = Spec(name, "squeezenet", classes, {"levels": (3, 2, 1)} if name == "sppnet" else {})
    model = fitted(spec.build())
    if name == "rcnn":
        model.trunk.features[0].bias.data += 1  # its trunk is fine-tuned, and goes into the file
    save_weights(tmp_path / "file.safetensors", model, spec, {})
    assert (tmp_path / "file.safetensors").stat().st_size < 4e6
    again = load_weights(tmp_path / "file.safetensors").model
    torch.testing.assert_close(again.head.svm.weight, model.head.svm.weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(again.head.ridge.weight, model.head.ridge.weight, rtol=1e-3, atol=1e-5)


@EVERY
def test_svms_and_regressors_learn_by_no_gradient(name):
    model = make(name)
    assert not [key for key, _ in model.named_parameters() if "svm" in key or "ridge" in key]
    assert {"head.svm.weight", "head.ridge.bias"} <= set(model.state_dict())


def test_the_difference_of_the_two_files_is_the_papers():
    ours, theirs = (Path(module.__file__).read_text().splitlines() for module in (rcnn, sppnet))
    lines = [line for line in difflib.unified_diff(ours, theirs, lineterm="", n=0) if line[0] in "+-"]
    assert len(lines) < 80
    for word in (
        "-            crops = warp(",
        "+        vectors = spatial_pyramid_pool(",
        "+        self.trunk = trunk.requires_grad_(False)",
    ):
        assert any(line.startswith(word) for line in lines)
    methods = [[line.split("(")[0] for line in text if line.startswith("    def ")] for text in (ours, theirs)]
    assert (
        methods[0] == methods[1] == [f"    def {name}" for name in ("__init__", "pool", "stages", "losses", "forward")]
    )
