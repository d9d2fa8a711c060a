"""How exercises are judged: cases, the reference's answer, and the first difference in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign import naive
from refdesign.api import Network
from refdesign.bits import pack, unpack, xnor_popcount
from refdesign.conventions import PAPER
from refdesign.fold import fold as reference
from refdesign.network import BinaryConv2d, MaxPool, NetworkData, PixelConv2d
from refdesign.ops.dither import threshold_map
from refdesign.ops.pool import pool_bits
from refdesign.parameters import BatchNorm, ThresholdKernel

Solution = Callable[..., Any]
Array = NDArray[Any]


def _signs(random: np.random.Generator, shape: Sequence[int]) -> Array:
    return (2 * random.integers(0, 2, shape) - 1).astype(np.int8)


# ---- count


def _count(solution: Solution, lengths: Iterable[int]) -> str | None:
    random = np.random.default_rng(5)
    for length in lengths:
        for kind in ("random", "equal", "opposite"):
            x = _signs(random, (length,))
            w = {"random": _signs(random, (length,)), "equal": x, "opposite": -x}[kind]
            a, b = pack(x), pack(w)
            found, expected = solution(a.words.copy(), b.words.copy(), length), int(xnor_popcount(a, b))
            if found is None or int(found) != expected:
                return f"{kind} vectors of {length} elements: found {found}, expected {expected}"
    return None


def count_one_word(solution: Solution) -> str | None:
    """64 elements."""
    return _count(solution, [64])


def count_tails(solution: Solution) -> str | None:
    """Fewer elements than bits."""
    return _count(solution, [1, 9, 63])


def count_words(solution: Solution) -> str | None:
    """Several words, the last one not full."""
    return _count(solution, [65, 130, 576])


# ---- fold

Case = tuple[float, float, float, float, float, int, int, int]
"""gamma, beta, mean, variance, threshold, low, high, step."""


def reference_fold(case: Case) -> tuple[int, int, int]:
    """(threshold, direction, constant) by the reference; the threshold of a constant channel is 0.

    >>> reference_fold((1.0, 0.0, 0.5, 1.0, 0.0, -9, 9, 2))
    (1, 1, 0)
    """
    gamma, beta, mean, variance, threshold, low, high, step = case
    norm = BatchNorm([gamma], [beta], [mean], [variance], 0.0)
    found = reference(
        norm, ThresholdKernel([[threshold]]), fan_in=max(-low, high), conventions=PAPER, domain=(low, high, step)
    )
    return int(found.threshold.ravel()[0]), int(found.direction.ravel()[0]), int(found.constant.ravel()[0])


def _fold(solution: Solution, cases: Iterable[Case]) -> str | None:
    names = ("gamma", "beta", "mean", "variance", "threshold", "low", "high", "step")
    for case in cases:
        expected, found = reference_fold(case), solution(*case)
        if not isinstance(found, tuple | list) or len(found) != 3:
            return f"found {found!r}, expected (threshold, direction, constant)"
        direction = expected[1]
        same = tuple(found[1:]) == expected[1:] and (direction == 0 or found[0] == expected[0])
        if not same:
            arguments = ", ".join(f"{name}={value!r}" for name, value in zip(names, case, strict=True))
            return f"fold({arguments}): found {_rule(*found)}, {_against(expected, tuple(found), case[5:])}"
    return None


def _bit(rule: tuple[Any, ...], accumulator: int) -> Any:
    threshold, direction, constant = rule
    if direction == 0:
        return constant
    return 1 if direction * accumulator >= direction * threshold else -1


def _against(expected: tuple[int, int, int], found: tuple[Any, ...], domain: tuple[int, int, int]) -> str:
    """Where a rule first gives another bit; where nowhere, what else is asked of it."""
    low, high, step = domain
    for a in range(low, high + 1, step):
        if _bit(found, a) != _bit(expected, a):
            return f"which gives {_bit(found, a)} at a = {a}, expected {_bit(expected, a)}"
    return "which gives the right bits, expected them in the task's form (t attainable, direction 0 where constant)"


def _rule(threshold: object, direction: object, constant: object) -> str:
    if direction == 0:
        return f"always {constant}"
    return f"+1 where a {'>=' if direction == 1 else '<='} {threshold} (direction {direction})"


def _random_cases(seed: int, sign: int) -> list[Case]:
    random = np.random.default_rng(seed)
    found: list[Case] = []
    while len(found) < 40:
        gamma, variance = np.float32(sign * random.uniform(0.25, 2)), np.float32(random.uniform(1, 30))
        beta, mean = (np.float32(value) for value in (random.normal(), random.normal(0, 3)))
        threshold = np.float32(random.uniform(0, 1.5))
        low, high, step = [(-9, 9, 2), (-64, 64, 2), (-13, 13, 1)][len(found) % 3]
        case = float(gamma), float(beta), float(mean), float(variance), float(threshold), low, high, step
        if reference_fold(case)[1] != 0:
            found.append(case)
    return found


def fold_positive(solution: Solution) -> str | None:
    """Rising lines."""
    return _fold(solution, _random_cases(11, 1))


def fold_negative(solution: Solution) -> str | None:
    """Falling lines."""
    return _fold(solution, _random_cases(12, -1))


def fold_ties(solution: Solution) -> str | None:
    """z = 0 at an accumulator."""
    return _fold(solution, [
        (1.0, 0.0, 3.0, 4.0, 0.0, -9, 9, 2), (-1.0, 0.0, 3.0, 4.0, 0.0, -9, 9, 2),
        (0.5, 0.25, -1.0, 16.0, 0.75, -13, 13, 1), (-2.0, 1.0, 2.0, 16.0, 0.0, -64, 64, 2),
    ])  # fmt: skip


NEAR = (
    (200769, 22307, 3166816000, 38), (7761799, 1393, 7645369856, -189), (865087, 424577, 259717529600, 6751),
    (2273379, 2273377, 3654502842368, -33570), (8761009, 8300729, 51422758436864, 650883),
)  # fmt: skip
"""gamma, minus the mean, beta, threshold: (gamma*mean)**2 and 2*(beta - threshold)**2 differ by 1 (Pell's equation)."""


def fold_near(solution: Solution) -> str | None:
    """At a = 0 the sign of z hangs on the last of some fifty digits; float64 has sixteen."""
    cases: list[Case] = []
    for gamma, mean, beta, threshold in NEAR:
        for sign in (1, -1):
            cases.append((float(sign * gamma), float(beta), float(sign * mean), 2.0, float(threshold), -9, 9, 1))
    return _fold(solution, cases)


def fold_constant(solution: Solution) -> str | None:
    """gamma = 0, and boundaries beyond the domain."""
    return _fold(solution, [
        (0.0, 0.5, 1.0, 4.0, 0.25, -9, 9, 2), (0.0, 0.25, 1.0, 4.0, 0.25, -9, 9, 2),
        (0.0, -0.5, 1.0, 4.0, 0.0, -9, 9, 2), (1.0, 0.0, 40.0, 4.0, 0.0, -9, 9, 2),
        (-1.0, 0.0, 40.0, 4.0, 0.0, -9, 9, 2), (1.0, 0.0, -9.0, 1.0, 0.0, -9, 9, 2),
    ])  # fmt: skip


# ---- dither


def _dither(solution: Solution, shapes: Iterable[tuple[tuple[int, ...], tuple[int, int, int]]]) -> str | None:
    random = np.random.default_rng(3)
    for kernel_shape, (height, width, channels) in shapes:
        values = random.permutation(int(np.prod(kernel_shape))).reshape(kernel_shape).astype(np.float32)
        kernel = ThresholdKernel(values)
        expected = threshold_map(kernel, height, width, channels, PAPER)
        found = np.asarray(solution(kernel.values.copy(), height, width, channels))
        where = f"a kernel of {kernel.shape} over a map of {(height, width, channels)}"
        if found.shape != expected.shape:
            return f"{where}: found shape {found.shape}, expected {expected.shape}"
        if not np.array_equal(found, expected):
            i, j, c = (int(index) for index in np.argwhere(found != expected)[0])
            return f"{where}: at row {i}, column {j}, channel {c} found {found[i, j, c]}, expected {expected[i, j, c]}"
    return None


def dither_whole(solution: Solution) -> str | None:
    """Maps of whole periods."""
    return _dither(solution, [((2, 2, 1), (4, 6, 1)), ((3, 3, 1), (6, 9, 2))])


def dither_ragged(solution: Solution) -> str | None:
    """Maps that end within a period."""
    return _dither(solution, [((2, 2, 1), (5, 7, 3)), ((3, 3, 1), (4, 8, 2)), ((4, 4, 1), (3, 2, 1))])


def dither_oblong(solution: Solution) -> str | None:
    """Kernels with more rows than columns, and the other way round."""
    return _dither(solution, [((2, 3, 1), (5, 7, 1)), ((4, 1, 1), (7, 5, 2))])


def dither_slices(solution: Solution) -> str | None:
    """3D kernels."""
    return _dither(solution, [((2, 2, 2), (5, 7, 6)), ((2, 3, 4), (3, 5, 8))])


# ---- pool


def _pool(solution: Solution, direction: int) -> str | None:
    random = np.random.default_rng(4)
    for height, width, channels in ((2, 4, 3), (6, 8, 5)):
        accumulators = random.integers(-9, 10, (1, height, width, channels)).astype(np.int32)
        t = random.integers(-6, 7, channels)
        fires = accumulators >= t if direction > 0 else accumulators <= t
        bits = np.where(fires, 1, -1).astype(np.int8)
        expected = unpack(pool_bits(pack(bits), np.full(channels, direction, np.int8), (2, 2)))[0]
        found = np.asarray(solution(bits[0].copy(), np.full(channels, direction)))
        if found.shape != expected.shape:
            return f"bits of {bits.shape[1:]}: found shape {found.shape}, expected {expected.shape}"
        if not np.array_equal(found, expected):
            i, j, c = (int(index) for index in np.argwhere(found != expected)[0])
            window = bits[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c].ravel().tolist()
            return f"bits {window} of direction {direction:+d}: found {found[i, j, c]}, expected {expected[i, j, c]}"
    return None


def pool_rising(solution: Solution) -> str | None:
    """Direction +1."""
    return _pool(solution, 1)


def pool_falling(solution: Solution) -> str | None:
    """Direction -1."""
    return _pool(solution, -1)


# ---- layer


def _layer(solution: Solution, kernel: ThresholdKernel | None) -> str | None:
    random = np.random.default_rng(8)
    for height, width, channels, outputs, pool in ((5, 7, 3, 2, 1), (6, 9, 2, 3, 2), (8, 7, 5, 4, 2)):
        x, w = _signs(random, (height, width, channels)), _signs(random, (outputs, 3, 3, channels))
        gamma = np.where(np.arange(outputs) % 2, -1.0, 1.0) * random.uniform(0.5, 2, outputs)
        beta, mean = random.normal(size=outputs), random.normal(0, 3, outputs)
        norm = BatchNorm(gamma.tolist(), beta.tolist(), mean.tolist(), random.uniform(4, 20, outputs).tolist(), 1e-5)
        network = _network(x.shape, w, norm, kernel, pool)
        values = None if kernel is None else kernel.values.copy()
        found = np.asarray(solution(x.copy(), w.copy(), norm, values, pool))
        expected = naive.run(network, _pixels(x), ("layer.bits",))["layer.bits"][0]
        where = f"{x.shape} bits, {outputs} filters, pool {pool}"
        if found.shape != expected.shape:
            return f"{where}: found shape {found.shape}, expected {expected.shape}"
        if not np.array_equal(found, expected):
            i, j, c = (int(index) for index in np.argwhere(found != expected)[0])
            wrong = int((found != expected).sum())
            place = f"the first at row {i}, column {j}, channel {c}"
            return f"{where}: {wrong} of {expected.size} bits differ, {place}: found {found[i, j, c]}"
    return None


def _network(shape: Sequence[int], w: Array, norm: BatchNorm, kernel: ThresholdKernel | None, pool: int) -> NetworkData:
    """A first layer that hands bits on, and the layer in question."""
    height, width, channels = shape
    identity = np.eye(channels, dtype=np.int32)[:, np.newaxis, np.newaxis, :]
    first = PixelConv2d(name="bits", weights=identity, multiplier=2, offset=-255)
    pooled = MaxPool(size=(pool, pool), stride=(pool, pool)) if pool > 1 else None
    layer = BinaryConv2d(name="layer", weights=pack(w), pool=pooled, batch_norm=norm, kernel=kernel)
    last = BinaryConv2d(name="last", weights=pack(np.ones((1, 1, 1, len(w)), np.int8)))
    return Network(name="exercise", input_shape=(height, width, channels), layers=(first, layer, last))


def _pixels(x: Array) -> NDArray[np.uint8]:
    return np.where(x > 0, 255, 0).astype(np.uint8)[np.newaxis]


def layer_plain(solution: Solution) -> str | None:
    """Without a threshold kernel."""
    return _layer(solution, None)


def layer_dithered(solution: Solution) -> str | None:
    """With one that is not square."""
    return _layer(solution, ThresholdKernel([[0.1, 0.9, 1.7], [1.3, 0.5, -0.3]]))
