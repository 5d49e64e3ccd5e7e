"""How many weights a head has, and where they sit: sliders for its sizes (lesson 06).

Counted by formula; a test holds the formula against the real layers.
Leaves out: biases are counted, the trunk is not.
"""

from typing import Any

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

LAYERS = ("1x1 reduction", "fc6", "fc7", "scores", "deltas")
BOXES = ("one a class", "one for all")
TRUNK = 512  # channels of the feature map, in SqueezeNet as in VGG16


def head_size(channels: int, grid: int, width: int, classes: int, box_layer: str) -> dict[str, Any]:
    """Return the weights of each layer of a head on a map of ``TRUNK`` channels, biases included."""
    counts = {
        "1x1 reduction": (TRUNK + 1) * channels,
        "fc6": (channels * grid * grid + 1) * width,
        "fc7": (width + 1) * width,
        "scores": (width + 1) * (classes + 1),
        "deltas": (width + 1) * 4 * (classes if box_layer == BOXES[0] else 1),
    }
    total = sum(counts.values())
    return {"weights": counts, "total": total, "share of fc6": counts["fc6"] / total, "MB": 4 * total / 1e6}


class HeadSize(Explorer):
    """Sliders for the sizes of a head, and a bar for each of its layers."""

    compute = staticmethod(head_size)

    def __init__(self, channels: int = 128, grid: int = 7, width: int = 256, classes: int = 5) -> None:
        controls = {
            "channels": slider("channels", channels, 16, TRUNK, 16),
            "grid": slider("side of the grid", grid, 1, 14, 1),
            "width": slider("width of fc6, fc7", width, 64, 4096, 64),
            "classes": slider("classes", classes, 1, 80, 1),
            "box_layer": choice("boxes", BOXES),
        }
        chart = Chart(560, 240)
        axes = chart.axes
        axes.set(xlim=(0, 1.35), ylim=(len(LAYERS) - 0.4, -0.6), yticks=range(len(LAYERS)), yticklabels=LAYERS)
        axes.set(xticks=[0, 0.5, 1], xlabel="share of the head's weights")
        self.bars = axes.barh(range(len(LAYERS)), [0] * len(LAYERS), height=0.6, color=LINES[0])
        self.texts = [axes.text(0, row, "", va="center", fontsize=9) for row in range(len(LAYERS))]
        chart.animate(*self.bars, *self.texts)
        super().__init__(controls, chart=chart, title="Head size")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Set the bars."""
        for bar, text, count in zip(self.bars, self.texts, numbers["weights"].values(), strict=True):
            bar.set_width(count / numbers["total"])
            text.set_text(f"{count:,}")
            text.set_x(bar.get_width() + 0.02)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the total, the room and what the largest layer takes."""
        return (
            f"{numbers['total']:,} weights · {numbers['MB']:.1f} MB as float32 · "
            f"fc6 holds {100 * numbers['share of fc6']:.1f} %"
        )
