"""The runner: every run is kept at once, a killed experiment goes on, a result says what it is."""

import json
from pathlib import Path

import pytest

from rcnnlib.__main__ import main
from rcnnlib.engine import experiments
from rcnnlib.engine.experiments import EXPERIMENTS, Experiment, overview, read_result, run_experiment


class Study:
    """A study that counts its runs and can be told to die."""

    def __init__(self):
        self.runs, self.dies_at = [], None

    def __call__(self, condition: str, seed: int, folder: Path) -> dict[str, float]:
        if (condition, seed) == self.dies_at:
            raise KeyboardInterrupt
        folder.mkdir(parents=True)
        (folder / "checkpoint").write_text("x")
        self.runs.append((condition, seed))
        return {"AP50": {"few": 0.25, "many": 0.5}[condition] + seed / 8, "seconds": 1 / 3}


@pytest.fixture
def study(monkeypatch, tmp_path):
    study = Study()
    monkeypatch.setattr(experiments, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setitem(EXPERIMENTS, "demo", Experiment("More?", "all the same", ("few", "many"), 2, study))
    return study


def test_killed_it_goes_on_and_repeats_nothing(study, tmp_path):
    study.dies_at = ("few", 1)
    with pytest.raises(KeyboardInterrupt):
        run_experiment("demo", tmp_path / "runs")
    assert study.runs == [("few", 0), ("many", 0)], "seed by seed, so that what is there is paired"
    assert read_result("demo").values["many"] == {"AP50": [0.5], "seconds": [0.33333]}
    study.dies_at = None
    run_experiment("demo", tmp_path / "runs")
    run_experiment("demo", tmp_path / "runs")
    assert study.runs == [("few", 0), ("many", 0), ("few", 1), ("many", 1)]
    assert list((tmp_path / "runs").iterdir()) == [], "checkpoints of finished runs are gone"
    assert [path.name for path in (tmp_path / "data" / "results").iterdir()] == ["demo.json"], "nothing half written"


def test_result_has_values_by_seed_and_says_where_it_comes_from(study, tmp_path):
    path = run_experiment("demo", tmp_path)
    stored = json.loads(path.read_text())
    stored["runs"].reverse()  # the order in the file does not matter
    path.write_text(json.dumps(stored))
    result = read_result("demo")
    assert result.values["few"]["AP50"] == [0.25, 0.375]
    assert (result.question, result.setting) == ("More?", "all the same")
    assert {"condition", "seed", "figures", "seconds", "machine", "commit", "date"} == set(result.runs[0])
    # (0.25 + 0.375) / 2 = 0.3125
    assert result.table("AP50", decimals=2).splitlines()[1] == "few   0.31 (0.25 to 0.38)"
    assert result.table("AP50", "seconds").splitlines()[0].split() == ["AP50", "seconds"]
    wide = result._replace(values={"few": {"AP50": [1234.5, 9999.5], "seconds": [1.0]}})
    assert wide.table("AP50", "seconds", decimals=1).splitlines()[1] == "few  5617.0 (1234.5 to 9999.5)  1.0"


def test_difference_reads_the_draws_of_both_conditions(study, tmp_path, monkeypatch):
    drawn = {"few": [0.2, 0.3, 0.4], "many": [0.5, 0.6, 0.7]}

    def with_draws(condition, seed, folder):
        return study(condition, seed, folder) | {"AP50 drawn": drawn[condition]}

    monkeypatch.setitem(EXPERIMENTS, "demo", EXPERIMENTS["demo"]._replace(run=with_draws))
    path = run_experiment("demo", tmp_path)
    assert read_result("demo").values["few"]["AP50 drawn"] == [drawn["few"]] * 2
    found = read_result("demo").difference("many", "few")
    assert found.mean == pytest.approx(0.25)
    assert (found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.3))
    lines = [line for line in path.read_text().splitlines() if "AP50 drawn" in line]
    assert len(lines) == 4, "a run is a line"


def test_groups_run_all_their_experiments(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "CORE", ("demo",))
    assert main(["experiment", "core", "--out", str(tmp_path)]) == 0
    assert len(study.runs) == 4
    assert "More?" in capsys.readouterr().out
    assert {*experiments.EXTRA} <= {*EXPERIMENTS}


def test_fewer_seeds(study, tmp_path):
    run_experiment("demo", tmp_path, seeds=1)
    assert study.runs == [("few", 0), ("many", 0)]
    assert "demo                   2 of 4    runs   More?" in overview()


def test_unknown_and_unfinished_are_said(study, capsys):
    with pytest.raises(FileNotFoundError, match="python -m rcnnlib experiment demo makes it"):
        read_result("demo")
    assert main(["experiment", "nothing"]) == 2
    assert "'nothing' is unknown; use one of detectors, rcnn_regions" in capsys.readouterr().err
    assert main(["experiment", "list"]) == 0
    assert "sampling_mix" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_stored_results_are_those_of_their_experiment(name):
    if not experiments.result_path(name).is_file():
        pytest.skip("not run yet")
    experiment, result = EXPERIMENTS[name], read_result(name)
    assert (result.question, result.setting) == (experiment.question, experiment.setting)
    assert set(result.values) == set(experiment.conditions)
    counts = {len(numbers) for figures in result.values.values() for numbers in figures.values()}
    assert len(counts) == 1, "every condition has the same seeds"
    assert not [run for run in result.runs if "dirty" in run["commit"] or run["commit"] == "unknown"]
