"""The form of an explorer, on the demo: controls change numbers, numbers stand in text and picture, errors are seen."""

import base64
import io

import pytest
import torch
from demo_explorer import Overlap, overlap
from PIL import Image

from rcnnlib.view.explorers.base import Explorer, choice, in_words, slider

STATE = {"boxes": torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]]), "threshold": 0.4, "units": "pixels"}


@pytest.fixture
def explorer():
    return Overlap()


def test_pure_function_by_hand():
    # overlap 10 * 5 = 50, union 100 + 50 - 50 = 100
    assert overlap(**STATE) == {"IoU": 0.5, "overlap": 50.0, "passes": True}


@pytest.mark.parametrize("control", [{"threshold": 0.6}, {"units": "squares"}, {"boxes": STATE["boxes"] * 2}])
def test_every_control_changes_the_numbers(control):
    assert overlap(**STATE | control) != overlap(**STATE)


def test_explorer_follows_controls_and_canvas(explorer):
    assert repr(explorer) == "Overlap: IoU 0.3233 · overlap 8200.0 · passes False"
    explorer.controls["threshold"].value = 0.3
    assert explorer.numbers["passes"]
    explorer.canvas.boxes = STATE["boxes"]
    assert explorer.line.value == "IoU 0.5000 · overlap 50.0000 · passes True"
    assert explorer.state["boxes"].dtype == torch.float32


def test_picture_and_chart_change(explorer):
    chart, still = explorer.chart.value, explorer.to_image().tobytes()
    explorer.set(boxes=STATE["boxes"] * 10)
    assert explorer.chart.value != chart
    assert explorer.to_image().tobytes() != still


def test_set_computes_once_and_names_what_there_is(explorer):
    calls = []
    explorer.compute = lambda **state: calls.append(state) or overlap(**state)
    explorer.set(threshold=0.2, units="squares", boxes=STATE["boxes"])
    assert len(calls) == 1
    with pytest.raises(ValueError, match="no control is called 'treshold'; there are threshold, units, boxes"):
        explorer.set(treshold=0.2)


def test_bundle_is_alive_a_picture_and_text(explorer):
    data, metadata = explorer._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert data["text/plain"] == repr(explorer)
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"])))
    assert picture.width > 1.5 * metadata["image/jpeg"]["width"] - 2
    assert explorer._repr_mimebundle_()[0]["image/jpeg"] == data["image/jpeg"], "the same state, the same bytes"


def test_an_error_is_said_and_raised(explorer):
    def fail(**_state):
        raise ValueError("boxes are upside down")

    explorer.compute = fail
    with pytest.raises(ValueError, match="upside down"):
        explorer.set(threshold=0.1)
    assert explorer.line.value == "ValueError: boxes are upside down"


def test_only_controls_is_enough():
    class Double(Explorer):
        compute = staticmethod(lambda number: {"double": 2 * number})

    explorer = Double({"number": slider("Number", 2, 0, 9, 1)})
    assert repr(explorer.set(number=4)) == "Double: double 8"
    assert explorer.to_image().width > 100


def test_numbers_in_words():
    numbers = {"IoU": 1 / 3, "area": 1234.5678, "kept": [1, 2], "box": torch.tensor([0.5, 1.0]), "ok": True, "by": "me"}
    assert (
        in_words({"box": [340.0, 87.0], "other": [340.5, 87.0], "none": []})
        == "box [340, 87] · other [340.5, 87.0] · none []"
    )
    assert in_words(numbers) == "IoU 0.3333 · area 1234.6 · kept [1, 2] · box [0.5000, 1.0000] · ok True · by me"


def test_controls():
    assert slider("a", 1, 0, 5, 1).value == 1
    assert slider("a", 0.5, 0, 1, 0.05).readout_format == ".2f"
    assert slider("a", 0.5, 0.0, 1.0, 0.1).readout_format == ".1f"
    assert not slider("a", 0.5, 0, 1, slow=True).continuous_update
    assert choice("b", [("one", 1), ("two", 2)]).value == 1
    assert type(choice("b", list("abcde"))).__name__ == "Dropdown"
