"""A network as plain data and tensors: the half of the file format that writes.

The plain data is one JSON object with every field of `NetworkData` and its layers. An array stands there by its
encoding and shape, `{"float32": [128]}` or `{"bits": [128, 3, 3, 64]}`; its values are the tensor that is named by
the way to it, `conv2.batch_norm.gamma`. Bits are stored without gaps: element i of the array in C order is bit
i mod 8 of byte i div 8, a 1 means +1, and the bits after the last element are 0.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, unpack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.network import Layer, NetworkData

Tensors = dict[str, NDArray[Any]]
ARRAY_DTYPES = ("float32", "int32", "int64")
"""The dtypes that arrays may have in a file, besides bits."""


def encode(network: NetworkData) -> tuple[dict[str, Any], Tensors]:
    """A network's fields as plain data, and its arrays by name.

    Args:
        network: any network.

    Returns:
        What `json` can write, and for each array its tensor: uint8 (bytes,) for bits, else the array itself.

    Raises:
        RefdesignError: a field that the format cannot hold, such as a weight that is 0; names layer and field.

    >>> from refdesign.network import BinaryDense, NetworkData, PixelConv2d
    >>> from refdesign.bits import pack
    >>> first = PixelConv2d(name="first", weights=pack(np.ones((2, 3, 4, 1))))
    >>> plain, tensors = encode(NetworkData(name="tiny", input_shape=(3, 4, 1), layers=(first,)))
    >>> plain["layers"][0]["weights"], tensors["first.weights"]
    ({'bits': [2, 3, 4, 1]}, array([255, 255, 255], dtype=uint8))
    """
    tensors: Tensors = {}
    plain = {
        "name": _plain(network.name, ("name",), tensors),
        "input_shape": [_plain(extent, ("input_shape",), tensors) for extent in network.input_shape],
        "conventions": network.conventions.to_dict(),
        "metadata": dict(network.metadata),
        "layers": [_layer(layer, tensors) for layer in network.layers],
    }
    return plain, tensors


def dense_bits(bits: PackedBits) -> NDArray[np.uint8]:
    """The elements without gaps, 8 to a byte: uint8 (ceil(elements / 8),).

    >>> from refdesign.bits import pack
    >>> dense_bits(pack([[1, -1, 1], [1, 1, -1]]))
    array([29], dtype=uint8)
    """
    return np.packbits(unpack(bits).ravel() > 0, bitorder="little")


def _layer(layer: Layer, tensors: Tensors) -> dict[str, Any]:
    return {"kind": layer.kind} | {
        item.name: _plain(getattr(layer, item.name), (layer.name, item.name), tensors) for item in fields(layer)
    }


def _plain(value: object, path: tuple[str, ...], tensors: Tensors) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise RefdesignError(f"{_where(path)}: found {value}, expected a finite number")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, PackedBits):
        tensors[".".join(path)] = dense_bits(value)
        return {"bits": list(value.shape)}
    if isinstance(value, np.ndarray):
        if value.dtype.name not in ARRAY_DTYPES or not value.dtype.isnative:
            raise RefdesignError(f"{_where(path)}: found {value.dtype}, expected one of {', '.join(ARRAY_DTYPES)}")
        tensors[".".join(path)] = np.ascontiguousarray(value)
        return {value.dtype.name: list(value.shape)}
    if isinstance(value, (tuple, list)):
        return [_plain(entry, (*path, str(index)), tensors) for index, entry in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, (type, Conventions)):
        return {item.name: _plain(getattr(value, item.name), (*path, item.name), tensors) for item in fields(value)}
    raise RefdesignError(f"{_where(path)}: found {type(value).__name__}, which the file format cannot hold")


def _where(path: tuple[str, ...]) -> str:
    return ", ".join((f"layer {path[0]!r}", *path[1:]))
