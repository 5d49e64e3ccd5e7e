"""A table of a paper beside ours: never on one axis, only the order of two conditions is compared (lesson 15).

Leaves out: how the intervals are made (`engine.bootstrap`), and which pairs are worth comparing (the lesson).

Shapes: none; a condition is a name such as ``multi-task``
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rcnnlib.engine.bootstrap import Difference
from rcnnlib.engine.experiments import Result
from rcnnlib.view.plotting import LINES, LessonFigure, figure

EQUAL = 0.5  # points of mAP; the papers give no intervals, and of less than this they say "nearly the same" or nothing
SAME, OTHER, UNSEEN = "same order as the paper", "the other order", "no difference seen"
NEW, OURS_ONLY = "seen here only", "seen"  # the paper's two are about equal; the paper has none
ROW = 34  # CSS pixels


class Paper(NamedTuple):
    """A table of a paper: where it stands, in what unit, and its values by the names of our conditions."""

    source: str
    values: dict[str, float]
    unit: str = "mAP on VOC07, %"

    def gap(self, first: str, second: str) -> float | None:
        """Return first minus second, None if the paper lacks one of them."""
        if first not in self.values or second not in self.values:
            return None
        return self.values[first] - self.values[second]


def order(ours: Difference, gap: float | None) -> str:
    """Say whether our difference has the sign of the paper's; without our interval leaving out zero it says so."""
    if not ours.seen:
        return UNSEEN
    if gap is None:
        return OURS_ONLY
    if abs(gap) < EQUAL:
        return NEW
    return SAME if gap * ours.mean > 0 else OTHER


def against(result: Result, base: str) -> list[tuple[str, str]]:
    """Return every other condition paired with ``base``."""
    return [(condition, base) for condition in result.values if condition != base]


def compare(
    result: Result, paper: Paper | None, pairs: Sequence[tuple[str, str]], figure: str = "AP50"
) -> list[tuple[str, str, Difference, str]]:
    """Return for each pair its name, the paper's difference in words, ours, and the verdict."""
    rows = []
    for first, second in pairs:
        ours = result.difference(first, second, figure)
        gap = paper.gap(first, second) if paper else None
        rows.append((f"{first} − {second}", "–" if gap is None else f"{gap:+.1f}", ours, order(ours, gap)))
    return rows


def verdicts(result: Result, paper: Paper | None, pairs: Sequence[tuple[str, str]], figure: str = "AP50") -> str:
    """Return a table to print: each pair with the paper's difference, ours with its interval, and the verdict."""
    rows = compare(result, paper, pairs, figure)
    wide, column = max(len(name) for name, *_ in rows) + 2, 7 if paper else 0
    title = f"ours, {figure}, {len(result.values[pairs[0][0]][figure])} seeds"
    lines = [f"{'':<{wide}}{'paper'[:column]:<{column}}{title:<27}verdict"]
    for name, gap, ours, said in rows:
        between = f"{ours.mean:+.3f} ({ours.low:+.3f} to {ours.high:+.3f})"
        lines.append(f"{name:<{wide}}{gap[:column]:<{column}}{between:<27}{said}")
    return "\n".join(lines)


def could_see(result: Result, pairs: Sequence[tuple[str, str]], figure: str = "AP50") -> tuple[float, float]:
    """Return the least and the largest half-width of the intervals: a smaller difference stays unseen."""
    halves = [(ours.high - ours.low) / 2 for _, _, ours, _ in compare(result, None, pairs, figure)]
    return min(halves), max(halves)


def times_as_long(result: Result, base: str, figure: str = "cpu seconds") -> str:
    """Return how many times as long as ``base`` the others take, with the range of the seeds; "" without the figure."""
    lines = []
    for name, found in result.values.items():
        if name == base or figure not in found:
            continue
        pairs = zip(found[figure], result.values[base][figure], strict=True)
        ratios = [one / other for one, other in pairs]
        mean = sum(ratios) / len(ratios)
        lines.append(f"{name} takes {mean:.2f} times as long as {base} ({min(ratios):.2f} to {max(ratios):.2f})")
    return "\n".join(lines)


def beside(
    result: Result, paper: Paper | None, base: str, figure_name: str = "AP50", conditions: Sequence[str] = ()
) -> LessonFigure:
    """Draw the paper's values, ours with every seed, and ours minus ``base``, each on an axis of its own.

    Conditions that the paper lacks have no dot on the left.
    """
    rows = list(conditions) or list(result.values)
    differences = {row: result.difference(row, base, figure_name) for row in rows if row != base}
    seen = [row for row, each in differences.items() if each.seen]
    alt = f"{result.name}, {len(rows)} rows; differs from {base}: {', '.join(seen) or 'none'}"
    fig, axes = figure(880, 92 + ROW * len(rows), columns=3 if paper else 2, alt=alt)
    for ax in axes:
        ax.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), yticklabels=[])
        ax.grid(axis="y", color="#DDDDDD", lw=0.8, ls="-")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticklabels(rows)
    if paper:
        _draw_paper(axes[0], paper, rows)
    _draw_seeds(axes[-2], [result.values[row][figure_name] for row in rows], figure_name)
    _draw_differences(axes[-1], rows, differences, base)
    return fig


def _draw_paper(ax: Any, paper: Paper, rows: Sequence[str]) -> None:
    known = [(paper.values[row], place) for place, row in enumerate(rows) if row in paper.values]
    ax.plot(*zip(*known, strict=True), "s", color=LINES[2], ms=7)
    values = [value for value, _ in known]
    room = max(max(values) - min(values), 1.0)
    for value, place in known:
        ax.annotate(f"{value:.1f}", (value, place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set(xlim=(min(values) - 0.2 * room, max(values) + 0.5 * room), xlabel=paper.unit)
    ax.set_title(paper.source)


def _draw_seeds(ax: Any, values: Sequence[Sequence[float]], figure_name: str) -> None:
    for place, seeds in enumerate(values):
        ax.plot(seeds, [place] * len(seeds), "o", color=LINES[0], ms=5, alpha=0.55)
        ax.plot([sum(seeds) / len(seeds)] * 2, [place - 0.3, place + 0.3], "-", color=LINES[0], lw=2.5)
    ax.set_xlabel(f"{figure_name} on our test scenes")
    ax.set_title("ours, a dot a seed")


def _draw_differences(ax: Any, rows: Sequence[str], differences: dict[str, Difference], base: str) -> None:
    ax.axvline(0, color="black", lw=1, ls="-")
    for place, row in enumerate(rows):
        if row not in differences:
            ax.annotate("0", (0, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
            continue
        mean, low, high = differences[row]
        seen = differences[row].seen
        colour = LINES[0] if seen else "#777777"
        ax.plot([low, high], [place] * 2, "-" if seen else ":", color=colour, lw=3 if seen else 2)
        ax.plot([mean], [place], "o", color=colour, mfc=colour if seen else "white", ms=7)
    ax.set_xlabel(f"AP50 minus “{base}”" if len(base) < 12 else f"minus “{base}”")
    ax.set_title("difference, 95 % interval")
