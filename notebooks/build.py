"""Build the lessons: run notebooks/src/NN_name.py (py:percent) and store notebooks/NN_name.ipynb with its outputs.

    python notebooks/build.py              all lessons
    python notebooks/build.py 00 01        these
    python notebooks/build.py --check 01   write nothing; fail if a new run says something else than the stored one
    python notebooks/build.py --pages      only the pages: the glossary, and where links lead

Whatever would differ from run to run or from machine to machine is left out or made a function of the place in the
notebook: cell ids, widget ids, times, kernel version, widget state. So a second build gives no diff.
"""

import argparse
import functools
import json
import re
import sys
import time
from itertools import takewhile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURES = ("image/png", "image/jpeg")
IGNORED = "nbval-ignore-output"  # the tag of cells whose output nbval does not compare
PAGES, GLOSSARY = (FOLDER / "questions_and_answers.md", FOLDER.parent / "INSTRUCTOR.md"), FOLDER / "glossary.md"
LINK = re.compile(r'(?P<start>\]\((?:notebooks/)?(?P<lesson>\d\d_\w+)\.ipynb)#cell-id=[\w-]* "(?P<title>[^"]+)"\)')
WORDS = "| English | 한국어 | meaning |"  # the head of a lesson's glossary
GLOSSARY_HEAD = """# Glossary

The words of the course, in English and Korean. The number is the lesson that says the word first; it opens its table.

| English | 한국어 | meaning | lesson |
|---|---|---|---|"""
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}


def read_source(path: Path) -> NotebookNode:
    """Return the notebook of a py:percent file, without outputs, with ids that are its cells' numbers."""
    notebook = jupytext.read(path, fmt="py:percent")
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:03d}"
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own note
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: NotebookNode, cwd: Path = FOLDER, timeout: int = 600) -> NotebookNode:
    """Run all cells in a fresh kernel whose working directory is that of the lessons."""
    resources = {"metadata": {"path": str(cwd)}}
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources=resources,
    )
    return client.execute()


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Take out all that would differ in another run: widget state and ids, times, versions."""
    for index, cell in enumerate(notebook.cells):
        cell.metadata.pop("execution", None)
        ids = [out.data[WIDGET]["model_id"] for out in cell.get("outputs", []) if WIDGET in out.get("data", {})]
        text = json.dumps(cell.get("outputs", []))
        for number, model_id in enumerate(dict.fromkeys(ids)):
            text = text.replace(model_id, f"{index:016x}{number:016x}")
        if ids:
            cell.outputs = nbformat.from_dict(json.loads(text))
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def keep_ignored_outputs(notebook: NotebookNode, stored: NotebookNode) -> NotebookNode:
    """Give cells that nobody compares (timings, hardware) their stored outputs back, unless their source is new."""
    kept = {cell.source: cell.outputs for cell in stored.cells if IGNORED in cell.metadata.get("tags", [])}
    for cell in notebook.cells:
        if IGNORED in cell.metadata.get("tags", []) and cell.source in kept:
            cell.outputs = kept[cell.source]
    return notebook


def build(source: Path) -> str:
    """Return the executed notebook of a source file as the text to store."""
    notebook, target = read_source(source), FOLDER / f"{source.stem}.ipynb"
    try:
        execute(notebook)
    except CellExecutionError as error:
        cell = failed_cell(notebook)
        raise SystemExit(f"{source.name}: cell {cell} failed.\n{error}") from None
    if target.exists():
        keep_ignored_outputs(notebook, nbformat.read(target, as_version=4))
    text = nbformat.writes(normalise(notebook)) + "\n"
    for index, cell in enumerate(notebook.cells):
        for path in (str(FOLDER.parent.resolve()), str(Path.home()) + "/"):
            if path in json.dumps(cell.get("outputs", [])):
                raise SystemExit(f"{source.name}: cell {index} prints {path}, a path of this machine:\n{cell.source}")
    return text


def failed_cell(notebook: NotebookNode) -> str:
    """Say which cell holds the error, with its first line."""
    for index, cell in enumerate(notebook.cells):
        if any(out.output_type == "error" for out in cell.get("outputs", [])):
            return f"{index} ({cell.source.strip().splitlines()[0]!r})"
    return "?"


def without_pictures(text: str) -> str:
    """Return the notebook with every picture blanked: pictures follow fonts and libraries of a machine."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        for out in cell.get("outputs", []):
            for mime in PICTURES:
                if mime in out.get("data", {}):
                    out.data[mime] = ""
    return nbformat.writes(notebook)


def differences(old: str, new: str) -> str:
    """Return the cells of two notebooks that differ, with their outputs; "" if none does."""
    cells = [nbformat.reads(text, as_version=4).cells for text in (old, new)]
    said = [f"{len(cells[0])} cells stored, {len(cells[1])} built"] if len(cells[0]) != len(cells[1]) else []
    for index, (before, after) in enumerate(zip(*cells, strict=False)):
        if before != after:
            said.append(f"cell {index}: {after.source.strip().splitlines()[0] if after.source.strip() else ''}")
            for mark, cell in (("-", before), ("+", after)):
                said.append(f"  {mark} {re.sub(r'[A-Za-z0-9+/=]{200,}', '...', json.dumps(cell))[:1500]}")
    return "\n".join(said)


def check(source: Path) -> str:
    """Return what is wrong with the stored notebook of ``source``; "" if a new run says the same.

    Where only pictures differ (another machine's fonts), a second run must give the bytes of the first.
    """
    target = FOLDER / f"{source.stem}.ipynb"
    if not target.exists():
        return f"{target.name} is missing: run python notebooks/build.py {source.stem}"
    old, new = target.read_text(encoding="utf-8"), build(source)
    if old == new:
        return ""
    said = differences(without_pictures(old), without_pictures(new))
    if said:
        return f"{target.name} differs from what its source gives; build it again:\n{said}"
    print(f"  {target.name}: the pictures differ from the stored ones (other fonts or libraries); building once more")
    again = build(source)
    return "" if again == new else f"{target.name}: two builds differ:\n{differences(new, again)}"


@functools.cache
def read_headings(lesson: str) -> dict[str, str]:
    """Return each heading of a lesson with the id of its cell; the first one where several have the same words."""
    found: dict[str, str] = {}
    for cell in read_source(FOLDER / "src" / f"{lesson}.py").cells:
        for heading in re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []:
            found.setdefault(heading, cell["id"])
    return found


def point_links(page: str) -> str:
    """Return a page whose links lead to the cell with the heading that stands in the link's title.

    In a lesson that it has just opened JupyterLab finds the id of a cell, but no heading that is not ASCII.
    """

    def point(link: re.Match) -> str:
        headings = read_headings(link["lesson"])
        if link["title"] not in headings:
            raise SystemExit(f"{link['lesson']} has no heading {link['title']!r}, to which a page links")
        return f'{link["start"]}#cell-id={headings[link["title"]]} "{link["title"]}")'

    return LINK.sub(point, page)


def read_words(source: Path) -> dict[str, str]:
    """Return the glossary of a lesson: each English term with its row of glossary.md, which links to the table."""
    lines = [line.removeprefix("#").strip() for line in source.read_text(encoding="utf-8").splitlines()]
    if WORDS not in lines:
        return {}
    top = lines.index(WORDS)
    heading = next(line for line in reversed(lines[:top]) if line.startswith("#")).lstrip("# ")
    rows = {}
    for line in takewhile(lambda line: line.startswith("|"), lines[top + 2 :]):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3:
            raise SystemExit(f"{source.name}: a row of the glossary needs three cells: {line}")
        rows[cells[0]] = f'| {" | ".join(cells)} | [{source.stem[:2]}]({source.stem}.ipynb#cell-id= "{heading}") |'
    return rows


def glossary(sources: list[Path]) -> str:
    """Return glossary.md: one row a term, from the first lesson that defines it, in the order of the alphabet."""
    found: dict[str, str] = {}
    for source in sorted(sources):
        for term, row in read_words(source).items():
            first = found.setdefault(term.casefold(), row)
            if (here := row.split(" | ")[1]) != (before := first.split(" | ")[1]):
                raise SystemExit(f"{source.name}: {term} is {here} here and {before} in an earlier lesson; choose one")
    return "\n".join([GLOSSARY_HEAD, *(found[term] for term in sorted(found)), ""])


def pages(sources: list[Path]) -> dict[Path, str]:
    """Return the pages beside the lessons with what this program writes in them: the glossary, and where links lead."""
    built = [source for source in sources if (FOLDER / f"{source.stem}.ipynb").exists()]
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES} | {GLOSSARY: glossary(built)}
    return {page: point_links(text) for page, text in texts.items()}


def main() -> int:
    """Build or check the lessons named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="lessons by number or name; all if none is given")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument("--pages", action="store_true", help="the pages beside the lessons alone")
    arguments = parser.parse_args()
    # Lesson 00 says what all the others teach, so it is built last.
    sources = sorted((FOLDER / "src").glob("*.py"), key=lambda source: (source.stem.startswith("00"), source.stem))
    wanted = [s for s in sources if not arguments.names or any(s.stem.startswith(n) for n in arguments.names)]
    if not wanted:
        print(f"no lesson is called {' or '.join(arguments.names)}; there are {[s.stem for s in sources]}")
        return 2
    failures = 0
    for source in [] if arguments.pages else wanted:
        start, target = time.perf_counter(), FOLDER / f"{source.stem}.ipynb"
        if arguments.check:
            said = check(source)
            failures += bool(said)
            print(said or f"{target.name}  no difference  {time.perf_counter() - start:.0f} s", flush=True)
            continue
        target.write_text(build(source), encoding="utf-8")
        print(f"{target.name}  {target.stat().st_size / 1e3:.0f} kB  {time.perf_counter() - start:.0f} s", flush=True)
    for page, text in pages(sources).items():
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        if arguments.check:
            print(f"{page.name} is not what the lessons say: run python notebooks/build.py --pages", flush=True)
            failures += 1
        else:
            page.write_text(text, encoding="utf-8")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
