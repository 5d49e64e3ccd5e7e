"""The explorers of lesson 15 and the papers' tables beside ours: each control changes the numbers, no false verdict."""

import pytest
import torch

from rcnnlib.engine.bootstrap import Difference
from rcnnlib.engine.experiments import Result
from rcnnlib.engine.studies import individuals_of_the_test
from rcnnlib.view import beside
from rcnnlib.view.beside import Paper
from rcnnlib.view.explorers.base import Explorer
from rcnnlib.view.explorers.detector_ratios import DetectorRatios, Seconds, detector_ratios
from rcnnlib.view.explorers.frames_per_second import FramesPerSecond, Stages, frames_per_second
from rcnnlib.view.explorers.paired_runs import PairedRuns, paired_runs
from rcnnlib.view.explorers.redrawn_individuals import (
    Individuals,
    RedrawnIndividuals,
    individuals_of_scrapbook,
    redrawn_individuals,
)
from rcnnlib.view.explorers.search_or_rpn import IOUS, SearchOrRPN, search_or_rpn

SEEDS, DRAWS = 5, 40


def made(name: str, levels: dict[str, float], *, seed: int = 0, extra: tuple[str, ...] = ()) -> Result:
    """Return a result whose conditions rise and fall together from draw to draw, at the given levels."""
    generator = torch.Generator().manual_seed(seed)
    shared = 0.05 * torch.randn(DRAWS, generator=generator)
    values = {}
    for condition, level in levels.items():
        own = level + 0.002 * torch.randn(SEEDS, generator=generator)
        drawn = own[:, None] + shared + 0.002 * torch.randn(SEEDS, DRAWS, generator=generator)
        values[condition] = {"AP50": own.tolist(), "AP50 drawn": drawn.tolist()}
        values[condition] |= {figure: (own + 0.1).tolist() for figure in extra}
    return Result(name, "?", "a setting", values, [])


TASKS = made("tasks", {"alone": 0.30, "in turn": 0.40, "both": 0.40}, extra=("seconds",))
OTHERS = made("others", {"none": 0.2, "some": 0.25}, seed=1)
PAPER = Paper("a paper, Table 1", {"alone": 62.6, "in turn": 64.0, "both": 66.9})


def assert_moves(shown: Explorer, change: dict) -> None:
    """A control changes what is computed, what is said and what is drawn."""
    before, numbers, picture = repr(shown), str(shown.numbers), shown.chart.value
    shown.set(**change)
    assert str(shown.numbers) != numbers
    assert repr(shown) != before
    assert shown.chart.value != picture


# --- beside ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "gap", "said"),
    [
        (Difference(0.1, 0.05, 0.2), 3.0, beside.SAME),
        (Difference(-0.1, -0.2, -0.05), -3.0, beside.SAME),
        (Difference(0.1, 0.05, 0.2), -3.0, beside.OTHER),
        (Difference(0.1, -0.05, 0.2), 3.0, beside.UNSEEN),
        (Difference(0.1, -0.05, 0.2), None, beside.UNSEEN),
        (Difference(0.1, 0.05, 0.2), 0.1, beside.NEW),
        (Difference(0.1, 0.05, 0.2), None, beside.OURS_ONLY),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(ours, gap, said):
    assert beside.order(ours, gap) == said


def test_the_table_of_verdicts_has_a_line_for_each_pair():
    lines = beside.verdicts(TASKS, PAPER, beside.against(TASKS, "both")).splitlines()
    assert len(lines) == 3
    assert all(part in lines[1] for part in ("alone − both", "-4.3", beside.SAME))
    assert all(part in lines[2] for part in ("-2.9", beside.UNSEEN))
    assert "paper" not in beside.verdicts(TASKS, None, [("alone", "both")])


def test_half_widths_come_from_the_intervals():
    low, high = beside.could_see(TASKS, beside.against(TASKS, "both"))
    halves = [(d.high - d.low) / 2 for d in (TASKS.difference("alone", "both"), TASKS.difference("in turn", "both"))]
    assert (low, high) == (min(halves), max(halves))


def test_times_as_long_are_ratios_seed_by_seed():
    slow = {name: {"cpu seconds": seconds} for name, seconds in (("a", [2.0, 4.0]), ("b", [3.0, 4.0]))}
    said = beside.times_as_long(TASKS._replace(values=slow), "a")
    assert said == "b takes 1.25 times as long as a (1.00 to 1.50)"
    assert beside.times_as_long(TASKS, "both") == ""


def test_paper_and_ours_never_share_an_axis():
    fig = beside.beside(TASKS, PAPER, "both")
    paper, ours, difference = fig.axes
    assert not paper.get_shared_x_axes().joined(paper, ours)
    assert min(line.get_xdata()[0] for line in paper.lines) > 60
    assert all(max(line.get_xdata()) < 1 for line in ours.lines)
    assert len([line for line in ours.lines if len(line.get_xdata()) == SEEDS]) == 3
    assert fig.alt == "tasks, 3 rows; differs from both: alone"
    assert len(beside.beside(TASKS, None, "both").axes) == 2
    assert "both" in difference.get_xlabel()


# --- redrawn individuals ---------------------------------------------------------------------------------------------


def test_the_draws_are_those_of_the_stored_experiments():
    ours, (_, theirs) = individuals_of_scrapbook(), individuals_of_the_test()
    assert sorted(ours.weights.T.tolist()) == sorted(theirs.T.tolist())
    assert (sum(ours.objects), len(ours.names)) == (335, 25)
    assert ours.classes == sorted(ours.classes, key=ours.classes.index), "class by class"


WHO = Individuals(["a", "b", "c"], ["x", "x", "y"], [3, 3, 3], torch.randint(3, (DRAWS, 3)).double())


def test_redrawn_individuals_says_who_is_drawn():
    weights = torch.tensor([[0.0, 2, 1], [1, 1, 1]])
    ap = {"p / q": (torch.tensor([0.4, 0.5]), torch.tensor([0.3, 0.2]))}
    numbers = redrawn_individuals(0, "p / q", weights=weights, names=["a", "b", "c"], ap=ap)
    assert (numbers["left out"], numbers["most often"]) == (1, "b (2 times)")
    assert numbers["difference"] == pytest.approx(0.1)
    assert numbers["the difference"] == pytest.approx(0.2)


@pytest.mark.parametrize("change", [{"draw": 7}, {"pair": "both / in turn"}])
def test_every_control_of_redrawn_individuals_changes_the_numbers(change):
    pairs = [("both", "alone"), ("both", "in turn")]
    shown = RedrawnIndividuals(TASKS, pairs, WHO)
    assert_moves(shown, change)


# --- paired runs -----------------------------------------------------------------------------------------------------

RESULTS = {"tasks": TASKS, "others": OTHERS}


def test_paired_runs_gives_the_interval_of_the_library():
    every = {"results": RESULTS, "papers": {"tasks": PAPER}}
    numbers = paired_runs("tasks", "both", "alone", "AP50", SEEDS, **every)
    assert numbers["interval"] == TASKS.difference("both", "alone")
    assert (numbers["verdict"], numbers["paper"]) == (beside.SAME, pytest.approx(4.3))
    assert paired_runs("others", "some", "none", "AP50", 5, **every)["verdict"] == beside.OURS_ONLY
    assert paired_runs("tasks", "both", "both", "AP50", 5, **every)["verdict"] == "one and the same condition"
    without = paired_runs("tasks", "both", "alone", "seconds", 3, **every)
    assert (without["interval"], without["verdict"]) == (None, "all seeds say the same")
    assert len(without["differences"]) == 3


CHANGES = [{"seeds": 4}, {"experiment": "others"}, {"first": "in turn"}, {"second": "in turn"}, {"figure": "seconds"}]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_paired_runs_changes_the_numbers(change):
    shown = PairedRuns(RESULTS, {"tasks": PAPER})
    assert_moves(shown, change)


def test_the_menus_follow_the_experiment():
    shown = PairedRuns(RESULTS, {}).set(experiment="others", first="none", second="some")
    assert shown.controls["first"].options == ("none", "some")
    assert shown.numbers["interval"].mean == OTHERS.difference("none", "some").mean or shown.state["seeds"] == 1
    shown.set(experiment="tasks")
    assert (shown.state["first"], shown.state["second"]) == ("both", "alone")


# --- Selective Search or RPN -----------------------------------------------------------------------------------------


def recalls() -> Result:
    values = {}
    for source, level in (("SS", 0.9), ("RPN", 0.8)):
        for count in (30, 100, 300):
            values[f"{source}, {count}"] = {f"recall {iou}": [level * count / 300 * (1.4 - iou)] * 2 for iou in IOUS}
    return Result("proposals", "?", "", values, [])


def test_search_or_rpn_reads_the_stored_recalls():
    numbers = search_or_rpn(0.7, 100, result=recalls())
    assert numbers["recall"]["RPN"] == pytest.approx(0.8 / 3 * 0.7)
    assert numbers["by count"]["RPN"][1] == numbers["recall"]["RPN"] == numbers["by iou"]["RPN"][2]
    assert numbers["left with 30 of 300"]["Selective Search"] == pytest.approx(0.1)


@pytest.mark.parametrize("change", [{"iou": 0.8}, {"count": 30}])
def test_every_control_of_search_or_rpn_changes_the_numbers(change):
    shown = SearchOrRPN(recalls())
    assert_moves(shown, change)


# --- times as quick --------------------------------------------------------------------------------------------------

PAPERS = {"R-CNN": Seconds(1.0, 9.0), "Fast R-CNN": Seconds(1.0, 1.0)}
OURS = {"R-CNN": Seconds(1.0, 3.0), "Fast R-CNN": Seconds(1.0, 1.0)}


def test_detector_ratios_by_hand():
    assert detector_ratios("R-CNN", False, papers=PAPERS, ours=OURS)["papers"]["Fast R-CNN"] == 9
    assert detector_ratios("R-CNN", True, papers=PAPERS, ours=OURS)["papers"]["Fast R-CNN"] == 5
    assert detector_ratios("Fast R-CNN", True, papers=PAPERS, ours=OURS)["ours"]["R-CNN"] == 0.5


@pytest.mark.parametrize("change", [{"base": "Fast R-CNN"}, {"counted": True}])
def test_every_control_of_detector_ratios_changes_the_numbers(change):
    shown = DetectorRatios(PAPERS, OURS)
    assert_moves(shown, change)


# --- pictures a second -----------------------------------------------------------------------------------------------

SOURCES = {"small": Stages(10.0, 5.0, 10.0, 200), "large": Stages(141.0, 10.0, 47.0, 300)}


def test_frames_per_second_by_hand():
    numbers = frames_per_second(10.0, 5.0, 5.0, 200, "small")
    assert (numbers["milliseconds"], numbers["pictures a second"]) == (25, 40)
    assert numbers["regions in real time"] == 500  # 25 ms are left, 5 for a hundred
    assert frames_per_second(141.0, 10.0, 15.0, 300, "large")["regions in real time"] == 0


@pytest.mark.parametrize(
    "change", [{"regions": 400}, {"trunk": 20.0}, {"proposals": 9.0}, {"head": 8.0}, {"source": "large"}]
)
def test_every_control_of_frames_per_second_changes_the_numbers(change):
    shown = FramesPerSecond(SOURCES)
    assert_moves(shown, change)


def test_a_source_sets_all_sliders():
    shown = FramesPerSecond(SOURCES).set(source="large")
    assert shown.numbers["milliseconds"] == pytest.approx(198, abs=0.1)
    shown.set(regions=10)
    assert shown.controls["trunk"].value == 141, "moving a slider does not bring the source back"
