"""Keras's files: `.keras` archives, and HDF5 files of whole models or of weights alone, of Keras 3 and of `tf.keras`.

What is read is plain data: the model's own description (JSON) and its variables. No class that a description names is
imported, and no layer's code is run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refdesign.errors import RefdesignError
from refdesign.formats import hdf5
from refdesign.formats.archives import Archive
from refdesign.formats.files import naming, read_bytes
from refdesign.formats.safetensors_file import natural
from refdesign.formats.tensors import StoredTensor, TensorFile

LARGEST_JSON = 1 << 23
LARGEST_WEIGHTS = 1 << 30

NORM_LEAVES = ("gamma", "beta", "moving_mean", "moving_variance")

Variables = Mapping[str, Mapping[str, StoredTensor]]


@dataclass(frozen=True)
class KerasFile:
    """What a Keras file holds.

    Attributes:
        model: the model's description, as Keras writes it; None in a file of weights alone.
        variables: by layer and by the variable's name in it (`kernel`, `gamma`, or a number where the file has none).
        ordered: whether the layers come in an order that is the model's, kind by kind.
        notes: what was left aside.
    """

    model: Mapping[str, Any] | None
    variables: Variables
    ordered: bool
    notes: tuple[str, ...] = ()

    def tensor_file(self) -> TensorFile:
        """The variables as named tensors, `layer.kernel`, to be mapped onto an architecture."""
        tensors = {
            f"{layer}.{leaf}": tensor for layer, found in self.variables.items() for leaf, tensor in found.items()
        }
        return TensorFile(format="Keras weights", tensors=tensors, ordered=self.ordered, notes=self.notes)


def read(path: str | os.PathLike[str], worker: hdf5.Worker | None = None) -> KerasFile:
    """The description and the variables in a Keras file; nothing in it is trusted.

    Raises:
        RefdesignError: no such file, a damaged one, or one that is too large; names it.

    >>> read("/nowhere/net.keras")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/net.keras: cannot be read: No such file or directory
    """
    with naming(path):
        return from_bytes(read_bytes(path), worker)


def from_bytes(data: bytes, worker: hdf5.Worker | None = None) -> KerasFile:
    """The same of a file's content: a `.keras` archive, or an HDF5 file.

    Args:
        data: the content.
        worker: the process that parses HDF5; None starts one for this file.
    """
    if data[:2] == b"PK":
        archive = Archive(data)
        if "config.json" not in archive.names or "model.weights.h5" not in archive.names:
            raise RefdesignError("found a zip archive without config.json and model.weights.h5, expected a .keras file")
        model: Mapping[str, Any] | None = _json(archive.read("config.json", LARGEST_JSON), "config.json")
        stored = _hdf5(archive.read("model.weights.h5", LARGEST_WEIGHTS), worker)
        return _keras3(stored, model)
    stored = _hdf5(data, worker)
    text = stored.attributes.get("", {}).get("model_config")
    model = _json(text, "model_config") if isinstance(text, str) else None
    if any("layer_names" in stored.attributes.get(path, {}) for path in ("", "model_weights")):
        return _legacy(stored, model)
    return _keras3(stored, model)


def _hdf5(data: bytes, worker: hdf5.Worker | None) -> hdf5.Hdf5:
    return hdf5.read(data) if worker is None else worker.read(data)


def _json(text: bytes | str, where: str) -> Mapping[str, Any]:
    if len(text) > LARGEST_JSON:
        raise RefdesignError(f"{where}: found {len(text)} characters, expected at most {LARGEST_JSON}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefdesignError(f"{where}: found no valid JSON: truncated or another format") from error
    if not isinstance(found, dict):
        raise RefdesignError(f"{where}: found no description of a model")
    return found


def _keras3(stored: hdf5.Hdf5, model: Mapping[str, Any] | None) -> KerasFile:
    """Groups `layers/CLASS_N/vars/I`, sorted by name in the file; newer versions note the layer's own name."""
    groups: dict[str, list[tuple[int, StoredTensor]]] = {}
    for path, tensor in stored.tensors.items():
        group, _, leaf = path.rpartition("/")
        if (group == "vars" or group.endswith("/vars")) and re.fullmatch(r"\d{1,3}", leaf):
            groups.setdefault(group, []).append((int(leaf), tensor))
    if not groups:
        raise RefdesignError("found an HDF5 file without a model's variables, expected one that Keras saved")
    variables: dict[str, Mapping[str, StoredTensor]] = {}
    for group in sorted(groups, key=natural):
        noted = stored.attributes.get(group, {}).get("name")
        own = group.removesuffix("vars").rstrip("/").removeprefix("layers/")
        name = noted if isinstance(noted, str) and noted and noted not in variables else own
        in_order = [tensor for _, tensor in sorted(groups[group], key=lambda pair: pair[0])]
        variables[name] = dict(zip(_leaves(in_order), in_order, strict=True))
    kinds = {
        re.sub(r"(_\d+)?/?vars$", "", group)
        for group, found in groups.items()
        if any(len(tensor.shape) == 4 for _, tensor in found)
    }
    return KerasFile(model, variables, ordered=len(kinds) <= 1, notes=_aside(stored))


def _leaves(variables: Sequence[StoredTensor]) -> Sequence[str]:
    """What numbered variables are, as far as their shapes say it: a kernel and a bias, or a batch norm's four."""
    axes = [len(tensor.shape) for tensor in variables]
    if axes in ([4], [2], [4, 1], [2, 1]):
        return ("kernel", "bias")[: len(axes)]
    if axes == [1, 1, 1, 1]:
        return NORM_LEAVES
    if axes == [1, 1]:
        return NORM_LEAVES[2:]
    return [str(number) for number in range(len(axes))]


def _legacy(stored: hdf5.Hdf5, model: Mapping[str, Any] | None) -> KerasFile:
    """Groups named after layers, in the order of the attribute `layer_names`, their variables in `weight_names`."""
    root = "model_weights" if "layer_names" in stored.attributes.get("model_weights", {}) else ""
    layers = stored.attributes[root]["layer_names"]
    variables: dict[str, dict[str, StoredTensor]] = {}
    for layer in layers if isinstance(layers, list) else []:
        group = f"{root}/{layer}" if root else str(layer)
        names = stored.attributes.get(group, {}).get("weight_names", [])
        found: dict[str, StoredTensor] = {}
        for name in names if isinstance(names, list) else []:
            tensor = stored.tensors.get(f"{group}/{name}")
            leaf = re.sub(r":\d+$", "", str(name).rsplit("/", 1)[-1])
            if tensor is None or leaf in found:
                raise RefdesignError(
                    f"layer {str(layer)[:60]!r}: variable {str(name)[:80]!r} is missing, or there twice"
                )
            found[leaf] = tensor
        if found:
            variables[str(layer)] = found
    if not variables:
        raise RefdesignError("found an HDF5 file without a model's variables, expected one that Keras saved")
    return KerasFile(model, variables, ordered=True, notes=_aside(stored))


def _aside(stored: hdf5.Hdf5) -> tuple[str, ...]:
    return (f"not read: {', '.join(name[:60] for name in stored.aside[:6])}",) if stored.aside else ()
