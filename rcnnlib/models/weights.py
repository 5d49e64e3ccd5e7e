"""Detectors by name: build one from a few words, store it in one file, load it again.

A file of weights is safetensors in half precision; its header says how to build the detector and what it was trained
on. The trunk is left out where it is still ImageNet's, which lies in ``data/weights`` once for all.
Left out: optimiser and random state, which belong to a run (``engine.checkpoint``).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rcnnlib.datasets.paths import data_dir
from rcnnlib.models.backbone import backbone
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.rcnn import RCNN
from rcnnlib.models.rpn import RPN
from rcnnlib.models.sppnet import SPPnet

DETECTORS = {"rcnn": RCNN, "sppnet": SPPnet, "fast_rcnn": FastRCNN, "faster_rcnn": FasterRCNN}
FORMAT = "rcnnlib weights 1"


class Spec(NamedTuple):
    """All that is needed to build a detector."""

    detector: str  # a key of DETECTORS
    trunk: str  # a name for ``backbone``
    classes: tuple[str, ...]  # names of the labels 1..K
    options: dict[str, Any]  # keyword arguments of the detector
    longer_side: int = 320  # pixels of the pictures that it is made for

    def build(self, *, pretrained: bool = True) -> nn.Module:
        """Return the detector, its trunk with ImageNet's weights unless told otherwise; the rest is random.

        Raises:
            ValueError: there is no detector or trunk of that name.
        """
        if self.detector not in DETECTORS:
            raise ValueError(f"detector {self.detector!r} is unknown; use one of {', '.join(DETECTORS)}")
        trunk = backbone(self.trunk, pretrained=pretrained)
        return DETECTORS[self.detector](trunk, len(self.classes), **self.options)


class Detector(NamedTuple):
    """A detector from a file."""

    model: nn.Module  # ready for inference
    spec: Spec
    card: dict[str, Any]  # what the file says about its training


def weights_path(name: str | Path) -> Path:
    """Return the file of a name such as ``faster_rcnn_scrapbook``, or the path itself.

    Raises:
        FileNotFoundError: there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    folder = data_dir() / "weights"
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        found = sorted(file.stem for file in folder.glob("*rcnn*.safetensors"))
        raise FileNotFoundError(f"no weights {str(name)!r}: give the path of a file, or one of {', '.join(found)}")
    return path


def save_weights(path: str | Path, model: nn.Module, spec: Spec, card: dict[str, Any]) -> None:
    """Store a detector in half precision; ``card`` is anything JSON can hold."""
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in model.state_dict().items()}
    if spec.trunk == "squeezenet":
        shared = backbone("squeezenet").half().state_dict()
        same = all(torch.equal(tensor, tensors[f"trunk.{name}"]) for name, tensor in shared.items())
        if same:
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("trunk.")}
    header = {"format": FORMAT, "spec": json.dumps(spec._asdict()), "card": json.dumps(card)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, header)


def load_weights(name: str | Path, *, device: torch.device | str = "cpu") -> Detector:
    """Load a detector of the course by its name, or one of your own by the path of its file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or no file of weights.
    """
    path = weights_path(name)
    tensors, header = _read(path)
    spec = Spec(**json.loads(header["spec"]))
    spec = spec._replace(classes=tuple(spec.classes))
    model = spec.build(pretrained=not any(key.startswith("trunk.") for key in tensors))
    if missing := [key for key in model.state_dict() if key not in tensors and not key.startswith("trunk.")]:
        raise ValueError(f"{path} lacks {', '.join(missing[:3])}: fetch it again, or train it anew")
    model.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, strict=False)
    return Detector(model.to(device).eval(), spec, json.loads(header["card"]))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") == FORMAT:
                return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118  not a dict
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}): fetch it again") from error
    raise ValueError(
        f"{path} is not a file of weights of this course (a checkpoint of a run is made into one by `train`)"
    )


def load_rpn_checkpoints() -> dict[int, RPN]:
    """Return one RPN at several moments of its training, by the number of steps; its trunk is the ImageNet one.

    ``data/build/rpn_checkpoints.py`` makes the file.
    """
    tensors, header = _read(weights_path("rpn_checkpoints"))
    options, found = json.loads(header["options"]), {}
    for steps in json.loads(header["steps"]):
        prefix, rpn = f"{steps}.", RPN(**options)
        own = {name.removeprefix(prefix): tensor.float() for name, tensor in tensors.items() if name.startswith(prefix)}
        rpn.load_state_dict(own)
        found[steps] = rpn.eval()
    return found
