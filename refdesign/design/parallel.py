"""Long work in pieces: on this process or through joblib, with a checkpoint that an interruption leaves behind.

Every piece's result is whole numbers, put together in a way that does not depend on the order, so one process, many
and a cluster give the same bits. With `jobs=None` joblib decides, so a user's cluster is taken with::

    with joblib.parallel_config(backend="dask"):
        ...
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError, missing_extra

__all__ = ["Checkpoint", "Progress", "fingerprint", "ordered"]

Progress = Callable[[int, int], None]
"""Called with the pieces done and their total."""

Result = TypeVar("Result")
SECONDS_BETWEEN_SAVES = 5.0


def fingerprint(*parts: Any) -> str:
    """A digest of arrays and values, by which a checkpoint recognises its work.

    >>> fingerprint(np.zeros(2), 3) == fingerprint(np.zeros(2), 3)
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


class Checkpoint:
    """Arrays of a piece of work in progress in one `.npz` file, replaced atomically.

    Args:
        path: the file; None keeps nothing.
        work: the fingerprint of the work; a file of other work is refused, not overwritten.

    >>> Checkpoint(None, "work").load() is None
    True
    """

    def __init__(self, path: str | os.PathLike[str] | None, work: str) -> None:
        self.path = None if path is None else Path(path)
        self.work = work
        self._saved = time.monotonic()

    def load(self) -> dict[str, NDArray[Any]] | None:
        """The arrays of an earlier run of the same work, or None.

        Raises:
            RefdesignError: the file is no checkpoint, or one of other work.

        >>> Checkpoint(None, "work").load() is None
        True
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except Exception as error:  # zipfile, zlib, struct, EOF: whatever a damaged file makes of them
            raise RefdesignError(f"{self.path}: found a file that is no checkpoint ({error})") from error
        work = arrays.pop("work", None)
        if work is None or work.ndim != 0 or work.dtype.kind != "U" or str(work) != self.work:
            raise RefdesignError(f"{self.path}: found a checkpoint of other work, expected one of this search")
        return arrays

    def save(self, arrays: Mapping[str, NDArray[Any]], *, force: bool = False) -> None:
        """Keep the arrays, at most every few seconds unless forced.

        >>> Checkpoint(None, "work").save({"done": np.zeros(1)}, force=True)
        """
        if self.path is None or (not force and time.monotonic() - self._saved < SECONDS_BETWEEN_SAVES):
            return
        try:
            handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".npz")
            with os.fdopen(handle, "wb") as file:
                np.savez(file, allow_pickle=False, work=np.array(self.work), **dict(arrays))
            os.replace(name, self.path)
        except OSError as error:
            raise RefdesignError(f"{self.path}: the checkpoint cannot be written ({error.strerror})") from error
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Delete the file once the work is done.

        >>> Checkpoint(None, "work").remove()
        """
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of jobs that joblib would not take."""
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0):
        raise RefdesignError(f"jobs: found {jobs!r}, expected a number of processes, -1 for all cores, or None")


def ordered(function: Callable[..., Result], pieces: Sequence[tuple[Any, ...]], jobs: int | None) -> Iterator[Result]:
    """`function(*piece)` for every piece, in order, as they come.

    Args:
        function: importable by name (it travels to other processes).
        pieces: the arguments, one tuple a piece.
        jobs: 1: this process, without joblib; another number: joblib with so many processes; None: joblib with
            what `joblib.parallel_config` says.

    Raises:
        MissingExtra: joblib is not installed (extra `cluster`).

    >>> list(ordered(pow, [(2, 3), (3, 2)], 1))
    [8, 9]
    """
    check_jobs(jobs)
    if jobs == 1:
        for piece in pieces:
            yield function(*piece)
        return
    try:
        import joblib
    except ImportError as error:
        raise missing_extra("cluster", "joblib") from error
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    yield from parallel(joblib.delayed(function)(*piece) for piece in pieces)
