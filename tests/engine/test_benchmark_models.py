"""The benchmark of the detectors: that both sides do the same work, that the counts count, and that no row is lost."""

import math
import pickle

import pytest
import torch
import torchvision
from demo import SMALL_HEAD, make_detector, sharpen

from rcnnlib import __main__
from rcnnlib.datasets.transforms import collate
from rcnnlib.engine import benchmark, benchmark_models, benchmark_stages
from rcnnlib.engine.benchmark_models import (
    candidates,
    count_reads,
    faster_rows,
    floor_lines,
    growth_lines,
    opponent,
    our_step,
    pictures,
    proposal_rows,
    read_lines,
    their_step,
)
from rcnnlib.engine.benchmark_stages import STAGES, pieces, stage_lines, stage_seconds
from rcnnlib.engine.recipes import open_data
from rcnnlib.models.backbone import backbone
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.rcnn import RCNN
from rcnnlib.models.sppnet import SPPnet
from rcnnlib.ops.nms import BLOCK

SIDE = 128  # scenes of 128 x 96: multiples of 16, so there is no padding


def tiny_faster(**rpn):
    """Return a Faster R-CNN for the five classes of Scrapbook on the tiny trunk."""
    torch.manual_seed(1)
    rpn = {"channels": 32, "before": 200, "after": 40} | rpn
    return FasterRCNN(backbone("tiny"), 5, scales=(16, 32, 48), rpn=rpn, head=SMALL_HEAD)


def tiny(name):
    """Return one of the four detectors on the tiny trunk."""
    torch.manual_seed(1)
    options = {
        "rcnn": (RCNN, {"crop": 32, "context": 2, "head": {"width": 16}}),
        "sppnet": (SPPnet, {"levels": (2, 1), "head": {"width": 16}}),
        "fast_rcnn": (FastRCNN, {"head": SMALL_HEAD}),
    }
    if name == "faster_rcnn":
        return tiny_faster()
    detector, more = options[name]
    return detector(backbone("tiny"), 5, **more)


# --- the same work


def test_theirs_has_our_trunk_and_our_numbers():
    model = tiny_faster()
    model.trunk.freeze(2)
    theirs = opponent(model)
    assert theirs.backbone is model.trunk
    for mode in (True, False):
        theirs.train(mode)
        assert (theirs.rpn.pre_nms_top_n(), theirs.rpn.post_nms_top_n()) == (200, 40)
    assert theirs.rpn.fg_bg_sampler.batch_size_per_image == 256
    assert theirs.roi_heads.fg_bg_sampler.batch_size_per_image == SMALL_HEAD["samples"]
    assert theirs.roi_heads.box_roi_pool.pooling == "align"


def test_steps_train_the_same_and_leave_the_weights():
    model, batch, trained = tiny_faster(), pictures(2, SIDE), []
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    for step in (our_step(model, batch), their_step(model, batch)):
        model.zero_grad(set_to_none=True)
        step()
        trained.append({name for name, weight in model.trunk.named_parameters() if weight.grad is not None})
    assert trained[0] == trained[1] == {name for name, _ in model.trunk.named_parameters() if name[9] in "23"}
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_a_row_compares_the_same_detections():
    model = sharpen(tiny_faster())
    training, inference = faster_rows(model, 2, SIDE)
    assert (training.at_most, training.aim, inference.at_most, inference.aim) == (0.5, 0.4, 0.65, 0.5)
    assert training.name == "training step, batch 2, 128 x 96"
    ours, theirs = inference.ours(), inference.theirs()
    for row, found in enumerate(theirs):
        assert len(found["boxes"]) == int(ours.valid[row].sum()) > 0
        torch.testing.assert_close(found["scores"], ours.scores[row][ours.valid[row]], rtol=1e-4, atol=1e-4)
    timing = benchmark.compare(training.ours, training.theirs, pairs=1)
    assert all(math.isfinite(number) and number > 0 for number in timing)


def test_the_floor_is_a_part_of_both(monkeypatch):
    model, times = tiny_faster(), []

    def compare(shared, theirs, pairs):
        shared()
        grads = {name.split(".")[0] for name, weights in model.named_parameters() if weights.grad is not None}
        theirs()
        times.append((pairs, grads))
        return benchmark.Timing(0.1, 0.2, 0.5)

    monkeypatch.setattr(benchmark_models, "compare", compare)
    _, training, inference = floor_lines(model, 3, 1)
    assert training.split() == ["training", "step", "100.00", "200.00", "0.50"]
    assert inference.split() == ["inference", "100.00", "200.00", "0.50"]
    assert times[0] == (3, {"trunk", "rpn"})  # no loss, no proposals, no head


def test_proposals_are_theirs():
    rows = list(proposal_rows(sharpen(tiny_faster()), True, (64, SIDE)))
    assert [row.name for row in rows] == [  # 8 x 6 and 16 x 12 cells of 9 anchors, none of them too small
        "proposals 432 in, 300 out, true RPN, 4 maps",
        "proposals 1728 in, 300 out, true RPN, 4 maps",
    ]
    for row in rows:
        for ours, theirs in zip(row.ours(), row.theirs(), strict=True):
            assert torch.equal(ours.index[ours.valid], theirs)


def test_candidates_are_what_goes_into_the_nms_of_the_rpn():
    model, batch = sharpen(tiny_faster()), pictures(2, SIDE)
    with torch.no_grad():
        proposals = model.stages(batch.images, batch.sizes, rounds=BLOCK).proposals
    for row, (boxes, scores) in enumerate(candidates(model, batch, model.rpn.before)):
        assert len(boxes) == 200
        assert (scores.diff() <= 0).all()
        kept = torchvision.ops.nms(boxes, scores, model.rpn.nms_threshold)[: model.rpn.after]
        assert torch.equal(boxes[kept], proposals.boxes[row][proposals.valid[row]])
    assert (model.rpn.before, model.rpn.after, model.rpn.nms_threshold) == (200, 40, 0.7)


# --- host reads

X, MASK = torch.arange(4.0), torch.tensor([True, False, True, False])
LEAF = torch.ones(4, requires_grad=True)


def filled(value):
    x = X.clone()
    x[MASK] = value
    return x


def looks():
    if X.device.type == "cpu" and torch.equal(X, X):
        return torch.equal(X, X)
    return None


@pytest.mark.parametrize(
    ("work", "reads"),
    [
        (lambda: X * 2, {}),
        (lambda: float(X[0]), {"_local_scalar_dense": 1}),
        (lambda: bool((X > 0).all()), {"_local_scalar_dense": 1}),
        (lambda: torch.equal(X, X), {"equal": 1}),
        (lambda: torch.where(X > 0), {"nonzero": 1}),
        (lambda: X[MASK], {"index": 1}),
        (lambda: X[torch.tensor([0, 1])], {}),
        (lambda: X[:, None][MASK, :], {"index": 1}),
        (lambda: filled(0.0), {}),  # on a GPU too this is masked_fill, which needs no count
        (lambda: filled(torch.ones(2)), {"index_put_": 1}),
        (lambda: torch.unique(X), {"_unique2": 1}),
        (lambda: torchvision.ops.nms(torch.rand(3, 4), torch.rand(3), 0.5), {"nms": 1}),
        (X.tolist, {"tolist": 1}),
        (looks, {"equal": 1}),  # the second one: the first is asked on a CPU alone
    ],
)
def test_the_count_counts(work, reads):
    assert count_reads(work).reads == reads


def test_a_backward_pass_is_counted():
    found = count_reads(lambda: LEAF[MASK].sum().backward())
    assert found.reads == {"index": 1, "index_put": 1}  # forward, and once more to put the gradient in its place


def test_looks_of_the_cpu_are_kept_apart():
    assert count_reads(looks).on_cpu_alone == {"equal": 1}


def test_losses_and_backward_read_nothing_but_nms_on_a_cpu():
    model, batch = tiny_faster(), pictures(2, SIDE)
    found = count_reads(lambda: model.losses(batch, rounds=BLOCK).total().backward())
    assert found.reads == {}
    assert found.on_cpu_alone.total() > 0


def test_ours_reads_once_a_step_and_theirs_more_with_every_picture():
    lines = list(read_lines(tiny_faster(), (1, 2), SIDE))
    assert len(lines) == 4
    assert all(f"batch {count}: ours 1, at most 1   met;" in lines[count] for count in (1, 2))
    one, two = (int(line.split("theirs ")[1].split()[0]) for line in lines[1:3])
    assert 1 < one < two
    kinds = dict(part.split() for part in lines[1].split("(")[1].rstrip(")").split(", "))
    assert sum(map(int, kinds.values())) == one
    assert kinds["nms"] == "1"
    assert int(lines[3].split(": ")[1].split(",")[0]) > 0


# --- memory and growth


def test_memory_is_measured_in_processes_that_can_be_started(monkeypatch):
    def peak(work):
        again = pickle.loads(pickle.dumps(work))
        assert again.args[1] == torch.get_num_threads()
        return 0.2 if again.args[0] is our_step else 0.8

    monkeypatch.setattr(benchmark_models, "peak_memory", peak)
    (line,) = benchmark_models.memory_lines()
    assert "ours 0.20 GB, theirs 0.80 GB, ratio 0.25" in line


def test_a_process_of_its_own_takes_two_steps(monkeypatch):
    taken = []
    monkeypatch.setattr(benchmark_models, "load", lambda name: (name, True))
    benchmark_models.two_steps(lambda model, batch: lambda: taken.append((model, len(batch.images))), 1)
    assert taken == [("faster_rcnn_scrapbook", 4)] * 2


def test_growth(monkeypatch):
    afters = []
    monkeypatch.setattr(
        benchmark_models,
        "our_step",
        lambda model, batch: afters.append((len(batch.images), model.rpn.after)) or our_step(model, batch),
    )
    model = tiny_faster()
    title, head, *rows = growth_lines(model, 1, ((1, 40, 64), (2, 20, SIDE)))
    assert "1 pairs" in title
    assert head.split() == ["pictures", "proposals", "side", "ours", "theirs", "ratio"]
    assert [row.split()[:3] for row in rows] == [["1", "40", "64"], ["2", "20", "128"]]
    assert all(float(row.split()[5]) > 0 for row in rows)
    assert afters == [(1, 40), (2, 20)]
    assert model.rpn.after == 40


def test_what_grows():
    settings = benchmark_models.GROWTH
    assert [count for count, after, side in settings if (after, side) == (200, 320)] == [1, 2, 4, 8]
    assert sorted(after for count, after, side in settings if (count, side) == (4, 320)) == [50, 100, 200, 400]
    assert [side for count, after, side in settings if (count, after) == (1, 200)] == [320, 512, 640]


# --- stages


@pytest.mark.parametrize("name", ["rcnn", "sppnet", "fast_rcnn", "faster_rcnn"])
def test_pieces_are_the_stages(name):
    model = tiny(name)
    if name in ("fast_rcnn", "faster_rcnn"):
        sharpen(model)
    batch = collate([open_data("scrapbook_selective_search", "test")[0]], seed=0, epoch=0)
    batch = batch._replace(proposals=batch.proposals[:, :40])
    inputs = (batch.images, batch.sizes, batch.proposals) if model.needs_proposals else (batch.images, batch.sizes)
    with torch.inference_mode():
        stages, found = model.stages(*inputs, rounds=BLOCK), dict(pieces(model, batch))
    assert list(found) == [stage for stage in STAGES[1:] if stage != "proposals" or name == "faster_rcnn"]
    assert torch.equal(found["trunk"], stages.pooled if name == "rcnn" else stages.features)
    assert torch.equal(found["head"][0], stages.class_scores)
    assert torch.equal(found["head"][1], stages.box_deltas)
    assert all(torch.equal(ours, other) for ours, other in zip(found["detection"], stages.detections, strict=True))
    assert stages.detections.valid.any() == (name in ("fast_rcnn", "faster_rcnn"))
    seconds = stage_seconds(model, batch)
    assert list(seconds) == list(found)
    assert all(second > 0 for second in seconds.values())


def test_the_table_of_stages(monkeypatch):
    monkeypatch.setattr(
        benchmark_stages, "load", lambda name: (tiny(name.removesuffix("_scrapbook")), name.startswith("fast_"))
    )
    title, head, *rows = stage_lines(1)
    assert "mean of 1 pictures, with 315 regions" in title
    assert head.split() == [*" ".join(STAGES).split(), "all"]
    assert [row[:14].rstrip() for row in rows] == ["R-CNN", "SPPnet", "Fast R-CNN", "Faster R-CNN"]
    for row in rows:
        cells = row[14:].split()[:6]
        lacks = {"Selective Search"} if row.startswith("Faster") else {"proposals"}
        assert {stage for stage, cell in zip(STAGES, cells, strict=False) if cell == "-"} == lacks
        numbers = [float(cell) for cell in cells if cell != "-"]
        assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=0.004)
        assert row.endswith("random heads") != row.startswith("Fast R-CNN")
    assert float(rows[0].split()[1]) > 0.01


# --- all of it


def test_without_weights_the_heads_are_random_but_always_the_same(monkeypatch):
    def missing(name):
        raise FileNotFoundError(name)

    monkeypatch.setattr(benchmark_stages, "load_weights", missing)
    (one, trained), (two, _) = (benchmark_stages.load("faster_rcnn_scrapbook") for _ in range(2))
    assert not trained
    assert not one.training
    assert torch.equal(one.head.mlp.fc6.weight, two.head.mlp.fc6.weight)


@pytest.mark.parametrize(("trained", "says"), [(True, "faster_rcnn_scrapbook"), (False, "random heads")])
def test_every_part_is_printed(monkeypatch, trained, says):
    row = benchmark.Row("proposals", lambda: 1, lambda: 2, 100.0, 0.0)
    monkeypatch.setattr(benchmark_models, "load", lambda name: (make_detector("faster_rcnn"), trained))
    monkeypatch.setattr(benchmark_models, "faster_rows", lambda model: iter([row._replace(name="training step")]))
    monkeypatch.setattr(benchmark_models, "proposal_rows", lambda model, trained: iter([row]))
    monkeypatch.setattr(benchmark_models, "floor_lines", lambda model, pairs: iter([f"floor {pairs}"]))
    for name in ("read", "growth"):
        monkeypatch.setattr(benchmark_models, f"{name}_lines", lambda model, name=name: iter([name]))
    for name in ("memory", "stage"):
        monkeypatch.setattr(benchmark_models, f"{name}_lines", lambda name=name: iter([name]))
    first, second, weights, head, *rest = benchmark_models.model_lines(1)
    assert first.endswith(" 1 threads")
    assert second.startswith("median of 1 alternating pairs")
    assert says in weights
    assert head == benchmark.HEADER
    assert [line.split()[0] for line in rest] == ["training", "proposals", "floor", "read", "memory", "growth", "stage"]
    assert all(line.endswith("  met") and len(line.split()[-6:]) == 6 for line in rest[:2])
    assert rest[0].index("100.00") + len("100.00") == head.index("at most") + len("at most")  # columns stand in line


def test_the_command(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(benchmark_models, "main_models", lambda threads: called.append(("models", threads)))
    monkeypatch.setattr(benchmark, "main_ops", lambda threads: called.append(("ops", threads)))
    assert __main__.main(["benchmark", "models", "--threads", "1"]) == 0
    assert __main__.main(["benchmark", "ops"]) == 0
    assert called == [("models", 1), ("ops", None)]
    monkeypatch.undo()
    monkeypatch.setattr(benchmark_models, "model_lines", lambda: iter(["a line"]))
    benchmark_models.main_models(1)
    assert capsys.readouterr().out == "a line\n"
