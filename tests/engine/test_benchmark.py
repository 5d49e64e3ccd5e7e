import time

import pytest
import torch

from rcnnlib.engine import benchmark


def test_the_ratio_is_ours_over_theirs():
    timing = benchmark.compare(lambda: time.sleep(0.004), lambda: time.sleep(0.02), pairs=3)
    assert 0.004 <= timing.ours < timing.theirs
    assert timing.ratio < 0.8


@pytest.mark.parametrize(
    ("value", "aim", "word"), [(1.3, 0.5, "MISSED"), (0.9, 0.5, "met"), (0.4, 0.5, "aim met"), (0.9, None, "met")]
)
def test_the_verdict(value, aim, word):
    assert benchmark.verdict(value, 1.2, aim) == word


def test_ours_and_theirs_of_every_row_give_the_same():
    # A row that compares two different things measures nothing.
    torch.manual_seed(0)
    for row in (*benchmark.box_rows(), *benchmark.roi_rows()):
        if "anchors" in row.name:  # ours stand in the middle of the cell, theirs at its corner and rounded
            assert row.ours().shape == row.theirs()[0].shape
        else:
            ours, theirs = row.ours(), row.theirs()
            torch.testing.assert_close(ours.reshape(theirs.shape), theirs, rtol=1e-4, atol=1e-4)


def test_memory_is_that_of_a_fresh_process():
    assert 0.15 < benchmark.peak_memory(_fill) < 0.4


def _fill():
    torch.ones(50_000_000).sum()  # 0.2 GB
