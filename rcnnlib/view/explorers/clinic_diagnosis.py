"""Name what is wrong with a patient, and hear what speaks for or against it (lesson 17).

Each fault predicts something that can be measured; the verdict says what it predicts, and what was measured.
Leaves out: faults that come two at a time.

Shapes: none; a case is an entry of ``clinic["cases"]``
"""

from functools import partial
from statistics import fmean, median
from typing import Any, NamedTuple

import torch

from rcnnlib.datasets.transforms import Example
from rcnnlib.engine.clinic import FAULTS, Signs
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, choice, switch
from rcnnlib.view.plotting import LINES

TERMS = ("rpn_class", "rpn_box", "head_class", "head_box")
LAST = 10  # points of a curve that make its end
LEAST = 0.5  # score of a detection that takes part


def evidence(case: dict[str, Any], examples: list[Example]) -> dict[str, float]:
    """Return what a doctor measures in a stored case."""
    signs = case["vital signs"]
    ends = {f"{term} at the end": fmean(case["curves"][term][-LAST:]) for term in TERMS}
    right, swapped, proposals = ([], [], [])
    for example, seen in zip(examples, case["pictures"], strict=True):
        right += _right(seen["detections"], example)
        swapped += _right(seen["colours swapped"], example)
        boxes = torch.tensor(seen["proposals"]["boxes"]).reshape(-1, 4)[: len(example.boxes)]
        row = box_iou(boxes, example.boxes).argmax(1)
        proposals += ((boxes - example.boxes[row]).unflatten(1, (2, 2)).mean(1)).tolist()
    return ends | {
        "AP50": signs["AP50"],
        "AP75": signs["AP75"],
        "recall of proposals": signs["recall of 20 proposals"][0],
        "recall at IoU 0.7": signs["recall of 20 proposals"][1],
        "duplicates": signs["errors"]["duplicate"],
        "badly boxed": signs["errors"]["localisation"] + signs["errors"]["background"],
        "wrong names": signs["errors"]["confusion"],
        "right boxes": sum(right),
        "right boxes, colours swapped": sum(swapped),
        "classes never found": sum(ap < 0.05 for ap in signs["AP50 of each class"]),
        "proposals off along x": median(x for x, _ in proposals),
        "mean score": signs["mean score"],
    }


def _right(found: dict[str, list], example: Example) -> list[bool]:
    """Say for each good detection whether it fits an object (IoU of 0.5 or more) and has its name."""
    good = torch.tensor(found["scores"]) >= LEAST
    boxes = torch.tensor(found["boxes"]).reshape(-1, 4)[good]
    iou, row = box_iou(boxes, example.boxes).max(dim=1)
    return ((iou >= 0.5) & (torch.tensor(found["labels"], dtype=torch.int64)[good] == example.labels[row])).tolist()


class Prediction(NamedTuple):
    """What a fault predicts: in words, and the figures of `evidence` that show it."""

    then: str
    figures: tuple[str, ...]


PREDICTIONS = {
    "deltas not normalised back": Prediction("boxes fly off, with good names", ("badly boxed", "recall of proposals")),
    "labels counted from 0": Prediction(
        "the last name is never used, and every name is one too low", ("classes never found", "wrong names")
    ),
    "x and y swapped": Prediction(
        "all four curves stay high, and nothing is found",
        ("rpn_class at the end", "head_class at the end", "mean score"),
    ),
    "NMS before decode": Prediction("good boxes come in copies", ("duplicates", "badly boxed")),
    "blue and red swapped": Prediction(
        "what depends on colour goes wrong, and swapping the colours once more mends it",
        ("right boxes", "right boxes, colours swapped"),
    ),
    "scores reshaped without permute": Prediction(
        "rpn_class alone stays very high, and the few boxes found fit",
        ("rpn_class at the end", "head_class at the end", "badly boxed"),
    ),
    "anchors half a stride off": Prediction(
        "proposals stand off to one side, and fit worse", ("proposals off along x", "recall at IoU 0.7")
    ),
    "ignored anchors count as negative": Prediction(
        "rpn_class stays some times too high, and boxes hardly suffer", ("rpn_class at the end", "AP50")
    ),
}


def diagnosis(
    patient: str, name: str, curves: bool, *, cases: dict[str, dict[str, float]], stored: dict[str, Any]
) -> dict[str, Any]:
    """Return whether a patient has this fault, what the fault predicts, and the figures of patient and healthy one."""
    figures = PREDICTIONS[name].figures
    return {
        "right": FAULTS[patient].name == name,
        "then": PREDICTIONS[name].then,
        "figures": {one: (cases[patient][one], cases["healthy"][one]) for one in figures},
        "curves": {who: stored["cases"][who]["curves"] for who in ("healthy", patient)},
        "from the start": curves,
    }


class Diagnosis(Explorer):
    """A patient, a name, a verdict; the four curves of patient and healthy detector as a reminder."""

    def __init__(self, clinic: dict[str, Any]) -> None:
        """Take the stored clinic."""
        dataset = Signs(clinic["test pictures"], seed=2)
        examples = [dataset[number] for number in clinic["shown"]]
        cases = {who: evidence(case, examples) for who, case in clinic["cases"].items()}
        self.compute = partial(diagnosis, cases=cases, stored=clinic)
        names = sorted(PREDICTIONS)
        controls = {
            "patient": choice("patient", list(FAULTS)),
            "name": choice("diagnosis", names, names[0]),
            "curves": switch("show the start of the curves, too"),
        }
        chart = Chart(860, 200, columns=4)
        self.lines = []
        self.window = clinic["window"]
        for axes, term in zip(chart.axes, TERMS, strict=True):
            (healthy,) = axes.plot([], [], "-", color="#BBBBBB", lw=5)
            (sick,) = axes.plot([], [], "-", color=LINES[0], lw=1.5)
            axes.set(xlim=(0, clinic["steps"]), xticks=[0, clinic["steps"]], title=term)
            self.lines.append((axes, term, healthy, sick))
        super().__init__(controls, chart=chart, title="Diagnosis")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the curves; their height depends on the patient, so all is drawn anew."""
        curves = numbers["curves"]
        for axes, term, healthy, sick in self.lines:
            both = [curves["healthy"][term], curves[self.state["patient"]][term]]
            steps = [(place + 0.5) * self.window for place in range(len(both[0]))]
            for line, values in zip((healthy, sick), both, strict=True):
                line.set_data(steps, values)
            first = 0 if numbers["from the start"] else len(both[0]) // 6
            axes.set_ylim(0, 1.15 * max(max(values[first:]) for values in both))
        assert self.chart is not None
        self.chart.redraw_background()

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the verdict and what speaks for or against it."""
        sign = "✓ Yes" if numbers["right"] else "✗ No"
        said = [f"{name} {sick:.3g} (healthy {well:.3g})" for name, (sick, well) in numbers["figures"].items()]
        return f"{sign}. With this fault {numbers['then']}.\nmeasured: " + " · ".join(said)
