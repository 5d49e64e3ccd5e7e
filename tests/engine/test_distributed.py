"""Two real processes under torchrun must give what one gives; this file is also the script that torchrun starts."""

import json
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from rcnnlib.engine.distributed import WHERE, WHO, World, barrier, is_main, reduce_mean, share, start, wrap
from rcnnlib.ops.losses import classification_loss

PICTURES, SAMPLES, CLASSES = 6, 4, 3
ALONE = World(0, 1, torch.device("cpu"))


class Toy(nn.Module):
    """Features to loss, a sum divided by what the caller states; the weights hang on ``seed``."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.score = nn.Linear(5, CLASSES, dtype=torch.float64)
        self.register_buffer("mean", torch.full((5,), 0.5, dtype=torch.float64))

    def forward(self, features, labels, normalizer):
        return classification_loss(self.score(features - self.mean), labels, normalizer=normalizer)


def batch():
    generator = torch.Generator().manual_seed(7)
    features = torch.rand(PICTURES, SAMPLES, 5, dtype=torch.float64, generator=generator)
    labels = torch.zeros(PICTURES, SAMPLES, dtype=torch.long)
    labels[0], labels[4, :1] = 1, 2  # four positives in the first half, one in the second
    return features, labels


def gradients(model, features, labels, normalizer, factor=1):
    model.zero_grad()
    loss = model(features, labels, normalizer)
    (loss * factor).backward()
    return [parameter.grad.tolist() for parameter in model.parameters()], loss


def main(folder):
    """Run as one of the two processes: leave what it saw in a file of its rank."""
    warnings.simplefilter("error")
    with start() as world:
        features, labels = batch()
        mine = share(range(PICTURES), world)
        own = features[mine], labels[mine]
        model = wrap(Toy(seed=world.rank), world)
        if is_main(world):
            model(*own, 1.0)  # a step that is repeated by one process alone
            time.sleep(0.5)
            (folder / "written").touch()
        barrier(world)
        seen = {"mine": mine, "world": [world.rank, world.size, str(world.device)], "backend": dist.get_backend()}
        seen["written"] = (folder / "written").exists()
        seen["own constant"], loss = gradients(model, *own, SAMPLES * len(mine))
        seen["loss"] = reduce_mean(loss, world).item()
        seen["own loss"] = loss.item()
        seen["global constant"], _ = gradients(model, *own, SAMPLES * PICTURES, factor=world.size)
        seen["own count"], _ = gradients(model, *own, (own[1] > 0).sum().item())
        (folder / f"{world.rank}.json").write_text(json.dumps(seen))
    assert not dist.is_initialized()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of two processes saw."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    root = Path(__file__).parents[2]
    environment = {name: text for name, text in os.environ.items() if name not in WHO + WHERE}
    environment |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launch, "--nproc-per-node", "2", __file__, str(folder)]
    run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = run.communicate(timeout=60)
    finally:
        run.terminate()  # after a time-out: torchrun ends its two processes, which a kill would leave behind
        run.wait()
    assert run.returncode == 0, output
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("how", ["own constant", "global constant"])
def test_two_processes_give_the_gradient_of_one(seen, how):
    theirs, _ = gradients(Toy(seed=0), *batch(), SAMPLES * PICTURES)
    for ours in (seen[0][how], seen[1][how]):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-12, atol=1e-15)


def test_a_count_of_the_own_part_gives_another_gradient(seen):
    theirs, _ = gradients(Toy(seed=0), *batch(), 5)  # all positives: 4 of rank 0 and 1 of rank 1
    # Each picture of rank 0 weighs 1 / 4, each of rank 1 weighs 1 / 1, and not 1 / 5 like those of one process.
    ratio = torch.tensor(seen[0]["own count"][0]) / torch.tensor(theirs[0])
    assert ratio.max() - ratio.min() > 0.1  # so that no factor makes them equal


def test_the_mean_of_the_losses_is_the_loss_of_one(seen):
    _, theirs = gradients(Toy(seed=0), *batch(), SAMPLES * PICTURES)
    assert seen[0]["own loss"] != seen[1]["own loss"]
    for each in seen:
        assert each["loss"] == pytest.approx(theirs.item(), rel=1e-12)


def test_each_knows_its_place_and_waits_for_the_other(seen):
    assert [each["world"] for each in seen] == [[0, 2, "cpu"], [1, 2, "cpu"]]
    assert [each["backend"] for each in seen] == ["gloo", "gloo"]
    assert [each["mine"] for each in seen] == [[0, 1, 2], [3, 4, 5]]
    assert [each["written"] for each in seen] == [True, True]


@pytest.fixture
def no_torchrun(monkeypatch):
    for name in WHO + WHERE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_without_torchrun_there_is_one_process(no_torchrun, no_gpu):
    with start() as world:
        assert world == ALONE
        assert not dist.is_initialized()


def test_one_process_changes_nothing():
    module, tensor = nn.Linear(2, 2), torch.tensor([1.5], requires_grad=True)
    assert wrap(module, ALONE) is module
    assert reduce_mean(tensor, ALONE) is tensor
    assert share(["a", "b", "c"], ALONE) == ["a", "b", "c"]
    assert is_main(ALONE)
    barrier(ALONE)


@pytest.fixture
def torchrun(no_torchrun, monkeypatch):
    """Set what torchrun sets for a single process on the CPU."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    values = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, text in values.items():
        monkeypatch.setenv(name, text)


def test_one_process_under_torchrun_joins_and_leaves(torchrun, no_gpu):
    with start() as world:
        assert world == ALONE
        assert dist.is_initialized()
    assert not dist.is_initialized()


def test_after_an_error_nobody_waits_for_a_tidy_end(torchrun, no_gpu):
    with pytest.raises(ZeroDivisionError), start():
        1 / 0
    assert dist.is_initialized()
    dist.destroy_process_group()


def test_parts_are_consecutive_and_equal():
    worlds = [World(rank, 3, torch.device("cpu")) for rank in range(3)]
    assert [share(range(6), world) for world in worlds] == [[0, 1], [2, 3], [4, 5]]
    assert [share([], world) for world in worlds] == [[], [], []]
    with pytest.raises(ValueError, match=r"evenly among 3 processes.* got 7: choose .* multiple of 3"):
        share(range(7), worlds[0])


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"WORLD_SIZE": "2"}, "has WORLD_SIZE but not RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start with"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_PORT": "1"},
            "has RANK, WORLD_SIZE, LOCAL_RANK but not MASTER_ADDR; start with `torchrun",
        ),
        (
            {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "from 0 to WORLD_SIZE - 1; got RANK=2, WORLD_SIZE=2, LOCAL_RANK=0",
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "got RANK=0, WORLD_SIZE=two",
        ),
    ],
)
def test_half_an_environment_is_refused(no_torchrun, monkeypatch, environment, says):
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: pytest.fail("joined"))  # and would wait for ever
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=says), start():
        pass


def test_gpus_are_given_out_by_local_rank_and_speak_nccl(no_torchrun, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(device))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: calls.append((backend, options)))
    monkeypatch.setattr(dist, "barrier", lambda: calls.append("waited"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append("left"))
    values = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, text in values.items():
        monkeypatch.setenv(name, text)
    device = torch.device("cuda", 1)
    with start() as world:
        assert world == World(3, 4, device)
    assert calls == [device, ("nccl", {"rank": 3, "world_size": 4, "device_id": device}), "waited", "left"]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"LOCAL_RANK is 2, but this machine has 2 GPU.*at most 2 processes"), start():
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
