"""A layer by itself: what the reference makes of the inputs that an implementation had for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import Layer, NetworkData, Stage
from refdesign.run import run_layer
from refdesign.verify.differences import differ

Outputs = Mapping[str, NDArray[Any]]


def can_judge(network: NetworkData, layer: Layer, before: str, theirs: Outputs) -> bool:
    """Whether an implementation answered all that goes into a layer: the bits before it, and its shortcut's stream.

    Args:
        network: the reference.
        layer: one of its layers.
        before: the name of the layer before it.
        theirs: what was answered.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> answered = {"conv1.bits": np.zeros((1, 8, 8, 64)), "conv3.bits": np.zeros((1, 4, 4, 128))}
    >>> befores = ["", *(layer.name for layer in digits.layers)]
    >>> [layer.name for before, layer in zip(befores, digits.layers) if can_judge(digits, layer, before, answered)]
    ['conv1', 'conv2', 'conv4']
    """
    known = layer is network.layers[0] or f"{before}.bits" in theirs
    return isinstance(layer, Stage) and known and arriving(layer, theirs) is not None


def on_their_inputs(
    network: NetworkData, layer: Stage, before: str, names: Collection[str], ours: Outputs, theirs: Outputs
) -> Outputs | None:
    """The reference's outputs of a layer, run anew where what went into it is not ours.

    Args:
        network: the reference.
        layer: one that `can_judge` allows.
        before: the name of the layer before it.
        names: the layer's outputs, those that the implementation answered and what else is to be run anew with them.
        ours, theirs: all outputs, of the reference and of the implementation.

    Returns:
        `ours`, with these outputs as they are to be; None where their inputs are none.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> names = ("dense1.bits", "dense2.accumulator")
    >>> ours = digits.run(np.zeros((1, 8, 8, 1), np.uint8), outputs=names)
    >>> theirs = {"dense1.bits": -ours["dense1.bits"], "dense2.accumulator": -ours["dense2.accumulator"]}
    >>> alone = on_their_inputs(digits, digits.layers[-1], "dense1", names[1:], ours, theirs)
    >>> bool((alone["dense2.accumulator"] == theirs["dense2.accumulator"]).all())  # right, on other inputs
    True
    """
    source = f"{before}.bits"
    real = arriving(layer, theirs)
    if source not in theirs or real is None:
        return ours
    signs = _signs(theirs[source], ternary=network.conventions.sign_at_zero == 0)
    if signs is None:
        return None
    differs = (signs != ours[source]).reshape(len(signs), -1).any(axis=1)
    for name, stream in real.items():
        differs |= differ(ours[f"{name}.real"], stream).reshape(len(signs), -1).any(axis=1)
    changed = np.flatnonzero(differs)
    if not changed.size:
        return ours
    try:
        streams = {name: stream[changed].astype(np.float32) for name, stream in real.items()}
        redone = run_layer(network, layer, signs[changed], real=streams)
    except RefdesignError:  # zeros in a layer that none can come to: there is no right answer to them
        return None
    # A layer whose answers are all right had the right inputs: these were only written wrongly.
    right = np.ones(len(changed), dtype=np.bool_)
    for name in names:
        if name in theirs:
            right &= ~differ(ours[name][changed], theirs[name][changed]).reshape(len(changed), -1).any(axis=1)
    expected = dict(ours)
    for name in names:
        if name in redone and name in ours:
            expected[name] = ours[name].copy()
            expected[name][changed[~right]] = redone[name][~right]
    return expected


def arriving(layer: Layer, outputs: Outputs) -> dict[str, NDArray[Any]] | None:
    """The real streams that a layer's shortcut reads, by layer; None where they are not there."""
    if not isinstance(layer, Stage) or layer.shortcut is None:
        return {}
    source = layer.shortcut.source
    return {source: outputs[f"{source}.real"]} if f"{source}.real" in outputs else None


def _signs(bits: NDArray[Any], *, ternary: bool) -> NDArray[np.int8] | None:
    """Their bits as int8; None where they are none: ±1, and 0 where the network's conventions know it."""
    if bits.dtype == np.bool_:
        return np.where(bits, 1, -1).astype(np.int8)
    return bits.astype(np.int8) if np.isin(bits, (-1, 0, 1) if ternary else (-1, 1)).all() else None
