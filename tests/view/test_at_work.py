"""The detector of lesson 00: each control changes the numbers; a found box has the right class."""

import pytest
import torch

from rcnnlib.datasets.paths import data_dir
from rcnnlib.engine.detect import Found
from rcnnlib.view.explorers.at_work import AtWork, Seen, above

NAMES = ("bird", "mammal")


def seen(_photo):
    boxes = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 10], [0.0, 0, 10, 8]])
    found = Found(None, torch.zeros(3, 20, 40), boxes, torch.tensor([0.9, 0.6, 0.3]), torch.tensor([1, 2, 2]))
    truth = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 4]])  # the second overlaps by 40 of 100
    return Seen(found, truth, ["mammal", "mammal"])


@pytest.mark.parametrize(
    ("score", "shown", "found"),
    [
        (0.9, ["bird"], 0),  # at the right place, with the wrong name
        (0.5, ["bird", "mammal"], 0),  # IoU 0.4 is not enough
        (0.3, ["bird", "mammal", "mammal"], 1),  # IoU 0.8
        (0.95, [], 0),
    ],
)
def test_a_hand_drawn_box_is_found_by_its_class_and_place(score, shown, found):
    numbers = above("", score, seen=seen, names=NAMES)
    assert numbers["names"] == shown
    assert (numbers["hand-drawn"], numbers["of these found"]) == (2, found)


def test_both_controls_change_the_numbers_and_the_picture():
    explorer = AtWork()
    before, boxes = repr(explorer), len(explorer.canvas.boxes)
    explorer.set(score=0.05)
    assert repr(explorer) != before
    assert len(explorer.canvas.boxes) > boxes
    before, picture = repr(explorer), explorer.canvas.picture
    explorer.set(photo=explorer.controls["photo"].options[1][1])
    assert repr(explorer) != before
    assert explorer.canvas.picture != picture
    assert "hand-drawn boxes found" in repr(explorer)
    assert explorer.to_image().width > 400


def test_a_photo_of_ones_own_has_no_hand_drawn_boxes(tmp_path):
    mine = tmp_path / "mine.jpg"
    mine.write_bytes((data_dir() / "wild/images/dog.jpg").read_bytes())
    assert "hand-drawn" not in repr(AtWork([mine]))
    with pytest.raises(FileNotFoundError, match="no picture at"):
        AtWork([tmp_path / "other.jpg"])
