"""Add to the cards in ``data/weights`` what their recipes gave with other seeds.

Run after such a training: ``python data/build/card_seeds.py RUN/NAME.json ...``, then
``python data/build/weights_table.py`` and ``python data/build/manifest.py``
"""

import json
import sys
from pathlib import Path

import _sources

SAME = ("recipe", "data", "steps")


def with_seed(card: dict, other: dict) -> dict:
    """Return a card that also says what a run of the same recipe with another seed took and reached."""
    for key in SAME:
        if card[key] != other[key]:
            raise SystemExit(f"{key}: the card has {card[key]}, the other run {other[key]}")
    if card["seed"] == other["seed"]:
        raise SystemExit(f"{card['recipe']}: the stored weights are those of seed {card['seed']}; train with another")
    figures = {name: {key: found[key] for key in ("AP", "AP50")} for name, found in other["figures"].items()}
    seeds = card.get("other_seeds", {}) | {str(other["seed"]): {"seconds": other["seconds"], "figures": figures}}
    return card | {"other_seeds": dict(sorted(seeds.items()))}


def main(paths: list[str]) -> None:
    for path in paths:
        other = json.loads(Path(path).read_text(encoding="utf-8"))
        stored = _sources.DATA / "weights" / f"{other['recipe']}.json"
        card = with_seed(json.loads(stored.read_text(encoding="utf-8")), other)
        stored.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
