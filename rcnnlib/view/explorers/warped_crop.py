"""Drag a region and choose its context: the warped crop, ImageNet's names and R-CNN's class scores (lesson 03).

Leaves out: the other ways to crop (R-CNN, appendix A), and the box regressor (`box_deltas`).

Shapes:
    H, W  height and width of the photo, pixels      K  classes of the detector
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from rcnnlib.models.backbone import SqueezeNet, imagenet_classes
from rcnnlib.models.rcnn import RCNN
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.roi_ops import warp
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES, STYLES

CROP = 224  # pixels, the size of ImageNet's pictures
WIDE, HIGH = 400, 300  # of the chart, CSS pixels
PLACES = (
    (0, 76, 190, 190),
    (206, 204, 190, 62),
    (206, 76, 190, 92),
)  # crop, names, scores: left, bottom, width, height


@torch.inference_mode()
def warped_crop(
    boxes: Float[Tensor, "N 4"],
    context: int,
    *,
    image: Float[Tensor, "3 H W"],
    small: Float[Tensor, "3 h w"],
    net: SqueezeNet,
    model: RCNN,
) -> dict[str, Any]:
    """Return what R-CNN makes of ``boxes[0]``; the other boxes are ground truths.

    ``small`` is the photo at the size that ``model`` was trained for; ``context`` counts pixels of the large crop.
    """
    box = boxes[:1]
    width, height = (box[0, 2:] - box[0, :2]).tolist()
    crop = warp(image, box, CROP, context=context)
    names = net(crop).softmax(-1)[0].topk(2)
    own = box * small.shape[-1] / image.shape[-1]
    crops = warp(small, own, model.crop, context=round(context * model.crop / CROP))
    margins, _ = model.head(max_pool2d(model.trunk(crops), 3, stride=2).unsqueeze(0))
    return {
        "IoU": box_iou(box, boxes[1:]).amax().item(),
        "stretch": max(width / height, height / width),
        "surroundings": [context * side / (CROP - 2 * context) for side in (width, height)],
        "names": [imagenet_classes()[index] for index in names.indices.tolist()],
        "probabilities": names.values.tolist(),
        "scores": margins[0, 0, 1:].sigmoid(),
        "crop": crop[0],
    }


class WarpedCrop(Explorer):
    """A photo with a region to drag; beside it the warped crop, two names for it, and the score of each class."""

    def __init__(
        self,
        image: Float[Tensor, "3 H W"],
        boxes: Any,
        *,
        net: SqueezeNet,
        model: RCNN,
        classes: Sequence[str],
        alt: str,
        longer_side: int = 320,
    ) -> None:
        """Show ``image`` with ``boxes``, the first to be dragged, the others ground truths."""
        ratio = longer_side / max(image.shape[-2:])
        small = interpolate(image[None], scale_factor=ratio, mode="bilinear", antialias=True)[0].clamp(0, 1)
        self.compute = partial(warped_crop, image=image, small=small, net=net, model=model)
        self.classes = list(classes)
        kinds = ["proposal"] + ["ground_truth"] * (len(boxes) - 1)
        canvas = Canvas(image, boxes, kinds=kinds, editable=[0], alt=alt, display_width=340)
        controls = {"context": slider("context", 16, 0, 64, 2, slow=True)}
        super().__init__(controls, canvas=canvas, chart=self.make_chart(), title="Warped crop")

    def make_chart(self) -> Chart:
        """Lay out crop, names and scores; their titles stand still."""
        chart = Chart(WIDE, HIGH)
        chart.figure.set_layout_engine("none")
        axes = [chart.axes, chart.figure.add_axes((0, 0, 1, 1)), chart.figure.add_axes((0, 0, 1, 1))]
        titles = (f"crop, {CROP} x {CROP}", "ImageNet's names", "score of R-CNN's classes")
        for ax, title, (left, bottom, wide, high) in zip(axes, titles, PLACES, strict=True):
            ax.set_position((left / WIDE, bottom / HIGH, wide / WIDE, high / HIGH))
            ax.set_title(title)
            ax.set_axis_off()
        self.crop = axes[0].imshow(np.zeros((CROP, CROP, 3)))
        self.frame = axes[0].add_patch(
            Rectangle((0, 0), 1, 1, fill=False, ec=STYLES["proposal"].colour, lw=1.8, ls=(0, (4, 3)))
        )
        axes[1].set(xlim=(0, 1), ylim=(1.4, -0.6))
        self.bars = axes[1].barh(range(2), [0, 0], height=0.3, color=LINES[0])
        self.names = [axes[1].text(0, row - 0.2, "", va="bottom", fontsize=9) for row in range(2)]
        count = len(self.classes)
        axes[2].set(xlim=(-0.5, 1), ylim=(count - 0.4, -0.6))
        for row, name in enumerate(self.classes):
            axes[2].text(-0.04, row, name, ha="right", va="center", fontsize=9)
        self.scores = axes[2].barh(range(count), [0] * count, height=0.6, color=LINES[1])
        chart.animate(self.crop, self.frame, *self.bars, *self.names, *self.scores)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring crop, names and scores up to date; the dashed frame is the region without its context."""
        self.canvas.labels = [f"IoU {numbers['IoU']:.2f}"] + [""] * (len(self.canvas.boxes) - 1)
        self.crop.set_data(numbers["crop"].permute(1, 2, 0).clamp(0, 1).numpy())
        context = self.state["context"]
        self.frame.set_bounds(context - 0.5, context - 0.5, CROP - 2 * context, CROP - 2 * context)
        for bar, text, name, share in zip(
            self.bars, self.names, numbers["names"], numbers["probabilities"], strict=True
        ):
            bar.set_width(share)
            text.set_text(f"{name[:24]} {share:.2f}")
        for bar, score in zip(self.scores, numbers["scores"].tolist(), strict=True):
            bar.set_width(score)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say how far the region is stretched, what of its surroundings is seen, the best name and the best class."""
        across, down = numbers["surroundings"]
        best = int(numbers["scores"].argmax())
        return (
            f"stretched {numbers['stretch']:.2f} : 1 · context {across:.0f} x {down:.0f} pixels of the photo · "
            f"{numbers['names'][0]} {numbers['probabilities'][0]:.2f} · "
            f"{self.classes[best]} {numbers['scores'][best]:.2f}"
        )
