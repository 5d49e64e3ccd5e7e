"""Drive the real JupyterLab with Debian's Chromium: start it privately, open a copy of a notebook, run it, touch it.

The server listens on a port of its own with a random token, and all of Jupyter's and IPython's folders are private, so
that neither the settings nor the running servers of the person who tests take part. Nothing sleeps: every wait polls.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Playwright, TimeoutError

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none", "codeCellConfig": {"lineNumbers": False}},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False, "renameUntitledFileOnSave": False},
}
PATIENCE = 120_000  # milliseconds: a kernel that imports torch on a busy machine
# The console says these of itself; none is ours.
HARMLESS = re.compile(
    r"favicon|WebGL|GroupMarkerNotSet|Cannot read.*sourcemap|DevTools failed to load|Autofill|Download the React|"
    r"Permissions policy|lsp|The kernel .* not found|/api/me|willReadFrequently|preloaded using link preload"
)
CELLS = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  if (!panel || !panel.content || !panel.content.model) return null;
  const kernel = panel.sessionContext.session && panel.sessionContext.session.kernel;
  const cells = [...panel.content.model.cells].filter((cell) => cell.type === "code");
  return {
    status: kernel ? kernel.status : "none",
    waiting: cells.filter((cell) => cell.sharedModel.getSource().trim() && cell.executionCount === null).length,
    errors: cells.flatMap((cell) => cell.sharedModel.toJSON().outputs.filter((o) => o.output_type === "error")
      .map((o) => `${o.ename}: ${o.evalue} in: ${cell.sharedModel.getSource().slice(0, 200)}`)),
  };
}"""


def browser_missing() -> str:
    """Return why the browser tests cannot run, or an empty string."""
    return "" if Path(CHROMIUM).exists() else f"no Chromium at {CHROMIUM}: apt-get install chromium, or set CHROMIUM"


class Lab:
    """A running JupyterLab: its address, token, and the folder that it shows."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder, self.url, self.token = folder, url, token

    def add(self, notebook: Path) -> str:
        """Copy a notebook into the lab's folder and return its name there."""
        shutil.copy(notebook, self.folder / notebook.name)
        return notebook.name


@contextmanager
def start_lab(base: Path) -> Iterator[Lab]:
    """Start JupyterLab with everything below ``base``, and stop it at the end."""
    folder, settings = base / "lessons", base / "config" / "lab" / "user-settings"
    folder.mkdir(parents=True)
    for name, values in SETTINGS.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    private = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "config/lab/user-settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }  # fmt: skip
    environment = {**os.environ, **{name: str(base / path) for name, path in private.items()}}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=", "--ServerApp.terminals_enabled=False",
    ]  # fmt: skip
    log = base / "lab.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
        try:
            _await_server(f"http://127.0.0.1:{port}/api?token={token}", server, log)
            yield Lab(folder, f"http://127.0.0.1:{port}", token)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


def _await_server(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")


def start_browser(playwright: Playwright) -> Browser:
    """Start Chromium without a window."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


class Notebook:
    """One notebook open in the lab, and the hands of a learner."""

    def __init__(self, lab: Lab, browser: Browser, name: str, *, width: int = 1280, height: int = 900) -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": height})
        self.complaints: list[str] = []
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.goto(f"{lab.url}/lab/tree/{name}?token={lab.token}&reset", timeout=PATIENCE)
        self.page.wait_for_selector(".jp-NotebookPanel:visible .jp-Cell", timeout=PATIENCE)
        self._until("state && state.status === 'idle'", "the kernel is ready")

    def _listen(self, message) -> None:
        if message.type == "error" and not HARMLESS.search(message.text + str(message.location)):
            self.complaints.append(message.text)

    def _until(self, condition: str, what: str, patience: int = PATIENCE) -> None:
        try:
            self.page.wait_for_function(f"() => {{ const state = ({CELLS})(); return {condition}; }}", timeout=patience)
        except Exception as error:
            raise AssertionError(f"waited in vain until {what}; cells: {self.cells()}") from error

    def cells(self) -> dict:
        """Return the kernel's status, the number of code cells not run, and the errors shown."""
        return self.page.evaluate(CELLS)

    def run_all(self, patience: int = PATIENCE) -> None:
        """Run All and wait until every code cell has a number and the kernel is idle."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self._until(
            "state.errors.length || (state.status === 'idle' && !state.waiting)", "all cells have run", patience
        )

    def assert_clean(self) -> None:
        """Fail if a cell failed or the browser's console complained."""
        wrong = [*self.cells()["errors"], *self.complaints]
        assert not wrong, "\n".join(wrong)

    @property
    def canvases(self) -> Locator:
        """All canvases of the course on the page."""
        return self.page.locator("canvas.rcnn-canvas:visible")

    @property
    def movable(self) -> Locator:
        """The canvases with a box that can be moved."""
        return self.page.locator("canvas.rcnn-canvas[aria-label*='Arrow keys']:visible")

    @property
    def sliders(self) -> Locator:
        """The handles of all sliders."""
        return self.page.locator(".noUi-handle:visible")

    @property
    def lines(self) -> Locator:
        """The lines of numbers."""
        return self.page.locator(".rcnn-line:visible")

    def numbers(self) -> list[str]:
        """Return what all lines of numbers say."""
        return self.lines.all_inner_texts()

    def picture(self, place: Locator) -> str:
        """Return the present pixels of a canvas or the source of an image, to compare with later ones."""
        return place.evaluate("(e) => e.toDataURL ? e.toDataURL() : e.src")

    def expect_numbers_changed(self, before: list[str]) -> None:
        """Wait until some line of numbers says something else."""
        script = "(old) => JSON.stringify([...document.querySelectorAll('.rcnn-line')].filter((e) => e.offsetParent)" \
                 ".map((e) => e.innerText)) !== old"  # fmt: skip
        try:
            self.page.wait_for_function(script, arg=json.dumps(before, ensure_ascii=False, separators=(",", ":")))
        except TimeoutError as error:
            raise AssertionError(f"the numbers stay {self.numbers()}") from error

    def expect_picture_changed(self, place: Locator, before: str) -> None:
        """Wait until a canvas or image shows something else."""
        script = "([e, old]) => (e.toDataURL ? e.toDataURL() : e.src) !== old"
        self.page.wait_for_function(script, arg=[place.element_handle(), before])

    def drag(self, place: Locator, start: tuple[float, float], by: tuple[float, float]) -> None:
        """Drag from a point of an element, given as fractions of its size, by so many CSS pixels."""
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        assert box is not None
        x, y = box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"]
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + by[0], y + by[1], steps=8)
        self.page.mouse.up()

    def drag_slider(self, handle: Locator, by: float = 60) -> None:
        """Drag the handle of a slider sideways."""
        self.drag(handle, (0.5, 0.5), (by, 0))

    def click(self, place: Locator, at: tuple[float, float]) -> None:
        """Click a point of an element, given as fractions of its size."""
        self.drag(place, at, (0, 0))

    def press(self, place: Locator, key: str, times: int = 1) -> None:
        """Press a key while an element has the focus."""
        place.focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def nudge(self, canvas: Locator) -> None:
        """Move the selected box of a canvas, whichever border it may stand at."""
        for key in ("ArrowLeft", "ArrowDown"):
            self.press(canvas, key, 5)

    def close(self) -> None:
        """Shut the kernel down and close the page."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close()


def capture(notebook: Notebook, folder: Path, stem: str) -> list[Path]:
    """Photograph a lesson from top to bottom, a window's height at a time, into ``folder``; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    outer = notebook.page.locator(".jp-NotebookPanel:visible .jp-WindowedPanel-outer").first
    end = """(e) => {
        const cells = e.querySelectorAll('.jp-Cell');
        const last = cells[cells.length - 1].getBoundingClientRect();
        return last.bottom - e.getBoundingClientRect().top + e.scrollTop; }"""
    visible, files, top = outer.evaluate("(e) => e.clientHeight"), [], 0
    while top < outer.evaluate(end):  # below the last cell JupyterLab keeps a window's height of nothing
        outer.evaluate("(e, top) => { e.scrollTop = top; }", top)
        notebook.page.wait_for_function("() => [...document.images].every((i) => i.complete)", timeout=10_000)
        files.append(folder / f"{stem}_{len(files):02d}.png")
        outer.screenshot(path=files[-1])
        top += visible - 60
    return files
