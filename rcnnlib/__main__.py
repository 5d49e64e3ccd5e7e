"""The command line: ``python -m rcnnlib COMMAND``; ``--help`` lists the commands.

Each command imports what it needs when it is called, so that ``--help`` and ``lab`` start at once.
"""

import argparse
import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent  # the checkout
WEIGHTS = "faster_rcnn_scrapbook"  # what `detect` uses unless told otherwise
FIRST = "00_start_here.ipynb"
ORIGINS = ".copied_from.json"  # in my_notebooks: the hash of each lesson when it was copied
EXAMPLES = """examples:
  python -m rcnnlib lab                        copy the lessons to my_notebooks/ and open JupyterLab
  python -m rcnnlib reset 01                   put lesson 01 back as delivered; yours is kept beside it
  python -m rcnnlib doctor                     what this machine has, and how to mend what is missing
  python -m rcnnlib detect cat.jpg dog.jpg --out found    boxes drawn on your photos, and found/detections.json
  python -m rcnnlib train faster_rcnn_shapes --out run     a detector in three minutes; killed, it goes on
  python -m rcnnlib evaluate faster_rcnn_scrapbook --data wild
  python -m rcnnlib benchmark ops              our operators against torchvision's; `models`: our detectors
  python -m rcnnlib progress my_notebooks      the exercises that are done; --csv for a class
  python -m rcnnlib experiment list            what was measured for the lessons, and what can be measured again
  python -m rcnnlib validate data/wild         look for mistakes in a folder of labelled pictures
"""


def copy_lessons(source: Path, target: Path) -> list[str]:
    """Copy the lessons, pages and pictures from ``source`` to ``target``, never over what a learner wrote.

    Returns the lines to print: what was copied, and which lessons have a newer version than the learner's.
    """
    if not (source / FIRST).is_file():
        raise FileNotFoundError(f"{source / FIRST} is missing: build the lessons with `make notebooks`.")
    target.mkdir(exist_ok=True)
    origins = _read_origins(target)
    copied, newer = [], []
    for lesson in sorted(source.glob("*.ipynb")):
        if not (target / lesson.name).exists():
            shutil.copyfile(lesson, target / lesson.name)
            origins[lesson.name] = _sha256(lesson)
            copied.append(lesson.stem)
        elif origins.get(lesson.name, "") not in ("", _sha256(lesson)):
            newer.append(lesson.stem)
    for page in sorted(source.glob("*.md")):  # these follow the delivered ones until the learner writes into them
        if not (mine := target / page.name).exists() or _sha256(mine) == origins.get(page.name):
            shutil.copyfile(page, mine)
            origins[page.name] = _sha256(page)
    if (source / "images").is_dir():  # shown by lessons, never edited: these follow the delivered ones
        shutil.copytree(source / "images", target / "images", dirs_exist_ok=True)
    (target / ORIGINS).write_text(json.dumps(origins, indent=1))
    lines = [f"Copied to {target.name}/: {', '.join(copied)}"] if copied else []
    lines += [f"{name} has a newer version; `make reset LESSON={name[:2]}` takes it and keeps yours." for name in newer]
    return lines or [f"Your lessons are in {target.name}/; nothing was overwritten."]


def reset_lesson(number: str, source: Path, target: Path, today: datetime.datetime) -> str:
    """Put one lesson back as delivered; the learner's version stays beside it under a dated name.

    Raises ValueError when ``number`` names no lesson.
    """
    found = sorted(source.glob(f"{int(number):02d}_*.ipynb")) if number.isdecimal() else []
    if not found:
        lessons = ", ".join(path.name[:2] for path in sorted(source.glob("[0-9][0-9]_*.ipynb")))
        raise ValueError(f"There is no lesson {number!r}. Name one of: {lessons}; for example `make reset LESSON=01`.")
    lesson, mine = found[0], target / found[0].name
    target.mkdir(exist_ok=True)
    kept = ""
    if mine.exists():
        backup = mine.with_name(f"{mine.stem}.{today:%Y-%m-%d_%H%M%S}.ipynb")
        mine.rename(backup)
        kept = f" Your version is kept as {target.name}/{backup.name}."
    shutil.copyfile(lesson, mine)
    (target / ORIGINS).write_text(json.dumps(_read_origins(target) | {lesson.name: _sha256(lesson)}, indent=1))
    return f"{target.name}/{mine.name} is as delivered.{kept} If it is open in JupyterLab, reload it from disk."


def _read_origins(target: Path) -> dict[str, str]:
    path = target / ORIGINS
    return json.loads(path.read_text()) if path.is_file() else {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_lab(args: argparse.Namespace) -> int:
    """Copy the lessons and open JupyterLab on the first, reachable from this machine alone."""
    print("\n".join(copy_lessons(ROOT / "notebooks", ROOT / "my_notebooks")))
    print("Opening JupyterLab on 127.0.0.1; stop it with Ctrl+C. No browser window? Open the address it prints.")
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={ROOT}"]
    command += [f"--LabApp.default_url=/lab/tree/my_notebooks/{FIRST}", "--log-level=WARN", "-y", *args.more]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container
        command.append("--allow-root")
    with subprocess.Popen(command) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:  # reaches JupyterLab too, which shuts down: wait for it
                continue


def run_reset(args: argparse.Namespace) -> int:
    """Put one lesson back as delivered."""
    print(reset_lesson(args.lesson, ROOT / "notebooks", ROOT / "my_notebooks", datetime.datetime.now()))
    return 0


def run_doctor(args: argparse.Namespace) -> int:
    """Print what the machine has; 1 when something must be mended."""
    from rcnnlib.engine import doctor

    checks = doctor.report(ROOT)
    print(doctor.show(checks))
    return int(any(check.state == "bad" for check in checks))


def run_benchmark(args: argparse.Namespace) -> int:
    """Print a table of ours against torchvision's."""
    from rcnnlib.engine import benchmark, benchmark_models

    main = {"ops": benchmark.main_ops, "models": benchmark_models.main_models}[args.what]
    main(args.threads)
    return 0


def run_detect(args: argparse.Namespace) -> int:
    """Find objects in photos; write the pictures with boxes and the boxes in COCO's format."""
    from rcnnlib.engine.detect import detect_photos, summary, to_coco
    from rcnnlib.models.weights import load_weights
    from rcnnlib.view.plotting import annotate

    detector, found = load_weights(args.weights), []
    names = detector.spec.classes
    args.out.mkdir(parents=True, exist_ok=True)
    for one in detect_photos(detector, args.photo, score=args.score):
        texts = [names[label - 1] for label in one.labels.tolist()]
        annotate(one.image, one.boxes, texts, one.scores).save(args.out / f"{one.path.stem}.png")
        print(summary(one, names), flush=True)
        found.append(one)
    (args.out / "detections.json").write_text(json.dumps(to_coco(found, names), indent=1), encoding="utf-8")
    print(f"pictures and detections.json are in {args.out}")
    return 0


def run_train(args: argparse.Namespace) -> int:
    """Train a detector by its recipe, alone or as one of torchrun's processes; write its weights and its card."""
    from rcnnlib.engine import distributed
    from rcnnlib.engine.cards import finish
    from rcnnlib.engine.recipes import RECIPES, run_recipe
    from rcnnlib.engine.schedules import phase_table, with_steps

    out = args.out or Path("build/runs") / f"{args.recipe}_seed{args.seed}"
    with distributed.start() as world:
        if args.recipe in RECIPES and distributed.is_main(world):
            print(phase_table(with_steps(RECIPES[args.recipe].phases, args.steps)))
        options = {"seed": args.seed, "steps": args.steps, "workers": args.workers, "world": world}
        model = run_recipe(args.recipe, out, **options)
        if distributed.is_main(world):
            print(
                f"weights: {finish(args.recipe, model, out, seed=args.seed, steps=args.steps)}, with a card beside them"
            )
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """Print the figures of stored weights on a data set, as JSON."""
    from rcnnlib.engine.evaluation import evaluate
    from rcnnlib.engine.recipes import open_data
    from rcnnlib.models.weights import load_weights

    detector = load_weights(args.weights)
    suffix = "_selective_search" if detector.model.needs_proposals else ""
    dataset = open_data(args.data + suffix, args.split)
    print(json.dumps(evaluate(detector.model, dataset, longer_side=detector.spec.longer_side, progress=True), indent=1))
    return 0


def run_experiment(args: argparse.Namespace) -> int:
    """Run what is missing of an experiment, or list the experiments."""
    from rcnnlib.engine import experiments

    if args.name == "list":
        print(experiments.overview())
        return 0
    groups = {"core": experiments.CORE, "extra": experiments.EXTRA}
    for name in groups.get(args.name, (args.name,)):
        path = experiments.run_experiment(name, args.out, seeds=args.seeds)
        print(f"{experiments.read_result(name).question}\nresults: {path}")
    return 0


def run_progress(args: argparse.Namespace) -> int:
    """Print a row for each notebook of a folder: the exercises whose checks passed."""
    from rcnnlib.checks import progress

    rows = progress.read_progress(args.folder)
    print(progress.as_csv(rows) if args.csv else progress.as_text(rows))
    return 0


def run_validate(args: argparse.Namespace) -> int:
    """Print each mistake in a file or folder of labelled pictures; 1 when there is one."""
    from rcnnlib.datasets.validate import validate

    problems = validate(args.path)
    for problem in problems:
        print(problem)
    print(f"{args.path}: {len(problems)} problems" if problems else f"{args.path}: no problem found")
    return int(bool(problems))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and where the commands are listed."""
        self.exit(2, f"{self.prog}: {message}. See `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = _Parser(
        prog="python -m rcnnlib",
        description="The command line of the course on two-stage detectors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    lab = command("lab", run_lab, "copy the lessons to my_notebooks/ and open JupyterLab")
    lab.add_argument("more", nargs="*", help="arguments for JupyterLab, after --, such as -- --no-browser --port 9000")
    reset = command("reset", run_reset, "put one lesson back as delivered, keeping your version beside it")
    reset.add_argument("lesson", help="the number of the lesson, such as 01")
    command("doctor", run_doctor, "say what this machine has, and how to mend what is missing")
    validate = command("validate", run_validate, "look for mistakes in labelled pictures")
    validate.add_argument("path", type=Path, help="a COCO .json file, or a folder with one or with VOC .xml files")
    add_detectors(command)
    return top


def add_detectors(command) -> None:
    """Add the commands that use a detector."""
    detect = command("detect", run_detect, "find objects in your photos")
    detect.add_argument("photo", nargs="+", help="a picture file")
    detect.add_argument("--weights", default=WEIGHTS, help=f"a name or a file (default: {WEIGHTS})")
    detect.add_argument("--out", type=Path, default=Path("detections"), help="folder to write to (default: detections)")
    detect.add_argument("--score", type=float, default=0.5, help="least score of what is shown (default: 0.5)")
    train = command("train", run_train, "train a detector; a run that was killed goes on where its folder ends")
    train.add_argument("recipe", help="such as faster_rcnn_shapes; an unknown name lists them all")
    train.add_argument("--out", type=Path, help="folder of the run (default: build/runs/RECIPE_seedN)")
    train.add_argument("--seed", type=int, default=0, help="of weights, pictures and samples (default: 0)")
    train.add_argument("--steps", type=int, help="of each phase, instead of the recipe's")
    train.add_argument("--workers", type=int, default=1, help="processes that make pictures (default: 1)")
    evaluate = command("evaluate", run_evaluate, "measure stored weights on a data set")
    evaluate.add_argument("weights", help="a name or a file")
    evaluate.add_argument("--data", default="scrapbook", help="scrapbook (default), wild, treetops or shapes")
    evaluate.add_argument("--split", default="test", choices=["train", "val", "test"], help="default: test")
    progress = command("progress", run_progress, "say which exercises of a folder of notebooks are done")
    progress.add_argument("folder", type=Path, help="such as my_notebooks, or a folder of many learners' folders")
    progress.add_argument("--csv", action="store_true", help="numbers, separated by commas")
    experiment = command("experiment", run_experiment, "run what is missing of an experiment; `list` names them")
    experiment.add_argument("name", help="an experiment, core or extra for the papers' tables, or list")
    experiment.add_argument("--out", type=Path, default=Path("build/experiments"), help="folder for checkpoints")
    experiment.add_argument("--seeds", type=int, help="instead of the experiment's own number")
    benchmark = command("benchmark", run_benchmark, "compare speed with torchvision")
    benchmark.add_argument("what", choices=["ops", "models"], help="ops: the operators; models: the detectors")
    benchmark.add_argument(
        "--threads", type=int, help="threads of torch and OpenCV; 1 gives steady ratios on a busy machine"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what is wrong with its input is said in one line, with exit code 2."""
    args = parser().parse_args(arguments)
    try:
        return args.run(args)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"python -m rcnnlib {args.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
