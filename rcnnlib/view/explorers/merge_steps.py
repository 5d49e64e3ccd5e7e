"""Lesson 02: grow the regions of Selective Search merge by merge, with the measures of your choice.

One tree at a time: HSV, one scale. `ops.selective_search.selective_search` mixes the boxes of eight such trees.
Leaves out: the pixels of a merge (a region is told by its numbers), and the rank of the boxes.

Shapes:
    H, W  photo      G  hand-drawn boxes      n  regions of the segmentation      R  regions of the whole tree
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import patch

import ipywidgets
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnnlib.datasets.coco import wild
from rcnnlib.ops import selective_search as search
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider, switch
from rcnnlib.view.plotting import STYLES

MEASURES = tuple(search.MEASURES)
SCALES = (100, 300)
BUGS = ("none", "plain mean", "least similar first")
PHOTOS = ("cow", "owl", "chicken", "giraffe")
MOST = 400  # regions on the axis of the chart


class Start(NamedTuple):
    """A photo cut into its first regions."""

    image: Float[Tensor, "3 H W"]
    truths: Float[Tensor, "G 4"]
    labels: Int[Tensor, "H W"]
    regions: search.Regions


@cache
def open_start(photo: str, scale: int) -> Start:
    """Read a photo of Wild, cut it in HSV with k = ``scale``, and measure its regions."""
    photos = wild()
    example = photos[[file for _, file in photos.images].index(f"{photo}.jpg")]
    hsv = search.to_hsv(example.image)
    labels = search.segment(hsv, scale=scale, min_size=search.FAST_MIN_SIZE)
    regions = search.describe_regions(labels, search.colour_planes(hsv), search.texture_planes(hsv))
    return Start(example.image, example.boxes, labels, regions)


@contextmanager
def planted(bug: str) -> Iterator[None]:
    """Plant a bug into the grouping of the library for as long as the block runs."""
    rightly = search.similarity
    bugs: dict[str, dict[str, Callable[..., Any]]] = {
        BUGS[0]: {},
        BUGS[1]: {"merge_histograms": lambda a, b, size_a, size_b: (a + b) / 2},
        BUGS[2]: {"similarity": lambda *arguments: -rightly(*arguments)},
    }
    if bug not in bugs:
        raise ValueError(f"bug must be one of {', '.join(BUGS)}; got {bug!r}")
    if not bugs[bug]:
        yield
        return
    with patch.multiple(search, **bugs[bug]):
        yield


@cache
def grow(photo: str, scale: int, measures: tuple[str, ...], bug: str = "none") -> search.Hierarchy:
    """Return the tree of merges of a photo."""
    with planted(bug):
        return search.hierarchical_grouping(open_start(photo, scale).regions, measures=measures)


def paint_regions(image: Float[Tensor, "3 H W"], labels: Int[Tensor, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture in which every region has its mean colour and a white border."""
    ids, pixels = labels.numpy(), image.numpy().reshape(3, -1)
    sizes = np.bincount(ids.ravel()).clip(min=1)
    means = np.stack([np.bincount(ids.ravel(), weights=plane) / sizes for plane in pixels], axis=1)
    painted = (means * 255).round().astype(np.uint8)[ids]
    painted[:, 1:][ids[:, 1:] != ids[:, :-1]] = 255
    painted[1:][ids[1:] != ids[:-1]] = 255
    return painted


def merge_steps(photo: str, scale: int, merges: int, bug: str, **ticked: bool) -> dict[str, Any]:
    """Return what stands after so many merges, and how well the boxes so far fit the objects.

    ``ticked`` says of each measure whether it counts; with none there is nothing to compare, so nothing is merged.
    """
    start, measures = open_start(photo, scale), tuple(name for name in MEASURES if ticked.get(name))
    tree = grow(photo, scale, measures or MEASURES, bug)
    count = len(start.regions.sizes)
    merges = min(merges, count - 1) if measures else 0
    iou, place = box_iou(start.truths, tree.boxes).cummax(dim=1)  # (G, R): the best among the boxes so far
    now = count + merges - 1
    return {
        "regions left": count - merges,
        "boxes so far": count + merges,
        "best IoU of each object": iou[:, now],
        "last merge": tree.similarity[merges - 1].item() if merges else None,
        "merges": merges,
        "best": tree.boxes[place[:, now]],
        "boxes": tree.boxes[: now + 1],
        "curve": iou[:, count - 1 :],  # after 0, 1, ... merges
        "labels": search.regions_after(tree, start.labels, merges),
    }


class MergeSteps(Explorer):
    """A merge slider and a box to tick for each measure; regions on the photo, all boxes so far beside it."""

    from_canvas = ()
    compute = staticmethod(merge_steps)

    def __init__(self, photos: Sequence[str] = PHOTOS, *, merges: int = 240, **state: Any) -> None:
        """Show ``photos`` of Wild after ``merges`` merges; ``state`` sets the other controls."""
        controls = {
            "merges": slider("merges", merges, 0, len(open_start(photos[0], SCALES[0]).regions.sizes) - 1, 1),
            "photo": choice("photo", photos),
            "scale": choice("segmentation, k", SCALES),
            "bug": choice("planted bug", BUGS),
        } | {name: switch(name, True) for name in MEASURES}
        canvas = Canvas(open_start(photos[0], SCALES[0]).image, alt="", display_width=425)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(), title="Merge steps")
        ticks = [controls[name] for name in MEASURES]
        for tick in ticks:
            tick.layout = {"width": "100px", "margin": "0"}
        label = ipywidgets.Label(
            "similarity", layout={"width": "130px", "display": "flex", "justify_content": "flex-end"}
        )
        row = ipywidgets.HBox([label, *ticks], layout={"grid_gap": "4px"})
        rest = [controls[name] for name in ("merges", "photo", "scale", "bug")]
        self.children = [rest[0], row, *rest[1:], *self.children[len(controls) :]]
        self.set(**state)

    def _make_chart(self) -> Chart:
        """All boxes so far in the frame of the photo; below them the best IoU of each object while regions merge."""
        chart = Chart(400, 410, rows=2)
        chart.figure.set_layout_engine("none")
        self.paper, self.curves = chart.axes
        self.paper.set_position((0.02, 0.39, 0.96, 0.54))
        self.curves.set_position((0.12, 0.12, 0.85, 0.2))
        self.paper.set(xticks=[], yticks=[], aspect="equal", title="all boxes; black: the last merge", anchor="W")
        for spine in self.paper.spines.values():
            spine.set_visible(True)
        self.all_boxes = PolyCollection([], facecolors="none", edgecolors=STYLES["proposal"].colour, linewidths=0.6)
        self.paper.add_collection(self.all_boxes, autolim=False)
        self.last = self.paper.add_patch(Rectangle((0, 0), 0, 0, fill=False, ec="black", lw=2, clip_on=False))
        self.curves.set(xscale="log", xlim=(MOST, 1), ylim=(0, 1.05), xlabel="regions left", ylabel="best IoU")
        self.curves.set_xticks([300, 100, 30, 10, 3, 1], ["300", "100", "30", "10", "3", "1"])
        self.curves.minorticks_off()
        most = 9  # objects of a photo
        self.lines = [self.curves.plot([], [], color=STYLES["ground_truth"].colour, ls="-")[0] for _ in range(most)]
        self.now = self.curves.axvline(1, color="black", lw=1.5)
        chart.animate(self.all_boxes, self.last, *self.lines, self.now)
        self.shown = ""
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Paint the regions, draw all boxes so far, and move along the curves."""
        state = self.state
        start = open_start(state["photo"], state["scale"])
        height, width = start.labels.shape
        self.controls["merges"].max = len(start.regions.sizes) - 1
        if state["photo"] != self.shown:
            self.shown = state["photo"]
            self.canvas.alt = f"Regions on a photo: {self.shown}"
            self.paper.set(xlim=(0, width), ylim=(height, 0))
            self.chart.redraw_background()
        iou, truths = numbers["best IoU of each object"].tolist(), len(start.truths)
        self.canvas.show(
            paint_regions(start.image, numbers["labels"]),
            torch.cat((start.truths, numbers["best"])),
            kinds=["ground_truth"] * truths + ["proposal"] * truths,
            labels=[""] * truths + [f"IoU {value:.2f}" for value in iou],
        )
        self.all_boxes.set_verts(numbers["boxes"][:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).numpy())
        x1, y1, x2, y2 = numbers["boxes"][-1].tolist() if numbers["merges"] else (0, 0, 0, 0)
        self.last.set_bounds(x1, y1, x2 - x1, y2 - y1)
        left = np.arange(len(start.regions.sizes), 0, -1)
        for line, curve in zip(self.lines, [*numbers["curve"].numpy(), *[None] * len(self.lines)], strict=False):
            line.set_data(*((left, curve) if curve is not None else ([], [])))
        self.now.set_xdata([numbers["regions left"]] * 2)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say what is left and what was found; with two decimals, for another processor may merge a few others."""
        iou = ", ".join(f"{value:.2f}" for value in numbers["best IoU of each object"].tolist())
        last = "" if numbers["last merge"] is None else f" · last similarity {numbers['last merge']:.2f}"
        none = "" if any(self.state[name] for name in MEASURES) else "tick at least one measure · "
        return (
            f"{none}regions left {numbers['regions left']} · boxes so far {numbers['boxes so far']} · "
            f"best IoU {iou}{last}"
        )
