"""The end of a training: weights in half precision, and beside them a card that says what they are.

A card is JSON: the command that made them, data, seed, steps, time, machine, figures on the test sets, and the SHA-256
of the file. The figures are of the stored, rounded weights. Left out: the checkpoint with the optimiser, which stays in
the folder of the run.
"""

import csv
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rcnnlib.engine.evaluation import evaluate
from rcnnlib.engine.recipes import RECIPES, open_data
from rcnnlib.engine.schedules import with_steps
from rcnnlib.models.weights import load_weights, save_weights

TESTS = {"scrapbook": (("scrapbook", "test"), ("wild", "test")), "treetops": (("treetops", "test"),)}
SHAPES_TESTS = (("shapes", "test"),)
KEPT = ("AP", "AP50", "AP75", "voc_AP50", "voc_AP50_11", "errors", "pictures", "objects", "seconds_per_picture")


def measure(name: str, weights: str | Path) -> dict[str, Any]:
    """Return the figures of stored weights on the test sets of their recipe, as text and rounded numbers."""
    recipe, detector = RECIPES[name], load_weights(weights)
    suffix = "_selective_search" if detector.model.needs_proposals else ""
    base = recipe.data.split("_")[0]
    figures = {}
    for data, split in TESTS.get(base, SHAPES_TESTS):
        found = evaluate(detector.model, open_data(data + suffix, split), longer_side=recipe.spec.longer_side)
        row = {key: round_all(found[key]) for key in KEPT}
        row["per_class_AP50"] = {label: round_all(each["AP50"]) for label, each in found["per_class"].items()}
        figures[f"{data}_{split}"] = row
    return figures


def round_all(value: Any) -> Any:
    """Return numbers with four decimals, also inside a dict."""
    if isinstance(value, dict):
        return {key: round_all(each) for key, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def seconds_of(folder: Path) -> float:
    """Return the seconds that the steps of all phases of a run took, from their logs."""
    total = 0.0
    for log in sorted(folder.glob("*/log.csv")):
        with log.open(newline="") as file:
            total += sum(float(row["seconds"]) for row in csv.DictReader(file))
    return total


def finish(name: str, model: nn.Module, folder: str | Path, *, seed: int, steps: int | None = None) -> Path:
    """Write ``NAME.safetensors`` and its card ``NAME.json`` into the folder of the run; return the first."""
    recipe, folder = RECIPES[name], Path(folder)
    command = f"python -m rcnnlib train {name} --seed {seed}" + ("" if steps is None else f" --steps {steps}")
    taken = {phase.name: phase.schedule.steps for phase in with_steps(recipe.phases, steps)}
    facts = {"recipe": name, "command": command, "data": recipe.data, "seed": seed, "steps": taken}
    path = folder / f"{name}.safetensors"
    save_weights(path, model, recipe.spec, facts)
    card = facts | {
        "seconds": round(seconds_of(folder)),
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "figures": measure(name, path),
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return path
