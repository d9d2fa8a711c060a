"""The project's own file format: a safetensors file with one bit per weight and everything else as readable JSON.

A file's metadata has one entry, `refdesign`, a JSON object:

- `format`: `"refdesign-network"`,
- `version`: 1; a reader refuses versions that it does not know,
- `checksum`: `"sha256:..."` over the network and the tensors, so that damage and editing are found (it is no
  signature: who writes the file can write the checksum),
- `network`: every field of the network and its layers, conventions included (`refdesign.formats.encoding`).

safetensors was chosen because it holds no code, has readers in many languages, and maps onto memory.
The same network always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

import safetensors
import safetensors.numpy

from refdesign.errors import RefdesignError
from refdesign.formats.atomic import write_bytes
from refdesign.formats.decoding import Tensor, decode
from refdesign.formats.encoding import encode
from refdesign.formats.files import naming, opened
from refdesign.formats.safetensors_file import LARGEST_HEADER
from refdesign.network import NetworkData

FORMAT = "refdesign-network"
VERSION = 1
METADATA_KEY = "refdesign"
_deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize


def write(network: NetworkData, path: str | os.PathLike[str]) -> None:
    """Write a network to a file, all or nothing: an existing file is replaced only by a complete new one.

    Args:
        network: the network.
        path: the file, usually named `*.safetensors`; its folder must exist.

    Raises:
        RefdesignError: a field that the format cannot hold, or a file that cannot be written.

    >>> import tempfile
    >>> from refdesign.bits import pack
    >>> from refdesign.network import PixelConv2d
    >>> first = PixelConv2d(name="first", weights=pack([[[[1], [-1]]]]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(NetworkData(name="tiny", input_shape=(3, 4, 1), layers=(first,)), f"{folder}/tiny.safetensors")
    ...     read(f"{folder}/tiny.safetensors").layers[0].weight_shape
    (1, 1, 2, 1)
    """
    data = to_bytes(network)
    try:
        from_bytes(data)
    except RefdesignError as error:
        raise RefdesignError(f"{os.fspath(path)}: not written: {error}") from error
    write_bytes(path, data)


def read(path: str | os.PathLike[str]) -> NetworkData:
    """Read a network; nothing in the file is trusted.

    Args:
        path: a file that `write` made.

    Raises:
        RefdesignError: a file that is missing, truncated, foreign, of a newer version, damaged or edited, or whose
            fields do not fit; one line that names the file, the layer and the field.

    >>> read("/nowhere/net.safetensors")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/net.safetensors: cannot be read: No such file or directory
    """
    with naming(path), opened(path) as (stream, size):
        return _read(stream, size)


def is_native(path: str | os.PathLike[str]) -> bool:
    """Whether a file says of itself that it is a network of this project; its header alone is read.

    >>> is_native("/nowhere/net.safetensors")
    False
    """
    try:
        with opened(path) as (stream, _):
            start = stream.read(8)
            size = min(int.from_bytes(start, "little"), LARGEST_HEADER) if len(start) == 8 else 0
            whole = _json(stream.read(size), "header")
    except RefdesignError:
        return False
    metadata = whole.get("__metadata__") if isinstance(whole, dict) else None
    return isinstance(metadata, dict) and METADATA_KEY in metadata


def to_bytes(network: NetworkData) -> bytes:
    """The content of the network's file.

    Raises:
        RefdesignError: a field that the format cannot hold; names layer and field.

    >>> from refdesign.bits import pack
    >>> from refdesign.network import PixelConv2d
    >>> first = PixelConv2d(name="first", weights=pack([[[[1], [-1]]]]))
    >>> network = NetworkData(name="tiny", input_shape=(3, 4, 1), layers=(first,))
    >>> to_bytes(from_bytes(to_bytes(network))) == to_bytes(network)
    True
    """
    plain, arrays = encode(network)
    # What will be read back decides the checksum: safetensors names the dtypes.
    stored = stored_tensors(safetensors.numpy.save(arrays))
    document = {
        "format": FORMAT,
        "version": VERSION,
        "checksum": checksum(plain, stored),
        "network": plain,
    }
    # One entry only: safetensors writes several in a random order.
    return safetensors.numpy.save(arrays, metadata={METADATA_KEY: json.dumps(document, allow_nan=False)})


def from_bytes(data: bytes) -> NetworkData:
    """The network in a file's content; see `read`, whose errors it raises without the file's name.

    >>> from_bytes(b"PK")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: not a safetensors file: found 2 bytes, expected a header of at least 8
    """
    header = _header(data[:8], len(data))
    return _network(_document(data[8 : 8 + header]), data)


def checksum(plain: object, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 over a network in the file format, independent of the order and spacing of its JSON.

    It covers the line `refdesign-network 1`, the network's fields as JSON with sorted keys and no spaces, and, in the
    order of their names, for each tensor a JSON line `[name, dtype, shape]` and its bytes; every line ends with a
    newline (JSON escapes those inside).

    Args:
        plain: the network's fields, as JSON holds them.
        tensors: its tensors by name.

    >>> checksum({}, {}) == "sha256:" + hashlib.sha256(b"refdesign-network 1\\n{}\\n").hexdigest()
    True
    """
    digest = hashlib.sha256(f"{FORMAT} {VERSION}\n".encode())
    digest.update(_line(plain))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(_line([name, tensor.dtype, list(tensor.shape)]))
        digest.update(tensor.data)
    return f"sha256:{digest.hexdigest()}"


def _line(plain: object) -> bytes:
    try:
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except RecursionError as error:
        raise RefdesignError("network: found fields nested too deeply") from error


def _read(stream: BinaryIO, size: int) -> NetworkData:
    """The header first: a foreign file of any size is refused without reading the rest of it."""
    start = stream.read(8)
    start += stream.read(_header(start, size))
    document = _document(start[8:])
    return _network(document, start + stream.read(size - len(start)))


def _header(start: bytes, size: int) -> int:
    """The length of the header of a safetensors file of this size that begins with these bytes."""
    if size < 8 or len(start) < 8:
        raise RefdesignError(f"not a safetensors file: found {size} bytes, expected a header of at least 8")
    length = int.from_bytes(start, "little")
    if length > min(size - 8, LARGEST_HEADER):
        raise RefdesignError(
            f"not a safetensors file, or a truncated one: found {start[:8]!r} at the start, expected the length of a "
            f"header that fits into {size} bytes"
        )
    return length


def _document(header: bytes) -> dict[str, Any]:
    """The project's own entry in a safetensors header, its format and version checked."""
    whole = _json(header, "header")
    metadata = whole.get("__metadata__") if isinstance(whole, dict) else None
    entry = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(entry, str):
        raise RefdesignError(
            f"metadata: found no entry {METADATA_KEY!r}, expected one: the file is not a network of this project "
            "(arrays of another are mapped onto an architecture, --model)"
        )
    document = _json(entry.encode(errors="surrogatepass"), f"metadata, {METADATA_KEY}")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else document
        raise RefdesignError(f"format: found {reprlib.repr(found)}, expected {FORMAT!r}")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise RefdesignError(f"version: found {reprlib.repr(version)}, expected {VERSION}")
    if version > VERSION:
        raise RefdesignError(f"version: found {version}, expected at most {VERSION}: a newer refdesign wrote the file")
    _only(metadata, {METADATA_KEY}, "metadata")
    _only(document, {"format", "version", "checksum", "network"}, f"metadata, {METADATA_KEY}")
    return document


def _network(document: dict[str, Any], data: bytes) -> NetworkData:
    try:
        tensors = stored_tensors(data)
    except (safetensors.SafetensorError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise RefdesignError(f"tensors: the file is truncated or damaged: {reason}") from error
    found, computed = document["checksum"], checksum(document["network"], tensors)
    if found != computed:
        shown = found if isinstance(found, str) and len(found) == len(computed) else reprlib.repr(found)
        raise RefdesignError(
            f"checksum: the file says {shown}, its contents give {computed}: the file was damaged or edited"
        )
    return decode(document["network"], tensors)


def stored_tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file as they are stored.

    >>> import numpy as np
    >>> stored_tensors(safetensors.numpy.save({"x": np.ones(2, np.float32)}))["x"].shape
    (2,)
    """
    entries = _deserialize(data)
    return {name: Tensor(entry["dtype"], tuple(entry["shape"]), entry["data"]) for name, entry in entries}


def _only(found: Mapping[str, Any], expected: set[str], where: str) -> None:
    for name in found:
        if name not in expected:
            raise RefdesignError(f"{where}: unknown field {name!r}, expected {', '.join(sorted(expected))}")
    for name in sorted(expected):
        if name not in found:
            raise RefdesignError(f"{where}: field {name!r} is missing")


def _json(data: bytes, where: str) -> Any:
    """Strict JSON: no repeated names, no NaN or infinity."""
    try:
        return json.loads(data, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
    except RefdesignError as error:
        raise RefdesignError(f"{where}: {error}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RefdesignError(f"{where}: found no valid JSON ({reason}): truncated or another format") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RefdesignError("found a name twice in one object, expected each once")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RefdesignError(f"found {text}, expected finite numbers")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise RefdesignError(f"found {name}, expected finite numbers")
