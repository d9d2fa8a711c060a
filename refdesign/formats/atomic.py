"""Files that are replaced whole: whoever reads a path sees the old content or the new one, never a part."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from refdesign.errors import RefdesignError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of `path` when the block ends without an error.

    It is written in the same folder under a temporary name, flushed to the disk and renamed. If the block raises,
    the temporary file is removed and `path` stays as it was. A symbolic link stays a link: its target is replaced.

    Args:
        path: the file to make or to replace; its folder must exist.

    Yields:
        The temporary file, open for writing bytes.

    Raises:
        RefdesignError: the file cannot be written there; the message names `path` and the reason.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.bin") as stream:
    ...         _ = stream.write(b"abc")
    ...     Path(folder, "a.bin").read_bytes(), os.listdir(folder)
    (b'abc', ['a.bin'])
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        if target.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if target.exists() and not target.is_file():  # who may replace /dev/null would
            raise OSError(None, "it is no regular file")
        # Not tempfile: its files are private to the user, this one gets the modes that any new file gets.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise RefdesignError(f"{os.fspath(path)}: cannot be written: {error.strerror or error}") from error


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file's content, all or nothing; see `replacing`.

    Raises:
        RefdesignError: the file cannot be written there.

    >>> write_bytes("/nowhere/a.bin", b"")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/a.bin: cannot be written: No such file or directory
    """
    with replacing(path) as stream:
        stream.write(data)


def _sync_folder(folder: Path) -> None:
    """Bring the renaming itself to the disk; some systems cannot open folders, and then need not."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
