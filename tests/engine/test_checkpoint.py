"""Files come back as they went in, damage is always noticed, and a kill loses nothing.

This file is also the script of the last part: it saves in child processes that are killed.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from rcnnlib.engine.checkpoint import (
    flatten_state,
    load,
    load_latest,
    previous,
    random_state,
    save,
    set_random_state,
    unflatten_state,
)

FACTS = {"step": 3, "loss": 0.1, "names": ["fox", "hedgehog"], "best": None, "nested": {"ok": True, "a/b": [1, [2]]}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.safetensors"


def assert_same(ours, theirs):
    """Bit for bit, with dtype and shape."""
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert ours[name].shape == tensor.shape, name
        a, b = (each.detach().contiguous().flatten().view(torch.uint8) for each in (ours[name], tensor))
        assert torch.equal(a, b), name


# A file and back.


def kinds():
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "float": torch.tensor([1.5, -0.0, float("nan"), float("inf")]),
        "double": torch.rand(3, dtype=torch.float64),
        "half": torch.rand(5).half(),
        "bfloat16": torch.rand(2, 3).bfloat16(),
        "int64": torch.tensor([2**62, -1]),
        "uint8": torch.tensor([0, 255], dtype=torch.uint8),
        "bool": torch.tensor([[True], [False]]),
        "no dimension": torch.tensor(7.0),
        "no dimension, bool": torch.tensor(True),
        "empty": torch.empty(0, 4),
        "other empty": torch.empty(0, 4),
        "empty, int": torch.empty(3, 0, dtype=torch.long),
        "transposed": base.mT,
        "every second": base[:, ::2],
        "expanded": torch.tensor([4.0]).expand(3),
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.rand(2)),
        "ähm/.\n": torch.ones(1),
    }


def test_there_and_back(path):
    tensors = kinds()
    save(path, tensors, FACTS)
    ours, facts = load(path)
    assert_same(ours, tensors)
    assert facts == FACTS
    assert not any(tensor.requires_grad for tensor in ours.values())
    assert load_latest(path)[1] == FACTS
    assert os.listdir(path.parent) == [path.name]


def test_nothing_at_all(path):
    save(path, {}, {})
    assert load(path) == ({}, {})


def test_what_is_loaded_no_longer_hangs_on_the_file(path):
    save(path, {"a": torch.ones(100)}, {})
    ours, _ = load(path)
    path.write_bytes(b"")
    ours["a"] += 1
    assert ours["a"].sum() == 200


def test_any_tool_can_read_the_tensors(path):
    save(path, {"a": torch.arange(3), "b": torch.ones(2)}, FACTS)
    theirs = safetensors.torch.load_file(path)
    assert_same(load(path)[0], theirs)
    with safetensors.safe_open(path, "pt") as file:
        version, checksum, text = file.metadata()["rcnnlib.checkpoint"].split(" ", 2)
    assert version == "1"
    assert re.fullmatch("[0-9a-f]{64}", checksum)
    assert json.loads(text) == {"facts": FACTS, "aliases": {}}


def test_equal_content_gives_equal_bytes(path):
    tensors = {"b": torch.ones(2), "a": torch.zeros(3)}
    save(path, tensors, FACTS)
    first = path.read_bytes()
    save(path, dict(reversed(tensors.items())), FACTS)
    assert path.read_bytes() == first


def test_tied_weights_are_stored_once_and_stay_tied(path):
    weight, buffer = torch.rand(100, 100), torch.rand(9)
    tensors = {
        "embed": weight,
        "head": weight,
        "view": weight[:],
        "data": nn.Parameter(weight).data,
        "copy": weight + 0,
    }
    save(path, tensors, {})
    assert 80_000 < path.stat().st_size < 82_000  # two of 40,000 bytes: the weight and its copy
    ours, _ = load(path)
    assert_same(ours, tensors)
    assert ours["embed"] is ours["head"] is ours["view"] is ours["data"]
    assert ours["copy"] is not ours["embed"]
    views = {"whole": buffer, "rows": buffer.view(3, 3), "columns": buffer.view(3, 3).mT, "part": buffer[:3]}
    save(path, views, {})
    ours, _ = load(path)
    assert_same(ours, views)
    assert len({id(tensor) for tensor in ours.values()}) == 4


def test_empty_tensors_are_not_taken_for_one(path):
    one = torch.empty(0)
    save(path, {"a": one, "b": one, "c": torch.empty(0)}, {})
    ours, _ = load(path)
    assert ours["a"] is ours["b"]
    assert ours["c"] is not ours["a"]


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        # The first entry is good: beartype, which looks at that one alone in the tests, must not be quicker.
        ({"good": torch.ones(1), "bad": 3}, r"tensors\['bad'\] must be a Tensor; got 3: put it into facts"),
        ({"a": torch.ones(2).to_sparse()}, r"tensors\['a'\] must be dense.*got torch.float32, torch.sparse_coo"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, r"tensors\['a'\] must be .*real.*got torch.complex64"),
        ({"a": torch.ones(2, device="meta")}, "on meta: convert it first"),
        ({"__metadata__": torch.ones(2)}, "tensors must not use the name '__metadata__'"),
    ],
)
def test_other_tensors_are_refused(path, tensors, says):
    save(path, {}, {"old": 1})
    with pytest.raises(ValueError, match=says):
        save(path, tensors, {})
    assert load(path) == ({}, {"old": 1})
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "value",
    [torch.ones(1), {1: 2}, (1, 2), [(1,)], {"a": {"b": {3}}}, float("nan"), float("-inf"), b"x", Path("x"), 1j],
    ids=repr,
)
def test_facts_that_json_would_change_are_refused(path, value):
    with pytest.raises(ValueError, match=r"facts\['odd'\] must be what JSON gives back unchanged.*got .*flatten_state"):
        save(path, {}, {"fine": 1, "odd": value})
    assert not path.exists()


# The file before.


def test_the_file_before_is_kept(path):
    assert previous(path) == path.with_name("last.previous.safetensors")
    assert previous("runs/v1.5") == Path("runs/v1.5.previous.safetensors")
    for step in range(3):
        save(path, {"a": torch.full((2,), step)}, {"step": step})
    assert (load(path)[1], load(previous(path))[1]) == ({"step": 2}, {"step": 1})
    save(path, {}, {"step": 3}, keep_previous=False)
    assert (load(path)[1], load(previous(path))[1]) == ({"step": 3}, {"step": 1})
    assert len(os.listdir(path.parent)) == 2


def test_the_disk_has_the_file_before_its_name_and_the_names_before_the_end(path, monkeypatch):
    save(path, {}, {"step": 0})
    calls, fsync, replace = [], os.fsync, os.replace

    def noted_fsync(descriptor):
        calls.append("folder" if os.path.samestat(os.fstat(descriptor), path.parent.stat()) else "file")
        fsync(descriptor)

    def noted_replace(source, target):
        calls.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    save(path, {}, {"step": 1})
    assert calls == ["file", path.name, previous(path).name, "folder"]


def test_without_hard_links_the_file_before_is_copied(path, monkeypatch):
    def refuse(*_):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    for step in range(3):
        save(path, {}, {"step": step})
    assert (load(path)[1], load(previous(path))[1]) == ({"step": 2}, {"step": 1})
    assert len(os.listdir(path.parent)) == 2


def test_a_full_disk_changes_nothing(path, monkeypatch):
    save(path, {}, {"step": 0})
    save(path, {}, {"step": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, {}, {"step": 2})
    assert (load(path)[1], load(previous(path))[1]) == ({"step": 1}, {"step": 0})
    assert len(os.listdir(path.parent)) == 2


def test_the_file_before_is_used_with_a_warning(path):
    save(path, {}, {"step": 0})
    save(path, {}, {"step": 1})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match=r"last.safetensors is cut short.*; going on from last.previous.safetensors"):
        assert load_latest(path)[1] == {"step": 0}
    path.unlink()
    with pytest.warns(UserWarning, match=r"last.safetensors is missing; going on from last.previous.safetensors"):
        assert load_latest(path)[1] == {"step": 0}
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*last.safetensors: check the name"):
        load(path)


def test_no_good_file_at_all(path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*last.safetensors and no last.previous.safetensors"):
        load_latest(path)
    path.write_bytes(b"")
    says = r"last.safetensors is cut short .*, and last.previous.safetensors is missing; put a good copy in"
    with pytest.raises(ValueError, match=says):
        load_latest(path)
    previous(path).write_bytes(b"")
    with pytest.raises(ValueError, match=r", and last.previous.safetensors is cut short .*; put a good copy"):
        load_latest(path)


# Damage.


@pytest.fixture
def whole(path):
    """The bytes of a small file; a good one before it lies beside."""
    save(path, {}, {"step": 0})
    save(path, {"a": torch.arange(6.0).reshape(2, 3), "tied": torch.ones(2, dtype=torch.bool)}, {"step": 1})
    return path.read_bytes()


def assert_refused(path, says=""):
    with pytest.raises(ValueError, match=says):
        load(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_latest(path)[1] == {"step": 0}
    assert len(caught) == 1


def test_a_cut_is_noticed_at_every_length(path, whole):
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert_refused(path, "is cut short or no safetensors file")
    path.write_bytes(whole + b"\0")
    assert_refused(path, "is cut short or no safetensors file")


def test_a_flipped_bit_is_noticed_everywhere(path, whole):
    for place in range(len(whole)):
        for bit in (0x01, 0x20):  # the next character, and the other case
            changed = bytearray(whole)
            changed[place] ^= bit
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=r"last.safetensors (is|has|was) .*; use last.previous.safetensors"):
                load(path)


def test_a_flipped_bit_of_a_tensor_is_named(path, whole):
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert_refused(path, "has changed since it was written")


def test_foreign_files_are_refused(path, whole):
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(200))
    plain = safetensors.torch.save({"a": torch.ones(2)})
    other = safetensors.torch.save({"a": torch.ones(2)}, {"format": "pt"})
    newer = safetensors.torch.save({}, {"rcnnlib.checkpoint": '2 0 {"facts": {}}'})
    header = b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}'
    exotic = len(header).to_bytes(8, "little") + header + b"\0"
    for content, says in (
        (b"", "is cut short or no safetensors file"),
        (png, "is cut short or no safetensors file"),
        (exotic, "is cut short or no safetensors file"),
        (plain, "is a safetensors file, but not a checkpoint of rcnnlib"),
        (other, "is a safetensors file, but not a checkpoint of rcnnlib"),
        (newer, "was written in version 2 of the format, and this code reads version 1"),
    ):
        path.write_bytes(content)
        assert_refused(path, says)


def test_facts_and_aliases_are_under_the_checksum(path, whole):
    assert whole.count(b'{\\"step\\": 1}') == 1
    path.write_bytes(whole.replace(b'{\\"step\\": 1}', b'{\\"step\\": 9}'))
    assert_refused(path, "has changed since it was written")


# Nested states.


def train(optimizer, model, steps):
    for step in range(steps):
        optimizer.zero_grad()
        (model(torch.full((2, 3), step + 1.0)) ** 2).sum().backward()
        optimizer.step()


OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, betas=(0.8, 0.95), amsgrad=True),
    "adamw with a tensor for lr": lambda parameters: torch.optim.AdamW(parameters, lr=torch.tensor(0.01)),
    "sgd with momentum": lambda parameters: torch.optim.SGD(
        [{"params": parameters[:1], "lr": 0.02, "weight_decay": 0.1}, {"params": parameters[1:]}], lr=0.01, momentum=0.9
    ),
    "sgd without": lambda parameters: torch.optim.SGD(parameters, lr=0.01),  # its momentum buffers are None
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_a_resumed_optimiser_takes_the_same_step(path, make, steps):
    model = nn.Linear(3, 2)
    optimizer = make(list(model.parameters()))
    train(optimizer, model, steps)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": steps}
    tensors, facts = flatten_state(state)
    save(path, tensors, {"state": facts})
    tensors, facts = load(path)
    resumed = unflatten_state(tensors, facts["state"])
    assert repr(resumed) == repr({**state, "model": dict(state["model"])})  # types too: tuples, whole numbers as keys

    ours = nn.Linear(3, 2)
    ours.load_state_dict(resumed["model"])
    our_optimizer = make(list(ours.parameters()))
    our_optimizer.load_state_dict(resumed["optimizer"])
    train(optimizer, model, 2)
    train(our_optimizer, ours, 2)
    assert_same(ours.state_dict(), model.state_dict())
    assert_same(flatten_state(our_optimizer.state_dict())[0], flatten_state(optimizer.state_dict())[0])


def test_names_tell_the_place():
    one, two = torch.ones(1), torch.zeros(1)
    tensors, facts = flatten_state({"a": {"w": one, 0: [two, (one, None)]}})
    assert tensors == {"a/w": one, "a/0/0": two, "a/0/1/0": one}
    assert json.loads(json.dumps(facts)) == facts
    assert unflatten_state(tensors | {"other": one}, facts) == {"a": {"w": one, 0: [two, (one, None)]}}


def test_places_of_one_name_stay_apart():
    state = {"a": {0: torch.ones(1), "0": torch.zeros(1)}, "a/0": torch.full((1,), 2.0)}
    tensors, facts = flatten_state(state)
    assert len(tensors) == 3
    ours = unflatten_state(tensors, facts)
    assert (ours["a"][0], ours["a"]["0"], ours["a/0"]) == (1, 0, 2)


def test_numbers_that_json_lacks():
    state = {"best": float("-inf"), "worst": float("inf"), "loss": float("nan"), "tiny": 5e-324, "flag": True, "n": 1}
    _, facts = flatten_state(state)
    json.dumps(facts, allow_nan=False)
    assert repr(unflatten_state({}, facts)) == repr(state)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"a": {"b": {1, 2}}}, r"state at 'a/b' must be a tensor or plain; got \{1, 2\}"),
        ({"a": [0, nn.ReLU()]}, r"state at 'a/1' must be a tensor or plain; got ReLU"),
        ({"a": {(1, 2): 0}}, r"state at 'a' has the key \(1, 2\)"),
        ({True: 0}, "state at '' has the key True"),
    ],
)
def test_a_state_of_other_things_is_refused(state, says):
    with pytest.raises(ValueError, match=says):
        flatten_state(state)


def test_facts_from_elsewhere_are_refused():
    for facts in ({"step": 3}, {}, {"dict": [], "tensor": "a"}):
        with pytest.raises(ValueError, match="facts must be the second result of flatten_state; got"):
            unflatten_state({}, facts)


# Random states.


def test_random_numbers_go_on_where_they_stopped(path):
    torch.rand(3)
    save(path, random_state(), {})
    theirs = torch.rand(5), torch.randperm(9)
    set_random_state(load(path)[0])
    assert torch.equal(torch.rand(5), theirs[0])
    assert torch.equal(torch.randperm(9), theirs[1])


def test_each_gpu_gets_its_own_state(monkeypatch):
    given = {}
    states = [torch.tensor([index], dtype=torch.uint8) for index in range(3)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, index: given.update({index: state.item()}))
    ours = random_state()
    assert list(ours) == ["cpu", "cuda:0", "cuda:1", "cuda:2"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    set_random_state(ours)
    assert given == {0: 0, 1: 1}
    set_random_state({"cpu": ours["cpu"]})  # from a machine without GPUs
    assert given == {0: 0, 1: 1}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_a_gpu(path):
    weight = torch.rand(3, 4, device="cuda")
    save(path, {"a": weight, "tied": weight, "b": weight.mT} | random_state(), {})
    theirs = torch.rand(5, device="cuda")
    ours, _ = load(path)
    set_random_state({name: ours[name] for name in random_state()})
    assert torch.equal(torch.rand(5, device="cuda"), theirs)
    assert ours["a"] is ours["tied"]
    assert torch.equal(ours["b"], weight.mT.cpu())


# Kills: children of a script save, and are killed before a call that touches the disk, or at a random moment.

CALLS = ("fsync", "link", "replace", "unlink")


def content(step):
    return {"a": torch.full((300_000,), float(step)), "b": torch.full((400_000,), float(step))}, {"step": step}


def found(path):
    """Return the step in a file whose parts all agree on it."""
    tensors, facts = load_latest(path)
    values = {value for tensor in tensors.values() for value in tensor.unique().tolist()}
    assert values == {facts["step"]}
    return facts["step"]


def killed_child(work, after):
    """Fork, do ``work(say)`` in the child, kill it ``after`` seconds; return what it said and whether it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(lambda step: os.write(write, b"%d\n" % step))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(write)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with open(read) as pipe:
        said = [int(line) for line in pipe.read().split()]
    assert os.WIFSIGNALED(status) or status == 0
    return said, os.WIFSIGNALED(status)


def die_before(count):
    """Let this process kill itself before its call number ``count`` of those in CALLS."""
    left = [count]

    def wrapped(call):
        def function(*arguments, **options):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*arguments, **options)

        return function

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))


def main(folder):
    """Print for each kill: step before, steps that were said to be saved, step found, step of the file before."""
    torch.set_num_threads(1)
    path, rows, step = folder / "last.safetensors", {"calls": [], "moments": []}, 0
    save(path, *content(0))

    def one_save(count):
        die_before(count)
        save(path, *content(step + 1))

    killed, count = True, 0
    while killed:
        _, killed = killed_child(lambda _, count=count: one_save(count), after=None)
        rows["calls"].append([step, found(path), found(previous(path)) if previous(path).exists() else None])
        step, count = rows["calls"][-1][1], count + 1

    def many_saves(say):
        for next_step in range(step + 1, step + 10_000):
            save(path, *content(next_step))
            say(next_step)

    for _ in range(15):
        said, killed = killed_child(many_saves, after=random.uniform(0.0, 0.12))
        assert killed
        rows["moments"].append([max(said, default=step), found(path), found(previous(path))])
        step = rows["moments"][-1][1]
    rows["files"] = len(os.listdir(folder))
    print(json.dumps(rows))


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-W", "error", __file__, str(tmp_path_factory.mktemp("kills"))],
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_kill_before_any_call_leaves_a_whole_file(kills):
    assert len(kills["calls"]) > len(CALLS)
    for before, after, kept in kills["calls"]:
        assert after in (before, before + 1)  # without a warning, which would be an error: the file itself is whole
        assert kept is None or kept < after


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_kill_at_any_moment_loses_nothing_that_was_saved(kills):
    assert len(kills["moments"]) == 15
    for said, after, kept in kills["moments"]:
        assert after in (said, said + 1)
        assert kept < after


if __name__ == "__main__":
    main(Path(sys.argv[1]))
