"""The 256 anchors that a step draws out of a picture: what is asked for and what there is (lesson 12).

Leaves out: how the labels come about (`anchor_labels`).

Shapes:
    A  anchors      S  rows of the batch      G  objects
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnnlib.datasets.transforms import Example, collate, uniform_noise
from rcnnlib.models.rpn import RPN
from rcnnlib.ops.anchors import anchor_grid
from rcnnlib.ops.boxes import box_convert
from rcnnlib.ops.matcher import NEGATIVE, POSITIVE, Match
from rcnnlib.ops.sampler import sample
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

SEED = 0
MOST = 512
DOT = 5.0  # pixels: a negative is drawn as a small square at its centre
PARTS = ("positive", "negative", "empty")


class Labelled(NamedTuple):
    """A picture with the labels of its anchors."""

    example: Example
    anchors: Float[Tensor, "A 4"]
    match: Match


def label(rpn: RPN, example: Example) -> Labelled:
    """Match the anchors of ``rpn`` with the objects of a picture."""
    batch = collate([example], seed=SEED, epoch=0, noise_length=1)
    height, width = example.image.shape[-2:]
    anchors = anchor_grid(rpn.base, (-(-height // rpn.stride), -(-width // rpn.stride)), rpn.stride)
    return Labelled(example, anchors, Match(*(part[0] for part in rpn.match(anchors, batch))))


def anchor_batch(
    size: int, fraction: float, epoch: int, picture: str, *, pictures: Mapping[str, Labelled]
) -> dict[str, Any]:
    """Return how many positives and negatives were asked for and drawn."""
    example, anchors, match = pictures[picture]
    noise = uniform_noise(len(anchors), seed=SEED, epoch=epoch, id=example.id)
    labels = torch.ones(max(1, len(example.boxes)), dtype=torch.int64)
    drawn = sample(match, labels, noise, size=size, positive_fraction=fraction)
    positives, negatives = drawn.index[drawn.labels == POSITIVE], drawn.index[drawn.labels == NEGATIVE]
    asked = int(size * fraction)
    return {
        "positives in all": int((match.status == POSITIVE).sum()),
        "asked for": asked,
        "drawn": len(positives),
        "negatives": len(negatives),
        "empty": size - len(positives) - len(negatives),
        "positive share": len(positives) / max(1, len(positives) + len(negatives)),
        "a negative: anchor": int(negatives[0]) if len(negatives) else -1,
        "anchors": anchors[positives],
        "centres": box_convert(anchors[negatives], "xyxy", "cxcywh")[:, :2],
        "size": size,
    }


class AnchorBatch(Explorer):
    """A picture with the drawn anchors (negatives as dots); beside it the batch as it is asked for and as it is."""

    from_canvas = ()  # nothing is dragged

    def __init__(self, rpn: RPN, pictures: Mapping[str, Example]) -> None:
        """Label the anchors of ``rpn`` on ``pictures``, which have names."""
        self.pictures, self.shown = {name: label(rpn, one) for name, one in pictures.items()}, ""
        self.compute = partial(anchor_batch, pictures=self.pictures)
        controls = {
            "size": slider("batch", 256, 4, MOST, 4),
            "fraction": slider("positive, at most", 0.5, 0.0, 1.0, 0.01),
            "epoch": slider("epoch", 0, 0, 20, 1),
            "picture": choice("picture", list(pictures)),
        }
        canvas = Canvas(next(iter(pictures.values())).image, alt="", display_width=430)
        chart = Chart(370, 230)
        self._draw_bars(chart)
        super().__init__(controls, canvas=canvas, chart=chart, title="The batch of anchors")

    def _draw_bars(self, chart: Chart) -> None:
        """Two bars of rows: as asked for, and as drawn."""
        axes, colours = chart.axes, (LINES[0], "#E8E8E8", "#FFFFFF")
        axes.set(xlim=(0, MOST), ylim=(1.9, -0.7), yticks=[0, 1], yticklabels=["asked for", "drawn"])
        axes.set(xlabel="rows of the batch", title="blue: positive, light: negative")
        self.parts = [
            [axes.add_patch(Rectangle((0, row - 0.25), 0, 0.5, facecolor=c, edgecolor="black")) for c in colours]
            for row in range(2)
        ]
        self.texts = [axes.text(0, row + 0.28, "", fontsize=9, va="top") for row in range(2)]
        chart.animate(*(part for row in self.parts for part in row), *self.texts)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw positives as boxes, negatives as dots, and both bars."""
        name = self.controls["picture"].value
        example, centres = self.pictures[name].example, numbers["centres"]
        dots = torch.cat((centres - DOT / 2, centres + DOT / 2), dim=-1)
        boxes = torch.cat((dots, numbers["anchors"], example.boxes))
        kinds = ["note"] * len(dots) + ["anchor"] * len(numbers["anchors"]) + ["ground_truth"] * len(example.boxes)
        self.canvas.show(None if name == self.shown else example.image, boxes, kinds=kinds)
        self.canvas.alt, self.shown = f"{name} with the {len(boxes) - len(example.boxes)} anchors of a batch", name
        asked, size = numbers["asked for"], numbers["size"]
        rows = ((asked, size - asked, 0), (numbers["drawn"], numbers["negatives"], numbers["empty"]))
        for parts, text, counts in zip(self.parts, self.texts, rows, strict=True):
            start = 0
            for part, count in zip(parts, counts, strict=True):
                part.set_x(start)
                part.set_width(count)
                start += count
            words = [f"{count} {kind}" for count, kind in zip(counts, PARTS, strict=True) if count or kind != "empty"]
            text.set_text(", ".join(words))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts, and one number of the draw."""
        hidden = ("anchors", "centres", "size")
        return super().tell({name: value for name, value in numbers.items() if name not in hidden})
