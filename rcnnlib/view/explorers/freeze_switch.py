"""Step 3 of alternating training with and without a frozen trunk: does the head of step 2 still fit? (lesson 14)

What the head finds was computed once for every snapshot, always from the same proposals: only the trunk differs.
Leaves out: the training of the RPN, which stands in the lesson.

Shapes:
    R  proposals of a picture      D  detections
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from rcnnlib.datasets.transforms import Example, collate
from rcnnlib.engine.evaluation import to_records
from rcnnlib.engine.metrics import Record, error_kinds
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.ops.nms import BLOCK
from rcnnlib.types import Proposals
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, name_line

VERSIONS = ("frozen", "learns (bug)")
Snapshots = Mapping[str, Mapping[int, Sequence[Record]]]  # version -> steps -> a record for each picture


@torch.inference_mode()
def propose_each(model: FasterRCNN, pictures: Sequence[Example]) -> list[Proposals]:
    """Return the proposals of a finished detector for each picture."""
    batches = [collate([one], seed=0, epoch=0, noise_length=1) for one in pictures]
    maps = [model.rpn(model.trunk(one.images, one.sizes)) for one in batches]
    return [model.rpn.propose(*told, one.sizes, rounds=BLOCK) for told, one in zip(maps, batches, strict=True)]


@torch.inference_mode()
def judge(
    trunk: nn.Module, head: nn.Module, pictures: Sequence[Example], proposals: Sequence[Proposals]
) -> list[Record]:
    """Return what a head finds in given proposals on the maps of some trunk."""
    records = []
    for one, given in zip(pictures, proposals, strict=True):
        batch = collate([one], seed=0, epoch=0, noise_length=1)
        told = head(head.pool(trunk(batch.images, batch.sizes), given.boxes, batch.sizes))
        found = head.detect(given.boxes, given.valid, *told, batch.sizes, rounds=BLOCK)
        records += to_records([one], found)
    return records


def count_right(records: Sequence[Record], score: float) -> int:
    """Return how many objects are found, of the right class and with IoU 0.5, by detections from ``score`` on."""
    classes = max(int(record.truth_labels.max()) for record in records if len(record.truth))
    return error_kinds(records, classes, score_threshold=score).correct


def freeze_switch(snapshot: int, version: str, score: float, picture: int, *, snapshots: Snapshots) -> dict[str, Any]:
    """Return what the head finds in one picture and in all, after some steps of the RPN's training."""
    steps = list(snapshots[version])[snapshot]
    found = snapshots[version][steps]
    good = found[picture].scores >= score
    return {
        "steps": steps,
        "detections here": int(good.sum()),
        "right, all pictures": count_right(found, score),
        "objects": sum(len(record.truth) for record in found),
        "curves": {name: [count_right(each, score) for each in told.values()] for name, told in snapshots.items()},
        "record": found[picture],
        "good": good,
    }


class FreezeSwitch(Explorer):
    """A picture with what the head finds; beside it the right detections in all pictures over the steps."""

    from_canvas = ()

    def __init__(self, snapshots: Snapshots, images: Sequence[Any], names: Sequence[str], shown: Sequence[int]) -> None:
        """Take the records of both versions; ``shown`` are the pictures to look at, ``names`` the classes."""
        self.compute = partial(freeze_switch, snapshots=snapshots)
        self.images, self.names, self.now = images, names, -1
        self.steps = list(snapshots[VERSIONS[0]])
        controls = {
            "snapshot": slider("snapshot", 0, 0, len(self.steps) - 1, 1),
            "version": choice("trunk in step 3", VERSIONS, VERSIONS[1]),
            "score": slider("score from", 0.5, 0.05, 0.95, 0.05),
            "picture": choice("picture", [(chr(ord("A") + n), place) for n, place in enumerate(shown)]),
        }
        canvas = Canvas(images[shown[0]], alt="", display_width=430)
        chart = Chart(370, 300)
        most = sum(len(record.truth) for record in snapshots[VERSIONS[0]][0])
        chart.axes.set(xlim=(0, self.steps[-1] * 1.45), ylim=(0, most), xlabel="steps of the RPN in step 3")
        chart.axes.set(xticks=self.steps, yticks=range(0, most + 1, 5), ylabel="right detections")
        chart.axes.set_title(f"all pictures, {most} objects")
        self.lines, self.tags = [], []
        for name, colour, dash in zip(VERSIONS, LINES, ("-", "--"), strict=False):
            self.lines += chart.axes.plot(self.steps, [0] * len(self.steps), color=colour, ls=dash, marker="o")
            name_line(chart.axes, self.steps[-1], 0, name, colour)
            self.tags.append(chart.axes.texts[-1])
        (self.dot,) = chart.axes.plot([0], [0], "o", color="black", markersize=9)
        chart.animate(*self.lines, *self.tags, self.dot)
        super().__init__(controls, canvas=canvas, chart=chart, title="Frozen or not")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw objects and detections, both curves, and where we are."""
        record, good, place = numbers["record"], numbers["good"], self.state["picture"]
        pairs = zip(record.labels[good].tolist(), record.scores[good].tolist(), strict=True)
        labels = [""] * len(record.truth) + [f"{self.names[label - 1]} {score:.2f}" for label, score in pairs]
        kinds = ["ground_truth"] * len(record.truth) + ["detection"] * int(good.sum())
        image = None if place == self.now else self.images[place]
        self.canvas.show(image, torch.cat((record.truth, record.boxes[good])), kinds=kinds, labels=labels)
        self.canvas.alt, self.now = f"A scene with {int(good.sum())} detections", place
        for line, tag, (name, curve) in zip(self.lines, self.tags, numbers["curves"].items(), strict=True):
            line.set_ydata(curve)
            tag.xy = (self.steps[-1], curve[-1])
            if name == self.state["version"]:
                self.dot.set_data([numbers["steps"]], [curve[self.state["snapshot"]]])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the step and what is right."""
        found = f"{numbers['right, all pictures']} of {numbers['objects']}"
        return (
            f"after {numbers['steps']} steps, trunk {self.state['version']} · detections here "
            f"{numbers['detections here']} · right, all pictures: {found}"
        )
