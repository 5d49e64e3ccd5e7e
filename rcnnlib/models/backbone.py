"""Backbones: the convolutions that turn a picture into a feature map, here SqueezeNet 1.1 trained on ImageNet.

Input is RGB in [0, 1]; what a network was trained on (channel order, mean) is its own first operation. The trunk is
padded so that H x W pixels give exactly H/16 x W/16 cells, and what cell (i, j) sees is centred on the point
((j + 0.5) 16, (i + 0.5) 16), where its anchors stand. Left out so far: VGG16, ResNet-18, the tiny trunk for Shapes.

Shapes: B pictures, H x W pixels, h = H / 16 rows and w = W / 16 columns of cells, 512 channels.
"""

from functools import cache

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

from rcnnlib.datasets.paths import data_dir

WEIGHTS = "weights/squeezenet1_1_imagenet.safetensors"
MEAN_BGR = (103.939, 116.779, 123.68)  # of ImageNet's pixels, 0..255, in the order this network was trained with


class SqueezeNetTrunk(nn.Module):
    """The convolutions of SqueezeNet 1.1: (B, 3, H, W) -> (B, 512, H/16, W/16)."""

    stride = 16
    out_channels = 512
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_BGR)[:, None, None], persistent=False)
        self.features = squeezenet1_1(weights=None).features
        # Unpadded, 240 x 320 pixels give 14 x 19 cells. A 3x3 layer of stride 2 padded on all sides centres output j
        # on input 2 j; four of them would centre cell j on pixel 16 j, its corner. The last pool therefore stays as
        # torchvision has it: it runs over the right and lower border instead, which adds 8 pixels.
        self.features[0] = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1)
        for pool in (2, 5):
            self.features[pool] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 512 h w"]:
        """Return the feature map.

        Raises:
            ValueError: a side is not a multiple of 16.
        """
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"the sides of the picture must be multiples of {self.stride}, got {height} x {width}; "
                "pad it right and bottom (rcnnlib.datasets.transforms.pad)"
            )
        return self.features(images.flip(1) * 255 - self.mean)  # RGB in [0, 1] -> BGR in 0..255, mean taken off


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
