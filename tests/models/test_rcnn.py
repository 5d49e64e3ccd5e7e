import pytest
import torch
from demo import shapes_batch
from torch.nn.functional import max_pool2d

from rcnnlib.models.backbone import SqueezeNetTrunk, backbone
from rcnnlib.models.rcnn import RCNN
from rcnnlib.ops.roi_ops import warp


def make(**options):
    torch.manual_seed(1)
    return RCNN(backbone("tiny"), 3, **({"crop": 40, "context": 4, "head": {"width": 32, "samples": 16}} | options))


def counted(model):
    """Return a list that will hold the number of crops of each pass through the trunk."""
    passes = []
    model.trunk.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    return passes


@torch.inference_mode()
def test_every_region_is_a_picture_of_its_own():
    batch, model = shapes_batch(noise_length=200), make()
    pooled = model.pool(batch.images, batch.proposals, batch.sizes)
    assert pooled.shape == (*batch.proposals.shape[:2], 64, 2, 2)  # 40 pixels, 5 cells, 3x3 at stride 2: 2
    for picture, region in ((0, 0), (1, 3), (2, 11)):
        box = batch.proposals[picture, region]
        crop = warp(batch.images[picture], box[None], 40, context=4)
        torch.testing.assert_close(pooled[picture, region], max_pool2d(model.trunk(crop), 3, 2)[0])


@torch.inference_mode()
def test_regions_go_through_the_trunk_in_chunks():
    batch = shapes_batch(noise_length=200)
    many, few = make(chunk=1000), make(chunk=7)
    passes = counted(few)
    regions = batch.proposals.shape[1]
    assert torch.equal(
        many.pool(batch.images, batch.proposals, batch.sizes), few.pool(batch.images, batch.proposals, batch.sizes)
    )
    assert max(passes) == 6  # two of each of the three pictures
    assert sum(passes) == 3 * regions


def test_a_step_sends_only_the_drawn_regions_through_the_trunk():
    model = make()
    passes = counted(model)
    model.losses(shapes_batch(noise_length=200))
    assert passes == [16]


def test_fine_tuning_reaches_every_layer():
    model = make()
    losses = model.losses(shapes_batch(noise_length=200))
    losses.total().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert losses.total() == losses.head_class


def test_squeezenet_gives_a_grid_of_3_by_3():
    model = RCNN(SqueezeNetTrunk(), 5)
    assert model.head.mlp.fc6.in_features == 512 * 9
    with torch.inference_mode():
        pooled = model.pool(torch.rand(1, 3, 64, 64), torch.tensor([[[5.0, 5, 60, 30]]]), torch.tensor([[64.0, 64.0]]))
    assert pooled.shape == (1, 1, 512, 3, 3)


@pytest.mark.parametrize("crop", [100, 32])
def test_the_crop_must_fit_the_trunk(crop):
    with pytest.raises(ValueError, match=rf"crop must be a multiple of 16.*at least 48; got {crop}; .*112 pixels"):
        RCNN(SqueezeNetTrunk(), 5, crop=crop)
