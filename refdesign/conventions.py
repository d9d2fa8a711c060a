"""Every choice in which implementations of a binary layer differ, as data.

A network file and a vector file carry one `Conventions`; no function has a hidden default for any of
these choices. The presets are named after the implementation whose choices they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from refdesign.checks import meant, shown
from refdesign.errors import RefdesignError

ARITHMETICS = ("real", "torch", "onnxruntime", "keras", "released_torch")
"""`"real"`: exact arithmetic on the float32 parameters. All others are float programs, bit for bit."""

_CHOICES: dict[str, tuple[object, ...]] = {
    "sign_at_zero": (+1, -1, 0),
    "sign_rule": ("compare", "keras_round"),
    "arithmetic": ARITHMETICS,
    "threshold_scale": ("unit", "gamma"),
    "kernel_origin": ("top_left", "center_crop"),
    "channel_map": ("tile", "repeat"),
    "bit_one": (+1, -1),
    "bit_order": ("little", "big"),
    "word_order": ("little", "big"),
}


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """The choices in which implementations differ (docs/method.md, section 3). The defaults are `PAPER`.

    Attributes:
        sign_at_zero: the sign of an exact zero: +1, -1, or 0 (ternary ties, `torch.sign`).
        sign_rule: `"compare"`, or `"keras_round"`, the released Keras activation, which fires exactly
            when z > 2**-24 (so `sign_at_zero` must be -1 with it).
        arithmetic: how batch norm and dither are computed: one of `ARITHMETICS`.
        threshold_scale: z = y - s*T with s = 1 (`"unit"`) or s = gamma (`"gamma"`, released PyTorch code).
        kernel_origin: `"top_left"`: the kernel's phase is 0 at the map's first pixel. `"center_crop"`:
            whole periods are tiled over the map and the centre is cropped (released Keras code).
        channel_map: channel c uses the kernel's slice c mod g (`"tile"`) or c div (C/g) (`"repeat"`).
        bit_one: in exports, what a 1 bit means.
        bit_order: in exports, the order of the bits in a word.
        word_order: in exports, the order of the words of a pixel.

    Raises:
        RefdesignError: a value is not among the choices, or two choices exclude each other.

    >>> Conventions(sign_at_zero=-1).sign_at_zero
    -1
    >>> Conventions(sign_at_zero=2)
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: conventions, sign_at_zero: found 2, expected one of 1, -1, 0
    """

    sign_at_zero: int = +1
    sign_rule: str = "compare"
    arithmetic: str = "real"
    threshold_scale: str = "unit"
    kernel_origin: str = "top_left"
    channel_map: str = "tile"
    bit_one: int = +1
    bit_order: str = "little"
    word_order: str = "little"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            found = getattr(self, name)
            if isinstance(found, bool) or not any(found == c and type(found) is type(c) for c in choices):
                expected = ", ".join(str(c) for c in choices)
                raise RefdesignError(f"conventions, {name}: found {found!r}, expected one of {expected}")
        if self.sign_rule == "keras_round" and self.sign_at_zero != -1:
            raise RefdesignError(
                f"conventions, sign_at_zero: found {self.sign_at_zero}, expected -1: "
                "the rule keras_round fires only above 2**-24"
            )

    def replace(self, **changes: Any) -> Conventions:
        """A copy with some choices changed.

        Raises:
            RefdesignError: there is no such choice, or it has no such value.

        >>> PAPER.replace(arithmetic="torch").arithmetic
        'torch'
        >>> PAPER.replace(aritmetic="torch")
        Traceback (most recent call last):
        refdesign.errors.RefdesignError: conventions: unknown field 'aritmetic' (did you mean 'arithmetic'?), \
expected arithmetic, bit_one, bit_order, channel_map, kernel_origin, sign_at_zero, sign_rule, threshold_scale, \
word_order
        """
        _check_names(changes)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, int | str]:
        """The choices as plain data, for JSON.

        >>> PAPER.to_dict()["kernel_origin"]
        'top_left'
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conventions:
        """The inverse of `to_dict`; every field must be there, none besides.

        >>> Conventions.from_dict(LARQ.to_dict()) == LARQ
        True
        """
        if not isinstance(data, Mapping):
            raise RefdesignError(f"conventions: found {shown(data)}, expected the choices by name")
        _check_names(data)
        for name in sorted(_CHOICES):
            if name not in data:
                raise RefdesignError(f"conventions: field {name!r} is missing")
        return cls(**data)


def _check_names(found: Mapping[str, Any]) -> None:
    for name in found:
        if name not in _CHOICES:
            close = meant(name, _CHOICES) if isinstance(name, str) else ""
            raise RefdesignError(f"conventions: unknown field {name!r}{close}, expected {', '.join(sorted(_CHOICES))}")


def check_conventions(where: str, found: object) -> None:
    """Refuse what is no `Conventions`, such as the name of a preset or of an arithmetic.

    >>> check_conventions("fold", "torch")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: fold, conventions: found 'torch', expected a Conventions, such as PAPER or \
PAPER.replace(arithmetic='torch')
    """
    if not isinstance(found, Conventions):
        raise RefdesignError(
            f"{where}, conventions: found {shown(found)}, expected a Conventions, such as PAPER or "
            "PAPER.replace(arithmetic='torch')"
        )


PAPER = Conventions()
"""The project's default; where the paper is silent it follows the field."""

RELEASED_KERAS = Conventions(sign_at_zero=-1, sign_rule="keras_round", arithmetic="keras", kernel_origin="center_crop")
"""The authors' Keras code (BinaryNet)."""

RELEASED_TORCH = Conventions(sign_at_zero=0, arithmetic="released_torch", threshold_scale="gamma")
"""The authors' PyTorch code (the ReCU models)."""

LARQ = Conventions(arithmetic="keras", bit_one=-1)
"""Larq and its compute engine."""

FINN = Conventions()
"""FINN; the same choices as `PAPER`."""

PRESETS: dict[str, Conventions] = {
    "PAPER": PAPER,
    "RELEASED_KERAS": RELEASED_KERAS,
    "RELEASED_TORCH": RELEASED_TORCH,
    "LARQ": LARQ,
    "FINN": FINN,
}
"""The presets by name."""
