"""What the tests of all checks say in the same words: a right answer is accepted, a wrong one refused with help."""

from collections.abc import Callable
from typing import Any

from rcnnlib import checks
from rcnnlib.checks import Contract

CHECKS = {each.name: each for each in vars(checks).values() if isinstance(each, Contract)}


def assert_accepted(name: str, function: Callable[..., Any]) -> None:
    """The check of exercise ``name`` says ✓ to a function."""
    said = CHECKS[name].judge(function)
    assert said.startswith(f"✓ {name}: right"), said


def assert_refused(name: str, function: Callable[..., Any], message: str) -> None:
    """The check says ✗ in one line that holds ``message``, or one of the parts that ``|`` divides it into."""
    said = CHECKS[name].judge(function)
    assert said.startswith(f"✗ {name}: "), said
    assert "\n" not in said
    assert any(part in said for part in message.split("|") if part), said
