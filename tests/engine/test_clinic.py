"""The clinic: each patient differs from the healthy detector in one place, and its stored case shows it."""

import pytest
import torch

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import collate
from rcnnlib.engine.clinic import CLASSES, FAULTS, HEALTHY, SCENERY, Reader, Signs, build, read_clinic
from rcnnlib.ops.box_coder import HEAD_STD, encode

SIGNS = Signs(12, seed=2)
PARTS = [letter for letter, fault in FAULTS.items() if fault.part is not None]
READINGS = [letter for letter, fault in FAULTS.items() if fault.part is None]
CLINIC = read_clinic()


def test_eight_patients_with_eight_faults():
    assert "".join(FAULTS) == "ABCDEFGH"
    assert len({fault.name for fault in FAULTS.values()}) == 8
    assert all((fault.part is None) != (fault.reading is HEALTHY.reading) for fault in FAULTS.values())


@pytest.mark.parametrize("letter", FAULTS)
def test_a_patient_starts_with_the_healthy_weights(letter):
    ours, theirs = build(FAULTS[letter]).state_dict(), build().state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_only_the_paint_tells_a_red_triangle_from_scenery():
    colours = {3: torch.zeros(3), SCENERY: torch.zeros(3)}
    for index in range(60):
        drawn = Shapes.__getitem__(Signs(60), index)
        for box, label in zip(drawn.boxes.int().tolist(), drawn.labels.tolist(), strict=True):
            x1, _, x2, y2 = box
            if label in colours:
                colours[label] += drawn.image[:, y2 - 3, (x1 + x2) // 2]
    assert colours[3].argmax() == 0
    assert colours[SCENERY].argmax() == 2


def test_scenery_is_drawn_but_no_object():
    both = [(Shapes.__getitem__(Signs(60), index), Signs(60)[index]) for index in range(60)]
    assert any((drawn.labels == SCENERY).any() for drawn, _ in both)
    for drawn, one in both:
        assert torch.equal(one.image, drawn.image)
        assert torch.equal(one.labels, drawn.labels[drawn.labels != SCENERY])
        assert torch.equal(one.boxes, drawn.boxes[drawn.labels != SCENERY])


@pytest.mark.parametrize("letter", READINGS)
def test_a_misreading_is_undone_by_its_inverse(letter):
    place = next(place for place, one in enumerate(SIGNS) if len(one.boxes) > 1)
    read, right = Reader(SIGNS, FAULTS[letter].reading)[place], SIGNS[place]
    inverse = {"B": lambda e: e._replace(labels=e.labels + 1)}.get(letter, FAULTS[letter].reading)
    again = inverse(read)
    assert any(not torch.equal(getattr(read, name), getattr(right, name)) for name in ("image", "boxes", "labels"))
    assert all(torch.equal(getattr(again, name), getattr(right, name)) for name in ("image", "boxes", "labels"))


@torch.no_grad()
def test_anchors_of_g_stand_half_a_stride_off():
    features = torch.zeros(1, 64, 12, 12)
    assert torch.equal(build(FAULTS["G"]).rpn(features)[0], build().rpn(features)[0] - 4)


@torch.no_grad()
def test_h_ignores_no_anchor():
    batch = collate([one for one in SIGNS if len(one.boxes)][:4], seed=0, epoch=0)
    sick, well = build(FAULTS["H"]).rpn, build().rpn
    anchors = well(torch.zeros(4, 64, 12, 12))[0]
    ours, theirs = sick.match(anchors, batch).status, well.match(anchors, batch).status
    assert (theirs == -1).any()
    assert torch.equal(ours, theirs.clamp(min=0))


@torch.no_grad()
def test_f_mixes_scores_and_leaves_deltas():
    features = torch.rand(2, 64, 12, 12)
    (_, scores, deltas), (_, right, same) = build(FAULTS["F"]).rpn(features), build().rpn(features)
    assert torch.equal(deltas, same)
    assert not torch.allclose(scores, right)
    assert torch.allclose(scores.flatten(1).sort().values, right.flatten(1).sort().values)


def detect(letter: str | None, proposals: torch.Tensor, targets: torch.Tensor) -> list[list[float]]:
    rows = len(proposals)
    deltas = encode(targets, proposals, std=HEAD_STD)[None, :, None].expand(1, rows, len(CLASSES), 4)
    scores = torch.tensor([0.0, 9, 0, 0]).expand(1, rows, 4)
    head = build(FAULTS[letter] if letter else HEALTHY).head
    valid = torch.ones(1, rows, dtype=torch.bool)
    found = head.detect(proposals[None], valid, scores, deltas, torch.tensor([[96.0, 96]]))
    return found.boxes[0][found.scores[0] > 0.5].round().tolist()


def test_a_applies_normalised_deltas():
    box, object_ = torch.tensor([[20.0, 20, 40, 40]]), torch.tensor([[22.0, 20, 42, 40]])
    assert detect(None, box, object_) == [[22, 20, 42, 40]]
    assert detect("A", box, object_) == [[40, 20, 60, 40]]  # 2 / 20 / 0.1 = 1 width


def test_d_leaves_copies():
    boxes, object_ = torch.tensor([[20.0, 20, 40, 40], [30, 20, 50, 40]]), torch.tensor([[25.0, 20, 45, 40]] * 2)
    assert detect(None, boxes, object_) == [[25, 20, 45, 40]]
    assert detect("D", boxes, object_) == [[25, 20, 45, 40]] * 2


def test_the_stored_cases_are_complete():
    assert set(CLINIC["cases"]) == {"healthy", *FAULTS}
    for case in CLINIC["cases"].values():
        assert {len(values) for values in case["curves"].values()} == {CLINIC["steps"] // CLINIC["window"]}
        assert len(case["pictures"]) == len(CLINIC["shown"]) == 6


@pytest.mark.parametrize("letter", [letter for letter, fault in FAULTS.items() if not fault.learned])
def test_a_fault_of_test_alone_has_the_healthy_curves(letter):
    assert CLINIC["cases"][letter]["curves"] == CLINIC["cases"]["healthy"]["curves"]


def test_symptoms_can_be_told_apart():
    signs = {letter: case["vital signs"] for letter, case in CLINIC["cases"].items()}
    errors = {letter: one["errors"] for letter, one in signs.items()}
    well, end = errors["healthy"], {n: c["curves"]["rpn_class"][-1] for n, c in CLINIC["cases"].items()}
    assert signs["healthy"]["AP50"] > 0.9
    assert errors["A"]["localisation"] + errors["A"]["background"] > 100
    assert signs["B"]["AP50 of each class"][2] < 0.05
    assert signs["C"]["recall of 20 proposals"][0] < 0.7
    assert errors["D"]["duplicate"] > 10 * max(1, well["duplicate"])
    circle, square, triangle = (
        sick - right
        for sick, right in zip(signs["E"]["AP50 of each class"], signs["healthy"]["AP50 of each class"], strict=True)
    )
    assert triangle < -0.5 < -0.1 < min(circle, square)
    assert end["F"] > 5 * end["healthy"]
    assert signs["G"]["recall of 20 proposals"][1] < signs["healthy"]["recall of 20 proposals"][1] - 0.2
    assert end["H"] > 2 * end["healthy"]
