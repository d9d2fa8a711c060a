"""Threshold kernels as files: `.mat` as the authors have them, `.json` and `.npz` with everything known."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.design.mat import LARGEST_FILE, kernel_from_bytes, write_mat
from refdesign.design.published import published, published_names
from refdesign.errors import RefdesignError
from refdesign.formats import atomic, npz
from refdesign.formats.files import naming, read_bytes
from refdesign.parameters import ThresholdKernel

SUFFIXES = (".mat", ".json", ".npz")
"""The endings of kernels' files."""

_FIELDS = ("values", "levels", "level_set")


def read(path: str | os.PathLike[str]) -> ThresholdKernel:
    """A kernel from a file; nothing in it is trusted.

    A `.mat` file that holds a published kernel's values gives that kernel, level indices and all.

    Raises:
        RefdesignError: the file cannot be read, or holds no kernel; names it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(published("threshold_2x2_v1"), f"{folder}/kernel.json")
    ...     read(f"{folder}/kernel.json").levels[:, :, 0].tolist()
    [[1, 1], [0, 2]]
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise RefdesignError(f"{os.fspath(path)}: found the ending {suffix!r}, expected one of {', '.join(SUFFIXES)}")
    with naming(path):
        return from_bytes(read_bytes(path, LARGEST_FILE), suffix)


def from_bytes(data: bytes, suffix: str) -> ThresholdKernel:
    """The kernel in a file's content; `suffix` is one of `SUFFIXES`. See `read`.

    >>> from_bytes(b'{"values": [[0.5, 1.0]]}', ".json").shape
    (1, 2, 1)
    """
    if suffix == ".mat":
        values = kernel_from_bytes(data)
        known = published_as(values)
        return published(known[0]) if known else ThresholdKernel(values)
    fields = _json(data) if suffix == ".json" else npz.from_bytes(data, LARGEST_FILE, _FIELDS)
    found = {key: _array(key, fields[key]) for key in _FIELDS if fields.get(key) is not None}
    if "values" not in found:
        raise RefdesignError("values: is missing, expected the thresholds of a kernel")
    levels = found.get("levels")
    if levels is not None and levels.dtype.kind not in "iu":
        raise RefdesignError(f"levels: found {levels.dtype}, expected integers")
    level_set = found.get("level_set")
    if level_set is not None and (level_set.ndim != 1 or not np.isfinite(level_set).all()):
        raise RefdesignError("level_set: expected finite numbers in a row")
    with np.errstate(invalid="ignore"):  # signalling NaNs, which the kernel refuses
        values = found["values"].astype(np.float64)
    return ThresholdKernel(values, levels, None if level_set is None else tuple(level_set.tolist()))


def write(kernel: ThresholdKernel, path: str | os.PathLike[str], designed: Mapping[str, Any] | None = None) -> None:
    """Write a kernel in the format that the ending says.

    Args:
        kernel: where its levels are known, their values in float64 are written.
        path: the file.
        designed: for `.json`, how it was made, as plain data.

    Raises:
        RefdesignError: another ending, or a file that cannot be written.

    >>> write(ThresholdKernel([[1.0]]), "kernel.txt")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: kernel.txt: found the ending '.txt', expected one of .mat, .json, .npz
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise RefdesignError(f"{os.fspath(path)}: found the ending {suffix!r}, expected one of {', '.join(SUFFIXES)}")
    exact = exact_values(kernel)
    if suffix == ".mat":
        write_mat(path, exact)
        return
    described: dict[str, Any] = {"values": exact if suffix == ".json" else kernel.values}
    if kernel.levels is not None:
        described["levels"] = kernel.levels
    if kernel.level_set is not None:
        described["level_set"] = np.array(kernel.level_set)
    with atomic.replacing(Path(path)) as stream:
        if suffix == ".npz":
            np.savez(stream, allow_pickle=False, **described)
            return
        plain: dict[str, Any] = {"shape": list(kernel.shape)}
        plain |= {key: value.tolist() for key, value in described.items()}
        plain |= {} if designed is None else {"designed": dict(designed)}
        stream.write(json.dumps(plain, indent=2).encode() + b"\n")


def exact_values(kernel: ThresholdKernel) -> NDArray[np.float64]:
    """The thresholds in float64: those of the level set, where it is known.

    >>> exact_values(ThresholdKernel.from_levels([[0]], (0.1,))).item()
    0.1
    """
    if kernel.levels is not None and kernel.level_set is not None:
        return np.array(kernel.level_set)[kernel.levels]
    return kernel.values.astype(np.float64)


def published_as(values: NDArray[np.float64]) -> tuple[str, ...]:
    """The names of the published kernels that have these values (m, n, g) within 1e-12; some were published twice.

    >>> published_as(exact_values(published("threshold_2x2_v1"))), published_as(np.zeros((2, 2, 1)))
    (('threshold_2x2_v1',), ())
    """
    found = []
    for name in published_names():
        entry = exact_values(published(name))
        if entry.shape == values.shape and np.abs(entry - values).max() <= 1e-12:
            found.append(name)
    return tuple(found)


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefdesignError("found no JSON, expected a kernel with its 'values'") from error
    if not isinstance(plain, dict):
        raise RefdesignError("found no object, expected a kernel with its 'values'")
    return plain


def _array(key: str, value: Any) -> NDArray[Any]:
    """An array of numbers of at most three axes."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RefdesignError(f"{key}: found no array of numbers") from error
    if array.dtype.kind not in "fiu" or array.ndim > 3 or array.dtype.itemsize > 8:
        raise RefdesignError(f"{key}: found {array.dtype} of {array.ndim} axes, expected numbers (m, n) or (m, n, g)")
    return array
