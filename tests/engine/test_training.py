"""The loop: the same to the bit after any interruption, the same gradient on two processes, no loss of work."""

import csv
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from demo import make_detector, shapes_batch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.engine.distributed import World
from rcnnlib.engine.schedules import RPN_TERMS, Schedule
from rcnnlib.engine.training import LossModule, Steps, Trainer
from rcnnlib.types import Losses

SHORT = Schedule(steps=8, batch=2, rate=1e-3, warmup=2)
ROOT = Path(__file__).parents[2]


def fingerprint(model):
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def train(folder, until=None, schedule=SHORT, **options):
    model = make_detector("faster_rcnn")
    trainer = Trainer(model, schedule, folder, **options)
    trainer.run(Shapes(20), until=until)
    return model


def read_log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_an_interrupted_run_ends_as_an_unbroken_one(tmp_path):
    whole = fingerprint(train(tmp_path / "whole"))
    for until in (3, 4, None):
        model = train(tmp_path / "broken", until)
    assert fingerprint(model) == whole
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")
    assert [row["step"] for row in read_log(tmp_path / "broken")] == [str(step) for step in range(1, 9)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_both_optimisers_resume(tmp_path, optimizer):
    schedule = SHORT._replace(optimizer=optimizer, steps=4)
    whole = fingerprint(train(tmp_path / "whole", schedule=schedule))
    train(tmp_path / "broken", 2, schedule=schedule)
    assert fingerprint(train(tmp_path / "broken", schedule=schedule)) == whole


KILLED = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, "tests/models")
from demo import make_detector
from rcnnlib.datasets.shapes import Shapes
from rcnnlib.engine import training
from rcnnlib.engine.schedules import Schedule
training.SAVE_SECONDS = 0
trainer = training.Trainer(make_detector("faster_rcnn"), Schedule(steps=30, batch=2, rate=1e-3), sys.argv[1])
print("from", trainer.step, flush=True)
trainer.run(Shapes(20))
print("done", flush=True)
"""


@pytest.mark.slow
def test_kill_minus_nine_loses_nothing(tmp_path):
    def start(folder):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", KILLED, str(folder)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    luck, killed, began = random.Random(0), 0, set()
    while killed < 4:
        process = start(tmp_path / "killed")
        began.add(process.stdout.readline())
        while not (tmp_path / "killed/run.safetensors").is_file():  # without a checkpoint there is nothing to go on
            time.sleep(0.01)
        time.sleep(luck.uniform(0.0, 1.0))
        killed += 1
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(tmp_path / "killed")
    out, error = process.communicate(timeout=120)
    assert b"done" in out, error.decode()
    assert len(began) > 1  # some of the runs went on from a checkpoint
    schedule = Schedule(steps=30, batch=2, rate=1e-3)
    whole = train(tmp_path / "whole", schedule=schedule)
    again = Trainer(make_detector("faster_rcnn"), schedule, tmp_path / "killed")
    assert again.step == 30
    assert fingerprint(again.model) == fingerprint(whole)
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")


def test_another_run_in_the_folder_is_not_overwritten(tmp_path):
    train(tmp_path, 2)
    with pytest.raises(ValueError, match=r"holds a run with seed 0, not 1: choose another folder"):
        train(tmp_path, seed=1)
    with pytest.raises(ValueError, match="holds a run with schedule"):
        train(tmp_path, schedule=SHORT._replace(steps=9))


def test_a_loss_that_is_not_finite_names_its_pictures(tmp_path):
    trainer = Trainer(make_detector("faster_rcnn"), SHORT, tmp_path)
    before, batch = fingerprint(trainer.model), shapes_batch([4, 8])
    batch.images[1, 0, 5, 5] = torch.nan
    with pytest.raises(FloatingPointError, match=r"loss of step 0 is not finite .* ids \[4, 8\]"):
        trainer.advance(batch)
    assert fingerprint(trainer.model) == before
    assert trainer.step == 0


class Restless(nn.Module):
    """A detector whose NMS settles at the second attempt."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.ones(())), 0

    def losses(self, batch, *, rounds):
        self.calls += 1
        loss, none = self.weight * (100.0 if self.calls == 1 else 1.0), torch.zeros(())
        return Losses(none, none, loss, none, torch.tensor([True, self.calls != 1]))


def test_an_unsettled_step_is_repeated_before_it_counts(tmp_path):
    trainer = Trainer(Restless(), SHORT, tmp_path)
    row = trainer.advance(shapes_batch([4, 8]))
    assert trainer.model.calls == 2
    assert row["head_class"] == 1
    assert row["norm"] == pytest.approx(1)  # the first gradient, of 100, is gone
    trainer.advance(shapes_batch([4, 8]))
    assert trainer.model.calls == 3


def test_only_the_terms_of_the_schedule_are_summed(tmp_path):
    trainer = Trainer(make_detector("faster_rcnn"), SHORT._replace(terms=RPN_TERMS), tmp_path)
    row = trainer.advance(shapes_batch([4, 8]))
    assert row["total"] == pytest.approx(row["rpn_class"] + row["rpn_box"], rel=1e-5)
    assert trainer.model.head.mlp.fc6.weight.grad is None


READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select")


class Reads(TorchDispatchMode):
    """Count the operations for which the host would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in (
            "_local_scalar_dense",
            "nonzero",
            "equal",
            "is_nonzero",
            "masked_select",
        ):
            self.found.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn"])
def test_backward_reads_nothing(name):
    model, batch = make_detector(name), shapes_batch()
    total = model.losses(batch).total()  # forward and losses: tests/models, on fake CUDA tensors
    with Reads() as reads:
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    assert reads.found == []
    with Reads() as reads:
        float(total.detach())
    assert reads.found == ["_local_scalar_dense"]  # the count can count


def test_every_epoch_has_its_own_order_and_flips():
    steps = Steps(Shapes(6), 2, seed=0)
    epochs = [torch.cat([steps[3 * epoch + i].ids for i in range(3)]) for epoch in range(4)]
    assert all(sorted(epoch.tolist()) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1
    flipped = [not torch.equal(steps.example(epoch, 4).image, Shapes(6)[4].image) for epoch in range(200)]
    assert 75 < sum(flipped) < 125
    again = Steps(Shapes(6), 2, seed=0)[7]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(steps[7], again, strict=True))
    assert not torch.equal(steps[7].noise, Steps(Shapes(6), 2, seed=1)[7].noise)


def test_colours_change_with_the_epoch_and_boxes_do_not():
    plain, colourful = Steps(Shapes(6), 2, seed=0), Steps(Shapes(6), 2, seed=0, colours=True)
    one, two = colourful.example(0, 4), colourful.example(1, 4)
    assert torch.equal(one.image, colourful.example(0, 4).image)
    assert torch.equal(one.boxes, plain.example(0, 4).boxes)
    assert not torch.equal(one.image, plain.example(0, 4).image)
    assert not torch.equal(one.image.sum(), two.image.sum())


def test_two_processes_see_what_one_sees():
    alone = Steps(Shapes(8), 4, seed=0)[3]
    parts = [Steps(Shapes(8), 4, seed=0, world=World(rank, 2, torch.device("cpu")))[3] for rank in (0, 1)]
    assert torch.equal(torch.cat([part.ids for part in parts]), alone.ids)
    assert torch.equal(torch.cat([part.noise for part in parts]), alone.noise)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"batch must be at most the 3 pictures of the data set, got 4"):
        Steps(Shapes(3), 4, seed=0)


TWO = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, "tests/models")
from demo import make_detector
from rcnnlib.datasets.shapes import Shapes
from rcnnlib.engine import distributed
from rcnnlib.engine.schedules import Schedule
from rcnnlib.engine.training import Steps, Trainer
with distributed.start() as world:
    trainer = Trainer(make_detector("faster_rcnn"), Schedule(steps=3, batch=4), sys.argv[1], world=world)
    trainer._gradient(Steps(Shapes(20), 4, seed=0, world=world)[0], 64)
    if world.rank == 0:
        torch.save({n: p.grad for n, p in trainer.model.named_parameters()}, sys.argv[1] + "/gradient.pt")
    trainer.run(Shapes(20))
"""


@pytest.mark.slow
def test_two_gloo_processes_have_the_gradient_of_one(tmp_path):
    model = make_detector("faster_rcnn")
    LossModule(model)(Steps(Shapes(20), 4, seed=0)[0], 64).total().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(tmp_path)],
            cwd=ROOT,
            env=shared | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
        )
        for rank in "01"
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()[-2000:]
    theirs = torch.load(tmp_path / "gradient.pt", weights_only=True)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(theirs[name], parameter.grad, rtol=1e-3, atol=1e-6)
    assert len(read_log(tmp_path)) == 3  # and a whole run ends, with one log
    assert (tmp_path / "run.safetensors").is_file()
