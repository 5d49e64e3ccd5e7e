import json

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnlib.__main__ import main
from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.transforms import read_image
from rcnnlib.engine.detect import Found, detect_photos, summary, to_coco
from rcnnlib.models.weights import Detector, Spec, save_weights

SPEC = Spec("faster_rcnn", "tiny", ("cat", "dog"), {"scales": (32,), "ratios": (1.0,), "rpn": {"channels": 8}})
PHOTOS = data_dir() / "wild" / "images"


@pytest.fixture
def detector():
    torch.manual_seed(6)
    model = SPEC.build().eval()
    with torch.no_grad():
        model.head.predict.scores.bias.copy_(torch.tensor([-1.0, 1.0, -1.0]))  # everything is a cat
    return Detector(model, SPEC, {})


def test_boxes_are_in_pixels_of_the_photo(detector, tmp_path):
    pixels = np.zeros((900, 1200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    Image.fromarray(pixels[:300, :400]).save(tmp_path / "small.png")
    large, small = detect_photos(detector, [tmp_path / "large.png", tmp_path / "small.png"], score=0.1)
    assert large.image.shape == (3, 900, 1200)
    assert len(large.boxes) == len(small.boxes) > 0
    torch.testing.assert_close(large.boxes, 3 * small.boxes, rtol=1e-3, atol=0.1)
    assert large.boxes[:, 2].max() > 400


def test_a_score_is_the_least_that_is_shown(detector):
    (everything,) = detect_photos(detector, [PHOTOS / "dog.jpg"], score=0.0)
    threshold = float(everything.scores[len(everything.scores) // 2])
    (some,) = detect_photos(detector, [PHOTOS / "dog.jpg"], score=threshold)
    assert 0 < len(some.scores) < len(everything.scores)
    assert some.scores.min() >= threshold


def test_the_coco_file():
    found = Found(
        PHOTOS / "dog.jpg",
        read_image(PHOTOS / "dog.jpg"),
        torch.tensor([[10.0, 20.0, 40.0, 80.0]]),
        torch.tensor([0.87654]),
        torch.tensor([2]),
    )
    content = to_coco([found, found], ("cat", "dog"))
    height, width = found.image.shape[-2:]
    assert content["images"][1] == {"id": 2, "file_name": "dog.jpg", "width": width, "height": height}
    assert content["annotations"][1] == {
        **{"id": 2, "image_id": 2, "category_id": 2, "score": 0.8765},
        **{"bbox": [10.0, 20.0, 30.0, 60.0], "area": 1800.0, "iscrowd": 0},
    }
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert summary(found, ("cat", "dog")) == "dog.jpg: dog 0.88"
    nothing = found._replace(boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64))
    assert summary(nothing, ("cat", "dog")) == "dog.jpg: nothing found"


def test_the_command_writes_pictures_and_boxes(detector, tmp_path, capsys):
    weights, out = tmp_path / "mine.safetensors", tmp_path / "found"
    save_weights(weights, detector.model, SPEC, {})
    photos = [str(PHOTOS / "dog.jpg"), str(PHOTOS / "jaguar.jpg")]
    assert main(["detect", *photos, "--weights", str(weights), "--out", str(out), "--score", "0.3"]) == 0
    assert capsys.readouterr().out.startswith("dog.jpg: cat 0.")
    content = json.loads((out / "detections.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["dog.jpg", "jaguar.jpg"]
    assert {row["category_id"] for row in content["annotations"]} == {1}
    with Image.open(out / "dog.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["detect", "nowhere.jpg"], "no picture at nowhere.jpg"),
        (["detect", str(PHOTOS / "dog.jpg"), "--weights", "yolo"], "no weights 'yolo'"),
        (["train", "yolo", "--out", "nowhere"], "recipe 'yolo' is unknown; use one of"),
        (["evaluate", "yolo"], "no weights 'yolo'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error


def test_train_evaluate_detect_in_a_row(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "faster_rcnn_shapes", "--steps", "2", "--out", str(out), "--workers", "0"]) == 0
    assert "joint  trunk + rpn + head  nothing" in capsys.readouterr().out
    card = json.loads((out / "faster_rcnn_shapes.json").read_text())
    assert card["command"] == "python -m rcnnlib train faster_rcnn_shapes --seed 0 --steps 2"
    assert card["steps"] == {"joint": 2}
    assert card["seconds"] >= 0
    assert set(card["figures"]) == {"shapes_test"}
    weights = str(out / "faster_rcnn_shapes.safetensors")
    assert main(["evaluate", weights, "--data", "shapes"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 200
