"""Two regions of lesson 02: their similarities on paper, and every control."""

import numpy as np
import pytest
import torch

from rcnnlib.ops import selective_search as search
from rcnnlib.view.explorers.region_pair import RegionPair, region_pair

# Four regions on 2 x 6 pixels: 0 and 1 and 2 side by side, 3 below them.
LABELS = torch.tensor([[0, 0, 1, 1, 2, 2], [3, 3, 3, 3, 3, 3]])
SHADE = torch.tensor([0.1, 0.1, 0.9, 0.5])


def case():
    image = SHADE[LABELS].repeat(3, 1, 1)
    planes = search.colour_planes(image), search.texture_planes(image)
    regions = search.describe_regions(LABELS, *planes)
    scores = search.similarity(regions, regions.pairs[:, 0], regions.pairs[:, 1])
    return image, regions, scores


def test_the_four_similarities_on_paper():
    _, regions, scores = case()
    numbers = region_pair(0, 1, regions=regions, scores=scores)
    assert numbers["colour"] == pytest.approx(1)  # the same shade
    assert numbers["size"] == pytest.approx(1 - 4 / 12)
    assert numbers["fill"] == pytest.approx(1)  # their box has 4 pixels, all filled
    assert numbers["sum"] == pytest.approx(sum(numbers[name] for name in search.MEASURES))
    assert numbers["common box"].tolist() == [0, 0, 4, 1]
    assert (numbers["neighbours"], numbers["place"], numbers["sizes"]) == (True, 1, [2, 2])


def test_regions_that_do_not_touch_have_no_place():
    _, regions, scores = case()
    numbers = region_pair(0, 2, regions=regions, scores=scores)
    assert (numbers["neighbours"], numbers["place"]) == (False, 0)
    assert numbers["fill"] == pytest.approx(1 - (6 - 4) / 12)
    assert numbers["colour"] == pytest.approx(0)


def test_place_counts_the_more_similar_pairs():
    _, regions, scores = case()
    places = [region_pair(*pair, regions=regions, scores=scores)["place"] for pair in regions.pairs.tolist()]
    assert [scores[n] for n in np.argsort(places)] == sorted(scores, reverse=True)


def explorer() -> RegionPair:
    image, regions, _ = case()
    picture = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return RegionPair(picture, LABELS, regions, a=0, b=1, alt="four shades")


@pytest.mark.parametrize("change", [{"a": 2}, {"b": 3}])
def test_every_slider_changes_numbers_and_pictures(change):
    shown = explorer()
    before, chart, picture = repr(shown), shown.chart.value, shown.canvas.picture
    shown.set(**change)
    assert repr(shown) != before
    assert shown.chart.value != chart
    assert shown.canvas.picture != picture


def test_a_click_chooses_the_region_under_it():
    shown = explorer()
    shown.canvas.clicked = [4.5, 0.5]
    assert shown.state == {"a": 2, "b": 1}
    shown.clicks.value = "B"
    shown.canvas.clicked = [5.9, 1.9]
    assert shown.state == {"a": 2, "b": 3}
    shown.canvas.clicked = [6.0, 2.0]  # on the very border
    assert shown.state == {"a": 2, "b": 3}


def test_what_does_not_touch_is_said():
    assert "never compared" in explorer().set(b=2).line.value
    assert "place 1 of 5 pairs" in explorer().line.value
