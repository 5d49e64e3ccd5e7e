"""Selective Search boxes that were computed once and stored: what Fast R-CNN calls pre-computed proposals.

A file is a compressed npz with ``ids`` (P,), ``counts`` (P,) and ``boxes`` (sum of counts, 4): the boxes of all P
pictures one after the other, each picture's in the order in which Selective Search ranks them. Selective Search gives
whole pixels, so 16 bits a number lose nothing.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.transforms import Example


def save_proposals(path: str | Path, boxes: Mapping[int, Tensor]) -> None:
    """Store the boxes (N, 4) of each picture under its id.

    Raises:
        ValueError: a corner is negative, above 65535, or lies between two pixels.
    """
    ids, rows = list(boxes), [np.asarray(each, dtype=np.float64).reshape(-1, 4) for each in boxes.values()]
    flat = np.concatenate([np.empty((0, 4)), *rows])
    if (bad := (flat != flat.astype(np.uint16)).any(axis=1)).any():
        raise ValueError(f"box {flat[bad][0].tolist()} is not made of whole pixels from 0 to 65535; round and clip it")
    counts = np.array([len(each) for each in rows], dtype=np.int32)
    np.savez_compressed(path, ids=np.array(ids, dtype=np.int64), counts=counts, boxes=flat.astype(np.uint16))


def load_proposals(path: str | Path) -> dict[int, Tensor]:
    """Return the stored boxes (N, 4), float32, of each picture by its id.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no stored proposals at {path}; `python data/build/proposals.py` computes them")
    with np.load(path) as file:
        parts = torch.from_numpy(file["boxes"].astype(np.float32)).split(file["counts"].tolist())
        return dict(zip(file["ids"].tolist(), parts, strict=True))


def selective_search_boxes(name: str) -> dict[int, Tensor]:
    """Return our own boxes for a set: ``scrapbook_train``, ``_val``, ``_test``, ``wild``, ``treetops_train`` and so on.

    Boxes are in pixels of the pictures as stored, for Treetops of its tiles.
    """
    return load_proposals(data_dir() / "proposals" / f"{name}.npz")


class WithProposals:
    """A data set whose pictures carry boxes that were found beforehand, by the ids of the pictures.

    ``most`` keeps the first so many of each picture, which Selective Search ranks highest.
    """

    def __init__(self, dataset, boxes: Mapping[int, Tensor], *, most: int = 2000):
        self.dataset, self.boxes, self.most = dataset, boxes, most
        self.class_names = dataset.class_names

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        example = self.dataset[index]
        if example.id not in self.boxes:
            raise ValueError(
                f"picture {example.id} has no stored proposals; `python data/build/proposals.py` makes them"
            )
        return example._replace(proposals=self.boxes[example.id][: self.most])
