"""The learning rate of every step: a warm-up, a plateau, two drops (lesson 09).

Leaves out: cosine and cyclic rates, which came later.
"""

from math import ceil
from typing import Any

from rcnnlib.engine.schedules import Schedule
from rcnnlib.view.canvas import Chart
from rcnnlib.view.explorers.base import Explorer, slider
from rcnnlib.view.plotting import LINES

STEPS = 1500  # of the stored Fast R-CNN
SHOWN = range(0, STEPS, 6)  # a curve of all steps would look the same and take six times as long


def rate_curve(warmup: int, rate: float, drop: float, step: int) -> dict[str, Any]:
    """Return the rate of one step, of the first and the last, and the curve, all in thousandths.

    ``rate`` is the largest, in thousandths; it is cut to a tenth after the share ``drop`` of all steps, and once more
    after 92 %, as in the library's schedule.
    """
    schedule = Schedule(steps=STEPS, rate=rate, warmup=warmup, drops=(drop, 0.92))
    return {
        "this step": schedule.rate_at(step),
        "first step": schedule.rate_at(0),
        "last step": schedule.rate_at(STEPS - 1),
        "first drop at step": ceil(drop * STEPS),
        "rates": [schedule.rate_at(each) for each in SHOWN],
    }


class RateCurve(Explorer):
    """Sliders for warm-up, rate and the first drop; the rate of all 1500 steps as a curve."""

    compute = staticmethod(rate_curve)

    def __init__(self) -> None:
        controls = {
            "step": slider("step", 50, 0, STEPS - 1, 1),
            "warmup": slider("warm-up, steps", 100, 0, 500, 10),
            "rate": slider("rate, thousandths", 0.3, 0.1, 1.0, 0.1),
            "drop": slider("first drop after", 0.75, 0.2, 0.9, 0.05),
        }
        chart = Chart(620, 240)
        chart.axes.set(xlim=(0, STEPS), ylim=(0, 1.05), xlabel="step", ylabel="rate, thousandths")
        (self.curve,) = chart.axes.plot(SHOWN, [0] * len(SHOWN), color=LINES[0])
        (self.point,) = chart.axes.plot([0], [0], color="black", marker="o", markersize=8, linestyle="none")
        chart.animate(self.curve, self.point)
        super().__init__(controls, chart=chart, title="Learning rate")

    def draw(self, numbers: dict[str, Any]) -> None:
        """Draw the curve, and a point on it at the chosen step."""
        self.curve.set_ydata(numbers["rates"])
        self.point.set_data([self.state["step"]], [numbers["this step"]])

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say everything but the whole curve."""
        said = super().tell({name: value for name, value in numbers.items() if name != "rates"})
        return f"rates in thousandths: {said}"
