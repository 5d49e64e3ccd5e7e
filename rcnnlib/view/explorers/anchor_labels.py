"""Which anchors are positive, negative or ignored: two thresholds, the best-anchor rule and the border (lesson 12).

Each anchor of each cell has its place in one of k small maps; the positive ones are drawn on the picture.
Leaves out: which of them a step draws (`anchor_batch`).

Shapes:
    G  objects, which can be dragged      k  anchors of a cell      h, w  cells      A = h w k
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.boxes import box_iou, is_inside
from rcnnlib.ops.matcher import IGNORED, NEGATIVE, POSITIVE, match_anchors
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, to_boxes

STRIDE = 16
BUGS = ("none", "ignored are negative", "best anchor forgotten")
BORDERS = ("ignored", "take part")
OUTSIDE = 2  # in the maps only: an anchor that is ignored because it crosses the border
COLOURS = {"negative": "#E8E8E8", "ignored": "#B4B4B4", "crosses the border": "#6E6E6E", "positive": LINES[0]}


def anchor_labels(
    boxes: Float[Tensor, "N 4"],
    positive: float,
    negative: float,
    border: str,
    bug: str,
    *,
    objects: int,
    base: Float[Tensor, "k 4"],
    size: tuple[int, int],
) -> dict[str, Any]:
    """Return how many anchors get each label, and the maps; the first ``objects`` boxes are the ground truth."""
    truths = boxes[:objects]
    cells = (-(-size[0] // STRIDE), -(-size[1] // STRIDE))
    anchors = anchor_grid(base, cells, STRIDE)
    inside = is_inside(anchors, anchors.new_tensor(size))
    allowed = inside if border == BORDERS[0] else torch.ones_like(inside)
    iou = box_iou(anchors, truths)
    valid = torch.ones(objects, dtype=torch.bool)
    match = match_anchors(iou, valid, positive=positive, negative=min(negative, positive), allowed=allowed)
    status, best_only = match.status, (match.status == POSITIVE) & (match.iou < positive)
    if bug == BUGS[1]:
        status = torch.where(allowed & (status == IGNORED), NEGATIVE, status)
    if bug == BUGS[2]:
        status = torch.where(best_only, torch.where(match.iou < negative, NEGATIVE, IGNORED), status)
    top = iou.masked_fill(~allowed[:, None], 0.0).amax(dim=0)
    is_positive = status == POSITIVE
    served = {int(place) for place in match.matches[is_positive]}
    served |= set(((iou[is_positive] == top) & (top > 0)).any(dim=0).nonzero().flatten().tolist())
    return {
        "positive": int(is_positive.sum()),
        "only as best": int((best_only & is_positive).sum()),
        "negative": int((status == NEGATIVE).sum()),
        "ignored": int((allowed & (status == IGNORED)).sum()),
        "cross the border": int((~allowed).sum()),
        "objects without a positive": objects - len(served),
        "best IoU": top,
        "boxes": anchors[is_positive],
        "maps": torch.where(allowed, status, OUTSIDE).reshape(*cells, -1).permute(2, 0, 1),
    }


class AnchorLabels(Explorer):
    """Objects to drag with their positive anchors; beside them a map of labels for each of the k anchors."""

    def __init__(
        self, image: Any, truths: Any, alt: str, *, scales: Sequence[float] = (48, 96, 192), bug: str = BUGS[0]
    ) -> None:
        """Show ``image`` with ``truths`` (G, 4), which can be dragged; ``alt`` says what it shows."""
        objects = to_boxes(truths)
        self.names = [str(number) for number in range(len(objects))]
        canvas = Canvas(
            *(image, objects), kinds="ground_truth", labels=self.names, editable=range(len(objects)), alt=alt,
            display_width=410,
        )  # fmt: skip
        base, size = cell_anchors(scales), (canvas.height, canvas.width)
        self.compute = partial(anchor_labels, objects=len(objects), base=base, size=size)
        controls = {
            "positive": slider("positive from", 0.7, 0.3, 1.0, 0.01),
            "negative": slider("negative below", 0.3, 0.0, 0.7, 0.01),
            "border": choice("those that cross", BORDERS),
            "bug": choice("planted bug", BUGS, bug),
        }
        chart = Chart(390, 340, rows=3, columns=len(base) // 3)
        self._draw_maps(chart, (-(-size[0] // STRIDE), -(-size[1] // STRIDE)))
        super().__init__(controls, canvas=canvas, chart=chart, title="Labels of anchors")

    def _draw_maps(self, chart: Chart, cells: tuple[int, int]) -> None:
        """One small map for each anchor, ratio by ratio, and what the colours mean."""
        colours = ListedColormap(["#B4B4B4", "#E8E8E8", LINES[0], "#6E6E6E"])  # -1, 0, 1, 2
        blank = torch.zeros(cells).numpy()
        self.images = [
            axes.imshow(blank, vmin=-1.5, vmax=2.5, cmap=colours, aspect="auto", interpolation="nearest")
            for axes in chart.axes.flat
        ]
        self.titles = [axes.set_title(f"anchor {number}", fontsize=9) for number, axes in enumerate(chart.axes.flat)]
        for axes in chart.axes.flat:
            axes.set(xticks=[], yticks=[])
        chart.figure.get_layout_engine().set(rect=(0, 0.08, 1, 0.92))
        for left, (name, colour) in zip((0.02, 0.22, 0.4, 0.75), COLOURS.items(), strict=True):
            patch = Rectangle((left, 0.02), 0.03, 0.035, facecolor=colour, transform=chart.figure.transFigure)
            chart.figure.add_artist(patch)
            chart.figure.text(left + 0.04, 0.037, name, va="center", fontsize=9)
        chart.animate(*self.images, *self.titles)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the positive anchors on the picture and every anchor's label in its map."""
        for number, (image, title) in enumerate(zip(self.images, self.titles, strict=True)):
            one = numbers["maps"][number]
            image.set_data(one.numpy())
            count = int((one == POSITIVE).sum())
            title.set_text(f"anchor {number}: {count} positive" if count else f"anchor {number}")
        objects, anchors = len(self.names), numbers["boxes"]
        truths = torch.from_numpy(self.canvas.boxes[:objects].copy())
        self.canvas.show(
            *(None, torch.cat((truths, anchors))),
            kinds=["ground_truth"] * objects + ["anchor"] * len(anchors),
            labels=self.names + [""] * len(anchors),
            editable=range(objects),
        )

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts and what the best anchor of each object reaches."""
        return super().tell({name: value for name, value in numbers.items() if name not in ("boxes", "maps")})
