"""Small detectors and pictures for the tests of the models: seconds, not minutes."""

import torch

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import collate
from rcnnlib.models.backbone import backbone
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.faster_rcnn import FasterRCNN

SMALL_HEAD = {"reduced": 16, "width": 32, "samples": 16}
DETECTORS = ("fast_rcnn", "faster_rcnn")


def make_detector(name, **head):
    """Return a detector of Shapes with random weights; the same each time."""
    torch.manual_seed(1)
    options = SMALL_HEAD | head
    if name == "fast_rcnn":
        return FastRCNN(backbone("tiny"), 3, head=options)
    rpn = {"channels": 32, "before": 200, "after": 40}
    return FasterRCNN(backbone("tiny"), 3, scales=(16, 32, 48), ratios=(1.0,), rpn=rpn, head=options)


def around(boxes):
    """Return ten boxes near each of ``boxes``, as Selective Search might, and ten anywhere."""
    near = boxes.repeat(10, 1) + 4 * torch.randn(10 * len(boxes), 4)
    corner = torch.rand(10, 2) * 60
    return torch.cat((near, torch.cat((corner, corner + 24), dim=1))).clamp(0, 96)


def shapes_batch(indices=(0, 4, 8), noise_length=2000):
    """Return pictures of Shapes with proposals, as a batch; picture 0 holds nothing."""
    torch.manual_seed(2)
    examples = [Shapes(100)[index] for index in indices]
    examples = [example._replace(proposals=around(example.boxes)) for example in examples]
    return collate(examples, seed=0, epoch=0, noise_length=noise_length)


def inputs(model, batch):
    """Return the arguments of a detector's forward."""
    return (batch.images, batch.sizes, batch.proposals) if model.needs_proposals else (batch.images, batch.sizes)


def sharpen(model):
    """Scale the last layers of a random detector up, so that its scores differ and some are detections."""
    with torch.no_grad():
        model.head.predict.scores.weight.mul_(100)
        model.head.predict.deltas.weight.mul_(100)
        if hasattr(model, "rpn"):
            model.rpn.head.scores.weight.mul_(10)
    return model.eval()
