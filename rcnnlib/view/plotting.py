"""Pictures of the course: colours with one meaning each, images with boxes on them, figures that read well in a lesson.

Every function takes an Axes and gives it back, and computes nothing. There is no pyplot and no global state: a figure
made by `figure` carries its own Agg canvas and shows itself, with its ``alt`` text beside it, so that readers without
the picture (a screen reader, nbval) still get what it says.
Leaves out: anything that moves (`canvas`, `explorers`).

Shapes:
    N  boxes      H, W  height and width of a picture, pixels      h, w  cells of a map
Boxes are ``(x1, y1, x2, y2)`` in continuous pixels: the picture spans 0..W and 0..H.
"""

import base64
import io
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

# The first import on a machine says "building the font cache" on stderr, in the middle of a lesson.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

import matplotlib  # noqa: E402
import matplotlib.colors  # noqa: E402
import numpy as np  # noqa: E402
from cycler import cycler  # noqa: E402
from jaxtyping import Float, UInt8  # noqa: E402
from matplotlib import font_manager  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.collections import PolyCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402

Kind = Literal["ground_truth", "anchor", "proposal", "detection", "ignored", "note"]


class Style(NamedTuple):
    """How one kind of box is drawn; colour and dashes both tell the kind, so neither is needed alone."""

    colour: str
    dash: tuple[float, ...]  # drawn, left out, ... in CSS pixels; () is a solid line
    width: float  # CSS pixels
    name: str


# Okabe and Ito's palette: told apart by people with any colour vision.
STYLES: dict[str, Style] = {
    "ground_truth": Style("#009E73", (), 3.5, "ground truth"),
    "anchor": Style("#56B4E9", (3, 2), 2.0, "anchor"),
    "proposal": Style("#E69F00", (6, 4), 2.5, "proposal"),
    "detection": Style("#D55E00", (14, 4), 2.5, "detection"),
    "ignored": Style("#999999", (10, 4, 2, 4), 2.0, "ignored"),
    "note": Style("#FFFFFF", (), 1.5, "note"),  # an overlap, a cell, a bin: whatever is none of the five
}
LINES = ("#0072B2", "#CC79A7", "#000000")  # Okabe-Ito colours that mean no kind of box: curves, bars, points

CSS_PIXELS_PER_INCH = 96
SHARPNESS = 1.5  # device pixels for a CSS pixel: crisp on most screens, and a lesson stays under 2 MB
MOST_COLOURS_OF_A_DRAWING = 400  # among 4096 pixels; a photo has thousands


@cache
def fonts() -> list[str]:
    """Return the font families to use: DejaVu Sans, and for Korean the first CJK font that this machine has."""
    known = set(font_manager.get_font_names())
    korean = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo")
    return ["DejaVu Sans", *[name for name in (*korean, "Noto Sans CJK JP") if name in known][:1]]


def course_rc() -> dict[Any, Any]:
    """Return the matplotlib settings of the course: letters of 9 points or more, no frame that says nothing."""
    return {
        "font.family": fonts(),
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.prop_cycle": cycler(color=LINES) + cycler(linestyle=["-", "--", ":"]),
        "lines.linewidth": 2,
        "image.cmap": "cividis",
    }


class LessonFigure(Figure):
    """A figure that shows itself in a notebook: a picture, and ``alt`` as the text beside it."""

    alt: str = ""

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"

    def to_image(self) -> Image.Image:
        """Draw everything and return the pixels."""
        canvas = self.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        with matplotlib.rc_context(course_rc()):
            canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return image_bundle(self.to_image(), repr(self))


def figure(
    width: float = 860, height: float = 320, *, rows: int = 1, columns: int = 1, alt: str
) -> tuple[LessonFigure, Any]:
    """Make a figure of ``width`` x ``height`` CSS pixels (a JupyterLab cell is about 900 wide) and its axes.

    ``alt`` says in a sentence what is to be seen; put the numbers of the picture in it, for nbval compares it.
    Axes come as ``matplotlib.figure.Figure.subplots`` gives them: one Axes, a row, or an array (rows, columns).
    """
    with matplotlib.rc_context(course_rc()):
        size = (width / CSS_PIXELS_PER_INCH, height / CSS_PIXELS_PER_INCH)
        result = LessonFigure(figsize=size, dpi=CSS_PIXELS_PER_INCH * SHARPNESS, layout="constrained")
        FigureCanvasAgg(result)
        result.alt = alt
        return result, result.subplots(rows, columns)


def encode_image(image: Image.Image, *, compress_level: int = 6) -> tuple[bytes, str]:
    """Return the picture as bytes and their mime type: a drawing as PNG, a photo as JPEG q90 with all its colour.

    A photo as PNG takes ten times as long and four times the room.
    """
    few = image.resize((64, 64), Image.Resampling.NEAREST).getcolors(MOST_COLOURS_OF_A_DRAWING)
    out = io.BytesIO()
    if few is not None:
        image.save(out, "PNG", compress_level=compress_level)
        return out.getvalue(), "image/png"
    image.save(out, "JPEG", quality=90, subsampling=0)
    return out.getvalue(), "image/jpeg"


def image_bundle(image: Image.Image, text: str) -> tuple[dict, dict]:
    """Return data and metadata of a notebook output that shows ``image`` and says ``text``."""
    data, mime = encode_image(image)
    size = {"width": round(image.width / SHARPNESS), "height": round(image.height / SHARPNESS)}
    return {mime: base64.b64encode(data).decode("ascii"), "text/plain": text}, {mime: size}


def to_pixels(image: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture as bytes: from a tensor (3, H, W) in [0, 1], an array (H, W, 3) or (H, W), or a PIL image."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and array.ndim == 3 and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ValueError(
            f"image must be a tensor (3, H, W), an array (H, W, 3) or a PIL image; got shape {tuple(image.shape)}. "
            "For one picture of a batch, index it: images[0]."
        )
    if array.dtype != np.uint8:
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def to_boxes(boxes: Any) -> Float[np.ndarray, "N 4"]:
    """Return boxes as a float32 array (N, 4): from a tensor, an array or a list; one box alone becomes one row."""
    array = boxes.detach().cpu().numpy() if isinstance(boxes, Tensor) else np.asarray(boxes)
    array = array.astype(np.float32)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim > 2 or array.shape[-1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), rows x1, y1, x2, y2; got {array.shape}.")
    return array.reshape(-1, 4)


def show_image(ax: Axes, image: Any) -> Axes:
    """Show a picture so that box coordinates are its pixels: (0, 0) is its corner, (W, H) the opposite one."""
    pixels = to_pixels(image)
    height, width = pixels.shape[:2]
    ax.imshow(pixels, extent=(0, width, height, 0), aspect="equal")
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    return ax


def show_map(ax: Axes, values: Any, *, size: tuple[float, float] | None = None, text: str | None = None) -> Axes:
    """Show a map of numbers (h, w) cell by cell; ``size`` = (H, W) stretches it over a picture's pixels.

    ``text`` is a format such as ``".2f"`` that writes each number into its cell (for toys of a few cells).
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    cells_high, cells_wide = array.shape
    height, width = size or (cells_high, cells_wide)
    picture = ax.imshow(array, extent=(0, width, height, 0), aspect="equal", interpolation="nearest", cmap="cividis")
    ax.set_axis_off()
    if text is not None:
        for row, column in np.ndindex(array.shape):
            colour = readable_on(picture.cmap(picture.norm(array[row, column]))[:3])
            place = (column + 0.5) * width / cells_wide, (row + 0.5) * height / cells_high
            ax.text(*place, format(array[row, column], text), ha="center", va="center", color=colour, fontsize=10)
    return ax


def readable_on(colour: Any) -> str:
    """Return black or white, whichever can be read on ``colour`` (relative luminance of WCAG 2)."""
    red, green, blue = (((v + 0.055) / 1.055) ** 2.4 for v in matplotlib.colors.to_rgb(colour))
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def draw_boxes(
    ax: Axes, boxes: Any, *, kind: Kind, labels: Sequence[str] | None = None, scores: Any = None, fill: float = 0
) -> Axes:
    """Draw boxes (N, 4) of one kind as one PolyCollection on its halo, with label and score at the upper left.

    ``fill`` in [0, 1] is how opaque their inside is.
    """
    style, corners = STYLES[kind], to_boxes(boxes)
    points = corners[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).tolist()
    scale = 72 / CSS_PIXELS_PER_INCH  # matplotlib counts lines in points
    # A white line between two dark ones can be seen on any photo; all others stand on a white one.
    halo = "black" if kind == "note" else "white"
    for colour, width, dash, alpha in ((halo, style.width + 2, (), 0.5), (style.colour, style.width, style.dash, 1.0)):
        line = (0, tuple(scale * d / (scale * width) for d in dash)) if dash else "solid"
        ax.add_collection(
            PolyCollection(
                points, facecolors="none", edgecolors=colour, linewidths=scale * width, linestyles=[line], alpha=alpha
            ),
            autolim=False,
        )
    if fill:
        ax.add_collection(PolyCollection(points, facecolors=style.colour, alpha=fill), autolim=False)
    for (x1, y1, _, _), text in zip(corners, box_texts(len(corners), labels, scores), strict=True):
        if text:
            write_label(ax, float(x1), float(y1), text, style.colour)
    return ax


def box_texts(count: int, labels: Sequence[str] | None = None, scores: Any = None) -> list[str]:
    """Join label and score of each box: ``zebra 0.98``."""
    names = [""] * count if labels is None else [str(label) for label in labels]
    if len(names) != count or (scores is not None and len(scores) != count):
        raise ValueError(f"labels and scores must have one entry a box: {count} boxes, {len(names)} labels.")
    if scores is None:
        return names
    return [f"{name} {float(score):.2f}".strip() for name, score in zip(names, scores, strict=True)]


def write_label(ax: Axes, x: float, y: float, text: str, colour: str) -> Axes:
    """Write ``text`` on a ground of ``colour`` above the point, or below it where the axes would cut it off."""
    bottom, top = ax.get_ylim()
    room = abs(y - top) / max(abs(top - bottom), 1e-9) * ax.bbox.height / (CSS_PIXELS_PER_INCH * SHARPNESS) * 72
    ax.annotate(
        text,
        (x, y),
        xytext=(0, 1 if room > 16 else -1),
        textcoords="offset points",
        va="bottom" if room > 16 else "top",
        fontsize=9,
        color=readable_on(colour),
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
        annotation_clip=True,
    )
    return ax


def name_line(ax: Axes, x: float, y: float, text: str, colour: str) -> Axes:
    """Write the name of a curve beside its end (x, y), in its colour: quicker to read than a legend."""
    ax.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", color=colour, fontsize=10)
    return ax


def annotate(image: Any, boxes: Any, labels: Sequence[str], scores: Any) -> Image.Image:
    """Return a photo with detections drawn on it, without axes and at its own size; long sides are at least 640."""
    pixels = to_pixels(image)
    height, width = pixels.shape[:2]
    zoom = max(1.0, 640 / max(height, width))
    fig, ax = figure(zoom * width / SHARPNESS, zoom * height / SHARPNESS, alt="")
    fig.set_layout_engine("none")
    ax.set_position((0, 0, 1, 1))
    show_image(ax, pixels)
    draw_boxes(ax, boxes, kind="detection", labels=labels, scores=scores)
    return fig.to_image()
