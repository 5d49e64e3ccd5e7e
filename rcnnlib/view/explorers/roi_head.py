"""Drag a region over a photo: C + 1 probabilities, and the box that each class draws from it (lesson 06).

The trained Fast R-CNN sees the photo at 320 pixels. Its feature map is computed once a photo; a move costs one pooled
region and the head.
Leaves out: the threshold and NMS that turn many regions into detections.

Shapes:
    G  hand-drawn boxes      H, W  height and width of the photo, pixels      C, h, w  channels and cells of the map
    K  classes               L = K + 1, with the background
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets
import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.transforms import pad, resize
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.weights import Detector
from rcnnlib.ops.box_coder import HEAD_STD, decode
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, STYLES, Kind

LEAST = 8  # pixels, the smallest side of a region
PHOTOS = ("sheep", "owl", "polar_bear", "pig", "dog", "hedgehog")
LIKELIEST, ALL = "the likeliest class", "all classes"


class Photo(NamedTuple):
    """A photo with its hand-drawn boxes, and what the trunk makes of it at the detector's size."""

    image: Float[Tensor, "3 H W"]
    boxes: Float[Tensor, "G 4"]  # pixels of ``image``
    features: Float[Tensor, "1 C h w"]
    sizes: Float[Tensor, "1 2"]  # of the small picture
    scale: Float[Tensor, " 2"]  # small pixels per pixel of ``image``


@torch.inference_mode()
def open_photo(name: str, model: FastRCNN) -> Photo:
    """Read a photo of Wild by its name and compute its feature map."""
    photos = wild()
    example = photos[[file for _, file in photos.images].index(f"{name}.jpg")]
    small = resize(example, 320)
    sizes = torch.tensor([small.image.shape[-2:]], dtype=torch.float32)
    return Photo(example.image, example.boxes, model.trunk(pad(small.image)[None], sizes), sizes, small.scale)


@torch.inference_mode()
def look_at_roi(photo: Photo, roi: Float[Tensor, " 4"], model: FastRCNN) -> tuple[Tensor, Tensor]:
    """Return the probabilities (L,) of a region and the box (K, 4) that each class makes of it, in photo pixels."""
    scale = photo.scale.repeat(2)
    region = (roi * scale).expand(1, 1, 4)
    scores, deltas = model.head(model.head.pool(photo.features, region, photo.sizes))
    boxes = decode(deltas[0, 0], region[0].expand(deltas.shape[2], 4), std=HEAD_STD)
    return scores[0, 0].softmax(-1), boxes / scale


def roi_head(
    photo: str,
    shown: str,
    left: int,
    top: int,
    width: int,
    height: int,
    *,
    model: FastRCNN,
    names: Sequence[str],
    photos: Callable[[str], Photo],
) -> dict[str, Any]:
    """Return what the head says about one region, and the IoU before and after the correction of a class.

    ``names`` are those of labels 0..K. IoU is that with the object which the region overlaps most.
    """
    seen = photos(photo)
    high, wide = seen.image.shape[-2:]
    left, top = min(left, wide - LEAST), min(top, high - LEAST)
    roi = torch.tensor([left, top, min(left + width, wide), min(top + height, high)], dtype=torch.float32)
    probabilities, boxes = look_at_roi(seen, roi, model)
    before = box_iou(roi[None], seen.boxes)[0]
    after = box_iou(boxes, seen.boxes)[:, before.argmax()]
    likeliest = int(probabilities[1:].argmax()) + 1
    chosen = {LIKELIEST: [likeliest], ALL: list(range(1, len(names)))}.get(shown) or [list(names).index(shown)]
    return {
        "answer": names[int(probabilities.argmax())],
        "probabilities": probabilities,
        "RoI": roi,
        "IoU before": before.max().item(),
        "likeliest": likeliest,
        "classes": chosen,
        "IoU after": after[[label - 1 for label in chosen]],
        "boxes": boxes[[label - 1 for label in chosen]],
    }


class RoIHeadView(Explorer):
    """A photo with a region to drag, the boxes that the head draws from it, and bars of C + 1 probabilities."""

    from_canvas = ()  # the sliders hold the region; a drag moves them

    def __init__(
        self, detector: Detector, roi: Sequence[int] = (190, 80, 290, 370), photos: Sequence[str] = PHOTOS
    ) -> None:
        """Show the first of ``photos`` with ``roi``: left, top, width, height."""
        self.names = ("background", *detector.spec.classes)
        model = detector.model
        assert isinstance(model, FastRCNN)
        self.photo = cache(partial(open_photo, model=model))
        self.compute = partial(roi_head, model=model, names=self.names, photos=self.photo)
        self.on_canvas = ""
        controls = {
            "photo": choice("photo", [(name.replace("_", " "), name) for name in photos]),
            "shown": choice("draw the box of", [LIKELIEST, *self.names[1:], ALL]),
            "left": slider("left", roi[0], 0, 640 - LEAST, 1),
            "top": slider("top", roi[1], 0, 496 - LEAST, 1),
            "width": slider("width", roi[2], LEAST, 640, 1),
            "height": slider("height", roi[3], LEAST, 496, 1),
        }
        canvas = Canvas(self.photo(photos[0]).image, alt="", display_width=480)
        chart = Chart(340, 300)
        self._draw_bars(chart)
        super().__init__(controls, canvas=canvas, chart=chart, title="RoI head")
        grid = ipywidgets.GridBox(
            self.children[: len(controls)],
            layout=ipywidgets.Layout(grid_template_columns="repeat(auto-fit, 415px)", overflow="visible"),
        )
        self.children = (grid, *self.children[len(controls) :])
        canvas.observe(self.follow_drag, "boxes")

    def _draw_bars(self, chart: Chart) -> None:
        count = len(self.names)
        labels = [f"{name}  {label}" for label, name in enumerate(self.names)]
        chart.axes.set(xlim=(0, 1.25), ylim=(count - 0.4, -0.6), yticks=range(count), yticklabels=labels)
        chart.axes.set(xticks=[0, 0.5, 1], title="probability of each label")
        self.bars = chart.axes.barh(range(count), [0] * count, height=0.6, color=LINES[0])
        self.texts = [chart.axes.text(0, row, "", va="center", fontsize=9) for row in range(count)]
        chart.animate(*self.bars, *self.texts)

    def follow_drag(self, change: Any) -> None:
        """Let the sliders take over the region that was dragged."""
        if not self._held:
            x1, y1, x2, y2 = (round(float(edge)) for edge in change["new"][0])
            self.set(left=x1, top=y1, width=x2 - x1, height=y2 - y1)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring photo, boxes and bars up to date."""
        name = self.state["photo"]
        photo, best = self.photo(name), numbers["likeliest"]
        corrected: list[Kind] = ["detection" if label == best else "note" for label in numbers["classes"]]
        if len(corrected) == 1:
            corrected = ["detection"]
        texts = [
            f"{self.names[label]} {iou:.2f}" if kind == "detection" else ""
            for label, iou, kind in zip(numbers["classes"], numbers["IoU after"].tolist(), corrected, strict=True)
        ]
        truths = len(photo.boxes)
        self.canvas.show(
            photo.image if name != self.on_canvas else None,
            torch.cat((numbers["RoI"][None], numbers["boxes"], photo.boxes)),
            kinds=["proposal", *corrected, *["ground_truth"] * truths],
            labels=[f"RoI {numbers['IoU before']:.2f}", *texts, *[""] * truths],
            editable=[0],
        )
        self.on_canvas = name
        self.canvas.alt = f"Photo of a {name.replace('_', ' ')} with a region to drag"
        for label, (bar, text, share) in enumerate(
            zip(self.bars, self.texts, numbers["probabilities"].tolist(), strict=True)
        ):
            bar.set_width(share)
            bar.set_color(STYLES["detection"].colour if label in numbers["classes"] else LINES[0])
            text.set_text(f"{share:.2f}")
            text.set_x(share + 0.02)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the answer, the region, and the IoU before and after for each class shown."""
        best = numbers["probabilities"].max().item()
        after = ", ".join(
            f"{self.names[label]} {iou:.2f}"
            for label, iou in zip(numbers["classes"], numbers["IoU after"].tolist(), strict=True)
        )
        roi = ", ".join(f"{edge:g}" for edge in numbers["RoI"].tolist())
        return f"{numbers['answer']} {best:.2f} · RoI ({roi}) · IoU before {numbers['IoU before']:.4f} · after: {after}"
