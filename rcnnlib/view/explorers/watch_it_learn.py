"""An RPN at several moments of its training: nine maps of objectness, and the proposals that they give (lesson 11).

The maps of all moments are computed when the explorer is made; a move only chooses among them.
Leaves out: training itself, which takes a minute and stands in ``data/build/rpn_checkpoints.py``.

Shapes:
    k  anchors of a cell      h, w  cells      R  proposals      G  ground truths
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.transforms import Example, pad
from rcnnlib.models.backbone import Trunk
from rcnnlib.models.rpn import RPN
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import BLOCK
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import STYLES

SHOWN = 60


class Seen(NamedTuple):
    """What an RPN says about one picture at one moment."""

    objectness: Float[Tensor, "k h w"]
    proposals: Float[Tensor, "R 4"]


@torch.no_grad()
def look(rpn: RPN, trunk: Trunk, picture: Example) -> Seen:
    """Return the maps of objectness and the proposals, best first."""
    images, sizes = pad(picture.image)[None], torch.tensor([picture.image.shape[-2:]]).float()
    features = trunk(images, sizes)
    anchors, scores, deltas = rpn(features)
    height, width = features.shape[-2:]
    maps = scores.softmax(-1)[0, :, 1].reshape(height, width, -1).permute(2, 0, 1)
    rpn.after = SHOWN
    found = rpn.propose(anchors, scores, deltas, sizes, rounds=BLOCK)
    return Seen(maps, found.boxes[0][found.valid[0]])


def watch_it_learn(
    moment: int, anchor: int, count: int, picture: int, *, seen: Sequence[Mapping[int, Seen]], truths: Sequence[Tensor]
) -> dict[str, Any]:
    """Return one map of objectness, the best proposals, and how many objects they reach."""
    steps = list(seen[picture])[moment]
    maps, proposals = seen[picture][steps]
    best = box_iou(truths[picture], proposals[:count]).amax(dim=1)
    one = maps[anchor]
    row, column = divmod(int(one.argmax()), one.shape[1])
    return {
        "steps": steps,
        "highest objectness": one.max().item(),
        "row": row,
        "column": column,
        "mean of this anchor": one.mean().item(),
        "objects reached": f"{int((best >= 0.5).sum())} of {len(best)}",
        "mean best IoU": best.mean().item(),
        "boxes": proposals[:count],
        "maps": maps,
    }


class WatchItLearn(Explorer):
    """A picture with the best proposals; beside it the nine maps; sliders for the moment, the anchor and the number."""

    from_canvas = ()

    def __init__(self, moments: Mapping[int, RPN], trunk: Trunk, pictures: Mapping[str, Example], alt: str) -> None:
        """Show ``pictures`` by name as the RPNs of ``moments`` (by steps) see them; ``alt`` says what they show."""
        self.pictures = list(pictures.values())
        seen = [{steps: look(rpn, trunk, picture) for steps, rpn in moments.items()} for picture in self.pictures]
        self.truths = [picture.boxes for picture in self.pictures]
        self.compute = partial(watch_it_learn, seen=seen, truths=self.truths)
        self.k = len(next(iter(seen[0].values())).objectness)
        controls = {
            "moment": slider("moment", 0, 0, len(moments) - 1, 1),
            "count": slider("proposals shown", 10, 1, SHOWN, 1),
            "anchor": slider("anchor", self.k // 2, 0, self.k - 1, 1),
            "picture": choice("picture", [(name, place) for place, name in enumerate(pictures)]),
        }
        canvas = Canvas(self.pictures[0].image, alt=alt, display_width=440)
        chart = Chart(360, 300, rows=3, columns=self.k // 3)
        self._draw_maps(chart, next(iter(seen[0].values())).objectness)
        self._shown = 0
        super().__init__(controls, canvas=canvas, chart=chart, title="Watch it learn")

    def _draw_maps(self, chart: Chart, maps: Tensor) -> None:
        """One small map for each anchor, ratio by ratio."""
        self.images, self.frames = [], []
        for number, axes in enumerate(chart.axes.flat):
            self.images.append(axes.imshow(maps[number].numpy(), vmin=0, vmax=1, cmap="cividis", aspect="auto"))
            self.frames.append(axes.set_title(f"anchor {number}", fontsize=9))
            axes.set(xticks=[], yticks=[])
        chart.animate(*self.images, *self.frames)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the maps of this moment, the chosen one named in colour, and the proposals."""
        for number, (image, title) in enumerate(zip(self.images, self.frames, strict=True)):
            image.set_data(numbers["maps"][number].numpy())
            title.set_color(STYLES["detection"].colour if number == self.controls["anchor"].value else "#666666")
            title.set_weight("bold" if number == self.controls["anchor"].value else "normal")
        picture = self.controls["picture"].value
        image = None if picture == self._shown else self.pictures[picture].image
        self._shown = picture
        boxes, truths = numbers["boxes"], self.truths[picture]
        kinds = ["proposal"] * len(boxes) + ["ground_truth"] * len(truths)
        self.canvas.show(image, torch.cat((boxes, truths)), kinds=kinds)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say everything but boxes and maps."""
        return super().tell({name: value for name, value in numbers.items() if name not in ("boxes", "maps")})
