"""What R-CNN asks of its network: passes, pixels, and how often each pixel of the photo is seen (lesson 03).

Leaves out: Selective Search, the SVMs and NMS, whose time does not depend on the size of the crops.

Shapes:
    P  proposals      H, W  height and width of the photo, pixels
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, show_image

WIDTH = 340  # of the photo, CSS pixels


def times_seen(proposals: Float[Tensor, "P 4"], height: int, width: int) -> Float[Tensor, "H W"]:
    """Return for each pixel the number of regions that hold it: corners are noted, two running sums fill the boxes."""
    x1, y1, x2, y2 = proposals.round().long().unbind(1)
    seen = torch.zeros(height + 1, width + 1)
    one = torch.ones(len(proposals))
    for y, x, sign in ((y1, x1, 1), (y1, x2, -1), (y2, x1, -1), (y2, x2, 1)):
        seen.index_put_((y, x), sign * one, accumulate=True)
    return seen.cumsum(0).cumsum(1)[:-1, :-1]


def crop_cost(
    regions: int,
    crop: int,
    *,
    proposals: Float[Tensor, "P 4"],
    height: int,
    width: int,
    pixels: int,
    seconds: float,
) -> dict[str, Any]:
    """Return what ``regions`` crops of ``crop`` x ``crop`` pixels cost, beside one pass over a photo of ``pixels``.

    ``seconds`` is the time of a million pixels in the network; ``proposals`` are regions of ``height`` x ``width``.
    """
    seen = times_seen(proposals[:regions], height, width)
    through = regions * crop**2
    return {
        "passes": regions,
        "pixels": through,
        "times one pass": through / pixels,
        "seconds": through * seconds / 1e6,
        "mean": seen.mean().item(),
        "most": int(seen.amax()),
        "seen": seen,
    }


class CropCost(Explorer):
    """Sliders for regions and crop size; how often each pixel is seen, and the work beside one pass."""

    def __init__(
        self, image: Float[Tensor, "3 H W"], proposals: Float[Tensor, "P 4"], *, pixels: int, seconds: float
    ) -> None:
        """Show the ``proposals`` of ``image``; ``pixels`` go through the network in one pass over the photo."""
        height, width = image.shape[-2:]
        self.compute = partial(
            crop_cost, proposals=proposals, height=height, width=width, pixels=pixels, seconds=seconds
        )
        most = len(proposals)
        controls = {
            "regions": slider("regions", 200, 1, most, 1),
            "crop": slider("crop, pixels", 112, 48, 224, 16),
        }
        chart = self.make_chart(image, most, most * 224**2 / pixels)
        super().__init__(controls, chart=chart, title="Crop cost")

    def make_chart(self, image: Tensor, most: int, limit: float) -> Chart:
        """Lay out the photo in grey with the map over it, and two bars on an axis of powers of ten."""
        height, width = image.shape[-2:]
        high = WIDTH * height / width
        chart = Chart(WIDTH + 420, round(high) + 34, columns=2)
        chart.figure.set_layout_engine("none")
        left, right = chart.axes
        total = (WIDTH + 420, round(high) + 34)
        left.set_position((0, 0, WIDTH / total[0], high / total[1]))
        right.set_position(((WIDTH + 110) / total[0], 80 / total[1], 280 / total[0], (high - 100) / total[1]))
        show_image(left, image.mean(0, keepdim=True)).set_title("how often is each pixel seen?", pad=8)
        self.map = left.imshow(
            np.zeros((2, 2)), extent=(0, width, height, 0), cmap="cividis", alpha=0.75, vmin=0, vmax=1
        )
        self.words = [
            left.text(place, height - 8, "", ha=side, va="bottom", color="black", bbox={"fc": "white", "ec": "none"})
            for place, side in ((8, "left"), (width - 8, "right"))
        ]
        right.set(xscale="log", xlim=(0.5, limit * 1.2), ylim=(1.6, -0.6), xlabel="work, one pass over the photo = 1")
        right.set_yticks(range(2), ["R-CNN", "one pass"])
        right.tick_params(axis="y", length=0)
        self.bars = right.barh(range(2), [1, 1], height=0.5, color=[LINES[1], LINES[0]])
        self.count = right.text(1, -0.42, "", ha="left", va="center")
        chart.animate(self.map, *self.words, self.bars[0], self.count)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the map, from 0 to its largest number, and the bar."""
        seen = numbers["seen"]
        self.map.set_data(seen.numpy())
        self.map.set_clim(0, max(1, numbers["most"]))
        self.words[0].set_text(f"bright: {numbers['most']} times")
        self.words[1].set_text(f"on average {numbers['mean']:.0f}")
        self.bars[0].set_width(numbers["times one pass"])
        self.count.set_text(f"{numbers['times one pass']:.0f} times")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say passes, pixels and seconds."""
        return (
            f"{numbers['passes']} passes · {numbers['pixels'] / 1e6:.2f} million pixels · "
            f"{numbers['times one pass']:.1f} times one pass · about {numbers['seconds']:.1f} s · "
            f"each pixel of the photo is seen {numbers['mean']:.1f} times, the busiest {numbers['most']} times"
        )
