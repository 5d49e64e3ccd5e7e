"""The course as one picture and one list: four detectors as a staircase, the lessons of each step, and the questions.

Leaves out: how far a learner has come (`rcnnlib progress`).
"""

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from rcnnlib.view.plotting import LINES, LessonFigure, figure


class Lesson(NamedTuple):
    """One lesson of the course."""

    number: str
    name: str  # on the map: two words or three
    file: str
    questions: tuple[str, ...] = ()  # of the student, answered here by experiment
    points: tuple[str, ...] = ()  # of the lecture, taught here


class Step(NamedTuple):
    """One step of the staircase: a detector, what it brought, and its lessons."""

    name: str
    adds: str
    lessons: tuple[Lesson, ...]


STEPS = (
    Step(
        "First steps",
        "boxes and\ntheir overlap",
        (
            Lesson("00", "start here", "00_start_here"),
            Lesson("01", "boxes and IoU", "01_boxes_and_iou"),
        ),
    ),
    Step(
        "R-CNN",
        "regions, then\na CNN on each",
        (
            Lesson("02", "Selective Search", "02_selective_search", points=("L4",)),
            Lesson("03", "R-CNN", "03_rcnn", ("Q4",), points=("L1", "L2")),
        ),
    ),
    Step(
        "SPPnet",
        "one CNN pass\nfor all regions",
        (Lesson("04", "shared features", "04_shared_features_and_roi_projection", points=("L3", "L5", "L6")),),
    ),
    Step(
        "Fast R-CNN",
        "one network,\ntrained at once",
        (
            Lesson("05", "RoI pooling", "05_roi_pooling", ("Q2",), points=("L7",)),
            Lesson("06", "heads and loss", "06_heads_and_multi_task_loss", points=("L8", "L9")),
            Lesson("07", "sampling", "07_sampling_mini_batches", ("Q3", "Q4"), points=("L10", "L11")),
            Lesson("08", "detections, AP", "08_from_scores_to_detections"),
            Lesson("09", "training", "09_training_fast_rcnn", ("Q1",), points=("L12",)),
        ),
    ),
    Step(
        "Faster R-CNN",
        "the network finds\nthe regions, too",
        (
            Lesson("10", "anchors", "10_anchors", points=("L14",)),
            Lesson("11", "the RPN", "11_rpn", ("Q5",), points=("L13", "L15")),
            Lesson("12", "RPN loss", "12_rpn_targets_and_loss", ("Q6",), points=("L18", "L19")),
            Lesson("13", "NMS", "13_proposals_and_nms", ("Q7",), points=("L16", "L17")),
            Lesson("14", "training", "14_training_faster_rcnn", points=("L13", "L18b", "L20", "L21")),
            Lesson("15", "results", "15_results_and_limits", points=("L22", "L23", "L24")),
        ),
    ),
    Step(
        "Your turn",
        "your photos,\nyour bugs",
        (
            Lesson("16", "your own data", "16_your_own_data", points=("L25",)),
            Lesson("17", "debug clinic", "17_debug_clinic"),
        ),
    ),
)
LESSONS = tuple(lesson for step in STEPS for lesson in step.lessons)

CHIP, GAP, RISE, COLUMN = 32, 6, 26, 143  # CSS pixels: height of a lesson, space below it, a stair, a step's width
INK, GROUND, QUESTION = "#222222", "#E8EEF4", "#8C2D6B"


def where(question: str) -> list[Lesson]:
    """Return the lessons that answer one of the student's questions, such as ``"Q4"``."""
    return [lesson for lesson in LESSONS if question in lesson.questions]


def course_map() -> LessonFigure:
    """Draw the staircase; a bar is a lesson."""
    most = max(len(step.lessons) for step in STEPS)
    wide, high = len(STEPS) * COLUMN, RISE * len(STEPS) + most * (CHIP + GAP) + 84
    names = ", ".join(step.name for step in STEPS)
    made, ax = figure(wide, high, alt=f"{len(LESSONS)} lessons in {len(STEPS)} steps: {names}. All can be opened.")
    made.set_layout_engine("none")
    ax.set_position((0, 0, 1, 1))
    ax.set(xlim=(0, wide), ylim=(0, high))
    ax.set_axis_off()
    for column, step in enumerate(STEPS):
        _draw_step(ax, step, column * COLUMN, RISE * (column + 1))
    _draw_legend(ax, 8, high - 75)
    return made


def _draw_legend(ax: Axes, left: float, middle: float) -> None:
    """Say what a Q means."""
    ax.text(left + 13, middle, "Q1", va="center", ha="center", fontsize=9, weight="bold", color=QUESTION)
    ax.text(left + 34, middle, "a student's question is answered", va="center", fontsize=9, color=INK)


def _draw_step(ax: Axes, step: Step, left: float, floor: float) -> None:
    """Draw one step with its left lower corner: the ground under it, its lessons from below, its name on top."""
    ax.add_patch(FancyBboxPatch((left, 0), COLUMN - 2, floor - GAP, boxstyle="square,pad=0", fc=GROUND, ec="none"))
    for row, lesson in enumerate(step.lessons):
        _draw_lesson(ax, lesson, left + 4, floor + row * (CHIP + GAP))
    top = floor + len(step.lessons) * (CHIP + GAP) + 4
    ax.text(left + 6, top, step.adds, va="bottom", fontsize=9, color=INK, linespacing=1.3)
    ax.text(left + 6, top + 36, step.name, va="bottom", fontsize=12, weight="bold", color=INK)


def _draw_lesson(ax: Axes, lesson: Lesson, left: float, bottom: float) -> None:
    """Draw one lesson as a bar: number, name, and the questions that it answers below them."""
    shape, fill = "round,pad=0,rounding_size=5", LINES[0]
    ax.add_patch(FancyBboxPatch((left, bottom), COLUMN - 10, CHIP, boxstyle=shape, fc=fill, ec=fill, lw=1.2))
    middle = bottom + CHIP / 2
    ax.text(left + 6, middle, lesson.number, va="center", fontsize=10, weight="bold", color="white")
    ax.text(left + 29, middle, lesson.name, va="center", fontsize=9, color="white")
    if lesson.questions:
        text, ground = " ".join(lesson.questions), {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        place = {"va": "center", "ha": "right", "fontsize": 9, "weight": "bold", "color": QUESTION}
        ax.text(left + COLUMN - 15, middle, text, bbox=ground, **place)
