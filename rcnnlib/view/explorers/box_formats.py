"""Four numbers, three readings: what each number of a box moves, format by format (lesson 01).

Leaves out: overlap (`two_boxes`).
"""

from typing import Any

import torch

from rcnnlib.ops.boxes import FORMATS, box_convert
from rcnnlib.view.canvas import Canvas
from rcnnlib.view.explorers.base import Explorer, choice, slider


def box_formats(first: float, second: float, third: float, fourth: float, read_as: str) -> dict[str, Any]:
    """Return the corners of the box that four numbers mean when ``read_as`` says how to read them, and its size."""
    numbers = torch.tensor([[first, second, third, fourth]], dtype=torch.float32)
    corners = box_convert(numbers, read_as, "xyxy")[0]
    width, height = (corners[2:] - corners[:2]).tolist()
    return {"corners": corners, "width": width, "height": height, "is a box": width > 0 and height > 0}


class BoxFormats(Explorer):
    """Sliders for the four numbers of a box, and the format in which a program reads them."""

    compute = staticmethod(box_formats)
    from_canvas = ()

    def __init__(self, image: Any, numbers: tuple[int, int, int, int], alt: str) -> None:
        names = ("first", "second", "third", "fourth")
        controls: dict[str, Any] = {
            name: slider(f"{name} number", value, 0, 640, 1) for name, value in zip(names, numbers, strict=True)
        }
        controls["read_as"] = choice("Read as", FORMATS)
        super().__init__(controls, canvas=Canvas(image, alt=alt, display_width=460), title="Box formats")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the box where the format puts it."""
        assert self.canvas is not None
        label = self.controls["read_as"].value if numbers["is a box"] else "not a box"
        self.canvas.show(None, numbers["corners"], kinds="detection", labels=[label])
