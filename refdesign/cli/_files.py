"""Archives of arrays that are written batch by batch."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats import atomic

_COPY_BYTES = 1 << 20


class ArchiveWriter:
    """Writes an `.npz` whose arrays arrive batch by batch, in memory that does not grow with them.

    Each array is spooled to a file of its own, because a zip archive takes one member at a time. Use `archive`,
    which cleans up.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spools: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}

    def append(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add a batch: every array grows along its first axis."""
        for name, array in arrays.items():
            if name not in self._spools:
                self._spools[name] = (self._folder / f"{len(self._spools)}.raw").open("w+b")
                self._shapes[name] = (0, *array.shape[1:])
                self._dtypes[name] = array.dtype
            array.tofile(self._spools[name])
            self._shapes[name] = (self._shapes[name][0] + array.shape[0], *array.shape[1:])

    def finish(self, target: BinaryIO) -> None:
        """Write the archive; its arrays are `np.load`'s."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as whole:
            for name, spool in self._spools.items():
                spool.flush()
                spool.seek(0)
                header = {
                    "descr": np.lib.format.dtype_to_descr(self._dtypes[name]),
                    "fortran_order": False,
                    "shape": self._shapes[name],
                }
                with whole.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(spool, member, _COPY_BYTES)

    def close(self) -> None:
        """Close the spools."""
        for spool in self._spools.values():
            spool.close()


@contextmanager
def archive(path: Path) -> Iterator[ArchiveWriter]:
    """An `ArchiveWriter` whose archive replaces `path` when the block ends, and leaves nothing when it fails.

    Raises:
        RefdesignError: `path` cannot be written, said before the block begins where that can be known.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with archive(Path(folder, "a.npz")) as writer:
    ...         writer.append({"x": np.ones((2, 3), np.int8)})
    ...         writer.append({"x": np.zeros((1, 3), np.int8)})
    ...     np.load(Path(folder, "a.npz"))["x"].shape
    (3, 3)
    """
    if path.is_dir():
        raise RefdesignError(f"{path}: found a folder, expected the name of a file to write")
    if path.suffix.lower() != ".npz":
        raise RefdesignError(f"{path}: found the suffix {path.suffix!r}, expected .npz, which is what is written")
    try:
        spools = tempfile.TemporaryDirectory(prefix=".refdesign.", dir=path.parent)
    except OSError as error:
        raise RefdesignError(f"{path}: cannot be written: {error.strerror or error}") from error
    with spools as folder:
        writer = ArchiveWriter(Path(folder))
        try:
            yield writer
            with atomic.replacing(path) as target:
                writer.finish(target)
        finally:
            writer.close()
