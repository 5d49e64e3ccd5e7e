"""Proposals to drag over ground truths, and their table of IoUs: what does each proposal stand for? (lesson 01).

Leaves out: the rule that an object's best box is positive at any IoU (`ops.matcher.match_anchors`).

Shapes:
    N  proposals, which can be dragged      M  ground truths
"""

from functools import partial
from typing import Any

import torch

from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.matcher import POSITIVE, match_proposals
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import Kind, readable_on, to_boxes


def iou_table(boxes: torch.Tensor, threshold: float, *, count: int) -> dict[str, Any]:
    """Return the IoUs of the first ``count`` boxes with the others, and what each of them stands for (-1 nothing)."""
    table = box_iou(boxes[:count], boxes[count:])
    everything = torch.ones(table.shape[1], dtype=torch.bool)
    match = match_proposals(table, everything, positive=threshold, background_low=0)
    found = torch.where(match.status == POSITIVE, match.matches, -1)
    return {
        "proposals stand for": found,
        "their IoU": match.iou,
        "best IoU of each ground truth": table.amax(dim=0),
        "table": table,
    }


class IouTable(Explorer):
    """Proposals over a photo with ground truths; the table of their IoUs beside it."""

    def __init__(self, image: Any, truths: Any, proposals: Any, alt: str) -> None:
        """Show ``image`` with ``truths`` (M, 4) and ``proposals`` (N, 4) to drag; ``alt`` says what the photo shows."""
        rows, columns = to_boxes(proposals), to_boxes(truths)
        draggable: Kind = "proposal"
        fixed: Kind = "ground_truth"
        self.compute = partial(iou_table, count=len(rows))
        canvas = Canvas(
            image,
            [*rows, *columns],
            kinds=[*[draggable] * len(rows), *[fixed] * len(columns)],
            labels=[str(n) for n in (*range(len(rows)), *range(len(columns)))],
            editable=range(len(rows)),
            alt=alt,
            display_width=430,
        )
        chart = Chart(380, 300)
        self._draw_table(chart, len(rows), len(columns))
        controls = {"threshold": slider("positive from", 0.5, 0.0, 1.0, 0.05)}
        super().__init__(controls, canvas=canvas, chart=chart, title="IoU table")

    def _draw_table(self, chart: Chart, rows: int, columns: int) -> None:
        """Cells with their numbers, the name of each row on its left."""
        axes = chart.axes
        self.cells = axes.imshow(torch.zeros(rows, columns).numpy(), vmin=0, vmax=1, cmap="cividis", aspect="auto")
        self.texts = [[axes.text(m, n, "", ha="center", va="center") for m in range(columns)] for n in range(rows)]
        self.names = [axes.text(-0.6, n, "", ha="right", va="center") for n in range(rows)]
        axes.set(xticks=range(columns), yticks=[], title="columns: ground truths")
        axes.xaxis.tick_top()
        axes.spines[:].set_visible(False)
        chart.figure.set_layout_engine("none")
        axes.set_position((0.32, 0.04, 0.66, 0.78))
        chart.animate(self.cells, *(text for row in self.texts for text in row), *self.names)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Write the table anew, and beside each row what its proposal stands for."""
        table = numbers["table"]
        self.cells.set_data(table.numpy())
        for row, texts in zip(table.tolist(), self.texts, strict=True):
            for value, text in zip(row, texts, strict=True):
                text.set_text(f"{value:.2f}" if value >= 0.005 else "")  # letters are what a move costs
                text.set_color(readable_on(self.cells.cmap(value)[:3]))
        for n, (name, truth) in enumerate(zip(self.names, numbers["proposals stand for"].tolist(), strict=True)):
            name.set_text(f"proposal {n}\n{'background' if truth < 0 else f'is {truth}'}")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say everything but the table, which the chart shows."""
        return super().tell({name: value for name, value in numbers.items() if name != "table"})
