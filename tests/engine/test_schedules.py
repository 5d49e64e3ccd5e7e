import pytest

from rcnnlib.engine.schedules import (
    HEAD_TERMS,
    PAPER,
    RPN_TERMS,
    Schedule,
    approximate_joint,
    four_step_alternating,
    phase_table,
)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1 / 11),  # 10 steps of warm-up: the first has one eleventh
        (9, 10 / 11),
        (10, 1.0),
        (49, 1.0),
        (50, 0.1),  # half of 100 steps
        (89, 0.1),
        (90, 0.01),
    ],
)
def test_warm_up_and_drops(step, rate):
    assert Schedule(100, rate=1.0, warmup=10, drops=(0.5, 0.9)).rate_at(step) == pytest.approx(rate)


def test_the_papers_schedule():
    # Faster R-CNN 3.1.3: 0.001 for 60k mini-batches, 0.0001 for the next 20k.
    assert [PAPER.rate_at(step) for step in (0, 59_999, 60_000)] == pytest.approx([1e-3, 1e-3, 1e-4])


def test_four_steps_say_what_the_paper_says():
    one, two, three, four = four_step_alternating(Schedule(10), Schedule(5))
    assert (one.trunk, two.trunk, three.trunk, four.trunk) == ("imagenet", "imagenet", "2", "2")
    assert (one.learns, two.learns) == (("trunk", "rpn"), ("trunk", "head"))
    assert (three.learns, four.learns) == (("rpn",), ("head",))  # the shared trunk is frozen
    assert (two.proposals, four.proposals) == ("1", "3")
    assert [phase.starts for phase in (one, two, three, four)] == ["new", "new", "1", "2"]  # "fine-tune"
    assert one.schedule.terms == three.schedule.terms == RPN_TERMS
    assert two.schedule.terms == four.schedule.terms == HEAD_TERMS


def test_the_table_can_be_read():
    lines = phase_table(four_step_alternating(Schedule(10), Schedule(5))).splitlines()
    assert lines[0].split("  ")[0] == "phase"
    assert lines[3].split() == ["3", "rpn", "2", "yes", "1", "own", "5"]
    assert "joint  trunk + rpn + head  imagenet" in phase_table(approximate_joint(Schedule(10)))
