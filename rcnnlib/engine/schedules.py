"""How detectors are trained, as data: tables that a lesson can print, not paths through the code.

A schedule says how long, how fast and on which terms of the loss. The phases of a recipe say which part starts from
which weights, what is frozen, and whose proposals are used: one phase for approximate joint training (Faster R-CNN 3.2
ii), four for alternating training (3.2 i). Left out: cosine and cyclic rates, which came later.
"""

from typing import Literal, NamedTuple

TERMS = ("rpn_class", "rpn_box", "head_class", "head_box")
RPN_TERMS, HEAD_TERMS = TERMS[:2], TERMS[2:]


class Schedule(NamedTuple):
    """One stretch of training."""

    steps: int
    batch: int = 4  # pictures a step, over all GPUs
    optimizer: Literal["adamw", "sgd"] = "adamw"  # the papers: SGD with momentum 0.9
    rate: float = 3e-4  # learning rate after the warm-up
    weight_decay: float = 5e-4
    warmup: int = 100  # steps over which the rate grows from nothing
    drops: tuple[float, ...] = (0.75, 0.92)  # after these shares of the steps the rate is cut to a tenth
    clip: float = 10.0  # largest norm of the gradient
    terms: tuple[str, ...] = TERMS  # of the loss that are summed

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        drops = sum(step >= share * self.steps for share in self.drops)
        return self.rate * min(1.0, (step + 1) / (self.warmup + 1)) * 0.1**drops


PAPER = Schedule(steps=80_000, batch=1, optimizer="sgd", rate=1e-3, warmup=0, drops=(0.75,))  # Faster R-CNN 3.1.3


class Phase(NamedTuple):
    """A part of a recipe: what learns in it, and where everything else comes from.

    ``trunk`` is ``imagenet``, ``nothing`` or the name of an earlier phase; ``proposals`` is ``own`` (the RPN that
    learns beside the head), ``stored`` (Selective Search) or the name of the phase whose RPN makes them. What learns
    beside the trunk starts ``new``, or is tuned on from the phase that ``starts`` names.
    """

    name: str
    learns: tuple[str, ...]  # of trunk, rpn, head
    trunk: str
    proposals: str
    schedule: Schedule
    starts: str = "new"


def approximate_joint(schedule: Schedule, *, trunk: str = "imagenet") -> tuple[Phase, ...]:
    """Return the single phase in which everything learns at once (3.2 ii)."""
    return (Phase("joint", ("trunk", "rpn", "head"), trunk, "own", schedule),)


def stored_proposals(schedule: Schedule, *, trunk: str = "imagenet") -> tuple[Phase, ...]:
    """Return the single phase of Fast R-CNN on boxes found beforehand (Fast R-CNN 2.3)."""
    return (Phase("fast", ("trunk", "head"), trunk, "stored", schedule),)


def fine_tuning(schedule: Schedule, *, learns: tuple[str, ...]) -> tuple[Phase, ...]:
    """Return the single phase of R-CNN and SPPnet before their SVMs (R-CNN 2.3); SPPnet's trunk does not learn."""
    return (Phase("fine-tuning", learns, "imagenet", "stored", schedule),)


def four_step_alternating(schedule: Schedule, frozen: Schedule) -> tuple[Phase, ...]:
    """Return the four phases of alternating training (3.2 i); ``frozen`` is the schedule of the last two.

    In the last two the paper fine-tunes what is not shared, so RPN and head go on from steps 1 and 2.
    """
    rpn, head = schedule._replace(terms=RPN_TERMS), schedule._replace(terms=HEAD_TERMS)
    return (
        Phase("1", ("trunk", "rpn"), "imagenet", "own", rpn),
        Phase("2", ("trunk", "head"), "imagenet", "1", head),
        Phase("3", ("rpn",), "2", "own", frozen._replace(terms=RPN_TERMS), starts="1"),
        Phase("4", ("head",), "2", "3", frozen._replace(terms=HEAD_TERMS), starts="2"),
    )


def with_steps(phases: tuple[Phase, ...], steps: int | None) -> tuple[Phase, ...]:
    """Return the phases with ``steps`` in each of them, or as they are."""
    if steps is None:
        return phases
    return tuple(phase._replace(schedule=phase.schedule._replace(steps=steps)) for phase in phases)


def phase_table(phases: tuple[Phase, ...]) -> str:
    """Return the phases as a table to print: what learns, from which weights, on whose proposals."""
    rows = [("phase", "learns", "trunk from", "trunk frozen", "the rest from", "proposals of", "steps")]
    for phase in phases:
        frozen = "no" if "trunk" in phase.learns else "yes"
        origins = (phase.trunk, frozen, phase.starts, phase.proposals)
        rows.append((phase.name, " + ".join(phase.learns), *origins, str(phase.schedule.steps)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
