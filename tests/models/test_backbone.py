import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from rcnnlib.datasets.paths import data_dir
from rcnnlib.models.backbone import SqueezeNetTrunk, imagenet_classes, squeezenet


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
