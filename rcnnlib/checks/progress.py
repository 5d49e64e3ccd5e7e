"""How far a learner has come: what the checks in a folder of notebooks said when they were last run.

Reads the stored outputs; runs nothing. Leaves out: whether the code still says the same.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

SAID = re.compile(r"^([✓✗○]) (my_\w+)", re.MULTILINE)  # the first words of `Contract.judge`
COLUMNS = ("notebook", "passed", "wrong", "open", "checks")


class Row(NamedTuple):
    """One notebook: its exercises by what their checks said last."""

    notebook: str  # its path within the folder
    passed: tuple[str, ...]
    wrong: tuple[str, ...]
    open: tuple[str, ...]  # not written yet, or the check was never run

    @property
    def checks(self) -> int:
        """How many exercises there are."""
        return len(self.passed) + len(self.wrong) + len(self.open)


def read_progress(folder: str | Path) -> list[Row]:
    """Return a row for every notebook with exercises in ``folder`` and below it.

    Raises:
        FileNotFoundError: there is no such folder, or no lesson in it.
    """
    folder = Path(folder)
    paths = [path for path in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    rows = [row for path in paths if (row := _read(path, path.relative_to(folder).with_suffix("").as_posix())).checks]
    if not rows:
        raise FileNotFoundError(f"{folder} holds no lesson with exercises; `make lab` copies them to my_notebooks/")
    return rows


def _read(path: Path, name: str) -> Row:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a notebook ({error}): restore it with `make reset`") from error
    state = {}
    for cell in cells:
        if "exercise" in cell["metadata"].get("tags", []):
            state |= {exercise: "○" for exercise in re.findall(r"^def (my_\w+)", "".join(cell["source"]), re.MULTILINE)}
    for cell in cells:
        texts = ("".join(out.get("text", "")) for out in cell.get("outputs", []))
        state |= {exercise: mark for text in texts for mark, exercise in SAID.findall(text) if exercise in state}
    by_mark = {mark: tuple(name for name, said in state.items() if said == mark) for mark in "✓✗○"}
    return Row(name, by_mark["✓"], by_mark["✗"], by_mark["○"])


def as_text(rows: list[Row]) -> str:
    """Return the rows as a table to print: a mark for each exercise, and the names of those that are still to do."""
    wide = max(len(row.notebook) for row in rows) + 2
    lines = []
    for row in rows:
        marks = "✓" * len(row.passed) + "✗" * len(row.wrong) + "○" * len(row.open)
        todo = ", ".join((*row.wrong, *row.open))
        counted = f"{len(row.passed)} of {row.checks}"
        lines.append(f"{row.notebook:<{wide}}{marks:<6}{counted:<8}{f'to do: {todo}' if todo else 'all done'}")
    passed, all_of_them = sum(len(row.passed) for row in rows), sum(row.checks for row in rows)
    return "\n".join([*lines, f"{passed} of {all_of_them} checks passed"])


def as_csv(rows: list[Row]) -> str:
    """Return the rows as comma-separated numbers, with a line of names above."""
    lines = [f"{row.notebook},{len(row.passed)},{len(row.wrong)},{len(row.open)},{row.checks}" for row in rows]
    return "\n".join([",".join(COLUMNS), *lines])
