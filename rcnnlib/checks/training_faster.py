"""Checks of lesson 14: `my_head_sample`, the second sampler; `my_freeze_plan`, what learns in a step of alternating
training; `my_joint_gradient`, approximate joint training on a network of three numbers.

The first is compared with `ops.matcher` and `ops.sampler`, the second with `engine.schedules`, the third with its
formula.

Shapes:
    N  proposals      G  ground truths      S  rows of the batch      P  names of parameters
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rcnnlib.checks.contract import Case, Contract, Mistake
from rcnnlib.engine.schedules import Phase, Schedule, approximate_joint, four_step_alternating
from rcnnlib.ops.matcher import IGNORED, match_proposals
from rcnnlib.ops.sampler import sample

# --- my_head_sample --------------------------------------------------------------------------------------------------

Sampler = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def head_sample(
    iou: Float[Tensor, "N G"], classes: Int[Tensor, " G"], noise: Float[Tensor, " N"], size: int
) -> Int[Tensor, " S"]:
    """Return the labels of the drawn proposals: classes of at most a quarter of the rows, then 0, then -1."""
    match = match_proposals(iou, classes > 0, background_low=0.0)
    return sample(match, classes, noise, size=size, positive_fraction=0.25).labels


def _sampled(
    *,
    low: float = 0.0,
    strict: bool = False,
    cap: bool = True,
    quota: Callable[[float], int] = int,
    filled: bool = True,
    empty: int = IGNORED,
    name: Callable[[Tensor, int], int] = lambda classes, best: int(classes[best]),
) -> Sampler:
    """Return the second sampler with one thing wrong."""

    def wrong(iou: Tensor, classes: Tensor, noise: Tensor, size: int) -> Tensor:
        best, which = iou.max(dim=1)
        positive = best > 0.5 if strict else best >= 0.5
        most, order = quota(size / 4) if cap else size, noise.argsort().tolist()
        first = [name(classes, int(which[row])) for row in order if positive[row]][:most]
        room = size - (len(first) if filled else most)
        second = [0 for row in order if not positive[row] and best[row] >= low][:room]
        return torch.tensor([*first, *second, *[empty] * (size - len(first) - len(second))])

    return wrong


def _unordered(iou: Tensor, classes: Tensor, noise: Tensor, size: int) -> Tensor:
    return head_sample(iou, classes, torch.linspace(0, 0.9, len(noise)), size)


def _short(iou: Tensor, classes: Tensor, noise: Tensor, size: int) -> Tensor:
    labels = head_sample(iou, classes, noise, size)
    return labels[labels != IGNORED]


HEAD_SAMPLE_MISTAKES = (
    Mistake(
        "You left out proposals with an IoU below 0.1. That is Fast R-CNN's bound; the second sampler has none.",
        _sampled(low=0.1),
    ),
    Mistake("An IoU of exactly 0.5 is positive: use >=.", _sampled(strict=True)),
    Mistake("At most a quarter of the rows is positive: int(size / 4). You took them all.", _sampled(cap=False)),
    Mistake("int() cuts off: a quarter of 6 rows is 1 positive. You rounded up.", _sampled(quota=math.ceil)),
    Mistake("Too few positives? Then negatives take their places, up to `size` rows.", _sampled(filled=False)),
    Mistake(
        "Positives above the quarter are not drawn. You let them go on as background.",
        lambda i, c, n, s: torch.where(torch.arange(s) < len(i), head_sample(i, c, n, s).clamp(min=0), IGNORED),
    ),
    Mistake("An empty row carries -1 and takes no part. You wrote 0, which is background.", _sampled(empty=0)),
    Mistake("You left the empty rows out. There are always `size` rows; empty ones carry -1.", _short),
    Mistake("A positive gets the class of its object, not just 1.", _sampled(name=lambda classes, best: 1)),
    Mistake("You wrote the number of the object: look up its class.", _sampled(name=lambda c, best: best)),
    Mistake("The smallest noise wins. You took the first ones of the list.", _unordered),
    Mistake("The smallest noise wins. You took the largest.", lambda i, c, n, s: head_sample(i, c, 1 - n, s)),
)

_DRAW = "Positives first, at most int(size / 4), smallest noise first; then 0 for negatives; -1 in the rows left over."


def _random_table(proposals: int, objects: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    iou = torch.rand(proposals, objects, generator=generator).square()
    classes = torch.randint(2, 6, (objects,), generator=generator)
    return iou, classes, torch.rand(proposals, generator=generator)


def _case(what: str, iou: list, classes: list, noise: list, size: int, hint: str) -> Case:
    return Case(what, (torch.tensor(iou), torch.tensor(classes), torch.tensor(noise), size), hint)


check_head_sample = Contract(
    name="my_head_sample",
    wanted="a tensor (size,) of whole numbers: classes, then 0, then -1",
    reference=head_sample,
    cases=(
        _case(
            "4 rows; IoU 0.9, 0.3, 0.2, 0.4; one object of class 3",
            *([[0.9], [0.3], [0.2], [0.4]], [3], [0.1, 0.2, 0.3, 0.4], 4, "[3, 0, 0, 0]."),
        ),
        _case(
            "4 rows; IoU 0.9, 0.05, 0.0, 0.02",
            *([[0.9], [0.05], [0.0], [0.02]], [3], [0.1, 0.2, 0.3, 0.4], 4, "[3, 0, 0, 0]: no lower bound."),
        ),
        _case(
            "6 rows; two objects, of class 5 and 2; proposals 0 and 1 are on one each",
            *([[0.6, 0.1], [0.0, 0.5], [0.3, 0.3], [0.1, 0.0]], [5, 2], [0.9, 0.1, 0.2, 0.3], 6),
            "[2, 0, 0, -1, -1, -1]: one positive, and the smallest noise wins.",
        ),
        _case(
            "6 rows, a quarter of 6 is 1.5",
            *([[0.8], [0.9], [0.1], [0.2], [0.0], [0.3], [0.4]], [4], [0.5, 0.4, 0.1, 0.2, 0.3, 0.6, 0.7], 6),
            "[4, 0, 0, 0, 0, 0]: int(1.5) is 1.",
        ),
        _case(
            "8 rows, no positive at all",
            *([[0.0]] * 9, [1], [i / 9 for i in range(9)], 8, "Negatives fill all rows."),
        ),
        Case("60 random proposals, 16 rows", (*_random_table(60, 3, 0), 16), _DRAW),
        Case("60 more, 40 rows", (*_random_table(60, 4, 1), 40), _DRAW),
    ),
    mistakes=HEAD_SAMPLE_MISTAKES,
)

# --- my_freeze_plan --------------------------------------------------------------------------------------------------


def _phases() -> tuple[Phase, ...]:
    """Step 0 is joint training, 1 to 4 are those of alternating training."""
    return (*approximate_joint(Schedule(1)), *four_step_alternating(Schedule(1), Schedule(1)))


def freeze_plan(names: Sequence[str], step: int) -> Bool[Tensor, " P"]:
    """Return which parameters learn in a step (Faster R-CNN 3.2); step 0 is approximate joint training."""
    return torch.tensor([name.split(".")[0] in _phases()[step].learns for name in names])


def _plan(*table: tuple[str, ...]) -> Callable[[Sequence[str], int], Tensor]:
    """Return a plan with another table of what learns: joint, 1, 2, 3, 4."""
    return lambda names, step: torch.tensor([name.split(".")[0] in table[step] for name in names])


_ALL, _RPN, _HEAD = ("trunk", "rpn", "head"), ("trunk", "rpn"), ("trunk", "head")


def _by_substring(names: Sequence[str], step: int) -> Tensor:
    return torch.tensor([any(part in name for part in _phases()[step].learns) for name in names])


def _off_by_one(names: Sequence[str], step: int) -> Tensor:
    return freeze_plan(names, max(step - 1, 0))


FREEZE_MISTAKES = (
    Mistake(
        "rpn.head.conv.weight belongs to the RPN, which does not learn in steps 2 and 4. If you look for the word head "
        "anywhere in a name: look at what stands before the first dot.",
        _by_substring,
    ),
    Mistake("In steps 3 and 4 the trunk is frozen: it does not learn.", _plan(_ALL, _RPN, _HEAD, _RPN, _HEAD)),
    Mistake(
        "The trunk is frozen in step 3 already, or the head of step 2 would no longer fit it.",
        _plan(_ALL, _RPN, _HEAD, _RPN, ("head",)),
    ),
    Mistake(
        "The trunk is frozen in step 4, too. If it learned, the RPN of step 3 would no longer fit it.",
        _plan(_ALL, _RPN, _HEAD, ("rpn",), _HEAD),
    ),
    Mistake(
        "The trunk learns in steps 1 and 2: it is frozen from step 3 on.",
        _plan(_ALL, ("rpn",), ("head",), ("rpn",), ("head",)),
    ),
    Mistake(
        "In steps 1 and 3 only the RPN has a loss; the head does not take part.",
        _plan(_ALL, _ALL, _HEAD, ("rpn", "head"), ("head",)),
    ),
    Mistake("Step 0 is joint training: everything learns.", _plan((), _RPN, _HEAD, ("rpn",), ("head",))),
    Mistake("You gave what is frozen. Asked for is what learns.", lambda names, step: ~freeze_plan(names, step)),
    Mistake("Steps are counted from 1; step 0 is joint training.", _off_by_one),
)

_NAMES = ["trunk.features.0.weight", "rpn.head.conv.weight", "rpn.head.scores.bias", "head.mlp.fc6.weight"]
_PAPER = {
    0: "Joint training: everything learns at once.",
    1: "Step 1 trains the RPN, and the trunk with it.",
    2: "Step 2 trains a detector on the proposals of step 1, and its own trunk with it.",
    3: "Step 3 freezes the shared layers and tunes those that only the RPN has.",
    4: "Step 4 keeps them frozen and tunes those that only the head has.",
}

check_freeze_plan = Contract(
    name="my_freeze_plan",
    wanted="a tensor (P,) of True and False, one for each name",
    reference=freeze_plan,
    cases=(
        *(Case(f"step {step}, {', '.join(_NAMES)}", (_NAMES, step), _PAPER[step]) for step in (1, 2, 3, 4, 0)),
        Case("step 4, one name, head.predict.deltas.bias", (["head.predict.deltas.bias"], 4), _PAPER[4]),
    ),
    mistakes=FREEZE_MISTAKES,
)

# --- my_joint_gradient -----------------------------------------------------------------------------------------------

Number = Float[Tensor, ""]


def joint_gradient(w: Number, a: Number, b: Number, x: Number, t_star: Number, v_star: Number) -> Float[Tensor, "3"]:
    """Return the gradient for trunk w, RPN a and head b of both losses, the box t being a constant to the head.

    f = w x,  t = a f,  v = b f t,  loss (t - t*)² / 2 + (v - v*)² / 2
    """
    f = w * x
    t = a * f
    rpn, head = t - t_star, b * f * t - v_star
    return torch.stack((rpn * a * x + head * b * t * x, rpn * f, head * f * t))


def _by_autograd(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the gradient of another loss, made of (f, t, the errors' targets and b)."""

    def wrong(w: Tensor, a: Tensor, b: Tensor, x: Tensor, t_star: Tensor, v_star: Tensor) -> Tensor:
        leaves = [each.detach().clone().requires_grad_() for each in (w, a, b)]
        f = leaves[0] * x
        found = torch.autograd.grad(loss(f, leaves[1], leaves[2], t_star, v_star), leaves, allow_unused=True)
        return torch.stack([torch.zeros(()) if each is None else each for each in found])

    return wrong


def _joint(f: Tensor, t: Tensor, to_head: Tensor, box: Tensor, b: Tensor, t_star: Tensor, v_star: Tensor) -> Tensor:
    return (t - t_star).square() / 2 + (b * to_head * box - v_star).square() / 2


JOINT_MISTAKES = (
    Mistake(
        "That is the exact gradient: the head's loss has gone back through the box t. Give the head t.detach().",
        _by_autograd(lambda f, a, b, ts, vs: _joint(f, a * f, f, a * f, b, ts, vs)),
    ),
    Mistake(
        "You detached the feature on its way to the head, too. Only the box is detached: the trunk learns from both.",
        _by_autograd(lambda f, a, b, ts, vs: _joint(f, a * f, f.detach(), (a * f).detach(), b, ts, vs)),
    ),
    Mistake(
        "You detached the feature instead of the box.",
        _by_autograd(lambda f, a, b, ts, vs: _joint(f, a * f, f.detach(), a * f, b, ts, vs)),
    ),
    Mistake(
        "You detached the feature on its way to the RPN. Then the trunk learns from the head only.",
        _by_autograd(lambda f, a, b, ts, vs: _joint(f, a * f.detach(), f, (a * f).detach(), b, ts, vs)),
    ),
    Mistake(
        "The RPN learns nothing: its loss is missing, or you detached t before it. Detach the copy that the head gets.",
        _by_autograd(lambda f, a, b, ts, vs: (b * f * (a * f).detach() - vs).square() / 2),
    ),
    Mistake(
        "The head's loss is missing. Joint training sums both.",
        _by_autograd(lambda f, a, b, ts, vs: (a * f - ts).square() / 2),
    ),
    Mistake(
        "Right numbers, wrong order: first the trunk w, then the RPN a, then the head b.",
        lambda *numbers: joint_gradient(*numbers)[[1, 2, 0]],
    ),
    Mistake("Twice too much: both losses are halved, (...)² / 2.", lambda *n: 2 * joint_gradient(*n)),
    Mistake("You stepped against the gradient. Asked for is the gradient itself.", lambda *n: -joint_gradient(*n)),
)


def _numbers(*values: float) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(float(value)) for value in values)


check_joint_gradient = Contract(
    name="my_joint_gradient",
    wanted="a tensor (3,): the gradient for w, a and b",
    reference=joint_gradient,
    cases=(
        Case(
            *("the toy of the page", _numbers(2, 0.5, 1, 1, 2, 3)),
            "[-1.5, -2, -2]. (Not used in the graph? The RPN's own loss needs t, not t.detach().)",
        ),
        Case("both answers are right already", _numbers(2, 0.5, 1, 1, 1, 2), "No error, no gradient: [0, 0, 0]."),
        Case("only the RPN errs", _numbers(2, 0.5, 1, 1, 3, 2), "The head's error is 0: [-1, -4, 0]."),
        Case("only the head errs", _numbers(2, 0.5, 1, 1, 1, 4), "The RPN's error is 0, so it learns nothing here."),
        Case("other numbers", _numbers(1.5, -0.7, 0.4, 2.0, 0.3, -1.2), "Sum both losses, t fixed for the head."),
    ),
    mistakes=JOINT_MISTAKES,
)
