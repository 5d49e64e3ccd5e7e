"""Which layers learn: freeze blocks of the trunk and see where the gradient of the loss arrives (lesson 09).

Each move is one forward and one backward pass of a real Fast R-CNN.
Leaves out: what freezing does to AP, which takes a training for each setting.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.types import Batch
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

TERMS = ("both", "class term", "box term")


def parts_of(model: FastRCNN) -> dict[str, nn.Module]:
    """Return the pieces of a detector, from the picture upward."""
    blocks = {f"block {number}": block for number, block in enumerate(model.trunk.blocks, start=1)}
    return blocks | {"head": model.head}


def gradient_norm(part: nn.Module) -> float:
    """Return the length of the gradient that has reached a part; 0 where none has."""
    squares = [parameter.grad.square().sum() for parameter in part.parameters() if parameter.grad is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def frozen_blocks(frozen: int, term: str, *, model: FastRCNN, batch: Batch) -> dict[str, Any]:
    """Return which parts learn when the first ``frozen`` blocks are frozen, and the gradient that reaches each."""
    model.trunk.freeze(frozen)
    model.zero_grad(set_to_none=True)
    losses = model.losses(batch)
    {TERMS[0]: losses.total(), TERMS[1]: losses.head_class, TERMS[2]: losses.head_box}[term].backward()
    norms = {name: gradient_norm(part) for name, part in parts_of(model).items()}
    model.zero_grad(set_to_none=True)
    return {
        "learn": [name for name, norm in norms.items() if norm > 0],
        "numbers that learn": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "of": sum(p.numel() for p in model.parameters()),
        "norms": norms,
    }


class FrozenBlocks(Explorer):
    """A slider for the number of frozen blocks; a bar for the gradient of each part."""

    def __init__(self, model: FastRCNN, batch: Batch) -> None:
        """Take a detector (its ``requires_grad`` flags will be changed) and a batch with one or two pictures."""
        self.compute = partial(frozen_blocks, model=model, batch=batch)
        controls = {
            "frozen": slider("frozen blocks", 2, 0, len(model.trunk.blocks), 1, slow=True),
            "term": choice("loss", TERMS),
        }
        names = list(parts_of(model))
        chart = Chart(620, 250)
        longest = max(norm for term in TERMS for norm in self.compute(0, term)["norms"].values())
        chart.axes.set(xlim=(0, 1.1 * longest), yticks=range(len(names)), yticklabels=names)
        chart.axes.set(ylim=(-0.6, len(names) - 0.4), xlabel="length of the gradient")
        self.bars = chart.axes.barh(range(len(names)), [1] * len(names), color=LINES[0], height=0.6)
        self.notes = [chart.axes.text(0.01 * longest, row, "", va="center") for row in range(len(names))]
        chart.animate(*self.bars, *self.notes)
        super().__init__(controls, chart=chart, title="Frozen blocks")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw a bar for each part that learns, and the word "frozen" where there is none."""
        for bar, note, norm in zip(self.bars, self.notes, numbers["norms"].values(), strict=True):
            bar.set_width(norm)
            note.set_text("" if norm else "frozen: no gradient")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say what learns; the lengths stand in the chart."""
        learn = ", ".join(numbers["learn"])
        return f"learn: {learn} · {numbers['numbers that learn']:,} of {numbers['of']:,} numbers"
