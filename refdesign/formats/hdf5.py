"""HDF5 files, parsed in a process of their own: the library is C, and a file from elsewhere may break it.

The child (`refdesign.formats.hdf5_worker`) opens nothing, takes a bounded amount of memory and time, and hands back
plain bytes. Its death is an error that says so, no more.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from refdesign.errors import RefdesignError, missing_extra
from refdesign.formats.tensors import DTYPES, StoredTensor, checked_shape, elements, item_bytes

SECONDS, BYTES_PER_SECOND = 60.0, 1 << 19
"""After which the child is ended whatever it does, and how many bytes of a file get a second more. Its own limit, of
processor time, is far below that."""

LARGEST_HEADER = 1 << 26
LARGEST_BYTES = 1 << 30
_OVER_TIME = int(getattr(signal, "SIGXCPU", -1))
_SCRIPT = Path(__file__).with_name("hdf5_worker.py")


@dataclass(frozen=True)
class Hdf5:
    """What an HDF5 file holds.

    Attributes:
        attributes: of every group and dataset, by its path (without a leading slash; the file's own under "").
        tensors: the numeric arrays by path, in the file's order.
        aside: paths of what was not read: links to elsewhere, text, and arrays whose data lie in other files.
    """

    attributes: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, StoredTensor]
    aside: tuple[str, ...]


def read(data: bytes) -> Hdf5:
    """The attributes and arrays in an HDF5 file's content.

    Raises:
        RefdesignError: no HDF5 file, a damaged one, one that is too large, or one on which the parser died; h5py is not
            installed (extra `hdf5`).
    """
    with Worker() as worker:
        return worker.read(data)


class Worker:
    """The child process; it answers one file after the other, and is started again after its death.

    >>> with Worker() as worker:
    ...     worker.read(b"no HDF5")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found no HDF5 file: truncated or another format (...)
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, data: bytes) -> Hdf5:
        """See `read`."""
        process = self._started()
        overdue = threading.Event()
        watch = threading.Timer(SECONDS + len(data) / BYTES_PER_SECOND, partial(_end, process, overdue))
        watch.start()
        try:
            return _exchange(process, data)
        except _Died as death:
            status = _status(process)
            self.close()
            if overdue.is_set() or status == -_OVER_TIME:
                raise RefdesignError(
                    "found an HDF5 file that its parser does not finish: damaged, or made to"
                ) from death
            why = f"by signal {-status}" if status < 0 else f"with status {status}"
            raise RefdesignError(f"found an HDF5 file on which its parser died ({why}): damaged, or made to") from death
        finally:
            watch.cancel()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            # No filter of HDF5 is loaded from anywhere; the script's folder is no place to import from.
            environment = {**os.environ, "HDF5_PLUGIN_PRELOAD": "::", "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        return self._process


def _status(process: subprocess.Popen[bytes]) -> int:
    """How the child ended; it may live on where it answered nonsense."""
    try:
        return process.wait(1)
    except subprocess.TimeoutExpired:
        return 0


class _Died(Exception):
    """The child closed its pipe, or answered nonsense."""


def _end(process: subprocess.Popen[bytes], overdue: threading.Event) -> None:
    overdue.set()
    process.kill()


def _exchange(process: subprocess.Popen[bytes], data: bytes) -> Hdf5:
    if process.stdin is None or process.stdout is None:
        raise _Died
    try:
        process.stdin.write(len(data).to_bytes(8, "little") + data)
        process.stdin.flush()
    except OSError:
        # It may have said why, such as that a package is missing.
        pass
    size = int.from_bytes(_take(process.stdout, 8), "little")
    if size > LARGEST_HEADER:
        raise _Died
    try:
        header = json.loads(_take(process.stdout, size))
    except (ValueError, RecursionError) as error:
        raise _Died from error
    if not isinstance(header, dict):
        raise _Died
    if "missing" in header:
        raise missing_extra("hdf5", "h5py")
    if "refused" in header:
        raise RefdesignError(str(header["refused"]))
    try:
        return _contents(header, process.stdout)
    except (LookupError, TypeError, AttributeError) as error:
        raise _Died from error
    except RefdesignError:  # the arrays behind it are still in the pipe, where the next file's answer would be
        process.kill()
        process.wait()
        raise


def _contents(header: Mapping[str, Any], pipe: IO[bytes]) -> Hdf5:
    """The arrays behind the header, whose sizes are believed only as far as they are allowed."""
    tensors: dict[str, StoredTensor] = {}
    total = 0
    for entry in header["arrays"]:
        dtype, shape = entry["dtype"], checked_shape(entry["shape"])
        if dtype not in DTYPES and dtype not in ("uint16", "uint32", "uint64"):
            raise _Died
        size = math.prod(shape) * item_bytes(dtype)
        total += size
        if total > LARGEST_BYTES:
            raise _Died
        tensors[entry["name"]] = StoredTensor(dtype, shape, partial(_array, _take(pipe, size), dtype, shape))
    return Hdf5(header["attributes"], tensors, tuple(header["aside"]))


def _array(data: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    return elements(data, dtype).reshape(shape)


def _take(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) != size:
        raise _Died
    return data
