"""The gradient that approximate joint training leaves out: of the head's loss for the box of a proposal (lesson 14).

Faster R-CNN 3.2 (iii): RoI pooling takes features *and* boxes, so an exact training would follow the boxes back to the
RPN, too. Our `roi_align` gives no gradient for boxes; `align_with_boxes` has the same values and does.
Leaves out: the choice of proposals (top-N, NMS), which has no gradient in any training, and in the explorer the clip.

Shapes:
    C, h, w  channels and cells of the map      S  regions drawn for a step      p  side of the grid
    A  anchors      V  values of a delta that are tried
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, relu

from rcnnlib.datasets.transforms import Example, collate
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.rpn import BETA, N_REG
from rcnnlib.ops.box_coder import HEAD_STD, decode, encode
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import BLOCK
from rcnnlib.types import Batch, RoISamples
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

DELTAS = ("t_x", "t_y", "t_w", "t_h")
TERMS = ("class term", "box term, target fixed", "box term, target moves")
REACH, TRIED = 0.5, 41  # the curve: so far to both sides, at so many places
STEP = 0.001  # of the difference quotient


def align_with_boxes(
    features: Float[Tensor, "C h w"], boxes: Float[Tensor, "S 4"], grid: int = 7, *, stride: int = 16, samples: int = 2
) -> Float[Tensor, "S C p p"]:
    """RoI align, with a gradient for the boxes too: every sample is a point of the map that moves with its box."""
    height, width = features.shape[-2:]
    part = (torch.arange(grid * samples) + 0.5) / (grid * samples)  # along a side, from 0 to 1
    x = (boxes[:, 0, None] + part * (boxes[:, 2] - boxes[:, 0])[:, None]) / stride  # (S, 14), in cells
    y = (boxes[:, 1, None] + part * (boxes[:, 3] - boxes[:, 1])[:, None]) / stride
    shape = (len(boxes), grid * samples, grid * samples)
    points = torch.stack((x[:, None].expand(shape) * 2 / width, y[:, :, None].expand(shape) * 2 / height), dim=-1)
    maps = features.expand(len(boxes), *features.shape)
    return avg_pool2d(grid_sample(maps, points - 1, padding_mode="border", align_corners=False), samples)


class Step(NamedTuple):
    """One training step on one picture, with nothing detached: what gradients can be asked of."""

    batch: Batch
    features: Float[Tensor, "1 C h w"]
    anchors: Float[Tensor, "A 4"]
    deltas: Float[Tensor, "1 A 4"]
    boxes: Float[Tensor, "S 4"]  # the drawn regions; those of the RPN hang on ``deltas``
    index: Int[Tensor, " S"]  # the anchor of each; -1 for the objects that were added
    samples: RoISamples
    terms: dict[str, Tensor]  # the four losses; the last one also with targets that follow their boxes


def exact_step(model: FasterRCNN, example: Example) -> Step:
    """Do what `FasterRCNN.losses` does, but keep the boxes of the drawn proposals on the graph."""
    batch = collate([example], seed=0, epoch=0)
    features = model.trunk(batch.images, batch.sizes)
    anchors, scores, deltas = model.rpn(features)
    rpn_class, rpn_box = model.rpn.losses(anchors, scores, deltas, batch)
    found = model.rpn.propose(anchors, scores, deltas, batch.sizes, rounds=BLOCK)
    samples = model.head.sample(found.boxes, found.valid, batch, len(anchors))
    listed = torch.cat((found.boxes, batch.boxes), dim=1)[0]  # as the sampler lists them
    row = (samples.boxes[0][:, None] == listed).all(dim=-1).float().argmax(dim=1)
    index = torch.cat((found.index[0], torch.full((batch.boxes.shape[1],), -1)))[row]
    pooled = align_with_boxes(relu(model.head.reduce(features))[0], listed[row], stride=model.head.stride)
    told = model.head(pooled[None])
    head_class, head_box = model.head.losses(*told, samples)
    truth = decode(samples.targets, samples.boxes, std=HEAD_STD)
    moving = samples._replace(targets=encode(truth, listed[row][None], std=HEAD_STD))
    terms = {"RPN class": rpn_class, "RPN box": rpn_box, "head class": head_class, "head box": head_box}
    terms["head box, target moves"] = model.head.losses(*told, moving)[1]
    return Step(batch, features, anchors, deltas, listed[row], index, samples, terms)


class Chosen(NamedTuple):
    """One drawn positive proposal: its anchor, its deltas, and what the RPN's own box term wants of them."""

    anchor: Float[Tensor, "1 4"]
    deltas: Float[Tensor, "1 4"]
    truth: Float[Tensor, "1 4"]
    label: int
    target: Float[Tensor, " 4"] | None  # t* of its anchor; None where that is no drawn positive, so has no box term


class Scene(NamedTuple):
    """A picture, its reduced map, and the proposals that can be chosen."""

    example: Example
    reduced: Float[Tensor, "C h w"]
    chosen: list[Chosen]


def prepare(model: FasterRCNN, example: Example) -> Scene:
    """Take one step, and keep its positive proposals."""
    step = exact_step(model, example)
    drawn = torch.autograd.grad(step.terms["RPN box"], step.deltas)[0][0].abs().sum(dim=-1) > 0
    objects = model.rpn.match(step.anchors, step.batch).matches[0]
    truth = decode(step.samples.targets[0], step.samples.boxes[0], std=HEAD_STD)
    deltas, chosen = step.deltas[0].detach(), []
    for row in ((step.samples.labels[0] > 0) & (step.index >= 0)).nonzero()[:, 0].tolist():
        place, label = step.index[row], int(step.samples.labels[0, row])
        anchor, target = step.anchors[place][None], None
        if drawn[place]:
            target = encode(step.batch.boxes[0, objects[place]][None], anchor)[0]
        chosen.append(Chosen(anchor, deltas[place][None], truth[row][None], label, target))
    chosen.sort(key=lambda one: one.target is None)  # first those about which the RPN has its own opinion
    return Scene(example, relu(model.head.reduce(step.features))[0].detach(), chosen)


def head_terms(model: FasterRCNN, scene: Scene, one: Chosen, boxes: Float[Tensor, "V 4"]) -> Float[Tensor, "V 3"]:
    """Return the three terms of the head for one proposal lying at ``boxes``, as they count in a step."""
    scores, deltas = model.head(align_with_boxes(scene.reduced, boxes, stride=model.head.stride)[None])
    naming = -scores[0].log_softmax(-1)[:, one.label]
    still = encode(one.truth, decode(one.deltas, one.anchor), std=HEAD_STD)
    moving = encode(one.truth.expand_as(boxes), boxes, std=HEAD_STD)
    told = deltas[0, :, one.label - 1]
    errors = [
        torch.nn.functional.smooth_l1_loss(told, t.expand_as(told), reduction="none").sum(-1) for t in (still, moving)
    ]
    return torch.stack((naming, *errors), dim=-1) / model.head.samples


def own_slope(model: FasterRCNN, delta: Tensor, target: Tensor) -> float:
    """Return what the RPN's own box term says about a delta of a drawn positive: the slope of smooth L1, weighed."""
    return model.rpn.box_weight / N_REG * float(((delta - target) / BETA).clamp(-1, 1))


def missing_gradient(
    shift: float, proposal: int, delta: str, term: str, picture: str, *, scenes: Mapping[str, Scene], model: FasterRCNN
) -> dict[str, Any]:
    """Return the head's loss if one delta of the RPN is off by ``shift``, its slope by autograd and by differences."""
    scene = scenes[picture]
    number = min(proposal, len(scene.chosen) - 1)
    one = scene.chosen[number]
    place, which = DELTAS.index(delta), TERMS.index(term)
    off = torch.zeros(1, 4)
    off[0, place] = shift
    moved = (one.deltas + off).requires_grad_()
    box = decode(moved, one.anchor)
    loss = head_terms(model, scene, one, box)[0, which]
    (slope,) = torch.autograd.grad(loss, moved)
    tried = one.deltas.repeat(TRIED + 2, 1)
    tried[:TRIED, place] += torch.linspace(-REACH, REACH, TRIED)
    tried[TRIED:, place] += torch.tensor([shift - STEP, shift + STEP])
    with torch.no_grad():
        curve = head_terms(model, scene, one, decode(tried, one.anchor.expand_as(tried)))[:, which]
    return {
        "which": f"proposal {number} of 0 to {len(scene.chosen) - 1}",
        "IoU": box_iou(box.detach(), one.truth).item(),
        "loss": loss.item(),
        "slope": slope[0, place].item(),
        "by differences": ((curve[-1] - curve[-2]) / (2 * STEP)).item(),
        "own": None if one.target is None else own_slope(model, moved.detach()[0, place], one.target[place]),
        "wanted": float(encode(one.truth, one.anchor)[0, place] - one.deltas[0, place]),
        "curve": curve[:TRIED],
        "box": box.detach(),
        "truth": one.truth,
    }


class MissingGradient(Explorer):
    """A picture with one proposal; beside it the head's loss over one delta of the RPN, with its slope."""

    from_canvas = ()

    def __init__(self, model: FasterRCNN, examples: Mapping[str, Example]) -> None:
        """Take one step on each of ``examples``, which have names."""
        self.scenes, self.shown = {name: prepare(model, one) for name, one in examples.items()}, ""
        self.compute = partial(missing_gradient, scenes=self.scenes, model=model)
        controls = {
            "shift": slider("delta off by", 0.0, -REACH, REACH, 0.02, slow=True),
            "proposal": slider("proposal", 0, 0, max(len(s.chosen) for s in self.scenes.values()) - 1, 1, slow=True),
            "delta": choice("delta", DELTAS),
            "term": choice("loss of the head", TERMS),
            "picture": choice("picture", list(examples)),
        }
        canvas = Canvas(next(iter(examples.values())).image, alt="", display_width=430)
        chart = Chart(370, 320)
        chart.axes.set(xlim=(-REACH, REACH), xlabel="delta off by", ylabel="the head's loss, highest = 1")
        chart.axes.set(ylim=(-0.05, 1.1), title="line: loss; thick: slope; dotted: the object")
        (self.loss_curve,) = chart.axes.plot([], [], color=LINES[0])
        (self.tangent,) = chart.axes.plot([], [], color="#D55E00", linewidth=4, linestyle="-")
        (self.goal,) = chart.axes.plot([], [], color="#009E73", linestyle=":")
        (self.dot,) = chart.axes.plot([], [], "o", color="black", markersize=8)
        chart.animate(self.loss_curve, self.tangent, self.goal, self.dot)
        super().__init__(controls, canvas=canvas, chart=chart, title="The missing gradient")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw proposal and object, the curve and its slope."""
        name, shift = self.state["picture"], self.state["shift"]
        example = self.scenes[name].example
        boxes = torch.cat((numbers["truth"], numbers["box"]))
        self.canvas.show(None if name == self.shown else example.image, boxes, kinds=["ground_truth", "proposal"])
        self.canvas.alt, self.shown = f"{name}: a proposal and its object", name
        most = float(numbers["curve"].max().clamp(min=1e-9))
        self.loss_curve.set_data(torch.linspace(-REACH, REACH, TRIED).numpy(), (numbers["curve"] / most).numpy())
        here, slope = numbers["loss"] / most, numbers["slope"] / most
        self.tangent.set_data([shift - 0.1, shift + 0.1], [here - 0.1 * slope, here + 0.1 * slope])
        self.goal.set_data([numbers["wanted"]] * 2, [-0.05, 1.1])
        self.dot.set_data([shift], [here])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the loss, both slopes, and what the RPN's own loss says about this delta."""
        own = "not drawn, no gradient" if numbers["own"] is None else f"{numbers['own']:+.4f}"
        return (
            f"{numbers['which']} · IoU {numbers['IoU']:.2f} · the head's loss {numbers['loss']:.4f}\nslope by autograd "
            f"{numbers['slope']:+.4f}, by differences {numbers['by differences']:+.4f} · the RPN's own: {own}"
        )
