"""Experiments: a question, conditions that differ in one thing, the same seeds for all; results kept run by run.

``python -m rcnnlib experiment list`` names them, ``python -m rcnnlib experiment NAME`` runs what is missing. Every
finished run is written at once to ``data/results/NAME.json``, with its seconds, machine and commit, so a run that was
killed goes on where it ended. Lessons read the results with `read_result`.
Left out: the runs themselves (`studies`).
"""

import datetime
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rcnnlib.datasets.paths import data_dir
from rcnnlib.engine import ablations, ablations_extra, studies, studies_training
from rcnnlib.engine.bootstrap import Difference, paired_difference
from rcnnlib.engine.studies import Figures


class Experiment(NamedTuple):
    """What is asked, what differs, and how one run is made."""

    question: str
    setting: str  # what all conditions share
    conditions: tuple[str, ...]
    seeds: int
    run: Callable[[str, int, Path], Figures]  # condition, seed, a folder for checkpoints


def on_stored_maps(question: str, who: str, conditions: Iterable[str], run: Callable) -> Experiment:
    """Return an experiment whose heads learn from stored maps, in five seeds."""
    setting = f"600 scenes of Scrapbook, stored maps of the frozen ImageNet trunk, {who}, 800 steps of 4 pictures; "
    return Experiment(question, setting + "measured on the 150 test scenes", tuple(conditions), 5, run)


EXPERIMENTS = {
    "detectors": Experiment(
        "What do the four detectors cost, and how well do they find?",
        "the stored weights, a seed is a test picture of Scrapbook; minutes and AP50 are those of the cards",
        tuple(studies.DETECTORS),
        20,
        studies.detectors,
    ),
    "rcnn_regions": Experiment(
        "How many regions does R-CNN need?",
        "the stored R-CNN, the first regions of Selective Search, all photos of Wild",
        ("64", "200", "500", "1000", "2000"),
        1,
        studies.rcnn_regions,
    ),
    "sampling_mix": on_stored_maps(
        "What do the 25 % and the lower bound of 0.1 do for the classifier?",
        "the head of a Fast R-CNN, 64 regions a picture",
        studies.MIXES,
        studies.sampling_mix,
    ),
    "rpn_3x3_vs_1x1": on_stored_maps(
        "Does the RPN need its 3x3 convolution?", "an RPN alone", studies.HEADS, studies.rpn_3x3_vs_1x1
    ),
    "steps": Experiment(
        "How many steps are enough for the experiments on stored maps?",
        "600 scenes of Scrapbook, stored maps of the frozen ImageNet trunk, the head of a Fast R-CNN and an RPN alone, "
        "4 pictures a step; measured on the 150 validation scenes",
        ablations.STEPS,
        2,
        ablations.steps,
    ),
    "multi_task": on_stored_maps(
        "Does it help the classifier that the same network learns to move boxes?",
        "the head of a Fast R-CNN",
        ablations.MULTI_TASK,
        ablations.multi_task,
    ),
    "proposals": on_stored_maps(
        "Are a few proposals of an RPN as good as all of Selective Search, and what makes them good?",
        "the head of a Fast R-CNN, and an RPN alone",
        ablations.PROPOSALS,
        ablations.proposals,
    ),
    "anchors": on_stored_maps(
        "Do three scales and three ratios help?",
        "an RPN alone, its 300 proposals given to one head trained on Selective Search",
        ablations.ANCHORS,
        ablations.anchors,
    ),
    "box_weight": on_stored_maps(
        "How much does the lambda of the RPN's loss matter?",
        "an RPN alone, its 300 proposals given to one head trained on Selective Search",
        ablations.LAMBDAS,
        ablations.box_weight,
    ),
    "four_step_vs_joint": Experiment(
        "Is joint training as good as four steps, and quicker?",
        "fresh scenes of Scrapbook, 4 pictures a step, 1000 steps of joint training or 500 in each of the four steps, "
        "so that RPN and head learn for 1000 steps in both; the trunk learns but for its first two blocks",
        tuple(studies_training.SCHEDULES),
        5,
        studies_training.four_step_vs_joint,
    ),
    "fast_vs_faster": Experiment(
        "Does a detector get better when an RPN takes the place of Selective Search?",
        "the 600 scenes of Scrapbook, 1000 steps of 4 pictures, one head; the trunk learns but for two blocks",
        tuple(studies_training.SOURCES),
        5,
        studies_training.fast_vs_faster,
    ),
    "ours_vs_torchvision": Experiment(
        "Does our training reach what torchvision's reaches, step for step?",
        "fresh scenes of Scrapbook, 500 steps of 4 pictures; the same trunk, anchors, head, optimiser, first weights",
        ("ours", "torchvision"),
        5,
        studies_training.ours_vs_torchvision,
    ),
    "regions": on_stored_maps(
        "How many of Selective Search's boxes does a picture need?",
        "the head of a Fast R-CNN",
        ablations_extra.COUNTS,
        ablations_extra.regions,
    ),
    "pooling": on_stored_maps(
        "Does it matter that RoI pooling rounds?",
        "the head of a Fast R-CNN",
        ablations_extra.POOLINGS,
        ablations_extra.pooling,
    ),
    "svd": on_stored_maps(
        "How small can the first fully connected layer be made after training?",
        "the head of a Fast R-CNN",
        ablations_extra.RANKS,
        ablations_extra.svd,
    ),
    "pictures_a_step": Experiment(
        "Do many regions of few pictures teach as well as few regions of many?",
        "600 scenes of Scrapbook, stored maps of the frozen ImageNet trunk, the head of a Fast R-CNN, 128 regions a "
        "step, 800 steps; measured on the 150 test scenes",
        ablations_extra.PICTURES,
        5,
        ablations_extra.pictures_a_step,
    ),
    "cutouts": Experiment(
        "What would more individuals bring?",
        "600 scenes made of some of the 96 training cut-outs, stored maps of the frozen ImageNet trunk, an RPN and a "
        "head on its proposals, 800 steps of 4 pictures each; measured on the 150 test scenes",
        ablations_extra.SHARES,
        5,
        ablations_extra.cutouts,
    ),
    "photos": on_stored_maps(
        "What helps a detector of pasted cut-outs on true photos?",
        "made anew for each seed, an RPN and a head on its proposals, which also look at the photos of Wild",
        ablations_extra.PHOTOS,
        ablations_extra.photos,
    ),
}
CORE = (
    "multi_task",
    "proposals",
    "anchors",
    "box_weight",
    "four_step_vs_joint",
    "fast_vs_faster",
    "ours_vs_torchvision",
)
EXTRA = ("regions", "pooling", "svd", "pictures_a_step", "cutouts", "photos", "detectors")


class Result(NamedTuple):
    """The finished runs of an experiment."""

    name: str
    question: str
    setting: str
    values: dict[str, dict[str, list]]  # condition, figure, one number for each seed; of "... drawn" one list each
    runs: list[dict[str, Any]]  # as stored: condition, seed, figures, seconds, machine, commit, date

    def table(self, *figures: str, decimals: int = 3) -> str:
        """Return figures by condition, as mean and range over the seeds, to print."""
        rows = [["", *figures]]
        for condition, found in self.values.items():
            rows.append([condition, *(_mean_and_range(found[figure], decimals) for figure in figures)])
        widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
        lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)

    def difference(self, first: str, second: str, figure: str = "AP50") -> Difference:
        """Return first minus second, seed by seed, with the interval of a bootstrap over test individuals and seeds."""
        pair = [self.values[condition] for condition in (first, second)]
        means = [torch.tensor(found[figure], dtype=torch.float64) for found in pair]
        drawn = [torch.tensor(found[f"{figure} drawn"], dtype=torch.float64) for found in pair]
        return paired_difference(*means, *drawn)


def _mean_and_range(numbers: list[float], decimals: int) -> str:
    mean = f"{sum(numbers) / len(numbers):.{decimals}f}"
    if len(numbers) == 1:
        return mean
    return f"{mean} ({min(numbers):.{decimals}f} to {max(numbers):.{decimals}f})"


def find_experiment(name: str) -> Experiment:
    """Return an experiment by its name.

    Raises:
        ValueError: there is none.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"experiment {name!r} is unknown; use one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def result_path(name: str) -> Path:
    """Return where the results of an experiment are kept."""
    return data_dir() / "results" / f"{name}.json"


def read_result(name: str) -> Result:
    """Read the finished runs of an experiment.

    Raises:
        ValueError: there is no such experiment.
        FileNotFoundError: it has not been run.
    """
    experiment, path = find_experiment(name), result_path(name)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: python -m rcnnlib experiment {name} makes it")
    stored = json.loads(path.read_text(encoding="utf-8"))
    values: dict[str, dict[str, list]] = {}
    for condition in experiment.conditions:
        for run in sorted((r for r in stored["runs"] if r["condition"] == condition), key=lambda r: r["seed"]):
            for figure, number in run["figures"].items():
                values.setdefault(condition, {}).setdefault(figure, []).append(number)
    return Result(name, stored["question"], stored["setting"], values, stored["runs"])


def run_experiment(name: str, folder: str | Path, *, seeds: int | None = None) -> Path:
    """Run what is missing of an experiment, seed by seed; return the file of its results.

    A run that was begun in ``folder`` goes on; its checkpoints are deleted once its figures are written.
    """
    experiment, path = find_experiment(name), result_path(name)
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    done = {(run["condition"], run["seed"]) for run in runs}
    for seed in range(experiment.seeds if seeds is None else seeds):
        for number, condition in enumerate(experiment.conditions):
            if (condition, seed) in done:
                continue
            place, begin = Path(folder) / f"{name}_{number}_{seed}", time.perf_counter()
            figures = experiment.run(condition, seed, place)
            run = {"condition": condition, "seed": seed, "figures": _rounded(figures)}
            run |= {"seconds": round(time.perf_counter() - begin, 1)} | circumstances()
            runs.append(run)
            _write(path, {"name": name, "question": experiment.question, "setting": experiment.setting, "runs": runs})
            shutil.rmtree(place, ignore_errors=True)
            shown = {figure: number for figure, number in run["figures"].items() if isinstance(number, float)}
            print(f"{name}, {condition}, seed {seed}: {shown} in {run['seconds']:.0f} s", flush=True)
    return path


def _rounded(figures: Figures) -> Figures:
    def short(number: float) -> float:
        return float(f"{number:.5g}")

    return {name: [short(each) for each in it] if isinstance(it, list) else short(it) for name, it in figures.items()}


def circumstances() -> dict[str, str]:
    """Return machine, commit and day of a run."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return {"machine": machine, "commit": found.stdout.strip() or "unknown", "date": datetime.date.today().isoformat()}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace the file in one step: a reader or a kill sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    head = json.dumps({name: value for name, value in content.items() if name != "runs"}, indent=1, ensure_ascii=False)
    runs = ",\n  ".join(json.dumps(run, ensure_ascii=False) for run in content["runs"])  # a line each
    part.write_text(f'{head.removesuffix("}").rstrip()},\n "runs": [\n  {runs}\n ]\n}}\n', encoding="utf-8")
    part.replace(path)


def overview() -> str:
    """Return the experiments, how many of their runs are there, and what they ask."""
    lines = []
    for name, experiment in EXPERIMENTS.items():
        wanted = len(experiment.conditions) * experiment.seeds
        stored = result_path(name)
        there = len(json.loads(stored.read_text(encoding="utf-8"))["runs"]) if stored.is_file() else 0
        lines.append(f"{name:<20}{there:>4} of {wanted:<4} runs   {experiment.question}")
    return "\n".join(lines)
