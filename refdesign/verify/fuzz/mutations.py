"""Files changed: bytes anywhere, the members of an archive, the places of a JSON document, a safetensors header.

A changed byte in an archive is found by its checksum; so members are changed and packed again, JSON is changed place by
place, and only then bytes anywhere.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Mapping
from typing import Any


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, taken out, doubled or put in.

    >>> mutate_bytes(random.Random(1), b"abc") != b"abc"
    True
    """
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed) or 1)
        size = rng.choice((1, 2, 8, 100))
        kind = rng.randrange(5)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + 1] = bytes([rng.choice((0, 1, 127, 128, 255))])
        elif kind == 2:
            del changed[at : at + size]
        elif kind == 3:
            changed[at:at] = changed[at : at + size]
        else:
            changed[at:at] = rng.randbytes(size)
    return bytes(changed)


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip archive of members that are not packed.

    >>> zipped({"a": b"1"})[:2]
    b'PK'
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def mutate_archive(rng: random.Random, data: bytes) -> bytes:
    """A member changed and the archive packed again, its checksums right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([*members, *(n for n in members if n.endswith((".pkl", ".json", ".h5"))) ] * 2)  # fmt: skip
    kind = rng.randrange(10)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[rng.choice(("net/data/0", "../x", "config.json", "values.npy"))] = members.pop(name)
    elif name.endswith(".json") and kind < 8:
        members[name] = mutate_json(rng, members[name])
    else:
        members[name] = mutate_bytes(rng, members[name])
    return zipped(members)


def mutate_header(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file whose header is changed place by place."""
    size = int.from_bytes(data[:8], "little")
    header = mutate_json(rng, data[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


_JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 65_535, 65_536, 2**31, 2**63, -(2**63), 10**40, 0.0, -0.0, 1.5, 1e308, "",
    "x", "same", "valid", "float16", "Dense", "ste_sign", "conv1", "\x00", "\ud800", [], [1], [1, 1], [0, 0], [2, 2, 2],
    [[]], {}, {"class_name": "DoReFa", "config": {}}, [[[["x", 0, 0]]]], [65_535, 65_535],
)  # fmt: skip


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """A few places of a JSON document changed: other values, exchanged, taken out, doubled, renamed.

    >>> mutate_json(random.Random(1), b'{"a": [1, 2]}') != b'{"a": [1, 2]}'
    True
    """
    plain = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        container, key = rng.choice(_places(plain))
        kind = rng.randrange(5)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.insert(key, json.loads(json.dumps(container[key])))
        elif kind == 2 and isinstance(container, dict):
            container[rng.choice(("x", "name", "config", "weights"))] = container.pop(key)
        elif kind == 3:
            other, place = rng.choice(_places(plain))
            container[key] = json.loads(json.dumps(other[place]))
        else:
            container[key] = json.loads(json.dumps(rng.choice(_JUNK)))
    return json.dumps(plain).encode()


def _places(plain: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it."""
    found: list[tuple[Any, Any]] = []
    entries = list(plain.items()) if isinstance(plain, dict) else list(enumerate(plain))
    for key, value in entries:
        found.append((plain, key))
        if isinstance(value, (dict, list)) and value:
            found += _places(value)
    return found or [({"nothing": 0}, "nothing")]
