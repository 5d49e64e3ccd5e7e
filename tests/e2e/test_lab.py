"""The real JupyterLab in a real browser: exhibits follow mouse and keyboard, lessons run, the console stays clean."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from lab import Notebook, browser_missing, capture
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = os.environ.get("SCREENSHOTS")
pytestmark = pytest.mark.browser


def write(path: Path, *cells: nbformat.NotebookNode | str) -> None:
    """Store a notebook of code cells that JupyterLab opens without asking for a kernel."""
    made = [nbformat.v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), path)


def keep_pictures(notebook: Notebook, stem: str) -> None:
    """Photograph the page where $SCREENSHOTS says so."""
    if PICTURES:
        capture(notebook, Path(PICTURES), stem)


@pytest.fixture(scope="module")
def demo(lab, browser):
    """A notebook with the demo explorer, run."""
    cells = [
        f"import sys\nsys.path.insert(0, {str(ROOT / 'tests' / 'view')!r})\nfrom demo_explorer import Overlap",
        "explorer = Overlap()\nexplorer",
        "from rcnnlib.view.notebook import predict\npredict('Half of two equal boxes?', ['1/2', '1/3'], '1/3', 'So.')",
    ]
    write(lab.folder / "demo.ipynb", *cells)
    page = Notebook(lab, browser, "demo.ipynb")
    page.run_all()
    expect(page.canvases).to_have_count(1)
    yield page
    keep_pictures(page, "demo")
    page.close()


def test_slider_changes_numbers_and_chart(demo):
    chart = demo.page.locator("img.widget-image:visible, .widget-image img:visible").first
    demo.drag_slider(demo.sliders.first, -100)
    before, picture = demo.numbers(), demo.picture(chart)
    demo.drag_slider(demo.sliders.first, 30)
    demo.expect_picture_changed(chart, picture)
    demo.drag_slider(demo.sliders.first, -100)  # from below 0.32 the IoU passes, above it does not
    demo.drag_slider(demo.sliders.first, 150)
    demo.expect_numbers_changed(before)
    demo.assert_clean()


def test_box_is_dragged_resized_and_kept_inside(demo):
    canvas = demo.canvases.first
    # The first box: moved from (64, 60, 192, 180) by 10 pixels, its corner (54, 50) pulled by 20, pushed far outside.
    inside, corner, held = (80 / 320, 120 / 240), (54 / 320, 50 / 240), (60 / 320, 100 / 240)
    for start, by in ((inside, (-15, -15)), (corner, (-30, -30)), (held, (-2000, -2000))):
        before, picture = demo.numbers(), demo.picture(canvas)
        demo.drag(canvas, start, by)
        demo.expect_picture_changed(canvas, picture)
        demo.expect_numbers_changed(before)
    demo.assert_clean()


def test_arrow_keys_move_and_resize_and_leave_the_notebook_alone(demo):
    canvas = demo.canvases.first
    cell = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    active = demo.page.evaluate(cell)
    for key in ("ArrowDown", "ArrowRight", "Shift+ArrowDown", "Alt+ArrowRight"):
        before, picture = demo.numbers(), demo.picture(canvas)
        demo.press(canvas, key, 3)
        demo.expect_picture_changed(canvas, picture)
        demo.expect_numbers_changed(before)
    assert demo.page.evaluate(cell) == active
    expect(canvas).to_be_focused()
    demo.assert_clean()


def test_click_picks_a_box_and_enter_the_next(demo):
    canvas = demo.canvases.first
    demo.click(canvas, (0.98, 0.98))
    unpicked = demo.picture(canvas)
    demo.press(canvas, "Enter")
    demo.expect_picture_changed(canvas, unpicked)
    demo.assert_clean()


def test_canvas_fits_a_narrow_cell_and_is_sharp(demo):
    canvas = demo.canvases.first
    wide = canvas.bounding_box()["width"]
    demo.page.set_viewport_size({"width": 700, "height": 900})
    demo.page.wait_for_function("([e, w]) => e.clientWidth < w", arg=[canvas.element_handle(), wide])
    demo.page.wait_for_function(
        "(e) => e.width === Math.round(e.clientWidth * devicePixelRatio)", arg=canvas.element_handle()
    )
    demo.drag(canvas, (0.3, 0.3), (15, 10))
    demo.page.set_viewport_size({"width": 1280, "height": 900})
    demo.page.wait_for_function("([e, w]) => e.clientWidth === w", arg=[canvas.element_handle(), round(wide)])
    assert "Arrow keys" in canvas.get_attribute("aria-label")
    demo.assert_clean()


def test_answer_appears_after_a_pick(demo):
    button = demo.page.get_by_role("button", name="Show the answer")
    expect(button).to_be_disabled()
    demo.page.get_by_label("1/2").check()
    button.click()
    expect(demo.lines.last).to_contain_text("You said 1/2; it is 1/3")
    demo.assert_clean()


def test_missing_browser_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr("lab.CHROMIUM", "/nowhere/chromium")
    assert browser_missing() == "no Chromium at /nowhere/chromium: apt-get install chromium, or set CHROMIUM"


def test_an_error_of_the_page_is_noticed(lab, browser):
    write(lab.folder / "broken.ipynb", "1 / 0", "2")
    page = Notebook(lab, browser, "broken.ipynb")
    page.run_all()
    page.page.evaluate("() => console.error('told on purpose')")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        page.assert_clean()
    assert page.complaints == ["told on purpose"]
    page.close()


FEWER = """
import ipywidgets
import numpy as np
from rcnnlib.view.canvas import Canvas
canvas = Canvas(np.zeros((60, 80, 3), np.uint8), alt="black")
count = ipywidgets.IntSlider(9, min=1, max=9)
def show(*_):
    canvas.show(None, [[5 * n, 5, 5 * n + 20, 40] for n in range(count.value)], kinds=["anchor"] * count.value)
count.observe(show, "value")
show()
ipywidgets.VBox([count, canvas])
"""


def test_boxes_become_fewer_without_a_complaint(lab, browser):
    write(lab.folder / "fewer.ipynb", FEWER)
    page = Notebook(lab, browser, "fewer.ipynb")
    page.run_all()
    before = page.picture(page.canvases.first)
    page.drag_slider(page.sliders.first, -150)
    page.expect_picture_changed(page.canvases.first, before)
    page.assert_clean()
    page.close()


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs_and_its_exhibits_move(lab, browser, lesson):
    page = Notebook(lab, browser, lab.add(lesson))
    page.run_all(patience=300_000)
    page.assert_clean()
    keep_pictures(page, lesson.stem)
    for places, move in ((page.sliders, page.drag_slider), (page.movable, page.nudge)):
        if places.count():
            before = page.numbers()
            move(places.first)
            page.expect_numbers_changed(before)
    page.assert_clean()
    page.close()


def test_a_fresh_copy_shows_pictures_before_it_is_run(lab, browser):
    out = {"image/png": DOT, "text/plain": "Overlap: IoU 0.3", VIEW: {"model_id": "0" * 32, "version_major": 2}}
    cell = nbformat.v4.new_code_cell("1", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("execute_result", json.loads(json.dumps(out)), execution_count=1)]
    write(lab.folder / "fresh.ipynb", cell)
    page = Notebook(lab, browser, "fresh.ipynb")
    expect(page.page.locator(".jp-OutputArea-output img")).to_have_count(1)
    page.assert_clean()
    page.close()


VIEW = "application/vnd.jupyter.widget-view+json"
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
