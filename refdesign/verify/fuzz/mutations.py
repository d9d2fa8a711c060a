"""Files changed: bytes anywhere, the members of an archive, the places of a JSON document, a safetensors header.

A changed byte in an archive is found by its checksum; so members are changed and packed again, JSON is changed place by
place, and only then bytes anywhere.
"""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
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


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of members, which are not packed unless a method of `zipfile` is given.

    >>> zipped({"a": b"1"})[:2]
    b'PK'
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()


Change = Callable[[random.Random, bytes], bytes]


def mutate_archive(rng: random.Random, data: bytes, inner: Mapping[str, Change] | None = None) -> bytes:
    """A member changed and the archive packed again, its checksums right; now and then also what it says of members.

    Args:
        rng: decides.
        data: a valid archive.
        inner: by the ending of a member's name, what changes its parts.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inner = inner or {}
    known = [name for name in members if name[name.rfind(".") :] in inner]
    name = rng.choice(known if known and rng.random() < 0.6 else [*members])
    kind = rng.randrange(10)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[rng.choice(("net/data/0", "../x", "config.json", "values.npy"))] = members.pop(name)
    else:
        parts = inner.get(name[name.rfind(".") :], mutate_bytes)
        members[name] = parts(rng, members[name]) if kind < 8 else mutate_bytes(rng, members[name])
    whole = zipped(members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)))
    return whole if rng.random() < 0.8 else _relisted(rng, whole)


def _relisted(rng: random.Random, archive: bytes) -> bytes:
    """An entry of an archive's list changed: its flags, method, checksum, sizes, or where its member is; or doubled."""
    entries = [match.start() for match in re.finditer(b"PK\x01\x02", archive)]
    if not entries:
        return archive
    at = rng.choice(entries)
    if rng.random() < 0.2:
        size = 46 + int.from_bytes(archive[at + 28 : at + 30], "little")
        ends = archive.rindex(b"PK\x05\x06")
        whole = bytearray(archive[:at] + archive[at : at + size] + archive[at:])
        for place, width, more in ((8, 2, 1), (10, 2, 1), (12, 4, size)):
            place += ends + size
            number = int.from_bytes(whole[place : place + width], "little") + more
            whole[place : place + width] = number.to_bytes(width, "little")
        return bytes(whole)
    place, width = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (42, 4)))
    value = rng.choice((0, 1, 8, 12, 99, 2**16 - 1, rng.randrange(len(archive)), 2**31, 2**32 - 1)) % (1 << 8 * width)
    return archive[: at + place] + value.to_bytes(width, "little") + archive[at + place + width :]


def mutate_numpy(rng: random.Random, data: bytes) -> bytes:
    """A file of one array whose header says something else of the same numbers, or is none."""
    descr = rng.choice(
        ("<f8", "<f4", "<f2", ">f8", "|f1", "|i1", "|u1", "<i8", "<u4", "|b1", "|O", "<c8", "<U2", "", "x")
    )
    extents = rng.choice(
        ("", "1", "2, 2", "2, 2, 4", "0, 2", "16", "-1, 2", "999999999", "0, 999999999, 999999999", "1" * 9)
    )
    order = rng.choice(("True", "False", "0"))
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': ({extents},), }}".replace("(,", "(")
    text = header.encode() + b" " * rng.randrange(3) + rng.choice((b"\n", b"\n", b""))
    kept = data[10 + int.from_bytes(data[8:10], "little") :] if rng.random() < 0.7 else bytes(rng.choice((0, 1, 8, 64)))
    return data[:8] + len(text).to_bytes(2, "little") + text + kept


def mutate_mat(rng: random.Random, data: bytes) -> bytes:
    """A MAT-file with a packed element's contents changed and packed again, or with types and lengths changed."""
    size = int.from_bytes(data[132:136], "little")
    packed = data[128:132] == bytes((15, 0, 0, 0))
    body = bytearray(zlib.decompress(data[136 : 136 + size]) if packed else data[128:])
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(max(1, len(body) // 4)) * 4
        number = rng.choice((0, 1, 2, 4, 5, 6, 9, 12, 14, 15, 64, 0x00040001, 0x0806, 0x0A06, 2**31 - 1, 2**32 - 1))
        if rng.random() < 0.7:
            body[at : at + 4] = number.to_bytes(4, "little")
        else:
            body = bytearray(mutate_bytes(rng, bytes(body))) or bytearray(4)
    if not packed:
        return data[:128] + bytes(body)
    again = zlib.compress(bytes(body))
    parts = [data[:128]]
    for _ in range(rng.choice((1, 1, 1, 2))):
        parts += [bytes((15, 0, 0, 0)), len(again).to_bytes(4, "little"), again]
    return b"".join(parts)


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
