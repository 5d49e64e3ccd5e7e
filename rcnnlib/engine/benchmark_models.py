"""Benchmarks of whole detectors: our Faster R-CNN beside torchvision's.

``python -m rcnnlib benchmark models`` prints it all, and the four detectors beside each other (`benchmark_stages`).
torchvision's detector is the one that ``engine.interop`` makes of ours, with the same anchors, heads, RoI align, top-N
and samples; and it is given the very same trunk module, so that weights, memory format and frozen blocks cannot differ.
Ours also blanks the padding before each layer of the trunk, which torchvision leaves out. Pictures and boxes are
Scrapbook's.
Left out: time on a GPU (its host reads are counted), and the making of batches.
"""

import copy
import itertools
import linecache
import math
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rcnnlib.datasets.coco import scrapbook
from rcnnlib.datasets.transforms import collate, resize
from rcnnlib.engine.benchmark import HEADER, PAIRS, Row, Timing, Work, compare, peak_memory, verdict
from rcnnlib.engine.benchmark_stages import load, stage_lines
from rcnnlib.engine.evaluation import predict
from rcnnlib.engine.interop import to_torchvision
from rcnnlib.engine.recipes import RECIPES
from rcnnlib.engine.schedules import Schedule
from rcnnlib.engine.training import Trainer, make_optimizer
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.ops.nms import BLOCK, nms_padded
from rcnnlib.types import Batch

FASTER = "faster_rcnn_scrapbook"
BATCH, AFTER, SIDE = 4, 200, 320  # pictures, proposals, pixels of the longer side: the course's setting
GROWTH = (  # pictures, proposals, side
    *((1, AFTER, SIDE), (2, AFTER, SIDE), (4, AFTER, SIDE), (8, AFTER, SIDE)),
    *((BATCH, 50, SIDE), (BATCH, 100, SIDE), (BATCH, 400, SIDE), (1, AFTER, 512), (1, AFTER, 640)),
)
STILL = Schedule(steps=1, rate=0.0)  # the same arithmetic, but the weights stay: every step does the same work

# Operations for which the host waits until a GPU has finished: it needs a number, or the size of a result.
READS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "nms"}
INDEXING = {"index", "index_put", "index_put_"}
COPIES = {Tensor.tolist, Tensor.cpu, Tensor.numpy}  # the same, but on a CPU nothing is dispatched for them
CPU_ALONE = 'device.type == "cpu" and'  # a line that begins so reads nothing on a GPU


def pictures(count: int, side: int = SIDE) -> Batch:
    """Return a batch of the first training scenes of Scrapbook; ``side`` is the longer one, in pixels."""
    data = scrapbook("train")
    return collate([resize(data[index], side) for index in range(count)], seed=0, epoch=0)


def opponent(model: FasterRCNN) -> nn.Module:
    """Return torchvision's detector with the same parts and the very same trunk."""
    theirs = to_torchvision(model)
    theirs.backbone = model.trunk
    return theirs


def our_step(model: FasterRCNN, batch: Batch, schedule: Schedule = STILL) -> Work:
    """Return a step of the trainer: forward, losses, backward, clipping, its read of one vector, optimiser."""
    model.trunk.freeze(RECIPES[FASTER].frozen)
    with tempfile.TemporaryDirectory() as empty:  # nothing is ever saved
        trainer = Trainer(model, schedule, empty)
    return lambda: trainer.advance(batch)


def their_step(model: FasterRCNN, batch: Batch, schedule: Schedule = STILL) -> Work:
    """Return the same step of torchvision's detector; it reads nothing for a log."""
    model.trunk.freeze(RECIPES[FASTER].frozen)
    theirs, images = opponent(model).train(), list(batch.images)  # of one size, so there is no padding to take off
    rows = zip(batch.boxes, batch.labels, batch.valid, strict=True)
    targets = [{"boxes": boxes[valid], "labels": labels[valid]} for boxes, labels, valid in rows]
    optimizer = make_optimizer(theirs, schedule)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(theirs(images, targets).values())).sum().backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], schedule.clip)
        optimizer.step()

    return step


def faster_rows(model: FasterRCNN, count: int = BATCH, side: int = SIDE) -> Iterator[Row]:
    """A training step and an inference of Faster R-CNN."""
    batch, theirs, inference = pictures(count, side), opponent(model).eval(), torch.inference_mode()
    size = f"batch {count}, {batch.images.shape[-1]} x {batch.images.shape[-2]}"
    yield Row(f"training step, {size}", our_step(model, batch), their_step(model, batch), 0.5, 0.4)
    ours, theirs = inference(partial(predict, model, batch)), inference(partial(theirs, list(batch.images)))
    yield Row(f"inference, {size}", ours, theirs, 0.65, 0.5)


def columns(timing: Timing) -> str:
    """Return milliseconds of ours and theirs, and their ratio, as they stand under ``HEADER``."""
    return f"{timing.ours * 1e3:10.2f}{timing.theirs * 1e3:10.2f}{timing.ratio:8.2f}"


def floor_lines(model: FasterRCNN, pairs: int = PAIRS, count: int = BATCH) -> Iterator[str]:
    """The least ratios in reach: what both run, the trunk and the layers of the RPN, against all of torchvision's."""
    batch, inference = pictures(count), torch.inference_mode()

    def forward() -> Tensor:
        _, scores, deltas = model.rpn(model.trunk(batch.images, batch.sizes))
        return scores.sum() + deltas.sum()

    def backward() -> None:
        model.zero_grad(set_to_none=True)
        forward().backward()

    yield "least ratio in reach: trunk and layers of the RPN, which both run, against all of theirs"
    theirs = {"training step": their_step(model, batch)}
    theirs["inference"] = inference(partial(opponent(model).eval(), list(batch.images)))
    for (name, work), shared in zip(theirs.items(), (backward, inference(forward)), strict=True):
        yield f"  {name:50}{columns(compare(shared, work, pairs))}"


@torch.no_grad()
def candidates(model: FasterRCNN, batch: Batch, before: int) -> list[tuple[Tensor, Tensor]]:
    """Return boxes and scores of each picture's best anchors, as the RPN gives them to its NMS."""
    rpn: Any = copy.copy(model.rpn)
    rpn.before = rpn.after = before
    rpn.nms_threshold = math.inf  # no overlap is above it: whatever goes in comes out
    found = rpn.propose(*rpn(model.trunk(batch.images, batch.sizes)), batch.sizes)
    rows = zip(found.boxes, found.scores, found.valid, strict=True)
    return [(boxes[valid], scores[valid]) for boxes, scores, valid in rows]


def proposal_rows(model: FasterRCNN, trained: bool, sides: tuple[int, ...] = (SIDE, 2 * SIDE)) -> Iterator[Row]:
    """Proposals from what an RPN says, up to 6000 in, 300 out; small pictures have fewer anchors than that."""
    for side in sides:
        inputs = candidates(model, pictures(BATCH, side), 6000)
        most = max(len(boxes) for boxes, _ in inputs)
        yield Row(
            f"proposals {most} in, 300 out, {'true' if trained else 'random'} RPN, {BATCH} maps",
            lambda inputs=inputs: [nms_padded(boxes, scores, 0.7, keep=300, rounds=BLOCK) for boxes, scores in inputs],
            lambda inputs=inputs: [torchvision.ops.nms(boxes, scores, 0.7)[:300] for boxes, scores in inputs],
            at_most=0.4,
            aim=0.2,
        )


def _by_mask(name: str, args: tuple) -> bool:
    """Say whether an operation looks rows up by a mask, whose count the host must know; one value only fills them."""
    mask = name in INDEXING and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return mask and (len(args) < 3 or args[2].numel() != 1)


class Reads(TorchDispatchMode):
    """Counts the host reads of a piece of work: those that a GPU would be waited for, and those of the CPU alone."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.on_cpu_alone = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in READS or _by_mask(name, args):
            lines = (linecache.getline(frame.f_code.co_filename, at) for frame, at in traceback.walk_stack(None))
            found = self.on_cpu_alone if any(CPU_ALONE in line for line in lines) else self.reads
            found[name] += 1
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    """Counts the reads that the dispatcher does not see where the tensor already is on the CPU."""

    def __init__(self, reads: Counter) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in COPIES:
            self.reads[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def count_reads(work: Work) -> Reads:
    """Run some work once and count its host reads."""
    with Reads() as found, _Copies(found.reads):
        work()
    return found


def read_lines(model: FasterRCNN, counts: tuple[int, ...] = (1, 4, 8), side: int = SIDE) -> Iterator[str]:
    """Host reads of a whole training step, the optimiser included: SGD, for Adam keeps its step count on the host."""
    yield "host reads a training step: operations for which the host would wait for a GPU"
    schedule, looks = STILL._replace(optimizer="sgd"), []
    for count in counts:
        batch = pictures(count, side)
        ours, theirs = (count_reads(step(model, batch, schedule)) for step in (our_step, their_step))
        looks.append(str(ours.on_cpu_alone.total()))
        kinds = ", ".join(f"{name} {number}" for name, number in theirs.reads.most_common())
        read = f"ours {ours.reads.total()}, at most 1   {verdict(ours.reads.total(), 1)}"
        yield f"  batch {count}: {read};   theirs {theirs.reads.total()} ({kinds})"
    yield f"  not counted: {', '.join(looks)} looks of our NMS whether it is done, behind `if {CPU_ALONE} ...`"


def two_steps(step: Callable[[FasterRCNN, Batch], Work], threads: int) -> None:
    """Train for two steps, for their memory: the second has the optimiser's state beside it."""
    torch.set_num_threads(threads)
    work = step(load(FASTER)[0], pictures(BATCH))
    work()
    work()


def memory_lines() -> Iterator[str]:
    """Peak memory of a training step, each in a fresh process."""
    ours, theirs = (peak_memory(partial(two_steps, step, torch.get_num_threads())) for step in (our_step, their_step))
    yield (
        f"peak memory of a training step, batch {BATCH}, above a fresh process: ours {ours:.2f} GB, "
        f"theirs {theirs:.2f} GB, ratio {ours / theirs:.2f}"
    )


def growth_lines(model: FasterRCNN, pairs: int = 3, settings: tuple[tuple[int, int, int], ...] = GROWTH):
    """How a training step grows with pictures, proposals and the size of a picture."""
    yield f"growth of a training step, median of {pairs} pairs, ms"
    yield f"{'pictures':>10}{'proposals':>11}{'side':>7}{'ours':>10}{'theirs':>10}{'ratio':>8}"
    for count, after, side in settings:
        resized = copy.deepcopy(model)
        resized.rpn.after = after
        batch = pictures(count, side)
        timing = compare(our_step(resized, batch), their_step(resized, batch), pairs)
        milliseconds = f"{timing.ours * 1e3:10.0f}{timing.theirs * 1e3:10.0f}"
        yield f"{count:10}{after:11}{side:7}{milliseconds}{timing.ratio:8.2f}"


def model_lines(pairs: int = PAIRS) -> Iterator[str]:
    """Measure everything; each line is ready to be printed."""
    model, trained = load(FASTER)
    yield f"torch {torch.__version__}, torchvision {torchvision.__version__}, {torch.get_num_threads()} threads"
    yield f"median of {pairs} alternating pairs, times in ms"
    yield f"weights of Faster R-CNN: {FASTER if trained else 'no trained ones here; ImageNet trunk, random heads'}"
    yield HEADER
    for row in itertools.chain(faster_rows(model), proposal_rows(model, trained)):
        timing = compare(row.ours, row.theirs, pairs)
        word = verdict(timing.ratio, row.at_most, row.aim)
        yield f"{row.name:52}{columns(timing)}{row.at_most:9.2f}{row.aim:6.2f}  {word}"
    yield from floor_lines(model, pairs)
    yield from itertools.chain(read_lines(model), memory_lines(), growth_lines(model), stage_lines())


def main_models(threads: int | None = None) -> None:
    """Print the table of the detectors, a line as soon as it is measured; some three minutes on two free cores."""
    if threads:
        torch.set_num_threads(threads)
    for line in model_lines():
        print(line, flush=True)
