"""A network's weights as packed words and its integer thresholds, for firmware: arrays that C and NumPy can hold.

For each layer: `<layer>_weights`, words of 8, 32 or 64 bits, shape (O, rows, columns, words) or (O, words) for a dense
layer, packed along the input channels (all inputs as (row, column, channel) for a dense layer behind a map) with the
network's `bit_one`, `bit_order` and `word_order`; unused bits are 0. int32 weights of a first layer stay int32. For
each layer that folds `<layer>_threshold` (int32), `<layer>_direction` and `<layer>_constant` (int8), shape (m, n, C):
the bit is +1 where the direction is +1 and a >= threshold, or -1 and a <= threshold; where it is 0 it is the constant.
The cell over pixel (i, j) is ((i + origin[0]) mod m, (j + origin[1]) mod n), `<layer>_origin`. A last layer with a
batch norm has `<layer>_gamma`, `beta`, `mean`, `variance` and `epsilon`, float32.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, unpack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.formats.atomic import write_bytes
from refdesign.network import BinaryConv2d, BinaryDense, Convolution, Layer, NetworkData, PixelConv2d, Stage
from refdesign.ops.dither import first_phase
from refdesign.paths import thresholds_of

WORD_BITS = (8, 32, 64)
"""The widths of words."""

_ROWS_IN_A_LINE = 4

_C_TYPES = {
    "uint8": "uint8_t", "uint32": "uint32_t", "uint64": "uint64_t", "int8": "int8_t", "int32": "int32_t",
    "float32": "float",
}  # fmt: skip


def arrays(network: NetworkData, *, word_bits: int = 64) -> dict[str, NDArray[Any]]:
    """The arrays that this module's page describes, by name, in order of execution.

    Args:
        network: binary layers whose bits are integer thresholds.
        word_bits: the width of words, one of `WORD_BITS`.

    Raises:
        RefdesignError: another width, or a layer that is no integer arithmetic up to its bits, naming it.

    >>> from refdesign.api import pretrained
    >>> found = arrays(pretrained("digits"), word_bits=32)
    >>> found["conv2_weights"].shape, found["conv2_threshold"].shape
    ((64, 3, 3, 2), (2, 2, 64))
    """
    if word_bits not in WORD_BITS:
        raise RefdesignError(f"word_bits: found {word_bits}, expected one of {', '.join(map(str, WORD_BITS))}")
    thresholds = thresholds_of(network)
    made: dict[str, NDArray[Any]] = {}
    for layer in network.layers:
        if not isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDense)) or layer.shortcut is not None:
            raise RefdesignError(f"layer {layer.name!r}: found {layer.kind}, expected binary layers without shortcuts")
        weights = layer.weights
        packed = isinstance(weights, PackedBits)
        made[f"{layer.name}_weights"] = words(weights, word_bits, network.conventions) if packed else weights  # type: ignore[arg-type, assignment]
        if layer.name in thresholds:
            found = thresholds[layer.name]
            if found.ternary.any():
                raise RefdesignError(f"layer {layer.name!r}: found sums that give 0, expected bits of two values")
            for name in ("threshold", "direction", "constant"):
                made[f"{layer.name}_{name}"] = getattr(found, name)
            made[f"{layer.name}_origin"] = _origin(network, layer, found.shape)
        elif layer.batch_norm is not None:
            for name in ("gamma", "beta", "mean", "variance"):
                made[f"{layer.name}_{name}"] = getattr(layer.batch_norm, name)
            made[f"{layer.name}_epsilon"] = np.array([layer.batch_norm.epsilon], np.float32)
    return made


def _origin(network: NetworkData, layer: Stage, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    output = network.shapes[layer.name].output
    extents = output[:2] if len(output) == 3 else (1, 1)
    origin = network.conventions.kernel_origin
    return np.array([first_phase(extents[axis], shape[axis], origin) for axis in (0, 1)], np.int32)


def words(packed: PackedBits, word_bits: int, conventions: Conventions) -> NDArray[Any]:
    """Packed bits as words of another width, by `bit_one`, `bit_order` and `word_order`.

    >>> from refdesign.bits import pack
    >>> from refdesign.conventions import LARQ, PAPER
    >>> bits = pack([[1, -1, 1, 1, -1, -1, -1, -1, 1]])
    >>> words(bits, 8, PAPER).tolist(), words(bits, 8, LARQ).tolist()
    ([[13, 1]], [[242, 0]])
    """
    ones = unpack(packed) == conventions.bit_one
    missing = -packed.length % word_bits
    ones = np.concatenate([ones, np.zeros((*ones.shape[:-1], missing), np.bool_)], axis=-1)
    by_word = ones.reshape(*ones.shape[:-1], -1, word_bits)
    if conventions.bit_order == "big":
        by_word = by_word[..., ::-1]
    if conventions.word_order == "big":
        by_word = by_word[..., ::-1, :]
    octets = np.packbits(np.ascontiguousarray(by_word), axis=-1, bitorder="little")
    dtype = np.dtype(f"<u{word_bits // 8}")
    return octets.view(dtype)[..., 0].astype(dtype.newbyteorder("="))


def write_npz(network: NetworkData, path: str | os.PathLike[str], *, word_bits: int = 64) -> None:
    """Write the arrays as `.npz`, all or nothing; the same network always gives the same bytes.

    Raises:
        RefdesignError: as `arrays`, or the file cannot be written.

    >>> import tempfile
    >>> from refdesign.api import pretrained
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_npz(pretrained("digits"), f"{folder}/a.npz")
    ...     np.load(f"{folder}/a.npz")["dense2_weights"].shape
    (10, 4)
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in _named(network, path, word_bits).items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def write_header(network: NetworkData, path: str | os.PathLike[str], *, word_bits: int = 64) -> None:
    """Write the arrays as a header for C (C99) and C++ (`constexpr`), all or nothing.

    Layers' names become identifiers; geometry is there as `enum` constants, and what a map is padded with as a comment.

    Raises:
        RefdesignError: as `arrays`, names that give the same identifier, or the file cannot be written.

    >>> import tempfile
    >>> from refdesign.api import pretrained
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_header(pretrained("digits"), f"{folder}/a.h")
    ...     os.path.getsize(f"{folder}/a.h") > 50_000
    True
    """
    values = _named(network, path, word_bits)
    rules = network.conventions
    lines = [
        "// Weights and integer thresholds of a binary network, written by refdesign.",
        f"// A 1 bit is {rules.bit_one:+d}; bits {rules.bit_order}-endian, words of a pixel {rules.word_order} first.",
        "// The bit is +1 where direction > 0 and a >= threshold, or direction < 0 and a <= threshold;",
        "// where direction is 0 it is the constant. Cells: ((i + origin[0]) % m, (j + origin[1]) % n, channel).",
        "// A first layer reads multiplier * p + offset of 8-bit pixels p.",
        "#pragma once",
        "#include <stdint.h>",
        "#ifdef __cplusplus",
        "#define REFDESIGN_CONST constexpr",
        "#else",
        "#define REFDESIGN_CONST static const",
        "#endif",
        "",
    ]
    for layer in network.layers:
        if isinstance(layer, Convolution) and any(layer.padding):
            lines += [f"// {identifier(layer.name)}: padding is {layer.padding_mode!r}"]
        lines += [f"enum {{ {', '.join(_constants(network, layer))} }};"]
        prefix = f"{layer.name}_"
        lines += [_definition(identifier(name), array) for name, array in values.items() if name.startswith(prefix)]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def identifier(name: str) -> str:
    """A name as C allows it.

    >>> identifier("conv-1 ü"), identifier("3")
    ('conv_1__', 'layer_3')
    """
    plain = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return plain if re.match(r"[A-Za-z]", plain) else f"layer_{plain}"


def _named(network: NetworkData, path: str | os.PathLike[str], word_bits: int) -> dict[str, NDArray[Any]]:
    try:
        names = [identifier(layer.name) for layer in network.layers]
        for name in names:
            if any(other != name and other.startswith(f"{name}_") for other in names) or names.count(name) > 1:
                raise RefdesignError(f"layer {name!r}: its arrays' names would be mistaken for another layer's")
        return arrays(network, word_bits=word_bits)
    except RefdesignError as error:
        raise RefdesignError(f"{os.fspath(path)}: not written: {error}") from error


def _constants(network: NetworkData, layer: Layer) -> list[str]:
    shapes, name = network.shapes[layer.name], identifier(layer.name)
    fields: dict[str, int] = {"inputs": int(np.prod(shapes.input)), "channels": shapes.output[-1]}
    if isinstance(layer, Convolution):
        fields |= {"groups": layer.groups, "input_channels": shapes.input[2]}
        for axis, word in enumerate(("rows", "columns")):
            fields |= {
                f"input_{word}": shapes.input[axis], f"kernel_{word}": layer.weight_shape[axis + 1],
                f"stride_{word}": layer.stride[axis], f"padding_{word}": layer.padding[axis],
                f"dilation_{word}": layer.dilation[axis], f"output_{word}": shapes.output[axis],
            }  # fmt: skip
            if layer.pool is not None:
                fields |= {f"pool_{word}": layer.pool.size[axis], f"pool_stride_{word}": layer.pool.stride[axis]}
    if isinstance(layer, PixelConv2d):
        fields |= {"multiplier": layer.multiplier, "offset": layer.offset}
    return [f"{name}_{key} = {value}" for key, value in fields.items()]


def _definition(name: str, array: NDArray[Any]) -> str:
    extents = "".join(f"[{extent}]" for extent in array.shape)
    return f"REFDESIGN_CONST {_C_TYPES[array.dtype.name]} {name}{extents} = {_initialiser(array)};"


def _initialiser(array: NDArray[Any]) -> str:
    if array.ndim == 2 and array.shape[1] == 1:  # rows of one word: several to a line
        rows = [_initialiser(part) for part in array]
        lines = [", ".join(rows[start : start + _ROWS_IN_A_LINE]) for start in range(0, len(rows), _ROWS_IN_A_LINE)]
        return "{" + ",\n".join(lines) + "}"
    if array.ndim > 1:
        return "{" + ",\n".join(_initialiser(part) for part in array) + "}"
    if array.dtype.kind == "f":
        # The shortest decimals that read back as the same float32: C++ has hexadecimal ones only since 2017.
        return "{" + ", ".join(f"{np.format_float_scientific(value, trim='0')}f" for value in array) + "}"
    if array.dtype == np.int32:  # the smallest int32 has no literal of its own in C
        return "{" + ", ".join(str(v) if v > -(2**31) else "(-2147483647 - 1)" for v in array.tolist()) + "}"
    suffix = {"uint64": "ull", "uint32": "u"}.get(array.dtype.name, "")
    return "{" + ", ".join(f"{value}{suffix}" for value in array.tolist()) + "}"
