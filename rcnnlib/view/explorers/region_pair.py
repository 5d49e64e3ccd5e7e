"""Lesson 02: two regions of a photo, their four similarities, and the histograms behind colour and texture.

Leaves out: merging them (`merge_steps`).

Shapes:
    H, W  photo      n  regions      E  pairs of neighbours
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from torch import Tensor

from rcnnlib.ops.selective_search import COLOUR_BINS, MEASURES, Regions, similarity
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

CHANNELS = ("hue", "saturation", "value")


def region_pair(a: int, b: int, *, regions: Regions, scores: Float[np.ndarray, " E"]) -> dict[str, Any]:
    """Return the four similarities of regions a and b, their sum, and the place of the pair among all neighbours.

    ``scores`` are the sums of all pairs of neighbours; place 1 is the most similar pair, 0 says that a and b do not
    touch (or are one region).
    """
    parts = {name: float(measure(regions, a, b)) for name, measure in MEASURES.items()}
    total = sum(parts.values())
    touch = bool((regions.pairs == sorted((a, b))).all(axis=1).any())
    low = np.minimum(regions.boxes[a, :2], regions.boxes[b, :2])
    high = np.maximum(regions.boxes[a, 2:], regions.boxes[b, 2:])
    return parts | {
        "sum": total,
        "neighbours": touch,
        "place": int((scores > total + 1e-9).sum()) + 1 if touch else 0,
        "sizes": [int(regions.sizes[a]), int(regions.sizes[b])],
        "common box": torch.from_numpy(np.concatenate((low, high))),
    }


class RegionPair(Explorer):
    """A photo to click on; beside it the histograms of the two chosen regions, what they share filled."""

    from_canvas = ()  # a click moves a slider

    def __init__(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        labels: Int[Tensor, "H W"],
        regions: Regions,
        *,
        a: int,
        b: int,
        alt: str,
    ) -> None:
        """Show ``image`` with regions ``a`` and ``b`` of ``labels``; ``alt`` says what the photo shows."""
        self.image, self.labels, self.regions = image, labels, regions
        scores = np.asarray(similarity(regions, regions.pairs[:, 0], regions.pairs[:, 1]))
        self.compute = partial(region_pair, regions=regions, scores=scores)
        last = len(regions.sizes) - 1
        controls = {"a": slider("region A", a, 0, last, 1), "b": slider("region B", b, 0, last, 1)}
        self.clicks = choice("a click chooses", ["A", "B"])
        canvas = Canvas(image, alt=alt, display_width=415)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(regions), title="Region pair")
        self.children = [*self.children[:2], self.clicks, *self.children[2:]]
        canvas.observe(self._follow_click, "clicked")

    def _make_chart(self, regions: Regions) -> Chart:
        """Two charts of bins: 75 of colour, 240 of texture."""
        chart = Chart(410, 340, rows=2)
        self.bars = []
        for ax, values, name in zip(chart.axes, (regions.colour, regions.texture), ("colour", "texture"), strict=True):
            bins = values.shape[1]
            ax.set(xlim=(0, bins), ylim=(0, 0.3 if name == "colour" else 0.012), yticks=[])
            ax.spines["left"].set_visible(False)
            ax.set_title(f"{name}: {bins} bins")
            self.bars.append(self._make_bars(ax, bins))
        places = [COLOUR_BINS * (channel + 0.5) for channel in range(3)]
        for ax, wide in zip(chart.axes, (1, 3.2), strict=True):
            ax.set_xticks([wide * place for place in places], CHANNELS)
            ax.tick_params(axis="x", length=0)
            for edge in (1, 2):
                ax.axvline(wide * edge * COLOUR_BINS, color="#BBBBBB", lw=1)
        chart.animate(*(artist for bars in self.bars for artist in bars))
        return chart

    @staticmethod
    def _make_bars(ax: Axes, bins: int) -> tuple[Any, ...]:
        """What both share (filled), A (solid), B (dashed), and the number that the filled part adds up to."""
        flat = np.zeros(bins)
        shared = ax.stairs(flat, color="#AAAAAA", fill=True)
        outlines = [ax.stairs(flat, color=LINES[n], lw=1.5, ls=("-", "--")[n]) for n in (0, 1)]
        text = ax.text(0.99, 1.02, "", transform=ax.transAxes, ha="right", va="bottom", fontsize=11)
        return shared, *outlines, text

    def _follow_click(self, change: Any) -> None:
        """Take the region under the point that was clicked."""
        if change["new"]:
            x, y = (int(value) for value in change["new"])
            height, width = self.labels.shape
            region = int(self.labels[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])
            self.set(**{self.clicks.value.lower(): region})

    def draw(self, numbers: dict[str, Any]) -> None:
        """Tint the two regions, and draw what their histograms share."""
        a, b = self.state["a"], self.state["b"]
        picture = self.image.copy()
        for region, colour in ((a, LINES[0]), (b, LINES[1])):
            here = (self.labels == region).numpy()
            tint = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)])
            picture[here] = (0.35 * picture[here] + 0.65 * tint).astype(np.uint8)
        boxes = [*self.regions.boxes[[a, b]], numbers["common box"].numpy()]
        self.canvas.show(picture, boxes, kinds="note", labels=["A", "B", ""])
        for bars, values, name in zip(
            self.bars, (self.regions.colour, self.regions.texture), ("colour", "texture"), strict=True
        ):
            shared, one, two, text = bars
            shared.set_data(np.minimum(values[a], values[b]))
            one.set_data(values[a])
            two.set_data(values[b])
            text.set_text(f"shared (grey) {numbers[name]:.2f}")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the four similarities, their sum, and whether this pair would be merged next."""
        parts = " + ".join(f"{name} {numbers[name]:.2f}" for name in MEASURES)
        place = numbers["place"]
        among = f"place {place} of {len(self.regions.pairs)} pairs" if place else "not neighbours: never compared"
        return f"{parts} = {numbers['sum']:.2f} · {among}"
