"""The explorers of lesson 17: every control changes the numbers, and the verdicts are right."""

import pytest
import torch

from rcnnlib.engine.clinic import FAULTS, read_clinic
from rcnnlib.view.explorers.clinic import Ward, case_sheet
from rcnnlib.view.explorers.clinic_diagnosis import PREDICTIONS, Diagnosis
from rcnnlib.view.explorers.clinic_probe import WHAT, Probe

CLINIC = read_clinic()


@pytest.mark.parametrize("change", [{"picture": 2}, {"patient": "B"}, {"patient": "D"}, {"least": 0.9}])
def test_every_control_of_the_ward_changes_the_numbers(change):
    shown = Ward(CLINIC)
    before, boxes = repr(shown), shown.canvas.boxes.copy()
    shown.set(**change)
    assert repr(shown) != before
    assert shown.canvas.boxes.shape != boxes.shape or (shown.canvas.boxes != boxes).any()


def test_the_ward_counts_every_box_once():
    numbers = Ward(CLINIC, "D").numbers
    for who in ("healthy", "patient"):
        errors = numbers[who]["errors"]
        assert sum(errors.values()) - errors["missed"] == numbers[who]["boxes"]


CHANGES = [
    {"patient": "D"},
    {"what": WHAT[1]},
    {"what": WHAT[2]},
    {"dx": 4},
    {"dy": -3},
    {"axes": True},
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_control_of_the_probe_changes_the_numbers(change):
    shown = Probe(CLINIC)
    before = repr(shown)
    shown.set(**change)
    assert repr(shown) != before


def test_the_picture_of_the_probe_changes_its_boxes():
    shown = Probe(CLINIC)
    before = shown.numbers["here"]
    shown.set(picture=3)
    assert shown.numbers["here"].shape != before.shape or (shown.numbers["here"] != before).any()


def test_the_probe_shows_the_colours_that_the_network_gets():
    shown = Probe(CLINIC, "healthy")
    well = shown.canvas.picture
    assert shown.set(colours=True).canvas.picture != well
    assert shown.set(patient="E").canvas.picture == well


def test_healthy_boxes_fit_best_where_they_are():
    assert Probe(CLINIC, "healthy").numbers["best dx"] in (-1, 0, 1)


def test_the_probe_mends_what_it_should():
    shown = Probe(CLINIC, "C").set(what=WHAT[2])
    assert shown.numbers["mean IoU"] < 0.6
    assert shown.set(axes=True).numbers["mean IoU"] == pytest.approx(1)
    assert Probe(CLINIC, "G").set(what=WHAT[1]).numbers["best dx"] in (3, 4, 5)
    shown = Probe(CLINIC, "E")
    assert shown.numbers["right"] < shown.set(colours=True).numbers["right"] - 0.2


@pytest.mark.parametrize("letter", FAULTS)
def test_the_desk_accepts_one_name(letter):
    shown = Diagnosis(CLINIC)
    said = {name: shown.set(patient=letter, name=name).line.value for name in PREDICTIONS}
    assert [name for name, line in said.items() if line.startswith("✓")] == [FAULTS[letter].name]
    assert all("measured" in line for line in said.values())


def test_the_switch_of_the_desk_shows_the_start():
    shown = Diagnosis(CLINIC)
    before = shown.chart.value
    shown.set(curves=True)
    assert shown.chart.value != before
    assert shown.numbers["from the start"]


def test_a_case_sheet_says_its_numbers():
    assert "patient A: AP50" in repr(case_sheet(CLINIC, "A"))
    assert torch.tensor(CLINIC["shown"]).numel() == 6
