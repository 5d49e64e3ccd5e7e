"""Where the data lies: the one place that knows.

It leaves out any download: what the course needs is in the repository.
"""

import os
from pathlib import Path


def data_dir() -> Path:
    """Return the folder of the data sets and weights: ``$RCNN_DATA``, else ``data/`` beside the package.

    Raises:
        FileNotFoundError: neither is a folder.
    """
    chosen = os.environ.get("RCNN_DATA")
    if chosen:
        folder = Path(chosen).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"RCNN_DATA names {chosen!r}, which is not a folder: set it to the data/ folder of the repository, "
                "or unset it to use the one beside the package"
            )
        return folder
    # From rcnnlib/datasets/paths.py three floors up: the root of a checkout, but not of a package in site-packages.
    folder = Path(__file__).resolve().parents[2] / "data"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no data folder at {folder}: work in a clone of the repository, which holds data/, or set the environment "
            "variable RCNN_DATA to the path of that folder"
        )
    return folder
