"""What is fuzzed of other frameworks' files: good files made without the frameworks, and changes that leave them whole.

A changed byte in an archive is found by its checksum; so members are changed and packed again, JSON is changed place by
place, and only then bytes anywhere.
"""

from __future__ import annotations

import atexit
import io
import json
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from refdesign.design import published, write_mat
from refdesign.errors import missing_extra
from refdesign.formats import foreign, hdf5, keras_file, kernels, layer_map, safetensors_file, torch_file
from refdesign.formats.foreign import Wanted
from refdesign.formats.tensors import TensorFile
from refdesign.models import binarynet
from refdesign.verify.mutations import mutate_bytes

Arrays = Mapping[str, NDArray[Any]]

_SHAPE = (5, 6, 2)


def state() -> dict[str, NDArray[Any]]:
    """The arrays of a small network by PyTorch's names.

    >>> sorted(state())[:2]
    ['conv1.batch_norm.bias', 'conv1.batch_norm.running_mean']
    """
    rng = np.random.default_rng(2)
    arrays: dict[str, NDArray[Any]] = {}
    shapes = {"conv1": (3, 2, 3, 3), "conv2": (4, 3, 3, 3), "dense1": (5, 24), "dense2": (2, 5)}
    for name, shape in shapes.items():
        arrays[f"{name}.weight"] = rng.choice(np.array([-1, 1], np.float32), shape)
        for field in ("weight", "bias", "running_mean"):
            arrays[f"{name}.batch_norm.{field}"] = rng.standard_normal(shape[0]).astype(np.float32)
        arrays[f"{name}.batch_norm.running_var"] = rng.uniform(0.5, 2, shape[0]).astype(np.float32)
    return arrays


@cache
def _said() -> Wanted:
    return Wanted(architecture=binarynet(input_shape=_SHAPE, classes=2, widths=(3, 4), dense=(5,)))


def _mapped(file: TensorFile) -> object:
    for tensor in file.tensors.values():
        tensor.load()
    return foreign.mapped(file, _said(), "torch")


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def pickled(arrays: Arrays, keys: Mapping[str, str]) -> bytes:
    """A dictionary of tensors as PyTorch pickles it; `keys` are the storages'.

    >>> from refdesign.formats.torch_pickle import load
    >>> load(pickled({"w": np.ones((2, 3), np.float32)}, {"w": "0"})).value["w"].shape
    (2, 3)
    """
    parts = [b"\x80\x02ccollections\nOrderedDict\n)R("]
    for name, array in arrays.items():
        stride = tuple(step // array.itemsize for step in array.strides)
        storage = (
            b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(keys[name]) + _text("cpu")
            + b"J" + struct.pack("<i", array.size) + b"tQ"
        )  # fmt: skip
        shape = _integers(array.shape) + _integers(stride)
        call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + b"\x89"
        parts.append(_text(name) + call + b"ccollections\nOrderedDict\n)RtR")
    return b"".join(parts) + b"u."


def state_dict(arrays: Arrays) -> bytes:
    """A file as `torch.save` writes it.

    >>> torch_file.from_bytes(state_dict({"w": np.ones((2, 3), np.float32)})).tensors["w"].shape
    (2, 3)
    """
    keys = {name: str(number) for number, name in enumerate(arrays)}
    members = {"net/data.pkl": pickled(arrays, keys), "net/byteorder": b"little", "net/version": b"3\n"}
    return zipped(members | {f"net/data/{keys[name]}": array.tobytes() for name, array in arrays.items()})


def old_state_dict(arrays: Arrays) -> bytes:
    """A file as PyTorch wrote it before 1.6.

    >>> torch_file.from_bytes(old_state_dict({"w": np.ones((2, 3), np.float32)})).tensors["w"].shape
    (2, 3)
    """
    keys = {name: str(number) for number, name in enumerate(arrays)}
    magic = torch_file.MAGIC.to_bytes(10, "little")
    head = b"\x80\x02\x8a\x0a" + magic + b".\x80\x02M\xe9\x03.\x80\x02}" + _text("little_endian") + b"\x88s."
    listed = b"\x80\x02](" + b"".join(map(_text, keys.values())) + b"e."
    data = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in arrays.values())
    return head + pickled(arrays, keys) + listed + data


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip archive of members that are not packed.

    >>> zipped({"a": b"1"})[:2]
    b'PK'
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def mutate_archive(rng: random.Random, data: bytes) -> bytes:
    """A member changed and the archive packed again, its checksums right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([*members, *(n for n in members if n.endswith((".pkl", ".json", ".h5"))) ] * 2)  # fmt: skip
    kind = rng.randrange(10)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[rng.choice(("net/data/0", "../x", "config.json", "values.npy"))] = members.pop(name)
    elif name.endswith(".json") and kind < 8:
        members[name] = mutate_json(rng, members[name])
    else:
        members[name] = mutate_bytes(rng, members[name])
    return zipped(members)


def mutate_header(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file whose header is changed place by place."""
    size = int.from_bytes(data[:8], "little")
    header = mutate_json(rng, data[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


_JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 65_535, 65_536, 2**31, 2**63, -(2**63), 10**40, 0.0, -0.0, 1.5, 1e308, "",
    "x", "same", "valid", "float16", "Dense", "ste_sign", "conv1", "\x00", "\ud800", [], [1], [1, 1], [0, 0], [2, 2, 2],
    [[]], {}, {"class_name": "DoReFa", "config": {}}, [[[["x", 0, 0]]]], [65_535, 65_535],
)  # fmt: skip


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """A few places of a JSON document changed: other values, exchanged, taken out, doubled, renamed.

    >>> mutate_json(random.Random(1), b'{"a": [1, 2]}') != b'{"a": [1, 2]}'
    True
    """
    plain = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        container, key = rng.choice(_places(plain))
        kind = rng.randrange(5)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.insert(key, json.loads(json.dumps(container[key])))
        elif kind == 2 and isinstance(container, dict):
            container[rng.choice(("x", "name", "config", "weights"))] = container.pop(key)
        elif kind == 3:
            other, place = rng.choice(_places(plain))
            container[key] = json.loads(json.dumps(other[place]))
        else:
            container[key] = json.loads(json.dumps(rng.choice(_JUNK)))
    return json.dumps(plain).encode()


def _places(plain: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it."""
    found: list[tuple[Any, Any]] = []
    entries = list(plain.items()) if isinstance(plain, dict) else list(enumerate(plain))
    for key, value in entries:
        found.append((plain, key))
        if isinstance(value, (dict, list)) and value:
            found += _places(value)
    return found or [({"nothing": 0}, "nothing")]


def _described() -> dict[str, Any]:
    """A Keras model's description, of layers of every kind that is read."""

    def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
        return {"class_name": kind, "config": {"name": name, "dtype": "float32", **config}}

    conv: dict[str, Any] = {"kernel_size": [3, 3], "strides": [1, 1], "dilation_rate": [1, 1], "use_bias": False}
    signs = {"input_quantizer": "ste_sign", "kernel_quantizer": {"class_name": "Larq>SteSign", "config": {}}}
    layers = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 5, 6, 2], "name": "in"}},
        layer("Rescaling", "scale", scale=2, offset=-255),
        layer("Larq>QuantConv2D", "conv1", filters=3, padding="same", pad_values=1.0,
              kernel_quantizer="ste_sign", **conv),
        layer("BatchNormalization", "norm1", axis=[3], epsilon=1e-3, scale=True, center=True),
        layer("ZeroPadding2D", "pad", padding=[[1, 1], [1, 1]]),
        layer("Larq>QuantConv2D", "conv2", filters=4, padding="valid", **signs, **conv),
        layer("MaxPooling2D", "pool", pool_size=[2, 2], strides=None, padding="valid"),
        layer("BatchNormalization", "norm2", axis=-1, epsilon=1e-3, scale=True, center=True),
        layer("Activation", "sign", activation={"class_name": "function", "config": "ste_sign"}),
        layer("Flatten", "flat"),
        layer("Dropout", "drop", rate=0.5),
        layer("QuantDense", "dense1", units=5, use_bias=True, kernel_quantizer="ste_sign"),
        layer("Activation", "soft", activation="softmax"),
    ]  # fmt: skip
    return {"class_name": "Sequential", "config": {"name": "fuzz", "layers": layers}}


def _variables() -> dict[str, dict[str, NDArray[Any]]]:
    rng = np.random.default_rng(4)

    def norm(channels: int) -> dict[str, NDArray[Any]]:
        found = {name: rng.standard_normal(channels).astype(np.float32) for name in keras_file.NORM_LEAVES[:3]}
        found["gamma"][::2] *= -1
        return found | {"moving_variance": rng.uniform(0.5, 2, channels).astype(np.float32)}

    def kernel(*shape: int) -> dict[str, NDArray[Any]]:
        return {"kernel": rng.standard_normal(shape).astype(np.float32)}

    return {
        "conv1": kernel(3, 3, 2, 3), "norm1": norm(3), "conv2": kernel(3, 3, 3, 4), "norm2": norm(4),
        "dense1": kernel(24, 5) | {"bias": rng.standard_normal(5).astype(np.float32)},
    }  # fmt: skip


def _hdf5(fill: Callable[[Any], None]) -> bytes:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("hdf5", "h5py") from error
    with h5py.File("fuzz", "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def keras_archive() -> bytes:
    """A `.keras` file with layers of every kind that is read; needs h5py."""

    def fill(file: Any) -> None:
        for number, (name, variables) in enumerate(_variables().items()):
            group = file.create_group(f"layers/layer_{number}/vars")
            group.attrs["name"] = name
            for place, array in enumerate(variables.values()):
                group.create_dataset(str(place), data=array)

    members = {
        "metadata.json": b"{}",
        "config.json": json.dumps(_described()).encode(),
        "model.weights.h5": _hdf5(fill),
    }
    return zipped(members)


def keras_hdf5() -> bytes:
    """The same as an `.h5` file of a whole model; needs h5py."""

    def fill(file: Any) -> None:
        file.attrs["model_config"] = json.dumps(_described())
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in _variables()]
        for name, variables in _variables().items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{leaf}:0".encode() for leaf in variables]
            for leaf, array in variables.items():
                packed = {"compression": "gzip", "shuffle": True} if array.ndim > 1 else {}
                group.create_dataset(f"{name}/{leaf}:0", data=array, **packed)

    return _hdf5(fill)


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
        return [packed, path.read_bytes()]


Parts = Callable[[random.Random, bytes], bytes]
FOREIGN: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], object], float, Parts | None]] = {
    "torch": (lambda: [state_dict(state())], lambda data: _mapped(torch_file.from_bytes(data)), 0.1, mutate_archive),
    "torch-old": (lambda: [old_state_dict(state())], lambda data: _mapped(torch_file.from_bytes(data)), 0.1, None),
    "safetensors": (
        lambda: [safetensors.numpy.save(state())], lambda data: _mapped(safetensors_file.from_bytes(data)), 0.1,
        mutate_header,
    ),
    "keras": (lambda: [keras_archive()], read_keras, 0.02, mutate_archive),
    "keras-h5": (lambda: [keras_hdf5()], read_keras, 0.01, None),
    "layer-map": (lambda: [_map()], read_map, 0.1, mutate_json),
    "mat": (_mat_files, lambda data: kernels.from_bytes(data, ".mat"), 0.1, None),
    "kernel-json": (
        lambda: [_kernel_file(".json")], lambda data: kernels.from_bytes(data, ".json"), 0.05, mutate_json,
    ),
    "kernel-npz": (
        lambda: [_kernel_file(".npz")], lambda data: kernels.from_bytes(data, ".npz"), 0.05, mutate_archive,
    ),
}  # fmt: skip
"""By name: what makes good files, the reader of a file's content, the share of a campaign, and what changes parts."""
