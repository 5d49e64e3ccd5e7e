"""Two things that move in a lesson: a picture whose boxes can be dragged (`Canvas`), and a chart drawn anew (`Chart`).

The canvas is one small anywidget, `canvas.js` beside this file: it redraws by itself at once and tells the kernel of
new boxes once per animation frame. The chart is one Agg canvas kept for its whole life: the part that never changes is
drawn once, restored as pixels, and only the moving artists are drawn on it.
Leaves out: controls and numbers (`explorers.base`), and drawing boxes by hand from nothing.

Shapes:
    N  boxes      H, W  height and width of the picture, pixels
Boxes are ``(x1, y1, x2, y2)`` in continuous pixels of the picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import matplotlib
import numpy as np
import traitlets
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from rcnnlib.view.plotting import STYLES, course_rc, encode_image, figure, to_boxes, to_pixels


class BoxesTrait(traitlets.TraitType[Any, Any]):
    """Boxes (N, 4) as a read-only float32 array here and as its bytes in the browser."""

    info_text = "boxes of shape (N, 4)"
    default_value = np.zeros((0, 4), np.float32)

    def validate(self, obj: Any, value: Any) -> np.ndarray:
        """Accept a tensor, an array or a list; keep a copy that cannot be changed in place behind our back."""
        boxes = to_boxes(value).copy()
        boxes.setflags(write=False)
        return boxes

    def set(self, obj: Any, value: Any) -> None:
        """Store the boxes, and say so only if they differ: arrays have no single truth of being equal."""
        boxes: np.ndarray = self.validate(obj, value)
        old = obj._trait_values.get(self.name)
        if old is None or not np.array_equal(old, boxes):
            obj._trait_values[self.name] = boxes
            obj._notify_trait(self.name, old, boxes)


def _to_bytes(boxes: np.ndarray, _widget: Any) -> bytes:
    return boxes.tobytes()


def _from_bytes(data: Any, _widget: Any) -> np.ndarray:
    return np.frombuffer(data, np.float32).reshape(-1, 4)


class Canvas(anywidget.AnyWidget):
    """A picture with boxes that the learner can drag, resize, nudge with the arrow keys, and pick.

    ``boxes`` is an array (N, 4); assign a tensor, an array or a list. ``selected`` is the index of the picked box, -1
    for none; ``clicked`` the last point clicked, [x, y] in pixels of the picture. Watch them with ``observe``.
    """

    _esm = Path(__file__).with_name("canvas.js")
    _css = """
    .rcnn-canvas { display: block; width: 100%; border-radius: 2px; outline-offset: -3px; }
    .rcnn-canvas:focus { outline: 2px solid #0072B288; }
    .rcnn-canvas:focus-visible { outline: 3px solid #0072B2; }
    """
    picture = traitlets.Bytes().tag(sync=True)
    mime = traitlets.Unicode().tag(sync=True)
    width = traitlets.Int().tag(sync=True)
    height = traitlets.Int().tag(sync=True)
    boxes: Any = BoxesTrait().tag(sync=True, to_json=_to_bytes, from_json=_from_bytes)
    kinds: Any = traitlets.List(traitlets.Enum(list(STYLES))).tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    editable = traitlets.List(traitlets.Int()).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    clicked = traitlets.List(traitlets.Float(), default_value=None, allow_none=True).tag(sync=True)
    min_size = traitlets.Float(4.0).tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    styles = traitlets.Dict({kind: style._asdict() for kind, style in STYLES.items()}).tag(sync=True)

    def __init__(
        self,
        image: Any,
        boxes: Any = (),
        *,
        kinds: str | Sequence[str] = "proposal",
        labels: Sequence[str] = (),
        editable: Sequence[int] = (),
        alt: str,
        display_width: int = 520,
    ) -> None:
        """Show ``image`` at ``display_width`` CSS pixels, less in a narrow cell.

        ``kinds`` is one kind for all boxes or one for each; ``editable`` are the indices of boxes that can be dragged;
        ``alt`` says in a few words what the picture shows, for those who cannot see it.
        """
        super().__init__(alt=alt, layout=ipywidgets.Layout(width=f"{display_width}px", max_width="100%"))
        self.show(image, boxes, kinds=kinds, labels=labels, editable=editable)

    def show(
        self,
        image: Any,
        boxes: Any = (),
        *,
        kinds: str | Sequence[str] = "proposal",
        labels: Sequence[str] = (),
        editable: Sequence[int] = (),
    ) -> None:
        """Change picture and boxes together; with ``image=None`` keep the picture (only the boxes travel)."""
        rows = to_boxes(boxes)
        names, each = list(labels), [kinds] * len(rows) if isinstance(kinds, str) else list(kinds)
        if len(each) != len(rows) or len(names) not in (0, len(rows)):
            raise ValueError(f"{len(rows)} boxes need as many kinds and labels; got {len(each)} and {len(names)}.")
        if any(not 0 <= index < len(rows) for index in editable):
            raise ValueError(f"editable must be indices of the {len(rows)} boxes; got {list(editable)}.")
        with self.hold_sync(), self.hold_trait_notifications():
            if image is not None:
                self.pixels = to_pixels(image)
                self.height, self.width = self.pixels.shape[:2]
                self.picture, self.mime = encode_image(Image.fromarray(self.pixels))
            self.kinds, self.labels, self.editable = each, names or [""] * len(rows), list(editable)
            self.boxes = rows
            if self.selected >= len(rows):
                self.selected = -1


class Chart(ipywidgets.Image):
    """A chart that is quick to draw again: one Agg canvas, the background kept, only the moving artists drawn anew.

    Draw the still part on ``axes`` once; name what moves with ``animate``; after changing that, call ``refresh``.
    Give the axes fixed limits: ticks are part of the background.
    """

    def __init__(self, width: int = 400, height: int = 320, **subplots: Any) -> None:
        """Make a chart of ``width`` x ``height`` CSS pixels; ``rows`` and ``columns`` as in `plotting.figure`."""
        layout = ipywidgets.Layout(width=f"{width}px", max_width="100%", height="auto", object_fit="contain")
        super().__init__(layout=layout)
        self.figure, self.axes = figure(width, height, alt="", **subplots)
        self._moving: list[Artist] = []
        self._background: Any = None

    def animate(self, *artists: Artist) -> None:
        """Name artists that change from one ``refresh`` to the next; everything else is background."""
        for artist in artists:
            artist.set_animated(True)
            artist.set_in_layout(False)
        self._moving.extend(artists)
        self._background = None

    def redraw_background(self) -> None:
        """Have the next ``refresh`` draw everything anew, after a change of what stands still (slow)."""
        self._background = None

    def refresh(self) -> None:
        """Draw what moves on the kept background and show it."""
        data, mime = encode_image(self.to_image(), compress_level=1)
        with self.hold_sync():
            self.format, self.value = mime.removeprefix("image/"), data

    def to_image(self) -> Image.Image:
        """Return the chart as it is now."""
        canvas = self.figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        with matplotlib.rc_context(course_rc()):
            if self._background is None:
                canvas.draw()  # leaves animated artists out
                self._background = canvas.copy_from_bbox(self.figure.bbox)
            canvas.restore_region(self._background)
            for artist in self._moving:
                (artist.axes or self.figure).draw_artist(artist)
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
