"""A training watched: what the head finds on a few pictures after so many steps (lesson 09).

The detections of every snapshot were computed once, right after the training; the explorer only counts them.
Leaves out: the training itself, which stands in the lesson.

Shapes:
    D  detections of one picture      G  its objects
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rcnnlib.engine.metrics import Record, error_kinds
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, name_line

TERMS = ("class term", "box term")
WINDOW = 15  # steps that are averaged: the loss of a single step hangs on its two pictures


class Snapshot(NamedTuple):
    """What the head found in each picture after ``step`` steps."""

    step: int
    found: Sequence[Record]


def above(record: Record, score: float) -> Record:
    """Return the record with the detections of at least that score only."""
    good = record.scores >= score
    return record._replace(boxes=record.boxes[good], scores=record.scores[good], labels=record.labels[good])


def training_snapshot(
    snapshot: int, picture: int, score: float, *, snapshots: Sequence[Snapshot], classes: int
) -> dict[str, Any]:
    """Return what is shown of one picture after the step of a snapshot, and how much of it is right."""
    step, found = snapshots[snapshot]
    kinds = error_kinds([found[picture]], classes, score_threshold=score)
    return {
        "step": step,
        "detections": int((found[picture].scores >= score).sum()),
        "right": kinds.correct,
        "objects missed": kinds.missed,
        "record": above(found[picture], score),
    }


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Return the running mean of the last ``window`` values; at the beginning of as many as there are."""
    sums = np.concatenate(([0.0], np.cumsum(np.asarray(values, dtype=float))))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


class TrainingSnapshots(Explorer):
    """A picture with the detections of a snapshot; beside it the curves of the two losses with a mark at its step."""

    from_canvas = ()

    def __init__(
        self,
        snapshots: Sequence[Snapshot],
        images: Sequence[Any],
        names: Sequence[str],
        losses: Sequence[tuple[float, float]],
        alt: str,
    ) -> None:
        """Show ``images``, one a record of each snapshot; ``names`` are the classes, ``losses`` (class, box) a step."""
        self.compute = partial(training_snapshot, snapshots=snapshots, classes=len(names))
        self.images, self.names, self.shown = images, names, -1
        controls = {
            "snapshot": slider("snapshot", 0, 0, len(snapshots) - 1, 1),
            "score": slider("score from", 0.3, 0.05, 0.95, 0.05),
            "picture": choice("picture", [(chr(ord("A") + place), place) for place in range(len(images))]),
        }
        canvas = Canvas(images[0], alt=alt, display_width=420)
        chart = Chart(390, 310)
        self._draw_losses(chart, losses)
        super().__init__(controls, canvas=canvas, chart=chart, title="Training, watched")

    def _draw_losses(self, chart: Chart, losses: Sequence[tuple[float, float]]) -> None:
        steps = range(1, len(losses) + 1)
        curves = [smooth(values, WINDOW) for values in zip(*losses, strict=True)]
        apart = 0.05 if curves[0][-1] > curves[1][-1] else -0.05  # the names of two near ends would cover each other
        for curve, name, colour, up in zip(curves, TERMS, LINES, (apart, -apart), strict=False):
            chart.axes.plot(steps, curve, color=colour)
            name_line(chart.axes, len(losses), curve[-1] + up, name, colour)
        chart.axes.set(xlim=(0, len(losses) * 1.3), ylim=(0, None), xlabel="step", ylabel="loss")
        chart.axes.set_xticks(range(0, len(losses) + 1, max(1, len(losses) // 4)))
        (self.mark,) = chart.axes.plot(
            [0, 0], [0, 1], color="black", ls=":", transform=chart.axes.get_xaxis_transform()
        )
        chart.animate(self.mark)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the picture with its objects and detections; move the mark to the step."""
        record, picture = numbers["record"], self.state["picture"]
        kinds = ["ground_truth"] * len(record.truth) + ["detection"] * len(record.boxes)
        labels = [
            f"{self.names[c - 1]} {s:.2f}" for c, s in zip(record.labels.tolist(), record.scores.tolist(), strict=True)
        ]
        image = None if picture == self.shown else self.images[picture]
        self.canvas.show(
            image, [*record.truth.numpy(), *record.boxes.numpy()], kinds=kinds, labels=[""] * len(record.truth) + labels
        )
        self.shown = picture
        self.mark.set_xdata([numbers["step"]] * 2)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say everything but the boxes, which the canvas shows."""
        return super().tell({name: value for name, value in numbers.items() if name != "record"})
