"""A fully connected layer cut in two by a truncated SVD: weights saved, answers changed (lesson 09).

Leaves out: time, which differs between machines and is measured in the lesson.

Shapes:
    N  regions      M, p  channels and side of a pooled region      L  classes with background
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from rcnnlib.models.roi_heads import RoIHead, truncated_svd
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

LAYERS = ("fc6", "fc7")
Layer = Callable[[Tensor], Tensor]


def cut_layer(pair: nn.Sequential, rank: int) -> Layer:
    """Return the layer that keeps the first ``rank`` directions of a full decomposition ``pair``."""
    first, second = pair
    return lambda x: linear(linear(x, first.weight[:rank]), second.weight[:, :rank], second.bias)


@torch.inference_mode()
def probabilities(head: RoIHead, pooled: Float[Tensor, "N M p p"], layers: Mapping[str, Layer]) -> Float[Tensor, "N L"]:
    """Return what a head says about regions, with other layers in the place of some of its own."""
    fc6, fc7 = (layers.get(name, getattr(head.mlp, name)) for name in LAYERS)
    return head.predict(relu(fc7(relu(fc6(pooled.flatten(1))))))[0].softmax(-1)


def svd_rank(
    layer: str, rank: int, *, head: RoIHead, pairs: Mapping[str, nn.Sequential], pooled: Float[Tensor, "N M p p"]
) -> dict[str, Any]:
    """Return the weights of a layer before and after, and how far the probabilities of regions move.

    ``pairs`` are the full decompositions of both layers, so that a move computes no SVD.
    """
    whole = getattr(head.mlp, layer).weight
    before = probabilities(head, pooled, {})
    after = probabilities(head, pooled, {layer: cut_layer(pairs[layer], rank)})
    return {
        "weights": rank * sum(whole.shape),
        "instead of": whole.numel(),
        "a probability moves by": (after - before).abs().mean().item(),
        "same class": (after.argmax(-1) == before.argmax(-1)).float().mean().item(),
    }


class SVDRank(Explorer):
    """A slider for the rank; the singular values of the layer with a mark where they are cut."""

    def __init__(self, head: RoIHead, pooled: Float[Tensor, "N M p p"], rank: int = 64) -> None:
        """Decompose both layers of ``head`` once; ``pooled`` are the regions that it is asked about."""
        whole = {name: getattr(head.mlp, name) for name in LAYERS}
        pairs = {name: truncated_svd(layer, min(layer.weight.shape)) for name, layer in whole.items()}
        self.compute = partial(svd_rank, head=head, pairs=pairs, pooled=pooled)
        # The columns of the second layer have length 1, so the rows of the first are as long as the singular values.
        self.values = {name: pair[0].weight.detach().norm(dim=1) for name, pair in pairs.items()}
        most = min(len(values) for values in self.values.values())
        controls = {"rank": slider("rank", rank, 1, most, 1), "layer": choice("layer", LAYERS)}
        chart = Chart(620, 250)
        chart.axes.set(xlim=(0, most), ylim=(0, 1.05), xlabel="rank", ylabel="singular value / largest")
        (self.curve,) = chart.axes.plot([], [], color=LINES[0])
        (self.mark,) = chart.axes.plot([0, 0], [0, 1.05], color="black", ls=":")
        self.note = chart.axes.text(0, 0.95, "", va="top")
        chart.animate(self.curve, self.mark, self.note)
        super().__init__(controls, chart=chart, title="Truncated SVD")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the singular values of the layer, and where they are cut."""
        rank, values = self.state["rank"], self.values[self.state["layer"]]
        self.curve.set_data(range(1, len(values) + 1), (values / values[0]).numpy())
        self.mark.set_xdata([rank, rank])
        left = rank < 0.6 * len(values)
        self.note.set_text(" kept on the left, cut off on the right " if left else " kept ")
        self.note.set_x(rank)
        self.note.set_horizontalalignment("left" if left else "right")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the part of the weights, and the two changes with two decimals: a network's outputs hold no more."""
        part, moved = numbers["weights"] / numbers["instead of"], numbers["a probability moves by"]
        return (
            f"{numbers['weights']:,} weights instead of {numbers['instead of']:,} ({part:.0%}) · "
            f"a probability moves by {moved:.2f} on average · same class for {numbers['same class']:.0%} of the regions"
        )
