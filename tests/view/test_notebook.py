"""The small parts of lessons: setup repeats, sources are shown, answers wait for a prediction."""

import ast
import random
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from rcnnlib.models import roi_heads, rpn
from rcnnlib.ops import anchors, boxes, losses, nms, roi_ops
from rcnnlib.view.notebook import CELL_WIDTH, fold, predict, setup, show_source


@pytest.fixture
def _kept_settings():
    with matplotlib.rc_context(), np.printoptions():
        yield
    torch.set_printoptions(profile="default")
    torch.set_num_threads(1)


@pytest.mark.usefixtures("_kept_settings")
@pytest.mark.filterwarnings("default")
def test_setup_repeats_random_numbers():
    draws = []
    for _ in range(2):
        assert setup() is None
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert torch.get_num_threads() == 1


def example(number: int) -> int:
    """Double it."""

    # twice
    return 2 * number


def test_source_is_text_and_markdown():
    data = show_source(example)._repr_mimebundle_()
    assert data["text/plain"].startswith('def example(number: int) -> int:\n    """Double it.')
    assert data["text/markdown"] == f"```python\n{data['text/plain']}\n```"


def test_source_without_docstring():
    assert repr(show_source(example, docstring=False)) == (
        "def example(number: int) -> int:\n    # twice\n    return 2 * number"
    )


def test_answer_waits_for_a_pick():
    asked = []
    question = predict("Half?", ["1/2", "1/3"], lambda: asked.append(1) or "1/3", "The union is 3/2.")
    assert repr(question) == "Predict: Half?\n  ( ) 1/2\n  ( ) 1/3"
    assert question.reveal.disabled
    question.show_answer()
    assert not asked
    question.picks.value = "1/2"
    assert not question.reveal.disabled
    question.show_answer()
    assert question.line.value == "✗ You said 1/2; it is 1/3. The union is 3/2."
    question.picks.value = "1/3"
    assert question.line.value == ""
    question.show_answer()
    assert question.line.value == "✓ Yes. The union is 3/2."
    assert repr(question) == "Predict: Half?\n  ( ) 1/2\n  ( ) 1/3", "text for nbval does not follow the picks"


def test_answer_that_is_no_choice_is_an_error():
    question = predict("Half?", ["a", "b"], "c", "")
    question.picks.value = "a"
    with pytest.raises(ValueError, match="none of the choices"):
        question.show_answer()


def test_wide_lines_break_in_brackets_and_comments_go_above():
    wide = f"x = f({'a' * 40}, {'b' * 40}, g({'c' * 10}, d))  # why"
    assert fold(wide).split("\n") == [
        "# why",
        f"x = f({'a' * 40},",
        f"    {'b' * 40}, g({'c' * 10}, d))",
    ]
    head = f"def f({'a' * 40}: int, {'b' * 40}: int) -> int:\n    return 1"
    assert fold(head).split("\n")[1] == f"        {'b' * 40}: int) -> int:"
    assert fold("y = 1  # short") == "y = 1  # short"
    string = f'"{"a, " * 40}"'
    assert fold(f"x = f({string})") == f"x = f({string})", "never inside a text"
    assert len(fold(f"# {'word ' * 40}").split("\n")) == 3


@pytest.mark.parametrize("module", [anchors, boxes, losses, nms, roi_ops, roi_heads, rpn], ids=lambda m: m.__name__)
def test_folded_source_is_the_same_program(module):
    text = Path(module.__file__).read_text(encoding="utf-8")
    folded = fold(text)
    assert ast.dump(ast.parse(folded)) == ast.dump(ast.parse(text))


def test_what_lessons_show_fits_into_a_cell():
    for shown in (
        rpn.RPNHead,
        rpn.RPN.propose,
        rpn.RPN.losses,
        roi_heads.TwoMLPHead,
        roi_heads.BoxPredictor,
        roi_ops.roi_pool,
        anchors.anchor_grid,
    ):
        wide = [line for line in show_source(shown, docstring=False).text.split("\n") if len(line) > CELL_WIDTH]
        assert wide == []
