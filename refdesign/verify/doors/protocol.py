"""The pipe's protocol: what is written to an implementation's standard input, and read from its standard output.

The header is text, in both forms; each line ends in a newline:

    refdesign 1 text                  or: refdesign 1 binary
    network digits
    input 8 8 1                       the shape of a case: rows, columns, channels, uint8
    output conv1.bits int8 8 8 64     every output that may be answered, in order of execution: type, shape
    ...
    output logits float32 10
    start

Text form. A case is a line `CASE P P P ...`: its number, and its pixels in the order rows, columns, channels. An
answer is any number of lines `CASE OUTPUT V V V ...` (any subset of the outputs; floats as decimals of nine digits or
more, or as C's `%a`), and `CASE end`. Lines that begin with `#` and empty lines are skipped.

Binary form, little-endian. A case is its number (uint32) and its pixels (uint8). An answer is any number of records:
the case (uint32), the output's place in the header from 0 (uint32), and its values in the header's type; and one
record of the case and 0xffffffff, which ends the case.

Up to `--in-flight` cases are sent ahead; they may be answered in any order. After the last case the input is closed,
and the program ends with status 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData, Stage
from refdesign.verify.implementation import comparable_outputs, expected_shape

END = 0xFFFFFFFF
"""The output number of the record that ends a case."""

_LONGEST_LINE = 1 << 26
_LONGEST_NUMBER = 18  # digits of a case's number


@dataclass(frozen=True)
class Event:
    """Something that was read: one output of a case, the end of a case, or what cannot be read.

    Attributes:
        case: its number; None: unreadable.
        output: the output's name; None: the case's end.
        values: flat.
        garbage: why it cannot be read.
    """

    case: int | None = None
    output: str | None = None
    values: NDArray[Any] | None = None
    garbage: str | None = None


def output_type(network: NetworkData, output: str) -> np.dtype[Any]:
    """The reference's type of an output.

    >>> from refdesign.api import pretrained
    >>> output_type(pretrained("digits"), "conv1.bits")
    dtype('int8')
    """
    part = output.rpartition(".")[2]
    if part == "bits":
        return np.dtype(np.int8)
    if part in ("accumulator", "pooled"):
        return np.dtype(np.int32)
    last = network.layers[-1]
    integers = (
        isinstance(last, Stage) and last.batch_norm is None and f"{last.name}.accumulator" in network.output_names
    )
    return np.dtype(np.int32 if part == "logits" and integers else np.float32)


class Protocol:
    """One network's protocol, in one of the two forms.

    Args:
        network: the network.
        binary: the binary form.

    >>> from refdesign.api import pretrained
    >>> header = Protocol(pretrained("digits"), binary=False).header().decode().splitlines()
    >>> header[0], header[2], header[-2], header[-1]
    ('refdesign 1 text', 'input 8 8 1', 'output logits float32 10', 'start')
    """

    def __init__(self, network: NetworkData, *, binary: bool) -> None:
        self.network = network
        self.binary = binary
        self.outputs = comparable_outputs(network)
        self.types = {name: output_type(network, name) for name in self.outputs}
        self.sizes = {name: int(np.prod(expected_shape(network, name))) for name in self.outputs}

    def header(self) -> bytes:
        """The header."""
        lines = [
            f"refdesign 1 {'binary' if self.binary else 'text'}",
            f"network {' '.join(self.network.name.split())}",
            f"input {' '.join(str(extent) for extent in self.network.input_shape)}",
        ]
        for name in self.outputs:
            shape = " ".join(str(extent) for extent in expected_shape(self.network, name))
            lines.append(f"output {name} {self.types[name]} {shape}")
        return ("\n".join([*lines, "start"]) + "\n").encode()

    def case(self, number: int, image: NDArray[np.uint8]) -> bytes:
        """One case as it is written."""
        if self.binary:
            return struct.pack("<I", number) + image.tobytes()
        return f"{number} {' '.join(map(str, image.ravel().tolist()))}\n".encode()

    def events(self, stream: BinaryIO) -> Iterator[Event]:
        """What is read, until the end of the stream; after garbage in the binary form nothing more can be read."""
        return self._records(stream) if self.binary else self._lines(stream)

    def _lines(self, stream: BinaryIO) -> Iterator[Event]:
        while line := stream.readline(_LONGEST_LINE):
            text = line.decode("ascii", errors="replace").strip()
            if text and not text.startswith("#"):
                yield self._line(text)

    def _line(self, text: str) -> Event:
        number, _, rest = text.partition(" ")
        output, _, values = rest.strip().partition(" ")
        if not (number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER):
            return Event(garbage=f"found {text[:60]!r}, expected 'CASE OUTPUT VALUES' or 'CASE end'")
        if output == "end":
            return Event(int(number))
        if output not in self.types:
            return Event(garbage=f"found {text[:60]!r}, expected one of the header's outputs after the case")
        try:
            return Event(int(number), output, self._values(values.split(), self.types[output]))
        except (ValueError, OverflowError) as error:
            return Event(garbage=f"{output} of case {number}: {error}")

    def _values(self, tokens: list[str], dtype: np.dtype[Any]) -> NDArray[Any]:
        numbers = np.array([float.fromhex(token) if "x" in token or "X" in token else float(token) for token in tokens])
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return numbers.astype(dtype)
        return numbers  # float64 holds every int32, and whatever else was written

    def _records(self, stream: BinaryIO) -> Iterator[Event]:
        while head := stream.read(8):
            if len(head) < 8:
                yield Event(garbage=f"the stream ends within a record's head ({len(head)} of 8 octets)")
                return
            case, place = struct.unpack("<II", head)
            if place == END:
                yield Event(case)
                continue
            if place >= len(self.outputs):
                yield Event(garbage=f"found output {place} of case {case}, expected below {len(self.outputs)}")
                return
            name = self.outputs[place]
            wanted = self.sizes[name] * self.types[name].itemsize
            payload = stream.read(wanted)
            if len(payload) < wanted:
                yield Event(garbage=f"{name} of case {case}: found {len(payload)} octets, expected {wanted}")
                return
            yield Event(case, name, np.frombuffer(payload, self.types[name].newbyteorder("<")))


def check_command(command: list[str]) -> None:
    """Refuse an empty command."""
    if not command:
        raise RefdesignError("--pipe: found an empty command, expected a program and its arguments")
