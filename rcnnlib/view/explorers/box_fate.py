"""The whole fate of one anchor: label, draw, score, refined box, NMS, rank, and what the head makes of it (lesson 13).

Everything about a picture is computed once by `examine`; a move only looks it up.
Leaves out: the NMS of the head between different proposals round by round (lesson 08).

Shapes:
    A  anchors    G  ground truths    R  proposals    K  classes
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rcnnlib.checks.proposals import suppressed_by
from rcnnlib.datasets.transforms import Example, collate
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.rpn import MIN_SIDE, SAMPLES
from rcnnlib.ops.box_coder import HEAD_STD, decode
from rcnnlib.ops.boxes import box_iou, clip_boxes, is_inside, is_large
from rcnnlib.ops.matcher import Match
from rcnnlib.ops.nms import BLOCK
from rcnnlib.ops.sampler import sample, take_noise
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import Kind

STATUS = {1: "positive", 0: "negative", -1: "ignored"}
EPOCHS = 10
CLICKABLE = 300  # a click looks among the boxes with the best scores


class Life(NamedTuple):
    """What happens to all anchors of a picture; ``rank`` is the place by objectness, ``kept`` the place after NMS."""

    image: Any
    truth: Float[Tensor, "G 4"]
    anchors: Float[Tensor, "A 4"]
    boxes: Float[Tensor, "A 4"]  # decoded and clipped
    objectness: Float[Tensor, " A"]
    order: Int[Tensor, " A"]  # anchors by falling objectness
    match: Match  # of each anchor
    drawn: Bool[Tensor, "E A"]  # by the mini-batch of each epoch
    before: int  # the N best go into NMS
    large: Bool[Tensor, " A"]
    striker: Int[Tensor, " A"]  # the anchor that struck it; -1 for none
    kept: Int[Tensor, " A"]  # its place among the survivors; -1 for none
    verdict: list[str]  # of the head, for each proposal that it saw


@torch.no_grad()
def examine(model: FasterRCNN, example: Example, names: Sequence[str]) -> Life:
    """Follow all anchors of one picture; ``names`` are those of the classes 1..K."""
    batches = [collate([example], seed=0, epoch=epoch) for epoch in range(EPOCHS)]
    batch, rpn = batches[0], model.rpn
    stages = model.stages(batch.images, batch.sizes, rounds=BLOCK)
    objectness = stages.rpn_scores[0].softmax(-1)[:, 1]
    boxes = clip_boxes(decode(stages.rpn_deltas[0], stages.anchors), batch.sizes[0])
    large, order = is_large(boxes, MIN_SIDE), objectness.argsort(descending=True, stable=True)
    rows = order[: rpn.before][large[order[: rpn.before]]]
    striker, kept = torch.full((2, len(boxes)), -1)
    by = suppressed_by(boxes[rows], objectness[rows], rpn.nms_threshold)
    striker[rows] = torch.where(by >= 0, rows[by], -1)
    kept[rows[by < 0]] = torch.arange(int((by < 0).sum()))
    match = rpn.match(stages.anchors, batch)
    drawn = torch.zeros(EPOCHS, len(boxes), dtype=torch.bool)
    for epoch, one in enumerate(batches):
        noise = take_noise(one.noise, 0, len(boxes))
        found = sample(match, one.valid.long(), noise, size=SAMPLES, positive_fraction=0.5)
        drawn[epoch, found.index[found.labels >= 0]] = True
    match = Match(*(part[0] for part in match))
    return Life(
        *(example.image, example.boxes, stages.anchors, boxes, objectness, order, match, drawn, rpn.before, large),
        *(striker, kept, verdicts(model, stages, batch.sizes[0], names)),
    )


def verdicts(model: FasterRCNN, stages: Any, size: Float[Tensor, " 2"], names: Sequence[str]) -> list[str]:
    """Say of each proposal which class the head gives it, and whether a detection comes of it."""
    head, real = model.head, int(stages.proposals.valid[0].sum())
    probability = stages.class_scores[0, :real].softmax(-1)
    said = [""] * real
    best = probability[:, 1:].argmax(dim=1) + 1
    for label, name in enumerate(names, start=1):
        moved = decode(stages.box_deltas[0, :real, label - 1], stages.proposals.boxes[0, :real], std=HEAD_STD)
        moved, score = clip_boxes(moved, size), probability[:, label]
        rows = ((score > head.score_threshold) & is_large(moved, MIN_SIDE)).nonzero()[:, 0]
        by = dict(zip(rows.tolist(), suppressed_by(moved[rows], score[rows], head.nms_threshold).tolist(), strict=True))
        for row in (best == label).nonzero()[:, 0].tolist():
            fate = "below the score threshold" if row not in by else "a DETECTION" if by[row] < 0 else ""
            fate = fate or f"struck by proposal {int(rows[by[row]])} in the head's NMS"
            background = probability[row, 0].item()
            said[row] = f"{name} {score[row]:.2f} (background {background:.2f}): {fate}"
    return said


def box_at(point: Sequence[float], life: Life) -> int:
    """Return the rank of the box that a click means: of the best boxes around the point, the one centred nearest."""
    boxes, spot = life.boxes[life.order[:CLICKABLE]], torch.tensor(point)
    around = (boxes[:, :2] <= spot).all(dim=1) & (boxes[:, 2:] >= spot).all(dim=1)
    distance = ((boxes[:, :2] + boxes[:, 2:]) / 2 - spot).norm(dim=1)
    return int(distance.where(around, distance + 1e4).argmin())


def box_fate(rank: int, epoch: int, picture: str, *, lives: Mapping[str, Life]) -> dict[str, Any]:
    """Return the fate of the anchor with this rank by objectness (0 is the best)."""
    life = lives[picture]
    row = int(life.order[rank])
    striker, kept = int(life.striker[row]), int(life.kept[row])
    if rank >= life.before:
        nms = f"not among the {life.before} best"
    elif not life.large[row]:
        nms = "outside the picture: nothing is left after the clip"
    elif striker >= 0:
        iou = box_iou(life.boxes[row][None], life.boxes[striker][None]).item()
        nms = f"struck by anchor {striker} (rank {int((life.order == striker).nonzero())}), IoU {iou:.2f}"
    else:
        nms = f"survives as number {kept}"
    seen = 0 <= kept < len(life.verdict)
    final = life.verdict[kept] if seen else "too late: R are enough" if kept >= 0 else "never sees it"
    iou, thing = box_iou(life.anchors[row][None], life.truth)[0].max(dim=0)
    status = STATUS[int(life.match.status[row])]
    if not is_inside(life.anchors[row][None], torch.tensor(life.image.shape[-2:]).float()).all():
        status = "ignored (crosses the border)"
    return {
        "anchor": row,
        "label": f"{status}, IoU {iou:.2f} with object {int(thing)}",
        "drawn": "yes" if life.drawn[epoch, row] else "no",
        "objectness": f"{life.objectness[row]:.2f}, rank {rank} of {len(life.order)}",
        "refined box": [round(number) for number in life.boxes[row].tolist()],
        "NMS": nms,
        "head": final,
        "row": row,
        "striker": striker,
    }


class BoxFate(Explorer):
    """A picture: click a box and read what becomes of it."""

    from_canvas = ()

    def __init__(self, lives: Mapping[str, Life], alt: str) -> None:
        """Show the pictures of ``lives`` by name; ``alt`` says what they show."""
        self.lives, self.shown = dict(lives), next(iter(lives))
        self.compute = partial(box_fate, lives=self.lives)
        anchors = min(len(life.anchors) for life in self.lives.values())
        controls = {
            "rank": slider("rank by score", 0, 0, anchors - 1, 1),
            "epoch": slider("epoch (the draw)", 0, 0, EPOCHS - 1, 1),
            "picture": choice("picture", list(lives)),
        }
        canvas = Canvas(self.lives[self.shown].image, alt=alt, display_width=380)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(), title="The fate of a box")
        canvas.observe(self._go_to_click, "clicked")

    def _go_to_click(self, change: Any) -> None:
        if change["new"]:
            self.set(rank=box_at(change["new"], self.lives[self.controls["picture"].value]))

    def _make_chart(self) -> Chart:
        """A line for each station of its life."""
        chart = Chart(415, 290)
        axes = chart.axes
        axes.set(xlim=(0, 1), ylim=(7, 0))
        axes.set_axis_off()
        names = ("anchor", "label", "drawn", "objectness", "refined box", "NMS", "head")
        self.words = {}
        for row, name in enumerate(names):
            axes.text(0, row + 0.5, name, va="center", weight="bold", fontsize=10)
            self.words[name] = axes.text(0.24, row + 0.5, "", va="center", fontsize=10)
        chart.animate(*self.words.values())
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show anchor, refined box, the winner that struck it and the objects; write its life."""
        state = self.state
        life = self.lives[state["picture"]]
        image = None if state["picture"] == self.shown else life.image
        self.shown = state["picture"]
        row, striker = numbers["row"], numbers["striker"]
        count = len(life.truth)
        boxes = [*life.truth, life.anchors[row], life.boxes[row]]
        kinds: list[Kind] = [*["ground_truth"] * count, "anchor", "proposal"]
        labels = [*(f"object {number}" for number in range(count)), "", ""]
        if striker >= 0:
            boxes, kinds, labels = [*boxes, life.boxes[striker]], [*kinds, "detection"], [*labels, "struck it"]
        self.canvas.show(image, torch.stack(boxes), kinds=kinds, labels=labels)
        for name, text in self.words.items():
            text.set_text(str(numbers[name]).replace("): ", "):\n"))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say all but the two rows."""
        return super().tell({name: numbers[name] for name in list(numbers)[:7]})
