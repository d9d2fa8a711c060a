"""Mutated files: only ever a RefdesignError, or the network that was meant. A few thousand each, more when slow."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats import native
from refdesign.network import NetworkData
from tests.formats.networks import examples
from tests.formats.same import differences

Tensors = dict[str, NDArray[Any]]
COUNTS = [pytest.param(1_200, id="quick"), pytest.param(15_000, id="long", marks=pytest.mark.slow)]

JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 65_535, 65_536, 2**31 - 1, 2**31, 2**63, -(2**63), 10**40, 0.0, -0.0, 1.5,
    1e-320, 1e308, "", "x", "first", "second", "bits", "zeros", "\x00", "\ud800", [], [1], [1, 1], [0, 0], [2, 2, 2],
    [65_535, 65_535], [[]], {}, {"bits": [1]}, {"float32": [4]}, {"int32": [1, 1, 1, 1]}, {"bits": []}, {"kind": "x"},
]  # fmt: skip


def outcome(data: bytes) -> NetworkData | None:
    """What a file gives: a network, or None after a proper refusal. Anything else fails the test."""
    message = ""
    try:
        return native.from_bytes(data)
    except RefdesignError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("index", range(3))
def test_mutated_bytes(index: int, count: int) -> None:
    """Without a new checksum every change is found, unless it does not change what the file says."""
    network = examples()[index]
    good = native.to_bytes(network)
    header = 8 + int.from_bytes(good[:8], "little")
    rng = random.Random(f"bytes {index} {count}")
    refused = 0
    for _ in range(count):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            # Half of them in the header: there is more to break.
            at = rng.randrange(header if rng.random() < 0.5 else len(data))
            what = rng.randrange(5)
            if what == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif what == 1:
                data[at] = rng.choice(b'\x00\xff "\\{}[]0-9,:eN')
            elif what == 2:
                del data[at : at + rng.choice((1, 8, 100))]
            elif what == 3:
                data[at:at] = data[at : at + rng.choice((1, 8, 100))]
            else:
                data[at:at] = rng.randbytes(rng.choice((1, 8)))
        found = outcome(bytes(data))
        refused += found is None
        assert found is None or list(differences(found, network)) == []
    assert refused > 0.9 * count


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("index", range(3))
def test_mutated_contents_with_the_right_checksum(index: int, count: int) -> None:
    """Someone who edits a file and makes the checksum right still meets every check of the fields."""
    plain, tensors = plain_and_tensors(examples()[index])
    rng = random.Random(f"contents {index} {count}")
    refused = 0
    for _ in range(count):
        changed, arrays = copy.deepcopy(plain), dict(tensors)
        for _ in range(rng.choice((1, 1, 2, 4))):
            if rng.random() < 0.7:
                mutate_plain(rng, changed)
            else:
                mutate_tensors(rng, arrays)
        found = outcome(with_checksum(changed, arrays))
        refused += found is None
        if found is not None:
            assert list(differences(native.from_bytes(native.to_bytes(found)), found)) == []
    assert 0.5 * count < refused < count


def plain_and_tensors(network: NetworkData) -> tuple[Any, Tensors]:
    data = native.to_bytes(network)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["refdesign"])["network"], safetensors.numpy.load(data)


def with_checksum(plain: Any, arrays: Tensors) -> bytes:
    stored = native._tensors(safetensors.numpy.save(arrays))
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
