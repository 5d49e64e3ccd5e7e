import torch
from demo import shapes_batch

from rcnnlib.models.backbone import SqueezeNetTrunk, backbone
from rcnnlib.models.sppnet import SPPnet
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.roi_ops import roi_pool


def make(**options):
    torch.manual_seed(1)
    return SPPnet(backbone("tiny"), 3, **({"head": {"width": 32, "samples": 16}} | options))


@torch.inference_mode()
def test_a_region_is_the_grids_of_its_pyramid():
    batch, model = shapes_batch(noise_length=200), make(levels=(2, 1))
    features = model.trunk(batch.images)
    pooled = model.pool(features, batch.proposals)
    assert pooled.shape == (*batch.proposals.shape[:2], 64 * 5, 1, 1)
    for picture, region in ((0, 0), (1, 3), (2, 11)):
        box = batch.proposals[picture, region]
        grids = [roi_pool(features[picture], box[None], side, spatial_scale=1 / 8).flatten() for side in (2, 1)]
        assert torch.equal(pooled[picture, region].flatten(), torch.cat(grids))


def test_a_step_pools_every_region_from_its_own_picture():
    batch, model = shapes_batch((9, 3, 5), noise_length=200), make()
    drawn = model.head.sample(batch.proposals, batch.proposals.any(dim=-1), batch)
    seen = []
    model.head.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.losses(batch)
    features = model.trunk(batch.images, batch.sizes)
    for row, (box, picture) in enumerate(zip(drawn.boxes, drawn.pictures, strict=True)):
        torch.testing.assert_close(seen[0][row], model.pool(features[picture][None], box[None, None])[0, 0])


def test_fine_tuning_never_touches_the_trunk():
    model = make()
    assert not any(parameter.requires_grad for parameter in model.trunk.parameters())
    model.trunk.requires_grad_(True)  # not even if somebody lets it learn
    model.losses(shapes_batch(noise_length=200)).total().backward()
    assert all(parameter.grad is None for parameter in model.trunk.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.head.parameters())


def test_its_background_begins_at_a_tenth():
    batch, model = shapes_batch((9, 3, 5), noise_length=200), make()
    drawn = model.head.sample(batch.proposals, batch.proposals.any(dim=-1), batch)
    best = [
        box_iou(box[None], batch.boxes[picture]).max() for box, picture in zip(drawn.boxes, drawn.pictures, strict=True)
    ]
    background = torch.stack(best)[drawn.labels == 0]
    assert len(background) == 8  # of the 40 regions that are no object
    assert background.min() >= 0.1


def test_one_pass_over_the_picture_whatever_the_regions():
    batch, model = shapes_batch(noise_length=200), make()
    passes = []
    model.trunk.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].shape))
    with torch.inference_mode():
        model(batch.images, batch.sizes, batch.proposals.repeat(1, 10, 1))
    assert passes == [batch.images.shape]


def test_the_first_layer_is_as_wide_as_the_pyramid():
    assert SPPnet(SqueezeNetTrunk(), 5).head.mlp.fc6.in_features == 512 * (9 + 4 + 1)
    assert SPPnet(SqueezeNetTrunk(), 5, levels=[6, 3, 2, 1]).head.mlp.fc6.in_features == 512 * 50  # the paper's
