"""A network from plain data and tensors: the half of the file format that reads, and trusts nothing.

Every field of every class has one check in `FIELDS`; a field that is missing or unknown, a tensor that nobody
names, a size that does not fit is refused before anything is allocated for it. What the values mean together (do
the layers fit each other, are the parameters finite) is checked by the classes themselves.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.network import LAYER_KINDS, Layer, MaxPool, NetworkData, Shortcut
from refdesign.parameters import AFFINE_LIMIT, BatchNorm, RationalAffine, ThresholdKernel

MAX_EXTENT = 65_535
"""Sizes, strides and paddings in a file are at most this."""

_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Tensor:
    """A tensor as it stands in a file.

    Attributes:
        dtype: the name that safetensors gives it, such as `"U8"`.
        shape: its extents.
        data: its bytes, little-endian, in C order.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray


@dataclass(frozen=True)
class Value:
    """A piece of plain data, where it stands, and the tensors that nobody has taken yet."""

    data: Any
    path: tuple[str, ...]
    tensors: dict[str, Tensor]

    def at(self, key: str | int, data: Any) -> Value:
        """The piece `data`, which stands inside this one under `key`."""
        return Value(data, (*self.path, str(key)), self.tensors)

    def error(self, expected: str, found: str | None = None) -> RefdesignError:
        """The error that this piece is not what was expected; `found` is its value if not given."""
        return RefdesignError(f"{self.where}: found {found or reprlib.repr(self.data)}, expected {expected}")

    @property
    def where(self) -> str:
        """The layer and the field, or the field alone outside the layers."""
        if self.path[:1] == ("layer",):
            return ", ".join((f"layer {self.path[1]!r}", *self.path[2:]))
        return ", ".join(self.path) or "network"

    @property
    def tensor_name(self) -> str:
        """The name of the tensor that holds this piece's values."""
        return ".".join(self.path[1:])


Check = Callable[[Value], Any]


def decode(plain: object, tensors: Mapping[str, Tensor]) -> NetworkData:
    """The network that `refdesign.formats.encoding.encode` made these of.

    Args:
        plain: parsed JSON, anything at all.
        tensors: the file's tensors by name.

    Raises:
        RefdesignError: anything that is not as the format says; names layer and field.

    >>> decode({"name": "empty"}, {})
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: network: field 'conventions' is missing
    """
    left = dict(tensors)
    whole = Value(plain, (), left)
    found = _fields(whole, {"name", "input_shape", "conventions", "metadata", "layers"})
    conventions = Conventions.from_dict(_object(found["conventions"]))
    layers = tuple(_layer(entry) for entry in _entries(found["layers"]))
    if left:
        raise RefdesignError(f"tensor {min(left)!r}: found in the file, but no layer names it")
    return NetworkData(
        name=_text(found["name"]),
        input_shape=_tuple_of(_integer(1, MAX_EXTENT), 3)(found["input_shape"]),
        conventions=conventions,
        metadata={key: _text(found["metadata"].at(key, text)) for key, text in _object(found["metadata"]).items()},
        layers=layers,
    )


def _layer(value: Value) -> Layer:
    data = _object(value)
    if not isinstance(data.get("name"), str):
        raise value.at("name", data.get("name")).error("text")
    named = Value(data, ("layer", data["name"]), value.tensors)
    try:
        data["name"].encode()
    except UnicodeEncodeError as error:
        raise named.at("name", data["name"]).error("Unicode text") from error
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in LAYER_KINDS:
        raise named.at("kind", kind).error(f"one of {', '.join(LAYER_KINDS)}")
    layer: Layer = _structure(LAYER_KINDS[kind], beside=("kind",))(named)
    return layer


def _object(value: Value) -> dict[str, Any]:
    if not isinstance(value.data, dict):
        raise value.error("an object with named fields")
    return value.data


def _entries(value: Value) -> list[Value]:
    if not isinstance(value.data, list):
        raise value.error("a list")
    return [value.at(index, entry) for index, entry in enumerate(value.data)]


def _fields(value: Value, names: set[str]) -> dict[str, Value]:
    """The fields of an object, which must be these and no others."""
    data = _object(value)
    for name in data:
        if name not in names:
            raise RefdesignError(f"{value.where}: unknown field {name!r}, expected {', '.join(sorted(names))}")
    for name in sorted(names):
        if name not in data:
            raise RefdesignError(f"{value.where}: field {name!r} is missing")
    return {name: value.at(name, data[name]) for name in data}


def _structure(cls: type[Any], beside: tuple[str, ...] = ()) -> Check:
    """Checks an object with the fields of `cls`; fields in `beside` were checked elsewhere."""

    def check(value: Value) -> Any:
        checks = FIELDS[cls]
        found = _fields(value, {*checks, *beside})
        arguments = {name: checks[name](found[name]) for name in checks}
        try:
            return cls(**arguments)
        except RefdesignError as error:
            raise RefdesignError(f"{value.where}: {error}") from error

    return check


def _text(value: Value) -> str:
    if not isinstance(value.data, str):
        raise value.error("text")
    return value.data


def _flag(value: Value) -> bool:
    if not isinstance(value.data, bool):
        raise value.error("true or false")
    return value.data


def _number(value: Value) -> float:
    # Every float in a file is written with a point or an exponent; an integer here was put in by hand.
    if not isinstance(value.data, float) or not math.isfinite(value.data):
        raise value.error("a finite floating-point number")
    return value.data


def _integer(low: int, high: int) -> Check:
    def check(value: Value) -> int:
        if type(value.data) is not int or not low <= value.data <= high:
            raise value.error(f"an integer from {low} to {high}")
        return value.data

    return check


def _tuple_of(check: Check, length: int | None = None) -> Check:
    """Checks a list whose entries all pass `check`; of `length` entries, or of at least one."""

    def check_all(value: Value) -> tuple[Any, ...]:
        entries = _entries(value)
        if not entries or (length is not None and len(entries) != length):
            raise value.error("at least one entry" if length is None else f"{length} entries", f"{len(entries)}")
        return tuple(check(entry) for entry in entries)

    return check_all


def _optional(check: Check) -> Check:
    return lambda value: None if value.data is None else check(value)


def _array(axes: int, *encodings: str) -> Check:
    """Checks an array by one of these encodings (`"bits"` or a dtype) with so many axes, and takes its tensor."""

    def check(value: Value) -> PackedBits | NDArray[Any]:
        data = _object(value)
        if len(data) != 1 or next(iter(data)) not in encodings:
            raise value.error(f"an array of {' or '.join(encodings)}")
        encoding = next(iter(data))
        shape = _tuple_of(_integer(1, _INT32), axes)(value.at(encoding, data[encoding]))
        tensor = value.tensors.pop(value.tensor_name, None)
        if tensor is None:
            raise RefdesignError(f"{value.where}: tensor {value.tensor_name!r} is missing")
        return _bits(value, tensor, shape) if encoding == "bits" else _numbers(value, tensor, shape, encoding)

    return check


def _numbers(value: Value, tensor: Tensor, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    stored = {"float32": "F32", "int32": "I32", "int64": "I64"}[dtype]
    if tensor.dtype != stored or tensor.shape != shape:
        raise value.error(f"{stored} of shape {shape}", f"a tensor {tensor.dtype} of shape {tensor.shape}")
    little_endian = np.dtype(dtype).newbyteorder("<")
    array = np.frombuffer(tensor.data, dtype=little_endian).astype(dtype).reshape(shape)
    if dtype == "float32" and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise value.error("finite numbers", f"{array[index]} at index {index}")
    return array


def _bits(value: Value, tensor: Tensor, shape: tuple[int, ...]) -> PackedBits:
    count = math.prod(shape)
    size = -(-count // 8)
    if tensor.dtype != "U8" or tensor.shape != (size,):
        raise value.error(f"U8 of shape {(size,)} for {count} bits", f"a tensor {tensor.dtype} of shape {tensor.shape}")
    octets = np.frombuffer(tensor.data, dtype=np.uint8)
    if count % 8 and octets[-1] >> (count % 8):
        raise value.error("zeros", f"bits set after the last of {count}")
    return pack_bool(np.unpackbits(octets, count=count, bitorder="little").view(np.bool_).reshape(shape))


_PAIR = _tuple_of(_integer(1, MAX_EXTENT), 2)
_PAIR_FROM_0 = _tuple_of(_integer(0, MAX_EXTENT), 2)
_PER_CHANNEL = _array(1, "float32")
_BATCH_NORM = _optional(_structure(BatchNorm))

_STAGE: dict[str, Check] = {
    "name": _text,
    "pool": _optional(_structure(MaxPool)),
    "batch_norm": _BATCH_NORM,
    "kernel": _optional(_structure(ThresholdKernel)),
    "shortcut": _optional(_structure(Shortcut)),
    "hardtanh": _flag,
}
_CONVOLUTION: dict[str, Check] = _STAGE | {
    "stride": _PAIR,
    "padding": _PAIR_FROM_0,
    "padding_mode": _text,
    "dilation": _PAIR,
    "groups": _integer(1, _INT32),
}
_BY_KIND: dict[str, dict[str, Check]] = {
    "binary_conv2d": _CONVOLUTION | {"weights": _array(4, "bits")},
    "pixel_conv2d": _CONVOLUTION
    | {
        "weights": _array(4, "bits", "int32"),
        "multiplier": _integer(-_INT32, _INT32),
        "offset": _integer(-_INT32, _INT32),
    },
    "real_conv2d": _CONVOLUTION | {"weights": _array(4, "float32"), "scale": _PER_CHANNEL, "shift": _PER_CHANNEL},
    "combined_conv2d": _CONVOLUTION | {"weights": _tuple_of(_array(4, "bits")), "scales": _array(2, "float32")},
    "binary_dense": _STAGE | {"weights": _array(2, "bits")},
    "average_pool": {"name": _text, "size": _PAIR},
    "real_dense": {
        "name": _text,
        "weights": _array(2, "float32"),
        "bias": _optional(_PER_CHANNEL),
        "input_batch_norm": _BATCH_NORM,
    },
}

FIELDS: dict[type[Any], dict[str, Check]] = {
    MaxPool: {"size": _PAIR, "stride": _PAIR},
    Shortcut: {"source": _text, "average_pool": _integer(1, MAX_EXTENT), "channel_padding": _PAIR_FROM_0},
    BatchNorm: {
        "gamma": _PER_CHANNEL,
        "beta": _PER_CHANNEL,
        "mean": _PER_CHANNEL,
        "variance": _PER_CHANNEL,
        "epsilon": _number,
        "alpha": _optional(_PER_CHANNEL),
        "k": _optional(_PER_CHANNEL),
        "c": _optional(_PER_CHANNEL),
        "affine": _optional(_structure(RationalAffine)),
    },
    RationalAffine: {
        "numerator": _integer(1, AFFINE_LIMIT - 1),
        "offsets": _tuple_of(_integer(1 - AFFINE_LIMIT, AFFINE_LIMIT - 1)),
        "denominator": _integer(1, AFFINE_LIMIT - 1),
    },
    ThresholdKernel: {
        "values": _array(3, "float32"),
        "levels": _optional(_array(3, "int64")),
        "level_set": _optional(_tuple_of(_number)),
    },
    **{cls: _BY_KIND[kind] for kind, cls in LAYER_KINDS.items()},
}
"""For every class in a file, the check of each of its fields; a test compares the names with the classes'."""
