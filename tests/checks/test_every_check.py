"""What holds for every exercise: its solution passes, its stub waits, each known mistake is named, and the lesson
prints a solution that passes.

The files beside this one have right answers in other words, and wrong ones as learners write them.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from judging import CHECKS, assert_accepted

from rcnnlib.checks import SOLUTIONS

SOURCES = sorted((Path(__file__).parents[2] / "notebooks" / "src").glob("*.py"))
MOST_LINES = 12  # of a printed solution, without its docstring


def stub(*_arguments):
    raise NotImplementedError


def test_every_exercise_has_its_check_and_its_solution():
    assert set(CHECKS) == set(SOLUTIONS)


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_passes_and_the_stub_waits(name, capsys):
    assert_accepted(name, SOLUTIONS[name])
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


def arguments(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]


def lines_without_docstring(function: ast.FunctionDef) -> int:
    written = function.body[0].value if ast.get_docstring(function) else None
    docstring = written.end_lineno - written.lineno + 1 if written else 0
    return function.end_lineno - function.lineno + 1 - docstring


@cache
def printed_solutions() -> dict[str, list[tuple[ast.FunctionDef, Any]]]:
    """Return for each exercise the functions ``..._by_...`` of its lesson that take the same arguments."""
    found = {}
    for source in SOURCES:
        body = ast.parse(source.read_text(encoding="utf-8")).body
        functions = [node for node in body if isinstance(node, ast.FunctionDef)]
        solutions = [node for node in functions if "_by_" in node.name]
        imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        space: dict[str, Any] = {}
        exec(compile(ast.Module([*imports, *solutions], []), str(source), "exec"), space)
        for exercise in (node for node in functions if node.name.startswith("my_")):
            same = [node for node in solutions if arguments(node) == arguments(exercise)]
            found[exercise.name] = [(node, space[node.name]) for node in same]
    return found


def test_every_exercise_stands_in_a_lesson():
    assert set(printed_solutions()) == set(SOLUTIONS)


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_printed_in_the_lesson_passes_and_is_short(name):
    solutions = printed_solutions()[name]
    assert solutions, "the lesson prints no function ..._by_hand with these arguments"
    assert any(CHECKS[name].judge(function).startswith("✓") for _, function in solutions)
    assert all(lines_without_docstring(node) <= MOST_LINES for node, _ in solutions)
