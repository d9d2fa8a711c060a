"""The compiled loops on large layers, the machine's vector popcount, and what is said where Numba is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from llvmlite import binding

from refdesign.bits import PackedBits, pack_bool, unpack
from refdesign.conventions import Conventions
from refdesign.fold import fold
from refdesign.frameworks.numba import kernels
from refdesign.frameworks.numba.layers import PackedConv, PackedDense
from refdesign.frameworks.numba.thresholds import Decision
from refdesign.network import BinaryConv2d, MaxPool
from refdesign.ops.conv import binary_conv2d
from refdesign.ops.dense import binary_dense
from refdesign.ops.pool import max_pool2d
from refdesign.parameters import BatchNorm, ThresholdKernel
from tests.shared_data import CHECKOUT


def random_bits(rng: np.random.Generator, shape: tuple[int, ...], *, ternary: bool = False) -> PackedBits:
    words = pack_bool(rng.random(shape) < 0.5)
    if not ternary:
        return words
    nonzero = pack_bool(rng.random(shape) < 0.7).words
    return PackedBits(words.words & nonzero, words.length, nonzero)


def random_batch_norm(rng: np.random.Generator, channels: int, fan_in: int) -> BatchNorm:
    gamma, beta, mean, variance = rng.normal(size=(4, channels)).astype(np.float32)
    return BatchNorm(gamma, beta, 3 * mean, fan_in * (1 + variance**2), 1e-4)


@pytest.mark.parametrize("ternary", [False, True], ids=["binary", "ternary"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "extent"),
    [(130, 150, 1, (5, 9)), (70, 330, 1, (3, 2)), (96, 129, 3, (6, 7)), (60, 45, 5, (2, 11)), (9, 450, 9, (4, 6))],
)
def test_wide_layers(inputs: int, outputs: int, groups: int, extent: tuple[int, int], ternary: bool) -> None:
    """Channels that fill several words and blocks, split over threads or not, few or many to a group."""
    rng = np.random.default_rng(inputs)
    weights = random_bits(rng, (outputs, 3, 2, inputs // groups))
    x = random_bits(rng, (3, *extent, inputs), ternary=ternary)
    geometry: dict[str, Any] = {"stride": (1, 2), "padding": (1, 2), "padding_mode": "zeros", "dilation": (1, 1)}
    layer = BinaryConv2d(name="c", weights=weights, groups=groups, **geometry)
    convolve = PackedConv(layer, weights, extent)
    expected = binary_conv2d(x, weights, groups=groups, **geometry)
    np.testing.assert_array_equal(convolve(x), expected, strict=True)
    for some in (PackedBits(x.words[:1], x.length, None if x.nonzero is None else x.nonzero[:1]), x):
        for sign_at_zero in (1, 0):
            thresholds = fold(
                random_batch_norm(rng, outputs, layer.fan_in),
                ThresholdKernel(rng.integers(-2, 3, (2, 3, 1)).astype(np.float32)),
                fan_in=layer.fan_in,
                conventions=Conventions(sign_at_zero=sign_at_zero),
            )
            pool = MaxPool(size=(2, 1), stride=(1, 2))
            values = expected[: len(some.words)]
            for chosen, kept in ((None, values), (pool, max_pool2d(values, pool.size, pool.stride))):
                found = convolve.bits(some, Decision(thresholds), chosen)
                np.testing.assert_array_equal(unpack(found), unpack(thresholds.apply(kept)), strict=True)
            np.testing.assert_array_equal(
                unpack(Decision(thresholds).apply(values)), unpack(thresholds.apply(values)), strict=True
            )


@pytest.mark.parametrize("ternary", [False, True], ids=["binary", "ternary"])
@pytest.mark.parametrize("count", [1, 2, 8, 13])
def test_dense_layers(count: int, ternary: bool) -> None:
    rng = np.random.default_rng(count)
    weights, x = random_bits(rng, (331, 200)), random_bits(rng, (count, 200), ternary=ternary)
    layer = PackedDense(weights)
    expected = binary_dense(x, weights)
    np.testing.assert_array_equal(layer(x), expected, strict=True)
    thresholds = fold(random_batch_norm(rng, 331, 200), None, fan_in=200, conventions=Conventions(sign_at_zero=0))
    found = layer.bits(x, Decision(thresholds))
    np.testing.assert_array_equal(unpack(found), unpack(thresholds.apply(expected)), strict=True)


def test_any_number_of_threads_gives_the_same() -> None:
    rng = np.random.default_rng(8)
    weights, x = random_bits(rng, (150, 3, 3, 70)), random_bits(rng, (2, 5, 6, 70))
    layer = BinaryConv2d(name="c", weights=weights, padding=(1, 1), padding_mode="symmetric")
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = PackedConv(layer, weights, (5, 6))(x)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(PackedConv(layer, weights, (5, 6))(x), alone, strict=True)


@pytest.mark.skipif(
    not binding.get_host_cpu_features().get("avx512vpopcntdq"), reason="needs AVX-512's vector popcount"
)
def test_the_machines_vector_popcount_is_used(tmp_path: Path) -> None:
    code = (
        "import numpy as np; from refdesign.bits import pack_bool; from refdesign.network import BinaryConv2d\n"
        "from refdesign.frameworks.numba import kernels; from refdesign.frameworks.numba.layers import PackedConv\n"
        "w = pack_bool(np.ones((16, 1, 1, 70), np.bool_))\n"
        "PackedConv(BinaryConv2d(name='c', weights=w), w, (1, 5))(pack_bool(np.ones((1, 1, 5, 70), np.bool_)))\n"
        "print('vpopcntq' in ''.join(kernels.accumulators.inspect_asm().values()))"
    )
    # What comes out of Numba's cache has no assembly to look at: an empty one has it compiled.
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["True"]


def test_pixels_beyond_a_word_of_channels() -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (2, 3, 4, 130), dtype=np.uint8)
    sources = np.array([-1, 0, 1, 2]), np.array([0, 3, -1])
    planes = kernels.pixel_planes(pixels, *sources, 65)
    values = sum(
        (unpack(PackedBits(np.ascontiguousarray(planes[:, plane, ..., :2]), 65)) > 0).astype(np.int64) << (7 - plane)
        for plane in range(8)
    )
    np.testing.assert_array_equal(values[:, 1:, :2], pixels[:, :3][:, :, [0, 3], :65])  # type: ignore[index]
    assert not planes[:, :, 0].any()
    assert not planes[:, :, :, 2].any()


def test_without_numba_the_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['numba'] = None; import refdesign.frameworks.numba"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert 'numba is not installed; it comes with: pip install "refdesign[numba]"' in result.stderr.splitlines()[-1]
