"""The training loop: one picture-to-weights path for every detector, exact to the bit when it is interrupted.

The batch of a step is a function of (seed, step) alone, so there is no state of a loader to save: a run that is killed
goes on from its last checkpoint and ends, on the same CPU, with the weights of an unbroken one. The host reads one
vector a step: the losses, whether they are finite, and whether NMS settled. Left out: gradient accumulation, averaging
of weights, early stopping.

Shapes: B pictures of a step
"""

import csv
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from rcnnlib.datasets.transforms import Example, collate, flip, recolour, resize, uniform_noise
from rcnnlib.engine import checkpoint
from rcnnlib.engine.distributed import World, barrier, is_main, reduce_mean, share, wrap
from rcnnlib.engine.schedules import TERMS, Schedule
from rcnnlib.ops.nms import BLOCK, ROUNDS
from rcnnlib.types import Batch, Losses

ALONE = World(0, 1, torch.device("cpu"))
COLUMNS = ("step", "rate", *TERMS, "total", "norm", "seconds")
SAVE_SECONDS = 60  # between two checkpoints


class Steps(Dataset):
    """The batch of every step, for a ``DataLoader`` without batching or sampling of its own.

    Each epoch has its own order. A data set with ``at(epoch, index)`` makes new pictures every epoch; of any other
    each picture is mirrored in half of the epochs, and with ``colours`` its light changes every time. ``longer_side``
    resizes; None leaves pictures as they are.
    """

    def __init__(
        self,
        dataset,
        batch: int,
        *,
        seed: int,
        world: World = ALONE,
        longer_side: int | None = None,
        colours: bool = False,
    ):
        self.per_epoch = len(dataset) // batch
        if self.per_epoch == 0:
            raise ValueError(f"batch must be at most the {len(dataset)} pictures of the data set, got {batch}")
        self.dataset, self.batch, self.seed, self.world, self.longer_side = dataset, batch, seed, world, longer_side
        self.colours = colours

    def __getitem__(self, step: int) -> Batch:
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))
        chosen = share(order[place * self.batch : (place + 1) * self.batch].tolist(), self.world)
        return collate([self.example(epoch, index) for index in chosen], seed=self.seed, epoch=epoch)

    def example(self, epoch: int, index: int) -> Example:
        """Return one picture as this epoch sees it."""
        if hasattr(self.dataset, "at"):
            return self.dataset.at(epoch, index)
        example = self.dataset[index]
        if self.longer_side is not None:
            example = resize(example, self.longer_side)
        # Another id than the picture's own, whose numbers are the samplers'.
        coin, *_ = draws = uniform_noise(7, seed=self.seed, epoch=epoch, id=2**32 + index)
        example = flip(example) if coin < 0.5 else example
        return recolour(example, draws[1:]) if self.colours else example


class LossModule(nn.Module):
    """A detector whose forward is its losses, which is what DistributedDataParallel wants to wrap."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch, rounds: int = ROUNDS) -> Losses:
        """Return the losses of this process's part of the batch."""
        return self.detector.losses(batch, rounds=rounds)


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Return SGD with momentum 0.9 or AdamW over the parameters that learn."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(parameters, schedule.rate, momentum=0.9, weight_decay=schedule.weight_decay, fused=True)
    return torch.optim.AdamW(parameters, schedule.rate, weight_decay=schedule.weight_decay, fused=True)


class Trainer:
    """A detector, its optimiser and the step that it has reached.

    Args:
        folder: where ``run.safetensors`` and ``log.csv`` are kept; a run found there is continued.
        proposer: makes the proposals of a batch, where they are neither stored nor the detector's own.
        facts: what a checkpoint shall say beside schedule and seed, such as the name of the recipe.

    Raises:
        ValueError: the folder holds a run with another schedule, seed or recipe.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        folder: str | Path,
        *,
        seed: int = 0,
        world: World = ALONE,
        proposer: Callable[[Batch], Tensor] | None = None,
        facts: dict | None = None,
    ) -> None:
        self.model, self.schedule, self.folder, self.seed, self.world = model, schedule, Path(folder), seed, world
        self.proposer, self.step = proposer, 0
        facts = {"schedule": schedule._asdict(), "seed": seed} | (facts or {})
        self.facts = json.loads(json.dumps(facts))  # as a checkpoint gives it back: tuples become lists
        self.module = wrap(LossModule(model.to(world.device)), world)
        self.optimizer = make_optimizer(model, schedule)
        self._resume()

    @property
    def file(self) -> Path:
        """The checkpoint."""
        return self.folder / "run.safetensors"

    def run(self, dataset, *, workers: int = 0, until: int | None = None, **pictures) -> None:
        """Train up to step ``until``, or to the end of the schedule; ``pictures`` are options of ``Steps``."""
        until = self.schedule.steps if until is None else min(until, self.schedule.steps)
        steps = Steps(dataset, self.schedule.batch, seed=self.seed, world=self.world, **pictures)
        loader = DataLoader(
            *(steps, None), sampler=range(self.step, until), num_workers=workers, pin_memory=torch.cuda.is_available()
        )
        saved = time.monotonic()
        with (
            self._log() as write,
            tqdm(loader, initial=self.step, total=until, disable=not is_main(self.world), mininterval=1) as bar,
        ):
            for batch in bar:
                row = self.advance(batch)
                write(row)
                bar.set_postfix({"loss": f"{row['total']:.3f}"}, refresh=False)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def advance(self, batch: Batch) -> dict[str, float]:
        """Take one step and return its row of the log.

        Raises:
            FloatingPointError: the loss or the gradient is not finite; the weights are still those before the step.
        """
        begin, rate = time.perf_counter(), self.schedule.rate_at(self.step)
        batch = batch.to(self.world.device)
        if self.proposer is not None:
            batch = batch._replace(proposals=self.proposer(batch))
        # On the CPU NMS stops by itself when it has settled. A GPU plays a fixed number of rounds, and in the rare
        # block that is a longer chain as many as it has boxes, which is always enough.
        first = BLOCK if self.world.device.type == "cpu" else ROUNDS
        *losses, total, norm, settled = self._gradient(batch, first)
        if settled < 1:
            *losses, total, norm, settled = self._gradient(batch, BLOCK)
        if not np.isfinite(total) or not np.isfinite(norm):
            raise FloatingPointError(
                f"the loss of step {self.step} is not finite ({total}, gradient {norm}) on the images with ids "
                f"{batch.ids.tolist()}: look at their boxes (python -m rcnnlib validate), or lower the rate {rate:g}"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        numbers = (self.step, rate, *losses, total, norm, time.perf_counter() - begin)
        return dict(zip(COLUMNS, numbers, strict=True))

    def _gradient(self, batch: Batch, rounds: int) -> list[float]:
        """Fill the gradients; return the four losses, their sum, the norm, and the share of settled pictures.

        The one place where the host waits for the GPU.
        """
        self.optimizer.zero_grad(set_to_none=True)
        device = self.world.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            losses = self.module(batch, rounds)
        total = torch.stack([getattr(losses, term) for term in self.schedule.terms]).sum()
        total.backward()
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
        terms = [getattr(losses, term).detach() for term in TERMS]
        numbers = torch.stack([*terms, total.detach(), norm, losses.settled.float().mean()])
        return reduce_mean(numbers, self.world).tolist()

    def save(self) -> None:
        """Write weights, optimiser, random state and step into one file."""
        if is_main(self.world):
            state, groups = checkpoint.flatten_state(self.optimizer.state_dict())
            tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
            tensors |= {f"optimizer.{name}": tensor for name, tensor in state.items()}
            tensors |= {f"random.{name}": tensor for name, tensor in checkpoint.random_state().items()}
            facts = self.facts | {"step": self.step, "optimizer": groups}
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.save(self.file, tensors, facts)
        barrier(self.world)

    def _resume(self) -> None:
        try:
            tensors, facts = checkpoint.load_latest(self.file)
        except FileNotFoundError:
            return
        for name, wanted in self.facts.items():
            if facts.get(name) != wanted:
                raise ValueError(
                    f"{self.folder} holds a run with {name} {facts.get(name)}, not {wanted}: "
                    "choose another folder, or delete this one to start anew"
                )
        parts = {part: {} for part in ("model", "optimizer", "random")}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(checkpoint.unflatten_state(parts["optimizer"], facts["optimizer"]))
        checkpoint.set_random_state(parts["random"])
        self.step = facts["step"]

    @contextmanager
    def _log(self) -> Iterator[Callable[[dict[str, float]], None]]:
        """Open ``log.csv`` for appending, without the rows that came after the checkpoint."""
        if not is_main(self.world):
            yield lambda row: None
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path, rows = self.folder / "log.csv", []
        if path.is_file():
            with path.open(newline="") as file:
                rows = [
                    row for row in csv.DictReader(file) if None not in row.values() and int(row["step"]) <= self.step
                ]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

            def write(row: dict[str, float]) -> None:
                writer.writerow({name: value if name == "step" else f"{value:.6g}" for name, value in row.items()})
                file.flush()

            yield write
