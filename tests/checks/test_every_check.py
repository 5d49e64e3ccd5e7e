"""What holds for every exercise of the course: its solution passes, its stub waits, and each known mistake is named.

The files beside this one have right answers in other words, and wrong ones as learners write them.
"""

import pytest

from rcnnlib import checks
from rcnnlib.checks import SOLUTIONS, Contract

CHECKS = {each.name: each for each in vars(checks).values() if isinstance(each, Contract)}


def stub(*_arguments):
    raise NotImplementedError


def test_every_exercise_has_its_check_and_its_solution():
    assert set(CHECKS) == set(SOLUTIONS)


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_passes_and_the_stub_waits(name, capsys):
    assert CHECKS[name].judge(SOLUTIONS[name]).startswith(f"✓ {name}: right")
    CHECKS[name](stub)
    assert capsys.readouterr().out == f"○ {name}: not written yet\n"


@pytest.mark.parametrize("name", CHECKS)
def test_every_known_mistake_is_called_by_its_name(name):
    assert len(CHECKS[name].mistakes) >= 4
    for mistake in CHECKS[name].mistakes:
        said = CHECKS[name].judge(mistake.function)
        assert said.startswith(f"✗ {name}: ")
        assert said.endswith(mistake.hint)
        assert "\n" not in said
