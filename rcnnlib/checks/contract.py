"""What every check of an exercise is made of: cases to try, mistakes to recognise, and a teacher's sentence.

A `Contract` calls the learner's function on hand-made and random cases and compares it with the library. Where the
answers differ it tries the mistakes that people really make: the one that answers as the learner does is named.
Leaves out: grades, hidden tests, any trace of what was tried before.
"""

import copy
import linecache
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

TOLERANCE = 1e-4  # the course compares geometry to four decimals


class Case(NamedTuple):
    """One question: what is special about it, the arguments, and what to think of when it goes wrong."""

    what: str
    arguments: tuple[Any, ...]
    hint: str


class Mistake(NamedTuple):
    """One way to get it wrong: what to tell a learner whose function answers like this one."""

    hint: str
    function: Callable[..., Tensor]


class Contract(NamedTuple):
    """What a function must do: give what ``reference`` gives, for every case, and leave its arguments alone.

    ``wanted`` says in words what comes out: ``a tensor (N, M), one row for each box of boxes1``.
    """

    name: str
    wanted: str
    reference: Callable[..., Tensor]
    cases: Sequence[Case]
    mistakes: Sequence[Mistake]

    def __call__(self, function: Callable[..., Any]) -> None:
        """Print what is to be said about the learner's ``function``: one line that begins with ✓, ✗ or ○."""
        print(self.judge(function))

    def judge(self, function: Callable[..., Any]) -> str:
        """Return that line; ✓ right, ✗ wrong and why, ○ not written yet."""
        for case in self.cases:
            arguments = copy.deepcopy(case.arguments)
            try:
                answer = function(*arguments)
            except NotImplementedError:
                return f"○ {self.name}: not written yet"
            except Exception as error:  # whatever a learner's code can do
                return f"✗ {self.name}: {case.what}; yours stops with {_explain(error, function)}. {case.hint}"
            said = self._complain(function, case, arguments, answer)
            if said:
                return f"✗ {self.name}: {said}"
        return f"✓ {self.name}: right, in all {len(self.cases)} cases, hand-made and random"

    def _complain(self, function: Callable[..., Any], case: Case, after: tuple[Any, ...], answer: Any) -> str:
        """Say what is wrong with one answer; "" if nothing is."""
        if not all(_same(old, new) for old, new in zip(case.arguments, after, strict=True)):
            return "your function changes the tensor that it is given, and the caller still needs it. Make a new one."
        if answer is None:
            return "your function gives back nothing (None). Is the line with `return` missing?"
        if not isinstance(answer, Tensor):
            return f"your function gives back something of type {type(answer).__name__}; wanted is {self.wanted}."
        right = self.reference(*case.arguments)
        if _same(answer, right):
            return ""
        return f"{case.what}; {_difference(answer, right)}. {self._hint(function, case)}"

    def _hint(self, function: Callable[..., Any], case: Case) -> str:
        """Return the hint of the mistake that answers as the learner does most often, and always up to this case."""
        asked = next(index for index, one in enumerate(self.cases) if one is case) + 1
        learner = [_ask(function, one) for one in self.cases]
        found = {}
        for mistake in self.mistakes:
            pairs = zip(learner, (_ask(mistake.function, one) for one in self.cases), strict=True)
            agree = [_same(ours, theirs) for ours, theirs in pairs]
            if all(agree[:asked]):
                found[mistake.hint] = max(sum(agree), found.get(mistake.hint, 0))
        return max(found, key=found.__getitem__) if found else case.hint


def _ask(function: Callable[..., Any], case: Case) -> Any:
    """Return the answer to one case, or the kind of error that it ended in."""
    try:
        return function(*copy.deepcopy(case.arguments))
    except Exception as error:  # wrong functions may stop anywhere
        return type(error)


def _same(one: Any, other: Any) -> bool:
    """Say whether two answers agree: tensors in shape, kind of number and value (NaN equals NaN), others exactly."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and one == other
    if one.shape != other.shape or one.is_floating_point() != other.is_floating_point():
        return False
    return torch.allclose(one.double(), other.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _difference(answer: Tensor, right: Tensor) -> str:
    """Say in what an answer differs: shape, kind of number, or the first wrong number and its place."""
    if answer.shape != right.shape:
        return f"yours has shape {tuple(answer.shape)}, right is {tuple(right.shape)}"
    if answer.is_floating_point() != right.is_floating_point():
        return f"yours holds {_kind(answer)}, right are {_kind(right)}"
    close = torch.isclose(answer.double(), right.double(), rtol=TOLERANCE, atol=TOLERANCE)
    place = tuple((~close).nonzero()[0].tolist())
    where = f" at [{', '.join(map(str, place))}]" if right.numel() > 1 else ""
    return f"yours gives {_say(answer[place])}{where}, right is {_say(right[place])}"


def _kind(tensor: Tensor) -> str:
    return f"{'decimal numbers' if tensor.is_floating_point() else 'whole numbers'} ({tensor.dtype})"


def _say(number: Tensor) -> str:
    return f"{number.item():.4f}" if number.is_floating_point() else str(number.item())


def _explain(error: Exception, function: Callable[..., Any]) -> str:
    """Name the error and the line of the learner's function that it came from."""
    text = f"{type(error).__name__}: {error}".rstrip(".")
    own = getattr(getattr(function, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip() if frames else ""
    return f"{text}, in the line `{line}`" if line else text
