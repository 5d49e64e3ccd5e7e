"""Backbones: the convolutions that turn a picture into a feature map.

Input is RGB in [0, 1]; what a network was trained on (channel order, mean) is its own first operation. Every trunk is
padded so that H x W pixels give exactly H/S x W/S cells, and what cell (i, j) sees is centred on the point
((j + 0.5) S, (i + 0.5) S), where its anchors stand. SqueezeNet 1.1 is the course's trunk: its ImageNet weights lie in
``data/``. VGG16 is the papers', ResNet-18 a later one; torchvision fetches their weights. The tiny trunk learns Shapes
in a minute. Left out: feature pyramids, and training of batch normalisation, which is kept as ImageNet left it.

In a batch a smaller picture is padded. A convolution would look into that padding, and the picture would get other
features than alone. So before each layer that looks at neighbours, everything outside the picture is set to zero, which
is what the layer sees beyond the border of a picture that is alone.

Shapes: B pictures, H x W pixels, S the stride, h = H / S rows and w = W / S columns of cells, C channels.
"""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple
from urllib.error import URLError

import torch
import torchvision
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad, relu
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.squeezenet import Fire
from torchvision.ops import FrozenBatchNorm2d

from rcnnlib.datasets.paths import data_dir

WEIGHTS = "weights/squeezenet1_1_imagenet.safetensors"
MEAN_BGR = (103.939, 116.779, 123.68)  # of ImageNet's pixels, 0..255, in the order SqueezeNet was trained with
MEAN_RGB, STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # the same in [0, 1], for torchvision's networks
LAST_POOL = 8  # of SqueezeNet's layers
CHANNELS = ((3, 16), (16, 32), (32, 64), (64, 64))  # of the tiny trunk: in, out
NAMES = ("squeezenet", "vgg16", "resnet18", "tiny")


class Frame(NamedTuple):
    """Where the pictures of a padded batch end, in cells of the feature map."""

    cells: Int[Tensor, "B 2"] | None  # rows and columns of each picture; None where there is no padding
    width: int  # columns of the whole batch

    def blank(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Set to zero what lies outside the pictures; ``x`` may have any stride up to that of the feature map."""
        if self.cells is None:
            return x
        limit = self.cells * (x.shape[-1] // self.width)
        rows = torch.arange(x.shape[-2], device=x.device) >= limit[:, :1]  # (B, H)
        columns = torch.arange(x.shape[-1], device=x.device) >= limit[:, 1:]
        # where() keeps the order of memory that the convolutions are quick in; masked_fill() would copy it to another.
        return torch.where((rows.unsqueeze(-1) | columns.unsqueeze(-2)).unsqueeze(1), 0.0, x)


def whole_cells(sizes: Float[Tensor, "B 2"], stride: int) -> Int[Tensor, "B 2"]:
    """Return the rows and columns of cells of each picture; a cell that is only partly in it counts."""
    return (sizes / stride).ceil().long()


class Trunk(nn.Module):
    """What all trunks share: ``stride``, ``out_channels``, ``blocks`` from the picture upward, and freezing."""

    stride = 16
    out_channels = 512
    mean: Tensor
    std: Tensor
    blocks: tuple[nn.Module, ...]  # what is frozen piece by piece, from the picture upward

    def __init__(self, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def layers(self, x: Float[Tensor, "B 3 H W"], frame: Frame) -> Float[Tensor, "B C h w"]:
        """Run the convolutions on a normalised picture; what goes into one that sees neighbours is blanked before."""
        raise NotImplementedError

    def forward(
        self, images: Float[Tensor, "B 3 H W"], sizes: Float[Tensor, "B 2"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Return the feature map; outside the pictures it is zero.

        ``sizes`` are height and width of the pictures without padding; None where there is no padding.

        Raises:
            ValueError: a side is not a multiple of the stride.
        """
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"the sides of the picture must be multiples of {self.stride}, got {height} x {width}; "
                "pad it right and bottom (rcnnlib.datasets.transforms.pad)"
            )
        x = (images - self.mean) / self.std
        cells = None if sizes is None else whole_cells(sizes, self.stride)
        frame = Frame(cells, width // self.stride)
        return frame.blank(self.layers(x, frame))

    def freeze(self, blocks: int) -> "Trunk":
        """Keep the first ``blocks`` blocks as they are (Fast R-CNN 4.5 trains from conv3 up); the rest learns."""
        if not 0 <= blocks <= len(self.blocks):
            raise ValueError(f"blocks must be 0 to {len(self.blocks)}, the number this trunk has; got {blocks}")
        for number, block in enumerate(self.blocks):
            block.requires_grad_(number >= blocks)
        return self


class SqueezeNetTrunk(Trunk):
    """The convolutions of SqueezeNet 1.1: (B, 3, H, W) -> (B, 512, H/16, W/16)."""

    def __init__(self) -> None:
        super().__init__(MEAN_BGR)
        self.features = squeezenet1_1(weights=None).features
        # Unpadded, 240 x 320 pixels give 14 x 19 cells. A 3x3 layer of stride 2 padded on all sides centres output j
        # on input 2 j; four of them would centre cell j on pixel 16 j, its corner. The last pool therefore stays as
        # torchvision has it: it runs over the right and lower border instead, which adds 8 pixels.
        self.features[0] = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1)
        for pool in (2, 5):
            self.features[pool] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.to(memory_format=torch.channels_last)  # the same numbers; on a CPU half of the time

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The stem, and the fire modules two by two."""
        return (self.features[0], *(self.features[i : i + 2] for i in (3, 6, 9, 11)))

    def forward(
        self, images: Float[Tensor, "B 3 H W"], sizes: Float[Tensor, "B 2"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Return the feature map, as ``Trunk`` says; this network was trained on BGR in 0..255."""
        return super().forward(images.flip(1) * 255, sizes)

    def layers(self, x: Float[Tensor, "B 3 H W"], frame: Frame) -> Float[Tensor, "B C h w"]:
        """Run stem, pools and fire modules. Of stem and pools only the last pool looks over the right border."""
        for number, layer in enumerate(self.features):
            if isinstance(layer, Fire):
                squeezed = frame.blank(layer.squeeze_activation(layer.squeeze(x)))
                x = torch.cat(
                    (
                        layer.expand1x1_activation(layer.expand1x1(squeezed)),
                        layer.expand3x3_activation(layer.expand3x3(squeezed)),
                    ),
                    dim=1,
                )
            else:
                x = layer(frame.blank(x) if number == LAST_POOL else x)
        return x


class VGG16Trunk(Trunk):
    """The convolutions of VGG16 up to conv5_3, the papers' own: (B, 3, H, W) -> (B, 512, H/16, W/16)."""

    def __init__(self) -> None:
        super().__init__(MEAN_RGB, STD_RGB)
        self.features = torchvision.models.vgg16(weights=None).features[:-1]  # without the last pool: stride 16

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """conv1 to conv5."""
        return tuple(self.features[start:stop] for start, stop in ((0, 5), (5, 10), (10, 17), (17, 24), (24, 30)))

    def layers(self, x: Float[Tensor, "B 3 H W"], frame: Frame) -> Float[Tensor, "B C h w"]:
        """Run the convolutions; the pools of 2x2 never look over a border."""
        for layer in self.features:
            x = layer(frame.blank(x) if isinstance(layer, nn.Conv2d) else x)
        return x


class ResNet18Trunk(Trunk):
    """ResNet-18 up to conv4_x: (B, 3, H, W) -> (B, 256, H/16, W/16)."""

    out_channels = 256

    def __init__(self) -> None:
        super().__init__(MEAN_RGB, STD_RGB)
        net = torchvision.models.resnet18(weights=None, norm_layer=FrozenBatchNorm2d)
        stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.features = nn.Sequential(stem, net.layer1, net.layer2, net.layer3)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The stem, and conv2_x to conv4_x."""
        return tuple(self.features)

    def layers(self, x: Float[Tensor, "B 3 H W"], frame: Frame) -> Float[Tensor, "B C h w"]:
        """Run the residual blocks.

        Four layers of stride 2 centre cell j on pixel 16 j. Half a cell more on each side moves the centres by half a
        cell; the row and the column above and left of the picture are then one too many.
        """
        half, x = self.stride // 2, frame.blank(x)
        frame = Frame(None if frame.cells is None else frame.cells + 1, frame.width + 1)
        convolution, norm, activation, pool = self.features[0]
        x = activation(norm(convolution(frame.blank(pad(x, (half,) * 4)))))
        x = pool(frame.blank(x))
        for block in itertools.chain.from_iterable(self.features[1:]):
            inner = block.relu(block.bn1(block.conv1(frame.blank(x))))
            inner = block.bn2(block.conv2(frame.blank(inner)))
            x = block.relu(inner + (x if block.downsample is None else block.downsample(x)))
        return x[..., 1:, 1:]


class TinyTrunk(Trunk):
    """Four small layers to be trained from nothing: (B, 3, H, W) -> (B, 64, H/8, W/8)."""

    stride = 8
    out_channels = 64

    def __init__(self) -> None:
        super().__init__((0.5,))
        # Normalised over the channels of each cell, so that neither the padding nor another picture has a say.
        layers = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), LayerNorm2d(b)) for a, b in CHANNELS]
        self.features = nn.Sequential(*layers)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The four layers."""
        return tuple(self.features)

    def layers(self, x: Float[Tensor, "B 3 H W"], frame: Frame) -> Float[Tensor, "B C h w"]:
        """Run the convolutions, with a pool of 2x2 after each but the last."""
        for number, layer in enumerate(self.features):
            x = relu(layer(frame.blank(x)))
            x = max_pool2d(x, 2) if number < 3 else x
        return x


def backbone(name: str, *, pretrained: bool = True) -> Trunk:
    """Return a trunk by its name: ``squeezenet``, ``vgg16``, ``resnet18``, ``tiny`` (which is never pretrained).

    Raises:
        ValueError: there is no trunk of that name.
        FileNotFoundError: the ImageNet weights are neither on this machine nor can they be fetched.
    """
    if name not in NAMES:
        raise ValueError(f"backbone {name!r} is unknown; use one of {', '.join(NAMES)}")
    if name == "squeezenet":
        return squeezenet().trunk.train() if pretrained else SqueezeNetTrunk()
    trunk = {"vgg16": VGG16Trunk, "resnet18": ResNet18Trunk, "tiny": TinyTrunk}[name]()
    if pretrained and name != "tiny":
        _load_from_torchvision(trunk, name)
    return trunk


def _load_from_torchvision(trunk: Trunk, name: str) -> None:
    """Fill ``trunk`` with torchvision's ImageNet weights, which are fetched once and kept in torch's own cache."""
    try:
        weights = torchvision.models.get_model_weights(name).DEFAULT.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError) as error:
        raise FileNotFoundError(
            f"the ImageNet weights of {name} are fetched by torchvision, which could not reach them ({error}); "
            "connect once, or use backbone 'squeezenet', whose weights come with the course"
        ) from error
    if name == "resnet18":  # torchvision names the parts of the stem one by one
        parts = {"conv1": "0.0", "bn1": "0.1", "layer1": "1", "layer2": "2", "layer3": "3"}
        named = ((parts.get(key.split(".")[0]), key.partition(".")[2], value) for key, value in weights.items())
        weights = {f"features.{part}.{rest}": value for part, rest, value in named if part}
    trunk.load_state_dict({key: value for key, value in weights.items() if key in trunk.state_dict()})


class SqueezeNet(nn.Module):
    """The whole ImageNet classifier: (B, 3, H, W) -> scores (B, 1000), before the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = SqueezeNetTrunk()
        self.classifier = squeezenet1_1(weights=None).classifier

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1000"]:
        """Return one score for each ImageNet class."""
        return self.classifier(self.trunk(images)).flatten(1)


def squeezenet(*, device: torch.device | str = "cpu") -> SqueezeNet:
    """Load SqueezeNet 1.1 with its ImageNet weights from ``data/weights``, ready for inference.

    Raises:
        FileNotFoundError: the file of weights is missing.
    """
    path = data_dir() / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; 'git checkout data' or 'python data/build/squeezenet.py' brings it"
        )
    net = SqueezeNet()
    weights = {name.replace("features.", "trunk.features."): tensor for name, tensor in load_file(path).items()}
    net.load_state_dict(weights)  # stored as fp16, copied into fp32
    return net.to(device).eval()


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 ImageNet classes, in the order of the scores; they come with torchvision."""
    return tuple(SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"])
