"""Prints how long each lesson took under nbval. Nothing is asserted: machines differ."""

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    """Add up the seconds of all cells of each lesson."""
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            name, _, cell = getattr(report, "nodeid", "").partition("::")
            if name.endswith(".ipynb") and cell:
                seconds[name.rpartition("/")[2]] += report.duration
    for name, total in sorted(seconds.items()):
        terminalreporter.write_line(f"{name:<50}{total:6.1f} s")
