"""Zip archives from elsewhere: every member's size is known before it is unpacked, and bounded."""

from __future__ import annotations

import io
import zipfile
import zlib

from refdesign.errors import RefdesignError

LARGEST_COUNT = 100_000
"""Members of an archive."""

LARGEST_PACKED = 1 << 28
"""Bytes that a packed (not just stored) member may unpack to."""

LARGEST_UNPACKED = 1 << 30
"""Bytes that packed members may unpack to in all, those that are read again counted again."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FAILURES = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError,
             OverflowError, LookupError)  # fmt: skip


class Archive:
    """The members of a zip archive in memory, by name.

    Args:
        data: the file's content.

    Raises:
        RefdesignError: no zip archive, too many members, or two of one name.

    >>> Archive(b"PK")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found no zip archive: truncated or another format
    """

    def __init__(self, data: bytes) -> None:
        self._size, self._unpacked = len(data), 0
        # Before the list is read: every member has a header there, which begins so.
        if data.count(b"PK\x01\x02") > LARGEST_COUNT:
            raise RefdesignError(f"found an archive of more than {LARGEST_COUNT} members, expected fewer")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _FAILURES as error:
            raise RefdesignError("found no zip archive: truncated or another format") from error
        infos = self._zip.infolist()
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise RefdesignError("found an archive with two members of one name, expected each once")

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in the archive's order."""
        return tuple(self._infos)

    def size(self, name: str) -> int:
        """A member's size, unpacked, as the archive has it.

        Raises:
            RefdesignError: there is no such member, or its size cannot be true.
        """
        if name not in self._infos:
            raise RefdesignError(f"found no member {name!r} in the archive: truncated or another format")
        info = self._infos[name]
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            raise RefdesignError(f"member {name!r}: found it encrypted or packed in an unusual way, expected plain")
        largest = self._size if info.compress_type == zipfile.ZIP_STORED else LARGEST_PACKED
        if info.file_size > largest:
            raise RefdesignError(f"member {name!r}: found {info.file_size} bytes, expected at most {largest}")
        return info.file_size

    def read(self, name: str, largest: int) -> bytes:
        """A member's content, its checksum verified.

        Raises:
            RefdesignError: it is missing, larger than `largest` bytes, or damaged.
        """
        size = self.size(name)
        if size > largest:
            raise RefdesignError(f"member {name!r}: found {size} bytes, expected at most {largest}")
        if self._infos[name].compress_type != zipfile.ZIP_STORED:
            self._unpacked += size
            if self._unpacked > LARGEST_UNPACKED:
                raise RefdesignError(f"found an archive that unpacks to more than {LARGEST_UNPACKED} bytes")
        try:
            with self._zip.open(self._infos[name]) as stream:
                data = stream.read(size + 1)
        except _FAILURES as error:
            raise RefdesignError(f"member {name!r}: cannot be unpacked: the file is damaged") from error
        if len(data) != size:
            raise RefdesignError(f"member {name!r}: found {len(data)} bytes, expected {size}: the file is damaged")
        return data
