"""The explorers of lesson 14: numbers that can be counted by hand, and every control changes something."""

import pytest
import torch

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import collate, make_example
from rcnnlib.engine.metrics import Record
from rcnnlib.engine.recipes import RECIPES
from rcnnlib.engine.schedules import Schedule, four_step_alternating
from rcnnlib.models.roi_heads import given_proposals
from rcnnlib.ops.box_coder import decode
from rcnnlib.ops.roi_ops import roi_align
from rcnnlib.view.explorers import box_source, freeze_switch, joint_roads, missing_gradient, two_samplers
from rcnnlib.view.explorers.box_source import BoxSource
from rcnnlib.view.explorers.four_steps import LAST, FourSteps, four_steps, origins
from rcnnlib.view.explorers.freeze_switch import FreezeSwitch
from rcnnlib.view.explorers.joint_roads import JointRoads
from rcnnlib.view.explorers.missing_gradient import DELTAS, TERMS, MissingGradient
from rcnnlib.view.explorers.two_samplers import TwoSamplers

CLASSES = ("circle", "square", "triangle")


def with_boxes(count):
    """Pictures of Shapes that hold something, with a grid of boxes in the place of Selective Search's."""
    grid = torch.tensor([[x, y, x + 40.0, y + 40.0] for x in range(0, 56, 8) for y in range(0, 56, 8)])
    found = (one for one in Shapes(40) if len(one.boxes) > 1)
    return [next(found)._replace(proposals=grid) for _ in range(count)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = RECIPES["faster_rcnn_shapes"].spec.build(pretrained=False)
    torch.nn.init.normal_(made.head.predict.scores.weight, std=0.3)  # so that something is detected, and moved
    torch.nn.init.normal_(made.head.predict.deltas.weight, std=0.1)
    torch.nn.init.normal_(made.rpn.head.deltas.weight, std=0.05)
    return made.eval()


def assert_changes(shown, **change):
    before = shown.line.value
    assert shown.set(**change).line.value != before


# --- BoxSource -------------------------------------------------------------------------------------------------------


def test_more_boxes_never_fit_worse():
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 20, 10]])
    objects = torch.tensor([[0.0, 0, 20, 10], [50, 50, 60, 60]])
    torch.testing.assert_close(box_source.best_overlap(boxes, objects), torch.tensor([0.25, 0.75, 1.0]))


@pytest.fixture(scope="module")
def sources(model):
    photos = dict(zip("ab", with_boxes(2), strict=True))
    return BoxSource(model, photos, CLASSES)


def test_the_switch_does_what_the_two_detectors_do(model, sources):
    one = sources.pictures["a"]
    ours = box_source.detect(one, one.sources[box_source.RPN][: model.rpn.after], model=model)
    theirs = model(one.batch.images, one.batch.sizes, rounds=64)
    torch.testing.assert_close(ours.boxes, (theirs.boxes / one.batch.scales.repeat(1, 2))[0][theirs.valid[0]])


CHANGES = [{"count": 2}, {"source": box_source.SEARCH}, {"score": 0.9}, {"picture": "b"}]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_the_switch_changes_the_numbers(sources, change):
    sources.set(count=40, source=box_source.RPN, score=0.05, picture="a", show=box_source.SHOWN[0])
    assert_changes(sources, **change)


def test_the_switch_draws_what_goes_in(sources):
    sources.set(count=5, source=box_source.SEARCH, picture="a", show=box_source.SHOWN[1])
    assert sources.canvas.kinds.count("proposal") == 5
    assert "detection" not in sources.canvas.kinds


# --- TwoSamplers -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samplers(model):
    empty = make_example(torch.rand(3, 96, 96), [], [], [], id=99)._replace(proposals=with_boxes(1)[0].proposals)
    pictures = dict(zip(("a", "b", "empty"), (*with_boxes(2), empty), strict=True))
    return TwoSamplers({name: two_samplers.label(model, one) for name, one in pictures.items()})


def test_a_picture_without_objects_has_background_only_and_with_a_bound_nothing(samplers):
    numbers = samplers.set(low=0.0, rows=32, picture="empty").numbers
    assert numbers["head"] == {"positive": 0, "negative": 32, "empty": 0}
    assert samplers.set(low=0.1).numbers["head"] == {"positive": 0, "negative": 0, "empty": 32}
    assert numbers["RPN"]["positive"] == 0


def test_the_batches_follow_their_rules(samplers):
    numbers = samplers.set(low=0.0, rows=32, picture="a", source=two_samplers.SEARCH).numbers
    assert sum(numbers["RPN"].values()) == 256
    assert numbers["head"]["positive"] <= 8
    assert numbers["candidates"] == 49 + len(samplers.pictures["a"].example.boxes)
    assert int(numbers["all"].sum()) == numbers["candidates"]
    assert samplers.set(low=0.1).numbers["drawn below 0.1"] == 0


CHANGES = [{"low": 0.3}, {"rows": 128}, {"epoch": 5}, {"source": two_samplers.SEARCH}, {"picture": "b"}]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_the_samplers_changes_the_numbers(samplers, change):
    samplers.set(low=0.0, rows=32, epoch=0, source=two_samplers.RPN, picture="a", show=two_samplers.SHOWN[0])
    drawn = samplers.canvas.boxes.tolist()
    if "epoch" in change:  # other rows, perhaps as many of each kind
        assert samplers.set(**change).canvas.boxes.tolist() != drawn
    else:
        assert_changes(samplers, **change)


def test_the_rows_of_either_sampler_are_drawn(samplers):
    samplers.set(picture="a", rows=32, show=two_samplers.SHOWN[0])
    assert "proposal" in samplers.canvas.kinds
    assert "anchor" in samplers.set(show=two_samplers.SHOWN[1]).canvas.kinds


# --- FourSteps -------------------------------------------------------------------------------------------------------

PHASES = four_step_alternating(Schedule(10), Schedule(5))
LETTERS = {
    "1": {"trunk": "A", "rpn": "a"},
    "2": {"trunk": "B", "head": "x"},
    "3": {"trunk": "B", "rpn": "b"},
    "4": {"trunk": "B", "head": "y"},
    LAST: {"trunk": "B", "rpn": "b", "head": "y"},
}


def test_origins_are_those_of_the_paper():
    assert origins(PHASES) == {
        "1": {"trunk": "imagenet", "rpn": "new"},
        "2": {"trunk": "imagenet", "head": "new"},
        "3": {"trunk": "2", "rpn": "1"},
        "4": {"trunk": "2", "head": "2"},
        LAST: {"trunk": "2", "rpn": "3", "head": "4"},
    }


def test_a_step_says_what_learns_and_whose_trunk_is_equal():
    numbers = four_steps(3, "", phases=PHASES, letters=LETTERS)
    assert (numbers["learns"], numbers["frozen"]) == (["rpn"], ["trunk"])
    assert numbers["same trunk"] == ["2", "4", LAST]
    assert four_steps(1, "", phases=PHASES, letters=LETTERS)["same trunk"] == []


def test_every_control_of_the_steps_changes_something():
    shown = FourSteps(PHASES, LETTERS)
    assert_changes(shown, step=2)
    picture = shown.chart.value
    shown.set(show="all steps")
    assert shown.chart.value != picture
    assert "trunk from step 2, RPN from step 3, head from step 4" in repr(shown.set(step=5))


# --- JointRoads ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def norms(model):
    pictures, found = dict(zip("ab", with_boxes(2), strict=True)), {}
    for name, example in pictures.items():
        course = joint_roads.named_terms(model.losses(collate([example], seed=0, epoch=0)))
        exact = missing_gradient.exact_step(model, example).terms
        found[name] = {
            version: joint_roads.gradient_norms(model, terms)
            for version, terms in zip(joint_roads.VERSIONS, (course, exact), strict=True)
        }
    return found


def test_the_heads_gradient_reaches_the_rpn_only_if_nothing_is_detached(norms):
    course, exact = (norms["a"][version] for version in joint_roads.VERSIONS)
    for term in ("head class", "head box"):
        assert course[term]["rpn"] == 0.0
        assert exact[term]["rpn"] > 0.0
        assert exact[term]["head"] == pytest.approx(course[term]["head"], rel=1e-3)
    assert course["RPN box"] == pytest.approx(exact["RPN box"])
    assert course["RPN class"]["head"] == 0.0


def test_the_graph_says_the_same(model):
    losses = model.losses(collate(with_boxes(1), seed=0, epoch=0))
    behind = {id(weight) for weight in joint_roads.parameters_behind(losses.head_class)}
    reached = {name.split(".")[0] for name, weight in model.named_parameters() if id(weight) in behind}
    assert reached == {"trunk", "head"}
    behind = {id(weight) for weight in joint_roads.parameters_behind(losses.rpn_box)}
    assert {name.split(".")[0] for name, weight in model.named_parameters() if id(weight) in behind} == {"trunk", "rpn"}


@pytest.mark.parametrize("change", [{"term": "RPN box"}, {"version": joint_roads.VERSIONS[1]}, {"picture": "b"}])
def test_every_control_of_the_roads_changes_numbers_and_drawing(norms, change):
    shown = JointRoads(norms).set(term="head class")
    picture = shown.chart.value
    assert_changes(shown, **change)
    assert shown.chart.value != picture


def test_the_cut_is_where_the_head_would_reach_the_rpn(norms):
    cut = joint_roads.joint_roads("head class", joint_roads.VERSIONS[0], "a", norms=norms)
    assert cut["cut"]
    assert ("proposals", "rpn") not in cut["roads"]
    assert ("proposals", "rpn") in joint_roads.joint_roads("head box", joint_roads.VERSIONS[1], "a", norms=norms)[
        "roads"
    ]


# --- MissingGradient -------------------------------------------------------------------------------------------------


def test_align_has_the_values_of_the_library_and_the_gradient_of_differences():
    torch.manual_seed(0)
    features = torch.rand(4, 12, 16)
    boxes = torch.tensor([[10.0, 20, 90, 77], [0, 0, 128, 96], [33.3, 44.4, 60, 70]])
    ours = missing_gradient.align_with_boxes(features, boxes, stride=8)
    torch.testing.assert_close(ours, roi_align(features, boxes, 7, spatial_scale=1 / 8))
    features, boxes = features.double(), boxes.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda b: missing_gradient.align_with_boxes(features, b, stride=8), (boxes,))


def test_the_librarys_align_gives_no_gradient_for_boxes():
    boxes = torch.tensor([[10.0, 20, 90, 77]], requires_grad=True)
    pooled = roi_align(torch.rand(4, 12, 16, requires_grad=True), boxes, 7, spatial_scale=1 / 8)
    assert torch.autograd.grad(pooled.sum(), boxes, allow_unused=True) == (None,)


def test_an_exact_step_has_the_losses_of_the_library(model):
    example = with_boxes(1)[0]
    step, theirs = missing_gradient.exact_step(model, example), model.losses(collate([example], seed=0, epoch=0))
    for name, theirs_term in joint_roads.named_terms(theirs).items():
        torch.testing.assert_close(step.terms[name], theirs_term)
    from_rpn = step.index >= 0
    torch.testing.assert_close(
        step.boxes[from_rpn],
        decode(step.deltas[0][step.index[from_rpn]], step.anchors[step.index[from_rpn]]).clamp(0, 96),
    )


@pytest.fixture(scope="module")
def missing(model):
    return MissingGradient(model, dict(zip("ab", with_boxes(2), strict=True)))


def test_the_slope_is_that_of_the_loss(missing):
    for place, term in enumerate(TERMS):
        numbers = missing.set(shift=0.1, proposal=0, delta=DELTAS[place], term=term, picture="a").numbers
        assert numbers["slope"] == pytest.approx(numbers["by differences"], rel=0.2, abs=2e-3)


def test_the_rpns_own_slope_is_that_of_its_loss(model, missing):
    example, scene = missing.scenes["a"].example, missing.scenes["a"]
    step = missing_gradient.exact_step(model, example)
    (gradient,) = torch.autograd.grad(step.terms["RPN box"], step.deltas)
    drawn = [one for one in scene.chosen if one.target is not None]
    for one in drawn:
        (row,) = (step.deltas[0] == one.deltas).all(dim=1).nonzero()[0].tolist()
        ours = [missing_gradient.own_slope(model, one.deltas[0, i], one.target[i]) for i in range(4)]
        torch.testing.assert_close(torch.tensor(ours), gradient[0, row], rtol=1e-3, atol=1e-6)


CHANGES = [{"shift": 0.2}, {"proposal": 1}, {"delta": "t_h"}, {"term": TERMS[2]}, {"picture": "a"}]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_the_missing_gradient_changes_the_numbers(missing, change):
    missing.set(shift=0.0, proposal=0, delta="t_x", term=TERMS[0], picture="b")
    assert_changes(missing, **change)


# --- FreezeSwitch ----------------------------------------------------------------------------------------------------

TRUTH, LABELS = torch.tensor([[10.0, 10, 40, 40], [50, 20, 80, 60]]), torch.tensor([1, 2])


def record(*scores):
    """A picture whose first objects are found with these scores."""
    count = len(scores)
    return Record(1, TRUTH[:count], torch.tensor(scores), LABELS[:count], TRUTH, LABELS, torch.zeros(0, 4))


def test_judge_is_the_detector_if_the_trunk_is_its_own(model):
    pictures = with_boxes(1)
    proposals = freeze_switch.propose_each(model, pictures)
    (ours,) = freeze_switch.judge(model.trunk, model.head, pictures, proposals)
    batch = collate(pictures, seed=0, epoch=0)
    theirs = model(batch.images, batch.sizes, rounds=64)
    torch.testing.assert_close(ours.boxes, theirs.boxes[0][theirs.valid[0]])
    given = [given_proposals(pictures[0].boxes[None])]
    assert len(freeze_switch.judge(model.trunk, model.head, pictures, given)[0].boxes) != len(ours.boxes)


@pytest.fixture(scope="module")
def frozen():
    good = [record(0.9, 0.8), record(0.9, 0.4)]
    snapshots = {"frozen": {0: good, 5: good}, "learns (bug)": {0: good, 5: [record(), record(0.7)]}}
    return FreezeSwitch(snapshots, [torch.rand(3, 96, 96)] * 2, CLASSES, [0, 1])


def test_right_detections_are_counted(frozen):
    numbers = frozen.set(snapshot=1, version="learns (bug)", score=0.5, picture=0).numbers
    assert numbers["curves"] == {"frozen": [3, 3], "learns (bug)": [3, 1]}
    assert (numbers["steps"], numbers["right, all pictures"], numbers["objects"]) == (5, 1, 4)


@pytest.mark.parametrize("change", [{"snapshot": 0}, {"version": "frozen"}, {"score": 0.8}, {"picture": 1}])
def test_every_control_of_the_frozen_trunk_changes_the_numbers(frozen, change):
    frozen.set(snapshot=1, version="learns (bug)", score=0.5, picture=0)
    assert_changes(frozen, **change)
