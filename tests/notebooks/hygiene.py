"""What a stored lesson must be, so that a green nbval run means something: one function a rule, each a known hole.

A rule takes a `Lesson` and yields one sentence for each thing that is wrong.
"""

import ast
import importlib.util
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"
MOST_BYTES = 2_000_000
MOST_LINES = 8  # of the median code cell
FEWEST_TEXTS = 3
MOST_IGNORED = 2
COMPARED = ("text/plain", "text/html", "text/markdown", "text/latex")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(home|Users|root|work|tmp|private|mnt|opt|usr|var)/\w|[A-Z]:\\\\?Users")
NBVAL_COMMENT = re.compile(r"#\s*(NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.MULTILINE)
FORBIDDEN = {
    "interact": "nbval files its output elsewhere; write an Explorer",
    "interactive": "nbval files its output elsewhere; write an Explorer",
    "interactive_output": "nbval files its output elsewhere; write an Explorer",
    "Output": "nbval files its output elsewhere; write an Explorer",
    "plt": "use rcnnlib.view.plotting.figure, which has text beside it",
    "pyplot": "use rcnnlib.view.plotting.figure, which has text beside it",
    "ipympl": "2 MB a move; use Chart",
}


def load_build():
    """Return notebooks/build.py as a module."""
    spec = importlib.util.spec_from_file_location("build_lessons", ROOT / "notebooks" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()


class Lesson(NamedTuple):
    """A stored notebook and the notebook that its source file gives, not run."""

    notebook: NotebookNode
    source: NotebookNode

    @property
    def code(self) -> list[tuple[int, NotebookNode]]:
        """The code cells with their places."""
        return [(i, cell) for i, cell in enumerate(self.notebook.cells) if cell.cell_type == "code"]


def read_lesson(stored: Path, source: Path) -> Lesson:
    """Read both forms of a lesson."""
    return Lesson(nbformat.read(stored, as_version=4), build.read_source(source))


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def texts(cell: NotebookNode) -> list[str]:
    """Return the outputs of a cell that nbval compares."""
    found = []
    for out in cell.outputs:
        if out.output_type == "stream" and out.name == "stdout":
            found.append(out.text)
        found += [out.data[mime] for mime in COMPARED if mime in out.get("data", {})]
    return [text for text in found if text.strip()]


def counts_run_from_one(lesson: Lesson) -> Iterator[str]:
    """nbval does not compare a cell without execution count at all."""
    counts = [cell.execution_count for _, cell in lesson.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts must be 1..{len(counts)}: build it again; got {counts}"


def nothing_on_stderr(lesson: Lesson) -> Iterator[str]:
    """Warnings name files of the machine and differ between versions."""
    for index, cell in lesson.code:
        if any(out.get("name") == "stderr" for out in cell.outputs):
            yield f"cell {index} writes to stderr"


def errors_are_announced(lesson: Lesson) -> Iterator[str]:
    for index, cell in lesson.code:
        if any(out.output_type == "error" for out in cell.outputs) and "raises-exception" not in tags(cell):
            yield f"cell {index} failed when the lesson was built"


def metadata_is_normal(lesson: Lesson) -> Iterator[str]:
    """With widget state code hosts refuse to render; versions and times differ from machine to machine."""
    if lesson.notebook.metadata != build.METADATA:
        extra = sorted(set(lesson.notebook.metadata) - set(build.METADATA))
        yield f"metadata of the notebook must be build.METADATA; {extra or 'a value'} differs"
    for index, cell in enumerate(lesson.notebook.cells):
        if odd := sorted(set(cell.metadata) - {"tags", "jupyter", "reason", "rows"}):
            yield f"cell {index} has metadata {odd} (times, or what an editor left)"


def no_machine_path(lesson: Lesson) -> Iterator[str]:
    for index, cell in enumerate(lesson.notebook.cells):
        bare = json.loads(json.dumps(cell))
        for out in bare.get("outputs", []):
            out["data"] = {k: v for k, v in out.get("data", {}).items() if not k.startswith("image/")}
        text = json.dumps(bare, ensure_ascii=False)
        if found := MACHINE_PATH.search(text):
            yield f"cell {index} names a path of a machine: {text[found.start() : found.start() + 60]}"


def small(lesson: Lesson) -> Iterator[str]:
    size = len(nbformat.writes(lesson.notebook).encode())
    if size >= MOST_BYTES:
        yield f"{size / 1e6:.1f} MB stored; at most {MOST_BYTES / 1e6:.0f} MB"


def says_enough(lesson: Lesson) -> Iterator[str]:
    count = sum(len(texts(cell)) for _, cell in lesson.code if "nbval-ignore-output" not in tags(cell))
    if count < FEWEST_TEXTS:
        yield f"only {count} outputs are compared; at least {FEWEST_TEXTS}"


def ignores_with_reason(lesson: Lesson) -> Iterator[str]:
    """What is not compared must be asserted in the next cell."""
    ignored = [place for place, (_, cell) in enumerate(lesson.code) if "nbval-ignore-output" in tags(cell)]
    if len(ignored) > MOST_IGNORED:
        yield f"{len(ignored)} cells are tagged nbval-ignore-output; at most {MOST_IGNORED}"
    for place in ignored:
        index, cell = lesson.code[place]
        if not cell.metadata.get("reason"):
            yield f'cell {index} is tagged nbval-ignore-output without metadata reason="..."'
        if place + 1 == len(lesson.code) or not re.search(r"^\s*assert ", lesson.code[place + 1][1].source, re.M):
            yield f"cell {index} is ignored, and the next code cell asserts nothing about it"
    for index, cell in lesson.code:
        if "nbval-skip" in tags(cell) or NBVAL_COMMENT.search(cell.source):
            yield f"cell {index} hides from nbval (nbval-skip or a comment)"


def no_semicolon(lesson: Lesson) -> Iterator[str]:
    """nbval runs the cell without IPython's reading of a trailing semicolon."""
    for index, cell in lesson.code:
        code = [line for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if code and code[-1].split("#")[0].rstrip().endswith(";"):
            yield f"cell {index} ends in a semicolon; write _ = ..."


def equals_source(lesson: Lesson) -> Iterator[str]:
    """People review the source; readers see the notebook."""
    if len(lesson.notebook.cells) != len(lesson.source.cells):
        yield f"{len(lesson.notebook.cells)} cells, but {len(lesson.source.cells)} in the source: build it again"
    for index, (ours, theirs) in enumerate(zip(lesson.notebook.cells, lesson.source.cells, strict=False)):
        for key in ("cell_type", "source", "metadata", "id"):
            if ours[key] != theirs[key]:
                yield f"cell {index}: its {key} is not that of the source: build it again"


def short_cells(lesson: Lesson) -> Iterator[str]:
    lengths = [len([line for line in cell.source.splitlines() if line.strip()]) for _, cell in lesson.code]
    if lengths and statistics.median(lengths) > MOST_LINES:
        yield f"the median code cell has {statistics.median(lengths)} lines; at most {MOST_LINES}"


def no_empty_cells(lesson: Lesson) -> Iterator[str]:
    for index, cell in enumerate(lesson.notebook.cells):
        if not cell.source.strip():
            yield f"cell {index} is empty"


def pictures_have_text(lesson: Lesson) -> Iterator[str]:
    """nbval never compares a picture."""
    for index, cell in lesson.code:
        for out in cell.outputs:
            kinds = [mime for mime in out.get("data", {}) if mime.startswith("image/")]
            if kinds and out.data.get("text/plain", "<").startswith("<"):
                yield f"cell {index} shows a picture without text that says what is in it (alt=...)"
            if "image/svg+xml" in kinds:
                yield f"cell {index} shows an SVG, whose ids differ from run to run"


def nothing_forbidden(lesson: Lesson) -> Iterator[str]:
    for index, cell in lesson.code:
        try:
            nodes = list(ast.walk(ast.parse(cell.source)))
        except SyntaxError:
            yield f"cell {index} is not plain Python (a magic, a shell line?)"
            continue
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        used |= {part for n in nodes if isinstance(n, ast.alias) for part in (*n.name.split("."), n.asname)}
        yield from (f"cell {index} uses {name}: {FORBIDDEN[name]}" for name in sorted(used & set(FORBIDDEN), key=str))


def exercises_are_unsolved(lesson: Lesson) -> Iterator[str]:
    """An exercise cell holds one function, my_..., whose body is its docstring and ``raise NotImplementedError``."""
    for index, cell in lesson.code:
        if "exercise" not in tags(cell):
            continue
        body = [node for node in ast.parse(cell.source).body if not isinstance(node, ast.Import | ast.ImportFrom)]
        if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or not body[0].name.startswith("my_"):
            yield f"cell {index} is an exercise and must define exactly one function my_..."
        elif "NotImplementedError" not in ast.dump(body[0].body[-1]) or not isinstance(body[0].body[-1], ast.Raise):
            yield f"cell {index} is an exercise and must be stored unsolved (raise NotImplementedError)"


RULES = [
    counts_run_from_one, nothing_on_stderr, errors_are_announced, metadata_is_normal, no_machine_path, small,
    says_enough, ignores_with_reason, no_semicolon, equals_source, short_cells, no_empty_cells, pictures_have_text,
    nothing_forbidden, exercises_are_unsolved,
]  # fmt: skip


def problems(lesson: Lesson) -> dict[str, list[str]]:
    """Return what is wrong with a lesson, by the rule that says so."""
    said = {rule.__name__: list(rule(lesson)) for rule in RULES}
    return {name: sentences for name, sentences in said.items() if sentences}


SOURCES = sorted((ROOT / "notebooks" / "src").glob("*.py"))
