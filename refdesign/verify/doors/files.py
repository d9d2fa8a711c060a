"""The third door: the files that a simulation left, in any declared layout.

Without a map, an output `conv1.bits` is looked for as `conv1.bits.npy`, as `conv1.bits.hex` (or `.mem`), as
`conv1.bits.bin`, and as a member of any `.npz` in the folder. A map is a TOML file:

    [names]                             # foreign names of layers or tensors: files, or members of an archive
    "conv1.bits" = "MultiThreshold_0_out0"

    [defaults]                          # for all outputs
    bit_order = "big"

    [outputs."conv1.bits"]              # for one output
    file = "thresh0.hex"
    layout = "n h w fold pe -> n h w (fold pe)"
    sizes = { pe = 4 }
    word_bits = 8

Keys: `file`, `key` (a member of an `.npz`), `layout`, `sizes`, and for hex and raw files `word_bits`,
`element_bits`, `kind`, `bit_order`, `word_order`, `bit_one`, `byte_order` (raw only). The last axis on the layout's
left side is packed; every row of it starts a new word. Hex and raw files have `n` first.
"""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData
from refdesign.verify.doors.door import RealStreams
from refdesign.verify.doors.layout import Layout
from refdesign.verify.doors.mapping import WORD_KEYS, read_map
from refdesign.verify.doors.protocol import output_type
from refdesign.verify.doors.words import Word, WordFormat, read_hex, read_raw
from refdesign.verify.implementation import (
    Answer,
    Finding,
    Images,
    comparable_outputs,
    expected_shape,
    misspelt,
    one_line,
)

_SUFFIXES = (".npy", ".hex", ".mem", ".bin")


@dataclass
class _Source(ABC):
    """One output's file: takes the answers to the next images."""

    name: str
    path: Path
    layout: Layout
    sizes: Mapping[str, int]
    shape: tuple[int, ...]

    @abstractmethod
    def take(self, images: int) -> tuple[NDArray[Any] | None, list[Finding]]:
        """The next answers, (k, *shape) with k <= images, and what is wrong."""

    @abstractmethod
    def left(self) -> bool:
        """Whether there are answers to further images."""


class _Array(_Source):
    """An `.npy`, mapped into memory, or a member of an `.npz`."""

    array: NDArray[Any] | None = None
    key: str | None = None
    taken = 0

    def take(self, images: int) -> tuple[NDArray[Any] | None, list[Finding]]:
        if self.array is None:
            loaded = self._load()
            count = self._cases(loaded)
            if count is None:
                expected = self.layout.file_shape((images, *self.shape), self.sizes)
                message = f"{self.path.name}: found shape {loaded.shape}, expected {expected} ({self.layout.text})"
                self.array = np.zeros((0, *self.shape))
                return None, [Finding("shape", message, self.name)]
            if loaded.dtype.kind not in "biuf":
                self.array = np.zeros((0, *self.shape))
                return None, [Finding("dtype", f"{self.path.name}: found {loaded.dtype}, expected numbers", self.name)]
            self.array = self.layout.apply(loaded, (count, *self.shape), self.sizes)
        piece = self.array[self.taken : self.taken + images]
        self.taken += len(piece)
        return piece, []

    def _load(self) -> NDArray[Any]:
        try:
            loaded = np.load(self.path, mmap_mode=None if self.key else "r", allow_pickle=False)
            array = loaded[self.key] if self.key else loaded
        except Exception as error:  # damaged archives and headers raise almost anything
            raise RefdesignError(f"{self.path}: cannot be read: {one_line(error)}") from error
        if not isinstance(array, np.ndarray):
            raise RefdesignError(f"{self.path}: found an archive, expected an array; name its member with key = ...")
        return array

    def _cases(self, array: NDArray[Any]) -> int | None:
        """How many cases the array holds; None if its shape is another."""
        each = int(np.prod(self.shape))
        cases = array.size // each
        if cases * each != array.size or not cases:
            return None
        return cases if array.shape == self.layout.file_shape((cases, *self.shape), self.sizes) else None

    def left(self) -> bool:
        return self.array is not None and self.taken < len(self.array)


class _Words(_Source):
    """Words of a hex or raw file, read as they are needed."""

    format: WordFormat
    words: Iterator[Word]

    def take(self, images: int) -> tuple[NDArray[Any] | None, list[Finding]]:
        row = self.layout.file_shape((1, *self.shape), self.sizes)[-1]
        each = int(np.prod(self.shape)) // row * self.format.words(row)
        words = list(islice(self.words, each * images))
        cases, rest = divmod(len(words), each)
        findings = []
        if rest:
            message = f"{self.path.name}: ends within a case ({rest} of {each} words)"
            findings.append(Finding("count", message, self.name, cases))
        words = words[: cases * each]
        undefined = [(number, word) for number, word in enumerate(words) if word.unknown]
        if undefined:
            number, word = undefined[0]
            message = f"{self.path.name}, line {word.line}: X or Z, and in {len(undefined):,} words in all"
            findings.append(Finding("undefined", message, self.name, number // each))
        if not cases:
            return None, findings
        values = self.format.decode([word.value for word in words], [word.unknown for word in words], row)
        return self.layout.apply(values, (cases, *self.shape), self.sizes), findings

    def left(self) -> bool:
        return next(self.words, None) is not None


class FilesDoor:
    """Compares with results in files; answers come in the order of the images.

    Args:
        folder: holds the files.
        network: gives names and shapes.
        mapping: a TOML file as the module describes it; None: names and layouts are ours.
        partial: whether the files may hold more cases than are asked about.

    Raises:
        RefdesignError: no folder, an unreadable map, unknown names or keys in it.
    """

    again = False
    few = 0

    def __init__(
        self, folder: Path, network: NetworkData, mapping: Path | None = None, *, partial: bool = False
    ) -> None:
        self.what = str(folder)
        self._network = network
        self._partial = partial
        self._findings: list[Finding] = []
        self._ended: set[str] = set()
        if not folder.is_dir():
            raise RefdesignError(f"{folder}: found no folder, expected one with results")
        self._map = read_map(mapping, network)
        if self._map["input"]:
            raise RefdesignError(f"{mapping}: found the table 'input', which goes with --impl, not with --files")
        found = (self._source(folder, name, mapping) for name in comparable_outputs(network))
        self._sources = [source for source in found if source is not None]
        used = {source.path for source in self._sources}
        self._there = sorted(path.name for path in folder.iterdir() if path not in used and not path.is_dir())
        known, have = comparable_outputs(network), {source.name for source in self._sources}
        others = [Path(name).stem for name in self._there if Path(name).suffix in _SUFFIXES]
        misnamed = misspelt(
            [name for name in others if name not in known], [name for name in known if name not in have]
        )
        self._findings += [] if misnamed is None else [misnamed]

    def ask(self, images: Images) -> Answer:
        """The answers to the next images."""
        findings, self._findings = self._findings, []
        outputs: dict[str, NDArray[Any]] = {}
        answered: dict[str, NDArray[np.bool_]] = {}
        ends: dict[str, Finding] = {}
        for source in self._sources:
            try:
                array, found = source.take(len(images))
            except RefdesignError as error:
                array, found = None, [Finding("garbage", str(error), source.name)]
            findings += found
            count = 0 if array is None else len(array)
            if count < len(images) and not found and source.name not in self._ended:
                message = f"{source.path.name}: ends after {count} of these {len(images)} cases"
                ends[source.name] = Finding("count", message, source.name, count)
            if count < len(images):
                self._ended.add(source.name)  # said once
            if array is not None and count:
                if count < len(images):
                    answered[source.name] = np.arange(len(images)) < count
                    filled = np.zeros((len(images), *source.shape), array.dtype)
                    filled[:count] = array
                    array = filled
                outputs[source.name] = np.ascontiguousarray(array)
        counts = {finding.image for finding in ends.values()}
        if len(counts) == 1 and len(ends) == len(self._sources) > 1:
            (last,) = counts
            message = f"all {len(ends)} files end after {last} of these {len(images)} cases"
            ends = {"": Finding("count", message, image=last)}
        findings += ends.values()
        if not self._sources:
            names = ", ".join(comparable_outputs(self._network)[:3])
            here = ", ".join(self._there[:5]) or "nothing"
            message = f"{self.what}: found {here}, but no results; expected files of {names}, ..."
            findings.append(Finding("missing", message))
        return Answer(outputs, tuple(findings), True, answered)

    def ask_layer(self, layer: str, inputs: Images, real: RealStreams | None = None) -> Answer | None:
        """Files cannot be asked."""
        return None

    def close(self) -> tuple[Finding, ...]:
        """Whether files hold more cases than there were images."""
        sources, self._sources = self._sources, []
        if self._partial:
            return ()
        try:
            more = [source for source in sources if source.left()]
        except RefdesignError as error:
            return (Finding("garbage", str(error)),)
        return tuple(Finding("count", f"{s.path.name}: holds more cases than there are images", s.name) for s in more)

    def _source(self, folder: Path, name: str, mapping: Path | None) -> _Source | None:
        entry = self._map["outputs"].get(name, {})
        settings = {**self._map["defaults"], **entry}
        theirs = self._map["names"].get(name, name)
        path, key = _find(folder, theirs, settings)
        if path is None or not path.is_file():
            if entry or theirs != name:
                wanted = settings.get("file", theirs)
                message = f"{wanted}: found no such file or member in {folder.name}, as {mapping} names it"
                self._findings.append(Finding("missing", message, name))
            return None
        shape = expected_shape(self._network, name)
        layout = Layout.parse(settings.get("layout", "n h w c" if len(shape) == 3 else "n c"), len(shape) + 1)
        layout.sizes((1, *shape), settings.get("sizes", {}))
        given = (name, path, layout, settings.get("sizes", {}), shape)
        if path.suffix in (".npy", ".npz"):
            source = _Array(*given)
            source.key = settings.get("key", key)
            return source
        if layout.left[0] != layout.right[0] or layout.backwards & set(layout.left[0]):
            raise RefdesignError(f"{name}: found the layout {layout.text!r}, expected n first in a file of words")
        return self._words(_Words(*given), settings)

    def _words(self, source: _Words, settings: Mapping[str, Any]) -> _Words:
        dtype = output_type(self._network, source.name)
        kind = {"int8": "bits", "int32": "signed", "float32": "float32"}[dtype.name]
        usual = {"kind": kind, "element_bits": 1 if kind == "bits" else 32}
        usual["word_bits"] = 64 if settings.get("kind", kind) == "bits" else settings.get("element_bits", 32)
        try:
            source.format = WordFormat(**{**usual, **{key: settings[key] for key in WORD_KEYS if key in settings}})
        except TypeError as error:
            raise RefdesignError(f"{source.name}: {error}") from error
        if source.path.suffix == ".bin":
            source.words = read_raw(source.path, source.format.word_bits, settings.get("byte_order", "little"))
        else:
            source.words = read_hex(source.path, source.format.word_bits)
        return source


def _find(folder: Path, theirs: str, settings: Mapping[str, Any]) -> tuple[Path | None, str | None]:
    """The file of an output, and the member of it where it is an archive."""
    if "file" in settings:
        path = folder / str(settings["file"])
        return path, theirs if path.suffix == ".npz" else None
    for suffix in _SUFFIXES:
        if (folder / f"{theirs}{suffix}").is_file():
            return folder / f"{theirs}{suffix}", None
    for archive in sorted(path for path in folder.glob("*.npz") if path.is_file()):
        try:
            with zipfile.ZipFile(archive) as members:
                if f"{theirs}.npy" in members.namelist():
                    return archive, theirs
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
            continue
    return None, None
