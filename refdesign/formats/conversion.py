"""The table of file formats: which one a file is in by its name's ending, one way in and one way out of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import refdesign.formats.native as native
from refdesign.errors import RefdesignError, in_print
from refdesign.formats import firmware, foreign
from refdesign.network import NetworkData


@dataclass(frozen=True)
class Imported:
    """A network from a file, and how it was read.

    Attributes:
        network: the network.
        format: the format, in words.
        recognised: what was found in a foreign file, one line for each layer and for the signs.
        assumed: the choices that the file does not make, one line each.
        places: the tensors of an ONNX file that hold outputs of layers, by output name.
    """

    network: NetworkData
    format: str
    recognised: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("recognised", "assumed"):  # with names of the file's in them
            object.__setattr__(self, name, tuple(map(in_print, getattr(self, name))))


Path_ = str | os.PathLike[str]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        title: its name in words, with an article where it needs one.
        endings: of file names, lower case.
        read: from a path and those of `read_options` that are given; None where it can only be written.
        read_options: names of keywords that `read` takes.
        write: from a network, a path, and those of `write_options` that are given; None where it can only be read.
        write_options: names of keywords that `write` takes.
    """

    title: str
    endings: tuple[str, ...]
    read: Callable[..., Imported] | None = None
    read_options: frozenset[str] = frozenset()
    write: Callable[..., None] | None = None
    write_options: frozenset[str] = frozenset()


def _read_native(path: Path_) -> Imported:
    return Imported(native.read(path), NATIVE.title)


def _read_onnx(path: Path_, **options: Any) -> Imported:
    from refdesign.formats import onnx_in

    network, report = onnx_in.read(path, **options)
    return Imported(network, ONNX.title, tuple(report.recognised), tuple(report.assumed), report.places)


def _write_onnx(network: NetworkData, path: Path_, **options: Any) -> None:
    if options.get("form") == "qonnx":
        from refdesign.formats import qonnx_out

        given = sorted(set(options) - {"form"})
        if given:
            raise RefdesignError(f"{os.fspath(path)}: found the option {given[0]!r}, which the form qonnx has not")
        qonnx_out.write(network, path)
        return
    from refdesign.formats import onnx_out

    onnx_out.write(network, path, **options)


def _read_safetensors(path: Path_, **wanted: Any) -> Imported:
    """The project's own format; with an architecture or a layer map, a foreign file of the same ending."""
    if not wanted:
        return _read_native(path)
    if wanted.get("architecture") is None and wanted.get("layer_map") is None:
        raise RefdesignError(
            f"{os.fspath(path)}: found the option {min(wanted)!r}, which {NATIVE.title} does not take, and no "
            "architecture (--model) to map a foreign file onto"
        )
    return _imported(foreign.read_safetensors(path, **wanted))


def _read_torch(path: Path_, **wanted: Any) -> Imported:
    return _imported(foreign.read_torch(path, **wanted))


def _read_keras(path: Path_, **wanted: Any) -> Imported:
    return _imported(foreign.read_keras(path, **wanted))


def _imported(found: tuple[NetworkData, Any, str]) -> Imported:
    network, report, title = found
    return Imported(network, title, tuple(report.recognised), tuple(report.assumed))


NATIVE = Format("refdesign's own format", (".safetensors",), _read_safetensors, foreign.OPTIONS, native.write)
ONNX = Format(
    "ONNX", (".onnx",), _read_onnx, frozenset({"arithmetic", "pixels"}),
    _write_onnx, frozenset({"form", "inlined", "outputs"}),
)  # fmt: skip
FORMATS: tuple[Format, ...] = (
    NATIVE,
    ONNX,
    Format("a PyTorch state dict", foreign.TORCH_ENDINGS, _read_torch, foreign.OPTIONS),
    Format("a Keras file", foreign.KERAS_ENDINGS, _read_keras, foreign.OPTIONS),
    Format("arrays for firmware", (".npz",), write=firmware.write_npz, write_options=frozenset({"word_bits"})),
    Format("a C header", (".h",), write=firmware.write_header, write_options=frozenset({"word_bits"})),
    Format("a C++ header", (".hpp",), write=firmware.write_header, write_options=frozenset({"word_bits"})),
)
"""Every format; the first that an ending fits is taken."""


def readable() -> tuple[str, ...]:
    """The endings that can be read; a file without a known ending is taken for refdesign's own format.

    >>> readable()[:2]
    ('.safetensors', '.onnx')
    """
    return tuple(ending for entry in FORMATS if entry.read is not None for ending in entry.endings)


def writable() -> tuple[str, ...]:
    """The endings that can be written.

    >>> ".h" in writable()
    True
    """
    return tuple(ending for entry in FORMATS if entry.write is not None for ending in entry.endings)


def format_of(path: Path_) -> Format | None:
    """The format that a file's ending says, or None.

    >>> format_of("net.ONNX").title
    'ONNX'
    """
    ending = Path(path).suffix.lower()
    return next((entry for entry in FORMATS if ending in entry.endings), None)


def read(path: Path_, **options: Any) -> Imported:
    """Read a network from a file of any format that can be read; nothing in it is trusted.

    Args:
        path: the file; its ending says the format.
        options: the format's own (`Format.read_options`), such as `arithmetic` for ONNX: the arithmetic that the
            network is meant under, where the file does not say. None is as if not given.

    Raises:
        RefdesignError: as the format's reader; a format that can only be written; or an option that it does not take.

    >>> read("net.h")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: net.h: found a C header, which can only be written, expected one of .safetensors, \
.onnx, .pt, .pth, .ckpt, .tar, .keras, .h5, .hdf5
    """
    entry = format_of(path) or NATIVE
    if entry.read is None:
        raise RefdesignError(
            f"{os.fspath(path)}: found {entry.title}, which can only be written, expected one of "
            + ", ".join(readable())
        )
    return entry.read(path, **_taken(path, entry, entry.read_options, options))


def write(network: NetworkData, path: Path_, **options: Any) -> str:
    """Write a network as the format that the file's ending says.

    Args:
        network: the network.
        path: the file; replaced all or nothing.
        options: the format's own (`Format.write_options`): `form`, `inlined` and `outputs` for ONNX, see
            `refdesign.formats.onnx_out.to_model`; `word_bits` for firmware. None is as if not given.

    Returns:
        The format, in words.

    Raises:
        RefdesignError: an unknown ending, an option that the format does not take, or as the format's writer.

    >>> from refdesign.api import pretrained
    >>> write(pretrained("digits"), "net.tflite")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: net.tflite: found the ending '.tflite', expected one of .safetensors, .onnx, \
.npz, .h, .hpp
    """
    entry = format_of(path)
    if entry is None or entry.write is None:
        found = f"the ending {Path(path).suffix.lower()!r}" if entry is None else f"{entry.title}, which is only read"
        raise RefdesignError(f"{os.fspath(path)}: found {found}, expected one of {', '.join(writable())}")
    entry.write(network, path, **_taken(path, entry, entry.write_options, options))
    return entry.title


def _taken(path: Path_, entry: Format, names: frozenset[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given, all of which the format must take."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in names:
            raise RefdesignError(
                f"{os.fspath(path)}: found the option {name!r}, which {entry.title} does not take; "
                f"it takes {', '.join(sorted(names)) or 'none'}"
            )
    return given
