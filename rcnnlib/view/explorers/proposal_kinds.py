"""All proposals of a picture, cut by two limits into positive, background and ignored (lesson 07).

Leaves out: drawing the few that a step learns from (`mini_batch`).

Shapes:
    N  proposals of a picture      G  its objects
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.transforms import Example
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.matcher import IGNORED, NEGATIVE, POSITIVE, match_proposals
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import STYLES

KINDS = {"positive": POSITIVE, "background": NEGATIVE, "ignored": IGNORED}
DRAWN_AS = {"positive": "proposal", "background": "note", "ignored": "ignored"}  # a kind of box each, as in lesson 01
COLOURS = {name: STYLES[kind].colour for name, kind in DRAWN_AS.items()}
MOST = 60  # boxes on the photo: more hide it
BINS = 20
WIDTH = 400


def best_iou(picture: Example) -> Float[Tensor, " N"]:
    """Return each proposal's IoU with the object that it fits best; 0 where the picture holds no object."""
    if not len(picture.boxes):
        return torch.zeros(len(picture.proposals))
    return box_iou(picture.proposals, picture.boxes).amax(dim=1)


def proposal_kinds(
    picture: str, positive: float, background: float, show: str, *, ious: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return how many proposals are of each kind, how many fall into each twentieth of IoU, and which are shown."""
    iou = ious[picture]
    # The IoU with the best object is all that the rule asks for: a table of one column.
    match = match_proposals(iou[:, None], torch.ones(1, dtype=torch.bool), positive=positive, background_low=background)
    index = (match.status == KINDS[show]).nonzero()[:, 0]
    return (
        {name: int((match.status == value).sum()) for name, value in KINDS.items()}
        | {
            "share of positives": float((match.status == POSITIVE).float().mean()),
            "mean IoU": float(iou[index].mean()) if len(index) else 0.0,  # of the kind that is shown
            "histogram": torch.histc(iou, BINS, 0, 1),
            "index": index[:MOST],
        }
    )


class ProposalKinds(Explorer):
    """A photo with the proposals of one kind, and the histogram of all of them over IoU."""

    from_canvas = ()  # nothing is dragged

    def __init__(self, pictures: Mapping[str, Example]) -> None:
        """Show ``pictures`` by name, each with its proposals."""
        self.pictures, self.shown = pictures, ""
        self.compute = partial(proposal_kinds, ious={name: best_iou(one) for name, one in pictures.items()})
        controls = {
            "positive": slider("positive from", 0.5, 0.0, 1.0, 0.05),
            "background": slider("background from", 0.1, 0.0, 1.0, 0.05),
            "picture": choice("photo", list(pictures)),
            "show": choice("draw the", list(KINDS)),
        }
        canvas = Canvas(next(iter(pictures.values())).image, alt="", display_width=WIDTH)
        chart = Chart(390, 268)
        self._draw_histogram(chart)
        super().__init__(controls, canvas=canvas, chart=chart, title="Kinds of proposals")

    def _draw_histogram(self, chart: Chart) -> None:
        """Bars of one twentieth each, and the names of the three zones above them."""
        axes = chart.axes
        axes.set(xlim=(0, 1), yscale="log", ylim=(0.7, 6000), xlabel="IoU with the best object", ylabel="proposals")
        places = [number / BINS for number in range(BINS)]
        self.bars = axes.bar(places, [1] * BINS, width=1 / BINS, align="edge", edgecolor="black", linewidth=1)
        self.lines = [axes.axvline(0, color="black", linestyle=":") for _ in range(2)]
        self.names = {name: axes.text(0, 2600, name, ha="center", fontsize=10) for name in KINDS}
        chart.animate(*self.bars, *self.lines, *self.names.values())

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the boxes of the chosen kind, the truth on top, and colour the bars by their zone."""
        name, show = self.state["picture"], self.state["show"]
        picture = self.pictures[name]
        boxes = torch.cat((picture.proposals[numbers["index"]], picture.boxes))
        kinds = [DRAWN_AS[show]] * len(numbers["index"]) + ["ground_truth"] * len(picture.boxes)
        self.canvas.show(None if name == self.shown else picture.image, boxes, kinds=kinds)
        self.canvas.alt = f"The photo {name} with {len(numbers['index'])} proposals of the kind {show}"
        self.shown = name
        self._colour_bars(numbers["histogram"].tolist())

    def _colour_bars(self, counts: list[float]) -> None:
        high = self.state["positive"]
        low = min(self.state["background"], high)  # where they cross, positive wins
        zones = {"ignored": (0.0, low), "background": (low, high), "positive": (high, 1.0)}
        for number, (bar, count) in enumerate(zip(self.bars, counts, strict=True)):
            middle = (number + 0.5) / BINS
            bar.set_height(count)
            bar.set_facecolor(next(COLOURS[name] for name, (_, end) in zones.items() if middle < end or end == 1))
        for line, place in zip(self.lines, (low, high), strict=True):
            line.set_xdata([place, place])
        for name, (start, end) in zones.items():
            self.names[name].set_x((start + end) / 2)
            self.names[name].set_visible(end - start > 0.17)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts and the share of positives; below them what is drawn, and the mean IoU of its kind."""
        counts = ", ".join(f"{numbers[name]} {name}" for name in KINDS)
        drawn, show = len(numbers["index"]), self.state["show"]
        return (
            f"{counts} · share of positives {numbers['share of positives']:.4f}\n"
            f"{drawn} of {numbers[show]} {show} drawn · their mean IoU {numbers['mean IoU']:.4f}"
        )
