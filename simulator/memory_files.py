"""Memory images as files: $readmemh, $readmemb, .coe (Xilinx), .mif (Altera), .npy; one bank a file, read back checked.

Words are the hardware's own, whatever a network's export conventions say: bit 1 is +1, lane s is bit s of a weight
word; a threshold word is {flip, limit}, flip on top. `.npy` keeps all banks in one file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from simulator.memory import StageMemory, join_words
from simulator.stage import StageSchedule

FORMATS = ("readmemh", "readmemb", "coe", "mif", "npy")
"""The formats by name."""

_ENDINGS = {"readmemh": "hex", "readmemb": "bin", "coe": "coe", "mif": "mif", "npy": "npy"}
MANIFEST = "memories.json"
"""The file that says which image is which."""


@dataclass(frozen=True)
class Bank:
    """The words of one memory: `depth` integers of `width` bits.

    >>> Bank(3, (5, 7)).depth
    2
    """

    width: int
    words: tuple[int, ...]

    @property
    def depth(self) -> int:
        """The number of words."""
        return len(self.words)


def format_bank(bank: Bank, form: str) -> str:
    """The text of an image; not for `"npy"`.

    >>> print(format_bank(Bank(5, (1, 31)), "coe"))
    memory_initialization_radix=16;
    memory_initialization_vector=
    01,
    1f;
    """
    hexadecimal = [format(word, f"0{-(-bank.width // 4)}x") for word in bank.words]
    if form == "readmemh":
        return "\n".join([f"// depth {bank.depth}, width {bank.width}", *hexadecimal])
    if form == "readmemb":
        binary = [format(word, f"0{bank.width}b") for word in bank.words]
        return "\n".join([f"// depth {bank.depth}, width {bank.width}", *binary])
    if form == "coe":
        return "memory_initialization_radix=16;\nmemory_initialization_vector=\n" + ",\n".join(hexadecimal) + ";"
    if form == "mif":
        head = [f"DEPTH = {bank.depth};", f"WIDTH = {bank.width};", "ADDRESS_RADIX = HEX;", "DATA_RADIX = HEX;"]
        lines = [f"{address:x} : {word};" for address, word in enumerate(hexadecimal)]
        return "\n".join([*head, "CONTENT BEGIN", *lines, "END;"])
    raise RefdesignError(f"memory image, format: found {form!r}, expected one of {', '.join(FORMATS)}")


def parse_bank(text: str, form: str, depth: int, width: int, source: str = "memory image") -> Bank:
    """The inverse of `format_bank`, checked against the memory that the image is for.

    Args:
        text: the image.
        form: its format.
        depth, width: of the memory.
        source: the file's name, for errors.

    Raises:
        RefdesignError: another number of words, words of another width, or text that is none of the format.

    >>> parse_bank("@1 f\\n@0 0_1 // one", "readmemh", 2, 4)
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: memory image: found a word of 2 digits ('01'), expected 1 (4 bits)
    """
    parsers: dict[str, Callable[[str, str, int, int], dict[int, int]]] = {
        "readmemh": lambda *given: _readmem(*given, radix=16),
        "readmemb": lambda *given: _readmem(*given, radix=2),
        "coe": _coe,
        "mif": _mif,
    }
    if form not in parsers:
        raise RefdesignError(f"memory image, format: found {form!r}, expected one of {', '.join(FORMATS)}")
    words = parsers[form](text, source, depth, width)
    if len(words) != depth or set(words) != set(range(depth)):
        raise RefdesignError(f"{source}: found {len(words)} words, expected {depth} (the memory's depth)")
    return Bank(width, tuple(words[address] for address in range(depth)))


def _number(digits: str, radix: int, width: int, source: str) -> int:
    per_digit = {2: 1, 16: 4}[radix]
    expected = -(-width // per_digit)
    if len(digits) != expected:
        raise RefdesignError(
            f"{source}: found a word of {len(digits)} digits ({digits[:24]!r}), expected {expected} ({width} bits)"
        )
    try:
        value = int(digits, radix)
    except ValueError:
        raise RefdesignError(f"{source}: found {digits[:24]!r}, expected digits to the base {radix}") from None
    if value >> width:
        raise RefdesignError(f"{source}: found the word {digits!r}, expected {width} bits")
    return value


def _readmem(text: str, source: str, depth: int, width: int, *, radix: int) -> dict[int, int]:
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    words: dict[int, int] = {}
    address = 0
    for token in plain.split():
        if token.startswith("@"):
            address = _address(token[1:], 16, source)
            continue
        if address in words:
            raise RefdesignError(f"{source}: found address {address} twice")
        words[address] = _number(token.replace("_", ""), radix, width, source)
        address += 1
    return words


def _address(text: str, radix: int, source: str) -> int:
    if not re.fullmatch("[0-9a-fA-F]+" if radix == 16 else "[0-9]+", text):
        raise RefdesignError(f"{source}: found the address {text[:24]!r}, expected digits")
    return int(text, radix)


def _coe(text: str, source: str, depth: int, width: int) -> dict[int, int]:
    statement = r"\s*memory_initialization_radix\s*=\s*(\d+)\s*;\s*memory_initialization_vector\s*=([^;]*);\s*"
    found = re.fullmatch(statement, re.sub(r"^\s*;[^\n]*$", "", text, flags=re.MULTILINE), re.IGNORECASE)
    if not found or found[1] not in ("2", "16"):
        raise RefdesignError(f"{source}: found no .coe with a radix of 2 or 16 and a vector")
    tokens = [token for token in re.split(r"[\s,]+", found[2]) if token]
    return {place: _number(token, int(found[1]), width, source) for place, token in enumerate(tokens)}


def _mif(text: str, source: str, depth: int, width: int) -> dict[int, int]:
    plain = re.sub(r"--[^\n]*|%[^%]*%", " ", text)
    head, begin, rest = re.sub(r"\s+", " ", plain).partition("CONTENT BEGIN")
    settings = {name.strip().upper(): value.strip() for name, _, value in (s.partition("=") for s in head.split(";"))}
    for name, expected in (("DEPTH", depth), ("WIDTH", width)):
        if settings.get(name) != str(expected):
            raise RefdesignError(f"{source}, {name}: found {settings.get(name)}, expected {expected}")
    radixes = {"HEX": 16, "BIN": 2}
    radix = radixes.get(settings.get("DATA_RADIX", ""))
    if not begin or radix is None or settings.get("ADDRESS_RADIX") != "HEX":
        raise RefdesignError(f"{source}: found no .mif with hexadecimal addresses, hexadecimal or binary data, CONTENT")
    body, end, _ = rest.partition("END;")
    if not end:
        raise RefdesignError(f"{source}: found no END;, expected it behind the content")
    words: dict[int, int] = {}
    for entry in filter(None, (part.strip() for part in body.split(";"))):
        place, colon, digits = (part.strip() for part in entry.partition(":"))
        if not colon:
            raise RefdesignError(f"{source}: found {entry[:24]!r}, expected ADDRESS : WORD")
        address = _address(place, 16, source)
        if address in words:
            raise RefdesignError(f"{source}: found address {address} twice")
        words[address] = _number(digits, radix, width, source)
    return words


def export(
    folder: str | PathLike[str],
    stages: Sequence[StageSchedule],
    memories: Sequence[StageMemory],
    form: str = "readmemh",
) -> list[Path]:
    """Write all memories of an accelerator into a folder, with a manifest, and read them back.

    Files are `<layer>_weights_pe<index>.<ending>` and `<layer>_thresholds_pe<index>.<ending>` (`.npy`: one file for all
    banks). The folder is made where it is missing.

    Returns:
        The files, the manifest last.

    Raises:
        RefdesignError: an unknown format, or a folder that cannot be written.
    """
    if form not in FORMATS:
        raise RefdesignError(f"memory image, format: found {form!r}, expected one of {', '.join(FORMATS)}")
    where = Path(folder)
    files: list[Path] = []
    manifest: dict[str, object] = {"format": form, "layers": {}}
    entries: dict[str, dict[str, dict[str, object]]] = {}
    try:
        where.mkdir(parents=True, exist_ok=True)
        for stage, memory in zip(stages, memories, strict=True):
            entries[stage.name] = {}
            for kind, banks in _banks(stage, memory).items():
                names = _names(stage.name, kind, len(banks), form)
                entries[stage.name][kind] = {"depth": banks[0].depth, "width": banks[0].width, "files": names}
                files += [where / name for name in names]
                if form == "npy":
                    np.save(where / names[0], _as_array(banks), allow_pickle=False)
                    continue
                for name, bank in zip(names, banks, strict=True):
                    (where / name).write_text(format_bank(bank, form) + "\n", encoding="ascii")
        manifest["layers"] = entries
        (where / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RefdesignError(f"{error.filename or where}: {error.strerror}") from None
    for read, memory in zip(load(where, stages, form), memories, strict=True):
        if not all(np.array_equal(getattr(read, name), getattr(memory, name)) for name in ("weights", "limit", "flip")):
            raise RefdesignError(f"{where}: what was read back differs from what was written")
    return [*files, where / MANIFEST]


def load(folder: str | PathLike[str], stages: Sequence[StageSchedule], form: str) -> tuple[StageMemory, ...]:
    """The memories that `export` wrote, checked against the accelerator that they are for.

    Raises:
        RefdesignError: a file that is missing, of another format, depth or width; names the file.
    """
    return tuple(_load_stage(Path(folder), stage, form) for stage in stages)


def _load_stage(folder: Path, stage: StageSchedule, form: str) -> StageMemory:
    m, n = stage.period
    config = stage.config
    depths = {"weights": stage.channel_folds * stage.taps * stage.input_folds}
    widths = {"weights": config.simd, "thresholds": config.threshold_width + 1}
    if stage.thresholds is not None:
        depths["thresholds"] = stage.channel_folds * m * n
    banks: dict[str, list[Bank]] = {}
    for kind, depth in depths.items():
        files = [folder / name for name in _names(stage.name, kind, config.pe, form)]
        if form == "npy":
            banks[kind] = _from_array(files[0], config.pe, depth, widths[kind])
            continue
        banks[kind] = []
        for file in files:
            try:
                text = file.read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "found no ASCII text"
                raise RefdesignError(f"{file}: {why}") from None
            banks[kind].append(parse_bank(text, form, depth, widths[kind], str(file)))
    words = -(-config.simd // 64)
    weights = np.array([[_split(word, words) for word in bank.words] for bank in banks["weights"]], dtype=np.uint64)
    limit = np.empty((config.pe, 0), dtype=np.int64)
    flip = np.empty((config.pe, 0), dtype=np.bool_)
    if "thresholds" in banks:
        bits = config.threshold_width
        low = [[word & ((1 << bits) - 1) for word in bank.words] for bank in banks["thresholds"]]
        limit = np.array([[word - (word >> bits - 1 << bits) for word in row] for row in low], dtype=np.int64)
        flip = np.array([[bool(word >> bits) for word in bank.words] for bank in banks["thresholds"]], dtype=np.bool_)
    return StageMemory(weights=weights, limit=limit, flip=flip)


def _banks(stage: StageSchedule, memory: StageMemory) -> dict[str, list[Bank]]:
    config = stage.config
    banks = {"weights": [Bank(config.simd, tuple(join_words(word) for word in bank)) for bank in memory.weights]}
    if memory.limit.size:
        bits = config.threshold_width
        banks["thresholds"] = [
            Bank(
                bits + 1,
                tuple(
                    int(flip) << bits | limit & ((1 << bits) - 1)
                    for limit, flip in zip(limits.tolist(), flips.tolist(), strict=True)
                ),
            )
            for limits, flips in zip(memory.limit, memory.flip, strict=True)
        ]
    return banks


def _names(layer: str, kind: str, banks: int, form: str) -> list[str]:
    stem = f"{re.sub(r'[^A-Za-z0-9_-]', '_', layer)}_{kind}"
    if form == "npy":
        return [f"{stem}.npy"]
    return [f"{stem}_pe{index}.{_ENDINGS[form]}" for index in range(banks)]


def _split(word: int, words: int) -> list[int]:
    return [word >> 64 * index & (1 << 64) - 1 for index in range(words)]


def _as_array(banks: Sequence[Bank]) -> NDArray[np.uint64]:
    words = -(-banks[0].width // 64)
    return np.array([[_split(word, words) for word in bank.words] for bank in banks], dtype=np.uint64)


def _from_array(file: Path, pe: int, depth: int, width: int) -> list[Bank]:
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise RefdesignError(f"{file}: {error.strerror or 'found no .npy file'}") from None
    except (ValueError, EOFError) as error:
        raise RefdesignError(f"{file}: found no .npy file ({error})") from None
    expected = (pe, depth, -(-width // 64))
    if not isinstance(array, np.ndarray) or array.dtype != np.uint64 or array.shape != expected:
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise RefdesignError(f"{file}: found {found}, expected uint64 of shape {expected} (banks, depth, words)")
    banks = [Bank(width, tuple(join_words(word) for word in bank)) for bank in array]
    if any(word >> width for bank in banks for word in bank.words):
        raise RefdesignError(f"{file}: found a word beyond {width} bits")
    return banks
