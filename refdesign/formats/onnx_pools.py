"""A max pool moved in front of what stands between it and its layer's sums: the two commute where that is monotone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack, unpack
from refdesign.errors import RefdesignError
from refdesign.formats.onnx_choices import Choice
from refdesign.formats.onnx_context import Context
from refdesign.formats.onnx_flow import Draft, Flow, Step
from refdesign.network import CombinedConv2d, MaxPool


def pooled_first(context: Context, flow: Flow, pool: MaxPool) -> Flow:
    """The same values with the pool in front of batch norm and sign.

    The largest of values that rise with the sums is the value of the largest sum, roundings and all. In channels
    where they fall, weights are negated, and so are the sums' scales: the same values again.

    Args:
        context: gets the layer with its pool.
        flow: a whole map of real values, or of a choice.
        pool: the pool.

    Raises:
        RefdesignError: what is between the sums and the pool varies over the map, or neither rises nor falls.
    """
    draft = flow.draft
    if draft is None:
        raise RefdesignError("found a max pool of pixels, expected one behind a convolution")
    if draft.name in context.found:
        raise RefdesignError(f"found a max pool of layer {draft.name!r}, whose values are read without it too")
    channels = flow.shape[-1]
    direction = np.ones(channels, np.float32)
    for step in flow.steps:
        direction = direction * _direction(step, channels)
    if flow.choice is not None:
        direction = direction * _choice_direction(flow.choice, channels)
    flips = np.where(direction < 0, np.float32(-1), np.float32(1))
    steps = flow.steps
    if np.any(flips < 0):
        draft = _negated(draft, flips)
        steps = _with_scale(steps, flips)
    draft = draft.pooled(pool)
    context.replace_draft(draft)
    return Flow.of(flow.kind, draft.shape, draft=draft, steps=steps, choice=flow.choice).channels_first()


def _direction(step: Step, channels: int) -> NDArray[Any]:
    kind, values = step
    if kind in ("affine", "clip"):
        return np.ones(channels, np.float32)
    if kind not in ("mul", "div", "add", "sub", "bn") or values.shape[-1:] != (channels,) or values.ndim == 3:
        raise RefdesignError(
            "found a max pool behind a threshold map, which does not commute: pool in front of it, or export the bits"
            if kind in ("add", "sub") else f"found a max pool behind {kind}, expected it before"
        )  # fmt: skip
    if kind in ("add", "sub"):
        return np.ones(channels, np.float32)
    return np.asarray(np.sign(values[0] if kind == "bn" else values))


def _choice_direction(choice: Choice, channels: int) -> NDArray[Any]:
    if any(extent != 1 for array in (choice.points, choice.values) for extent in array.shape[1:-1]):
        raise RefdesignError("found a max pool behind thresholds that vary over the map, which does not commute")
    changes = np.diff(np.asarray(choice.values, np.float64), axis=0)
    rises, falls = (changes >= 0).all(axis=0), (changes <= 0).all(axis=0)
    if not (rises | falls).all():
        raise RefdesignError("found a max pool behind a choice that neither rises nor falls with the sums")
    return np.broadcast_to(np.where(rises, 1, -1).ravel(), (channels,))


def _negated(draft: Draft, flips: NDArray[np.float32]) -> Draft:
    """The same layer with some outputs' weights negated."""
    fields = dict(draft.fields)
    if draft.kind is CombinedConv2d:
        fields["scales"] = fields["scales"] * flips
    else:
        weights = fields["weights"]
        signs = flips.reshape(-1, 1, 1, 1)
        if isinstance(weights, PackedBits):
            fields["weights"] = pack(unpack(weights) * signs.astype(np.int8))
        else:
            fields["weights"] = weights * signs.astype(weights.dtype)
    return replace(draft, fields=fields)


def _with_scale(steps: tuple[Step, ...], flips: NDArray[np.float32]) -> tuple[Step, ...]:
    """Steps on negated sums that give what they gave before."""
    if steps and steps[0][0] == "affine":
        affine = steps[0][1]
        offsets = tuple(int(flip) * offset for flip, offset in zip(flips, affine.offsets, strict=True))
        return (("affine", replace(affine, offsets=offsets)), *_with_scale(steps[1:], flips))
    if steps and steps[0][0] == "mul" and steps[0][1].dtype == np.float32:
        return (("mul", steps[0][1] * flips), *steps[1:])
    return (("mul", flips), *steps)
