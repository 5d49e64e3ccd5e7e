from urllib.error import URLError

import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from rcnnlib.datasets.paths import data_dir
from rcnnlib.models.backbone import NAMES, Frame, SqueezeNetTrunk, backbone, imagenet_classes, squeezenet


@pytest.fixture(scope="module")
def net():
    return squeezenet()


@pytest.mark.parametrize(
    ("photo", "name"),
    [("dog", "German shepherd"), ("polar_bear", "ice bear"), ("panda", "giant panda"), ("koala", "koala")],
)
def test_it_names_real_photos(net, photo, name):
    image = Image.open(data_dir() / "wild" / "images" / f"{photo}.jpg").convert("RGB").resize((224, 224))
    with torch.inference_mode():
        probability = net(pil_to_tensor(image)[None] / 255).softmax(dim=1)[0]
    assert imagenet_classes()[int(probability.argmax())] == name
    assert probability.max() > 0.5


@pytest.mark.parametrize("size", [(240, 320), (16, 16), (480, 640)])
def test_cells_are_pixels_over_sixteen(size):
    trunk = SqueezeNetTrunk().eval()
    with torch.inference_mode():
        features = trunk(torch.rand(2, 3, *size))
    assert features.shape == (2, trunk.out_channels, size[0] // trunk.stride, size[1] // trunk.stride)


def test_a_cell_sees_the_pixels_around_its_centre():
    # Where a cell's gradient falls must be centred on ((j + 0.5) 16, (i + 0.5) 16): anchors are placed there.
    trunk = SqueezeNetTrunk().eval()
    for parameter in trunk.parameters():
        parameter.data.abs_()  # no cancelling: what is left is the pure geometry of the convolutions
    image = torch.rand(1, 3, 320, 320, requires_grad=True)
    trunk.mean.zero_()
    trunk(image)[0, :, 10, 8].sum().backward()
    weight = image.grad.abs().sum(dim=(0, 1))
    rows, columns = torch.arange(320) + 0.5, torch.arange(320) + 0.5
    row = (weight.sum(dim=1) * rows).sum() / weight.sum()
    column = (weight.sum(dim=0) * columns).sum() / weight.sum()
    assert abs(row - 10.5 * 16) < 2
    assert abs(column - 8.5 * 16) < 2


def test_other_sides_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 16, got 30 x 32"):
        SqueezeNetTrunk()(torch.rand(1, 3, 30, 32))


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"data/build/squeezenet\.py"):
        squeezenet()


@pytest.mark.parametrize("name", NAMES)
def test_every_trunk_has_its_cells_where_the_anchors_stand(name):
    trunk = backbone(name, pretrained=False).eval()
    for key, parameter in (*trunk.named_parameters(), *trunk.named_buffers()):
        if key not in ("mean", "std"):
            parameter.data.abs_()  # no cancelling: what is left is the geometry of the convolutions
    image = torch.rand(1, 3, 320, 320, requires_grad=True)
    features = trunk.layers(image, Frame(None, 320 // trunk.stride))
    cells = 320 // trunk.stride
    assert features.shape == (1, trunk.out_channels, cells, cells)
    features[0, :, 9, 11].sum().backward()
    weight = image.grad.double().abs().sum(dim=(0, 1))
    at = torch.arange(320) + 0.5
    row, column = (weight.sum(dim=1) * at).sum() / weight.sum(), (weight.sum(dim=0) * at).sum() / weight.sum()
    assert abs(row - 9.5 * trunk.stride) < trunk.stride / 4  # max pools of random weights are not quite even
    assert abs(column - 11.5 * trunk.stride) < trunk.stride / 4


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_padding_changes_nothing_inside_the_picture(name):
    trunk = backbone(name, pretrained=False).eval()
    image = torch.rand(1, 3, 64, 48)
    batch = torch.rand(2, 3, 96, 80)  # the padding is not even black
    batch[0, :, :64, :48] = image
    cells, padded = trunk(image), trunk(batch, torch.tensor([[64.0, 48.0], [96.0, 80.0]]))
    h, w = cells.shape[-2:]
    assert cells.abs().max() > 0
    torch.testing.assert_close(padded[:1, :, :h, :w], cells, rtol=1e-3, atol=1e-4)
    assert padded[0, :, h:].abs().max() == 0
    assert padded[0, :, :, w:].abs().max() == 0
    torch.testing.assert_close(padded[1:], trunk(batch[1:]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_blocks_do_not_learn(name):
    trunk = backbone(name, pretrained=False).freeze(1)
    trunk(torch.rand(1, 3, 32, 32)).sum().backward()
    learns = [any(p.grad is not None for p in block.parameters()) for block in trunk.blocks]
    assert learns == [False] + [True] * (len(trunk.blocks) - 1)
    assert {id(p) for block in trunk.blocks for p in block.parameters()} == {id(p) for p in trunk.parameters()}
    assert all(p.requires_grad for p in trunk.freeze(0).parameters())
    with pytest.raises(ValueError, match=r"blocks must be 0 to \d"):
        trunk.freeze(9)


def test_an_unknown_trunk_is_named():
    with pytest.raises(ValueError, match="backbone 'alexnet' is unknown; use one of squeezenet, vgg16"):
        backbone("alexnet")


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
def test_weights_that_cannot_be_fetched(name, monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(FileNotFoundError, match=f"weights of {name} are fetched by torchvision.*'squeezenet'"):
        backbone(name)


@pytest.mark.parametrize(
    ("name", "peer"), [("vgg16", torchvision.models.vgg16), ("resnet18", torchvision.models.resnet18)]
)
def test_torchvisions_weights_fit(name, peer, monkeypatch):
    # Random weights in the place of those that torchvision would fetch.
    theirs = peer(weights=None).eval()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: theirs.state_dict())
    ours, image = backbone(name).eval(), torch.rand(1, 3, 64, 64)
    stem = (ours.features[0][0] if name == "resnet18" else ours.features[0]).weight
    assert torch.equal(stem, theirs.state_dict()["conv1.weight" if name == "resnet18" else "features.0.weight"])
    if name == "vgg16":  # the same geometry, so the same map
        with torch.inference_mode():
            expected = theirs.features[:-1]((image - ours.mean) / ours.std)
            torch.testing.assert_close(ours(image), expected, rtol=1e-4, atol=1e-4)
