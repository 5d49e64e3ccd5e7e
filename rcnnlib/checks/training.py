"""Checks of lesson 09, training Fast R-CNN: `my_learning_rate`, `my_speedup`, `my_low_rank`.

Below the cases of each contract stand the mistakes that it knows by name.

Shapes:
    T  steps of a training      S  stages of a detector      U, V  outputs and inputs of a layer
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.engine.schedules import Schedule
from rcnnlib.models.roi_heads import truncated_svd

# --- my_learning_rate -----------------------------------------------------------------------------------------------


def learning_rates(steps: int, rate: float, warmup: int, drops: Sequence[float]) -> Float[Tensor, " T"]:
    """Return the learning rate of every step: it grows for ``warmup`` steps, and is cut to a tenth at each drop."""
    schedule = Schedule(steps, rate=rate, warmup=warmup, drops=tuple(drops))
    return torch.tensor([schedule.rate_at(step) for step in range(steps)])


def _rates(
    grow: Callable[[Tensor, int], Tensor] = lambda step, warmup: ((step + 1) / (warmup + 1)).clamp(max=1),
    passed: Callable[[Tensor, float, int], Tensor] = lambda step, share, steps: step >= share * steps,
    *,
    factor: Callable[[Tensor], Tensor] = lambda count: 0.1**count,
) -> Callable[..., Tensor]:
    """Return a wrong schedule: one of its three parts is another."""

    def wrong(steps: int, rate: float, warmup: int, drops: Sequence[float]) -> Tensor:
        step = torch.arange(steps, dtype=torch.float64)
        count = sum((passed(step, share, steps).double() for share in drops), torch.zeros_like(step))
        return (rate * grow(step, warmup) * factor(count)).float()

    return wrong


RATE_MISTAKES = (
    Mistake(
        "The first step would learn nothing: count it as step 1 of the warm-up.",
        _rates(lambda s, w: (s / (w + 1)).clamp(max=1)),
    ),
    Mistake(
        "The first step would learn nothing: count it as step 1 of the warm-up, and divide by warmup + 1.",
        _rates(lambda s, w: torch.where(s < w, s / max(w, 1), 1.0)),
    ),
    Mistake(
        "The full rate comes one step after the warm-up: divide by warmup + 1.",
        _rates(lambda step, warmup: ((step + 1) / max(warmup, 1)).clamp(max=1)),
    ),
    Mistake(
        "The rate keeps growing after the warm-up. It may not pass its full value.",
        _rates(lambda s, w: (s + 1) / (w + 1)),
    ),
    Mistake(
        "There is no warm-up in yours. The rate grows over the first steps.", _rates(lambda s, w: torch.ones_like(s))
    ),
    Mistake(
        "During the warm-up yours is 0. It grows step by step.", _rates(lambda step, warmup: (step >= warmup).double())
    ),
    Mistake("Yours never drops. Use drops too.", _rates(passed=lambda step, share, steps: step < 0)),
    Mistake(
        "A drop is a share of the steps, as 0.75: multiply it by steps.",
        _rates(passed=lambda step, share, steps: step >= share),
    ),
    Mistake(
        "The step at the drop has the smaller rate already: use >=.", _rates(passed=lambda s, share, n: s > share * n)
    ),
    Mistake(
        "A drop may fall between two steps: 0.92 of 20 is 18.4, so step 19 is the first after it. Do not round down.",
        _rates(passed=lambda s, share, n: s >= int(share * n)),
    ),
    Mistake(
        "Every drop counts, and they multiply: after two of them a hundredth.",
        _rates(factor=lambda n: torch.where(n > 0, 0.1, 1.0)),
    ),
    Mistake("A drop cuts to a tenth. Did you halve?", _rates(factor=lambda count: 0.5**count)),
    Mistake("A drop takes nine tenths away. Did you take one tenth away?", _rates(factor=lambda count: 0.9**count)),
)

check_learning_rate = Contract(
    name="my_learning_rate",
    wanted="a tensor (steps,): the rate of every step",
    reference=learning_rates,
    cases=(
        Case("4 steps at rate 1, no warm-up, no drop", (4, 1.0, 0, ()), "Then every step has the same rate."),
        Case("8 steps, the first 3 warm up", (8, 1.0, 3, ()), "1/4, 2/4, 3/4, then 1 for the rest."),
        Case("8 steps, a drop after three quarters", (8, 1.0, 0, (0.75,)), "Steps 0 to 5 at 1, steps 6 and 7 at 0.1."),
        Case("10 steps, two drops", (10, 1.0, 0, (0.5, 0.8)), "1, then 0.1 from step 5, then 0.01 from step 8."),
        Case("a drop that comes before the warm-up ends", (10, 1.0, 7, (0.4,)), "Both count: multiply them."),
        Case(
            "20 steps at rate 2, all together",
            (20, 2.0, 4, (0.75, 0.92)),
            "Compare one step with a calculation by hand.",
        ),
        Case("one step alone", (1, 0.5, 0, (0.75,)), "Step 0 is the first: nothing has dropped yet."),
    ),
    mistakes=RATE_MISTAKES,
)


# --- my_speedup -----------------------------------------------------------------------------------------------------


def speedup(seconds: Float[Tensor, " S"], factors: Float[Tensor, " S"]) -> Float[Tensor, ""]:
    """Return how many times as quick the whole gets if each stage gets ``factors`` times as quick (Amdahl 1967)."""
    return seconds.sum() / (seconds / factors).sum()


SPEEDUP_MISTAKES = (
    Mistake("You averaged the factors. A long stage counts for more than a short one.", lambda s, f: f.mean()),
    Mistake(
        "You weighted the factors by their seconds. But the new seconds are seconds / factors: add those.",
        lambda s, f: (s * f).sum() / s.sum(),
    ),
    Mistake("It is upside down: old seconds over new seconds.", lambda s, f: (s / f).sum() / s.sum()),
    Mistake("These are the new seconds. Asked for is how many times as quick: old / new.", lambda s, f: (s / f).sum()),
    Mistake(
        "These are the seconds saved. Asked for is how many times as quick: old / new.", lambda s, f: (s - s / f).sum()
    ),
    Mistake(
        "Three times as quick means a third of the seconds: divide, do not multiply.",
        lambda s, f: s.sum() / (s * f).sum(),
    ),
    Mistake(
        "The slowest stage is not all: add the stages, they come one after the other.",
        lambda s, f: s.max() / (s / f).max(),
    ),
    Mistake("You took the largest factor. The other stages stay as slow as they were.", lambda s, f: f.max()),
    Mistake("You multiplied the factors. Stages come one after the other: add their seconds.", lambda s, f: f.prod()),
    Mistake("You gave one number for each stage. Asked for is one for the whole.", lambda s, f: s / (s / f)),
)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


check_speedup = Contract(
    name="my_speedup",
    wanted="a tensor with one number, old seconds over new seconds",
    reference=speedup,
    cases=(
        Case(
            "two stages of 1 s, the second 2 times as quick",
            (torch.tensor([1.0, 1.0]), torch.tensor([1.0, 2.0])),
            "2 s before, 1.5 s after.",
        ),
        Case(
            "3 s that stay and 1 s that becomes 100 times as quick",
            (torch.tensor([3.0, 1.0]), torch.tensor([1.0, 100.0])),
            "4 s before, 3.01 s after.",
        ),
        Case("nothing gets quicker", (torch.tensor([2.0, 0.5, 0.25]), torch.ones(3)), "Then it is 1."),
        Case("all stages 4 times as quick", (torch.tensor([2.0, 0.5, 0.25]), torch.full((3,), 4.0)), "Then it is 4."),
        Case(
            "a stage that gets slower", (torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.5])), "2 s before, 3 s after."
        ),
        Case(
            "five random stages", (_random(5, seed=1), 1 + 9 * _random(5, seed=2)), "Add the seconds before and after."
        ),
    ),
    mistakes=SPEEDUP_MISTAKES,
)


# --- my_low_rank ----------------------------------------------------------------------------------------------------


def low_rank(weight: Float[Tensor, "U V"], rank: int) -> Float[Tensor, "U V"]:
    """Return the nearest matrix of that rank: the product of the two layers that `truncated_svd` makes of one."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        first, second = truncated_svd(layer, rank)
        return second.weight @ first.weight


def _product(
    keep: Callable[[Tensor, int], Tensor] = lambda s, rank: torch.where(torch.arange(len(s)) < rank, s, 0),
    *,
    transposed: bool = False,
) -> Callable[[Tensor, int], Tensor]:
    """Return a wrong product: other singular values are kept, or V is turned over."""

    def wrong(weight: Tensor, rank: int) -> Tensor:
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        return (u * keep(s, rank)) @ (v.mT if transposed else v)

    return wrong


LOW_RANK_MISTAKES = (
    Mistake("Nothing is cut off: keep only the first `rank` singular values.", _product(lambda s, rank: s)),
    Mistake(
        "You left the singular values out: U times V alone is not the layer.",
        _product(lambda s, rank: (torch.arange(len(s)) < rank).float()),
    ),
    Mistake(
        "You kept the smallest singular values. They come largest first.",
        _product(lambda s, r: torch.where(torch.arange(len(s)) >= len(s) - r, s, 0)),
    ),
    Mistake(
        "The singular values go in once: into one of the two matrices, not into both.",
        _product(lambda s, r: torch.where(torch.arange(len(s)) < r, s * s, 0)),
    ),
    Mistake("`torch.linalg.svd` gives V turned over already: do not transpose it.", _product(transposed=True)),
    Mistake(
        "You gave the first matrix alone. Multiply the two.",
        lambda w, r: torch.linalg.svd(w, full_matrices=False)[0][:, :r],
    ),
    Mistake(
        "You kept one direction too few: `[:rank]` keeps rank of them.",
        _product(lambda s, r: torch.where(torch.arange(len(s)) < r - 1, s, 0)),
    ),
    Mistake(
        "You kept one direction too many: `[:rank]` keeps rank of them.",
        _product(lambda s, r: torch.where(torch.arange(len(s)) < r + 1, s, 0)),
    ),
    Mistake("You cut rows off. The result has the shape of the weight.", lambda w, rank: w[:rank]),
)

_DIAGONAL = torch.diag(torch.tensor([3.0, 2.0, 1.0]))

check_low_rank = Contract(
    name="my_low_rank",
    wanted="a tensor of the shape of the weight",
    reference=low_rank,
    cases=(
        Case("a diagonal of 3, 2, 1, rank 2", (_DIAGONAL, 2), "The smallest goes: 3, 2, 0."),
        Case("a layer of rank 1, rank 1", (torch.tensor([[1.0, 2.0], [2.0, 4.0]]), 1), "It comes back as it was."),
        Case("a square layer, rank 2", (_random(4, 4, seed=6), 2), "U[:, :rank], S[:rank], V[:rank]."),
        Case("a wide layer, 3 outputs and 5 inputs, rank 2", (_random(3, 5, seed=3), 2), "Take full_matrices=False."),
        Case("a high layer, 6 outputs and 4 inputs, rank 1", (_random(6, 4, seed=4), 1), "Take full_matrices=False."),
        Case("all singular values kept", (_random(4, 4, seed=5), 4), "Then the layer comes back as it was."),
    ),
    mistakes=LOW_RANK_MISTAKES,
)
