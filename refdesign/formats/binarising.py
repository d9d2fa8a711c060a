"""From the weights that a file holds to bits and scales, by the rule that the network was trained with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError

Weights = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Binarised:
    """Weights of ±1 and what was done to get them.

    Attributes:
        signs: bool, True for +1, in the shape of the weights (O, ...).
        alpha: a scale of the sums per output channel, float32 (O,), or None.
        recognised: in words, how the weights stand in the file.
        assumed: what the file leaves open, in any layer of this kind.
        noted: what is open in this layer alone.
    """

    signs: NDArray[np.bool_]
    alpha: Weights | None = None
    recognised: str = "±1"
    assumed: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()


def binarised(weights: Weights, rule: str | None) -> Binarised:
    """The bits behind weights.

    Args:
        weights: float32 (O, ...), finite.
        rule: one of `RULES`; None takes weights of ±1, or of ±s with one s for each output channel, as they are.

    Raises:
        RefdesignError: latent weights without a rule (says how far they are from ±1), or an unknown rule.

    >>> binarised(np.array([[0.5, -0.25]], np.float32), "sign").signs.tolist()
    [[True, False]]
    >>> binarised(np.array([[0.5, -0.5], [2, 2]], np.float32), None).alpha
    array([0.5, 2. ], dtype=float32)
    >>> binarised(np.array([[0.5, -0.25]], np.float32), None)
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found latent weights, |w| from 0.25 to 0.5, on average 0.625 from ±1, expected \
weights of ±1, or the rule that binarises them: sign, keras_round, recu, xnor, dorefa, larq_dorefa
    """
    if rule is None:
        return _two_valued(weights)
    if rule not in RULES:
        raise RefdesignError(f"found the rule {rule!r}, expected one of {', '.join(RULES)}")
    return RULES[rule](weights)


def _two_valued(weights: Weights) -> Binarised:
    magnitude = np.abs(weights).reshape(len(weights), -1)
    if (magnitude == 1).all():
        return Binarised(weights > 0)
    if (magnitude == magnitude[:, :1]).all() and magnitude.min() > 0:
        return Binarised(
            weights > 0, magnitude[:, 0].copy(), "±s, with a scale s for each output channel",
            ("weights of ±s are meant as bits whose sum is scaled, v = fl(s*a)",),
        )  # fmt: skip
    distance = np.abs(magnitude.astype(np.float64) - 1)
    raise RefdesignError(
        f"found latent weights, |w| from {magnitude.min():.3g} to {magnitude.max():.3g}, on average "
        f"{distance.mean():.3g} from ±1, expected weights of ±1, or the rule that binarises them: {', '.join(RULES)}"
    )


def _sign(weights: Weights) -> Binarised:
    zeros = int(np.count_nonzero(weights == 0))
    noted = (f"{zeros} latent weights of exactly 0 count as +1",) if zeros else ()
    return Binarised(weights >= 0, None, "latent, binarised by their sign", noted=noted)


def _keras_round(weights: Weights) -> Binarised:
    """2*round(clip((w + 1)/2, 0, 1)) - 1 in float32, ties to even: the released Keras code, with H = 1."""
    halved = (weights + np.float32(1)) / np.float32(2)
    return Binarised(np.round(np.clip(halved, 0, 1)) > 0, None, "latent, binarised as in the released Keras code")


def _recu(weights: Weights) -> Binarised:
    """The sign of w less its channel's mean; the clamp at the quantile changes none (the released ReCU code)."""
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    # A float64 sum of float32 is exact enough that only the last rounding, to float32, is seen.
    mean = flat.mean(axis=1, keepdims=True).astype(np.float32)
    centred = flat - mean
    # What float32 sums in any other order could be off by: n*u times the mean magnitude.
    bound = flat.shape[1] * 2.0**-24 * np.abs(flat).mean(axis=1, keepdims=True)
    near = int(np.count_nonzero(np.abs(centred) <= bound))
    told = "ReCU's mean of a channel's weights is taken in float64 and rounded to float32 once"
    noted = f"{near} of {weights.size} weights are so near ReCU's mean that float32's order of summation could decide"
    signs = (centred >= 0).reshape(weights.shape)
    return Binarised(signs, None, "latent, binarised by ReCU", (told,), (noted,) if near else ())


def _scaled(axes: str) -> Callable[[Weights], Binarised]:
    def rule(weights: Weights) -> Binarised:
        magnitude = np.abs(weights.astype(np.float64)).reshape(len(weights), -1)
        scale = magnitude.mean(axis=1) if axes == "channel" else np.full(len(weights), magnitude.mean())
        plain = _sign(weights)
        told = f"alpha, the mean of |w| over the {axes}, is summed in float64 and rounded once"
        name = "XNOR-Net" if axes == "channel" else "DoReFa-Net"
        how = f"latent, binarised by {name}"
        return Binarised(plain.signs, scale.astype(np.float32), how, (told,), plain.noted)

    return rule


def _larq_dorefa(weights: Weights) -> Binarised:
    """Larq's DoReFa with one bit: 2*round(tanh(w)/(2*max|tanh(w)|) + 1/2) - 1 in float32, ties to even."""
    limited = np.tanh(weights)
    largest = np.abs(limited).max(initial=np.float32(0))
    if not math.isfinite(largest) or largest == 0:
        raise RefdesignError("found weights that are all 0, which DoReFa divides by, expected others")
    fires = np.round(limited / (np.float32(2) * largest) + np.float32(0.5)) > 0
    return Binarised(fires, None, "latent, binarised by Larq's DoReFa with one bit")


RULES: dict[str, Callable[[Weights], Binarised]] = {
    "sign": _sign,
    "keras_round": _keras_round,
    "recu": _recu,
    "xnor": _scaled("channel"),
    "dorefa": _scaled("layer"),
    "larq_dorefa": _larq_dorefa,
}
"""How latent weights become bits: by their sign, a 0 counting as +1 (`sign`), as in the released Keras code
(`keras_round`), by their sign less the channel's mean (`recu`), with the mean magnitude of a channel (`xnor`) or of
the layer (`dorefa`) as a scale, or by Larq's DoReFa quantizer (`larq_dorefa`)."""
