"""The same box twice: its pixels through the network, and its cells cut out of the map of the whole photo (lesson 04).

Both give the same number of cells. Where they differ, the pixels outside of the box have had a say.
Leaves out: stretching the crop to one size, which changes its features as well.

Shapes:
    H, W  height and width of the photo      C, h, w  channels, rows and columns of its map
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from rcnnlib.models.backbone import Trunk
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES

LEAST = 2  # cells, the smallest side of a box
RINGS = 8  # rings of cells that the chart has room for
SAME = 1e-5  # of the largest number: sums in another order differ by less, other pixels by more
WIDTH = 370  # of the photo, CSS pixels


@torch.inference_mode()
def compare(
    x: int,
    y: int,
    width: int,
    height: int,
    context: int,
    *,
    trunk: Trunk,
    image: Float[Tensor, "3 H W"],
    features: Float[Tensor, "C h w"],
) -> dict[str, Any]:
    """Compare cell by cell; all sides are in cells of the map, ``context`` cells around the crop come along.

    ``cosine`` is that of the two feature vectors of each cell; a ring are all cells equally far from the border.
    """
    rows, columns = features.shape[1:]
    x, y = min(x, columns - LEAST), min(y, rows - LEAST)
    x2, y2 = min(x + width, columns), min(y + height, rows)
    left, top = max(0, x - context), max(0, y - context)
    right, bottom = min(columns, x2 + context), min(rows, y2 + context)
    stride = trunk.stride
    crop = trunk(image[None, :, top * stride : bottom * stride, left * stride : right * stride])[0]
    crop, shared = crop[:, y - top : y2 - top, x - left : x2 - left], features[:, y:y2, x:x2]
    cosine = cosine_similarity(crop, shared, dim=0)
    same = (crop - shared).abs().amax(0) <= SAME * shared.abs().max()
    ring = torch.minimum(*(_to_border(side, axis) for axis, side in enumerate(cosine.shape)))
    return {
        "cells": cosine.numel(),
        "same": int(same.sum()),
        "mean cosine": cosine.mean().item(),
        "rings": [cosine[ring == number].mean().item() for number in range(int(ring.max()) + 1)],
        "box": torch.tensor([x, y, x2, y2]),
        "around": torch.tensor([left, top, right, bottom]),
        "cosine": cosine,
    }


def _to_border(side: int, axis: int) -> Tensor:
    """Return how many cells lie between each cell and the nearer end of an axis: (side, 1) or (1, side)."""
    place = torch.arange(side)
    return torch.minimum(place, place.flip(0)).unsqueeze(1 - axis)


class CropOrShare(Explorer):
    """A photo with a box to drag; beside it how well both ways agree, cell by cell and ring by ring."""

    from_canvas = ()  # the sliders hold the box; a drag moves them

    def __init__(
        self,
        image: Float[Tensor, "3 H W"],
        trunk: Trunk,
        features: Float[Tensor, "C h w"],
        box: Sequence[int],
        alt: str,
    ) -> None:
        """Show ``image`` with ``box`` = (column, row, columns, rows); ``features`` is its map by ``trunk``."""
        rows, columns = features.shape[1:]
        self.compute = partial(compare, trunk=trunk, image=image, features=features)
        self.stride = trunk.stride
        controls = {
            "x": slider("first column", box[0], 0, columns - LEAST, 1, slow=True),
            "y": slider("first row", box[1], 0, rows - LEAST, 1, slow=True),
            "width": slider("columns", box[2], LEAST, columns, 1, slow=True),
            "height": slider("rows", box[3], LEAST, rows, 1, slow=True),
            "context": slider("context, cells", 0, 0, 8, 1, slow=True),
        }
        canvas = Canvas(image, alt=alt, display_width=WIDTH)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(rows, columns), title="Crop or share")
        canvas.observe(self.follow_drag, "boxes")

    def _make_chart(self, rows: int, columns: int) -> Chart:
        """The cosine of each cell where it lies on the photo; below it the mean of each ring."""
        chart = Chart(380, 400, rows=2)
        self.place, self.bars = chart.axes
        self.place.get_gridspec().set_height_ratios([2.4, 1])
        self.place.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[], aspect="equal")
        self.place.set_title("cosine of both ways (yellow: 1, the same)")
        self.place.spines[:].set_visible(True)
        self.heat = self.place.imshow(np.zeros((1, 1)), cmap="cividis", clim=(0, 1), interpolation="nearest")
        self.bars.set(
            xlim=(-0.6, RINGS - 0.4), ylim=(0, 1), xlabel="cells from the border of the box", xticks=range(RINGS)
        )
        self.bars.set_ylabel("cosine")
        self.rings = self.bars.bar(range(RINGS), [0] * RINGS, color=LINES[0])
        chart.animate(self.heat, *self.rings)
        return chart

    def follow_drag(self, change: Any) -> None:
        """Let the sliders take over the box that was dragged, in whole cells."""
        if not self._held:
            x1, y1, x2, y2 = (round(float(edge) / self.stride) for edge in change["new"][1])
            self.set(x=x1, y=y1, width=max(x2 - x1, LEAST), height=max(y2 - y1, LEAST))

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show box and context on the photo, cosines on the map, and the mean of each ring."""
        boxes = torch.stack((numbers["around"], numbers["box"])).float() * self.stride
        self.canvas.show(None, boxes, kinds=["note", "proposal"], editable=[1])
        x1, y1, x2, y2 = numbers["box"].tolist()
        self.heat.set(data=numbers["cosine"].numpy(), extent=(x1, x2, y2, y1))
        for number, bar in enumerate(self.rings):
            bar.set_height(numbers["rings"][number] if number < len(numbers["rings"]) else 0)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say how many cells agree, and the cosine of all, of the outermost and of the innermost cells."""
        return (
            f"{numbers['same']} of {numbers['cells']} cells are the same · cosine: mean {numbers['mean cosine']:.2f}, "
            f"at the border {numbers['rings'][0]:.2f}, in the middle {numbers['rings'][-1]:.2f}"
        )
