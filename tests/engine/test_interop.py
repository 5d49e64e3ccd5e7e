"""Our Faster R-CNN and torchvision's, with the same weights: the same detections."""

import importlib
import pkgutil
from functools import cache

import pytest
import torch
import torchvision
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform

import rcnnlib
from rcnnlib.datasets.coco import scrapbook, wild
from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.transforms import collate, resize
from rcnnlib.engine.interop import (
    PARTS,
    from_torchvision,
    parts_table,
    scales_and_ratios,
    to_our_weights,
    to_their_weights,
    to_torchvision,
)
from rcnnlib.models.backbone import backbone
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.weights import load_weights
from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.nms import BLOCK

TRAINED = sorted((data_dir() / "weights").glob("faster_rcnn*.safetensors"))
OPTIONS = {"ratios": (0.5, 1.0, 2.5), "rpn": {"before": 200, "after": 100}}


@cache
def photos():
    """Four photos of Wild, lying and upright, whose sides are mostly no multiples of 16, and two scenes of Scrapbook.

    None has a plain background: there anchors have the same score, and in a tie each library may choose another.
    """
    examples = [wild()[index] for index in (3, 24, 37, 57)]
    return [*(resize(example, 320) for example in examples), scrapbook("test")[2], scrapbook("test")[5]]


def as_batch(examples):
    return collate(examples, seed=0, epoch=0)


@torch.no_grad()
def make(trunk="squeezenet", classes=5, *, seed=0, head=None, **options):
    """Return a detector with random weights, scaled so that its scores lie on both sides of the thresholds."""
    torch.manual_seed(seed)
    model = FasterRCNN(backbone(trunk, pretrained=trunk == "squeezenet"), classes, head=head, **(OPTIONS | options))
    batch, layers, predict = as_batch(photos()[:2]), model.rpn.head, model.head.predict
    for layer in (layers.scores, layers.deltas, predict.scores, predict.deltas):
        layer.bias.normal_(std=0.1)
    layers.scores.weight /= model.stages(batch.images, batch.sizes).rpn_scores.std()
    layers.deltas.weight *= 0.2 / model.stages(batch.images, batch.sizes).rpn_deltas.std()
    predict.scores.weight /= model.stages(batch.images, batch.sizes).class_scores.std()
    predict.scores.bias[0] += 3  # mostly background
    predict.deltas.weight /= model.stages(batch.images, batch.sizes).box_deltas.std()
    return model.eval()


@cache
def made(pooling="align"):
    """Return the detector that several tests share, and torchvision's copy; neither is to be changed."""
    model = make(head={"pooling": pooling})
    return model, to_torchvision(model)


@torch.no_grad()
def ours_of(model, examples):
    """Return our detections of a batch as torchvision returns its own: a dict for each picture."""
    batch = as_batch(examples)
    found = model(batch.images, batch.sizes, rounds=BLOCK)
    names = ("boxes", "scores", "labels")
    return [{name: getattr(found, name)[i][found.valid[i]] for name in names} for i in range(len(examples))]


@torch.no_grad()
def theirs_of(model, examples):
    return model([example.image for example in examples])


def same(ours, theirs):
    """Say whether each detection has its partner: same class, score equal to 1e-4, box to a thousandth of a pixel.

    A float32 near 320 is good to 3e-5, and boxes were seen to differ by ten times that. The order is not compared:
    scores that differ in the seventh digit may change places.
    """
    if len(ours["boxes"]) != len(theirs["boxes"]):
        return False
    if len(ours["boxes"]) == 0:
        return True
    score = (ours["scores"][:, None] - theirs["scores"]).abs() / 1e-4
    box = (ours["boxes"][:, None] - theirs["boxes"]).abs().amax(-1) / 1e-3
    other = (ours["labels"][:, None] != theirs["labels"]).float()
    distance = torch.maximum(score, box) + other
    return len(distance.argmin(dim=1).unique()) == len(distance) and bool((distance.amin(dim=1) < 1).all())


def all_same(ours, theirs, examples=None):
    """Say whether both find the same on each picture, one at a time."""
    pictures = [[example] for example in examples or photos()]
    return all(same(ours_of(ours, picture)[0], theirs_of(theirs, picture)[0]) for picture in pictures)


# --- the same detections


@pytest.mark.parametrize("pooling", ["align", "pool"])
def test_detections_are_torchvisions(pooling):
    model, theirs = made(pooling)
    assert all_same(model, theirs)
    counts = [len(found["boxes"]) for found in ours_of(model, photos())]
    assert all(0 < count < 100 for count in counts)  # so the threshold decided, not the number allowed
    assert len(torch.cat([found["labels"] for found in ours_of(model, photos())]).unique()) > 2


def test_batches():
    model, theirs = made()
    ours, alone = ours_of(model, photos()), [theirs_of(theirs, [photo])[0] for photo in photos()]
    assert all(same(one, other) for one, other in zip(ours, alone, strict=True))
    scenes = theirs_of(theirs, photos()[4:])  # of one size
    assert all(same(one, other) for one, other in zip(ours[4:], scenes, strict=True))
    unequal = theirs_of(theirs, photos())  # the exception that the module's header tells of
    assert not all(same(one, other) for one, other in zip(ours, unequal, strict=True))


@pytest.mark.parametrize(
    ("trunk", "classes", "options"),
    [
        ("resnet18", 1, {"scales": (50.4,), "rpn": {"channels": 64, "before": 200, "after": 30}}),
        ("tiny", 3, {"scales": (24, 48), "ratios": (1.0,), "head": {"grid": 5, "detections": 7, "reduced": 32}}),
        ("squeezenet", 2, {"head": {"score_threshold": 0.2, "nms_threshold": 0.3, "width": 64}}),
        ("squeezenet", 2, {"head": {"score_threshold": 1.0}}),  # nothing is found
    ],
)
def test_options_and_trunks_come_along(trunk, classes, options):
    model, examples = make(trunk, classes, **options), photos()[:2]
    theirs = to_torchvision(model)
    assert all_same(model, theirs, examples)
    assert all_same(from_torchvision(theirs), theirs, examples)


def test_proposals_of_less_than_a_pixel_are_left_out():
    model, examples = make(), photos()[:1]
    with torch.no_grad():
        model.rpn.head.deltas.bias[2::4] -= 4  # widths of 28 to 226 become 0.5 to 4
    theirs = to_torchvision(model)
    assert all_same(model, theirs, examples)
    theirs.rpn.min_size = 1e-3  # torchvision's own
    assert not all_same(model, theirs, examples)


@pytest.mark.skipif(not TRAINED, reason="no trained Faster R-CNN in data/weights")
@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_trained_detectors_find_the_same(path):
    model = load_weights(path).model
    assert all_same(model, to_torchvision(model))


def corner(theirs):
    anchors = theirs.rpn.anchor_generator
    anchors.grid_anchors = lambda sizes, strides: AnchorGenerator.grid_anchors(anchors, sizes, strides)


def rounded(theirs):
    anchors = theirs.rpn.anchor_generator
    anchors.cell_anchors = [boxes.round() for boxes in anchors.cell_anchors]


def half_a_cell_off(theirs):
    pool = theirs.roi_heads.box_roi_pool
    pool.forward = lambda x, boxes, shapes: torchvision.ops.roi_align(
        pool.reduce(x["0"]).relu(), boxes, 7, 1 / 16, sampling_ratio=2
    )


def resized(theirs):
    theirs.transform = GeneralizedRCNNTransform(256, 400, [0.0] * 3, [1.0] * 3, size_divisible=16)


def attribute(part, name, value):
    """Return what changes one attribute of a part of torchvision's detector."""
    return lambda theirs: setattr(theirs.get_submodule(part), name, value)


DIFFERENCES = {
    "anchors in the corner": corner,
    "anchors rounded": rounded,
    "resizing": resized,
    "mean": attribute("transform", "image_mean", [0.485, 0.456, 0.406]),
    "padding to 32": attribute("transform", "size_divisible", 32),
    "RPN deltas": lambda theirs: setattr(theirs.rpn.box_coder, "weights", (10.0, 10.0, 5.0, 5.0)),
    "RPN NMS": attribute("rpn", "nms_thresh", 0.65),
    "small proposals": attribute("rpn", "min_size", 60.0),
    "top-N": attribute("rpn", "_pre_nms_top_n", {"testing": 90}),
    "top-R": attribute("rpn", "_post_nms_top_n", {"testing": 80}),
    "half a cell off": half_a_cell_off,
    "max pooling": attribute("roi_heads.box_roi_pool", "pooling", "pool"),
    "one sample": attribute("roi_heads.box_roi_pool", "sampling_ratio", 1),
    "head deltas": lambda theirs: setattr(theirs.roi_heads.box_coder, "weights", (1.0, 1.0, 1.0, 1.0)),
    "score threshold": attribute("roi_heads", "score_thresh", 0.055),
    "head NMS": attribute("roi_heads", "nms_thresh", 0.45),
    "detections": attribute("roi_heads", "detections_per_img", 10),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_would_be_seen(name):
    model, photo = made()[0], photos()[3]
    theirs = to_torchvision(model)
    DIFFERENCES[name](theirs)
    assert not all_same(model, theirs, [photo])


# --- parts


def test_two_logits_become_their_difference_and_back():
    # one anchor, one channel: background 2, object 5 -> 3 -> background 0, object 3
    weights = {
        "rpn.head.scores.weight": torch.tensor([2.0, 5.0]).view(2, 1, 1, 1),
        "rpn.head.scores.bias": torch.tensor([0.5, -1.0]),
        "head.predict.deltas.weight": torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
        "head.predict.deltas.bias": torch.tensor([5.0, 6.0, 7.0, 8.0]),
    }
    theirs = to_their_weights(weights)
    assert theirs["rpn.head.cls_logits.weight"].flatten().tolist() == [3.0]
    assert theirs["rpn.head.cls_logits.bias"].tolist() == [-1.5]
    assert theirs["roi_heads.box_predictor.bbox_pred.weight"].flatten().tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
    assert theirs["roi_heads.box_predictor.bbox_pred.bias"].tolist() == [0, 0, 0, 0, 5, 6, 7, 8]
    back = to_our_weights(theirs)
    assert back["rpn.head.scores.weight"].flatten().tolist() == [0.0, 3.0]
    assert back["rpn.head.scores.bias"].tolist() == [0.0, -1.5]
    assert torch.equal(back["head.predict.deltas.weight"], weights["head.predict.deltas.weight"])


@pytest.mark.parametrize(
    ("scales", "ratios"),
    [((40, 80, 160), (0.5, 1.0, 2.0)), ((50.4, 63.5), (1 / 3,)), ((16,), (1.0, 3.0)), ((1.5, 1000), (0.1, 0.9, 7.0))],
)
def test_scales_and_ratios_are_found_again(scales, ratios):
    found = scales_and_ratios(cell_anchors(scales, ratios))
    assert [len(values) for values in found] == [len(scales), len(ratios)]
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(scales, dtype=torch.float32))
    torch.testing.assert_close(torch.tensor(found[1]), torch.tensor(ratios))


def test_anchors_are_ours():
    model, theirs = made()
    images = torchvision.models.detection.image_list.ImageList(torch.zeros(1, 3, 240, 320), [(240, 320)])
    (anchors,) = theirs.rpn.anchor_generator(images, [torch.zeros(1, 512, 15, 20)])
    torch.testing.assert_close(anchors, anchor_grid(model.rpn.base, (15, 20), 16), rtol=0, atol=5e-5)


# --- there and back


def test_round_trip():
    options = {"grid": 5, "pooling": "pool", "score_threshold": 0.1, "nms_threshold": 0.4, "detections": 50}
    rpn = {"before": 120, "after": 30, "nms_threshold": 0.6}
    model = make(rpn=rpn, head=options | {"samples": 32, "reduced": 16, "width": 24})
    back = from_torchvision(to_torchvision(model))
    ours, again = model.state_dict(), back.state_dict()
    assert ours.keys() == again.keys()
    changed = {name for name in ours if not torch.equal(ours[name], again[name])}
    assert changed == {"rpn.head.scores.weight", "rpn.head.scores.bias"}  # equal but for a shift of both logits
    batch = as_batch(photos()[:1])
    first, second = (detector.stages(batch.images, batch.sizes).rpn_scores.softmax(-1) for detector in (model, back))
    torch.testing.assert_close(first, second)
    theirs, once_more = to_torchvision(model).state_dict(), to_torchvision(back).state_dict()
    assert all(torch.equal(theirs[name], once_more[name]) for name in theirs)
    torch.testing.assert_close(back.rpn.base, model.rpn.base)
    assert {name: getattr(back.rpn, name) for name in rpn} == rpn
    assert {name: getattr(back.head, name) for name in options} == options
    assert back.head.samples == 32
    assert not any(module.training for module in back.modules())


def test_training_in_torchvision_and_taking_it_home():
    model = make()
    model.trunk.freeze(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    theirs = to_torchvision(model).train()
    targets = [{"boxes": example.boxes, "labels": example.labels} for example in photos()[:2]]
    assert theirs.rpn.fg_bg_sampler.batch_size_per_image == 256
    assert theirs.roi_heads.fg_bg_sampler.batch_size_per_image == 64
    losses = theirs([example.image for example in photos()[:2]], targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    silent = {name for name, weight in theirs.named_parameters() if weight.grad is None}
    frozen = {name for name, weight in theirs.named_parameters() if not weight.requires_grad}
    assert silent == frozen
    assert all(name.startswith("backbone.") for name in frozen)
    assert frozen
    torch.optim.SGD(theirs.parameters(), lr=1e-3).step()
    home = from_torchvision(theirs)
    assert home.training
    assert home.trunk is not theirs.backbone
    assert all_same(home.eval(), theirs.eval(), photos()[:2])
    assert not all_same(home, made()[1], photos()[:2])  # the step did something
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())  # a copy


@pytest.mark.parametrize(
    ("build", "lacks"),
    [
        (
            lambda: torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
                weights=None, weights_backbone=None
            ),
            ["without a pyramid (backbone is BackboneWithFPN)", "not rounded", "reduction", "not resized"],
        ),
        (
            lambda: torchvision.models.detection.FasterRCNN(
                backbone("tiny"), 4, rpn_anchor_generator=AnchorGenerator(((32,),), ((1.0,),))
            ),
            ["not rounded (rpn.anchor_generator is AnchorGenerator)", "reduction", "not resized"],
        ),
    ],
    ids=["pyramid", "other parts"],
)
def test_other_detectors_of_torchvision_are_refused(build, lacks):
    with pytest.raises(ValueError, match="to_torchvision") as error:
        from_torchvision(build())
    assert all(part in str(error.value) for part in lacks)
    assert ("pyramid" in str(error.value)) == ("pyramid" in lacks[0])


# --- names


def names_in(package):
    """Return all names of a package's modules."""
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    modules = [name for name in modules if "onnx" not in name and "._" not in name.replace("._utils", "")]
    return {name: value for module in modules for name, value in vars(importlib.import_module(module)).items()}


def test_names_in_the_table_exist():
    ours = {}
    for folder in ("ops", "datasets", "models"):
        ours |= names_in(importlib.import_module(f"rcnnlib.{folder}"))
    ours |= vars(rcnnlib.types)
    theirs = names_in(torchvision.models) | names_in(torchvision.ops)
    for part in PARTS:
        name, _, method = part.ours.partition(".")
        assert name in ours, part
        assert not method or hasattr(ours[name], method), part
        assert part.torchvision in theirs or part.torchvision == "-", part
        assert all(part), part


def test_table_is_printed_in_columns():
    lines = parts_table().split("\n")
    assert len(lines) == len(PARTS) + 1
    assert max(map(len, lines)) < 160
    for line, part in zip(lines[1:], PARTS, strict=True):
        assert line.split() == list(part)
        assert line.index(part.mmdetection, lines[0].index("mmdetection")) == lines[0].index("mmdetection")
