"""Each way of training runs to its figures; with a step a phase on four pictures."""

import pytest

from rcnnlib.engine import studies, studies_training
from rcnnlib.engine.recipes import open_data


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    real = studies_training.train
    monkeypatch.setattr(studies_training, "train", lambda *args, **more: real(*args, **more | {"steps": 1}))
    monkeypatch.setattr(
        studies_training,
        "with_steps",
        lambda phases, steps: [phases[0]._replace(schedule=phases[0].schedule._replace(steps=1))],
    )

    class Few:
        def __init__(self, name, split):
            self.data, self.class_names = open_data(name, split), open_data(name, split).class_names
            self.length = 2 if split == "test" else len(self.data)

        def __len__(self):
            return self.length

        def __getitem__(self, index):
            return self.data[index]

    for module in (studies, studies_training):
        monkeypatch.setattr(module, "open_data", Few)


WAYS = [
    (studies_training.four_step_vs_joint, "4-step"),
    (studies_training.fast_vs_faster, "Fast R-CNN"),
    (studies_training.fast_vs_faster, "Faster R-CNN"),
    (studies_training.ours_vs_torchvision, "torchvision"),
]


@pytest.mark.parametrize(("study", "condition"), WAYS, ids=lambda value: getattr(value, "__name__", value))
def test_every_way_runs(study, condition, tmp_path):
    figures = study(condition, 0, tmp_path)
    assert {"AP50", "AP50 drawn", "AP", "cpu seconds"} <= set(figures)
    assert ("recall 0.5 at 300" in figures) == (condition != "Fast R-CNN")
    assert len(figures["AP50 drawn"]) == 200
