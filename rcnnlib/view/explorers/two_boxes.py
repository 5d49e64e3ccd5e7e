"""Two boxes on a photo: their IoU with all its parts, and the label that two thresholds give it (lesson 01).

Leaves out: more than two boxes, and the rule that an object's best box is positive at any IoU (`ops.matcher`).

Shapes:
    boxes (2, 4): the ground truth, then the detection
"""

from typing import Any

import ipywidgets
import torch
from matplotlib.patches import Rectangle

from rcnnlib.ops.boxes import box_area, box_convert, box_intersection, box_iou
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, STYLES

BUGS = ("none", "xywh read as xyxy", "+1")
WIDTH = 410  # of the photo, CSS pixels
ZONES = ("background", "ignored", "positive")


def two_boxes(boxes: torch.Tensor, positive: float, background: float, bug: str) -> dict[str, Any]:
    """Return IoU, areas and label of a detection; ``bug`` says which mistake the program makes that compares them.

    Positive from ``positive`` on, background below ``background``, ignored between them.
    """
    truth, detection = boxes[:1], boxes[1:2]
    if bug == BUGS[1]:
        detection = box_convert(detection, "xyxy", "xywh")  # four numbers x, y, w, h, taken for corners
    elif bug == BUGS[2]:
        one = boxes.new_tensor([0.0, 0.0, 1.0, 1.0])  # x2 - x1 + 1 is the width of a box one pixel longer
        truth, detection = truth + one, detection + one
    iou, shared = box_iou(truth, detection).item(), box_intersection(truth, detection).item()
    areas = box_area(truth).item(), box_area(detection).item()
    return {
        "IoU": iou,
        "label": "positive" if iou >= positive else "background" if iou < background else "ignored",
        "intersection": shared,
        "union": areas[0] + areas[1] - shared,
        "areas": list(areas),
        "program sees": detection[0],
    }


class TwoBoxes(Explorer):
    """Two boxes to drag, sliders for the detection, two thresholds, and a switch that plants a bug."""

    compute = staticmethod(two_boxes)

    def __init__(self, image: Any, boxes: Any, alt: str) -> None:
        """Show ``image`` with ``boxes`` (2, 4), ground truth first; ``alt`` says what the photo shows."""
        canvas = Canvas(
            image, boxes, kinds=["ground_truth", "detection"], editable=[0, 1], alt=alt, display_width=WIDTH
        )
        ends = {"left": canvas.width, "top": canvas.height, "width": canvas.width, "height": canvas.height}
        self.places = {name: slider(f"detection: {name}", 0, 0, end, 1) for name, end in ends.items()}
        controls = {
            "positive": slider("positive from", 0.7, 0.0, 1.0, 0.05),
            "background": slider("background below", 0.3, 0.0, 1.0, 0.05),
            "bug": choice("planted bug", BUGS),
        }
        chart = Chart(400, 320, rows=2)
        self.paper, self.scale = chart.axes
        self._draw_paper(canvas)
        self._draw_scale()
        chart.animate(*self.areas, *self.zones, *self.names, self.mark)
        super().__init__(controls, canvas=canvas, chart=chart, title="Two boxes")
        # Two columns of controls, so that controls and pictures fit on one screen.
        columns = [ipywidgets.VBox(list(column.values())) for column in (self.places, controls)]
        both = ipywidgets.Box(columns, layout=ipywidgets.Layout(flex_flow="row wrap", overflow="visible"))
        self.children = [both, *self.children[len(controls) :]]
        for control in (*self.places.values(), controls["positive"], controls["background"]):
            control.layout.width = "400px"
        for place in self.places.values():
            place.observe(self._move_detection, "value")

    def _draw_paper(self, canvas: Canvas) -> None:
        """The boxes as the program sees them: two light areas make the union, the dark one is the intersection."""
        self.paper.get_gridspec().set_height_ratios([4, 1])
        self.paper.set(xlim=(0, canvas.width), ylim=(canvas.height, 0), xticks=[], yticks=[], aspect="equal")
        self.paper.set_title("union (light), intersection (dark)")
        for spine in self.paper.spines.values():
            spine.set_visible(True)
        edges = [(STYLES["ground_truth"].colour, "-"), (STYLES["detection"].colour, "--"), (LINES[0], "-")]
        faces = [f"{LINES[0]}44", f"{LINES[0]}44", LINES[0]]
        self.areas = [
            Rectangle((0, 0), 0, 0, facecolor=face, edgecolor=edge, linestyle=dash, linewidth=1.5)
            for face, (edge, dash) in zip(faces, edges, strict=True)
        ]
        for area in self.areas:
            self.paper.add_patch(area)

    def _draw_scale(self) -> None:
        """IoU from 0 to 1, cut by the thresholds into three zones."""
        self.scale.set(xlim=(0, 1), ylim=(0, 1), yticks=[], xlabel="IoU")
        self.zones = [Rectangle((0, 0), 0, 1, facecolor=face) for face in ("#FFFFFF", "#CCCCCC", f"{LINES[0]}66")]
        self.names = [self.scale.text(0, 0.3, name, ha="center", va="center") for name in ZONES]
        (self.mark,) = self.scale.plot([0, 0], [0.6, 1], color="black", marker="v", markevery=[0], markersize=9)
        for zone in self.zones:
            self.scale.add_patch(zone)

    def _move_detection(self, _change: Any) -> None:
        """Take the detection from the sliders, cut off at the border of the photo."""
        assert self.canvas is not None
        if self._held:  # the sliders follow a drag
            return
        x, y, width, height = (place.value for place in self.places.values())
        right, bottom = min(x + width, self.canvas.width), min(y + height, self.canvas.height)
        self.canvas.boxes = [self.canvas.boxes[0], [x, y, right, bottom]]

    def draw(self, numbers: dict[str, Any]) -> None:
        """Let sliders, label, areas and zones follow the boxes."""
        assert self.canvas is not None
        truth, detection = self.canvas.boxes
        sides = (detection[0], detection[1], detection[2] - detection[0], detection[3] - detection[1])
        for place, side in zip(self.places.values(), sides, strict=True):
            place.value = round(float(side))
        zoom = WIDTH / self.canvas.width
        # One label would cover the other: colour and dashes are enough then.
        near = abs(truth[0] - detection[0]) * zoom < 90 and abs(truth[1] - detection[1]) * zoom < 22
        self.canvas.labels = ["" if near else "ground truth", f"detection, IoU {numbers['IoU']:.2f}"]
        seen = numbers["program sees"].tolist()
        shared = [max(truth[0], seen[0]), max(truth[1], seen[1]), min(truth[2], seen[2]), min(truth[3], seen[3])]
        if not numbers["intersection"]:
            shared = [0, 0, 0, 0]
        for area, (x1, y1, x2, y2) in zip(self.areas, (truth, seen, shared), strict=True):
            area.set_bounds(x1, y1, x2 - x1, y2 - y1)
        self._place_zones(numbers["IoU"])

    def _place_zones(self, iou: float) -> None:
        high = self.controls["positive"].value
        low = min(self.controls["background"].value, high)  # where they cross, positive wins
        limits = (0.0, low, high, 1.0)
        for zone, name, start, end in zip(self.zones, self.names, limits, limits[1:], strict=False):
            zone.set_bounds(start, 0, end - start, 1)
            name.set_x((start + end) / 2)
            name.set_visible(end - start > 0.2)
        self.mark.set_xdata([iou, iou])
