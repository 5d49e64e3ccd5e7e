"""Checks of the exercises: one contract each, which takes the learner's function and speaks like a teacher.

``SOLUTIONS`` names for every exercise the function of the library that solves it.
"""

from collections.abc import Callable
from typing import Any

from rcnnlib.checks.boxes import best_match, check_best_match, check_convert, check_iou
from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.checks.start import check_area
from rcnnlib.ops.boxes import box_area, box_convert, box_iou

SOLUTIONS: dict[str, Callable[..., Any]] = {
    "my_area": box_area,
    "my_convert": box_convert,
    "my_iou": box_iou,
    "my_best_match": best_match,
}

__all__ = [
    "SOLUTIONS",
    "Case",
    "Contract",
    "Mistake",
    "best_match",
    "check_area",
    "check_best_match",
    "check_convert",
    "check_iou",
]
