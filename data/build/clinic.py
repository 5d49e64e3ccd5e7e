"""Train the healthy detector of lesson 17 and its patients, and write what a doctor sees: ``data/clinic/clinic.json``.

    python data/build/clinic.py

Five runs of 1000 steps (the healthy one, and the four patients whose fault is there in training): about a minute each
on one quiet core. The same seed, first weights, pictures and order for all. No weights are kept.
"""

import argparse
import csv
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import _sources
import torch

from rcnnlib.datasets.transforms import collate
from rcnnlib.engine.clinic import (
    FAULTS,
    FEW,
    FILE,
    HEALTHY,
    SCHEDULE,
    SPEC,
    Fault,
    Reader,
    Signs,
    build,
    infect,
    swap_colours,
)
from rcnnlib.engine.evaluation import coco_ap, run
from rcnnlib.engine.experiments import circumstances
from rcnnlib.engine.metrics import error_kinds, proposal_recall
from rcnnlib.engine.schedules import TERMS
from rcnnlib.engine.training import Trainer
from rcnnlib.ops.nms import BLOCK

TRAIN, TEST = Signs(2000, seed=0), Signs(100, seed=2)
SEED, WINDOW, LEAST, MOST = 0, 20, 0.2, 12  # steps averaged to a point of a curve; which detections are kept
SHOWN = [45, 73, 28, 65, 60, 82]  # two objects or more each, and in four of them scenery


def train(fault: Fault) -> tuple[torch.nn.Module, dict[str, list[float]], float]:
    """Return a trained detector, its four curves and its seconds."""
    begin = time.process_time()
    torch.set_num_threads(1)
    model = build(fault, seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        reading = fault.reading if fault.learned else HEALTHY.reading
        Trainer(model, SCHEDULE, folder, seed=SEED).run(Reader(TRAIN, reading))
        with (Path(folder) / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    curves = {}
    for term in TERMS:
        values = torch.tensor([float(row[term]) for row in rows])
        curves[term] = short(values.unflatten(0, (-1, WINDOW)).mean(1), 4)
    return model.eval(), curves, round(time.process_time() - begin, 1)


def short(numbers: torch.Tensor, decimals: int = 2) -> list:
    """Return numbers for JSON, rounded."""

    def cut(value):
        return [cut(item) for item in value] if isinstance(value, list) else round(value, decimals)

    return cut(numbers.tolist())


@torch.inference_mode()
def vital_signs(model: torch.nn.Module, dataset) -> dict:
    """Return what is measured on all test pictures, against the true boxes and names."""
    records = run(model, dataset, longer_side=None)
    ap = coco_ap(records, len(dataset.class_names))
    proposals = []
    for example in dataset:
        batch = collate([example], seed=0, epoch=0, noise_length=1)
        found = model.stages(batch.images, batch.sizes, rounds=BLOCK).proposals
        proposals.append(found.boxes[0][found.valid[0]])
    at = torch.tensor([0.5, 0.7]).double()
    recall = proposal_recall(proposals, [record.truth for record in records], thresholds=at)
    good = torch.cat([record.scores[record.scores >= 0.5] for record in records])
    return {
        "AP50": round(ap["AP50"], 3),
        "AP75": round(ap["AP75"], 3),
        "AP50 of each class": [round(number, 3) for number in ap["per_class"]],
        "recall of 20 proposals": short(recall, 3),
        "detections a picture": round(len(good) / len(records), 2),
        "mean score": round(good.mean().item(), 3) if len(good) else 0.0,
        "errors": error_kinds(records, len(dataset.class_names), score_threshold=0.5)._asdict(),
    }


@torch.inference_mode()
def look(model: torch.nn.Module, dataset) -> list[dict]:
    """Return detections and proposals on the shown pictures, and the labels when their colours are swapped."""
    found = []
    for number in SHOWN:
        batch = collate([dataset[number], swap_colours(dataset[number])], seed=0, epoch=0, noise_length=1)
        stages = model.stages(batch.images, batch.sizes, rounds=BLOCK)
        boxes, scores, labels, _ = (field[:, :MOST] for field in stages.detections[:4])
        sides = [
            {"boxes": short(boxes[row][kept]), "scores": short(scores[row][kept]), "labels": labels[row][kept].tolist()}
            for row, kept in enumerate(scores >= LEAST)
        ]
        proposals = stages.proposals
        valid = proposals.valid[0]
        ranked = {"boxes": short(proposals.boxes[0][valid]), "scores": short(proposals.scores[0][valid])}
        found.append({"detections": sides[0], "colours swapped": sides[1], "proposals": ranked})
    return found


def examine(model: torch.nn.Module, fault: Fault, curves: dict, seconds: float) -> dict:
    """Return one case."""
    model.rpn.after = FEW
    seen = Reader(TEST, HEALTHY.reading if fault.learned else fault.reading)
    return {
        "curves": curves,
        "vital signs": vital_signs(model, seen),
        "pictures": look(model, seen),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=1, help="runs at the same time")
    workers = parser.parse_args().workers
    torch.set_num_threads(1)
    learned = {"healthy": HEALTHY} | {letter: fault for letter, fault in FAULTS.items() if fault.learned}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        trained = dict(zip(learned, pool.map(train, learned.values()), strict=True))
    healthy, curves, seconds = trained["healthy"]
    cases = {"healthy": examine(healthy, HEALTHY, curves, seconds)}
    weights = healthy.state_dict()
    for letter, fault in FAULTS.items():
        if fault.learned:
            model, *rest = trained[letter]
            cases[letter] = examine(model, fault, *rest)
        else:
            patient = SPEC.build(pretrained=False).eval()
            patient.load_state_dict(weights)
            cases[letter] = examine(infect(patient, fault), fault, curves, 0.0)
        print(letter, cases[letter]["vital signs"])
    facts = circumstances() | {"seed": SEED, "steps": SCHEDULE.steps, "batch": SCHEDULE.batch, "window": WINDOW}
    facts |= {"test pictures": len(TEST), "shown": SHOWN}
    path = _sources.DATA / FILE
    path.parent.mkdir(exist_ok=True)
    lines = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    path.write_text(f'{json.dumps(facts, indent=1)[:-2]},\n "cases": {{\n  {lines}\n }}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
