"""The table of shortcomings: one column a detector, and a detector that does not exist is named."""

import pytest

from rcnnlib.view.shortcomings import CURED, SHORTCOMINGS, shortcomings


def test_table_grows_with_the_detectors():
    assert [len(marks) for marks in CURED.values()] == [len(SHORTCOMINGS)] * 4
    lines = repr(shortcomings("Fast R-CNN")).splitlines()
    assert "Faster" not in lines[0]
    assert [line.split()[-3:] for line in lines[1:]] == [
        ["✗", "✓", "✓"],
        ["✗", "✓", "✓"],
        ["✗", "✗", "✓"],
        ["✗", "✗", "½"],
    ]


def test_unknown_detector():
    with pytest.raises(ValueError, match="R-CNN, SPPnet, Fast R-CNN, Faster R-CNN; got 'YOLO'"):
        shortcomings("YOLO")
