"""Every recipe runs for a step or two; the four phases end with one trunk that both networks share."""

import hashlib

import pytest

from rcnnlib.datasets.shapes import Shapes
from rcnnlib.engine import recipes
from rcnnlib.engine.evaluation import evaluate
from rcnnlib.engine.recipes import RECIPES, Recipe, open_data, run_recipe
from rcnnlib.engine.schedules import Schedule, four_step_alternating
from rcnnlib.models.weights import Spec

SMALL = {
    "scales": (16, 32),
    "ratios": (1.0,),
    "rpn": {"channels": 8, "before": 100, "after": 20},
    "head": {"reduced": 4, "width": 8, "samples": 8},
}


def fingerprint(module):
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture
def tiny_recipe(monkeypatch):
    """Put a four-step recipe on Shapes, with a trunk that starts from nothing, under the name ``tiny``."""
    phases = tuple(
        phase._replace(trunk="nothing" if phase.trunk == "imagenet" else phase.trunk)
        for phase in four_step_alternating(Schedule(3, batch=2), Schedule(2, batch=2))
    )
    spec = Spec("faster_rcnn", "tiny", Shapes.class_names, SMALL)
    monkeypatch.setitem(RECIPES, "tiny", Recipe(spec, "shapes", phases, frozen=0))


def test_four_steps_end_with_one_shared_trunk(tiny_recipe, tmp_path, monkeypatch):
    kept = {}
    gather = recipes.gather_parts
    monkeypatch.setattr(recipes, "gather_parts", lambda recipe, done: (kept.update(done), gather(recipe, done))[1])
    model = run_recipe("tiny", tmp_path)
    trunks = {name: fingerprint(module.trunk) for name, module in kept.items()}
    assert trunks["1"] != trunks["2"]  # the first two networks share nothing ...
    assert trunks["2"] == trunks["3"] == trunks["4"] == fingerprint(model.trunk)  # ... the last two everything
    assert fingerprint(model.rpn) == fingerprint(kept["3"].rpn) != fingerprint(kept["1"].rpn)
    assert fingerprint(model.head) == fingerprint(kept["4"].head) != fingerprint(kept["2"].head)
    assert kept["4"].head.background_low == 0.0
    begun = {phase.name: recipes.start_phase(RECIPES["tiny"], phase, kept) for phase in RECIPES["tiny"].phases[2:]}
    assert fingerprint(begun["3"].rpn) == fingerprint(kept["1"].rpn), "tuned on, not begun anew"
    assert fingerprint(begun["4"].head) == fingerprint(kept["2"].head)
    assert not any(parameter.requires_grad for parameter in kept["3"].trunk.parameters())


def test_a_recipe_goes_on_in_the_phase_where_it_ended(tiny_recipe, tmp_path, monkeypatch):
    whole = fingerprint(run_recipe("tiny", tmp_path / "whole"))
    real, calls = recipes.Trainer.run, []

    def stop_in_the_third(self, *arguments, **options):
        calls.append(self.facts["phase"])
        if len(calls) == 3:
            real(self, *arguments, **options, until=1)
            raise KeyboardInterrupt
        real(self, *arguments, **options)

    monkeypatch.setattr(recipes.Trainer, "run", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_recipe("tiny", tmp_path / "broken")
    monkeypatch.setattr(recipes.Trainer, "run", real)
    assert fingerprint(run_recipe("tiny", tmp_path / "broken")) == whole


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_a_step(name, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "fit_after_training", lambda *arguments, **options: None)  # tested by itself
    model = run_recipe(name, tmp_path, steps=1)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.mark.slow
def test_sixty_steps_are_reproduced_to_the_bit(tmp_path):
    ours, again = (run_recipe("faster_rcnn_shapes", tmp_path / name, steps=60) for name in ("one", "two"))
    assert fingerprint(ours) == fingerprint(again)
    other = run_recipe("faster_rcnn_shapes", tmp_path / "three", steps=2, seed=1)
    assert fingerprint(other) != fingerprint(ours)


@pytest.mark.slow
def test_shapes_are_learned_in_minutes(tmp_path):
    model = run_recipe("faster_rcnn_shapes", tmp_path)
    assert evaluate(model, open_data("shapes", "test"), longer_side=96)["AP50"] > 0.9  # 0.98 when this was written


@pytest.mark.parametrize("name", ["shapes", "scrapbook", "scrapbook_fresh", "treetops", "treetops_selective_search"])
def test_every_data_set_opens(name):
    dataset = open_data(name, "train")
    example = dataset[0]
    assert example.image.shape[0] == 3
    assert len(dataset.class_names) >= 1
    assert (len(example.proposals) > 0) == name.endswith("selective_search")


def test_unknown_names():
    with pytest.raises(ValueError, match="data set 'coco' is unknown; use one of shapes, scrapbook_fresh"):
        open_data("coco", "train")
    with pytest.raises(ValueError, match="recipe 'yolo' is unknown; use one of faster_rcnn_shapes"):
        run_recipe("yolo", "nowhere")
