"""The choices of `Conventions`, taken otherwise: one field at a time, in the whole network or in some layers."""

from __future__ import annotations

from refdesign.verify.change import Change

_FIELDS = (
    ("sign_at_zero", (+1, -1, 0), "sign", "the sign of an exact zero is {}"),
    ("kernel_origin", ("top_left", "center_crop"), "phase", "the dither starts as {}"),
    ("channel_map", ("tile", "repeat"), "phase", "the dither's slices lie over the channels as {}"),
    ("threshold_scale", ("unit", "gamma"), "dither", "the dither is scaled by {}"),
    (
        "arithmetic",
        ("real", "torch", "onnxruntime", "keras", "released_torch"),
        "arithmetic",
        "batch norm and dither are computed as in {}",
    ),
)
_KERAS_ROUND = "the sign is the released Keras rounding, which fires only above 2**-24"
_COMPARE = "the sign is a comparison with zero, not the released Keras rounding"

CONVENTIONS: tuple[Change, ...] = (
    *(
        Change(name=f"{field}={value}", group=group, says=says.format(value), conventions={field: value})
        for field, values, group, says in _FIELDS
        for value in values
    ),
    Change(
        name="sign_rule=keras_round",
        group="sign",
        says=_KERAS_ROUND,
        conventions={"sign_rule": "keras_round", "sign_at_zero": -1},
    ),
    Change(name="sign_rule=compare", group="sign", says=_COMPARE, conventions={"sign_rule": "compare"}),
)
"""The choices of `Conventions`, one field at a time."""
