"""The four shortcomings of R-CNN, as the table that the course ticks off detector by detector."""

SHORTCOMINGS = (
    "one CNN pass for every region",
    "every region is warped to one size",
    "CNN, SVMs and box regressors are trained apart",
    "not end to end",
)
CURED = {
    "R-CNN": "✗✗✗✗",
    "SPPnet": "✓✓✗✗",
    "Fast R-CNN": "✓✓✓½",  # half: Selective Search stays outside the network
    "Faster R-CNN": "✓✓✓✓",
}


class Table:
    """Text that is shown as it stands."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def shortcomings(last: str) -> Table:
    """Return the table up to and with detector ``last``: ✗ open, ½ half cured, ✓ cured.

    Raises:
        ValueError: there is no such detector.
    """
    if last not in CURED:
        raise ValueError(f"last must be one of {', '.join(CURED)}; got {last!r}")
    shown = list(CURED)[: list(CURED).index(last) + 1]
    lines = ["shortcoming of R-CNN".ljust(52) + "   ".join(shown)]
    for number, text in enumerate(SHORTCOMINGS):
        marks = "   ".join(CURED[name][number].center(len(name)) for name in shown)
        lines.append(f"({number + 1}) {text}".ljust(52) + marks.rstrip())
    return Table("\n".join(lines))
