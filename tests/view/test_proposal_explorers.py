"""The explorers of lesson 13: they agree with the library, every control changes the numbers, four boxes behave."""

import pytest
import torch

from rcnnlib.checks.proposals import suppressed_by
from rcnnlib.datasets.transforms import make_example
from rcnnlib.engine.metrics import proposal_recall
from rcnnlib.models.backbone import backbone
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.ops.boxes import box_iou
from rcnnlib.view.explorers.box_fate import BoxFate, box_at, box_fate, examine
from rcnnlib.view.explorers.four_boxes import BOXES, OTHER, SAME, SCORES, FourBoxes, four_boxes
from rcnnlib.view.explorers.proposal_funnel import BUGS, ProposalFunnel, ask, funnel
from rcnnlib.view.explorers.proposal_recall import (
    NO_NMS,
    SEARCH,
    ProposalRecall,
    proposal_recall_by,
    refine,
    strike,
    tabulate,
)

NAMES = ("bird", "tool")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    rpn = {"channels": 8, "before": 100, "after": 30}
    made = FasterRCNN(backbone("tiny"), len(NAMES), scales=(16, 32, 48), rpn=rpn, head={"width": 16}).eval()
    for layer in (made.rpn.head.conv, made.rpn.head.scores, made.rpn.head.deltas):
        torch.nn.init.normal_(layer.weight, std=0.1)
    torch.nn.init.normal_(made.head.predict.scores.weight, std=0.5)
    return made


@pytest.fixture(scope="module")
def pictures():
    torch.manual_seed(1)
    truth = [[10.0, 10, 60, 60], [70, 30, 110, 80]]
    return [make_example(torch.rand(3, 96, 128), truth, [1, 2], [], id=number) for number in range(2)]


# --- the funnel -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def funnel_explorer(model, pictures):
    told = {name: ask(model.rpn, model.trunk, one) for name, one in zip("AB", pictures, strict=True)}
    return ProposalFunnel(told, alt="noise")


def test_the_funnel_is_the_library(model, pictures):
    told = ask(model.rpn, model.trunk, pictures[0])
    size = told.size[None]
    with torch.no_grad():
        found = model.rpn.propose(*model.rpn(model.trunk(pictures[0].image[None], size)), size, rounds=64)
    boxes = funnel(told, 100, 0.7, 30)
    torch.testing.assert_close(boxes[-1], found.boxes[0][found.valid[0]])
    assert [len(one) for one in boxes][:4] == [len(told.anchors), 100, 100, 100]
    assert not torch.equal(boxes[2], boxes[3])


@pytest.mark.parametrize(
    "change",
    [
        {"stage": 2},
        {"before": 50},
        {"threshold": 0.2},
        {"after": 10},
        {"picture": "B"},
        *({"bug": b} for b in BUGS[1:]),
    ],
)
def test_every_control_of_the_funnel_changes_numbers_and_pictures(funnel_explorer, change):
    start = {"stage": 7, "before": 100, "threshold": 0.5, "after": 30, "picture": "A", "bug": BUGS[0]}
    funnel_explorer.set(**start)
    before, canvas, chart = repr(funnel_explorer), funnel_explorer.canvas.boxes.tobytes(), funnel_explorer.chart.value
    counts = funnel_explorer.numbers["counts"]
    funnel_explorer.set(**change)
    changed = funnel_explorer.numbers["counts"] != counts or repr(funnel_explorer) != before
    assert changed or change == {"picture": "B"}
    assert funnel_explorer.canvas.boxes.tobytes() != canvas or change == {"before": 50}  # the best come first anyway
    assert funnel_explorer.chart.value != chart or "bug" in change or "picture" in change


def test_nms_before_decode_leaves_duplicates(funnel_explorer):
    start = {"stage": 7, "before": 100, "threshold": 0.5, "after": 30, "picture": "A"}
    assert funnel_explorer.set(**start, bug=BUGS[0]).numbers["duplicates at the end"] == 0
    assert funnel_explorer.set(bug=BUGS[3]).numbers["reach outside"] > 0
    assert funnel_explorer.numbers["duplicates at the end"] > 0


# --- four boxes -----------------------------------------------------------------------------------------------------


def test_the_four_boxes_have_the_ious_that_were_chosen():
    iou = box_iou(BOXES, BOXES)
    assert iou[0, 1:].tolist() == [0.75, 0.5, 0.625]
    assert iou[2, 3] == 0.75


@pytest.mark.parametrize(
    ("threshold", "group", "winners"),
    [
        (0.7, SAME, "bb1 bb3"),
        (0.625, SAME, "bb1 bb3"),
        (0.6, SAME, "bb1 bb3"),
        (0.45, SAME, "bb1"),
        (0.75, SAME, "bb1 bb2 bb3 bb4"),
        (0.7, OTHER, "bb1 bb3 bb4"),
        (0.45, OTHER, "bb1 bb4"),
    ],
)
def test_who_survives(threshold, group, winners):
    assert four_boxes(1, threshold, group, BOXES, 3)["at the end"] == winners


def test_bb4_has_three_reasons_to_be_there():
    first = four_boxes(1, 0.7, SAME, BOXES, 3)
    assert first["strikes"] == "bb2"
    assert first["bb4"].startswith("IoU 0.6250 with bb1 is not above")
    assert first["bb1 strikes it"] == "below 0.6250"
    assert four_boxes(1, 0.625, SAME, BOXES, 3)["strikes"] == "bb2"  # equality does not strike
    assert four_boxes(1, 0.624, SAME, BOXES, 3)["strikes"] == "bb2 bb4"
    assert "another class" in four_boxes(1, 0.4, OTHER, BOXES, 3)["bb4"]
    second = four_boxes(2, 0.7, SAME, BOXES, 3)
    assert (second["winner"], second["strikes"]) == ("bb3", "bb4")
    assert suppressed_by(BOXES, SCORES, 0.7).tolist() == [-1, 0, -1, 2]


@pytest.mark.parametrize("change", [{"round": 2}, {"threshold": 0.5}, {"group": OTHER}, {"chosen": 1}])
def test_every_control_of_the_four_boxes_changes_numbers(change):
    explorer = FourBoxes(torch.zeros(3, 240, 320), BOXES + 20, alt="black")
    before, chart = repr(explorer), explorer.chart.value
    explorer.set(**change)
    assert repr(explorer) != before
    assert explorer.chart.value != chart or "chosen" in change


def test_a_box_can_be_dragged():
    explorer = FourBoxes(torch.zeros(3, 240, 320), BOXES + 20, alt="black")
    before = repr(explorer)
    moved = BOXES + 20
    moved[0, [0, 2]] += 3
    explorer.canvas.boxes = moved
    assert repr(explorer) != before


# --- the fate of a box ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lives(model, pictures):
    return {name: examine(model, one, NAMES) for name, one in zip("AB", pictures, strict=True)}


def test_a_life_agrees_with_the_library(model, pictures, lives):
    life, picture = lives["A"], pictures[0]
    size = torch.tensor([[96.0, 128.0]])
    with torch.no_grad():
        stages = model.stages(picture.image[None], size, rounds=64)
    for place, anchor in enumerate(stages.proposals.index[0][stages.proposals.valid[0]].tolist()):
        assert life.kept[anchor] == place
    detections = sum("DETECTION" in word for word in life.verdict)
    assert 0 < detections <= int(stages.detections.valid.sum())
    assert life.drawn.sum(dim=1).tolist() == [min(256, int((life.match.status >= 0).sum()))] * len(life.drawn)


def test_every_kind_of_fate_is_told(lives):
    words = [box_fate(rank, 0, "A", lives=lives)["NMS"].split()[0] for rank in range(len(lives["A"].order))]
    assert set(words) >= {"not", "struck", "survives"}
    struck = words.index("struck")
    numbers = box_fate(struck, 0, "A", lives=lives)
    pair = lives["A"].boxes[[numbers["row"], numbers["striker"]]]
    assert box_iou(pair[:1], pair[1:]).item() > 0.7
    assert numbers["head"] == "never sees it"


def test_controls_and_clicks_of_the_fate_change_numbers(lives):
    explorer = BoxFate(lives, alt="noise")
    before = repr(explorer)
    assert repr(explorer.set(rank=5)) != before
    life = lives["A"]
    often = life.drawn.sum(dim=0)
    anchor = int(((often > 0) & (often < len(life.drawn))).nonzero()[0])  # drawn in some epochs
    rank = int((life.order == anchor).nonzero())
    assert {explorer.set(rank=rank, epoch=epoch).numbers["drawn"] for epoch in range(10)} == {"yes", "no"}
    now = repr(explorer.set(rank=0, epoch=0))
    assert repr(explorer.set(picture="B")) != now
    explorer.set(picture="A")
    explorer.canvas.clicked = [100.0, 50.0]
    assert explorer.controls["rank"].value == box_at([100.0, 50.0], lives["A"])
    x1, y1, x2, y2 = lives["A"].boxes[explorer.numbers["row"]].tolist()
    assert x1 <= 100 <= x2
    assert y1 <= 50 <= y2


# --- recall ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(model, pictures):
    refined = [refine(ask(model.rpn, model.trunk, one), 100) for one in pictures]
    search = [torch.rand(20, 4) * 40 + torch.tensor([0.0, 0, 60, 60]) for _ in pictures]
    return tabulate(refined, search, [one.boxes for one in pictures]), refined, search


def test_the_tables_count_as_the_metric_does(tables, pictures):
    table, refined, search = tables
    truths = [one.boxes for one in pictures]
    sources = {"RPN, NMS 0.7": strike(refined, 0.7), SEARCH: search, NO_NMS: [r.boxes for r in refined]}
    for count in range(1, 40):
        for limit in (0.1, 0.5):  # few boxes of this RPN reach 0.5
            numbers = proposal_recall_by(count, limit, 0.7, tables=table)
            at = torch.tensor([limit]).double()
            for name, boxes in sources.items():
                right = proposal_recall(boxes, truths, thresholds=at, count=count)
                assert numbers["recall"][name] == right.item()


@pytest.mark.parametrize("change", [{"count": 90}, {"limit": 0.7}, {"strike": 0.3}])
def test_every_control_of_the_recall_changes_the_numbers(tables, change):
    explorer = ProposalRecall(tables[0])
    explorer.set(count=5)
    before, chart = repr(explorer), explorer.chart.value
    explorer.set(**change)
    assert repr(explorer) != before
    assert explorer.chart.value != chart
