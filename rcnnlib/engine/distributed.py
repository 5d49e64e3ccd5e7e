"""Several GPUs or machines: ``torchrun`` starts one process each, and every process trains on its part of the batch.

A process learns who it is from the environment that ``torchrun`` sets; without it there is one process, nothing is set
up, and the functions below hand back what they are given. Left out: sharded models and optimiser states, elastic
restarts (a stopped run is started again from its checkpoint), batch statistics common to all processes.

Which gradient is that? Let R processes have b pictures each, so that the global batch has B = R b, and let l_i be the
sum of the loss over the samples of picture i. One process on the whole batch minimises (sum of all l_i) / (n B) with a
constant n, such as 256 samples a picture. DistributedDataParallel takes the *mean* of the processes' gradients:

- A loss that divides by its *own* part, L_r = (sum of l_i in r) / (n b), gives (1 / R) sum of L_r = (sum of all l_i) /
  (n b R), which is the one above. The detectors do this, so nothing needs to be scaled, neither loss nor learning rate.
- A loss that divides by the *global* n B comes out R times too small: multiply it by ``world.size``.
- A loss that divides by a count that it finds in its part, say its positives, gives a mean of means; no factor mends
  that. This is why losses divide by constants, and why ``share`` insists on equal parts.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
WHO, WHERE = ("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("MASTER_ADDR", "MASTER_PORT")
START = "start with `torchrun --nproc-per-node N -m rcnnlib train`"


class World(NamedTuple):
    """The place of this process among all."""

    rank: int  # 0..size - 1, over all machines
    size: int
    device: torch.device


@contextmanager
def start() -> Iterator[World]:
    """Join the other processes, if ``torchrun`` started this one, and leave them at the end.

    They speak through NCCL where there are GPUs, each process with its own, and else through Gloo on the CPU.

    Raises:
        ValueError: the environment names a rank or a size but not all that belongs to it, or there are fewer GPUs
            than processes.
    """
    if not any(name in os.environ for name in WHO):
        yield World(0, 1, _device(0))
        return
    rank, size, local_rank = _read_environment()
    device = _device(local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", rank=rank, world_size=size, device_id=device)
    else:
        dist.init_process_group("gloo", rank=rank, world_size=size)
    yield World(rank, size, device)
    # None of this after an error: the others may wait in the middle of a step, and a tidy end would wait with them.
    dist.barrier()
    if device.type == "cpu":  # Gloo's threads let go of the last gradients a moment later, and no call waits for them:
        time.sleep(0.5)  # Python must not end before they have, or it aborts
    dist.destroy_process_group()


def _read_environment() -> tuple[int, int, int]:
    """Return rank, world size and the rank on this machine."""
    missing = [name for name in WHO + WHERE if name not in os.environ]
    if missing:
        found = [name for name in WHO if name in os.environ]
        raise ValueError(
            f"the environment has {', '.join(found)} but not {', '.join(missing)}; {START}, which sets all of them, "
            f"or unset {', '.join(found)} to train in one process"
        )
    texts = {name: os.environ[name] for name in WHO}
    rank, size, local_rank = (int(text) if text.isdecimal() else -1 for text in texts.values())
    if not (0 <= rank < size and 0 <= local_rank < size):
        got = ", ".join(f"{name}={text}" for name, text in texts.items())
        raise ValueError(f"RANK and LOCAL_RANK must be whole numbers from 0 to WORLD_SIZE - 1; got {got}; {START}")
    return rank, size, local_rank


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= (count := torch.cuda.device_count()):  # on the CPU it would wait for the others' NCCL for ever
        raise ValueError(
            f"LOCAL_RANK is {local_rank}, but this machine has {count} GPU(s); start at most {count} processes with "
            "--nproc-per-node, or set CUDA_VISIBLE_DEVICES to nothing to train on the CPU"
        )
    return torch.device("cuda", local_rank)


def is_main(world: World) -> bool:
    """Say whether this process writes the files and the progress."""
    return world.rank == 0


def share(items: Sequence[T], world: World) -> list[T]:
    """Return this process's consecutive part of a global batch.

    Raises:
        ValueError: the parts would not be equally long.
    """
    part, rest = divmod(len(items), world.size)
    if rest:
        raise ValueError(
            f"items must divide evenly among {world.size} processes, or their gradients would weigh differently; got "
            f"{len(items)}: choose a batch size that is a multiple of {world.size}, and drop the last short batch"
        )
    return list(items[world.rank * part : (world.rank + 1) * part])


def reduce_mean(tensor: Float[Tensor, "..."], world: World) -> Float[Tensor, "..."]:
    """Return the mean over all processes, for the log: no gradient flows through it, and the host reads nothing."""
    if world.size == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world.size


def barrier(world: World) -> None:
    """Wait until every process is here."""
    if world.size > 1:
        dist.barrier()


def wrap(module: nn.Module, world: World) -> nn.Module:
    """Return ``module``, whose forward is the losses, so that its backward pass averages gradients over the processes.

    All begin with the weights of rank 0; read and save them through ``module`` itself. Buffers are not sent around (the
    detectors' are constants), so that a forward pass needs nobody else, and one process may repeat it alone when NMS
    was not settled.
    """
    if world.size == 1:
        return module
    devices = [world.device] if world.device.type == "cuda" else None
    parallel = DistributedDataParallel(module, device_ids=devices)
    parallel.broadcast_buffers = False  # as an argument it is deprecated, and its successor is new
    return parallel
