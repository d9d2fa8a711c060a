"""The small file that maps foreign names and layouts to ours (TOML), for `--files` and for models of frameworks.

    [names]                             # foreign names: files, members of an archive, or places inside a model
    "conv1.bits" = "MultiThreshold_0_out0"

    [defaults]                          # for all outputs
    bit_order = "big"

    [outputs."conv1.bits"]              # for one output
    layout = "n c h w -> n h w c"

    [input]                             # how a model wants its images (--impl only)
    layout = "n c h w"
    dtype = "float32"
"""  # fmt: skip

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from refdesign.errors import RefdesignError
from refdesign.formats.files import naming, read_bytes
from refdesign.network import NetworkData
from refdesign.verify.implementation import comparable_outputs

WORD_KEYS = ("word_bits", "element_bits", "kind", "bit_order", "word_order", "bit_one")
"""The keys that say how elements are packed into words."""

TABLES = ("names", "defaults", "outputs", "input")
"""The tables of a map; each may be missing."""

INPUT_LAYOUTS = ("n h w c", "n c h w")
"""In which layouts a model can have its images."""

INPUT_TYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
"""And in which types."""

_LARGEST_MAP = 1 << 22
_KEYS = {"file", "key", "layout", "sizes", "byte_order", *WORD_KEYS}
_INPUT: dict[str, tuple[str, ...]] = {"layout": INPUT_LAYOUTS, "dtype": INPUT_TYPES}
_TYPES: dict[str, type] = {"sizes": dict, "word_bits": int, "element_bits": int, "bit_one": int}
_SAYS: dict[type, str] = {dict: "a table of positive integers", int: "an integer", str: "text"}

Map = dict[str, dict[str, Any]]


def read_map(path: Path | None, network: NetworkData) -> Map:
    """Read a map, with every one of its tables, empty where the file has none.

    Args:
        path: the TOML file; None: an empty map.
        network: gives the names of outputs.

    Raises:
        RefdesignError: the file cannot be read, or has a table, an output, a key or a value that there is not.

    >>> from refdesign.api import pretrained
    >>> read_map(None, pretrained("digits"))
    {'names': {}, 'defaults': {}, 'outputs': {}, 'input': {}}
    """
    tables: Map = {name: {} for name in TABLES}
    if path is None:
        return tables
    with naming(path):
        text = read_bytes(path, _LARGEST_MAP)
    try:
        tables |= tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise RefdesignError(f"{path}: cannot be read: {error}") from error
    if set(tables) != set(TABLES) or not all(isinstance(table, dict) for table in tables.values()):
        raise RefdesignError(f"{path}: found {', '.join(sorted(tables))}, expected the tables {', '.join(TABLES)}")
    for name in (*tables["names"], *tables["outputs"]):
        if name not in comparable_outputs(network):
            raise RefdesignError(f"{path}: found the output {name!r}, expected some of {comparable_outputs(network)}")
    for where, entry in (("defaults", tables["defaults"]), *tables["outputs"].items()):
        _check_entry(f"{path}, {where}", entry)
    for key, value in tables["input"].items():
        if key not in _INPUT or value not in _INPUT[key]:
            expected = ", ".join(_INPUT.get(key, tuple(_INPUT)))
            raise RefdesignError(f"{path}, input: found {key} = {value!r}, expected {expected}")
    for name, value in tables["names"].items():
        if not isinstance(value, str):
            raise RefdesignError(f"{path}, names, {name}: found {value!r}, expected text")
    return tables


def _check_entry(where: str, entry: object) -> None:
    if not isinstance(entry, dict):
        raise RefdesignError(f"{where}: found {entry!r}, expected {', '.join(sorted(_KEYS))}")
    for key, value in entry.items():
        if key not in _KEYS:
            raise RefdesignError(f"{where}: found {key!r}, expected {', '.join(sorted(_KEYS))}")
        wanted = _TYPES.get(key, str)
        fits = isinstance(value, wanted) and not isinstance(value, bool)
        if key == "sizes" and fits:
            fits = all(isinstance(size, int) and 0 < size < 1 << 31 for size in value.values())
        if not fits:
            raise RefdesignError(f"{where}, {key}: found {value!r}, expected {_SAYS[wanted]}")
