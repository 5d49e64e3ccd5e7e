"""Which way the gradient of each loss goes back through Faster R-CNN, and where it is cut (lesson 14).

Leaves out: the losses themselves, and how large the missing gradient is for one box (`missing_gradient`).
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor, nn

from rcnnlib.types import Losses
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice
from rcnnlib.view.plotting import LINES

TERMS = {"RPN class": "rpn_class", "RPN box": "rpn_box", "head class": "head_class", "head box": "head_box"}
PARTS = ("trunk", "rpn", "head")
VERSIONS = ("detached (course, paper)", "not detached")
Norms = Mapping[str, Mapping[str, float]]  # loss -> part -> length of its gradient
# Where things stand: centre, half width; all are 1.1 high.
PLACES = {"trunk": (1.3, 1.2, 1.0), "rpn": (4.3, 3.4, 1.0), "proposals": (7.3, 3.4, 1.0), "head": (7.3, 1.2, 1.0)}
LOSSES = {"RPN class": (3.6, 5.2, 0.75), "RPN box": (5.3, 5.2, 0.75), "head class": (10.2, 1.9, 0.95)}
LOSSES |= {"head box": (10.2, 0.5, 0.95)}
NAMES = {"trunk": "trunk", "rpn": "RPN", "proposals": "proposals\n(boxes)", "head": "pooling, head"}
OFF = "#D0D0D0"


def parameters_behind(loss: Tensor) -> Iterator[Tensor]:
    """Walk the autograd graph from a loss down to the parameters that it hangs on."""
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # a leaf: where the gradient is stored
            yield node.variable
        waiting.extend(after for after, _ in node.next_functions)


def named_terms(losses: Losses) -> dict[str, Tensor]:
    """Return the four losses under their names on this page."""
    return {name: getattr(losses, field) for name, field in TERMS.items()}


def gradient_norms(model: nn.Module, terms: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return for each loss the length of its gradient at trunk, RPN and head; 0 where none arrives."""
    weights = [(part, each) for part in PARTS for each in getattr(model, part).parameters()]
    found = {}
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, [each for _, each in weights], retain_graph=True, allow_unused=True)
        squares = dict.fromkeys(PARTS, 0.0)
        for (part, _), gradient in zip(weights, gradients, strict=True):
            squares[part] += 0.0 if gradient is None else float(gradient.square().sum())
        found[name] = {part: square**0.5 for part, square in squares.items()}
    return found


def joint_roads(term: str, version: str, picture: str, *, norms: Mapping[str, Mapping[str, Norms]]) -> dict[str, Any]:
    """Return where the gradient of a loss arrives, and which roads it takes."""
    found = norms[picture][version][term]
    of_head = term.startswith("head")
    through = of_head and found["rpn"] > 0
    return {
        "norms": dict(found),
        "roads": {
            ("loss", "head" if of_head else "rpn"),
            *({("head", "trunk")} if of_head else {("rpn", "trunk")}),
            *({("head", "proposals"), ("proposals", "rpn"), ("rpn", "trunk")} if through else ()),
        },
        "cut": of_head and not through,
    }


class JointRoads(Explorer):
    """The network as a drawing; the roads of one gradient are lit."""

    from_canvas = ()

    def __init__(self, norms: Mapping[str, Mapping[str, Norms]]) -> None:
        """Take norms by picture, version and loss, as `gradient_norms` gives them."""
        self.compute = partial(joint_roads, norms=norms)
        controls = {
            "term": choice("gradient of", list(TERMS)),
            "version": choice("the proposals are", VERSIONS),
            "picture": choice("picture", list(norms)),
        }
        chart = Chart(800, 400)
        chart.figure.set_layout_engine("none")
        chart.axes.set_position((0, 0, 1, 1))
        chart.axes.set(xlim=(0, 11.6), ylim=(-0.3, 6))
        chart.axes.set_axis_off()
        self._draw_network(chart.axes)
        chart.animate(*self.roads.values(), *self.boxes.values(), *self.texts.values(), *self.loss_texts, self.cut)
        super().__init__(controls, chart=chart, title="Roads of the gradient")

    def _draw_network(self, axes: Axes) -> None:
        self.boxes, self.texts, self.loss_texts = {}, {}, []
        for name, (x, y, half) in {**PLACES, **LOSSES}.items():
            shape = "round,pad=0,rounding_size=0.15"
            low = 0.55 if name in PLACES else 0.35
            patch = FancyBboxPatch((x - half, y - low), 2 * half, 2 * low, boxstyle=shape, lw=1.5, zorder=3)
            self.boxes[name] = axes.add_patch(patch)
            words = NAMES.get(name, name)
            text = axes.text(x, y, words, ha="center", va="center", fontsize=10, zorder=4)
            if name in PLACES:
                self.texts[name] = text
            else:
                self.loss_texts.append(text)
        ends = {
            ("head", "trunk"): ((6.3, 1.2), (2.3, 1.2)),
            ("rpn", "trunk"): ((3.3, 3.1), (1.6, 1.75)),
            ("head", "proposals"): ((7.3, 1.75), (7.3, 2.85)),
            ("proposals", "rpn"): ((6.3, 3.4), (5.3, 3.4)),
        }
        ends |= {name: ((x, y - 0.35), (x * 0.35 + 4.3 * 0.65, 3.95)) for name, (x, y, _) in LOSSES.items() if y > 4}
        ends |= {name: ((x - 0.95, y), (8.3, y * 0.4 + 1.2 * 0.6)) for name, (x, y, _) in LOSSES.items() if y < 4}
        self.roads = {}
        for road, (start, stop) in ends.items():
            arrow = FancyArrowPatch(
                start, stop, arrowstyle="-|>", mutation_scale=16, lw=3, shrinkA=0, shrinkB=0, zorder=2
            )
            self.roads[road] = axes.add_patch(arrow)
        self.cut = axes.text(7.45, 2.3, "✂ detach", fontsize=13, color="#D55E00", va="center", zorder=5, weight="bold")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Light the roads that the gradient takes; write its length at each part."""
        term = self.state["term"]
        for road, arrow in self.roads.items():
            lit = road == term or (isinstance(road, tuple) and road in numbers["roads"])
            arrow.set_color("#D55E00" if lit else OFF)
            arrow.set_zorder(2.5 if lit else 2)
        for name, box in self.boxes.items():
            reached = numbers["norms"].get(name, 0.0) > 0 or name == term
            box.set_facecolor(LINES[0] if reached else "#FFFFFF")
            box.set_edgecolor(LINES[0] if reached else "#888888")
            if name in self.texts and name in PARTS:
                length = numbers["norms"][name]
                said = f"gradient {say(length)}" if length else "no gradient"
                self.texts[name].set(text=f"{NAMES[name]}\n{said}", color="white" if reached else "black")
        for text, name in zip(self.loss_texts, LOSSES, strict=True):
            text.set_color("white" if name == term else "black")
        self.cut.set_visible(self.state["version"] == VERSIONS[0])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say where the gradient arrives."""
        words = [f"{NAMES[p].split(',')[-1].strip()} {say(n) if n else 'none'}" for p, n in numbers["norms"].items()]
        return f"length of the gradient of the {self.state['term']} loss: " + " · ".join(words)


def say(length: float) -> str:
    """Write a length with two digits that count."""
    return f"{float(f'{length:.2g}'):g}"
