"""State dicts that PyTorch saved (`.pt`, `.pth`, `.ckpt`), read without PyTorch and without running anything in them.

Two containers: the zip archive that PyTorch has written since 1.6 (members `NAME/data.pkl` and `NAME/data/KEY`, never
packed), and the stream of pickles and raw storages from before, in which many published networks lie.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.archives import Archive
from refdesign.formats.files import LARGEST_FILE, naming, read_bytes
from refdesign.formats.tensors import StoredTensor, TensorFile, checked_shape, elements, item_bytes
from refdesign.formats.torch_pickle import LARGEST_PICKLE, Storage, Tensor, Unknown, load

MAGIC = 0x1950A86A20F9469CFC6C
"""The number that files from before PyTorch 1.6 begin with."""

STATE_NAMES = ("state_dict", "model_state_dict", "model", "net", "network", "module")
"""The names under which checkpoints usually hold the weights."""

_ASIDE = ("optim", "sched", "scaler", "ema")
_DEPTH = 4
_LARGEST_STEP = 1 << 48
"""Elements that a stride or an offset may skip; where an extent is 1 or 0 a stride is never gone, and can be any."""

Fetch = Callable[[Storage], bytes | memoryview]


def read(path: str | os.PathLike[str]) -> TensorFile:
    """The tensors of a state dict; nothing in the file is trusted, and nothing in it is run.

    Args:
        path: a file that `torch.save` wrote: a dictionary of tensors by name, alone or inside a checkpoint.

    Raises:
        RefdesignError: another kind of file, a whole pickled module, or a damaged one; names the file.

    >>> read("/nowhere/net.pt")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/net.pt: cannot be read: No such file or directory
    """
    with naming(path):
        return from_bytes(read_bytes(path))


def from_bytes(data: bytes) -> TensorFile:
    """The tensors in a file's content; see `read`.

    >>> from_bytes(b"GIF89a")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found no file of torch.save: truncated or another format
    """
    root, fetch = _archive(data) if data[:2] == b"PK" else _stream(data)
    found: list[tuple[str, Mapping[Any, Any]]] = []
    _search(root, "", found, 0)
    if not found:
        raise RefdesignError(
            f"found {_kind(root)} without tensors by name, expected a state dict: save model.state_dict(), not the "
            "model"
        )
    where, state = _chosen(found)
    tensors: dict[str, StoredTensor] = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and isinstance(name, str):
            tensors[name] = _stored(name, value, fetch)
    total = sum(math.prod(tensor.shape) * item_bytes(tensor.dtype) for tensor in tensors.values())
    if total > LARGEST_FILE:
        raise RefdesignError(f"found tensors of {total} bytes in all, expected at most {LARGEST_FILE}")
    notes = _notes(root, where, state, tensors)
    return TensorFile(format="a PyTorch state dict", tensors=tensors, ordered=True, notes=tuple(notes))


def _archive(data: bytes) -> tuple[Any, Fetch]:
    archive = Archive(data)
    pickles = [name for name in archive.names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise RefdesignError("found a zip archive without one NAME/data.pkl, expected a file of torch.save")
    folder = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(f"{folder}code/") for name in archive.names):
        raise RefdesignError(
            "found a TorchScript program, expected a state dict: load it with torch.jit.load and save its state_dict()"
        )
    if f"{folder}byteorder" in archive.names and archive.read(f"{folder}byteorder", 16) != b"little":
        raise RefdesignError("found tensors in big-endian order, expected little-endian")
    root = load(archive.read(pickles[0], LARGEST_PICKLE)).value

    @lru_cache(maxsize=1)  # tensors that share a storage mostly follow one another
    def fetch(storage: Storage) -> bytes:
        name = f"{folder}data/{storage.key}"
        size = archive.size(name)
        if size != storage.count * item_bytes(storage.dtype):
            raise RefdesignError(
                f"storage {storage.key!r}: found {size} bytes, expected {storage.count} elements of {storage.dtype}"
            )
        return archive.read(name, size)

    return root, fetch


def _stream(data: bytes) -> tuple[Any, Fetch]:
    at, heads = 0, []
    try:
        for _ in range(3):
            head = load(data, at)
            at = head.end
            heads.append(head.value)
            if heads[0] != MAGIC:
                break
    except RefdesignError:
        heads = []
    if len(heads) != 3 or heads[1] != 1001 or not isinstance(heads[2], dict):
        raise RefdesignError("found no file of torch.save: truncated or another format")
    if heads[2].get("little_endian") is not True:
        raise RefdesignError("found tensors in big-endian order, expected little-endian")
    root = load(data, at)
    listed = load(data, root.end)
    keys, at, storages = listed.value, listed.end, root.storages
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise RefdesignError("found a file of torch.save without its list of storages: damaged")
    starts: dict[str, tuple[int, int]] = {}
    for key in keys:
        if key not in storages or key in starts:
            raise RefdesignError(f"storage {key[:40]!r}: found it in no tensor, or of an unknown type")
        count = int.from_bytes(data[at : at + 8], "little")
        starts[key] = at + 8, count
        at += 8 + count * item_bytes(storages[key].dtype)
        if at > len(data):
            raise RefdesignError(f"storage {key[:40]!r}: found {count} elements beyond the file's end: truncated")

    def fetch(storage: Storage) -> memoryview:
        start, count = starts.get(storage.key, (0, -1))
        if count != storage.count or storages[storage.key].dtype != storage.dtype:
            raise RefdesignError(f"storage {storage.key[:40]!r}: found other elements than the tensor says: damaged")
        return memoryview(data)[start : start + count * item_bytes(storage.dtype)]

    return root.value, fetch


def _search(value: Any, where: str, found: list[tuple[str, Mapping[Any, Any]]], depth: int) -> None:
    """Every dictionary that holds tensors by name, with the way to it."""
    if not isinstance(value, dict) or depth > _DEPTH or len(found) > 100:
        return
    if any(isinstance(entry, Tensor) and isinstance(name, str) for name, entry in value.items()):
        found.append((where, value))
    for name, entry in value.items():
        if isinstance(name, str) and isinstance(entry, dict):
            _search(entry, f"{where}.{name}" if where else name, found, depth + 1)


def _chosen(found: list[tuple[str, Mapping[Any, Any]]]) -> tuple[str, Mapping[Any, Any]]:
    """The only state dict, or the only one that is not an optimiser's or the like, or the one with the usual name."""
    if len(found) > 1:
        found = [(w, d) for w, d in found if not any(a in w.lower().split(".")[-1] for a in _ASIDE)] or found
    if len(found) > 1:
        usual = [(w, d) for w, d in found if w.split(".")[-1] in STATE_NAMES]
        found = usual if len(usual) == 1 else found
    if len(found) > 1:
        named = ", ".join(repr(where[:60]) for where, _ in found[:6])
        raise RefdesignError(f"found several dictionaries of tensors, {named}, expected one: save that alone")
    return found[0]


def _notes(root: Any, where: str, state: Mapping[Any, Any], tensors: Mapping[str, StoredTensor]) -> list[str]:
    notes = []
    if where:
        top = where.split(".")[0]
        others = sorted(str(name)[:40] for name in root if name != top)[:12]
        notes.append(f"state dict taken from {where!r}" + (f"; left aside: {', '.join(others)}" if others else ""))
    unread = [str(name)[:60] for name, value in state.items() if name not in tensors and isinstance(value, Unknown)]
    if unread:
        notes.append(f"not read: {', '.join(unread[:6])}")
    return notes


def _kind(root: Any) -> str:
    if isinstance(root, Unknown):
        return f"an object of {root.name[:80]}"
    return {dict: "a dictionary", list: "a list", Tensor: "one tensor"}.get(type(root), "a file")


def _stored(name: str, tensor: Tensor, fetch: Fetch) -> StoredTensor:
    """A tensor whose view lies within its storage."""
    try:
        shape = checked_shape(tensor.shape)
        stride = tensor.stride
        if not isinstance(stride, tuple) or len(stride) != len(shape):
            raise RefdesignError("found strides that do not fit the shape")
        if not all(type(n) is int and 0 <= n < _LARGEST_STEP for n in (*stride, tensor.offset)):
            raise RefdesignError("found strides or an offset that are no numbers of elements")
        last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        count = math.prod(shape)
        # Views that repeat elements (a stride of 0) could be of any size.
        if count > tensor.storage.count or (count and last >= tensor.storage.count):
            raise RefdesignError(f"found shape {shape} in a storage of {tensor.storage.count} elements")
    except RefdesignError as error:
        raise RefdesignError(f"tensor {name[:80]!r}: {error}") from error

    def array() -> NDArray[Any]:
        try:
            whole = fetch(tensor.storage)
        except RefdesignError as error:
            raise RefdesignError(f"tensor {name[:80]!r}: {error}") from error
        # Only the view's own elements are copied: a small one can lie in a large storage.
        items = np.frombuffer(whole, f"V{item_bytes(tensor.storage.dtype)}")
        view = as_strided(items[tensor.offset :], shape, tuple(step * items.itemsize for step in stride))
        return elements(view.tobytes(), tensor.storage.dtype).reshape(shape)

    return StoredTensor(tensor.storage.dtype, shape, array)
