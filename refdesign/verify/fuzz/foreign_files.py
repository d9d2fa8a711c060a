"""Good files of PyTorch and Keras, made without the frameworks."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import missing_extra
from refdesign.formats import keras_file, torch_file
from refdesign.verify.fuzz.mutations import zipped

Arrays = Mapping[str, NDArray[Any]]

SHAPE = (5, 6, 2)
"""Rows, columns and channels of the images of every network here."""


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


def states() -> list[Arrays]:
    """The same network as others save it: by its layers' names, out of a wrapper, and with latent weights.

    >>> [sorted(arrays)[0] for arrays in states()]
    ['conv1.batch_norm.bias', 'module.conv1.batch_norm.bias', 'conv1.batch_norm.bias']
    """
    plain = state()
    rng = np.random.default_rng(6)
    latent = {
        name: array * rng.uniform(0.1, 2, array.shape).astype(np.float32) if array.ndim > 1 else array
        for name, array in plain.items()
    }
    return [plain, {f"module.{name}": array for name, array in plain.items()}, latent]


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
