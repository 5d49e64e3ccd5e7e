"""A probe for a sick detector: shift its boxes, swap their axes or the colours, and see whether they fit (lesson 17).

What makes wrong boxes right tells what is wrong with them.
Leaves out: scores, and boxes that are too small or too large.

Shapes:
    N  boxes of all shown pictures      G  objects of a picture
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.datasets.transforms import Example
from rcnnlib.engine.clinic import FAULTS, HEALTHY, Signs, enlarge, swap_colours
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider, switch
from rcnnlib.view.plotting import LINES, STYLES

WHAT = ("detections", "proposals", "loader's boxes")
LEAST = 0.5  # score of a detection that takes part
GOOD = 0.5  # IoU from which a box fits
ZOOM = 4
REACH = 8  # pixels of shift, to each side


def boxes_of(
    clinic: dict[str, Any], examples: list[Example], patient: str, what: str, swapped: bool
) -> list[tuple[Float[Tensor, "N 4"], Int[Tensor, " N"]]]:
    """Return boxes and labels for each shown picture: detections of score >= 0.5, as many proposals as there are
    objects (label 0), or what the patient's loader says. ``swapped``: when colours are swapped once more.
    """
    found = []
    for place, example in enumerate(examples):
        stored = clinic["cases"][patient]["pictures"][place]
        if what == WHAT[2]:
            read = FAULTS.get(patient, HEALTHY).reading(example)
            found.append((read.boxes, read.labels))
        elif what == WHAT[1]:
            boxes = torch.tensor(stored["proposals"]["boxes"]).reshape(-1, 4)[: len(example.boxes)]
            found.append((boxes, torch.zeros(len(boxes), dtype=torch.int64)))
        else:
            one = stored["colours swapped" if swapped else "detections"]
            good = torch.tensor(one["scores"]) >= LEAST
            boxes, labels = torch.tensor(one["boxes"]).reshape(-1, 4), torch.tensor(one["labels"], dtype=torch.int64)
            found.append((boxes[good], labels[good]))
    return found


def _moved(boxes: Float[Tensor, "N 4"], dx: float, dy: float, axes: bool) -> Float[Tensor, "N 4"]:
    boxes = boxes[:, [1, 0, 3, 2]] if axes else boxes
    return boxes + torch.tensor([dx, dy, dx, dy], dtype=torch.float32)


def probe(
    picture: int,
    patient: str,
    what: str,
    dx: int,
    dy: int,
    axes: bool,
    colours: bool,
    *,
    clinic: dict[str, Any],
    examples: list[Example],
) -> dict[str, Any]:
    """Return the mean IoU of moved boxes with the object that each overlaps most, over all shown pictures, and the
    share that is right: IoU of 0.5 or more, and its name. ``curve`` is that mean for every shift along x.
    """
    found = boxes_of(clinic, examples, patient, what, colours)

    def ious(shift: float) -> Tensor:
        pairs = zip(found, examples, strict=True)
        return torch.cat(
            [box_iou(_moved(b, shift, dy, axes), e.boxes).amax(1) for (b, _), e in pairs if len(b)] or [torch.zeros(0)]
        )

    right = []
    for (boxes, labels), example in zip(found, examples, strict=True):
        if len(boxes):
            iou, row = box_iou(_moved(boxes, dx, dy, axes), example.boxes).max(dim=1)
            right += ((iou >= GOOD) & (labels == example.labels[row])).tolist()
    shifts = range(-REACH, REACH + 1)
    curve = [ious(shift).mean().item() if len(right) else 0.0 for shift in shifts]
    return {
        "boxes": len(right),
        "mean IoU": curve[dx + REACH],
        "right": sum(right) / len(right) if right else 0.0,
        "best dx": shifts[max(range(len(curve)), key=curve.__getitem__)],
        "curve": curve,
        "here": _moved(found[picture][0], dx, dy, axes),
    }


class Probe(Explorer):
    """A picture as the network gets it, with the boxes moved as you say; beside it the mean IoU along x."""

    from_canvas = ()

    def __init__(self, clinic: dict[str, Any], patient: str = "A") -> None:
        """Take the stored clinic."""
        dataset = Signs(clinic["test pictures"], seed=2)
        self.examples, self.shown = [dataset[number] for number in clinic["shown"]], ()
        self.compute = partial(probe, clinic=clinic, examples=self.examples)
        controls = {
            "picture": slider("picture", 0, 0, len(self.examples) - 1, 1),
            "patient": choice("patient", ["healthy", *FAULTS], patient),
            "what": choice("boxes", WHAT),
            "dx": slider("shift x", 0, -REACH, REACH, 1),
            "dy": slider("shift y", 0, -REACH, REACH, 1),
            "axes": switch("swap x and y of the boxes"),
            "colours": switch("swap red and blue of the picture"),
        }
        canvas = Canvas(torch.ones(3, 8, 8), alt="", display_width=400)
        chart = Chart(400, 300)
        (self.curve,) = chart.axes.plot([], [], "-", color=LINES[0])
        (self.mark,) = chart.axes.plot([], [], "D", color=STYLES["detection"].colour, ms=9, mec="black")
        chart.axes.set(xlim=(-REACH - 0.5, REACH + 0.5), ylim=(0, 1.02), xlabel="shift along x, pixels")
        chart.axes.set_title("mean IoU with the objects, all six pictures")
        chart.animate(self.curve, self.mark)
        super().__init__(controls, canvas=canvas, chart=chart, title="Probe")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the moved boxes on one picture, and the curve."""
        state = self.state
        example = self.examples[state["picture"]]
        swapped = (FAULTS.get(state["patient"], HEALTHY).reading is swap_colours) != state["colours"]
        picture = (state["picture"], swapped)
        image = enlarge((swap_colours(example) if swapped else example).image, ZOOM) if self.shown != picture else None
        self.shown = picture
        here = numbers["here"].clamp(0, example.image.shape[-1])
        kind = "proposal" if state["what"] == WHAT[1] else "detection"
        kinds = ["ground_truth"] * len(example.boxes) + [kind] * len(here)
        self.canvas.show(image, torch.cat((example.boxes, here)) * ZOOM, kinds=kinds)
        self.canvas.alt = f"Test picture {state['picture']} with {len(here)} boxes, patient {state['patient']}"
        self.curve.set_data(range(-REACH, REACH + 1), numbers["curve"])
        self.mark.set_data([state["dx"]], [numbers["mean IoU"]])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say how well the boxes fit, and how many are right, name included."""
        if not numbers["boxes"]:
            return "no box with a score of 0.5 or more"
        names = "" if self.state["what"] == WHAT[1] else f" · right box and name {numbers['right']:.0%}"
        return (
            f"{numbers['boxes']} boxes on six pictures · mean IoU {numbers['mean IoU']:.2f}{names}\n"
            f"along x the best shift is {numbers['best dx']:+d}"
        )
