"""Write the table of detectors in ``data/weights/README.md`` from their cards, the JSON files beside the weights.

Run after a detector is added: ``python data/build/weights_table.py``, then ``python data/build/manifest.py``
"""

import json
from pathlib import Path

import _sources

BEGIN, END = "<!-- from the cards -->", "<!-- end -->"
HEAD = "| file | minutes | parameters | MB | Scrapbook test | Wild | Treetops test | SHA-256 begins |"
SETS = ("scrapbook_test", "wild_test", "treetops_test")


def cell(card: dict, name: str) -> str:
    """Return AP50 on one set, in brackets COCO's AP, and then AP50 of the other seeds; nothing if not measured."""
    if name not in card["figures"]:
        return ""
    found, others = card["figures"][name], card.get("other_seeds", {}).values()
    return "; ".join(
        [f"{found['AP50']:.3f} ({found['AP']:.3f})", *(f"{other['figures'][name]['AP50']:.3f}" for other in others)]
    )


def row(card: dict) -> str:
    """Return the line of one detector."""
    figures = [cell(card, name) for name in SETS]
    size = [f"{card['seconds'] / 60:.0f}", f"{card['parameters']:,}", f"{card['bytes'] / 1e6:.1f}"]
    return " | ".join([f"| `{card['recipe']}`", *size, *figures, f"{card['sha256'][:12]} |"])


def table(folder: Path) -> str:
    """Return the table of all cards in a folder."""
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return "\n".join([HEAD, "|---" * HEAD.count(" | ") + "|---|", *map(row, cards)])


def main() -> None:
    readme = _sources.DATA / "weights" / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}\n{table(readme.parent)}\n{END}{after}"
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
