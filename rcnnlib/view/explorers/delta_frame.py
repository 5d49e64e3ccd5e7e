"""One shift in pixels, measured in anchors of different size: why a delta is divided by the anchor (lesson 10).

Leaves out: the height, which goes like the width.
"""

from typing import Any

import torch
from matplotlib.patches import Rectangle

from rcnnlib.ops.box_coder import encode
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, STYLES

LARGEST = 256


def delta_frame(side: int, shift: int, wider: float) -> dict[str, Any]:
    """Return the deltas from a square anchor to a box that lies ``shift`` pixels to the right and is ``wider``."""
    anchor = torch.tensor([[-side / 2, -side / 2, side / 2, side / 2]])
    width = side * wider
    box = torch.tensor([[shift - width / 2, -side / 2, shift + width / 2, side / 2]])
    x, _, w, _ = encode(box, anchor)[0].tolist()
    return {"pixels": shift, "t_x": x, "t_w": w, "anchor": anchor[0], "box": box[0]}


class DeltaFrame(Explorer):
    """An anchor and a box beside it; the curve of t_x over all sides of the anchor."""

    compute = staticmethod(delta_frame)
    from_canvas = ()

    def __init__(self) -> None:
        controls = {
            "side": slider("side of the anchor", 64, 16, LARGEST, 4),
            "shift": slider("box to the right by", 16, 0, 64, 1),
            "wider": slider("box wider by", 1.0, 0.5, 2.0, 0.05),
        }
        chart = Chart(760, 320, columns=2)
        self.paper, self.curves = chart.axes
        self.paper.set(xlim=(-200, 200), ylim=(160, -160), xticks=[], yticks=[], aspect="equal")
        self.paper.set_title("dashed: the anchor; solid: the box")
        self.boxes = [self._rectangle("anchor"), self._rectangle("ground_truth")]
        self.sides = torch.arange(16, LARGEST + 1, 4)
        (self.curve,) = self.curves.plot(self.sides.numpy(), torch.zeros(len(self.sides)).numpy(), color=LINES[0])
        (self.dot,) = self.curves.plot([64], [0], "o", color=LINES[2])
        self.curves.set(
            xlim=(0, LARGEST), ylim=(0, 2), xlabel="side of the anchor, pixels", title="t_x for the same pixels"
        )
        chart.animate(*self.boxes, self.curve, self.dot)
        super().__init__(controls, chart=chart, title="Frame of a delta")

    def _rectangle(self, kind: str) -> Rectangle:
        style = STYLES[kind]
        dash = (0, style.dash) if style.dash else "solid"
        return self.paper.add_patch(Rectangle((0, 0), 0, 0, fill=False, ec=style.colour, lw=style.width, ls=dash))

    def draw(self, numbers: dict[str, Any]) -> None:
        """Move both boxes, the curve and its point."""
        for patch, name in zip(self.boxes, ("anchor", "box"), strict=True):
            x1, y1, x2, y2 = numbers[name].tolist()
            patch.set_bounds(x1, y1, x2 - x1, y2 - y1)
        self.curve.set_ydata((self.controls["shift"].value / self.sides).numpy())
        self.dot.set_data([self.controls["side"].value], [numbers["t_x"]])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the shift in pixels and as deltas."""
        return super().tell({name: numbers[name] for name in ("pixels", "t_x", "t_w")})
