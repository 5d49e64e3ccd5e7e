"""Checkpoints: everything that a run needs to go on, in one file that survives being killed at any moment.

A file is an ordinary safetensors file, which any tool of that format opens. Its header holds one text under
``rcnnlib.checkpoint``: the version, the SHA-256 of all that follows and of the tensors, and as JSON the caller's facts
and the aliases of tensors stored once. Equal content gives equal bytes. Nothing is pickled, so that opening a file of
unknown origin runs no code.

A new file is written beside the old one, forced to the disk and then put in its place, and the old one is kept: at
every instant at least one of the two names leads to a whole file.

Left out: sharded optimiser states, saving in the background, compression, random states of NumPy and of Python (the
course draws with torch alone).
"""

import hashlib
import json
import math
import os
import reprlib
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import UInt8
from safetensors import SafetensorError
from torch import Tensor

TAG, VERSION = "rcnnlib.checkpoint", 1
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, *INTEGERS)
Content = tuple[dict[str, Tensor], dict[str, Any]]


def previous(path: str | Path) -> Path:
    """Return where the file that ``path`` replaces is kept: ``last.previous.safetensors`` for ``last.safetensors``."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.safetensors')}.previous.safetensors")


def save(
    path: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, keep_previous: bool = True
) -> None:
    """Write ``tensors`` and ``facts`` to one file, which takes its place only when it is whole and on the disk.

    Tensors that are the same memory in the same shape (tied weights) are stored once and come back as one object;
    other views of common memory are stored apart.

    Args:
        path: the file; its folder must exist.
        tensors: from any device, in any layout of memory, of the dtypes in ``DTYPES``.
        facts: what JSON gives back as it was: no tuples, no keys but text, no NaN (see ``flatten_state`` for those).
        keep_previous: keep the file that is replaced, under the name that ``previous`` gives.

    Raises:
        ValueError: a tensor or a fact is of another kind; the file on the disk stays as it was.
    """
    stored, aliases = _store_once(tensors)
    text = json.dumps({"facts": _checked(facts), "aliases": aliases})
    header = {TAG: f"{VERSION} {_checksum(text, stored)} {text}"}  # one entry: safetensors shuffles several
    _put_in_place(Path(path), safetensors.torch.save(stored, header), keep_previous=keep_previous)


def _store_once(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return copies of the different tensors, and for the name of each other one the name that it is stored under."""
    stored, aliases, names = {}, {}, {}
    for name, tensor in tensors.items():
        if name == "__metadata__":
            raise ValueError("tensors must not use the name '__metadata__', which safetensors needs; rename that one")
        if not isinstance(tensor, Tensor):
            raise ValueError(f"tensors[{name!r}] must be a Tensor; got {reprlib.repr(tensor)}: put it into facts")
        if tensor.dtype not in DTYPES or tensor.layout != torch.strided or tensor.is_meta:
            got = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            raise ValueError(f"tensors[{name!r}] must be dense, real numbers or bool; got {got}: convert it first")
        memory = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        key = memory if tensor.numel() else id(tensor)  # empty tensors all have the address 0
        if key in names:
            aliases[name] = names[key]
        else:  # a copy, because safetensors takes neither gaps nor views of common memory
            names[key] = name
            stored[name] = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
    return stored, aliases


def _checked(facts: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in facts.items():
        try:
            same = isinstance(key, str) and json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError):
            same = False
        if not same:
            raise ValueError(
                f"facts[{key!r}] must be what JSON gives back unchanged (dict with text for keys, list, text, finite "
                f"number, bool, None); got {reprlib.repr(value)}: convert it, or pack it with flatten_state"
            )
    return dict(facts)


def _checksum(text: str, stored: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the text and of the tensors' names, dtypes, shapes and bytes, in the order of names."""
    ordered = [(name, stored[name]) for name in sorted(stored)]
    outline = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in ordered]
    digest = hashlib.sha256(json.dumps([text, outline]).encode())
    for _, tensor in ordered:
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _put_in_place(path: Path, data: bytes, *, keep_previous: bool) -> None:
    new, old = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        old.unlink(missing_ok=True)  # left by a run that was killed
        if keep_previous and path.exists():
            _second_name(path, old)
        os.replace(new, path)
        if old.exists():  # only now: it may be broken, and then the one before it was the last whole one
            os.replace(old, previous(path))
        if os.name == "posix":  # Windows opens no folder
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    finally:
        new.unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def _second_name(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except OSError:  # exFAT and some network drives know no hard links
        shutil.copyfile(path, name)


def load(path: str | Path) -> Content:
    """Return the tensors of a checkpoint, on the CPU, and its facts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short, changed, or not a checkpoint.
    """
    try:
        return _read(Path(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint {path}: check the name, or train one") from None
    except ValueError as reason:
        raise ValueError(f"{path} {reason}; use {previous(path).name} or another copy, or train anew") from None


def load_latest(path: str | Path) -> Content:
    """Return the checkpoint at ``path``, or, with a warning that says why, the one that was saved before it.

    Raises:
        FileNotFoundError: neither exists.
        ValueError: neither is whole.
    """
    reasons = []
    for file in (Path(path), previous(path)):
        try:
            content = _read(file)
        except (FileNotFoundError, ValueError) as reason:
            reasons.append(reason)
            continue
        if reasons:
            warnings.warn(f"{path} {_why(reasons[0])}; going on from {file.name}, saved before it", stacklevel=2)
        return content
    if all(isinstance(reason, FileNotFoundError) for reason in reasons):
        raise FileNotFoundError(f"there is no checkpoint {path} and no {previous(path).name}: check the name, or train")
    raise ValueError(
        f"{path} {_why(reasons[0])}, and {previous(path).name} {_why(reasons[1])}; "
        "put a good copy in their place, or remove them and train anew"
    )


def _why(reason: Exception) -> str:
    return "is missing" if isinstance(reason, FileNotFoundError) else str(reason)


def _read(path: Path) -> Content:
    """Return what a file holds; the ValueError is the second half of a sentence that begins with the file."""
    data = path.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that torch lacks
        raise ValueError(f"is cut short or no safetensors file ({error})") from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # the length comes first, in 8 bytes
    version, _, rest = header.get("__metadata__", {}).get(TAG, "").partition(" ")
    if not version:
        raise ValueError("is a safetensors file, but not a checkpoint of rcnnlib")
    if version != str(VERSION):
        raise ValueError(f"was written in version {version} of the format, and this code reads version {VERSION}")
    checksum, _, text = rest.partition(" ")
    if checksum != _checksum(text, tensors):  # before the text is looked into
        raise ValueError("has changed since it was written (its checksum does not agree)")
    body = json.loads(text)
    return tensors | {name: tensors[first] for name, first in body["aliases"].items()}, body["facts"]


def flatten_state(state: Mapping) -> Content:
    """Take a nested state apart, such as ``{"model": ..., "optimizer": optimizer.state_dict(), "step": 3}``.

    Returns the tensors, named by their place (``optimizer/state/0/exp_avg``), and a JSON description of the rest with
    the types that JSON lacks: tuples, whole numbers as keys, infinity and NaN. ``unflatten_state`` puts them together.

    Raises:
        ValueError: something is neither tensor, dict, list, tuple, text, number, bool nor None.
    """
    tensors = {}
    return tensors, _take_apart(state, "", tensors)


def _take_apart(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return the description of ``value``; every dict in it has one entry, whose key says what its value stands for."""
    if isinstance(value, Tensor):
        name = place
        while name in tensors:  # the keys 0 and "0" of one dict
            name += "'"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        if odd := [key for key in value if type(key) not in (str, int)]:
            raise ValueError(
                f"state at {place!r} has the key {odd[0]!r}; keys must be text or whole numbers: rename it"
            )
        items = [[key, _take_apart(item, f"{place}/{key}".removeprefix("/"), tensors)] for key, item in value.items()]
        return {"dict": items}
    if isinstance(value, list | tuple):
        items = [_take_apart(item, f"{place}/{index}", tensors) for index, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(float(value))}
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(
        f"state at {place!r} must be a tensor or plain; got {reprlib.repr(value)}: convert it or leave it out"
    )


def unflatten_state(tensors: Mapping[str, Tensor], facts: Any) -> Any:
    """Put together what ``flatten_state`` took apart; other tensors may be present.

    Raises:
        ValueError: ``facts`` is not such a description.
    """
    if isinstance(facts, list):
        return [unflatten_state(tensors, item) for item in facts]
    if not isinstance(facts, dict):
        return facts
    match list(facts.items()):
        case [("tensor", name)]:
            return tensors[name]
        case [("float", text)]:
            return float(text)
        case [("tuple", items)]:
            return tuple(unflatten_state(tensors, item) for item in items)
        case [("dict", items)]:
            return {key: unflatten_state(tensors, item) for key, item in items}
    raise ValueError(
        f"facts must be the second result of flatten_state; got {reprlib.repr(facts)}: pass only that part"
    )


def random_state() -> dict[str, UInt8[Tensor, " N"]]:
    """Return the states of torch's random generators: ``cpu``, and ``cuda:0`` and so on where there are GPUs."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_random_state(states: Mapping[str, UInt8[Tensor, " N"]]) -> None:
    """Put the generators back into these states; GPUs that only one of the two machines has are passed over."""
    torch.set_rng_state(states["cpu"])
    for index in range(torch.cuda.device_count()):
        if (state := states.get(f"cuda:{index}")) is not None:
            torch.cuda.set_rng_state(state, index)
