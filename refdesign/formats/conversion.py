"""Which file format a file is in, by its name's ending; one way in and one way out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import refdesign.formats.native as native
from refdesign.errors import RefdesignError
from refdesign.formats import firmware
from refdesign.network import NetworkData

READABLE = {".safetensors": "refdesign's own format", ".onnx": "ONNX"}
"""The endings that can be read; a file without one of them is taken for refdesign's own format."""

WRITABLE = READABLE | {".npz": "arrays for firmware", ".h": "a C header", ".hpp": "a C++ header"}
"""The endings that can be written."""


@dataclass(frozen=True)
class Imported:
    """A network from a file, and how it was read.

    Attributes:
        network: the network.
        format: the format, in words.
        recognised: what was found in a foreign file, one line for each layer and for the signs.
        assumed: the choices that the file does not make, one line each.
    """

    network: NetworkData
    format: str
    recognised: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def read(path: str | os.PathLike[str], *, arithmetic: str | None = None) -> Imported:
    """Read a network from a file of any format that can be read; nothing in it is trusted.

    Args:
        path: the file; its ending says the format.
        arithmetic: for foreign formats, the arithmetic that the network is meant under; None is what the file says.

    Raises:
        RefdesignError: as the format's reader; a format that can only be written; or an arithmetic for the
            project's own format, which names its own.

    >>> read("net.h")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: net.h: found a C header, which can only be written, expected .safetensors or .onnx
    """
    ending = Path(path).suffix.lower()
    if ending == ".onnx":
        from refdesign.formats import onnx_in

        network, report = onnx_in.read(path, arithmetic=arithmetic)
        return Imported(network, READABLE[ending], tuple(report.recognised), tuple(report.assumed))
    if ending in WRITABLE and ending not in READABLE:
        raise RefdesignError(
            f"{os.fspath(path)}: found {WRITABLE[ending]}, which can only be written, expected {' or '.join(READABLE)}"
        )
    if arithmetic is not None:
        raise RefdesignError(f"{os.fspath(path)}: found an arithmetic to read it under, but the file names its own")
    return Imported(native.read(path), READABLE[".safetensors"])


def write(
    network: NetworkData,
    path: str | os.PathLike[str],
    *,
    form: str = "folded",
    inlined: bool = False,
    all_outputs: bool = False,
    word_bits: int = 64,
) -> str:
    """Write a network as the format that the file's ending says.

    Args:
        network: the network.
        path: the file; replaced all or nothing.
        form, inlined: for ONNX, see `refdesign.formats.onnx_out.to_model`.
        all_outputs: for ONNX, whether every layer's output is one of the model, or the logits alone.
        word_bits: for firmware, the width of words.

    Returns:
        The format, in words.

    Raises:
        RefdesignError: an unknown ending, or as the format's writer.

    >>> from refdesign.api import pretrained
    >>> write(pretrained("digits"), "net.tflite")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: net.tflite: found the ending '.tflite', expected one of .safetensors, .onnx, \
.npz, .h, .hpp
    """
    ending = Path(path).suffix.lower()

    def onnx() -> None:
        from refdesign.formats import onnx_out

        onnx_out.write(network, path, form=form, inlined=inlined, outputs="all" if all_outputs else ("logits",))

    writers: dict[str, Callable[[], None]] = {
        ".safetensors": lambda: native.write(network, path),
        ".onnx": onnx,
        ".npz": lambda: firmware.write_npz(network, path, word_bits=word_bits),
        ".h": lambda: firmware.write_header(network, path, word_bits=word_bits),
        ".hpp": lambda: firmware.write_header(network, path, word_bits=word_bits),
    }
    if ending not in writers:
        raise RefdesignError(f"{os.fspath(path)}: found the ending {ending!r}, expected one of {', '.join(WRITABLE)}")
    writers[ending]()
    return WRITABLE[ending]
