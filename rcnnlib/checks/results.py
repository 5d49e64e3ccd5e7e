"""Checks of lesson 15: `my_speedups`, `my_redrawn_recall`, `my_interval`: is it quicker, and is a difference seen?

The interval is compared with the recipe of `engine.bootstrap`, for one seed.

Shapes:
    D  detectors      I  individuals      T  draws      n  individuals of a draw
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake

# --- my_speedups -----------------------------------------------------------------------------------------------------


def speedups(search: Float[Tensor, " D"], network: Float[Tensor, " D"]) -> Float[Tensor, "D 2"]:
    """Return how many times quicker than the first detector each is: the network alone, and with the search."""
    total = search + network
    return torch.stack((network[0] / network, total[0] / total), dim=1)


SPEEDUP_MISTAKES = (
    Mistake("It is the old seconds over the new: yours is upside down.", lambda s, n: 1 / speedups(s, n)),
    Mistake("You compare with the last detector. Compare with the first.", lambda s, n: _over(s, n, -1)),
    Mistake(
        "Compare each detector with the first, not with the one before it.",
        lambda s, n: torch.cat((torch.ones(1, 2), torch.stack((n[:-1] / n[1:], (s + n)[:-1] / (s + n)[1:]), 1))),
    ),
    Mistake("The second column counts the search as well: search + network.", lambda s, n: (n[0] / n)[:, None] * _TWO),
    Mistake(
        "The first column is the network alone, without the search.",
        lambda s, n: ((s + n)[0] / (s + n))[:, None] * _TWO,
    ),
    Mistake("You have swapped the two columns.", lambda s, n: speedups(s, n).flip(1)),
    Mistake(
        "You took the seconds saved. Times quicker is a ratio.",
        lambda s, n: torch.stack((n[0] - n, (s + n)[0] - (s + n)), 1),
    ),
    Mistake(
        "You count the search of the first detector only. Each detector has its own.",
        lambda s, n: torch.stack((n[0] / n, (s + n)[0] / n), 1),
    ),
    Mistake(
        "The second column is for search and network together. You took the search alone.",
        lambda s, n: torch.stack((n[0] / n, s[0] / s), 1),
    ),
)
_TWO = torch.ones(1, 2)


def _over(search: Tensor, network: Tensor, place: int) -> Tensor:
    total = search + network
    return torch.stack((network[place] / network, total[place] / total), dim=1)


check_speedups = Contract(
    name="my_speedups",
    wanted="a tensor (D, 2): a row for each detector; network alone, then search and network",
    reference=speedups,
    cases=(
        Case(
            "the first takes 2 s to search and 8 s in the network, the second 2 s and 1 s",
            (torch.tensor([2.0, 2.0]), torch.tensor([8.0, 1.0])),
            "[[1, 1], [8, 10/3]].",
        ),
        Case(
            "three detectors, the last searches in 0.1 s",
            (torch.tensor([1.0, 1.0, 0.1]), torch.tensor([4.0, 1.0, 0.4])),
            "[[1, 1], [4, 2.5], [10, 10]].",
        ),
        Case(
            "four random detectors",
            tuple(0.1 + torch.rand(2, 4, generator=torch.Generator().manual_seed(0))),
            "The first row is 1, 1.",
        ),
    ),
    mistakes=SPEEDUP_MISTAKES,
)

# --- my_redrawn_recall -----------------------------------------------------------------------------------------------


def redrawn_recall(
    found: Float[Tensor, " I"], objects: Float[Tensor, " I"], drawn: Int[Tensor, "T n"]
) -> Float[Tensor, " T"]:
    """Return the recall of each draw of individuals; one that is drawn twice counts twice."""
    return found[drawn].sum(dim=1) / objects[drawn].sum(dim=1)


def _once(found: Tensor, objects: Tensor, drawn: Tensor) -> Tensor:
    rows = [row.unique() for row in drawn]
    return torch.stack([found[row].sum() / objects[row].sum() for row in rows])


REDRAWN_MISTAKES = (
    Mistake(
        "You took the mean of each individual's own recall. Add up what was found, add up the objects, then divide.",
        lambda f, o, d: (f / o)[d].mean(dim=1),
    ),
    Mistake("An individual that is drawn twice counts twice. Yours counts it once.", _once),
    Mistake("Divide by the objects of the drawn individuals, not of all.", lambda f, o, d: f[d].sum(1) / o.sum()),
    Mistake(
        "Each draw has its own recall. You used all individuals.", lambda f, o, d: (f.sum() / o.sum()).expand(len(d))
    ),
    Mistake("You counted what was found. Divide by the objects.", lambda f, o, d: f[d].sum(1)),
    Mistake("Sum over the individuals of a draw: dim=1.", lambda f, o, d: f[d].sum(0) / o[d].sum(0)),
    Mistake(
        "One number for each draw: do not average over the draws.", lambda f, o, d: (f[d].sum(1) / o[d].sum(1)).mean()
    ),
    Mistake("Recall is found / objects: yours is upside down.", lambda f, o, d: o[d].sum(1) / f[d].sum(1)),
)


def _whole(count: int, low: int, high: int, seed: int) -> Tensor:
    return torch.randint(low, high, (count,), generator=torch.Generator().manual_seed(seed)).float()


_OBJECTS = _whole(9, 4, 20, 1)
check_redrawn_recall = Contract(
    name="my_redrawn_recall",
    wanted="a tensor (T,), the recall of each draw",
    reference=redrawn_recall,
    cases=(
        Case(
            "a zebra with 8 of 10 found, a saw with 1 of 5; drawn once each, the zebra twice, the saw twice",
            (torch.tensor([8.0, 1.0]), torch.tensor([10.0, 5.0]), torch.tensor([[0, 1], [0, 0], [1, 1]])),
            "[9/15, 16/20, 2/10].",
        ),
        Case(
            "three individuals, drawn 0, 0, 2",
            (torch.tensor([6.0, 0.0, 3.0]), torch.tensor([6.0, 9.0, 12.0]), torch.tensor([[0, 0, 2]])),
            "(6 + 6 + 3) / (6 + 6 + 12).",
        ),
        Case(
            "nine individuals, 20 random draws",
            (
                (_OBJECTS * 0.6).round(),
                _OBJECTS,
                torch.randint(9, (20, 9), generator=torch.Generator().manual_seed(3)),
            ),
            "Index with the whole table: found[drawn] is (T, n).",
        ),
    ),
    mistakes=REDRAWN_MISTAKES,
)

# --- my_interval -----------------------------------------------------------------------------------------------------


def interval(first: Float[Tensor, " T"], second: Float[Tensor, " T"]) -> Float[Tensor, "2"]:
    """Return the ends of the interval that holds 95 % of the paired differences first - second."""
    return (first - second).quantile(torch.tensor([0.025, 0.975], dtype=first.dtype))


def _ends(numbers: Tensor, low: float, high: float) -> Tensor:
    return numbers.quantile(torch.tensor([low, high], dtype=numbers.dtype))


def _around(spread: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def wrong(first: Tensor, second: Tensor) -> Tensor:
        difference = first - second
        return torch.stack((difference.mean() - spread(difference), difference.mean() + spread(difference)))

    return wrong


def _whole_places(first: Tensor, second: Tensor) -> Tensor:
    ordered = (first - second).sort().values
    return torch.stack([ordered[int(share * len(ordered))] for share in (0.025, 0.975)])


INTERVAL_MISTAKES = (
    Mistake(
        "You compare the ends of two intervals, so draws are not paired. Subtract draw by draw first.",
        lambda a, b: torch.stack(
            (
                _ends(a, 0.025, 0.975)[0] - _ends(b, 0.025, 0.975)[1],
                _ends(a, 0.025, 0.975)[1] - _ends(b, 0.025, 0.975)[0],
            )
        ),
    ),
    Mistake(
        "Sorting each one first tears the pairs apart. Subtract draw by draw, then sort.",
        lambda a, b: _ends(a.sort().values - b.sort().values, 0.025, 0.975),
    ),
    Mistake(
        "You subtract the ends of one interval from those of the other. Subtract draw by draw first.",
        lambda a, b: _ends(a, 0.025, 0.975) - _ends(b, 0.025, 0.975),
    ),
    Mistake("It is first - second; yours has the other sign.", lambda a, b: _ends(b - a, 0.025, 0.975)),
    Mistake("You cut off 5 % at each end, which leaves 90 %. Cut off 2.5 %.", lambda a, b: _ends(a - b, 0.05, 0.95)),
    Mistake("You cut off 5 % at one end only. Cut off 2.5 % at each.", lambda a, b: _ends(a - b, 0.0, 0.95)),
    Mistake("You took the least and the largest. Cut off 2.5 % at each end.", lambda a, b: _ends(a - b, 0.0, 1.0)),
    Mistake(
        "The sign matters: without it the interval never holds zero.", lambda a, b: _ends((a - b).abs(), 0.025, 0.975)
    ),
    Mistake(
        "You divide by the root of the number of draws. More draws do not make the test set larger.",
        _around(lambda d: 1.96 * d.std() / len(d) ** 0.5),
    ),
    Mistake("Between two of the sorted values go part of the way, as .quantile does.", _whole_places),
    Mistake("Mean plus and minus one standard deviation holds about 68 %, not 95 %.", _around(lambda d: d.std())),
    Mistake(
        "Two standard deviations assume a bell. Take the quantiles 0.025 and 0.975 of the differences.",
        _around(lambda d: 1.96 * d.std()),
    ),
)


def _pair(seed: int, gap: float) -> tuple[Tensor, Tensor]:
    """Two AP in 200 draws that rise and fall together, skewed as few individuals make them."""
    generator = torch.Generator().manual_seed(seed)
    shared, own = torch.randn(200, generator=generator), torch.rand(200, generator=generator)
    first = 0.4 + 0.06 * shared + 0.1 * own.square()
    return first, first - gap + 0.03 * torch.randn(200, generator=generator).exp()


check_interval = Contract(
    name="my_interval",
    wanted="a tensor (2,): the lower and the upper end",
    reference=interval,
    cases=(
        Case(
            "second is always 0.1 below first, though both rise and fall",
            (torch.linspace(0.2, 0.6, 41), torch.linspace(0.1, 0.5, 41)),
            "[0.1, 0.1]: the difference is always the same.",
        ),
        Case(
            "differences 0, 1, 2, ... 40 hundredths; first is always 0.5",
            (torch.full((41,), 0.5), 0.5 - torch.arange(41) / 100),
            "[0.01, 0.39]: 2.5 % of 40 steps is one step.",
        ),
        Case("200 random draws", _pair(0, 0.05), "Take quantiles of first - second."),
        Case("200 more, hardly a difference", _pair(1, 0.0), "Take quantiles of first - second."),
    ),
    mistakes=INTERVAL_MISTAKES,
)
