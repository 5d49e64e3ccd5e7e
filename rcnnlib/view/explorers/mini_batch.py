"""The mini-batch that a step draws out of a picture's proposals: before, the draw, and after (lesson 07).

In the chart each proposal stands at its IoU and at the random number that it drew. The lowest of each kind win.
Leaves out: what the head does with them.

Shapes:
    N  proposals, with the objects themselves where these are added      G  objects      S  rows of the mini-batch
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import ipywidgets
import torch
from matplotlib.patches import Rectangle

from rcnnlib.datasets.transforms import Example, uniform_noise
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.matcher import IGNORED, NEGATIVE, POSITIVE, match_proposals
from rcnnlib.ops.sampler import sample
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider, switch
from rcnnlib.view.plotting import STYLES

BUGS = ("none", "ignored taken for background", "positives not capped")
SEED = 0
COLOURS = (STYLES["proposal"].colour, STYLES["note"].colour, STYLES["ignored"].colour)
PARTS = ("positive", "background", "empty")


def mini_batch(
    picture: str,
    positive: float,
    background: float,
    fraction: float,
    rows: int,
    epoch: int,
    truth: bool,
    bug: str,
    *,
    pictures: Mapping[str, Example],
) -> dict[str, Any]:
    """Return the counts before and after the draw, what share is positive, and how many rows carry a wrong label."""
    chosen = pictures[picture]
    boxes = torch.cat((chosen.proposals, chosen.boxes)) if truth else chosen.proposals
    objects, labels = chosen.boxes, torch.ones(max(1, len(chosen.boxes)), dtype=torch.int64)
    if not len(objects):  # a place for an object that is not there: nobody overlaps it
        objects = torch.zeros(1, 4)
    match = match_proposals(box_iou(boxes, objects), labels > 0, positive=positive, background_low=background)
    taken = match._replace(status=match.status.clamp(min=NEGATIVE)) if bug == BUGS[1] else match
    noise = uniform_noise(len(boxes), seed=SEED, epoch=epoch, id=chosen.id)
    drawn = sample(taken, labels, noise, size=rows, positive_fraction=1.0 if bug == BUGS[2] else fraction)
    index, names = drawn.index[drawn.labels >= 0], drawn.labels[drawn.labels >= 0]
    right = match.status[index] == names  # all labels are 1 here, as the status of a positive
    before = {name: int((match.status == value).sum()) for name, value in _STATUS.items()}
    after = {"positive": int((names == 1).sum()), "background": int((names == 0).sum()), "empty": rows - len(index)}
    return {
        "before": before,
        "after": after,
        "positive share": after["positive"] / max(1, len(index)),
        "mean IoU": float(match.iou[index].mean()) if len(index) else 0.0,
        "wrong labels": int((~right).sum()),
        "boxes": boxes[index],
        "kinds": [("proposal" if name else "note") if ok else "ignored" for name, ok in zip(names, right, strict=True)],
        "points": torch.stack((match.iou, noise)),
        "index": index,
    }


_STATUS = {"positive": POSITIVE, "background": NEGATIVE, "ignored": IGNORED}


class MiniBatch(Explorer):
    """A photo with the drawn boxes; beside it the draw, and the rows of the mini-batch."""

    from_canvas = ()  # nothing is dragged

    def __init__(self, pictures: Mapping[str, Example], *, picture: str = "", bug: str = BUGS[0]) -> None:
        """Show ``pictures`` by name, each with its proposals."""
        self.pictures, self.shown = pictures, ""
        self.compute = partial(mini_batch, pictures=pictures)
        controls = {
            "picture": choice("photo", list(pictures), picture or None),
            "positive": slider("positive from", 0.5, 0.0, 1.0, 0.05),
            "background": slider("background from", 0.1, 0.0, 1.0, 0.05),
            "fraction": slider("positive, at most", 0.25, 0.0, 1.0, 0.05),
            "rows": slider("batch R", 64, 8, 128, 8),
            "epoch": slider("epoch", 0, 0, 20, 1),
            "truth": switch("add the objects themselves"),
            "bug": choice("planted bug", BUGS, bug),
        }
        canvas = Canvas(next(iter(pictures.values())).image, alt="", display_width=400)
        chart = Chart(410, 340, rows=2)
        self.draw_axes, self.row_axes = chart.axes
        self._draw_points()
        self._draw_rows()
        chart.animate(*self.zones, *self.marks, *self.parts, *self.part_names)
        super().__init__(controls, canvas=canvas, chart=chart, title="Mini-batch")
        # Two columns of controls, so that controls and pictures fit on one screen.
        column = list(controls.values())
        columns = [ipywidgets.VBox(column[:4]), ipywidgets.VBox(column[4:7])]
        both = ipywidgets.Box(columns, layout=ipywidgets.Layout(flex_flow="row wrap", overflow="visible"))
        self.children = (both, column[7], *self.children[len(controls) :])
        for control in column[:6]:
            control.layout.width = "400px"

    def _draw_points(self) -> None:
        """The draw: IoU to the right, the random number upward; drawn points are large."""
        axes = self.draw_axes
        axes.get_gridspec().set_height_ratios([5, 1])
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="IoU with the best object", ylabel="random number")
        axes.set_title("dots: all proposals; large: drawn")
        faces = (f"{COLOURS[2]}55", "#FFFFFF", f"{COLOURS[0]}33")
        self.zones = [axes.add_patch(Rectangle((0, -0.02), 0, 1.04, facecolor=face, zorder=0)) for face in faces]
        looks = (
            {"marker": ".", "markersize": 3, "color": "#555555"},
            {"marker": "s", "markersize": 7, "color": COLOURS[0], "markeredgecolor": "black"},
            {"marker": "o", "markersize": 6, "color": COLOURS[1], "markeredgecolor": "black"},
            {"marker": "X", "markersize": 7, "color": "black", "markeredgecolor": "white"},
        )
        self.marks = [axes.plot([], [], linestyle="none", **look)[0] for look in looks]

    def _draw_rows(self) -> None:
        """The rows of the mini-batch as one bar."""
        axes = self.row_axes
        axes.set(xlim=(0, 128), ylim=(0, 1), yticks=[], xlabel="rows of the mini-batch")
        self.parts = [axes.add_patch(Rectangle((0, 0.1), 0, 0.8, facecolor=c, edgecolor="black")) for c in COLOURS]
        self.part_names = [axes.text(0, 0.5, "", ha="center", va="center", fontsize=9) for _ in PARTS]

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the boxes on the photo, the draw and the rows."""
        name = self.state["picture"]
        picture = self.pictures[name]
        boxes = torch.cat((numbers["boxes"], picture.boxes))
        kinds = numbers["kinds"] + ["ground_truth"] * len(picture.boxes)
        self.canvas.show(None if name == self.shown else picture.image, boxes, kinds=kinds)
        self.canvas.alt = f"The photo {name} with the {len(numbers['boxes'])} proposals of a mini-batch"
        self.shown = name
        self._place_points(numbers)
        start = 0
        for part, text, kind in zip(self.parts, self.part_names, PARTS, strict=True):
            count = numbers["after"][kind]
            part.set_bounds(start, 0.1, count, 0.8)
            text.set_text(f"{count} {kind}" if count >= 25 else str(count) if count >= 4 else "")
            text.set_x(start + count / 2)
            start += count

    def _place_points(self, numbers: dict[str, Any]) -> None:
        high = self.state["positive"]
        low = min(self.state["background"], high)  # where they cross, positive wins
        for zone, (left, right) in zip(self.zones, ((-0.02, low), (low, high), (high, 1.02)), strict=True):
            zone.set_bounds(left, -0.02, max(0, right - left), 1.04)
        drawn = numbers["points"][:, numbers["index"]]
        self.marks[0].set_data(*numbers["points"].numpy())
        for mark, kind in zip(self.marks[1:], ("proposal", "note", "ignored"), strict=True):
            mark.set_data(*drawn[:, [one == kind for one in numbers["kinds"]]].numpy())

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts before and after, and what share of the rows in use is positive."""
        before = ", ".join(f"{count} {name}" for name, count in numbers["before"].items())
        after = ", ".join(f"{count} {name}" for name, count in numbers["after"].items())
        share, mean, wrong = (numbers[name] for name in ("positive share", "mean IoU", "wrong labels"))
        said = f"positive share {share:.4f} · mean IoU {mean:.4f} · wrong labels {wrong}"
        return f"before: {before}\nbatch:  {after}\n{said}"
