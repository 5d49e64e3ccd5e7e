"""The canvas without a browser: what crosses to it, what comes back, and the chart's kept background."""

from time import perf_counter

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection

from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.plotting import show_image

BOXES = [[10.0, 20.0, 30.0, 40.0], [50.0, 60.0, 70.0, 80.0]]


@pytest.fixture
def canvas():
    return Canvas(torch.rand(3, 90, 120), BOXES, kinds=["ground_truth", "anchor"], editable=[0], alt="noise")


def test_boxes_cross_as_float32_bytes(canvas):
    state = canvas.get_state()
    assert np.frombuffer(state["boxes"], np.float32).tolist() == np.ravel(BOXES).tolist()
    assert (state["width"], state["height"]) == (120, 90)
    assert state["styles"]["anchor"]["dash"]


def test_boxes_come_back_and_are_observed(canvas):
    seen = []
    canvas.observe(lambda change: seen.append(change["new"].tolist()), "boxes")
    moved = np.array(BOXES, np.float32) + 5
    canvas.set_state({"boxes": memoryview(moved.tobytes())})
    assert seen == [moved.tolist()]
    canvas.set_state({"boxes": memoryview(moved.tobytes())})
    assert len(seen) == 1, "the same boxes again are no change"


@pytest.mark.parametrize("value", [torch.tensor(BOXES), np.array(BOXES), BOXES])
def test_boxes_take_what_holds_boxes(canvas, value):
    canvas.boxes = torch.zeros(0, 4)
    assert canvas.boxes.shape == (0, 4)
    canvas.boxes = value
    assert canvas.boxes.tolist() == BOXES


def test_boxes_cannot_be_changed_behind_the_browsers_back(canvas):
    with pytest.raises(ValueError, match="read-only"):
        canvas.boxes[0, 0] = 1


def test_one_kind_serves_all_and_no_boxes_are_legal():
    assert Canvas(np.zeros((4, 4, 3), np.uint8), BOXES, kinds="anchor", alt="").kinds == ["anchor", "anchor"]
    assert Canvas(np.zeros((4, 4, 3), np.uint8), alt="").boxes.shape == (0, 4)


def test_new_boxes_keep_the_picture(canvas):
    picture = canvas.picture
    canvas.selected = 1
    canvas.show(None, BOXES[:1], kinds="detection")
    assert canvas.picture is picture
    assert (canvas.kinds, canvas.labels, canvas.selected) == (["detection"], [""], -1)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="2 boxes need as many kinds and labels; got 1 and 0"):
        Canvas(np.zeros((4, 4, 3), np.uint8), BOXES, kinds=["anchor"], alt="")
    with pytest.raises(ValueError, match=r"indices of the 2 boxes; got \[2\]"):
        Canvas(np.zeros((4, 4, 3), np.uint8), BOXES, editable=[2], alt="")


def photo_chart() -> tuple[Chart, PolyCollection]:
    chart = Chart(640, 480)
    show_image(chart.axes, np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8))
    boxes = PolyCollection([], facecolors="none", edgecolors="r")
    chart.axes.add_collection(boxes, autolim=False)
    chart.animate(boxes)
    return chart, boxes


def squares(left: float) -> list:
    return [[(x + left, 10), (x + left + 30, 10), (x + left + 30, 60), (x + left, 60)] for x in range(0, 500, 2)]


def test_chart_draws_what_moves_on_a_kept_background():
    chart, boxes = photo_chart()
    pictures = []
    for left in (0, 50, 0):
        boxes.set_verts(squares(left))
        chart.refresh()
        pictures.append(chart.value)
    assert pictures[0] == pictures[2] != pictures[1]
    assert chart.format == "jpeg"


def test_chart_redraws_its_background_when_told():
    chart = Chart(200, 150)
    chart.refresh()
    before = chart.value
    chart.axes.set_title("new")
    chart.refresh()
    assert chart.value == before
    chart.redraw_background()
    chart.refresh()
    assert chart.value != before


def test_time_of_a_move_is_printed(capsys):
    chart, boxes = photo_chart()
    times = {"kept": [], "redrawn": []}
    for index in range(6):
        for name, spent in times.items():
            boxes.set_verts(squares(index))
            start = perf_counter()
            if name == "redrawn":
                chart.redraw_background()
            chart.refresh()
            spent.append(1000 * (perf_counter() - start))
    kept, redrawn = (np.median(spent) for spent in times.values())
    with capsys.disabled():
        print(f"\n  chart, photo 640x480, 250 boxes: {kept:.1f} ms a move; all drawn anew {redrawn:.1f} ms")
