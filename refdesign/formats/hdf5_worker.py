"""The process that parses HDF5 files for `refdesign.formats.hdf5`: run as a script, with nothing but pipes.

The HDF5 library is C, and a file from elsewhere may break it. So it runs here, where it can open no file and no
socket, take only so much memory and time, and do nothing but answer. It reads, from stdin, messages of eight bytes
(little-endian) of length and a file's content; it answers each, on stdout, with eight bytes of length, JSON of that
length, and the arrays that the JSON lists, one after the other, little-endian in C order.
"""

from __future__ import annotations

import json
import sys
from typing import Any

LARGEST_BYTES = 1 << 30
"""Bytes of all arrays of a file."""

LARGEST_TEXT = 1 << 24
"""Characters of all attributes of a file."""

MOST_OBJECTS = 20_000
"""Groups and datasets of a file."""

DEEPEST = 32
"""Groups within groups."""

MEMORY = 4 << 30
"""Bytes of address space, where the system can limit it."""

SECONDS, BYTES_PER_SECOND = 3, 1 << 22
"""Of processor time for one file, and how many of its bytes get a second more. Some damaged files are read for ever."""


class Refused(Exception):
    """What is wrong with a file, in words that follow its name."""


def contents(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """A file's attributes and arrays: a header for JSON, and the arrays' bytes.

    Raises:
        Refused: too many objects, too large, or what the library says.
    """
    import h5py

    try:
        file = h5py.File(h5py.h5f.open_file_image(data))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise Refused(f"found no HDF5 file: truncated or another format ({error})") from error
    try:
        return _Walk(h5py).walk(file)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise Refused(f"found a damaged HDF5 file ({type(error).__name__}: {error})") from error
    finally:
        file.close()


class _Walk:
    """One pass over a file; links that lead elsewhere are named and left aside."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.text = self.bytes = 0
        self.attributes: dict[str, dict[str, Any]] = {}
        self.datasets: list[tuple[str, Any]] = []
        self.arrays: list[dict[str, Any]] = []
        self.aside: list[str] = []
        self.parts: list[bytes] = []

    def walk(self, file: Any) -> tuple[dict[str, Any], list[bytes]]:
        waiting, seen, links = [("", file)], set(), 0
        while waiting:
            name, entry = waiting.pop()
            # Hard links may lead back to where they are.
            address = self.library.h5o.get_info(entry.id).addr
            if address in seen:
                continue
            seen.add(address)
            if name.count("/") > DEEPEST:
                raise Refused(f"found groups nested more than {DEEPEST} deep")
            self.attributes[name] = self.described(name, entry)
            if isinstance(entry, self.library.Group):
                # Every object is in some group, so they are counted before one of them is opened.
                links += len(entry)
                if links > MOST_OBJECTS:
                    raise Refused(f"found more than {MOST_OBJECTS} objects")
                below = []
                for key in entry:
                    path = f"{name}/{key}" if name else str(key)
                    self.count(len(path))
                    if not isinstance(entry.get(key, getlink=True), self.library.HardLink):
                        self.aside.append(path)
                        continue
                    below.append((path, entry[key]))
                waiting += reversed(below)
            elif isinstance(entry, self.library.Dataset):
                self.find(name, entry)
        # Only when it is known that all of them are not too large together.
        for name, dataset in self.datasets:
            self.read(name, dataset)
        header = {"attributes": self.attributes, "arrays": self.arrays, "aside": self.aside[:100]}
        return header, self.parts

    def find(self, name: str, entry: Any) -> None:
        """Note an array that is to be read, if it is plain numbers."""
        dtype = entry.dtype
        plain = dtype.kind in "fiub" and dtype.itemsize <= 8 and dtype.metadata is None
        if not plain or entry.shape is None or entry.external is not None or entry.is_virtual:
            self.aside.append(name)
            return
        self.bytes += entry.size * dtype.itemsize
        if self.bytes > LARGEST_BYTES:
            raise Refused(f"dataset {name!r}: found arrays of more than {LARGEST_BYTES} bytes in all")
        self.datasets.append((name, entry))

    def read(self, name: str, entry: Any) -> None:
        dtype = entry.dtype
        array = entry[()]
        self.arrays.append({"name": name, "dtype": dtype.newbyteorder("=").name, "shape": list(entry.shape)})
        self.parts.append(array.astype(dtype.newbyteorder("<"), copy=False).tobytes())

    def described(self, name: str, entry: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key in entry.attrs:
            raw = entry.attrs.get_id(key)
            cells = raw.get_space().get_simple_extent_npoints()
            self.count(cells * max(1, raw.get_type().get_size()))
            value = self.plain(entry.attrs[key])
            if value is not None:
                found[str(key)] = value
        return found

    def count(self, characters: int) -> None:
        self.text += characters
        if self.text > LARGEST_TEXT:
            raise Refused(f"found attributes and names of more than {LARGEST_TEXT} characters in all")

    def plain(self, value: Any) -> Any:
        """Text, numbers and flat lists of them; anything else is left out."""
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            self.count(len(value))
            return value
        if isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, list):
            return [self.plain(entry) for entry in value if not isinstance(entry, list)]
        return None


def _answer(header: dict[str, Any], parts: list[bytes]) -> None:
    text = json.dumps(header).encode()
    sys.stdout.buffer.write(len(text).to_bytes(8, "little") + text)
    for part in parts:
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


def _rehearse() -> None:
    """Read a small file, so that everything that is loaded late is loaded before the limits stand."""
    import h5py

    with h5py.File("rehearsal", "w", driver="core", backing_store=False) as file:
        file.attrs["text"], file.attrs["fixed"], file.attrs["numbers"] = "é", [b"a"], [1.0, 2.0]
        file.create_dataset("group/packed", data=[[1.0, 2.0]], compression="gzip", shuffle=True, fletcher32=True)
        file["group"].attrs["empty"] = h5py.Empty("f")
        file["link"] = h5py.SoftLink("/group")
        file.flush()
        image = file.id.get_file_image()
    header, parts = contents(image)
    json.dumps(header).encode()
    for damaged in (b"", image[:100]):
        try:
            contents(damaged)
        except Refused:
            continue
    del parts


def _limit() -> None:
    """Nothing more may be opened, and no more memory taken than a network needs; where the system can."""
    try:
        import resource
    except ImportError:
        return
    limits = {
        resource.RLIMIT_NOFILE: 3,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: MEMORY,
    }
    for kind, bound in limits.items():
        try:
            resource.setrlimit(kind, (bound, bound))
        except (OSError, ValueError):
            continue


def _limit_time(size: int) -> None:
    """So much processor time from now on."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime) + SECONDS + size // BYTES_PER_SECOND
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


def main() -> None:
    """Answer until stdin ends."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        _answer({"missing": "h5py"}, [])
        return
    _rehearse()
    _limit()
    while len(size := sys.stdin.buffer.read(8)) == 8:
        count = int.from_bytes(size, "little")
        _limit_time(count)
        data = sys.stdin.buffer.read(count)
        try:
            _answer(*contents(data))
        except Refused as refusal:
            _answer({"refused": " ".join(str(refusal).split())[:300]}, [])
        except MemoryError:
            _answer({"refused": f"found it to take more than {MEMORY} bytes of memory"}, [])


if __name__ == "__main__":
    main()
