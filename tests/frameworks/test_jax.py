"""JAX's float functions: their gradients, their float programs on all accumulators, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.bits import pack, unpack
from refdesign.conventions import PAPER, RELEASED_KERAS, RELEASED_TORCH, Conventions
from refdesign.errors import RefdesignError
from refdesign.fold import fold
from refdesign.frameworks.estimators import ESTIMATORS
from refdesign.frameworks.jax import layer_function, layers, packed
from refdesign.network import BinaryConv2d
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.conv import binary_conv2d
from refdesign.ops.dense import binary_dense
from refdesign.ops.sign import dithered_sign, sign
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify import strategies
from tests.frameworks import closed_forms
from tests.frameworks.closed_forms import NEAR_TIES, POINTS, ReleasedBlock
from tests.shared_data import CHECKOUT


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_the_estimators(estimator: str) -> None:
    z, weight = jnp.asarray(POINTS), jnp.arange(1, POINTS.size + 1, dtype=jnp.float32)
    expected = (np.asarray(weight) * closed_forms.ESTIMATORS[estimator](POINTS)).tolist()

    def loss(z: jax.Array) -> jax.Array:
        return (weight * layers.straight_through_sign(z, estimator)).sum()

    assert jax.grad(loss)(z).tolist() == expected
    assert jax.jit(jax.grad(loss))(z).tolist() == expected
    rows = jnp.stack([z, z + 8])
    assert jax.vmap(jax.grad(loss))(rows)[0].tolist() == expected
    assert jax.jacfwd(loss)(z).tolist() == expected


@pytest.mark.parametrize("conventions", [*(PAPER.replace(sign_at_zero=tie) for tie in (1, -1, 0)), RELEASED_KERAS])
def test_signs_are_the_references_of_subnormal_numbers_too(conventions: Conventions) -> None:
    expected = sign(NEAR_TIES, conventions)

    def bits(z: jax.Array) -> jax.Array:
        return layers.straight_through_sign(z, conventions=conventions)

    np.testing.assert_array_equal(np.asarray(bits(jnp.asarray(NEAR_TIES))), expected)
    np.testing.assert_array_equal(np.asarray(jax.jit(bits)(NEAR_TIES)), expected)
    assert bits(jnp.asarray([-2.0, 3.0], dtype=jnp.bfloat16)).tolist() == [-1, 1]


@given(strategies.conventions(), st.data())
def test_design_decides_like_the_reference(conventions: Conventions, data: st.DataObject) -> None:
    kernel = data.draw(strategies.threshold_kernels(6, 5, 7))
    eighths = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-24, 25, (2, 5, 7, 6))
    y, gamma = (eighths / 8).astype(np.float32), np.array([1, -1, 0.5, 2, -0.25, 0], np.float32)
    found = layers.design(jnp.asarray(y), kernel, conventions, gamma=jnp.asarray(gamma))
    # Subnormal thresholds are zero to XLA: the strategy's own levels have none but in between.
    expected = dithered_sign(y, kernel, conventions, gamma)
    tiny = np.abs(kernel.values[kernel.values != 0]).min(initial=1) < 1e-30
    assert tiny or np.array_equal(np.asarray(found), expected)


def test_bits_have_the_dtype_of_y() -> None:
    y, gamma = jnp.ones((2, 5, 7, 3), dtype=jnp.bfloat16), jnp.ones(3)
    assert layers.design(y, ThresholdKernel([[0.5, 1.0]]), RELEASED_TORCH, gamma=gamma).dtype == jnp.bfloat16


@pytest.mark.parametrize(("mode", "groups"), [("zeros", 1), ("symmetric", 2), ("minus_ones", 1), ("circular", 4)])
def test_convolutions_are_exact_on_signs(mode: str, groups: int) -> None:
    rng = np.random.default_rng(groups)
    x, w = rng.choice([-1, 1], (2, 5, 7, 12)), rng.choice([-1, 1], (8, 3, 2, 12 // groups))
    geometry: dict[str, Any] = {"stride": (2, 1), "padding": (1, 2), "padding_mode": mode, "groups": groups}
    latent = jnp.asarray(w * rng.uniform(0.1, 2, w.shape), dtype=jnp.float32)
    found = jax.jit(lambda x: layers.binary_conv2d(x, latent, **geometry))(x.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(found), binary_conv2d(pack(x), pack(w), **geometry))
    flat, dense = x.reshape(2, -1), rng.choice([-1, 1], (3, 420))
    sums = layers.binary_dense(jnp.asarray(flat, dtype=jnp.float32), jnp.asarray(dense, dtype=jnp.float32))
    np.testing.assert_array_equal(np.asarray(sums), binary_dense(pack(flat), pack(dense)))


def test_the_released_block() -> None:
    """The authors' block from the spec: gamma-scaled thresholds after their batch norm, exact ties give 0."""
    block = ReleasedBlock()
    bn = block.batch_norm
    mean, gamma, beta, root = (jnp.asarray(array) for array in (bn.mean, bn.gamma, bn.beta, np.sqrt(bn.variance)))
    # Operation by operation: XLA would fuse products with sums, and the ties would not be exact.
    released = gamma * ((jnp.asarray(block.accumulators) - mean) / root) + beta
    found = layers.design(released, block.kernel, RELEASED_TORCH, gamma=gamma, estimator="polynomial")
    np.testing.assert_array_equal(np.asarray(found), block.bits)
    np.testing.assert_array_equal(dithered_sign(block.y, block.kernel, RELEASED_TORCH, bn.gamma), block.bits)


def all_accumulators(channels: int, low: int, high: int) -> np.ndarray:
    """Every accumulator in every channel and phase: (N, 2, 3, C)."""
    values = np.arange(low, high + 1, dtype=np.int32)[:, np.newaxis, np.newaxis, np.newaxis]
    return np.ascontiguousarray(np.broadcast_to(values, (len(values), 2, 3, channels)))


@pytest.mark.parametrize("program", layers.PROGRAMS)
@pytest.mark.parametrize("scale", ["unit", "gamma"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_float_programs_on_all_accumulators(program: str, scale: str, with_alpha: bool) -> None:
    """Ordinary channels, and channels with a tie planted on an attainable accumulator."""
    conventions = PAPER.replace(arithmetic=layers.PROGRAMS[program], threshold_scale=scale)
    kernel = ThresholdKernel(np.array([[0, 0.31178308, 1.5], [2.3419342, -1, 0.6310056]], np.float32))
    rng = np.random.default_rng(7)
    gamma, beta, mean = rng.normal(size=(3, 25)).astype(np.float32)
    variance, alpha = rng.uniform(1, 900, 25).astype(np.float32), rng.uniform(0.1, 2, 25).astype(np.float32)
    gamma[:5], mean[:5], variance[:5], beta[:5] = (1, -1, 2, 0.5, -4), (3, -700, 0, 12, 1151), 4, 0
    beta[1], beta[3] = -1.5, 0.75
    bn = BatchNorm(
        gamma, beta, 30 * mean, variance, 0.0 if scale == "unit" else 1e-5, alpha=alpha if with_alpha else None
    )
    accumulators = all_accumulators(25, -1152, 1152)
    follow = layers.normalise_and_dither(bn, kernel, conventions, (2, 3, 25), domain=(-1152, 1152), program=program)
    found = np.asarray((jax.jit(follow) if program.endswith("jit") else follow)(jnp.asarray(accumulators)))
    expected = dithered_batch_norm(accumulators, bn, kernel, conventions)
    np.testing.assert_array_equal(found, expected, strict=True)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    assert (expected == 0).any() or with_alpha


def test_what_jax_cannot_follow_is_refused() -> None:
    one: dict[str, Any] = {"gamma": [1.0], "beta": [0.0], "mean": [0.0], "variance": [1.0], "epsilon": 0.0}

    def follow(conventions: Conventions, program: str = "jax-cpu-jit", **changes: Any) -> Any:
        return layers.normalise_and_dither(
            BatchNorm(**{**one, **changes}), None, conventions, (1, 1, 1), domain=(-9, 9), program=program
        )

    for arithmetic in ("real", "onnxruntime", "keras", "released_torch"):
        with pytest.raises(RefdesignError, match=f"arithmetic: found '{arithmetic}', expected 'torch'"):
            follow(PAPER.replace(arithmetic=arithmetic))
    with pytest.raises(RefdesignError, match="program: found 'jax-moon'"):
        follow(PAPER, "jax-moon")
    torch = PAPER.replace(arithmetic="torch")
    for field, what in (("gamma", "gamma"), ("beta", "beta"), ("alpha", "alpha")):
        changes: dict[str, Any] = {field: [1e-40]}
        with pytest.raises(RefdesignError, match=f"subnormal {what},"):
            follow(torch, **changes)
    with pytest.raises(RefdesignError, match="estimator: found 'cubic'"):
        layers.straight_through_sign(jnp.zeros(1), "cubic")


def test_subnormal_numbers_are_indeed_lost() -> None:
    """Why they are refused in what a layer computes, and why signs are taken from the numbers' bits."""
    small = np.array([-1e-40], np.float32)
    assert jax.jit(lambda z: 2 * z)(small).tolist() == [0.0]
    assert jax.jit(lambda z: z >= 0)(small).tolist() == [True]


def test_a_layer_by_itself_can_be_mapped() -> None:
    rng = np.random.default_rng(2)
    weights, x = pack(rng.choice([-1, 1], (37, 3, 3, 45))), pack(rng.choice([-1, 1], (3, 5, 4, 45)))
    layer = BinaryConv2d(name="c", weights=weights, padding=(1, 1), padding_mode="symmetric")
    gamma, beta, mean = rng.normal(size=(3, 37)).astype(np.float32)
    bn = BatchNorm(gamma, beta, mean, np.full(37, 90, np.float32), 1e-4)
    thresholds = fold(bn, ThresholdKernel(np.array([[0.0, 1.0, 2.0]], np.float32)), fan_in=405, conventions=PAPER)
    function = layer_function(layer, thresholds, (5, 4))
    expected = unpack(thresholds.apply(binary_conv2d(x, weights, padding=1, padding_mode="symmetric"))) > 0
    words = jnp.asarray(packed.from_uint64(x.words, 45))
    np.testing.assert_array_equal(np.asarray(packed.unpack(function(words), 37)), expected)
    mapped = jax.vmap(lambda one: function(one[jnp.newaxis])[0])(words)
    np.testing.assert_array_equal(np.asarray(packed.unpack(mapped, 37)), expected)


@given(st.integers(1, 100), st.integers(0, 1000))
def test_words_come_back(length: int, seed: int) -> None:
    bits = np.random.default_rng(seed).random((2, length)) < 0.5
    words = np.asarray(packed.pack(jnp.asarray(bits)))
    np.testing.assert_array_equal(packed.to_uint64(words), pack(bits).words)
    np.testing.assert_array_equal(packed.from_uint64(pack(bits).words, length), words)
    np.testing.assert_array_equal(np.asarray(packed.unpack(jnp.asarray(words), length)), bits)


def test_without_jax_the_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['jax'] = None; import refdesign.frameworks.jax"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert 'jax is not installed; it comes with: pip install "refdesign[jax]"' in result.stderr.splitlines()[-1]
