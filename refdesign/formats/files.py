"""Files that are read: regular ones of bounded size, and what is wrong with them said behind their names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from refdesign.errors import MissingExtra, RefdesignError

LARGEST_FILE = 1 << 31
"""Bytes of a file that is read into memory."""


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts a file's name before the errors that its content causes.

    A package that is missing (`MissingExtra`) is no error of the file, and stays as it is.

    Raises:
        RefdesignError: what the block raised, behind the file's name.

    >>> with naming("net.onnx"):
    ...     raise RefdesignError("found no nodes, expected some")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: net.onnx: found no nodes, expected some
    """
    try:
        yield
    except MissingExtra:
        raise
    except RefdesignError as error:
        raise RefdesignError(f"{os.fspath(path)}: {error}") from error
    except MemoryError as error:
        raise RefdesignError(f"{os.fspath(path)}: found contents that take more memory than there is") from error


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file, open for reading, and its size in bytes; a pipe that nobody writes to is not waited for.

    Raises:
        RefdesignError: the file is missing, cannot be read, or is no regular one; without its name (`naming`).

    >>> with opened("/nowhere/net.pt") as (stream, size):
    ...     pass
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: cannot be read: No such file or directory
    """
    try:
        # ValueError: a name that no file can have.
        stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - closed below
    except ValueError as error:
        raise RefdesignError(f"cannot be read: {error}") from error
    except OSError as error:
        raise _unreadable(error) from error
    with stream:
        try:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RefdesignError("found something else than a regular file")
            yield stream, status.st_size
        except OSError as error:
            raise _unreadable(error) from error


def read_bytes(path: str | os.PathLike[str], largest: int = LARGEST_FILE) -> bytes:
    """A regular file's content, if it is not too large.

    Raises:
        RefdesignError: as `opened`, or the file is larger than `largest` bytes; without its name.

    >>> read_bytes("/nowhere/net.pt")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: cannot be read: No such file or directory
    """
    with opened(path) as (stream, size):
        if size > largest:
            raise RefdesignError(f"found {size} bytes, expected at most {largest}")
        return stream.read(size)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unreadable(error: OSError) -> RefdesignError:
    return RefdesignError(f"cannot be read: {error.strerror or error}")
