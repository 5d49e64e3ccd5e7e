"""Pictures: box coordinates are pixels, kinds differ without colour, letters can be read, figures say their text."""

import base64
import io

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from PIL import Image

from rcnnlib.view import plotting
from rcnnlib.view.plotting import STYLES, box_texts, draw_boxes, encode_image, figure, show_image, show_map


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_pixels_of_the_picture_are_box_coordinates():
    _, ax = figure(400, 300, alt="")
    show_image(ax, torch.zeros(3, 30, 40))
    assert ax.images[0].get_extent() == [0, 40, 30, 0]
    assert ax.get_xlim() == (0, 40)
    assert ax.get_ylim() == (30, 0)
    draw_boxes(ax, torch.tensor([[10.0, 5.0, 20.0, 15.0]]), kind="proposal")
    corners = ax.collections[-1].get_paths()[0].vertices
    np.testing.assert_array_equal(corners[:4], [[10, 5], [20, 5], [20, 15], [10, 15]])
    assert ax.get_xlim() == (0, 40)


def test_300_boxes_are_one_collection_and_its_halo():
    _, ax = figure(400, 300, alt="")
    draw_boxes(ax, torch.rand(300, 4), kind="anchor")
    assert len(ax.collections) == 2
    assert all(isinstance(collection, PolyCollection) for collection in ax.collections)
    assert not ax.patches


def test_no_boxes_are_legal():
    made, ax = figure(400, 300, alt="")
    assert draw_boxes(ax, torch.zeros(0, 4), kind="detection", labels=[], scores=torch.zeros(0)) is ax
    made.to_image()


def test_kinds_differ_in_dashes_or_width_and_in_colour():
    assert len({style.colour for style in STYLES.values()}) == len(STYLES)
    assert len({(style.dash, style.width) for style in STYLES.values()}) == len(STYLES)


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_labels_can_be_read_on_their_ground(style):
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(style.colour), luminance(plotting.readable_on(style.colour))])
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, level AA


def test_label_and_score():
    assert box_texts(2, ["a", "b"], torch.tensor([0.5, 1.0])) == ["a 0.50", "b 1.00"]
    assert box_texts(1, None, [0.25]) == ["0.25"]
    with pytest.raises(ValueError, match="one entry a box"):
        box_texts(2, ["a"])


def test_label_at_the_upper_edge_goes_inside():
    _, ax = figure(400, 300, alt="")
    show_image(ax, np.zeros((30, 40, 3), np.uint8))
    draw_boxes(ax, [[1, 0, 20, 20], [1, 15, 20, 25]], kind="detection", labels=["top", "middle"])
    assert [text.get_va() for text in ax.texts] == ["top", "bottom"]


@pytest.mark.parametrize(
    "image", [torch.rand(3, 4, 5), torch.rand(1, 4, 5), np.zeros((4, 5, 3)), np.zeros((4, 5)), noise(4, 5)]
)
def test_images_of_all_kinds(image):
    pixels = plotting.to_pixels(image)
    assert pixels.shape == (4, 5, 3)
    assert pixels.dtype == np.uint8


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"got shape \(2, 3, 4, 5\).*images\[0\]"):
        plotting.to_pixels(torch.rand(2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"\(N, 4\).*got \(2, 5\)"):
        plotting.to_boxes(torch.rand(2, 5))


def test_figure_shows_picture_and_text_and_leaves_pyplot_alone():
    before = dict(matplotlib.rcParams)
    made, axes = figure(400, 200, columns=2, alt="two axes, IoU 0.5000")
    data, metadata = made._repr_mimebundle_()
    assert axes.shape == (2,)
    assert data["text/plain"] == "Figure: two axes, IoU 0.5000"
    assert metadata["image/png"] == {"width": 400, "height": 200}
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.size == (600, 300)
    assert dict(matplotlib.rcParams) == before


def test_same_figure_same_bytes():
    bundles = []
    for _ in range(2):
        made, ax = figure(300, 200, alt="a line")
        ax.plot([0, 1], [0, 1])
        bundles.append(made._repr_mimebundle_())
    assert bundles[0] == bundles[1]


def test_photos_are_jpeg_drawings_png():
    assert encode_image(Image.fromarray(noise(200, 300)))[1] == "image/jpeg"
    assert encode_image(Image.new("RGB", (300, 200), "white"))[1] == "image/png"


def test_map_writes_numbers_in_its_cells():
    made, ax = figure(300, 200, alt="")
    show_map(ax, torch.arange(6.0).reshape(2, 3), size=(20, 30), text=".1f")
    assert [text.get_text() for text in ax.texts] == ["0.0", "1.0", "2.0", "3.0", "4.0", "5.0"]
    assert ax.texts[5].get_position() == (25, 15)
    made.to_image()


def test_korean_is_no_error_where_no_font_has_it():
    made, ax = figure(300, 200, alt="")
    ax.set_title("Two words")
    assert plotting.fonts()[0] == "DejaVu Sans"
    if len(plotting.fonts()) > 1:
        ax.set_title("한국어")
    made.to_image()
