"""NMS round by round on a few boxes of a picture: who wins, whom the winner strikes, who waits (lesson 08).

Leaves out: how NMS is done quickly (`ops.nms.nms`).

Shapes:
    N  candidates, best first
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from matplotlib.lines import Line2D
from torch import Tensor

from rcnnlib.ops.nms import NmsStep, nms_steps
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import STYLES, Kind, to_boxes

ALONE, TOGETHER = "each class alone", "all classes together"
KINDS: dict[str, Kind] = {"winner": "detection", "kept": "detection", "waits": "proposal", "struck": "ignored"}


def all_rounds(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], groups: Int[Tensor, " N"], threshold: float
) -> list[tuple[NmsStep, Tensor]]:
    """Return the rounds of all groups by the score of their winner, each with the rows of its group."""
    rounds = []
    for group in groups.unique():
        rows = (groups == group).nonzero()[:, 0]
        for step in nms_steps(boxes[rows], scores[rows], threshold):
            back = [[int(rows[place]) for place in places] for places in (step.removed, step.waiting)]
            rounds.append((NmsStep(int(rows[step.best]), step.iou, *back), rows))
    return sorted(rounds, key=lambda one: -float(scores[one[0].best]))


def nms_rounds(
    round: int,
    threshold: float,
    groups: str,
    *,
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
) -> dict[str, Any]:
    """Return what has happened after ``round`` rounds, and each box's IoU with the winner (NaN: another class)."""
    rounds = all_rounds(boxes, scores, labels if groups == ALONE else torch.zeros_like(labels), threshold)
    done = rounds[:round]
    state, iou = ["waits"] * len(boxes), torch.full((len(boxes),), torch.nan)
    for step, rows in done:
        iou = torch.full((len(boxes),), torch.nan)
        iou[rows] = step.iou
        state = ["kept" if word == "winner" else word for word in state]
        state[step.best] = "winner"
        for row in step.removed:
            state[row] = "struck"
    places = {word: [row for row, own in enumerate(state) if own == word] for word in KINDS}
    return {
        "round": f"{len(done)} of {len(rounds)}",
        "winner": places["winner"][0] if done else "none yet",
        "strikes": sorted(done[-1][0].removed) if done else [],
        "kept so far": sorted(places["winner"] + places["kept"]),
        "wait": places["waits"],
        "state": state,
        "IoU with the winner": iou,
    }


class NmsRounds(Explorer):
    """A picture with numbered candidates; beside it their IoU with the winner of this round."""

    from_canvas = ()  # no box can be dragged

    def __init__(self, image: Any, boxes: Any, scores: Any, labels: Any, names: Sequence[str], alt: str) -> None:
        """Show ``boxes`` (N, 4) in pixels of ``image``, best first; ``names`` are those of the labels 1..K."""
        rows = torch.from_numpy(to_boxes(boxes).copy())
        self.texts = [f"{names[label - 1]} {score:.2f}" for label, score in zip(labels.tolist(), scores, strict=True)]
        self.compute = partial(nms_rounds, boxes=rows, scores=scores, labels=labels)
        controls = {
            "round": slider("round", 0, 0, len(rows), 1),
            "threshold": slider("strike above", 0.5, 0.05, 0.95, 0.05),
            "groups": choice("NMS over", (ALONE, TOGETHER)),
        }
        canvas = Canvas(image, rows, alt=alt, display_width=310)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(len(rows)), title="NMS")

    def _make_chart(self, count: int) -> Chart:
        """A row for each candidate: number, name and score, a bar as long as its IoU, and what has become of it."""
        chart = Chart(420, 60 + 25 * count)
        axes = chart.axes
        axes.set(xlim=(0, 1), ylim=(count - 0.4, -0.6), yticks=range(count), xlabel="IoU with the winner")
        axes.set_yticklabels([f"{row}  {text}" for row, text in enumerate(self.texts)])
        axes.tick_params(axis="y", length=0)
        self.bars = axes.barh(range(count), [0] * count, height=0.62)
        self.words = [axes.text(0, row, "", va="center", fontsize=10) for row in range(count)]
        self.limit = Line2D([0, 0], [-0.6, count - 0.4], color="black", linestyle=":", linewidth=1.5)
        axes.add_line(self.limit)
        chart.animate(*self.bars, self.limit, *self.words)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Colour boxes and bars by what has become of each candidate."""
        state, iou = numbers["state"], numbers["IoU with the winner"].nan_to_num(0).tolist()
        self.canvas.kinds = [KINDS[word] for word in state]
        self.canvas.labels = [f"{row} winner" if word == "winner" else str(row) for row, word in enumerate(state)]
        self.canvas.selected = state.index("winner") if "winner" in state else -1  # on top of all
        self.limit.set_xdata([self.controls["threshold"].value] * 2)
        for row, (bar, text, word) in enumerate(zip(self.bars, self.words, state, strict=True)):
            length = iou[row]
            bar.set_width(length)
            bar.set_color(STYLES[KINDS[word]].colour)
            now = "struck now" if row in numbers["strikes"] else word
            text.set_text(f"{now}, {length:.2f}" if length > 0.005 and word != "winner" else now)
            inside = length > 0.6
            text.set(x=length - 0.015 if inside else length + 0.015, ha="right" if inside else "left")
            text.set_bbox({"facecolor": bar.get_facecolor() if inside else "white", "edgecolor": "none", "pad": 1})

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say all but the IoUs, which the chart shows."""
        return super().tell({name: numbers[name] for name in list(numbers)[:5]})
