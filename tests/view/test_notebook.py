"""The small parts of lessons: setup repeats, sources are shown, answers wait for a prediction."""

import random

import matplotlib
import numpy as np
import pytest
import torch

from rcnnlib.view.notebook import predict, setup, show_source


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
