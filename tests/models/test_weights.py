import itertools
import json

import pytest
import torch
from demo import inputs, shapes_batch
from safetensors import safe_open
from safetensors.torch import save_file

from rcnnlib.models.weights import (
    DETECTORS,
    Spec,
    load_rpn_checkpoints,
    load_weights,
    save_weights,
    weights_path,
)

SMALL = {
    "rcnn": {"crop": 24, "context": 2, "head": {"width": 8}},
    "sppnet": {"levels": (2, 1), "head": {"width": 8}},
    "fast_rcnn": {"head": {"reduced": 4, "width": 8, "grid": 3}},
    "faster_rcnn": {"scales": (16, 32), "ratios": (1.0,), "rpn": {"channels": 8}, "head": {"reduced": 4, "width": 8}},
}


def make(name, trunk="tiny"):
    torch.manual_seed(5)
    spec = Spec(name, trunk, ("circle", "square", "triangle"), SMALL[name])
    return spec, spec.build().eval()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_comes_back_from_its_file(name, tmp_path):
    spec, model = make(name)
    save_weights(tmp_path / "mine.safetensors", model, spec, {"seed": 7})
    found = load_weights(tmp_path / "mine.safetensors")
    assert found.spec.detector == name
    assert found.spec.classes == ("circle", "square", "triangle")
    assert found.card == {"seed": 7}
    assert not found.model.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor.half().float())
    batch = shapes_batch()
    with torch.inference_mode():
        assert found.model(*inputs(found.model, batch)).boxes.shape[0] == 3


def test_a_trunk_that_is_still_imagenets_is_not_stored(tmp_path):
    spec, model = make("faster_rcnn", "squeezenet")
    save_weights(tmp_path / "shared.safetensors", model, spec, {})
    with safe_open(tmp_path / "shared.safetensors", "pt") as file:
        assert not [key for key in file.keys() if key.startswith("trunk.")]  # noqa: SIM118
    again = load_weights(tmp_path / "shared.safetensors").model
    for ours, theirs in zip(again.trunk.parameters(), model.trunk.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with torch.no_grad():
        model.trunk.features[12].squeeze.bias += 1
    save_weights(tmp_path / "own.safetensors", model, spec, {})
    own = load_weights(tmp_path / "own.safetensors").model
    assert torch.allclose(own.trunk.features[12].squeeze.bias, model.trunk.features[12].squeeze.bias, atol=1e-2)


def test_what_is_no_file_of_weights(tmp_path):
    spec, model = make("fast_rcnn")
    good = tmp_path / "good.safetensors"
    save_weights(good, model, spec, {})
    short = tmp_path / "short.safetensors"
    short.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"short.safetensors is damaged .* fetch it again"):
        load_weights(short)
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is not a file of weights of this course"):
        load_weights(tmp_path / "other.safetensors")
    with safe_open(good, "pt") as file:
        header, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del tensors["head.mlp.fc6.weight"]
    save_file(tensors, tmp_path / "gap.safetensors", header)
    with pytest.raises(ValueError, match=r"gap.safetensors lacks head.mlp.fc6.weight"):
        load_weights(tmp_path / "gap.safetensors")
    with pytest.raises(FileNotFoundError, match="no weights 'yolo': give the path of a file, or one of"):
        weights_path("yolo")


def test_unknown_names():
    with pytest.raises(ValueError, match="detector 'ssd' is unknown; use one of rcnn"):
        Spec("ssd", "tiny", ("a",), {}).build()


def test_every_stored_detector_fits_its_card():
    for path in sorted(weights_path("faster_rcnn_scrapbook").parent.glob("*rcnn*.json")):
        card = json.loads(path.read_text())
        found = load_weights(path.stem)
        assert sum(parameter.numel() for parameter in found.model.parameters()) == card["parameters"]
        assert path.with_suffix(".safetensors").stat().st_size == card["bytes"]


def test_moments_of_an_rpn():
    moments = load_rpn_checkpoints()
    assert list(moments) == [0, 10, 30, 100, 300, 800]
    torch.manual_seed(0)
    maps = torch.rand(1, 512, 6, 8)
    scores = []
    for rpn in moments.values():
        assert not rpn.training
        anchors, logits, deltas = rpn(maps)
        assert anchors.shape == (6 * 8 * 9, 4)
        assert deltas.shape == (1, 6 * 8 * 9, 4)
        scores.append(logits)
    assert scores[0].abs().max() < 0.5, "before training all scores are near 0"
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(scores))
