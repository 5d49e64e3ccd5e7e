"""One cell of the feature map, and the pixels that it sees: found by gradient, layer by layer (lesson 04).

A cell's numbers are added up and sent backward. A pixel whose gradient is not zero can change them; no other can.
Leaves out: gradients of a loss, and what the cell makes of what it sees.

Shapes:
    H, W  height and width of the photo, multiples of 16
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.squeezenet import Fire

from rcnnlib.checks.projection import receptive_field
from rcnnlib.models.backbone import SqueezeNetTrunk
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

NAMES = ("conv1", "", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5", "fire6", "fire7", "fire8", "fire9")
AROUND = 7  # cells on each side of a cell: all that it sees lies in them
REACH = 120  # pixels on each side of a cell's centre that the chart shows
WIDTH = 370  # of the photo, CSS pixels


class Layer(NamedTuple):
    """A layer of the trunk that looks at neighbours, or down-samples."""

    index: int  # in ``trunk.features``
    kernel: int
    stride: int
    jump: int  # pixels between two cells of its map
    field: int  # side of what a cell sees, pixels


def layers_of(trunk: SqueezeNetTrunk) -> dict[str, Layer]:
    """Return the layers by their names in the paper of SqueezeNet; a fire module looks 3 cells wide."""
    names, found = [], []
    for index, (name, layer) in enumerate(zip(NAMES, trunk.features, strict=True)):
        window: Any = layer.expand3x3 if isinstance(layer, Fire) else layer
        if name:
            kernel, stride = (v if isinstance(v, int) else v[0] for v in (window.kernel_size, window.stride))
            names.append(name)
            found.append((index, kernel, stride))
    fields = receptive_field([(kernel, stride) for _, kernel, stride in found]).tolist()
    jumps = np.cumprod([stride for _, _, stride in found]).tolist()
    rows = zip(names, found, jumps, fields, strict=True)
    return {name: Layer(*layer, jump=jump, field=field) for name, layer, jump, field in rows}


def seen_pixels(
    trunk: SqueezeNetTrunk, image: Float[Tensor, "3 H W"], column: int, row: int, layer: Layer
) -> Float[Tensor, "H W"]:
    """Return how strongly each pixel can change the cell of ``layer`` at the centre of cell (column, row) of the map.

    Only the pixels around it go through the network: the cell sees no others.
    """
    stride, jump = trunk.stride, layer.jump
    top, left = (max(0, place - AROUND) * stride for place in (row, column))
    part = image[None, :, top : (row + AROUND + 1) * stride, left : (column + AROUND + 1) * stride]
    pixels = part.clone().requires_grad_()
    with torch.enable_grad():
        x = (pixels.flip(1) * 255 - trunk.mean) / trunk.std  # as in the trunk's own forward
        cells = nn.Sequential(*trunk.features[: layer.index + 1])(x)
        y, x = ((place * stride + stride // 2 - start) // jump for place, start in ((row, top), (column, left)))
        (gradient,) = torch.autograd.grad(cells[0, :, y, x].sum(), pixels)
    seen = image.new_zeros(image.shape[1:])
    seen[top : top + part.shape[2], left : left + part.shape[3]] = gradient[0].abs().sum(0)
    return seen


def look_back(
    column: int, row: int, layer: str, share: float, *, trunk: SqueezeNetTrunk, image: Float[Tensor, "3 H W"]
) -> dict[str, Any]:
    """Return what a cell sees: by the recurrence, by gradient, and the square that holds ``share`` of the gradient."""
    chosen = layers_of(trunk)[layer]
    seen = seen_pixels(trunk, image, column, row, chosen)
    height, width = seen.shape
    ys, xs = (seen.sum(axis).nonzero().flatten() for axis in (1, 0))
    box = [float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)]
    x, y = (place * trunk.stride + trunk.stride // 2 for place in (column, row))
    far = torch.maximum((torch.arange(height) - y).abs()[:, None], (torch.arange(width) - x).abs()[None])
    sums = torch.bincount(far.flatten(), weights=seen.flatten().double()).cumsum(0)
    side = 2 * int((sums >= share * sums[-1]).int().argmax()) + 1
    return {
        "stride": chosen.jump,
        "field": chosen.field,
        "seen": box,
        "centre": [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2],
        "square": side,
        "share of the photo": (box[2] - box[0]) * (box[3] - box[1]) / (height * width),
        "point": (x, y),
        "gradient": seen,
    }


class ReceptiveField(Explorer):
    """A photo on which a click picks a cell; what the cell sees, and beside it the strength of the gradient."""

    from_canvas = ()  # the sliders hold the cell; a click moves them

    def __init__(self, image: Float[Tensor, "3 H W"], trunk: SqueezeNetTrunk, cell: Sequence[int], alt: str) -> None:
        """Show ``image`` with ``cell`` = (column, row) of its map; ``alt`` says what the photo shows."""
        rows, columns = image.shape[1] // trunk.stride, image.shape[2] // trunk.stride
        self.stride = trunk.stride
        self.compute = partial(look_back, trunk=trunk, image=image)
        names = list(layers_of(trunk))
        controls = {
            "column": slider("cell: column", cell[0], 0, columns - 1, 1, slow=True),
            "row": slider("cell: row", cell[1], 0, rows - 1, 1, slow=True),
            "layer": choice("after layer", names, names[-1]),
            "share": slider("square holds", 0.5, 0.05, 0.95, 0.05, slow=True),
        }
        super().__init__(
            controls,
            canvas=Canvas(image, alt=alt, display_width=WIDTH),
            chart=self._make_chart(),
            title="Receptive field",
        )
        self.canvas.observe(self.follow_click, "clicked")

    def _make_chart(self) -> Chart:
        """The gradient around the cell; below it the same, summed down the columns."""
        chart = Chart(320, 350, rows=2)
        self.window, self.profile = chart.axes
        self.window.get_gridspec().set_height_ratios([3.4, 1])
        side = (-REACH, REACH + 1)
        self.window.set(xlim=side, ylim=side[::-1], aspect="equal", xticks=[], yticks=[])
        self.window.set_title("gradient (white: exactly 0)")
        blank = np.zeros((2 * REACH + 1,) * 2)
        self.heat = self.window.imshow(blank, extent=(*side, *side[::-1]), cmap="cividis", interpolation="nearest")
        self.heat.set_cmap(self.heat.cmap.with_extremes(under="white", bad="#CCCCCC"))  # bad: outside of the photo
        self.window.spines[:].set_visible(False)
        self.squares = [
            self.window.add_patch(Rectangle((0, 0), 0, 0, fill=False, ec=colour, lw=2, ls=line))
            for colour, line in (("black", "-"), ("white", "-"), (LINES[1], "--"))
        ]
        self.profile.set(xlim=side, ylim=(0, 1.05), yticks=[], xlabel="pixels from the centre of the cell")
        (self.curve,) = self.profile.plot([], [], color=LINES[0], lw=1.5)
        chart.animate(self.heat, *self.squares, self.curve)
        return chart

    def follow_click(self, change: Any) -> None:
        """Pick the cell under the point that was clicked."""
        if change["new"] is not None and not self._held:
            limits = self.controls["column"].max, self.controls["row"].max
            column, row = (min(int(at) // self.stride, top) for at, top in zip(change["new"], limits, strict=True))
            self.set(column=column, row=row)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show cell, field and square on the photo, and the gradient around the cell."""
        (x, y), side = numbers["point"], numbers["square"]
        square = [x - side // 2, y - side // 2, x + side // 2 + 1, y + side // 2 + 1]
        jump = numbers["stride"]
        cell = [x // jump * jump, y // jump * jump, x // jump * jump + jump, y // jump * jump + jump]
        labels = ["sees", f"{self.state['share']:.0%}", ""]
        self.canvas.show(None, [numbers["seen"], square, cell], kinds="note", labels=labels)
        around = pad(numbers["gradient"], (REACH,) * 4, value=torch.nan)[y : y + 2 * REACH + 1, x : x + 2 * REACH + 1]
        top = around.nan_to_num().max()
        self.heat.set(data=(around / top).sqrt().numpy(), clim=(1e-9, 1))
        half = numbers["field"] / 2
        for frame, reach in zip(self.squares, (half, 0, side / 2), strict=True):
            frame.set_bounds(0.5 - reach, 0.5 - reach, 2 * reach, 2 * reach)
        sums = around.nan_to_num().sum(0)
        self.curve.set_data(np.arange(-REACH, REACH + 1) + 0.5, (sums / sums.max()).numpy())

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the field by the recurrence, the pixels by gradient with their centre, and the square."""
        x1, y1, x2, y2 = numbers["seen"]
        x, y = numbers["centre"]
        return (
            f"stride {numbers['stride']} · field {numbers['field']} px · sees x {x1:g} to {x2:g}, y {y1:g} to {y2:g} "
            f"· centre ({x:g}, {y:g})\n{self.state['share']:.0%} of the gradient in a square of {numbers['square']} px "
            f"· it sees {numbers['share of the photo']:.1%} of the photo"
        )
