"""Four deltas move a proposal: the decoded box, its IoU, the round trip, and the classic bugs (lesson 03).

Leaves out: the normalisation of the deltas, which came with Fast R-CNN.

Shapes:
    boxes (2, 4): the ground truth, then the proposal
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.ops.box_coder import decode, encode
from rcnnlib.ops.boxes import box_convert, box_iou
from rcnnlib.view.canvas import Canvas
from rcnnlib.view.explorers.base import Explorer, choice, slider

NAMES = ("tx", "ty", "tw", "th")
BUGS = ("none", "x and y swapped", "sizes of the ground truth")
SOURCES = ("the sliders", "encode")


def encode_with(bug: str, truth: Float[Tensor, "N 4"], proposal: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Encode as the library does, or with one of ``BUGS`` planted."""
    deltas = encode(truth, proposal)
    if bug == BUGS[1]:
        return deltas[:, [1, 0, 3, 2]]
    if bug == BUGS[2]:
        sides = [box_convert(boxes, "xyxy", "cxcywh")[:, 2:] for boxes in (proposal, truth)]
        return torch.cat((deltas[:, :2] * sides[0] / sides[1], deltas[:, 2:]), dim=1)
    return deltas


def box_deltas(
    boxes: Float[Tensor, "2 4"], tx: float, ty: float, tw: float, th: float, source: str, bug: str
) -> dict[str, Any]:
    """Return the box that four deltas make of the proposal, and its IoU with the ground truth.

    The deltas are the given ones, or with ``source="encode"`` those that should lead to the ground truth; ``bug`` is
    planted in encode alone.
    """
    truth, proposal = boxes[:1], boxes[1:2]
    deltas = torch.tensor([[tx, ty, tw, th]]) if source == SOURCES[0] else encode_with(bug, truth, proposal)
    moved = decode(deltas, proposal)
    return {
        "deltas": deltas[0],
        "decoded": moved[0],
        "IoU before": box_iou(proposal, truth).item(),
        "IoU after": box_iou(moved, truth).item(),
        "wanted": encode_with(bug, truth, proposal)[0],
    }


class BoxDeltas(Explorer):
    """A photo with a ground truth, a proposal to drag, and the box that the deltas make of it."""

    from_canvas = ()  # the third box on the canvas is the answer, not a question

    def __init__(self, image: Any, boxes: Any, alt: str) -> None:
        """Show ``image`` with ``boxes`` (2, 4), ground truth first; ``alt`` says what the photo shows."""
        truth, proposal = boxes
        self.boxes = torch.as_tensor([[*map(float, truth)], [*map(float, proposal)]])
        self.compute = lambda **state: box_deltas(self.boxes, **state)
        canvas = Canvas(
            image,
            [truth, proposal, proposal],
            kinds=["ground_truth", "proposal", "detection"],
            editable=[1],
            alt=alt,
            display_width=390,
        )
        texts = ("tx: to the right", "ty: down", "tw: wider", "th: higher")
        first = (0.2, -0.1, 0.0, 0.0)  # so that both boxes can be seen
        named = zip(NAMES, texts, first, strict=True)
        controls = {name: slider(text, value, -1.0, 1.0, 0.05) for name, text, value in named}
        controls["source"] = choice("deltas from", SOURCES)
        controls["bug"] = choice("bug in encode", BUGS)
        super().__init__(controls, canvas=canvas, title="Box deltas")
        canvas.observe(self.follow_drag, "boxes")

    def follow_drag(self, change: Any) -> None:
        """Take the dragged proposal over."""
        if not self._held:
            self.boxes = torch.tensor(change["new"][:2])
            self.update()

    def draw(self, numbers: dict[str, Any]) -> None:
        """Place the decoded box; with deltas from encode the sliders follow them as far as they reach."""
        self.canvas.boxes = torch.cat((self.boxes, numbers["decoded"][None]))
        near = (self.boxes[1, :2] - numbers["decoded"][:2]).abs().amax() < 40  # one label would cover the other
        proposal = "" if near else f"proposal, IoU {numbers['IoU before']:.2f}"
        self.canvas.labels = ["", proposal, f"decoded, IoU {numbers['IoU after']:.2f}"]
        if self.state["source"] == SOURCES[1]:
            for name, delta in zip(NAMES, numbers["deltas"].tolist(), strict=True):
                self.controls[name].value = min(1.0, max(-1.0, delta))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say both IoUs, the deltas and the ones that are wanted."""
        used, wanted = (", ".join(f"{delta:+.4f}" for delta in numbers[name].tolist()) for name in ("deltas", "wanted"))
        before, after = numbers["IoU before"], numbers["IoU after"]
        return f"IoU {before:.4f} before, {after:.4f} after · deltas {used} · encode says {wanted}"
