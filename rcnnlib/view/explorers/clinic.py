"""The ward of the clinic: what a patient finds on a test picture, beside what the healthy detector finds (lesson 17).

Everything was stored by ``data/build/clinic.py``; nothing runs here but the counting of errors.
Leaves out: what is wrong with them.

Shapes:
    D  detections      H, W  height and width of the picture shown, pixels
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rcnnlib.datasets.transforms import Example
from rcnnlib.engine.clinic import CLASSES, FAULTS, HEALTHY, Signs, enlarge, swap_colours
from rcnnlib.engine.metrics import KINDS, Record, error_kinds, kind_of_each
from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.explorers.base import Explorer, choice, slider
from rcnnlib.view.plotting import LINES, LessonFigure, draw_boxes, figure, show_image

NAMES = ("circle", "square", "triangle")  # short, for labels on small boxes
ZOOM, GAP = 4, 8  # each pixel is drawn ZOOM times; pixels between the two pictures
TERMS = ("rpn_class", "rpn_box", "head_class", "head_box")
ERRORS = ("correct", "duplicate", "localisation", "confusion", "background", "missed")


def shown_pictures(clinic: dict[str, Any]) -> list[Example]:
    """Return the test pictures whose detections are stored."""
    dataset = Signs(clinic["test pictures"], seed=2)
    return [dataset[number] for number in clinic["shown"]]


def record_of(example: Example, found: dict[str, list], least: float) -> Record:
    """Return stored detections with a score of at least ``least`` beside the truth."""
    scores = torch.tensor(found["scores"])
    good = scores >= least
    boxes = torch.tensor(found["boxes"]).reshape(-1, 4)[good]
    labels = torch.tensor(found["labels"], dtype=torch.int64)[good]
    truth = example.boxes, example.labels, example.ignore
    return Record(example.id, boxes, scores[good], labels, *truth)


def ward(
    picture: int, patient: str, least: float, *, clinic: dict[str, Any], examples: list[Example]
) -> dict[str, Any]:
    """Return what a patient and the healthy one find on a picture, with errors by kind, and their vital signs."""
    numbers: dict[str, Any] = {}
    for who, name in (("healthy", "healthy"), (patient, "patient")):
        case = clinic["cases"][who]
        record = record_of(examples[picture], case["pictures"][picture]["detections"], least)
        errors = error_kinds([record], len(CLASSES), score_threshold=least)._asdict()
        numbers[name] = {
            "record": record,
            "kinds": [KINDS[kind] for kind in kind_of_each(record, len(CLASSES)).tolist()],
            "errors": errors,
            "boxes": len(record.boxes),
            "right": errors["correct"],
            "mean score": record.scores.mean().item() if len(record.scores) else 0.0,
            "signs": case["vital signs"],
        }
    return numbers


def side_by_side(left: Float[Tensor, "3 h w"], right: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 H W"]:
    """Return two pictures in one, enlarged, with a white gap between them."""
    gap = torch.ones(3, left.shape[1] * ZOOM, GAP * ZOOM)
    return torch.cat((enlarge(left, ZOOM), gap, enlarge(right, ZOOM)), dim=2)


class Ward(Explorer):
    """Left the healthy detector, right the patient, on the same picture; bars: their errors on all test pictures."""

    from_canvas = ()

    def __init__(self, clinic: dict[str, Any], patient: str = "A") -> None:
        """Take the stored clinic; the patient is chosen in a menu."""
        self.examples, self.shown = shown_pictures(clinic), ()
        self.compute = partial(ward, clinic=clinic, examples=self.examples)
        controls = {
            "picture": slider("picture", 0, 0, len(self.examples) - 1, 1),
            "patient": choice("patient", list(FAULTS), patient),
            "least": slider("score at least", 0.5, 0.2, 0.9, 0.05),
        }
        canvas = Canvas(torch.ones(3, 8, 8), alt="", display_width=490)
        chart = Chart(310, 250)
        self._draw_bars(chart)
        super().__init__(controls, canvas=canvas, chart=chart, title="Ward")

    def _draw_bars(self, chart: Chart) -> None:
        axes, rows = chart.axes, range(len(ERRORS))
        self.bars = [
            *axes.barh([row - 0.2 for row in rows], [0] * len(ERRORS), height=0.36, color="#BBBBBB"),
            *axes.barh([row + 0.2 for row in rows], [0] * len(ERRORS), height=0.36, color=LINES[0]),
        ]
        self.counts = [axes.text(0, row + side, "", va="center", fontsize=9) for side in (-0.2, 0.2) for row in rows]
        axes.set(xlim=(0, 320), ylim=(len(ERRORS) - 0.4, -0.6), xticks=[], yticks=rows, yticklabels=ERRORS)
        axes.tick_params(axis="y", length=0)
        axes.set_title("100 pictures; grey: healthy")
        chart.animate(*self.bars, *self.counts)

    def draw(self, numbers: dict[str, Any]) -> None:
        """Show both pictures with truth and detections, and the bars."""
        state = self.state
        example, letter = self.examples[state["picture"]], state["patient"]
        width = example.image.shape[-1] + GAP
        boxes, kinds, labels = [], [], []
        for name, left in (("healthy", 0), ("patient", width)):
            record = numbers[name]["record"]
            boxes += [record.truth, record.boxes]
            boxes[-2:] = [(each + torch.tensor([left, 0, left, 0])) * ZOOM for each in boxes[-2:]]
            kinds += ["ground_truth"] * len(record.truth) + ["detection"] * len(record.boxes)
            named = zip(record.labels.tolist(), record.scores.tolist(), strict=True)
            labels += [""] * len(record.truth) + [f"{NAMES[label - 1]} {score:.2f}" for label, score in named]
        seen = swap_colours(example) if FAULTS[letter].reading is swap_colours else example
        pictures = (state["picture"], seen is example)
        image = side_by_side(example.image, seen.image) if pictures != self.shown else None
        self.shown = pictures
        self.canvas.show(image, torch.cat(boxes), kinds=kinds, labels=labels)
        found = [numbers[name]["boxes"] for name in ("healthy", "patient")]
        self.canvas.alt = (
            f"Test picture twice: {found[0]} boxes of the healthy detector, {found[1]} of patient {letter}"
        )
        self._fill_bars(numbers)

    def _fill_bars(self, numbers: dict[str, Any]) -> None:
        values = [numbers[name]["signs"]["errors"][error] for name in ("healthy", "patient") for error in ERRORS]
        for bar, text, value in zip(self.bars, self.counts, values, strict=True):
            bar.set_width(min(value, 320))
            text.set_text(f" {value}")
            text.set_x(min(value, 285))

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts of this picture, and the vital signs of all."""
        lines = []
        for name, title in (("healthy", "healthy  "), ("patient", f"patient {self.state['patient']}")):
            one, signs = numbers[name], numbers[name]["signs"]
            lines.append(
                f"{title}: {one['boxes']} boxes, {one['right']} right, mean score {one['mean score']:.2f}"
                f" · all pictures: AP50 {signs['AP50']:.2f}, AP75 {signs['AP75']:.2f}"
            )
        return "\n".join(lines)


def case_sheet(clinic: dict[str, Any], letter: str, pictures: tuple[int, int] = (0, 1)) -> LessonFigure:
    """Draw a patient's symptoms: four curves (healthy: thick, grey) and what is found on two test pictures."""
    examples = shown_pictures(clinic)
    case, healthy = clinic["cases"][letter], clinic["cases"]["healthy"]
    signs = case["vital signs"]
    alt = f"patient {letter}: AP50 {signs['AP50']:.2f}, AP75 {signs['AP75']:.2f}"
    fig, axes = figure(890, 225, columns=6, alt=alt)
    axes[0].get_gridspec().set_width_ratios([1, 1, 1, 1, 2.1, 2.1])
    for ax, term in zip(axes, TERMS, strict=False):
        both = [healthy["curves"][term], case["curves"][term]]
        steps = [(place + 0.5) * clinic["window"] for place in range(len(both[0]))]
        ax.plot(steps, both[0], "-", color="#BBBBBB", lw=5)
        ax.plot(steps, both[1], "-", color=LINES[0], lw=1.5)
        top = max(max(values[len(values) // 10 :]) for values in both)
        ax.set(title=term, ylim=(0, 1.15 * top), xticks=[0, clinic["steps"]])
    for ax, place in zip(axes[4:], pictures, strict=True):
        example = examples[place]
        record = record_of(example, case["pictures"][place]["detections"], 0.5)
        seen = swap_colours(example) if FAULTS.get(letter, HEALTHY).reading is swap_colours else example
        draw_boxes(show_image(ax, enlarge(seen.image, ZOOM)), record.truth * ZOOM, kind="ground_truth")
        draw_boxes(ax, record.boxes * ZOOM, kind="detection", labels=[NAMES[label - 1] for label in record.labels])
        ax.set_title(f"picture {place}")
    return fig
