"""The pages beside the lessons: questions and answers, glossary, INSTRUCTOR.md. What they link to and name exists.

A link to a section names a cell, for JupyterLab, and in its title the heading, for people; build.py --pages sets cells.
"""

import functools
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from hygiene import ROOT, SOURCES, build

QUESTIONS, GLOSSARY = ROOT / "notebooks/questions_and_answers.md", ROOT / "notebooks/glossary.md"
INSTRUCTOR = ROOT / "INSTRUCTOR.md"
LINK = re.compile(r'\[([^\]]*)\]\(([^)\s]+)(?: "([^"]*)")?\)')
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SENTENCE = re.compile(r"(?<=[가-힣)])\.(?=\s|$)")
MINUTES = re.compile(r"^\| (\d+ .*?) \| (core|extra) \| (\d+) \|$", re.MULTILINE)


class Heading(NamedTuple):
    """A heading of a lesson."""

    title: str
    level: int
    place: int  # the number of its cell


@functools.cache  # notebooks are large
def read_cells(path: Path) -> list[dict]:
    """Return the cells of a notebook."""
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def headings(path: Path) -> list[Heading]:
    """Return all headings of a notebook in their order."""
    found = []
    for place, cell in enumerate(read_cells(path)):
        if cell["cell_type"] == "markdown":
            lines = re.findall(r"^(#{1,6}) (.+)$", FENCE.sub("", "".join(cell["source"])), re.MULTILINE)
            found += [Heading(title, len(marks), place) for marks, title in lines]
    return found


def broken(folder: Path, text: str) -> list[str]:
    """Return what is wrong with the links of a page that lies in ``folder``."""
    said = []
    for _, link, title in LINK.findall(FENCE.sub("", text)):
        name, _, cell = link.partition("#")
        if link.startswith("https://"):
            continue
        if not (folder / name).is_file():
            said.append(f"{link}: there is no file {name}")
        elif title or cell:
            places = [heading.place for heading in headings(folder / name) if heading.title == title]
            if len(places) != 1:
                said.append(f"{link}: {name} has {len(places)} headings {title!r}")
            elif read_cells(folder / name)[places[0]]["id"] != cell.removeprefix("cell-id="):
                said.append(f"{link}: {title!r} stands in another cell")
    return said


def marks_of_section(path: Path, title: str) -> list[str]:
    """Return what the cells from a heading to the next of its level or a higher one say that they teach."""
    cells, all_of_them = read_cells(path), headings(path)
    start = next(h for h in all_of_them if h.title == title)
    ends = [h.place for h in all_of_them if h.place > start.place and h.level <= start.level]
    rows = [cell["metadata"].get("rows", "") for cell in cells[start.place : min(ends, default=len(cells))]]
    return [mark.strip() for row in rows for mark in row.split(",") if mark.strip()]


def answers(text: str) -> dict[str, str]:
    """Return the parts of the page that answer Q1 to Q7."""
    parts = re.split(r"^### (Q\d) · ", text.partition("\n## B")[0], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def what_is_wrong(question: str, part: str, asked: str) -> list[str]:
    """Return what an answer lacks; ``asked`` is a text with the questions in the student's words."""
    said = []
    words = re.search(r"^> «(.+?)»", part, re.MULTILINE | re.DOTALL)
    korean = re.search(r"^> \*\*답\.\*\* (.+?)\n\n", part, re.MULTILINE | re.DOTALL)
    if not words or plain(words[1]) not in plain(asked):
        said.append("the question is not in the student's words")
    if not korean or len(SENTENCE.findall(plain(korean[1]))) != 2:
        said.append("the Korean answer does not have two sentences")
    links = LINK.findall(part.partition("\nExperiment: ")[2])
    if not links:
        said.append("no experiment is named")
    for _, link, title in links:
        name = link.partition("#")[0]
        if f"{question} experiment" not in marks_of_section(ROOT / "notebooks" / name, title):
            said.append(f"no cell of {title!r} in {name} is an experiment for {question}")
    return said


def plain(text: str) -> str:
    """Return quoted or commented lines as one line."""
    return " ".join(line.lstrip("#> ") for line in text.split("\n")).strip()


def minutes(path: Path) -> dict[str, tuple[str, int]]:
    """Return kind and minutes of each section, from the table at the top of a lesson."""
    text = "\n".join("".join(cell["source"]) for cell in read_cells(path) if cell["cell_type"] == "markdown")
    about = re.search(r"About (\d+) minutes", text)  # lesson 00 has no table
    return {title: (kind, int(number)) for title, kind, number in MINUTES.findall(text)} or {
        "all": ("core", int(about[1]) if about else 0)
    }


def wrong_minutes(text: str) -> list[str]:
    """Return the rows of INSTRUCTOR.md whose minutes are not the lesson's, and the sums that are wrong."""
    said, total = [], 0
    for row in re.findall(r"^\| (?:\[.+\)|together) \| \d+ \|.*$", text, re.MULTILINE):
        first, number = (cell.strip() for cell in row.split("|")[1:3])
        link = LINK.fullmatch(first)
        if link is None:
            said += [f"together {total}, not {number}"] if total != int(number) else []
            total = 0
            continue
        path, section = ROOT / link[2].partition("#")[0], link[1][5:]
        total += int(number)
        own = minutes(path)
        if "#" not in link[2]:  # the whole lesson: core and extra
            sums = [sum(n for kind, n in own.values() if kind == wanted) for wanted in ("core", "extra")]
            shown = [int(number), int(row.split("|")[3].strip().replace("–", "0"))]
            said += [f"{link[1]}: {sums}, not {shown}"] if sums != shown else []
        elif own.get(section, ("", 0))[1] != int(number):
            said.append(f"{link[1]}: {own.get(section)}, not {number}")
    return said


@pytest.mark.parametrize("page", [QUESTIONS, GLOSSARY, INSTRUCTOR], ids=lambda page: page.stem)
def test_every_link_leads_to_a_heading(page):
    text = page.read_text(encoding="utf-8")
    assert len(LINK.findall(text)) > 20
    assert broken(page.parent, text) == []


@pytest.mark.parametrize("question", [f"Q{number}" for number in range(1, 8)])
def test_each_question_has_two_answers_and_its_experiment(question):
    parts = answers(QUESTIONS.read_text(encoding="utf-8"))
    asked = (ROOT / "notebooks/src/00_start_here.py").read_text(encoding="utf-8")
    assert what_is_wrong(question, parts[question], asked) == []


def test_there_are_seven_questions_and_every_other_one_says_where_to_see_it():
    text = QUESTIONS.read_text(encoding="utf-8")
    assert list(answers(text)) == [f"Q{number}" for number in range(1, 8)]
    others = text.partition("\n## B")[2].split("\n### ")[1:]
    assert len(others) >= 9
    assert [part.splitlines()[0] for part in others if not LINK.search(part.partition("\nSee it: ")[2])] == []


def test_the_pages_are_what_the_lessons_say():
    for page, text in build.pages(SOURCES).items():
        assert page.read_text(encoding="utf-8") == text, "run python notebooks/build.py --pages"


def test_every_lesson_has_a_glossary():
    assert [source.stem for source in SOURCES if not build.read_words(source)] == []


def test_minutes_for_instructors_are_those_of_the_lessons():
    assert wrong_minutes(INSTRUCTOR.read_text(encoding="utf-8")) == []


def test_instructors_find_every_lesson():
    text = INSTRUCTOR.read_text(encoding="utf-8")
    whole, talk = text.partition("### The whole course")[2].split("\n## ")[0], text.partition("\n## Questions")[2]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"](notebooks/{path.name}) | " in whole, f"{path.stem} has no row in the table of the whole course"
        assert f"](notebooks/{path.name}) | " in talk, f"{path.stem} has no question for discussion"


def test_exercises_and_commands_for_instructors_exist():
    from rcnnlib.__main__ import parser
    from rcnnlib.checks import SOLUTIONS

    text = INSTRUCTOR.read_text(encoding="utf-8")
    assert set(re.findall(r"\bmy_(?!notebooks)\w+", text)) <= set(SOLUTIONS)
    (commands,) = [action for action in parser()._actions if action.choices]
    assert set(re.findall(r"-m rcnnlib (\w+)", text)) <= set(commands.choices)
    assert set(re.findall(r"`make (\w+)`", text)) <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    files = re.findall(r"`((?:tests|notebooks|rcnnlib)/[\w/.]+\.\w+)`", text.replace("NN_name", "01_boxes_and_iou"))
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []


# Each of the checks above can fail.


def test_broken_links_are_found(tmp_path):
    cells = [
        {"cell_type": "markdown", "id": f"cell-{n}", "source": [text]} for n, text in enumerate(("# T", "# `a` · b"))
    ]
    cells.append({"cell_type": "markdown", "id": "cell-2", "source": ["text\n", "## T"]})
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": cells}))
    assert broken(tmp_path, '[a](x.ipynb) [b](x.ipynb#cell-id=cell-1 "`a` · b")') == []
    wrong = '[a](y.ipynb) [b](x.ipynb#cell-id=cell-1 "none") [c](x.ipynb#cell-id=cell-0 "T") [e](x.ipynb#T)'
    assert broken(tmp_path, wrong + ' [d](x.ipynb#cell-id=cell-2 "`a` · b")') == [
        "y.ipynb: there is no file y.ipynb",
        "x.ipynb#cell-id=cell-1: x.ipynb has 0 headings 'none'",
        "x.ipynb#cell-id=cell-0: x.ipynb has 2 headings 'T'",
        "x.ipynb#T: x.ipynb has 0 headings ''",
        "x.ipynb#cell-id=cell-2: '`a` · b' stands in another cell",
    ]


def test_links_are_set_by_their_titles():
    old = '[x](notebooks/01_boxes_and_iou.ipynb#cell-id=cell-000 "2 · IoU") [y](01_boxes_and_iou.ipynb)'
    new = build.point_links(old)
    assert new != old
    assert broken(ROOT, new.partition(" [y]")[0]) == []
    assert build.point_links(new) == new
    with pytest.raises(SystemExit, match=r"01_boxes_and_iou has no heading '2 · Boxes'"):
        build.point_links(old.replace("IoU", "Boxes"))


def test_a_bad_answer_is_found():
    good = answers(QUESTIONS.read_text(encoding="utf-8"))["Q5"]
    asked = (ROOT / "notebooks/src/00_start_here.py").read_text(encoding="utf-8")
    assert what_is_wrong("Q5", good, asked) == []
    changes = {
        ("왜할까요", "왜일까요"): "the question is not in the student's words",
        ("있습니다.\n> ", "있고,\n> "): "the Korean answer does not have two sentences",
        ("**답.**", "**Answer.**"): "the Korean answer does not have two sentences",
        ("\nExperiment: ", "\n"): "no experiment is named",
        ("6 · Why the 3x3?", "5 · Watch it learn"): (
            "no cell of '5 · Watch it learn' in 11_rpn.ipynb is an experiment for Q5"
        ),
    }
    for (old, new), sentence in changes.items():
        assert old in good
        assert what_is_wrong("Q5", good.replace(old, new), asked) == [sentence]


def test_wrong_minutes_are_found():
    lesson = "notebooks/01_boxes_and_iou.ipynb"
    row = f"| [01 · 2 IoU]({lesson}#cell-id=cell-042) | {{}} |\n"
    assert wrong_minutes(row.format(16) + "| together | 16 | |\n") == []
    assert wrong_minutes(row.format(15) + "| together | 16 |\n") == [
        "01 · 2 IoU: ('core', 16), not 15",
        "together 15, not 16",
    ]
    assert wrong_minutes(row.replace("2 IoU", "2 Boxes").format(16)) == ["01 · 2 Boxes: None, not 16"]
    assert wrong_minutes(f"| [01 x]({lesson}) | 42 | 16 |\n") == []
    assert wrong_minutes(f"| [01 x]({lesson}) | 42 | 15 |\n") == ["01 x: [42, 16], not [42, 15]"]


def test_a_glossary_is_gathered_from_the_first_lesson_that_has_the_word(tmp_path):
    head = "# ## My words\n#\n# | English | 한국어 | meaning |\n# |---|---|---|\n"
    (tmp_path / "01_a.py").write_text(head + "# | box | 박스 | four numbers |\n# | IoU | 비율 | overlap |\n#\n# end\n")
    (tmp_path / "02_b.py").write_text(head + "# | Box | 박스 | other |\n# | anchor | 앵커 | fixed box |\n")
    rows = build.glossary([tmp_path / "02_b.py", tmp_path / "01_a.py"]).splitlines()[6:]
    assert rows == [
        '| anchor | 앵커 | fixed box | [02](02_b.ipynb#cell-id= "My words") |',
        '| box | 박스 | four numbers | [01](01_a.ipynb#cell-id= "My words") |',
        '| IoU | 비율 | overlap | [01](01_a.ipynb#cell-id= "My words") |',
    ]
    (tmp_path / "02_b.py").write_text(head + "# | Box | 상자 | other |\n")
    with pytest.raises(SystemExit, match=r"02_b\.py: Box is 상자 here and 박스 in an earlier lesson"):
        build.glossary([tmp_path / "01_a.py", tmp_path / "02_b.py"])
    (tmp_path / "02_b.py").write_text(head + "# | box | 상자 |\n")
    with pytest.raises(SystemExit, match=r"02_b\.py: .* needs three cells: \| box"):
        build.glossary([tmp_path / "02_b.py"])
