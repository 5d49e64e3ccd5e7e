"""One JupyterLab and one Chromium for all browser tests; without Chromium they skip, in CI they fail."""

import os

import pytest
from lab import browser_missing, start_browser, start_lab
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A running JupyterLab."""
    if reason := browser_missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with start_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="session")
def browser(lab):
    """A running Chromium."""
    with sync_playwright() as playwright:
        started = start_browser(playwright)
        yield started
        started.close()
