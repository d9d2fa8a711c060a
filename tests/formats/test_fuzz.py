"""Mutated files: only ever a RefdesignError, or the network that was meant. A few thousand each, more when slow."""

from __future__ import annotations

import random

import pytest

from refdesign.errors import RefdesignError
from refdesign.formats import native
from refdesign.network import NetworkData
from refdesign.verify.fuzz.native_mutations import mutate_native
from tests.formats.networks import examples
from tests.formats.same import differences

COUNTS = [pytest.param(1_200, id="quick"), pytest.param(15_000, id="long", marks=pytest.mark.slow)]


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
    good = native.to_bytes(examples()[index])
    rng = random.Random(f"contents {index} {count}")
    refused = 0
    for _ in range(count):
        found = outcome(mutate_native(rng, good))
        refused += found is None
        if found is not None:
            assert list(differences(native.from_bytes(native.to_bytes(found)), found)) == []
    assert 0.5 * count < refused < count
