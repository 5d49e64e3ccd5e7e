from pathlib import Path

import pytest

from rcnnlib.datasets import paths


def test_data_dir_is_beside_the_package(monkeypatch):
    monkeypatch.delenv("RCNN_DATA", raising=False)
    assert paths.data_dir() == Path(__file__).parents[2] / "data"


def test_environment_variable_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("RCNN_DATA", str(tmp_path))
    assert paths.data_dir() == tmp_path


def test_wrong_environment_variable_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("RCNN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"RCNN_DATA.*nowhere.*unset"):
        paths.data_dir()


def test_package_without_data_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("RCNN_DATA", raising=False)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages/rcnnlib/datasets/paths.py"))
    with pytest.raises(FileNotFoundError, match=r"clone.*RCNN_DATA"):
        paths.data_dir()
