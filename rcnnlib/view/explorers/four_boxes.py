"""Four boxes bb1 .. bb4, round by round: who wins, who is struck, why the others are still there (lesson 13).

The boxes are our own, made by algebra: their IoUs are 3/4, 1/2, 5/8 with bb1, and 3/4 between bb3 and bb4.
Leaves out: many boxes (lesson 08's rounds) and speed (`ops.nms.nms`).

Shapes:
    N  boxes, by falling score
"""

from typing import Any

import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor

from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import NmsStep, nms_steps
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import STYLES, Kind, readable_on

NAMES = ("bb1", "bb2", "bb3", "bb4")
SCORES = torch.tensor([0.95, 0.90, 0.80, 0.70])
BOXES = torch.tensor([[0.0, 0, 130, 120], [-6, -11, 114, 125], [15, 40, 135, 140], [10, 25, 140, 133]])
SAME, OTHER = "as bb1", "another class"
WINS, STRUCK, GONE, KEPT = "wins", "struck", "gone", "kept"
COLOURS = {
    WINS: STYLES["detection"].colour,
    KEPT: "#F3C6A8",
    STRUCK: STYLES["ignored"].colour,
    GONE: "#E5E5E5",
    "stays": STYLES["proposal"].colour,
    "other class": "#F7D58A",
}


def play(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], groups: list[int], threshold: float
) -> list[tuple[NmsStep, list[int]]]:
    """Return the rounds of all groups by the score of their winner; rows and IoUs are those of all boxes."""
    rounds = []
    for group in sorted(set(groups)):
        rows = [row for row, own in enumerate(groups) if own == group]
        for step in nms_steps(boxes[rows], scores[rows], threshold):
            best = rows[step.best]
            iou = box_iou(boxes[best][None], boxes)[0]
            rounds.append((NmsStep(best, iou, *([rows[i] for i in part] for part in step[2:])), rows))
    return sorted(rounds, key=lambda one: -float(scores[one[0].best]))


def words_of(rounds: list[tuple[NmsStep, list[int]]], count: int) -> list[list[str]]:
    """Return for each round what it does to each box: wins, kept, struck, gone, stays or other class."""
    table: list[list[str]] = []
    for step, rows in rounds:
        row = []
        for box in range(count):
            before = table[-1][box] if table else ""
            if box == step.best:
                row.append(WINS)
            elif before in (WINS, KEPT):
                row.append(KEPT)
            elif before in (STRUCK, GONE):
                row.append(GONE)
            else:
                row.append(STRUCK if box in step.removed else "stays" if box in rows else "other class")
        table.append(row)
    return table


def reason(word: str, iou: float, threshold: float, winner: str) -> str:
    """Say in words what a round has done to a box."""
    if word == "stays":
        return f"IoU {iou:.4f} with {winner} is not above {threshold:.3f}, and its own round has not come"
    return {
        WINS: "wins this round, and is kept for good",
        KEPT: "won a round before: kept for good",
        STRUCK: f"struck: IoU {iou:.4f} with {winner} is above {threshold:.3f}",
        GONE: "struck in an earlier round",
        "other class": f"{winner} has another class, and cannot strike it",
    }[word]


def four_boxes(round: int, threshold: float, group: str, boxes: Float[Tensor, "N 4"], chosen: int) -> dict[str, Any]:
    """Return the state after ``round`` rounds, the fate of ``chosen``, and below what this winner strikes it."""
    rounds = play(boxes, SCORES, [0, 0, 0, int(group == OTHER)], threshold)
    table = words_of(rounds, len(boxes))
    done = min(round, len(rounds))
    step, rows = rounds[done - 1]
    word, iou = table[done - 1][chosen], step.iou[chosen].item()
    name, winner = NAMES[chosen], NAMES[step.best]
    can = chosen in rows and word in ("stays", STRUCK)
    return {
        "round": f"{done} of {len(rounds)}",
        "winner": winner,
        "strikes": " ".join(NAMES[row] for row in sorted(step.removed)) or "nobody",
        name: reason(word, iou, threshold, winner),
        f"{winner} strikes it": f"below {iou:.4f}" if can else "at no threshold",
        "at the end": " ".join(NAMES[row] for row in sorted(one.best for one, _ in rounds)),
        "table": table,
        "done": done,
        "iou": [one.iou for one, _ in rounds],
    }


class FourBoxes(Explorer):
    """Four boxes that can be dragged; beside them what each round does to each box."""

    def __init__(self, image: Any, boxes: Float[Tensor, "4 4"], alt: str) -> None:
        """Show ``boxes``, bb1 to bb4, on ``image``."""
        controls = {
            "round": slider("round", 1, 1, 4, 1),
            "threshold": slider("strike above", 0.7, 0.4, 0.9, 0.025),
            "group": choice("class of bb4", (SAME, OTHER)),
            "chosen": choice("ask about", [(name, row) for row, name in enumerate(NAMES)], 3),
        }
        self.compute = four_boxes
        canvas = Canvas(image, boxes, kinds="proposal", editable=range(4), alt=alt, display_width=425)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(), title="Four boxes")

    def _make_chart(self) -> Chart:
        """A row for each box, a column for each round."""
        chart = Chart(370, 300)
        axes = chart.axes
        axes.set(xlim=(-0.02, 4.02), ylim=(4.02, -0.02), yticks=[row + 0.5 for row in range(4)])
        axes.set_yticklabels([f"{name}  {score:.2f}" for name, score in zip(NAMES, SCORES.tolist(), strict=True)])
        axes.set_xticks([column + 0.5 for column in range(4)], [f"round {column + 1}" for column in range(4)])
        axes.tick_params(length=0)
        axes.xaxis.tick_top()
        for side in axes.spines.values():
            side.set_visible(False)
        self.cells, self.words = [], []
        for row in range(4):
            cells = [Rectangle((column + 0.03, row + 0.04), 0.94, 0.92) for column in range(4)]
            self.cells.append([axes.add_patch(cell) for cell in cells])
            middle = [(column + 0.5, row + 0.5) for column in range(4)]
            self.words.append([axes.text(*place, "", ha="center", va="center", fontsize=9) for place in middle])
        flat = [artist for rows in (self.cells, self.words) for row in rows for artist in row]
        chart.animate(*flat)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Colour boxes and cells by what has become of each box; rounds to come stay empty."""
        now, table = numbers["done"], numbers["table"]
        kinds: dict[str, Kind] = {WINS: "detection", KEPT: "detection", STRUCK: "ignored", GONE: "ignored"}
        self.canvas.kinds = [kinds.get(word, "proposal") for word in table[now - 1]]
        self.canvas.labels = list(NAMES)
        for row in range(4):
            for column in range(4):
                word = table[column][row] if column < now else ""
                cell, text = self.cells[row][column], self.words[row][column]
                colour = COLOURS.get(word, "#F8F8F8")
                cell.set(facecolor=colour, edgecolor="black" if word and column == now - 1 else "none", linewidth=1.5)
                shown = word in (STRUCK, "stays")
                text.set_text(f"{word}\n{numbers['iou'][column][row]:.3f}" if shown else word.replace(" ", "\n"))
                text.set_color(readable_on(colour))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say all but the table."""
        return super().tell({name: numbers[name] for name in list(numbers)[:6]})
