"""R-CNN with the first so many regions of a photo: what it finds, and what no region reaches (lesson 03).

The network's answers for all regions are computed beforehand; a move of the slider decodes and runs NMS.
Leaves out: average precision (lesson 08).

Shapes:
    R  regions      G  objects      L  classes and background      K  classes
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.models.svm_head import SVMHead
from rcnnlib.ops.boxes import box_iou
from rcnnlib.types import Stages
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, Kind, name_line

GOOD = 0.5  # IoU from which an object counts as found
NEAR = (120, 30)  # pixels across and down: labels of boxes whose corners are nearer would overlap


@torch.inference_mode()
def region_count(
    regions: int,
    score: float,
    *,
    stages: Stages,
    head: SVMHead,
    size: Float[Tensor, " 2"],
    truths: Float[Tensor, "G 4"],
    labels: Int[Tensor, " G"],
) -> dict[str, Any]:
    """Return what the first ``regions`` of a picture give: detections of at least ``score``, and the objects found."""
    boxes = stages.proposals.boxes[:, :regions]
    found = head.detect(
        boxes,
        stages.proposals.valid[:, :regions],
        stages.class_scores[:, :regions],
        stages.box_deltas[:, :regions],
        size[None],
    )
    shown = found.valid[0] & (found.scores[0] >= score)
    kept, names, scores = found.boxes[0, shown], found.labels[0, shown], found.scores[0, shown]
    right = (box_iou(kept, truths) >= GOOD) & (names[:, None] == labels)
    return {
        "regions": regions,
        "objects with a region": int((box_iou(boxes[0], truths) >= GOOD).any(dim=0).sum()),
        "objects found": int(right.any(dim=0).sum()),
        "detections": len(kept),
        "boxes": kept,
        "labels": names,
        "scores": scores,
    }


class RegionCount(Explorer):
    """A photo with its detections, and two curves over the number of regions."""

    from_canvas = ()

    def __init__(
        self,
        image: Any,
        stages: Stages,
        head: SVMHead,
        truths: Float[Tensor, "G 4"],
        labels: Int[Tensor, " G"],
        classes: Sequence[str],
        alt: str,
    ) -> None:
        """Show ``image``, for which ``stages`` were computed, with its ``truths``; all in its own pixels."""
        self.classes, self.truths = list(classes), truths
        size = torch.tensor(image.shape[-2:], dtype=torch.float32)
        self.compute = partial(region_count, stages=stages, head=head, size=size, truths=truths, labels=labels)
        most = stages.proposals.boxes.shape[1]
        controls = {
            "regions": slider("regions", 64, 1, most, 1),
            "score": slider("score from", 0.3, 0.25, 0.95, 0.05, slow=True),
        }
        canvas = Canvas(image, truths, kinds="ground_truth", alt=alt, display_width=360)
        chart = self.make_chart(most)
        super().__init__(controls, canvas=canvas, chart=chart, title="Region count")

    def make_chart(self, most: int) -> Chart:
        """Draw for every number of regions how many objects have a region (that line stands still)."""
        chart = Chart(340, 260)
        axes, steps = chart.axes, sorted({1, *range(5, most, 5), most})
        values = [self.compute(count, 0.5)["objects with a region"] for count in steps]
        axes.plot(steps, values, color=LINES[0], drawstyle="steps-post")
        axes.set(xlim=(0, most), ylim=(0, len(self.truths) + 0.6), xlabel="number of regions", ylabel="objects")
        name_line(axes, most * 0.42, values[-1] + 0.3, "with a region of IoU ≥ 0.5", LINES[0])
        (self.curve,) = axes.plot([], [], color=LINES[1], ls="--", drawstyle="steps-post")
        self.name = axes.text(most, 0, "found", color=LINES[1], ha="right", va="bottom")
        self.mark = axes.axvline(0, color="black", lw=1)
        self.steps, self.at = [*steps[:: max(1, len(steps) // 20)], most], None
        chart.animate(self.curve, self.name, self.mark)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the detections; the curve of objects found belongs to the score and is computed once for each."""
        score = self.state["score"]
        if score != self.at:
            self.at = score
            found = [self.compute(count, score)["objects found"] for count in self.steps]
            self.curve.set_data(self.steps, found)
            self.name.set_y(found[-1] - 0.45 if found[-1] > 0.5 else 0.1)
        self.mark.set_xdata([numbers["regions"]] * 2)
        count = len(numbers["boxes"])
        kinds: list[Kind] = ["ground_truth"] * len(self.truths) + ["detection"] * count
        boxes = torch.cat((self.truths, numbers["boxes"]))
        self.canvas.show(None, boxes, kinds=kinds, labels=[""] * len(self.truths) + self.write(numbers))

    def write(self, numbers: dict[str, Any]) -> list[str]:
        """Return class and score of each detection; nothing where the label of a better one is in the way."""
        texts, corners = [], numbers["boxes"][:, :2].tolist()
        for place, (x, y) in enumerate(corners):
            name = self.classes[int(numbers["labels"][place]) - 1]
            near = any(abs(x - left) < NEAR[0] and abs(y - top) < NEAR[1] for left, top in corners[:place])
            texts.append("" if near else f"{name} {numbers['scores'][place]:.2f}")
        return texts

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts."""
        return super().tell({name: value for name, value in numbers.items() if isinstance(value, int)})
