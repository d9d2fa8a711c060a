"""Wrong scales and shifts of the last layer, read off its logits; or weights behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from refdesign.network import Layer, NetworkData, Stage
from refdesign.ops.batch_norm import scale_and_shift
from refdesign.run import run_batch
from refdesign.verify.change import Change
from refdesign.verify.entries.way import MOST, Array, Way
from refdesign.verify.entries.weights import of_sums
from refdesign.verify.rounding import exact_logits, source_of_logits
from refdesign.verify.verdict import Sample

_SCALED = ("torch", "onnxruntime", "keras")  # arithmetics with a k and a c
_SCALES = 64  # values of k that are tried where c is wrong, too


def of_logits(network: NetworkData, layer: Stage, sample: Sample) -> Iterator[list[Way]]:
    """The ways to read every class whose logits differ; an empty list where there is none.

    Args:
        network: the reference.
        layer: its last one; all that goes into it agrees.
        sample: images with an implementation's answers.
    """
    theirs, source = sample.outputs["logits"], source_of_logits(network)
    if layer.batch_norm is None:
        yield from of_sums(network, layer, sample, theirs)
    if layer.batch_norm is None or source is None or network.conventions.arithmetic not in _SCALED:
        return
    a = run_batch(network, sample.images, "packed", frozenset({source}))[source]
    exact = exact_logits(network, a)
    y, bound = theirs.astype(np.float64), exact.bound(theirs.dtype)
    wrong = ~(np.abs(y - exact.values) <= bound)
    classes = np.flatnonzero(wrong.any(axis=0))
    if len(classes) > MOST or not np.isfinite(y).all():
        return
    k, c = (part.astype(np.float64) for part in scale_and_shift(layer.batch_norm, network.conventions.arithmetic))
    alpha = 1.0 if layer.batch_norm.alpha is None else layer.batch_norm.alpha.astype(np.float64)
    if source not in sample.outputs and source.endswith(".accumulator") and (k * alpha).all():
        sums = np.rint((y - c) / (k * alpha))
        if (np.abs(sums * (k * alpha) + c - y) <= bound).all():  # whole sums: they may be what is wrong
            units = list(of_sums(network, layer, sample, np.where(wrong, sums, a)))
            if units and all(units):
                yield from units
                return
    v = a * alpha
    for class_ in classes.tolist():
        half = np.spacing(np.abs(theirs[:, class_].astype(np.float32))).astype(np.float64) / 2
        lines = (_lines(v[:, class_], y[:, class_], off, k[class_], c[class_]) for off in (half, bound[:, class_]))
        right = float(k[class_]), float(c[class_])
        yield [(_changed(layer, class_, right, line),) for line in next(filter(None, lines), [])]


Line = tuple[np.float32 | None, np.float32 | None]
"""A scale and a shift; None: it is right."""


def _lines(v: Array, y: Array, off: Array, k: float, c: float) -> list[Line]:
    """The lines y = k*v + c through all points, each up to its `off`: another c, another k, or both.

    Of the values that fit, the outermost.

    >>> v, y = np.array([-3.0, 1.0, 5.0]), np.array([-5.5, 2.5, 10.5])
    >>> off = np.full(3, 1e-7)
    >>> [f"{shift:.3f}" for _, shift in _lines(v, y, off, 2.0, 1.0)]
    ['0.500', '0.500']
    >>> _lines(v, y - 0.5, off, 1.0, 0.0)
    [(np.float32(2.0), None)]
    """
    shifts = _between(y - off - k * v, y + off - k * v)
    if shifts:
        return [(None, shift) for shift in shifts]
    at = v != 0
    if at.any() and (np.abs(y - c) <= off)[~at].all():
        low, high = ((y + side * off - c)[at] / v[at] for side in (-1, 1))
        scales = _between(np.minimum(low, high), np.maximum(low, high))
        if scales:
            return [(scale, None) for scale in scales]
    left, right = int(v.argmin()), int(v.argmax())
    if v[left] == v[right]:
        return []
    rise, slack = y[right] - y[left], off[right] + off[left]
    flat, steep = ((rise + side * slack) / (v[right] - v[left]) for side in (-1, 1))
    for scale in np.unique(np.linspace(flat, steep, _SCALES).astype(np.float32)):
        shifts = _between(y - off - float(scale) * v, y + off - float(scale) * v)
        if shifts:
            return [(scale, shift) for shift in shifts]
    return []


def _between(low: Array, high: Array) -> list[np.float32]:
    """The smallest and the largest float32 that lie in all of these intervals."""
    least, most = float(low.max()), float(high.min())
    first, last = np.float32(least), np.float32(most)
    first = np.nextafter(first, np.float32(np.inf)) if float(first) < least else first
    last = np.nextafter(last, np.float32(-np.inf)) if float(last) > most else last
    return list(dict.fromkeys((first, last))) if first <= last else []


def _changed(layer: Stage, class_: int, right: tuple[float, float], wrong: Line) -> Change:
    """The change that gives one class another k, c, or both."""
    entries = [(f"{name}[{class_}]", *pair) for name, pair in zip("kc", zip(right, wrong, strict=True), strict=True)]
    entries = [entry for entry in entries if entry[2] is not None]
    found = " and ".join(f"{name} = {value:.5g}" for name, _, value in entries)
    known = " and ".join(f"{value:.5g}" for _, value, _ in entries)
    other = "beta or mean" if wrong[0] is None else "gamma or variance"
    return Change(
        name=f"{found} instead of {known}",
        group="entry",
        says=f"logits[{class_}] is k*a + c with {found}, such as another {other} makes",
        right="let " + " and ".join(f"{name} be {value:.9g}" for name, value, _ in entries),
        layer=partial(_rescaled, class_=class_, line=wrong),
    )


def _rescaled(layer: Layer, network: NetworkData, class_: int, line: Line) -> Layer | None:
    if not isinstance(layer, Stage) or layer.batch_norm is None:
        return None
    k, c = (part.copy() for part in scale_and_shift(layer.batch_norm, network.conventions.arithmetic))
    for part, value in zip((k, c), line, strict=True):
        if value is not None:
            part[class_] = value
    return replace(layer, batch_norm=replace(layer.batch_norm, k=k, c=c))
