"""What is known to go wrong, as data: the diagnosis runs the reference under each of these changes.

The order is the order of preference where several changes explain the same answers: conventions first, then what
happens often.
"""

from __future__ import annotations

from refdesign.verify.hypotheses.data import DATA
from refdesign.verify.hypotheses.decisions import DECISIONS
from refdesign.verify.hypotheses.sums import SUMS
from refdesign.verify.hypotheses.writing import WRITING
from refdesign.verify.variant import Change

_CONVENTIONS = (
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

CONVENTIONS = (
    *(
        Change(name=f"{field}={value}", group=group, says=says.format(value), conventions={field: value})
        for field, values, group, says in _CONVENTIONS
        for value in values
    ),
    Change(
        name="sign_rule=keras_round",
        group="sign",
        says="the sign is the released Keras rounding, which fires only above 2**-24",
        conventions={"sign_rule": "keras_round", "sign_at_zero": -1},
    ),
)
"""The choices of `Conventions`, one field at a time."""

CATALOGUE: tuple[Change, ...] = (*CONVENTIONS, *DECISIONS, *DATA, *SUMS, *WRITING)
"""Every change that the diagnosis tries."""
