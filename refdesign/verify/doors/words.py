"""Words of memories and streams: `$readmemh` hex and raw binary, with elements packed into words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError

UNDEFINED = np.iinfo(np.int64).min
"""What stands for an element with undefined bits; no output has this value."""

LARGEST_WORD = 1 << 20
"""Bits of a word."""

_UNKNOWN = re.compile("[xXzZ?]")
_COMMENT = re.compile(r"//|/\*")
_LONGEST_LINE = 1 << 24
_HEX = re.compile("[0-9a-fA-FxXzZ?_]+")


@dataclass(frozen=True, kw_only=True)
class WordFormat:
    """How elements are packed into words.

    Attributes:
        word_bits: bits of a word.
        element_bits: bits of an element, at most 64.
        kind: `"bits"` (1 bit, -1 or +1), `"signed"` (two's complement), `"unsigned"`, or `"float32"`.
        bit_order: `"little"`: the first element is in the lowest bits.
        word_order: `"little"`: the first word holds the first elements.
        bit_one: what a 1 bit means.
    """

    word_bits: int = 64
    element_bits: int = 1
    kind: str = "bits"
    bit_order: str = "little"
    word_order: str = "little"
    bit_one: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.element_bits <= min(64, self.word_bits) or self.word_bits > LARGEST_WORD:
            raise RefdesignError(
                f"words: found element_bits = {self.element_bits} and word_bits = {self.word_bits}, "
                f"expected elements of 1 to 64 bits that fit into a word of at most {LARGEST_WORD}"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                expected = ", ".join(str(choice) for choice in choices)
                raise RefdesignError(f"words, {name}: found {getattr(self, name)!r}, expected one of {expected}")
        for kind, bits in (("bits", 1), ("float32", 32)):
            if self.kind == kind and self.element_bits != bits:
                raise RefdesignError(f"words, element_bits: found {self.element_bits}, expected {bits} for {kind}")

    @property
    def per_word(self) -> int:
        """Elements in a word."""
        return self.word_bits // self.element_bits

    def words(self, elements: int) -> int:
        """Words that hold a row of elements; each row starts a new word."""
        return -(-elements // self.per_word)

    def decode(self, words: list[int], unknown: list[int], row: int) -> NDArray[Any]:
        """The elements of words; `unknown` marks undefined bits; rows of `row` elements start new words.

        >>> WordFormat(word_bits=8).decode([0b1011], [0b0100], 4)
        array([                   1,                    1, -9223372036854775808,
                                  1])
        """
        size = -(-self.word_bits // 8)
        values = self._elements(words, size, row)
        masks = self._elements(unknown, size, row) if any(unknown) else None
        if self.kind == "bits":
            found = np.where(values != 0, self.bit_one, -self.bit_one).astype(np.int64)
        elif self.kind == "signed":
            shift = np.uint64(64 - self.element_bits)
            found = (values << shift).view(np.int64) >> np.int64(64 - self.element_bits)
        elif self.kind == "float32":
            floats = values.astype(np.uint32).view(np.float32)
            return floats if masks is None else np.where(masks != 0, np.float32(np.nan), floats)
        else:
            found = values.view(np.int64)
        return found if masks is None else np.where(masks != 0, UNDEFINED, found)

    def _elements(self, words: list[int], size: int, row: int) -> NDArray[np.uint64]:
        octets = np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), np.uint8)
        bits = np.unpackbits(octets.reshape(len(words), size), axis=1, bitorder="little")
        bits = bits[:, : self.per_word * self.element_bits].reshape(len(words), self.per_word, self.element_bits)
        weights = np.uint64(1) << np.arange(self.element_bits, dtype=np.uint64)
        elements = (bits.astype(np.uint64) * weights).sum(axis=2, dtype=np.uint64)
        if self.bit_order == "big":
            elements = elements[:, ::-1]
        rows = elements.reshape(-1, self.words(row), self.per_word)
        if self.word_order == "big":
            rows = rows[:, ::-1]
        return np.ascontiguousarray(rows.reshape(len(rows), -1)[:, :row]).reshape(-1)

    def encode(self, array: NDArray[Any]) -> list[int]:
        """Words of an array's elements, the last axis packed; the inverse of `decode` (`unsigned` as `signed`).

        >>> [hex(word) for word in WordFormat(word_bits=8).encode(np.array([[1, 1, -1, 1]]))]
        ['0xb']
        """
        rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1])
        if self.kind == "bits":
            values = (rows == self.bit_one).astype(np.uint64)
        elif self.kind == "float32":
            values = rows.astype(np.float32).view(np.uint32).astype(np.uint64)
        else:
            values = rows.astype(np.int64).view(np.uint64) & np.uint64((1 << self.element_bits) - 1)
        padded = np.zeros((len(rows), self.words(rows.shape[1]) * self.per_word), np.uint64)
        padded[:, : rows.shape[1]] = values
        words = padded.reshape(len(rows), -1, self.per_word)
        words = words[:, ::-1] if self.word_order == "big" else words
        words = words[:, :, ::-1] if self.bit_order == "big" else words
        weights = [1 << (self.element_bits * place) for place in range(self.per_word)]
        return [
            sum(int(v) * w for v, w in zip(word, weights, strict=True))
            for word in words.reshape(-1, self.per_word).tolist()
        ]


_CHOICES: dict[str, tuple[object, ...]] = {
    "kind": ("bits", "signed", "unsigned", "float32"),
    "bit_order": ("little", "big"),
    "word_order": ("little", "big"),
    "bit_one": (1, -1),
}


@dataclass(frozen=True)
class Word:
    """One word of a file: its value, which bits are undefined, and the line."""

    value: int
    unknown: int
    line: int


def read_hex(path: Path, word_bits: int) -> Iterator[Word]:
    """The words of a `$readmemh` file: comments, underscores, X and Z, and addresses that go on in order.

    Raises:
        RefdesignError: something else in it, a word that is too wide, or an address out of order.
    """
    comment, address = False, 0
    with path.open(encoding="ascii", errors="replace") as stream:
        for number, line in enumerate(iter(partial(stream.readline, _LONGEST_LINE), ""), 1):
            if len(line) == _LONGEST_LINE:
                raise RefdesignError(f"{path}, line {number}: found {len(line)} characters or more, expected fewer")
            text, comment = _without_comments(line, comment)
            for token in text.split():
                if token.startswith("@"):
                    if token[1:].replace("_", "") != "" and _is_hex(token[1:]) and int(token[1:], 16) == address:
                        continue
                    raise RefdesignError(f"{path}, line {number}: found {token}, expected the address @{address:x}")
                if _HEX.fullmatch(token) is None:
                    raise RefdesignError(f"{path}, line {number}: found {token[:20]!r}, expected hexadecimal digits")
                digits = token.replace("_", "")
                value = int(_UNKNOWN.sub("0", digits) or "0", 16)
                unknown = int("".join("f" if _UNKNOWN.match(digit) else "0" for digit in digits) or "0", 16)
                if (value | (unknown & ((1 << word_bits) - 1))) >> word_bits:
                    raise RefdesignError(f"{path}, line {number}: found {token[:20]}, expected {word_bits} bits")
                address += 1
                yield Word(value, unknown & ((1 << word_bits) - 1), number)


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdefABCDEF_" for digit in text)


def _without_comments(line: str, inside: bool) -> tuple[str, bool]:
    kept: list[str] = []
    at = 0
    while True:
        if inside:
            end = line.find("*/", at)
            if end < 0:
                return " ".join(kept), True
            at, inside = end + 2, False
        comment = _COMMENT.search(line, at)
        kept.append(line[at : comment.start() if comment else None])
        if comment is None or comment[0] == "//":
            return " ".join(kept), False
        at, inside = comment.end(), True


def read_raw(path: Path, word_bits: int, byte_order: Literal["little", "big"]) -> Iterator[Word]:
    """The words of a raw file, each in whole octets.

    Raises:
        RefdesignError: the file ends within a word.
    """
    size = -(-word_bits // 8)
    with path.open("rb") as stream:
        number = 0
        while octets := stream.read(size):
            number += 1
            if len(octets) < size:
                raise RefdesignError(f"{path}: found {len(octets)} octets in word {number}, expected {size}")
            yield Word(int.from_bytes(octets, byte_order) & ((1 << word_bits) - 1), 0, number)
