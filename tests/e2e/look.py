"""Photograph a lesson as JupyterLab shows it: python tests/e2e/look.py NOTEBOOK FOLDER [--unexecuted] [--width 1280].

Without ``--unexecuted`` all cells are run first, so that the exhibits are alive; with it the page is shown as a
learner meets it in a fresh copy.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from lab import Notebook, browser_missing, capture, start_browser, start_lab
from playwright.sync_api import sync_playwright


def look(notebook: Path, folder: Path, *, run: bool = True, width: int = 1280) -> list[Path]:
    """Open a copy of ``notebook``, run it unless told otherwise, and store its pages as PNG files."""
    with tempfile.TemporaryDirectory() as base, start_lab(Path(base)) as lab, sync_playwright() as playwright:
        browser = start_browser(playwright)
        page = Notebook(lab, browser, lab.add(notebook), width=width, height=1100)
        if run:
            page.run_all(600_000)
            print("\n".join(page.cells()["errors"] + page.complaints) or "no errors, console clean")
        files = capture(page, folder, notebook.stem)
        page.close()
        browser.close()
    return files


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unexecuted", action="store_true")
    parser.add_argument("--width", type=int, default=1280)
    chosen = parser.parse_args()
    if browser_missing():
        sys.exit(browser_missing())
    for file in look(chosen.notebook, chosen.folder, run=not chosen.unexecuted, width=chosen.width):
        print(file)
