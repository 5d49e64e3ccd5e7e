"""Train one small RPN on the frozen ImageNet trunk and keep it at several moments, for the slider of lesson 11.

    python data/build/rpn_checkpoints.py

It learns from the 600 training scenes of Scrapbook, 4 a step, as the experiments do. With 24 channels instead of 256
six moments take 1.4 MB. Prints the recall of each moment on the test scenes for ``data/weights/README.md``.
"""

import json

import _sources
import torch
from safetensors.torch import save_file

from rcnnlib.engine.recipes import SCALES
from rcnnlib.engine.stored import fit
from rcnnlib.engine.studies import SHORT, recalls, rpn_loss, stored_scenes
from rcnnlib.models.backbone import backbone
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.weights import FORMAT, load_rpn_checkpoints

MOMENTS = (0, 10, 30, 100, 300, 800)
CHANNELS = 24


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = FasterRCNN(backbone("squeezenet", pretrained=True), 5, scales=SCALES, rpn={"channels": CHANNELS})
    kept = {}

    def watch(steps: int) -> None:
        if steps in MOMENTS:
            kept.update({f"{steps}.{name}": tensor.half() for name, tensor in model.rpn.state_dict().items()})

    fit(model.rpn, rpn_loss(model), stored_scenes(), SHORT, seed=0, progress=True, watch=watch)
    trunk = model.trunk
    options = {"in_channels": trunk.out_channels, "stride": trunk.stride, "scales": SCALES, "ratios": (0.5, 1.0, 2.0)}
    header = {"format": FORMAT, "steps": json.dumps(MOMENTS), "options": json.dumps(options | {"channels": CHANNELS})}
    save_file(kept, _sources.DATA / "weights" / "rpn_checkpoints.safetensors", header)
    for steps, rpn in load_rpn_checkpoints().items():
        model.rpn = rpn
        found = recalls(model.eval())
        print(f"| {steps} | " + " | ".join(f"{found[f'recall 0.5 at {count}']:.2f}" for count in (300, 100, 30)) + " |")


if __name__ == "__main__":
    main()
