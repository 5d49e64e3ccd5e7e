"""Three scores of one RoI, read by a softmax and by three SVMs: who competes with whom (lesson 06).

The RoI is a bird. The softmax has a score of 0 for the background; the SVMs know none.
Leaves out: how the scores are learned.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES

NAMES = ("bird", "mammal", "tool")
RIGHT = 0  # the RoI is a bird
REACH = 4.0


def hinge_or_softmax(bird: float, mammal: float, tool: float) -> dict[str, Any]:
    """Return what both make of three scores: answers, losses, and the gradients of the losses at the scores."""
    scores = torch.tensor([bird, mammal, tool], requires_grad=True)
    logits = torch.cat((scores.new_zeros(1), scores))
    entropy = cross_entropy(logits[None], torch.tensor([RIGHT + 1]))
    side = torch.tensor([1.0 if place == RIGHT else -1.0 for place in range(len(NAMES))])
    hinge = (1 - side * scores).clamp(min=0).sum()
    pulls = [torch.autograd.grad(loss, scores)[0] for loss in (entropy, hinge)]
    probabilities = logits.detach().softmax(-1)
    yes = [name for name, score in zip(NAMES, scores.tolist(), strict=True) if score > 0]
    return {
        "probabilities": probabilities,
        "answer": ("background", *NAMES)[int(probabilities.argmax())],
        "SVMs say yes to": yes,
        "cross entropy": entropy.item(),
        "hinge": hinge.item(),
        "gradient of cross entropy": pulls[0],
        "gradient of hinge": pulls[1],
        "margins": scores.detach(),
    }


class HingeOrSoftmax(Explorer):
    """A slider for each score; the probabilities beside the margins."""

    compute = staticmethod(hinge_or_softmax)

    def __init__(self, bird: float = 1.5, mammal: float = -1.5, tool: float = -2.0) -> None:
        values = {"bird": bird, "mammal": mammal, "tool": tool}
        controls = {name: slider(f"score: {name}", value, -REACH, REACH, 0.1) for name, value in values.items()}
        chart = Chart(800, 250, columns=2)
        self._draw_bars(*chart.axes)
        chart.animate(*self.shares, *self.margins, *self.texts)
        super().__init__(controls, chart=chart, title="Hinge or softmax")

    def _draw_bars(self, left: Any, right: Any) -> None:
        """Probabilities on the left; margins on the right, with the zone in which the hinge still pulls."""
        names = ["background", *NAMES]
        left.set(xlim=(0, 1.25), ylim=(3.6, -0.6), yticks=range(4), yticklabels=names, xticks=[0, 0.5, 1])
        left.set_title("softmax: probabilities")
        right.set(xlim=(-REACH, REACH), ylim=(3.6, -0.6), yticks=range(1, 4), yticklabels=NAMES)
        right.set_title("SVMs: margins")
        right.axvspan(-1, 1, color="#DDDDDD", zorder=0)
        right.axvline(0, color="black", linewidth=1)
        right.text(-0.1, 0, "no", ha="right", va="center")
        right.text(0.1, 0, "yes", ha="left", va="center")
        self.shares = left.barh(range(4), [0] * 4, height=0.6, color=LINES[0])
        self.margins = right.barh(range(1, 4), [0] * 3, height=0.6, color=LINES[1])
        self.texts = [left.text(0, row, "", va="center") for row in range(4)]

    def draw(self, numbers: dict[str, Any]) -> None:
        """Set all bars."""
        for bar, text, share in zip(self.shares, self.texts, numbers["probabilities"].tolist(), strict=True):
            bar.set_width(share)
            text.set_text(f"{share:.2f}")
            text.set_x(share + 0.02)
        for bar, margin in zip(self.margins, numbers["margins"].tolist(), strict=True):
            bar.set_width(margin)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say both answers, both losses, and their gradients at the three scores."""
        yes = ", ".join(numbers["SVMs say yes to"]) or "nobody"
        soft, hard = (
            ", ".join(f"{pull + 0.0:.2f}" for pull in numbers[f"gradient of {name}"].tolist())
            for name in ("cross entropy", "hinge")
        )
        return (
            f"softmax: {numbers['answer']}, loss {numbers['cross entropy']:.4f}, gradient [{soft}]\n"
            f"SVMs: yes from {yes}, loss {numbers['hinge']:.4f}, gradient [{hard}]"
        )
