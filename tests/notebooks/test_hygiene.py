"""Every stored lesson keeps the rules that make a green nbval run mean something (see hygiene.py)."""

import pytest
from hygiene import ROOT, RULES, SOURCES, read_lesson


def test_every_source_has_its_notebook_and_the_other_way_round():
    stored = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert stored == {path.stem for path in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_lesson(source, rule):
    stored = ROOT / "notebooks" / f"{source.stem}.ipynb"
    if not stored.exists():
        pytest.fail(f"{stored.name} is not built: python notebooks/build.py {source.stem}")
    assert list(rule(read_lesson(stored, source))) == []
