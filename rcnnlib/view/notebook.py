"""The first line of every lesson, and the small things that lessons are made of: `setup`, `show_source`, `predict`.

Leaves out: pictures (`plotting`), exhibits (`explorers`), and exercises (`rcnnlib.checks`).
"""

import ast
import inspect
import io
import random
import textwrap
import tokenize
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import matplotlib
import numpy as np
import torch

from rcnnlib.view.explorers.base import Line
from rcnnlib.view.plotting import course_rc

CELL_WIDTH = 88  # characters of code that fit into a cell


def setup(threads: int = 1, seed: int = 0) -> None:
    """Make the rest of the notebook repeatable: fixed random numbers, one thread, the course's figure settings.

    One thread or two changes the last digits of sums, and after some training steps the first ones too.
    """
    torch.set_num_threads(threads)
    torch.set_printoptions(precision=4, sci_mode=False, linewidth=110)
    np.set_printoptions(precision=4, suppress=True, linewidth=110)
    matplotlib.rcParams.update(course_rc())
    for category in (DeprecationWarning, FutureWarning, UserWarning):
        warnings.filterwarnings("ignore", category=category)
    random.seed(seed)  # last: nothing above may use up a random number
    np.random.seed(seed)
    torch.manual_seed(seed)


class Source:
    """The source of a function, shown in colours where that is possible."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, str]:
        return {"text/markdown": f"```python\n{self.text}\n```", "text/plain": self.text}


def show_source(function: Callable[..., Any] | type, *, docstring: bool = True) -> Source:
    """Show the source of a function or class as it stands in the library; ``docstring=False`` leaves those out."""
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    return Source(fold(text if docstring else _without_docstrings(text)))


def fold(text: str) -> str:
    """Break lines that are wider than a cell inside their brackets, where JupyterLab would break them inside words."""
    lines = text.split("\n")
    for number in sorted((number for number, line in enumerate(lines) if len(line) > CELL_WIDTH), reverse=True):
        lines[number : number + 1] = _fold_line("\n".join(lines), number)
    return "\n".join(lines)


def _fold_line(text: str, number: int) -> list[str]:
    """Return one line of a source as several: a comment goes above, then a break after a comma or before a word."""
    line, depth, places = text.split("\n")[number], 0, []
    indent = len(line) - len(line.lstrip())
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row, column = token.start[0] - 1, token.start[1]
        if row == number and token.type == tokenize.COMMENT:
            comment = textwrap.wrap(token.string[2:], CELL_WIDTH - indent - 2)
            above = [f"{' ' * indent}# {part}" for part in comment]
            return [*above, *_narrow(text, number, line[:column].rstrip())] if column > indent else above
        opens = token.string in ("(", "[", "{") and token.type == tokenize.OP
        depth += opens - (token.type == tokenize.OP and token.string in (")", "]", "}"))
        after = column + 1 if token.string == "," else column if token.string in ("for", "if", "and", "or") else None
        if row == number and depth > 0 and after is not None and indent < after <= CELL_WIDTH:
            places.append((depth, -after))
    if not places:
        return [line]
    place = -min(places)[1]
    more = 8 if line.lstrip().startswith(("def ", "if ", "for ", "while ", "with ")) else 4
    first, rest = line[:place].rstrip(), " " * (indent + more) + line[place:].lstrip()
    if len(rest) <= CELL_WIDTH:
        return [first, rest]
    lines = text.split("\n")
    return [first, *_fold_line("\n".join([*lines[:number], first, rest, *lines[number + 1 :]]), number + 1)]


def _narrow(text: str, number: int, line: str) -> list[str]:
    """Fold a line that has lost its comment, if it still is too wide."""
    lines = text.split("\n")
    lines[number] = line
    return _fold_line("\n".join(lines), number) if len(line) > CELL_WIDTH else [line]


def _without_docstrings(text: str) -> str:
    """Cut the lines of every docstring, and the empty line after it, out of source text."""
    lines, cut = text.split("\n"), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            cut |= set(range(first.lineno - 1, first.end_lineno or first.lineno))
            if len(node.body) > 1 and not lines[first.end_lineno or first.lineno].strip():
                cut.add(first.end_lineno or first.lineno)
    return "\n".join(line for number, line in enumerate(lines) if number not in cut)


class Predict(ipywidgets.VBox):
    """A question to answer before the page does: the answer appears once the learner has picked one."""

    def __init__(self, question: str, choices: Sequence[str], answer: str | Callable[[], str], why: str) -> None:
        self.question, self.choices, self.answer, self.why = question, list(choices), answer, why
        self.picks = ipywidgets.RadioButtons(options=self.choices, value=None, layout={"width": "max-content"})
        self.reveal = ipywidgets.Button(description="Show the answer", disabled=True, button_style="primary")
        self.line = Line()
        ask = Line(value=question)
        self.picks.observe(self._picked, "value")
        self.reveal.on_click(lambda _button: self.show_answer())
        super().__init__([ask, self.picks, self.reveal, self.line])

    def _picked(self, _change: Any) -> None:
        self.reveal.disabled = self.picks.value is None
        self.line.value = ""

    def show_answer(self) -> None:
        """Compute the answer and say whether the pick was right; without a pick ask for one."""
        if self.picks.value is None:
            self.line.value = "Pick one first: a guess that fails teaches more than none."
            return
        answer = self.answer() if callable(self.answer) else self.answer
        if answer not in self.choices:
            raise ValueError(f"the answer {answer!r} is none of the choices {self.choices}.")
        verdict = "✓ Yes" if self.picks.value == answer else f"✗ You said {self.picks.value}; it is {answer}"
        self.line.value = f"{verdict}. {self.why}"

    def __repr__(self) -> str:
        return "\n".join([f"Predict: {self.question}", *(f"  ( ) {choice}" for choice in self.choices)])

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"text/plain": repr(self), "application/vnd.jupyter.widget-view+json": view}


def predict(question: str, choices: Sequence[str], answer: str | Callable[[], str], why: str) -> Predict:
    """Ask before telling: ``answer`` is one of ``choices``, or a function that computes it when it is asked for.

    ``why`` is the sentence that follows the verdict.
    """
    return Predict(question, choices, answer, why)
