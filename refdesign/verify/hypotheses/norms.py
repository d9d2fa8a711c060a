"""Changes of batch norm: parameters lost, exchanged, misread, rounded, or of another channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import Layer, NetworkData, RealDense, Stage
from refdesign.parameters import BatchNorm
from refdesign.verify.change import Change
from refdesign.verify.hypotheses.precision import ROUNDINGS

_PARAMETERS = ("gamma", "beta", "mean", "variance")


def _normalised(layer: Layer, network: NetworkData, change: Callable[[BatchNorm], dict[str, Any]]) -> Layer | None:
    where = "input_batch_norm" if isinstance(layer, RealDense) else "batch_norm"
    bn: BatchNorm | None = getattr(layer, where, None)
    if bn is None:
        return None
    with np.errstate(all="ignore"):
        fields = {"k": None, "c": None, **change(bn)}
        fields = {n: v.astype(np.float32) if isinstance(v, np.ndarray) else v for n, v in fields.items()}
    same = all(np.array_equal(getattr(bn, name), value) for name, value in fields.items() if name not in ("k", "c"))
    changed: dict[str, Any] = {where: replace(bn, **fields)}
    return None if same else replace(layer, **changed)


def _of_variance(
    bn: BatchNorm, change: Callable[[NDArray[Any], Any], NDArray[Any]], precision: type[np.floating[Any]]
) -> dict[str, Any]:
    """Another variance, epsilon included, computed from the variance and epsilon in a precision."""
    return {"variance": change(bn.variance.astype(precision), precision(bn.epsilon)), "epsilon": 0.0}


def _constant(bn: BatchNorm, name: str, value: float) -> dict[str, Any]:
    return {name: np.full_like(getattr(bn, name), value)}


def _negated(bn: BatchNorm, name: str) -> dict[str, Any]:
    return {name: -getattr(bn, name)}


def _epsilon(bn: BatchNorm, value: float) -> dict[str, Any]:
    return {"epsilon": value}


def _rounded(bn: BatchNorm, to: str) -> dict[str, Any]:
    return {name: ROUNDINGS[to](getattr(bn, name)) for name in _PARAMETERS}


def _channels(bn: BatchNorm, order: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, Any]:
    return {name: order(getattr(bn, name)) for name in _PARAMETERS}


def _of_alpha(bn: BatchNorm, change: Callable[[NDArray[np.float32]], NDArray[np.float32] | None]) -> dict[str, Any]:
    return {} if bn.alpha is None else {"alpha": change(bn.alpha)}


def _alpha_in_gamma(bn: BatchNorm) -> dict[str, Any]:
    """gamma*alpha*(a - mean/alpha): the same in real numbers, and other roundings."""
    if bn.alpha is None or not bn.alpha.all():
        return {}
    return {"gamma": bn.gamma * bn.alpha, "mean": bn.mean / bn.alpha, "alpha": None}


def _bare_logits(layer: Layer, network: NetworkData) -> Layer | None:
    if layer is not network.layers[-1] or not isinstance(layer, Stage) or layer.batch_norm is None:
        return None
    return replace(layer, batch_norm=None)


_PLAIN: tuple[tuple[str, str, Callable[[BatchNorm], dict[str, Any]]], ...] = (
    ("gamma as |gamma|", "the sign of gamma is lost", lambda bn: {"gamma": np.abs(bn.gamma)}),
    ("gamma ignored", "gamma is 1", partial(_constant, name="gamma", value=1)),
    ("negative gamma as 1e-10", "a compiler makes gamma positive",
     lambda bn: {"gamma": np.where(bn.gamma < 0, np.float32(1e-10), bn.gamma)}),
    ("beta ignored", "beta is 0", partial(_constant, name="beta", value=0)),
    ("beta negated", "beta has the wrong sign", partial(_negated, name="beta")),
    ("mean ignored", "the mean is 0", partial(_constant, name="mean", value=0)),
    ("mean negated", "the mean is added", partial(_negated, name="mean")),
    ("alpha ignored", "the weights' scale is 1", partial(_of_alpha, change=lambda alpha: None)),
    ("alpha as |alpha|", "the sign of the weights' scale is lost", partial(_of_alpha, change=np.abs)),
    ("alpha multiplied into gamma", "the same in real numbers, with other roundings", _alpha_in_gamma),
    ("gamma and beta swapped", "gamma stands for beta", lambda bn: {"gamma": bn.beta, "beta": bn.gamma}),
)  # fmt: skip
_VARIANCES: tuple[tuple[str, str, Callable[[NDArray[Any], Any], NDArray[Any]]], ...] = (
    ("variance as standard deviation", "the square root is missing", lambda v, e: (v + e) ** 2),
    ("standard deviation multiplied", "gamma*std stands for gamma/std", lambda v, e: 1 / (v + e)),
    ("variance as inverse standard deviation", "1/std is taken for the variance", lambda v, e: 1 / (v + e) ** 2),
    ("epsilon outside the root", "std + epsilon stands for sqrt(var + epsilon)", lambda v, e: (np.sqrt(v) + e) ** 2),
)
_ORDERS: tuple[tuple[str, str, Callable[[NDArray[Any]], NDArray[Any]]], ...] = (
    ("channels of the batch norm reversed", "channel C-1-c stands for c", lambda p: p[::-1]),
    ("channels of the batch norm shifted by 1", "channel c+1 stands for c", lambda p: np.roll(p, -1)),
    ("channels of the batch norm shifted by -1", "channel c-1 stands for c", lambda p: np.roll(p, 1)),
    ("first channel's batch norm for all", "channel 0 stands for c", lambda p: np.full_like(p, p[0])),
)


def _norm(name: str, says: str, change: Callable[[BatchNorm], dict[str, Any]], spelling_of: str = "") -> Change:
    return Change(
        name=name, group="batch norm", says=says, layer=partial(_normalised, change=change), spelling_of=spelling_of
    )


NORMS: tuple[Change, ...] = (
    *(_norm(name, says, change) for name, says, change in _PLAIN),
    *(
        _norm(name + suffix, says, partial(_of_variance, change=change, precision=precision), name if suffix else "")
        for name, says, change in _VARIANCES
        for suffix, precision in (("", np.float64), (" (in float32)", np.float32))
    ),
    *(
        _norm(f"epsilon={epsilon:g}", f"epsilon is {epsilon:g}", partial(_epsilon, value=epsilon))
        for epsilon in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 0.0)
    ),
    *(
        _norm(f"batch norm in {to}", f"its parameters are rounded to {to}", partial(_rounded, to=to))
        for to in ROUNDINGS
    ),
    *(_norm(name, says, partial(_channels, order=order)) for name, says, order in _ORDERS),
    Change(name="last batch norm left out", group="batch norm", says="the logits are accumulators", layer=_bare_logits),
)
"""Changes of batch norm."""
