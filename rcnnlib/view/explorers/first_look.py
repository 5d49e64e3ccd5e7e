"""Lesson 00: drag a box over a photo; see its IoU, the feature map under it, and what ImageNet calls the crop.

The crop is stretched to 224 x 224 pixels and goes through SqueezeNet, as R-CNN does with every region (R-CNN 2.1).
The feature map belongs to the whole photo and is computed once a photo.
Leaves out: anything that finds the box by itself, which is what the other lessons are about.

Shapes:
    G  hand-drawn boxes      H, W  height and width of the photo, pixels      C, h, w  channels and cells of the map
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import pad

from rcnnlib.datasets.coco import wild
from rcnnlib.models.backbone import SqueezeNet, imagenet_classes, squeezenet
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.roi_ops import project, warp
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import CSS_PIXELS_PER_INCH, LINES, STYLES

LEAST = 8  # pixels, the smallest side of a box
CROP = 224  # pixels, the size of ImageNet's pictures
MAPS = ("mean", "strongest in box", "one channel")
WIDE, HIGH = 360, 392  # of the chart, CSS pixels
PLACES = ((0, 238, 134, 134), (150, 238, 210, 134), (0, 0, 268, 207.7))  # crop, names, map: left, bottom, width, height
PHOTOS = ("dog", "polar_bear", "jaguar", "bison", "scarlet_macaw", "hedgehog")


class Photo(NamedTuple):
    """A photo with what was drawn on it by hand and what the trunk makes of it."""

    image: Float[Tensor, "3 H W"]
    boxes: Float[Tensor, "G 4"]
    features: Float[Tensor, "C h w"]


def open_photo(name: str, net: SqueezeNet) -> Photo:
    """Read a photo of Wild by its name and compute its feature map; sides are padded to multiples of 16."""
    photos = wild()
    example = photos[[file for _, file in photos.images].index(f"{name}.jpg")]
    height, width = example.image.shape[-2:]
    stride = net.trunk.stride
    with torch.inference_mode():
        features = net.trunk(pad(example.image, (0, -width % stride, 0, -height % stride))[None])[0]
    return Photo(example.image, example.boxes, features)


@torch.inference_mode()
def name_crop(image: Float[Tensor, "3 H W"], box: Float[Tensor, " 4"], net: SqueezeNet) -> tuple[Tensor, Tensor]:
    """Return the crop (3, 224, 224) and its probability (1000,) for each ImageNet class."""
    crop = warp(image, box[None], CROP, context=0)
    return crop[0], net(crop).softmax(-1)[0]


def choose_channel(features: Float[Tensor, "C h w"], cells: Float[Tensor, " 4"]) -> int:
    """Return the channel whose mean inside the box lies highest above its mean over the whole map."""
    x1, y1 = cells[:2].floor().int().tolist()
    x2, y2 = cells[2:].ceil().int().tolist()
    return int((features[:, y1:y2, x1:x2].mean((1, 2)) - features.mean((1, 2))).argmax())


def look_at(
    photo: str,
    x: int,
    y: int,
    width: int,
    height: int,
    map: str,
    channel: int,
    *,
    net: SqueezeNet,
    photos: Callable[[str], Photo],
) -> dict[str, Any]:
    """Return all that is to be said about one box: its IoU, its cells, three names for its crop, and a map."""
    image, truths, features = photos(photo)
    high, wide = image.shape[-2:]
    x, y = min(x, wide - LEAST), min(y, high - LEAST)
    box = torch.tensor([x, y, min(x + width, wide), min(y + height, high)], dtype=torch.float32)
    cells = project(box[None], 1 / net.trunk.stride)[0]
    crop, probabilities = name_crop(image, box, net)
    best = probabilities.topk(3)
    shown = {MAPS[0]: -1, MAPS[1]: choose_channel(features, cells), MAPS[2]: channel}[map]
    return {
        "IoU": box_iou(box[None], truths).max().item(),
        "names": [imagenet_classes()[index] for index in best.indices.tolist()],
        "probabilities": best.values.tolist(),
        "box": box,
        "cells": cells,
        "crop": crop,
        "channel": shown,  # -1: the mean of all
        "map": features.mean(0) if shown < 0 else features[shown],
    }


class FirstLook(Explorer):
    """A photo with a box to drag; beside it the crop, three names for it, and the feature map."""

    from_canvas = ()  # the sliders hold the box; a drag moves them

    def __init__(self, photos: Sequence[str] = PHOTOS, box: Sequence[int] = (40, 120, 340, 320)) -> None:
        net = squeezenet()
        self.photo = cache(partial(open_photo, net=net))
        self.compute = partial(look_at, net=net, photos=self.photo)
        self.shown = ""
        names = [(name.replace("_", " "), name) for name in photos]
        controls = {
            "photo": choice("photo", names),
            "map": choice("feature map", MAPS),
            "x": slider("x (left edge)", box[0], 0, 640 - LEAST, 4),
            "y": slider("y (top edge)", box[1], 0, 496 - LEAST, 4),
            "width": slider("width", box[2], LEAST, 640, 4),
            "height": slider("height", box[3], LEAST, 496, 4),
            "channel": slider("channel", 0, 0, net.trunk.out_channels - 1, 1),
        }
        canvas = Canvas(self.photo(photos[0]).image, alt="", display_width=460)
        super().__init__(controls, canvas=canvas, chart=self.make_chart(), title="FirstLook")
        grid = ipywidgets.GridBox(
            self.children[: len(controls)],
            layout=ipywidgets.Layout(grid_template_columns="repeat(auto-fit, 415px)", overflow="visible"),
        )
        self.children = (grid, *self.children[len(controls) :])
        canvas.observe(self.follow_drag, "boxes")

    def make_chart(self) -> Chart:
        """Lay out crop, names and map; what moves is drawn over a background of two titles."""
        chart = Chart(WIDE, HIGH)
        chart.figure.set_layout_engine("none")
        axes = [chart.axes, chart.figure.add_axes((0, 0, 1, 1)), chart.figure.add_axes((0, 0, 1, 1))]
        for ax, (left, bottom, wide, high) in zip(axes, PLACES, strict=True):
            ax.set_position((left / WIDE, bottom / HIGH, wide / WIDE, high / HIGH))
            ax.set_axis_off()
        axes[0].set_title(f"crop, {CROP} x {CROP}")
        axes[1].set_title("ImageNet's names for it")
        self.crop = axes[0].imshow(np.zeros((CROP, CROP, 3)))
        axes[1].set(xlim=(0, 1), ylim=(2.4, -0.6))
        self.bars = axes[1].barh(range(3), [0] * 3, height=0.3, color=LINES[0])
        self.names = [axes[1].text(0, row - 0.2, "", va="bottom", fontsize=9) for row in range(3)]
        axes[2].set(xlim=(0, 40), ylim=(31, 0))
        self.map = axes[2].imshow(np.zeros((1, 1)), cmap="cividis", interpolation="nearest", aspect="equal")
        self.map_name = axes[2].text(0, -0.6, "", va="bottom", fontsize=11)
        style, points = STYLES["proposal"], 72 / CSS_PIXELS_PER_INCH
        dash = (0, tuple(length / style.width for length in style.dash))
        lines = (("white", style.width + 2, "solid"), (style.colour, style.width, dash))
        self.frames = [
            axes[2].add_patch(Rectangle((0, 0), 1, 1, fill=False, ec=colour, lw=points * width, ls=line, clip_on=False))
            for colour, width, line in lines
        ]
        chart.animate(self.crop, *self.bars, *self.names, self.map, self.map_name, *self.frames)
        return chart

    def follow_drag(self, change: Any) -> None:
        """Let the sliders take over the box that was dragged."""
        if not self._held:
            x1, y1, x2, y2 = (round(float(edge)) for edge in change["new"][0])
            self.set(x=x1, y=y1, width=x2 - x1, height=y2 - y1)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring photo, box, crop, names and map up to date."""
        photo = self.photo(self.state["photo"])
        boxes = torch.cat((numbers["box"][None], photo.boxes))
        if self.state["photo"] != self.shown:
            self.shown = self.state["photo"]
            kinds = ["proposal"] + ["ground_truth"] * len(photo.boxes)
            self.canvas.show(photo.image, boxes, kinds=kinds, editable=[0])
            self.canvas.alt = f"Photo of a {self.shown.replace('_', ' ')} with a box to drag"
        self.canvas.boxes = boxes
        self.canvas.labels = [f"IoU {numbers['IoU']:.2f}"] + [""] * len(photo.boxes)
        self.crop.set_data(numbers["crop"].permute(1, 2, 0).clamp(0, 1).numpy())
        for bar, text, name, share in zip(
            self.bars, self.names, numbers["names"], numbers["probabilities"], strict=True
        ):
            bar.set_width(share)
            text.set_text(f"{name} {share:.2f}")
        self.draw_map(numbers)

    def draw_map(self, numbers: dict[str, Any]) -> None:
        """Show the map with the box in cells on it; the brightest cell is the largest number."""
        high, wide = numbers["map"].shape
        self.map.set(data=numbers["map"].numpy(), extent=(0, wide, high, 0), clim=(0, numbers["map"].max().item()))
        which = "mean of all channels" if numbers["channel"] < 0 else f"channel {numbers['channel']}"
        self.map_name.set_text(f"feature map, {wide} x {high} cells, {which}")
        x1, y1, x2, y2 = numbers["cells"].tolist()
        for frame in self.frames:
            frame.set_bounds(x1, y1, x2 - x1, y2 - y1)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say IoU, the best two names with their probabilities, and the box in cells: it fits one line."""
        names = [f"{n} {p:.2f}" for n, p in zip(numbers["names"][:2], numbers["probabilities"][:2], strict=True)]
        cells = ", ".join(f"{edge:g}" for edge in numbers["cells"].tolist())
        return f"IoU {numbers['IoU']:.4f} · {', '.join(names)} · cells ({cells})"
