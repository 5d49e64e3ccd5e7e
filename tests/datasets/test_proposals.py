import numpy as np
import pytest
import torch

from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.proposals import load_proposals, save_proposals, selective_search_boxes
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.selective_search import selective_search


def test_there_and_back(tmp_path):
    boxes = {7: torch.tensor([[0.0, 1.0, 300.0, 65535.0], [2.0, 3.0, 4.0, 5.0]]), 3: torch.empty(0, 4)}
    save_proposals(tmp_path / "p.npz", boxes)
    back = load_proposals(tmp_path / "p.npz")
    assert list(back) == [7, 3]
    assert all(torch.equal(back[key], boxes[key]) for key in boxes)


@pytest.mark.parametrize("box", [[0.5, 0, 1, 1], [-1, 0, 1, 1], [0, 0, 70000, 1]])
def test_what_16_bits_cannot_hold_is_refused(tmp_path, box):
    with pytest.raises(ValueError, match="is not made of whole pixels"):
        save_proposals(tmp_path / "p.npz", {0: torch.tensor([box], dtype=torch.float64)})


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data/build/proposals\.py"):
        load_proposals(tmp_path / "none.npz")


def test_the_stored_boxes_are_what_selective_search_finds_now():
    stored, photos = selective_search_boxes("wild"), wild()
    smallest = min(range(len(photos)), key=lambda index: photos[index].image.numel())
    example = photos[smallest]
    found = {tuple(box) for box in selective_search(example.image).tolist()}
    kept = {tuple(box) for box in stored[example.id].tolist()}
    # The order of merges hangs on sums of floats, so another processor may part at a tie; nearly all must agree.
    assert len(found & kept) >= 0.9 * len(found | kept)


@pytest.mark.parametrize("path", sorted((data_dir() / "proposals").glob("*.npz")), ids=lambda path: path.stem)
def test_every_stored_file_is_whole(path):
    with np.load(path) as file:
        assert len(file["ids"]) == len(set(file["ids"].tolist())) == len(file["counts"])
        assert file["counts"].sum() == len(file["boxes"])
    boxes = torch.cat(tuple(load_proposals(path).values()))
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_they_find_the_animals_of_wild():
    stored = selective_search_boxes("wild")
    best = torch.cat([box_iou(photo.boxes, stored[photo.id]).amax(dim=1) for photo in wild() if len(photo.boxes)])
    assert (best >= 0.5).float().mean() >= 0.95
