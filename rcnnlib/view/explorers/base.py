"""What every explorer is made of: controls, a canvas and/or a chart, and one line of numbers.

A file of `explorers` has the pure function ``state -> numbers`` on top, which calls ops, models or engine only and is
tested without a browser; the class below it says which controls there are and what the pictures show. Explorers
compute nothing themselves.
Shown by JupyterLab an explorer is alive; on a code host it is a picture of its present state; nbval compares its line.
Leaves out: `interact` and `Output`, whose output nbval files elsewhere.

Shapes:
    N  boxes on the canvas
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import anywidget
import ipywidgets
import numpy as np
import torch
import traitlets
from PIL import Image

from rcnnlib.view.canvas import Canvas, Chart
from rcnnlib.view.plotting import SHARPNESS, draw_boxes, figure, image_bundle, show_image, to_boxes

LABEL_WIDTH, CONTROL_WIDTH = "130px", "430px"


def slider(
    text: str, value: float, low: float, high: float, step: float = 0.01, *, slow: bool = False
) -> ipywidgets.FloatSlider | ipywidgets.IntSlider:
    """Return a slider, of whole numbers if all four are; ``slow`` moves only on release (for anything over 80 ms)."""
    whole = all(isinstance(number, int) for number in (value, low, high, step))
    decimals = 0 if whole else max(0, -int(np.floor(np.log10(step) + 1e-9)))
    made = (ipywidgets.IntSlider if whole else ipywidgets.FloatSlider)(
        value, min=low, max=high, step=step, description=text, readout_format="d" if whole else f".{decimals}f"
    )
    return _laid_out(made, continuous_update=not slow)


def choice(text: str, options: Sequence[Any], value: Any = None) -> ipywidgets.ToggleButtons | ipywidgets.Dropdown:
    """Return buttons for up to four short options, a menu for more; options are values or (label, value) pairs."""
    chosen = value if value is not None else (options[0][1] if isinstance(options[0], tuple) else options[0])
    if len(options) > 4:
        return _laid_out(ipywidgets.Dropdown(options=options, value=chosen, description=text))
    made = ipywidgets.ToggleButtons(options=options, value=chosen, description=text)
    made.style.button_width, made.style.description_width = "auto", LABEL_WIDTH
    made.layout.width = "max-content"
    return made.add_class("widget-inline-hbox")  # else their name stands above them, alone among the controls


def switch(text: str, value: bool = False) -> ipywidgets.Checkbox:
    """Return a box to tick."""
    made = ipywidgets.Checkbox(value, description=text, indent=False)
    made.layout.margin = f"0 0 0 {LABEL_WIDTH}"
    return made


def _laid_out(control: Any, **traits: Any) -> Any:
    """Give a control the room that all controls have, so that they stand in a column."""
    control.style.description_width = LABEL_WIDTH
    control.layout.width, control.layout.max_width = CONTROL_WIDTH, "100%"
    for name, value in traits.items():
        setattr(control, name, value)
    return control


class Line(anywidget.AnyWidget):
    """A line of text that screen readers read out when it changes."""

    _esm = """
    function render({ model, el }) {
      const line = document.createElement("div");
      line.className = "rcnn-line";
      line.setAttribute("role", "status");
      line.setAttribute("aria-live", "polite");
      const show = () => { line.textContent = model.get("value"); };
      model.on("change:value", show);
      show();
      el.append(line);
    }
    export default { render };
    """
    _css = """
    .rcnn-line { font: 15px/1.5 var(--jp-code-font-family, monospace); color: var(--jp-ui-font-color1, black);
                 padding: 4px 0; white-space: pre-wrap; }
    """
    value = traitlets.Unicode().tag(sync=True)


def in_words(numbers: Mapping[str, Any]) -> str:
    """Say numbers in one line: floats with 4 decimals, from 100 on with 1; coordinates of one list look alike."""

    def decimals(values: Sequence[float]) -> int:
        return 4 if max(map(abs, values)) < 100 else 1

    def say(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            value = value.tolist()
        if isinstance(value, list | tuple) and value and all(isinstance(item, float) for item in value):
            places = 0 if all(item == round(item) for item in value) else decimals(value)
            return "[" + ", ".join(f"{item:.{places}f}" for item in value) + "]"
        if isinstance(value, list | tuple):
            return "[" + ", ".join(say(item) for item in value) + "]"
        return f"{value:.{decimals([value])}f}" if isinstance(value, float) else str(value)

    return " · ".join(f"{name} {say(value)}" for name, value in numbers.items())


class Explorer(ipywidgets.VBox):
    """Controls, pictures and one line of numbers that follow each other.

    A subclass sets ``compute``, the pure function that takes the state as keyword arguments and returns a dict of
    numbers by name (set it before ``super().__init__`` where it needs a model or a picture: a `functools.partial`),
    and may override ``draw`` (bring canvas and chart up to date) and ``tell`` (the line).
    ``from_canvas`` names the traits of the canvas that belong to the state; ``boxes`` arrives as a tensor (N, 4).
    """

    compute: Callable[..., dict[str, Any]]
    from_canvas: ClassVar[tuple[str, ...]] = ("boxes",)
    canvas: Any  # a Canvas, or None
    chart: Any  # a Chart, or None
    children: Any

    def __init__(
        self,
        controls: Mapping[str, Any] | None = None,
        *,
        canvas: Canvas | None = None,
        chart: Chart | None = None,
        title: str = "",
    ) -> None:
        self.controls, self.canvas, self.chart, self.title = dict(controls or {}), canvas, chart, title
        self.numbers: dict[str, Any] = {}
        self.line = Line()
        self._held = False
        pictures = ipywidgets.Box(
            [picture for picture in (canvas, chart) if picture is not None],
            layout=ipywidgets.Layout(
                flex_flow="row wrap", align_items="flex-start", grid_gap="16px", overflow="visible"
            ),
        )
        super().__init__([*self.controls.values(), pictures, self.line])
        self.layout.overflow = "visible"
        for control in self.controls.values():
            control.observe(self._follow, "value")
        if canvas is not None and self.from_canvas:
            canvas.observe(self._follow, list(self.from_canvas))
        self.update()

    @property
    def state(self) -> dict[str, Any]:
        """The values of all controls by name, and what the canvas adds to them."""
        state = {name: control.value for name, control in self.controls.items()}
        if self.canvas is not None:
            state |= {name: getattr(self.canvas, name) for name in self.from_canvas}
        if "boxes" in state:
            state["boxes"] = torch.from_numpy(np.array(state["boxes"]))
        return state

    def set(self, **values: Any) -> "Explorer":
        """Set controls by name, and ``boxes``, ``selected`` or ``clicked`` of the canvas; compute once."""
        self._held = True
        try:
            for name, value in values.items():
                if name in self.controls:
                    self.controls[name].value = value
                elif self.canvas is not None and name in self.from_canvas:
                    setattr(self.canvas, name, value)
                else:
                    raise ValueError(f"no control is called {name!r}; there are {', '.join(self.state)}.")
        finally:
            self._held = False
        self.update()
        return self

    def _follow(self, _change: Any) -> None:
        if not self._held:
            self.update()

    def update(self) -> None:
        """Compute the numbers of the present state and show them."""
        self._held = True  # drawing may move controls and boxes; that is no new question
        try:
            self.numbers = self.compute(**self.state)
            self.draw(self.numbers)
            if self.chart is not None:
                self.chart.refresh()
            self.line.value = self.tell(self.numbers)
        except Exception as error:
            self.line.value = f"{type(error).__name__}: {error}"  # an observer's traceback reaches no learner
            raise
        finally:
            self._held = False

    def draw(self, numbers: dict[str, Any]) -> None:
        """Bring canvas and chart up to date; `update` then calls ``chart.refresh()``."""

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the numbers in one line."""
        return in_words(numbers)

    def __repr__(self) -> str:
        return f"{self.title or type(self).__name__}: {self.line.value}"

    def _repr_mimebundle_(self, **_kwargs: Any) -> tuple[dict, dict]:
        data, metadata = image_bundle(self.to_image(), repr(self))
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return data | {"application/vnd.jupyter.widget-view+json": view}, metadata

    def to_image(self) -> Image.Image:
        """Return a picture of the present state: canvas and chart side by side, controls and numbers below."""
        pictures = [_still(self.canvas)] if self.canvas is not None else []
        if self.chart is not None:
            pictures.append(self.chart.to_image())
        gap = round(16 * SHARPNESS)
        width = max(sum(p.width for p in pictures) + gap * max(len(pictures) - 1, 0), round(480 * SHARPNESS))
        settings = in_words({c.description or name: c.value for name, c in self.controls.items()})
        pictures_high = max((p.height for p in pictures), default=0)
        caption = _caption("\n".join(filter(None, (settings, self.line.value))), width)
        page = Image.new("RGB", (width, pictures_high + caption.height), "white")
        left = 0
        for picture in pictures:
            page.paste(picture, (left, 0))
            left += picture.width + gap
        page.paste(caption, (0, pictures_high))
        return page


def _still(canvas: Canvas) -> Image.Image:
    """Draw a canvas with its boxes as it stands in the browser."""
    width = int(str(canvas.layout.width).removesuffix("px"))
    made, ax = figure(width, width * canvas.height / canvas.width, alt=canvas.alt)
    made.set_layout_engine("none")
    ax.set_position((0, 0, 1, 1))
    show_image(ax, canvas.pixels)
    boxes = to_boxes(canvas.boxes)
    for kind in dict.fromkeys(canvas.kinds):
        rows = [index for index, name in enumerate(canvas.kinds) if name == kind]
        draw_boxes(ax, boxes[rows], kind=kind, labels=[canvas.labels[index] for index in rows])
    return made.to_image()


def _caption(text: str, width: int) -> Image.Image:
    """Write lines of text on a strip of the given width in device pixels, broken where they are too long."""
    letters = max(20, int(width / SHARPNESS / 8.2))  # a letter of 10 points is about 8 CSS pixels wide
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, letters)]
    made, ax = figure(width / SHARPNESS, 10 + 20 * len(lines), alt="")
    made.set_layout_engine("none")
    ax.remove()
    made.text(0.005, 0.5, "\n".join(lines), va="center", family="monospace", fontsize=10, linespacing=1.4)
    return made.to_image()
