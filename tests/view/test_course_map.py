"""The map says what is true: which lessons there are, and what lesson 00 and the README tell about them."""

import itertools
import re
from pathlib import Path

from rcnnlib.view.course_map import LESSONS, STEPS, course_map, where

ROOT = Path(__file__).parents[2]
START = (ROOT / "notebooks" / "src" / "00_start_here.py").read_text(encoding="utf-8")


def test_lessons_are_numbered_without_a_gap():
    assert [lesson.number for lesson in LESSONS] == [f"{number:02d}" for number in range(18)]
    assert all(lesson.file.startswith(lesson.number + "_") for lesson in LESSONS)


def test_it_shows_the_lessons_that_exist():
    assert {lesson.file for lesson in LESSONS} == {path.stem for path in (ROOT / "notebooks" / "src").glob("*.py")}


def test_the_readme_says_the_same():
    numbers = re.findall(r"^\| (\d\d) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert numbers == [lesson.number for lesson in LESSONS]


def test_lesson_00_links_every_other_lesson():
    linked = set(re.findall(r"\]\((\w+)\.ipynb\)", START))
    assert linked == {lesson.file for lesson in LESSONS} - {"00_start_here"}


def test_the_list_of_questions_in_lesson_00_is_that_of_the_map():
    rows = re.findall(r"^# - \*\*(Q\d)\*\*, lesson ([\d, ]+)\.", START, re.MULTILINE)
    assert [name for name, _ in rows] == [f"Q{number}" for number in range(1, 8)]
    for name, numbers in rows:
        assert numbers.split(", ") == [lesson.number for lesson in where(name)]


def test_the_picture_holds_every_name_inside_its_border():
    made = course_map()
    image = made.to_image()
    texts = {text.get_text(): text for text in made.axes[0].texts}
    for name in [step.name for step in STEPS] + [lesson.name for lesson in LESSONS]:
        place = texts[name].get_window_extent()
        assert 0 <= place.x0 < place.x1 <= image.width
        assert 0 <= place.y0 < place.y1 <= image.height
    assert "18 lessons in 6 steps" in repr(made)


def test_no_name_runs_into_the_questions_beside_it():
    made = course_map()
    made.to_image()
    texts, checked = made.axes[0].texts, 0
    for name, questions in itertools.pairwise(texts):
        if questions.get_text().startswith("Q") and name.get_text() in {lesson.name for lesson in LESSONS}:
            assert name.get_window_extent().x1 < questions.get_window_extent().x0
            checked += 1
    assert checked == sum(bool(lesson.questions) for lesson in LESSONS)
