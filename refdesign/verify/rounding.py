"""How far real-valued logits may lie from the exact ones when everything before them is equal.

Bits and integers are compared with equality. Real logits are the one end where two right implementations differ: a
program that fuses a multiplication with an addition, or sums in another order, rounds otherwise. So a logit that is
not the reference's own counts as equal within the bound on what float32 rounding can do to the *last layer*, whose
inputs are then known; `exact` in `compare` asks for equality here too.

With u = 2**-24 and gamma(n) = n*u / (1 - n*u) (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3):

- Batch norm, y = g*(alpha*a - m)/sqrt(v + e) + b: at most `ROUNDINGS` roundings lie between a parameter and y in every
  program of docs/method.md, section 3 (e, v + e, the square root, its reciprocal with TensorFlow's two units in the
  last place, the product with g, alpha*a, the product with it, and two sums), so
  |y' - y| <= gamma(10) * (|k*alpha*a| + |k*m| + |b|), k = g/sqrt(v + e).
- The same, folded into the weights of the n products before it, as optimisers of graphs do: with A the largest
  magnitude that a can have, |y' - y| <= gamma(n + 10) * (|k*alpha|*A + |k*m| + |b|), or a quarter of what one step of
  an integer accumulator makes in y if that is less: no wrong integer passes for rounding.
- A real dense layer of n inputs: |y' - y| <= gamma(n + 1) * (sum |w*x| + |b|), with n + 1 raised by the size of an
  average pool's window before it, and by what a batch norm of its inputs rounds.

Answers of half precision are held to u = 2**-11, but to no more than `ROUNDINGS` of its roundings in a real dense
layer: the sums themselves are to be float32's, since a bound on sums in half precision lets any logits pass, from
some fifty inputs on. Where numbers are flushed to zero, the smallest normal number is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import AveragePool, NetworkData, RealDense, Stage, accumulator_domain
from refdesign.parameters import BatchNorm

ROUNDINGS = 10
"""The most roundings between a parameter of a batch norm and its result, in every named program."""

_UNIT = 2.0**-24  # of float32


@dataclass(frozen=True)
class Exact:
    """Logits as they are without rounding, and what rounding can do to them.

    Attributes:
        values: float64, (N, classes).
        terms: float64, the sum of the magnitudes that are added.
        roundings: how many roundings a term can go through.
        folded_terms, folded_roundings, most: the same where a batch norm is folded into the products, and what that
            may make at most; (classes,). Nothing by default.
    """

    values: NDArray[np.float64]
    terms: NDArray[np.float64]
    roundings: int
    folded_terms: NDArray[np.float64] | float = 0.0
    folded_roundings: int = 0
    most: NDArray[np.float64] | float = 0.0

    def bound(self, dtype: np.dtype[Any]) -> NDArray[np.float64]:
        """How far an answer of this type may lie from `values`."""
        kind = np.finfo(dtype if dtype == np.float16 else np.float32)
        unit = float(kind.eps) / 2
        folded = np.minimum(_loss(self.folded_roundings, unit) * self.folded_terms, self.most)
        lost = max(_loss(self.roundings, _UNIT), _loss(min(self.roundings, ROUNDINGS), unit))
        bound: NDArray[np.float64] = np.maximum(lost * self.terms, folded) + float(kind.tiny)
        return bound


def _loss(roundings: int, unit: float) -> float:
    """gamma(n); where n*u is no small number any more, everything."""
    lost = roundings * unit
    return lost / (1 - lost) if lost < 0.5 else np.inf


def source_of_logits(network: NetworkData) -> str | None:
    """The output that real logits are computed from; None where logits are integers, or have no such output.

    >>> from refdesign.api import pretrained
    >>> source_of_logits(pretrained("digits"))
    'dense2.accumulator'
    """
    last = network.layers[-1]
    names: tuple[str, ...] = ()
    if isinstance(last, Stage) and last.batch_norm is not None:
        names = (f"{last.name}.pooled", f"{last.name}.accumulator")
    elif isinstance(last, RealDense) and len(network.layers) > 1:
        pooled = isinstance(network.layers[-2], AveragePool)
        names = (f"{network.layers[-3 if pooled else -2].name}.real",)
    return next((name for name in names if name in network.output_names), None)


def says(network: NetworkData, *, exact: bool = False) -> str:
    """How outputs are compared, in words.

    Args:
        network: the reference.
        exact: whether real logits have to be equal, too.

    >>> from refdesign.api import pretrained
    >>> says(pretrained("digits"))
    'bits and integers by equality, logits within 10 float32 roundings (266 if the batch norm is in the weights)'
    >>> says(pretrained("digits"), exact=True)
    'all by equality'
    """
    if exact or source_of_logits(network) is None:
        return "all by equality"
    last = network.layers[-1]
    if isinstance(last, RealDense):
        count = _dense_roundings(network, last)
        return f"all by equality, but logits within {count} float32 roundings"
    folded = last.fan_in + ROUNDINGS if isinstance(last, Stage) else ROUNDINGS
    return (
        f"bits and integers by equality, logits within {ROUNDINGS} float32 roundings "
        f"({folded} if the batch norm is in the weights)"
    )


def exact_logits(network: NetworkData, source: NDArray[Any]) -> Exact:
    """The logits in float64, whose own rounding is nothing beside float32's.

    Args:
        network: one with a `source_of_logits`.
        source: that output, with N first.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> outputs = digits.run(np.zeros((1, 8, 8, 1), np.uint8), outputs=("dense2.accumulator", "logits"))
    >>> exact = exact_logits(digits, outputs["dense2.accumulator"])
    >>> bool((abs(outputs["logits"] - exact.values) <= exact.bound(np.dtype(np.float32))).all())
    True
    """
    last = network.layers[-1]
    if isinstance(last, RealDense):
        return _dense(network, last, source)
    if not isinstance(last, Stage) or last.batch_norm is None:
        values = source.astype(np.float64)
        return Exact(values, np.zeros_like(values), 0)
    exact = _normalised(source, last.batch_norm)
    low, high, step = accumulator_domain(last, ternary_input=True)
    _, steep = _slopes(last.batch_norm)
    magnitudes = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    return replace(
        exact,
        folded_terms=np.abs(steep) * magnitudes + _constants(last.batch_norm),
        folded_roundings=last.fan_in + ROUNDINGS,
        most=np.abs(steep) * float(step) / 4,
    )


def _normalised(source: NDArray[Any], bn: BatchNorm) -> Exact:
    k, steep = _slopes(bn)
    a, shift = source.astype(np.float64), k * bn.mean
    values = steep * a - shift + bn.beta.astype(np.float64)
    return Exact(values, np.abs(steep * a) + _constants(bn), ROUNDINGS)


def _slopes(bn: BatchNorm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a unit of v, and one of the accumulator, makes in y."""
    k = bn.gamma.astype(np.float64) / np.sqrt(bn.variance.astype(np.float64) + float(np.float32(bn.epsilon)))
    return k, (k if bn.alpha is None else k * bn.alpha)


def _constants(bn: BatchNorm) -> NDArray[np.float64]:
    """The magnitudes of what is added, whatever the accumulator."""
    constants: NDArray[np.float64] = np.abs(_slopes(bn)[0] * bn.mean) + np.abs(bn.beta)
    return constants


def _dense(network: NetworkData, layer: RealDense, source: NDArray[Any]) -> Exact:
    x = source.astype(np.float64)
    terms = np.abs(x)
    before = network.layers[-2]
    if isinstance(before, AveragePool):
        x, terms = _averages(x, before.size), _averages(terms, before.size)
    x, terms = x.reshape(len(x), -1), terms.reshape(len(x), -1)
    if layer.input_batch_norm is not None:
        values = _normalised(x, layer.input_batch_norm)
        # What the inputs have lost already goes through the batch norm too: the larger magnitudes bound both.
        terms = np.maximum(values.terms, _normalised(terms, layer.input_batch_norm).terms)
        x = values.values
    weights = layer.weights.astype(np.float64).T
    bias = np.zeros(len(layer.weights)) if layer.bias is None else layer.bias.astype(np.float64)
    return Exact(x @ weights + bias, terms @ np.abs(weights) + np.abs(bias), _dense_roundings(network, layer))


def _dense_roundings(network: NetworkData, layer: RealDense) -> int:
    before = network.layers[-2]
    pool = before.size[0] * before.size[1] if isinstance(before, AveragePool) else 0
    inputs: int = layer.weights.shape[1]
    return inputs + 1 + pool + (0 if layer.input_batch_norm is None else ROUNDINGS)


def _averages(x: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Means over windows of this size side by side, (N, H, W, C); what fills no window is cut off."""
    rows, columns = x.shape[1] // size[0], x.shape[2] // size[1]
    whole = x[:, : rows * size[0], : columns * size[1]]
    windows = whole.reshape(len(x), rows, size[0], columns, size[1], -1)
    means: NDArray[np.float64] = windows.mean(axis=(2, 4))
    return means
