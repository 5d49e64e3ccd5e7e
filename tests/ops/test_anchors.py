import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.boxes import box_area, is_inside


def test_one_cell_by_hand():
    base = cell_anchors(scales=(8,), ratios=(1.0, 4.0))
    # ratio 4: w = 8 / 2 = 4, h = 8 * 2 = 16
    assert base.tolist() == [[-4, -4, 4, 4], [-2, -8, 2, 8]]
    grid = anchor_grid(base, (1, 2), stride=16)
    assert grid.tolist() == [
        [4, 4, 12, 12],  # centre 8 = (0 + 0.5) * 16
        [6, 0, 10, 16],
        [20, 4, 28, 12],  # centre 24 = (1 + 0.5) * 16
        [22, 0, 26, 16],
    ]


def test_area_and_ratio_hold_in_ratio_major_order():
    base = cell_anchors((32, 64, 128), (0.5, 1.0, 2.0))
    width, height = base[:, 2] - base[:, 0], base[:, 3] - base[:, 1]
    torch.testing.assert_close(height / width, torch.tensor([0.5] * 3 + [1.0] * 3 + [2.0] * 3))
    torch.testing.assert_close(box_area(base), torch.tensor([32.0, 64.0, 128.0]).square().repeat(3))


@pytest.mark.parametrize("cells", [(15, 20), (3, 1)])
def test_against_torchvision_at_the_corner(cells):
    # With these numbers nothing has to be rounded, so torchvision's anchors are ours at offset 0.
    scales, ratios = (32, 64), (0.25, 1.0, 4.0)
    theirs = AnchorGenerator((scales,), (ratios,))(
        ImageList(torch.zeros(1, 3, cells[0] * 16, cells[1] * 16), [(cells[0] * 16, cells[1] * 16)]),
        [torch.zeros(1, 1, *cells)],
    )[0]
    torch.testing.assert_close(anchor_grid(cell_anchors(scales, ratios), cells, 16, offset=0.0), theirs)


def test_the_papers_picture_counted():
    # About 1000x600; on 62x37 cells: 9 anchors each, 20,646 in all, 8,044 of them wholly inside (the paper: "about
    # 20,000" and "about 6,000").
    grid = anchor_grid(cell_anchors(), (37, 62), 16)
    assert len(grid) == 62 * 37 * 9 == 20646
    assert int(is_inside(grid, torch.tensor([600.0, 1000.0])).sum()) == 8044


def test_course_setting_counted():
    grid = anchor_grid(cell_anchors((32, 64, 128)), (15, 20), 16)
    assert len(grid) == 2700
    assert int(is_inside(grid, torch.tensor([240.0, 320.0])).sum()) == 1420


def test_no_cells_and_double_precision():
    assert anchor_grid(cell_anchors(), (0, 5), 16).shape == (0, 4)
    assert anchor_grid(cell_anchors(dtype=torch.float64), (2, 2), 16).dtype == torch.float64


@pytest.mark.parametrize(("scales", "ratios", "word"), [((), (1,), "scales"), ((8,), (0.0,), "ratios")])
def test_bad_numbers_are_named(scales, ratios, word):
    with pytest.raises(ValueError, match=f"{word} must be positive"):
        cell_anchors(scales, ratios)
