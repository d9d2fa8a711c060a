"""Files in the project's own format with parts of their contents changed, and the checksum made right again."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from refdesign.formats import native

Tensors = dict[str, NDArray[Any]]

JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 65_535, 65_536, 2**31 - 1, 2**31, 2**63, -(2**63), 10**40, 0.0, -0.0, 1.5,
    1e-320, 1e308, "", "x", "first", "second", "bits", "zeros", "\x00", "\ud800", [], [1], [1, 1], [0, 0], [2, 2, 2],
    [65_535, 65_535], [[]], {}, {"bits": [1]}, {"float32": [4]}, {"int32": [1, 1, 1, 1]}, {"bits": []}, {"kind": "x"},
]  # fmt: skip


def mutate_native(rng: random.Random, data: bytes) -> bytes:
    """A network file with a few fields or tensors changed, whose checksum is right: every check of fields is met.

    >>> from refdesign.api import pretrained
    >>> good = native.to_bytes(pretrained("digits-sign"))
    >>> mutate_native(random.Random(1), good) != good
    True
    """
    plain, tensors = plain_and_tensors(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.7:
            mutate_plain(rng, plain)
        else:
            mutate_tensors(rng, tensors)
    return with_checksum(plain, tensors)


def plain_and_tensors(data: bytes) -> tuple[Any, Tensors]:
    """A file's fields, as JSON has them, and its tensors."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["refdesign"])["network"], safetensors.numpy.load(data)


def with_checksum(plain: Any, arrays: Tensors) -> bytes:
    """The file of these fields and tensors."""
    stored = native.stored_tensors(safetensors.numpy.save(arrays))
    checksum = native.checksum(plain, stored)
    document = {"format": "refdesign-network", "version": 1, "checksum": checksum, "network": plain}
    return safetensors.numpy.save(arrays, {"refdesign": json.dumps(document)})


def mutate_plain(rng: random.Random, plain: Any) -> None:
    """Change one place of the fields: another value, one less, one twice, two exchanged, another name."""
    container, key = rng.choice(places(plain))
    value = container[key]
    change = rng.randrange(7)
    if change == 0:
        del container[key]
    elif change == 1 and isinstance(container, list):
        container.insert(key, copy.deepcopy(value))
    elif change == 2:
        other, place = rng.choice(places(plain))
        container[key] = copy.deepcopy(other[place])
    elif change == 3 and isinstance(container, dict):
        container[rng.choice(("x", "bits", "levels", "weights", "\ud800"))] = container.pop(key)
    elif change == 4 and type(value) is int:
        container[key] = value + rng.choice((-1, 1, 2**16, -(2**31)))
    elif change == 5 and isinstance(value, float):
        container[key] = -value
    else:
        container[key] = copy.deepcopy(rng.choice(JUNK))


def places(plain: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it."""
    found: list[tuple[Any, Any]] = []
    entries: list[tuple[Any, Any]] = []
    if isinstance(plain, dict):
        entries = list(plain.items())
    elif isinstance(plain, list):
        entries = list(enumerate(plain))
    for key, value in entries:
        found.append((plain, key))
        found += places(value)
    return found or [({"nothing": 0}, "nothing")]


def mutate_tensors(rng: random.Random, arrays: Tensors) -> None:
    """Change one tensor: dtype, shape, values, name, or whether it is there."""
    if not arrays:
        arrays["x"] = np.zeros(3, np.float32)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    changes: list[Callable[[], Any]] = [
        lambda: arrays.pop(name),
        lambda: arrays.update({rng.choice(("x", "first.weights", "first.batch_norm.c", "")): array}),
        lambda: arrays.update({name: array.reshape(-1, 1)}),
        lambda: arrays.update({name: array.ravel()[: rng.randrange(array.size + 1)]}),
        lambda: arrays.update({name: np.frombuffer(rng.randbytes(array.nbytes), array.dtype).reshape(array.shape)}),
        lambda: arrays.update({name: np.frombuffer(array.tobytes(), np.uint8)}),
        lambda: arrays.update({name: np.full_like(array, rng.choice((0, 1, 127)))}),
        lambda: arrays.update({name: np.full(array.shape, rng.choice((np.nan, np.inf, -1.0)), np.float32)}),
        lambda: arrays.update({name: np.full(array.shape, 2**62, np.int64)}),
        lambda: arrays.update({name: np.full(array.shape, -(2**31), np.int32)}),
        lambda: arrays.update({name: np.array(1, array.dtype)}),
        lambda: arrays.update({name: array.astype(np.float64)}),
    ]
    with np.errstate(invalid="ignore"):  # random bytes can be signalling NaNs
        rng.choice(changes)()
