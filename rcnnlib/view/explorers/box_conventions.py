"""One box as four programs write it down, and what becomes of it when another program reads it (lesson 16).

    course, torchvision   x1, y1, x2, y2          continuous pixels
    COCO                  x, y, width, height     continuous pixels
    VOC                   xmin, ymin, xmax, ymax  the first pixel has the number 1, xmax is the last pixel inside
    YOLO                  cx, cy, width, height   parts of the picture's width and height
Leaves out: rounding to whole pixels, which VOC files do.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.ops.boxes import box_convert, box_iou, clip_boxes
from rcnnlib.view.canvas import Canvas
from rcnnlib.view.explorers.base import Explorer, choice
from rcnnlib.view.plotting import Kind

CONVENTIONS = ("course", "COCO", "VOC", "YOLO")
FIRST_IS_ONE = torch.tensor([1.0, 1.0, 0.0, 0.0])


def write_box(box: Float[Tensor, " 4"], convention: str, size: tuple[int, int]) -> Float[Tensor, " 4"]:
    """Return the four numbers that ``convention`` writes for corners, in a picture of (width, height)."""
    if convention == "VOC":
        return box + FIRST_IS_ONE
    if convention == "YOLO":
        return box_convert(box[None], "xyxy", "cxcywh")[0] / torch.tensor(size).repeat(2)
    return box_convert(box[None], "xyxy", "xywh")[0] if convention == "COCO" else box


def read_box(numbers: Float[Tensor, " 4"], convention: str, size: tuple[int, int]) -> Float[Tensor, " 4"]:
    """Return the corners that four numbers mean if they are read by ``convention``."""
    if convention == "VOC":
        return numbers - FIRST_IS_ONE
    if convention == "YOLO":
        return box_convert((numbers * torch.tensor(size).repeat(2))[None], "cxcywh", "xyxy")[0]
    return box_convert(numbers[None], "xywh", "xyxy")[0] if convention == "COCO" else numbers


def box_conventions(boxes: Float[Tensor, "N 4"], written: str, read: str, *, size: tuple[int, int]) -> dict[str, Any]:
    """Return the box in all conventions, and where a reader puts it; a box turned inside out has IoU 0."""
    rows = {name: write_box(boxes[0], name, size) for name in CONVENTIONS}
    seen = read_box(rows[written], read, size)
    is_box = bool((seen[2:] > seen[:2]).all())
    iou = box_iou(boxes[:1], seen[None]).item() if is_box else 0.0
    return {"IoU": iou, "is a box": is_box, "seen": seen, "rows": rows}


class BoxConventions(Explorer):
    """A box to drag, green; orange what a program makes of it that reads another convention."""

    def __init__(self, image: Any, box: Any, alt: str) -> None:
        """Start with one box on ``image``; ``alt`` says what the picture shows."""
        canvas = Canvas(image, [box], kinds="ground_truth", editable=[0], alt=alt, display_width=430)
        self.size = (canvas.width, canvas.height)
        self.compute = partial(box_conventions, size=self.size)
        controls = {"written": choice("written as", CONVENTIONS), "read": choice("read as", CONVENTIONS)}
        super().__init__(controls, canvas=canvas, title="Box conventions")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show where the reader sees the box, as far as that lies on the picture."""
        width, height = self.size
        seen = clip_boxes(numbers["seen"][None], torch.tensor([float(height), float(width)]))[0].tolist()
        kinds: list[Kind] = ["ground_truth", "detection"]
        written, read = self.controls["written"].value, self.controls["read"].value
        own, label = f"written as {written}", f"read as {read}" if numbers["is a box"] else "not a box"
        if numbers["IoU"] > 0.5:  # two labels would lie on each other
            own, label = f"{own}, {label}", ""
        boxes = [self.canvas.boxes[0].tolist(), seen]
        self.canvas.show(None, boxes, kinds=kinds, labels=[own, label], editable=[0])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the four forms, a line each, and how well the reader's box fits."""
        lines = [
            f"{name:<7}" + ", ".join(f"{number:.4f}" if name == "YOLO" else f"{number:.1f}" for number in row.tolist())
            for name, row in numbers["rows"].items()
        ]
        state, box = self.state, "" if numbers["is a box"] else ", not a box"
        return "\n".join(
            [f"written as {state['written']}, read as {state['read']}: IoU {numbers['IoU']:.4f}{box}", *lines]
        )
