"""The readers of other frameworks' files, and of layer maps and threshold kernels, as they are fuzzed."""

from __future__ import annotations

import atexit
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from refdesign.design import published, write_mat
from refdesign.errors import RefdesignError
from refdesign.formats import foreign, hdf5, keras_file, kernels, layer_map, safetensors_file, torch_file
from refdesign.formats.binarising import RULES
from refdesign.formats.foreign import Wanted
from refdesign.formats.tensors import TensorFile
from refdesign.models import binarynet
from refdesign.verify.fuzz.foreign_files import SHAPE, keras_archive, keras_hdf5, old_state_dict, state_dict, states
from refdesign.verify.fuzz.hdf5_mutations import mutate_hdf5
from refdesign.verify.fuzz.mutations import (
    Change,
    mutate_archive,
    mutate_header,
    mutate_json,
    mutate_mat,
    mutate_numpy,
)
from refdesign.verify.fuzz.pickle_mutations import mutate_pickles


@cache
def _said() -> Wanted:
    return Wanted(architecture=binarynet(input_shape=SHAPE, classes=2, widths=(3, 4), dense=(5,)))


def _mapped(file: TensorFile) -> object:
    """The network, by the first rule for weights under which there is one."""
    for tensor in file.tensors.values():
        tensor.load()
    for rule in (None, *RULES):
        with suppress(RefdesignError):
            return foreign.mapped(file, replace(_said(), binarise=rule), "torch")
    return foreign.mapped(file, _said(), "torch")


_WORKER: list[hdf5.Worker] = []


def read_keras(data: bytes) -> object:
    """The network in a Keras file's content; one process of HDF5 reads all files of this one."""
    if not _WORKER:
        _WORKER.append(hdf5.Worker())
        atexit.register(_WORKER[0].close)
    return foreign.described(keras_file.from_bytes(data, _WORKER[0]), Wanted())


def _map() -> bytes:
    norm = {
        "mean": "n.running_mean",
        "variance": "n.running_var",
        "gamma": "n.weight",
        "beta": "n.bias",
        "epsilon": 1e-5,
    }
    conv: dict[str, Any] = {"padding": 1, "stride": [1, 1], "padding_mode": "symmetric", "pool": 2, "batch_norm": norm}
    layers: list[dict[str, Any]] = [
        {"name": "a", "kind": "pixel_conv2d", "weights": "a.weight", "binarise": "sign", **conv},
        {"name": "b", "kind": "binary_conv2d", "weights": "b.weight", "kernel": [[0.5, 1.0]],
         "alpha": "b.alpha", **conv},
        {"name": "c", "kind": "binary_conv2d", "weights": "c.weight", "hardtanh": True,
         "shortcut": {"source": "b", "average_pool": 1, "channel_padding": [0, 1]}},
        {"name": "d", "kind": "average_pool", "size": 2},
        {"name": "e", "kind": "real_dense", "weights": "e.weight", "bias": "e.bias", "channels_first": True},
    ]  # fmt: skip
    return json.dumps({"name": "m", "input_shape": [8, 9, 3], "conventions": "PAPER", "layers": layers}).encode()


def read_map(data: bytes) -> object:
    """The plan of a layer map."""
    found = layer_map.from_bytes(data)
    return found.plans() if found.input_shape is not None else found.names()


def _kernel_file(ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"kernel{ending}")
        kernels.write(published("threshold_2x2x4_shifting_n1_right_v1"), path)
        return path.read_bytes()


def _mat_files() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.mat")
        write_mat(path, np.arange(6.0).reshape(2, 3))
        packed = path.read_bytes()
        import scipy.io

        scipy.io.savemat(path, {"kernel": np.arange(12.0).reshape(2, 3, 2)}, do_compression=False)
        # The text that a file begins with has the time in it.
        return [b"MATLAB 5.0 MAT-file".ljust(116) + data[116:] for data in (packed, path.read_bytes())]


def _archive(**inner: Change) -> Change:
    return partial(mutate_archive, inner={f".{ending}": change for ending, change in inner.items()})


FOREIGN: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], object], float, Change]] = {
    "torch": (
        lambda: [state_dict(arrays) for arrays in states()], lambda data: _mapped(torch_file.from_bytes(data)), 8,
        _archive(pkl=mutate_pickles),
    ),
    "torch-old": (
        lambda: [old_state_dict(arrays) for arrays in states()], lambda data: _mapped(torch_file.from_bytes(data)), 10,
        mutate_pickles,
    ),
    "safetensors": (
        lambda: [safetensors.numpy.save(dict(arrays)) for arrays in states()],
        lambda data: _mapped(safetensors_file.from_bytes(data)), 15, mutate_header,
    ),
    "keras": (lambda: [keras_archive()], read_keras, 1.2, _archive(json=mutate_json, h5=mutate_hdf5)),
    "keras-h5": (lambda: [keras_hdf5()], read_keras, 0.1, mutate_hdf5),
    "layer-map": (lambda: [_map()], read_map, 15, mutate_json),
    "mat": (_mat_files, lambda data: kernels.from_bytes(data, ".mat"), 15, mutate_mat),
    "kernel-json": (
        lambda: [_kernel_file(".json")], lambda data: kernels.from_bytes(data, ".json"), 10, mutate_json,
    ),
    "kernel-npz": (
        lambda: [_kernel_file(".npz")], lambda data: kernels.from_bytes(data, ".npz"), 10, _archive(npy=mutate_numpy),
    ),
}  # fmt: skip
"""By name: what makes good files, the reader of a file's content, the share of a campaign (more of what is read
fast), and what changes parts."""
