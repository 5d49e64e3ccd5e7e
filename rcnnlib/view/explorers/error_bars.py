"""What kind of mistake is each detection? Bars over a set of pictures, and one picture to look at (lesson 08).

`engine.metrics` says which kind; this file counts above a score and says which objects were missed.

Shapes:
    D  detections of a picture      G  its objects
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import ipywidgets
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rcnnlib.engine.metrics import KINDS, Record, kind_of_each
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, Kind

SHOWN = ("correct", "localisation", "duplicate", "confusion", "background", "missed")
LIMITS = (0.3, 0.5, 0.7)


def missed_objects(record: Record, kinds: Int[Tensor, " D"], score: float) -> Bool[Tensor, " G"]:
    """Say which objects no correct detection of at least ``score`` stands for."""
    found = (kinds == KINDS.index("correct")) & (record.scores >= score)
    iou = box_iou(record.boxes[found], record.truth)
    iou = iou.masked_fill(record.labels[found, None] != record.truth_labels, -1)
    missed = torch.ones(len(record.truth), dtype=torch.bool)
    missed[iou.argmax(dim=1) if len(missed) else []] = False  # each stands for the one that it overlaps most
    return missed


def errors_at(
    score: float, iou: float, picture: int, *, records: Sequence[Record], table: Any, shown: Sequence[int]
) -> dict[str, Any]:
    """Return the counts over all pictures, and the kinds on one of ``shown``; ``table`` gives the kinds by IoU."""
    kinds = table(iou)
    good = [kind[record.scores >= score] for kind, record in zip(kinds, records, strict=True)]
    counts = torch.cat(good).bincount(minlength=len(KINDS)).tolist()
    counts[-1] = sum(len(record.truth) for record in records) - counts[0]
    here = shown[picture]
    rows = (records[here].scores >= score).nonzero()[:, 0]
    words = [KINDS[kind] for kind in kinds[here][rows].tolist()]
    return {
        **{name: counts[KINDS.index(name)] for name in SHOWN},
        "on this picture": ", ".join(f"{count} {word}" for word, count in Counter(words).items()) or "nothing shown",
        "kinds": words,
        "missed here": missed_objects(records[here], kinds[here], score),
        "rows": rows,
    }


class ErrorBars(Explorer):
    """Thresholds for score and IoU, a picture to look at, and the bars of all pictures."""

    from_canvas = ()  # no box can be dragged

    def __init__(self, images: Mapping[int, Any], records: Sequence[Record], names: Sequence[str]) -> None:
        """Judge ``records``; ``images`` by the place of their record are those to look at."""
        self.images, self.records, self.names, self.drawn = dict(images), list(records), list(names), -1
        shown = list(self.images)

        @cache
        def table(iou: float) -> list[Tensor]:
            return [kind_of_each(record, len(names), iou_threshold=iou) for record in records]

        for limit in LIMITS:
            table(limit)  # a move must not wait for it
        self.compute = partial(errors_at, records=self.records, table=table, shown=shown)
        controls = {
            "score": slider("show from score", 0.5, 0.05, 1.0, 0.05),
            "iou": choice("right from IoU", LIMITS, 0.5),
            "picture": slider("picture", 0, 0, len(shown) - 1, 1),
        }
        canvas = Canvas(self.images[shown[0]], alt="", display_width=320)
        super().__init__(controls, canvas=canvas, chart=self._make_chart(), title="Kinds of error")
        controls["score"].layout.width = controls["picture"].layout.width = "400px"
        grid = ipywidgets.Layout(grid_template_columns="repeat(auto-fit, 405px)", overflow="visible")
        self.children = [ipywidgets.GridBox(list(controls.values()), layout=grid), *self.children[len(controls) :]]

    def _make_chart(self) -> Chart:
        chart = Chart(400, 300)
        axes = chart.axes
        most = sum(len(record.truth) for record in self.records) * 2
        axes.set(xlim=(0, most), ylim=(len(SHOWN) - 0.4, -0.6), yticks=range(len(SHOWN)), xlabel="how many")
        axes.set_yticklabels(SHOWN)
        colours = [LINES[0], *[LINES[1]] * (len(SHOWN) - 2), "#777777"]
        self.bars = axes.barh(range(len(SHOWN)), [0] * len(SHOWN), height=0.6, color=colours)
        self.counts = [axes.text(0, row, "", va="center", fontsize=10) for row in range(len(SHOWN))]
        self.most = most
        chart.animate(*self.bars, *self.counts)
        return chart

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show one picture with the kind of each detection, and the bars."""
        place = list(self.images)[self.state["picture"]]
        record, rows = self.records[place], numbers["rows"]
        words = [self.names[label - 1] for label in record.labels[rows].tolist()]
        labels = [f"{word}: {kind}" for word, kind in zip(words, numbers["kinds"], strict=True)]
        kinds: list[Kind] = ["ground_truth"] * len(record.truth) + ["detection"] * len(rows)
        image = self.images[place] if place != self.drawn else None
        boxes = torch.cat((record.truth, record.boxes[rows]))  # what comes last lies on top
        missed = ["missed" if one else "" for one in numbers["missed here"]]
        self.canvas.show(image, boxes, kinds=kinds, labels=missed + labels)
        self.canvas.alt, self.drawn = f"Picture {place}: {', '.join(labels) or 'nothing shown'}", place
        for row, (bar, text, name) in enumerate(zip(self.bars, self.counts, SHOWN, strict=True)):
            length = min(numbers[name], self.most)
            bar.set_width(length)
            inside = length > 0.85 * self.most
            text.set(position=(length, row), text=f" {numbers[name]} ", ha="right" if inside else "left")
            text.set_color("white" if inside else "black")

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts, over all pictures and on this one."""
        return super().tell({name: numbers[name] for name in (*SHOWN, "on this picture")})
