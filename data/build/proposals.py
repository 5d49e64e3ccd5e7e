"""Make ``data/proposals``: the Selective Search boxes of every picture of Scrapbook, Wild and Treetops.

They are computed by our own implementation, which takes about a second a picture, so a full run takes a quarter of an
hour; a file that is there is kept, so that an interrupted run goes on where it ended. Delete a file to make it anew.

Run: ``python data/build/proposals.py [NAME ...]``, then ``python data/build/manifest.py``
"""

import sys
from collections.abc import Callable, Iterable

import _sources
from tqdm import tqdm

from rcnnlib.datasets.coco import scrapbook, wild
from rcnnlib.datasets.proposals import save_proposals
from rcnnlib.datasets.transforms import Example
from rcnnlib.datasets.voc import treetops
from rcnnlib.ops.selective_search import selective_search

OUT = _sources.DATA / "proposals"
SETS: dict[str, Callable[[], Iterable[Example]]] = {
    "wild": wild,
    **{f"treetops_{split}": lambda split=split: treetops(split) for split in ("val", "test", "train")},
    **{f"scrapbook_{split}": lambda split=split: scrapbook(split) for split in ("test", "val", "train")},
}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SETS:
        if (path := OUT / f"{name}.npz").exists():
            print(f"{path.name} is there")
            continue
        pictures = SETS[name]()
        boxes = {example.id: selective_search(example.image) for example in tqdm(pictures, desc=name)}
        save_proposals(path, boxes)
        count = sum(map(len, boxes.values()))
        print(f"{path.name}: {len(boxes)} pictures, {count} boxes, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
