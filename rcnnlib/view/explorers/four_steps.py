"""The four steps of alternating training as a picture: where weights come from, what learns, what is frozen (14).

Drawn from the phases of a recipe (`engine.schedules`), nothing is written down twice.
Leaves out: the training itself, which stands in the lesson.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from rcnnlib.engine.schedules import Phase
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, STYLES

PARTS = ("trunk", "rpn", "head")
NAMES = {"trunk": "trunk", "rpn": "RPN", "head": "head"}
LAST = "detector"
COLUMN = 10.0
SPOTS = {
    "trunk": (0.4, 1.2, 8.8),
    "rpn": (0.4, 4.8, 4.2),
    "head": (5.0, 4.8, 4.2),
}  # left edge in a column, floor, width
HIGH = 2.4
LEGEND = "blue: learns · hatched: frozen · black arrow: weights are copied · orange arrow: proposals"
FIRST = {"imagenet": "from ImageNet", "nothing": "first weights", "new": "new"}
FROZEN, LEARNS = "#FFFFFF", LINES[0]


def parts_of(phase: Phase) -> list[str]:
    """Return the parts of the network of a phase: the trunk, and what learns on it."""
    return ["trunk", *(part for part in PARTS[1:] if part in phase.learns)]


def origins(phases: Sequence[Phase]) -> dict[str, dict[str, str]]:
    """Return for each phase, and for the finished detector, where each of its parts starts."""
    found = {p.name: {part: p.trunk if part == "trunk" else p.starts for part in parts_of(p)} for p in phases}
    last = {part: [p.name for p in phases if part in p.learns] for part in PARTS}
    return found | {LAST: {part: names[-1] for part, names in last.items()}}


def four_steps(
    step: int, show: str, *, phases: Sequence[Phase], letters: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Return what happens in a step (the one after the last is the finished detector).

    Args:
        letters: for each step the name of the weights that each part has at its end; equal letters, equal weights.
    """
    chosen = phases[step - 1] if step <= len(phases) else None
    name = chosen.name if chosen else LAST
    start = origins(phases)[name]
    equal = [other for other in letters if letters[other]["trunk"] == letters[name]["trunk"] and other != name]
    return {
        "step": name,
        "learns": [part for part in start if chosen and part in chosen.learns],
        "frozen": [part for part in start if chosen and part not in chosen.learns],
        "from": start,
        "proposals": chosen.proposals if chosen else "own",
        "letters": letters[name],
        "same trunk": equal,
        "upto": len(phases) + 1 if show == SHOWN[0] else step,
    }


SHOWN = ("all steps", "up to this one")


def draw_steps(axes: Axes, phases: Sequence[Phase]) -> list[list[Artist]]:
    """Draw the steps side by side; return the artists of each, the finished detector last."""
    columns = {phase.name: number for number, phase in enumerate(phases)} | {LAST: len(phases)}
    axes.set(xlim=(-0.2, COLUMN * len(columns)), ylim=(-2.3, 10.4))
    axes.set_axis_off()
    axes.text(0.4, -2.0, LEGEND, fontsize=9, color="#333333", va="center")
    drawn = []
    for phase, (name, start) in zip([*phases, None], origins(phases).items(), strict=True):
        left, own = COLUMN * columns[name], []
        title = f"step {name}" if phase else "the detector"
        own.append(axes.text(left + 0.4, 9.8, title, fontsize=12, weight="bold", va="center"))
        for part, source in start.items():
            learns = phase is not None and part in phase.learns
            own += _draw_part(axes, left, part, source, learns=learns, finished=phase is None)
            if source in columns:
                own.append(_weights(axes, columns[source], columns[name], part))
        if phase and phase.proposals in columns:
            own.append(_boxes(axes, columns[phase.proposals], columns[name]))
        drawn.append(own)
    return drawn


def _origin(source: str) -> str:
    return FIRST.get(source, f"from step {source}")


def _draw_part(axes: Axes, left: float, part: str, source: str, *, learns: bool, finished: bool) -> list[Artist]:
    x, y, width = SPOTS[part]
    face, hatch = (LEARNS, "") if learns else (FROZEN, "" if finished else "///")
    shape = "round,pad=0,rounding_size=0.3"
    box = FancyBboxPatch((left + x, y), width, HIGH, boxstyle=shape, fc=face, ec="#555555", hatch=hatch, lw=1.4)
    box.set_zorder(3)
    word = NAMES[part] if learns or finished else f"{NAMES[part]}, frozen"
    told = _origin(source)
    text = axes.text(left + x + width / 2, y + HIGH / 2, f"{word}\n{told}", ha="center", va="center", fontsize=9)
    text.set(zorder=4, color="white" if learns else "black", linespacing=1.5)
    if not learns and not finished:
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    return [axes.add_patch(box), text]


def _weights(axes: Axes, start: int, stop: int, part: str) -> Artist:
    """An arrow for weights that are copied: straight from the column before, an arc over columns between."""
    x, y, width = SPOTS[part]
    near = stop - start == 1 and part == "trunk"
    level = y + HIGH / 2 if near else (y if part == "trunk" else y + HIGH)
    begin = (COLUMN * start + x + (width if near else width / 2), level)
    end = (COLUMN * stop + x + (0 if near else width / 2), level)
    bend = 0 if near else (0.24 if part == "trunk" else -0.3 / (stop - start))
    style = f"arc3,rad={bend}"
    arrow = FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=13, lw=1.8, color="#333333")
    arrow.set(connectionstyle=style, zorder=2)
    return axes.add_patch(arrow)


def _boxes(axes: Axes, start: int, stop: int) -> Artist:
    """A dashed arrow for proposals, from the RPN of one column to the head of another."""
    (x, y, width), (x2, y2, _) = SPOTS["rpn"], SPOTS["head"]
    begin, end = (COLUMN * start + x + width, y + HIGH / 2), (COLUMN * stop + x2, y2 + HIGH / 2)
    arrow = FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=13, lw=2.5, linestyle="--")
    arrow.set(color=STYLES["proposal"].colour, zorder=2)
    return axes.add_patch(arrow)


class FourSteps(Explorer):
    """The picture of the four steps; one of them stands out."""

    from_canvas = ()

    def __init__(self, phases: Sequence[Phase], letters: Mapping[str, Mapping[str, str]]) -> None:
        """Take the phases of a recipe and, for each step and the detector, letters for the weights of its parts."""
        self.compute = partial(four_steps, phases=phases, letters=letters)
        controls = {"step": slider("step", 1, 1, len(phases) + 1, 1), "show": choice("show", SHOWN, SHOWN[1])}
        chart = Chart(860, 300)
        chart.figure.set_layout_engine("none")
        chart.axes.set_position((0, 0, 1, 1))
        self.columns = draw_steps(chart.axes, phases)
        chart.animate(*(artist for column in self.columns for artist in column))
        super().__init__(controls, chart=chart, title="Four steps")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show the steps so far; those before the chosen one are paler."""
        for number, column in enumerate(self.columns, start=1):
            for artist in column:
                artist.set_visible(number <= numbers["upto"])
                artist.set_alpha(1.0 if number == self.state["step"] else 0.35)

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say what learns, where everything starts, and which trunks are equal."""
        start = ", ".join(f"{NAMES[part]} {_origin(source)}" for part, source in numbers["from"].items())
        ends = ", ".join(f"{NAMES[part]} {letter}" for part, letter in numbers["letters"].items())
        same = " and ".join(numbers["same trunk"]) or "none"
        boxes = {"own": ""}.get(numbers["proposals"], f" · proposals of step {numbers['proposals']}")
        head = "the detector" if numbers["step"] == LAST else f"step {numbers['step']}"
        learns = " and ".join(NAMES[part] for part in numbers["learns"]) or "nothing"
        return f"{head} · learns: {learns} · {start}{boxes}\nweights at its end: {ends} · the same trunk: {same}"
