"""What Keras models call their quantizers, Larq's and the authors': signs of activations, binarisers of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.parameters import ThresholdKernel

_LARQ_SIGNS = ("stesign", "approxsign", "swishsign")
_RELEASED = ("binarytanhunit",)
_NO_QUANTIZER = ("", "linear", "noop", "noopquantizer", "none", "identity")
_SOFTMAX = ("softmax", "logsoftmax")


@dataclass(frozen=True)
class Sign:
    """A sign in a model.

    Attributes:
        rules: the conventions that it settles, by name.
        kernel: the threshold kernel of a `DeSign` layer.
        how: what it is called.
    """

    rules: Mapping[str, Any]
    kernel: ThresholdKernel | None
    how: str


def plain_name(value: Any) -> str:
    """A class or function's name in a description, without package and spelling: `Larq>SteSign` is `stesign`.

    >>> plain_name("larq>ste_sign"), plain_name({"class_name": "function", "config": "ste_sign"}), plain_name(None)
    ('stesign', 'stesign', '')
    """
    if isinstance(value, dict):
        name = value.get("class_name")
        inner = value.get("config")
        if isinstance(inner, str) and name in ("function", "__lambda__"):
            name = inner
        value = name
    text = value if isinstance(value, str) else ""
    return re.sub(r"[^a-z0-9]", "", re.split(r"[>.]", text)[-1].lower())[:60]


def activation(value: Any) -> Sign | str | None:
    """What an activation is: a `Sign`, `"softmax"`, or None for none.

    Raises:
        RefdesignError: anything else, which binary networks have not.

    >>> activation("ste_sign").rules, activation("linear"), activation("softmax")
    ({'sign_at_zero': 1}, None, 'softmax')
    """
    name = plain_name(value)
    if name in _NO_QUANTIZER:
        return None
    if name in _SOFTMAX:
        return "softmax"
    if name in _LARQ_SIGNS:
        return Sign({"sign_at_zero": 1}, None, name)
    if name in _RELEASED:
        return Sign({"sign_at_zero": -1, "sign_rule": "keras_round"}, None, name)
    raise RefdesignError(
        f"found the activation or quantizer {name!r}, expected a sign ({', '.join(_LARQ_SIGNS + _RELEASED)}): "
        "activations must be ±1"
    )


def weight_rule(value: Any) -> str | None:
    """The rule that a kernel quantizer stands for (`refdesign.formats.binarising.RULES`), None for real weights.

    Raises:
        RefdesignError: a quantizer of more than two values, or an unknown one.

    >>> weight_rule("ste_sign"), weight_rule({"class_name": "DoReFa", "config": {"k_bit": 1, "mode": "weights"}})
    ('sign', 'larq_dorefa')
    """
    name = plain_name(value)
    if name in _NO_QUANTIZER:
        return None
    if name in _LARQ_SIGNS:
        return "sign"
    if name in ("magnitudeawaresign", "xnorweightquantizer"):
        return "xnor"
    if name == "magnitudeawaresignunclipped":
        return "dorefa"
    config = value.get("config") if isinstance(value, dict) else None
    if name in ("dorefa", "dorefaquantizer", "dorefaweightquantizer") and isinstance(config, dict):
        if config.get("k_bit") == 1 and config.get("mode") == "weights":
            return "larq_dorefa"
        raise RefdesignError(
            f"found the quantizer DoReFa with {config.get('k_bit')} bits of {config.get('mode')}, expected 1 of weights"
        )
    raise RefdesignError(f"found the kernel quantizer {name!r}, expected a sign of weights, as ste_sign")


def design(config: Mapping[str, Any]) -> Sign:
    """The sign of this project's own `DeSign` layer, with its thresholds and conventions.

    Raises:
        RefdesignError: fields that are no thresholds or no conventions.
    """
    conventions = config.get("conventions")
    if not isinstance(conventions, dict):
        raise RefdesignError("conventions: found none in a DeSign layer")
    rules = Conventions.from_dict(conventions).to_dict()
    values = config.get("kernel")
    try:
        kernel = None if values is None else ThresholdKernel(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise RefdesignError("kernel: found no array of thresholds in a DeSign layer") from error
    return Sign({key: value for key, value in rules.items() if key != "arithmetic"}, kernel, "DeSign")
