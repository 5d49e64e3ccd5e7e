"""Each check of lesson 16 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.checks import SOLUTIONS
from rcnnlib.datasets.coco import load_coco, wild
from rcnnlib.datasets.paths import data_dir


def boxes_by_table(annotations, category_ids):
    labels = {number: label for label, number in enumerate(sorted(category_ids), start=1)}
    kept = [note for note in annotations if not note.get("iscrowd")]
    table = torch.tensor([note["bbox"] for note in kept]).reshape(-1, 4)
    last = torch.tensor([float(labels[note["category_id"]]) for note in kept]).reshape(-1, 1)
    return torch.cat((table[:, :2], table[:, :2] + table[:, 2:], last), dim=1)


def split_by_counting(groups, order, count):
    held, photos = [], groups.tolist()
    for individual in order.tolist():
        if sum(group in held for group in photos) < count:
            held.append(individual)
    return torch.tensor([group in held for group in photos])


def last_by_index(scores):
    return scores[:, [*range(1, scores.shape[1]), 0]]


RIGHT = {"my_coco_boxes": boxes_by_table, "my_split": split_by_counting, "my_background_last": last_by_index}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


def test_the_reference_reads_as_the_library_does():
    file, photos = load_coco(data_dir() / "wild" / "annotations.json"), wild()
    for place in (0, 3, 25, 40):
        notes = [note for note in file["annotations"] if note["image_id"] == photos.images[place][0]]
        ours = SOLUTIONS["my_coco_boxes"](notes, [category["id"] for category in file["categories"]])
        theirs = photos[place]
        torch.testing.assert_close(ours[:, :4], theirs.boxes)
        assert ours[:, 4].tolist() == theirs.labels.tolist()


WRONG = [
    ("my_coco_boxes", lambda *a: boxes_by_table(*a)[:, :4], "yours has shape (1, 4), right is (1, 5)"),
    ("my_coco_boxes", lambda *a: boxes_by_table(*a).tolist(), "something of type list"),
    ("my_coco_boxes", lambda *a: boxes_by_table(*a).int(), "decimal numbers"),
    ("my_coco_boxes", lambda n, c: torch.tensor([x["bbox"] + [1.0] for x in n]), "took its last two numbers"),
    ("my_split", lambda *a: split_by_counting(*a).nonzero()[:, 0], "shape (2,), right is (4,)"),
    ("my_split", lambda g, o, c: torch.rand(len(g)) > 2, "Individuals 2 and 0"),
    ("my_background_last", lambda s: s[:, 1:], "yours has shape (1, 3)|The background is lost"),
    ("my_background_last", lambda s: s.sort(dim=1).values, "[[1, 5], [2, 6]]|random"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
