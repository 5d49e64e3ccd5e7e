"""The multi-task loss of one RoI or of a few: both terms, and how hard each pulls at the shared vector (lesson 06).

Leaves out: which RoIs a step draws (lesson 07).

Shapes:
    S  RoIs      W  width of the shared vector      K  classes
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.models.roi_heads import BoxPredictor
from rcnnlib.ops.losses import box_loss, class_deltas, classification_loss, smooth_l1
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES

ALL = "all of them"
BUGS = ("none", "[u >= 1] forgotten", "background is the last class")
MOST_LOSS, MOST_PULL = 6.0, 0.4  # of the axes


class Regions(NamedTuple):
    """RoIs of one photo, as far as the two sibling layers see them."""

    shared: Float[Tensor, "S W"]  # fc7, which both layers read
    labels: Int[Tensor, " S"]  # the right ones
    targets: Float[Tensor, "S 4"]  # towards the nearest object, normalised
    names: tuple[str, ...]  # of the RoIs


def _box_term(deltas: Tensor, targets: Tensor, labels: Tensor, bug: str) -> Tensor:
    """Return L_loc as a mean over all RoIs, or with the planted bug also over those of the background."""
    if bug == BUGS[1]:  # u - 1 is -1 for the background, and Python takes the last class
        mine = deltas[torch.arange(len(labels)), labels - 1]
        return smooth_l1(mine - targets).sum() / len(labels)
    return box_loss(class_deltas(deltas, labels), targets, labels, beta=1.0, normalizer=len(labels))


def two_losses(
    weight: float, roi: str, label: int, bug: str, *, regions: Regions, predict: BoxPredictor
) -> dict[str, Any]:
    """Return both terms of eq. 1 and the norms of their gradients at the shared vectors.

    ``label`` is what the RoI ``roi`` is said to be; with all RoIs it goes to the first. The loss is a mean over the
    RoIs that take part.
    """
    first = 0 if roi == ALL else regions.names.index(roi)
    rows = torch.arange(len(regions.names)) if roi == ALL else torch.tensor([first])
    labels = regions.labels.clone()
    labels[first] = label
    shared, labels, targets = regions.shared[rows].clone().requires_grad_(), labels[rows], regions.targets[rows]
    scores, deltas = predict(shared)
    told = (labels - 1) % scores.shape[1] if bug == BUGS[2] else labels
    naming = classification_loss(scores, told, normalizer=len(rows))
    boxing = weight * _box_term(deltas, targets, labels, bug)
    pulls = [torch.autograd.grad(term, shared, retain_graph=True)[0] for term in (naming, boxing)]
    return {
        "L_cls": naming.item(),
        "lambda L_loc": boxing.item(),
        "loss": naming.item() + boxing.item(),
        "pull of L_cls": pulls[0].norm().item(),
        "pull of lambda L_loc": pulls[1].norm().item(),
    }


class TwoLosses(Explorer):
    """Choose a RoI, say what it is, weigh the box loss; bars of both terms and of both gradients."""

    from_canvas = ()  # the RoIs stay where they are

    def __init__(
        self,
        image: Any,
        boxes: Any,
        truths: Any,
        regions: Regions,
        *,
        predict: BoxPredictor,
        classes: Sequence[str],
        alt: str,
    ) -> None:
        """Show ``image`` with the RoIs ``boxes`` (S, 4) and ``truths``; ``classes`` are the names of labels 0..K."""
        self.classes = tuple(classes)
        self.compute = partial(two_losses, regions=regions, predict=predict)
        canvas = Canvas(
            image,
            [*boxes, *truths],
            kinds=["proposal"] * len(boxes) + ["ground_truth"] * len(truths),
            labels=[*regions.names, *[""] * len(truths)],
            alt=alt,
            display_width=390,
        )
        controls = {
            "weight": slider("lambda", 1.0, 0.0, 10.0, 0.1),
            "roi": choice("RoI", [*regions.names, ALL]),
            "label": slider("its label u", int(regions.labels[0]), 0, len(self.classes) - 1, 1),
            "bug": choice("planted bug", BUGS),
        }
        chart = Chart(430, 290, rows=2)
        self._draw_bars(chart)
        super().__init__(controls, canvas=canvas, chart=chart, title="Two losses")

    def _draw_bars(self, chart: Chart) -> None:
        self.bars, self.texts, self.limits = [], [], (MOST_LOSS, MOST_PULL)
        titles = ("the two terms of the loss", "their pull at the shared vector")
        for axes, most, title in zip(chart.axes, self.limits, titles, strict=True):
            axes.set(xlim=(0, 1.3 * most), ylim=(1.6, -0.6), yticks=range(2), yticklabels=["L_cls", "λ [u≥1] L_loc"])
            axes.set(title=title, xticks=[0, most / 2, most])
            self.bars += axes.barh(range(2), [0, 0], height=0.6, color=[LINES[0], LINES[1]])
            self.texts += [axes.text(0, row, "", va="center") for row in range(2)]
        chart.animate(*self.bars, *self.texts)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Set the bars; one that is too long ends at the border, and its number says the rest."""
        values = [numbers[name] for name in ("L_cls", "lambda L_loc", "pull of L_cls", "pull of lambda L_loc")]
        for place, (bar, text, value) in enumerate(zip(self.bars, self.texts, values, strict=True)):
            most = self.limits[place // 2]
            bar.set_width(min(value, most))
            text.set_text(f"{value:.2f}")
            text.set_x(min(value, most) + 0.03 * most)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the label by its name, both terms, and both pulls."""
        label = self.controls["label"].value
        terms = f"L_cls {numbers['L_cls']:.2f} + λ L_loc {numbers['lambda L_loc']:.2f} = {numbers['loss']:.2f}"
        pulls = f"pull {numbers['pull of L_cls']:.2f} and {numbers['pull of lambda L_loc']:.2f}"
        return f"u = {label} ({self.classes[label]}) · {terms} · {pulls}"
