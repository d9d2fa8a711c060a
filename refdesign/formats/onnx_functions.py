"""The dithered sign as two ONNX functions whose bodies are standard operators, so that every runtime executes them.

The domain is `org.refdesign`, version 1. Both functions take a map x (N, C, H, W) and cells of a period
(m rows, n columns, slices); the cell over pixel (i, j) is row (i + origin[0]) mod m, column (j + origin[1]) mod n.
`origin` is the phase of the map's first pixel: [0, 0] for a kernel at the top left, what
`refdesign.ops.dither.first_phase` gives for a cropped centre.

`DitheredSign(x, kernel, scale)` on float32: z = x - scale*T, two roundings; +1 where z > `boundary`, -1 where
z < `boundary`, `sign_at_boundary` (-1, 0 or +1) where they are equal. Channel c uses slice (c div `channel_repeat`)
mod g of the kernel (m, n, g): 1 is the channel map "tile", C/g is "repeat". scale is (C, 1, 1), or one number (1,).
`boundary` is 0, and 2**-24 for the released Keras activation.

`PeriodicThreshold(x, threshold, direction, constant, zero_low, zero_high)` on int32, cells (m, n, C): 0 where
zero_low <= x <= zero_high; otherwise `constant` where the direction is 0, +1 where the direction is +1 and
x >= threshold, +1 where it is -1 and x <= threshold, and -1 elsewhere. There is nothing in it to round, so no
optimiser can change it.

Both give float32 (N, C, H, W) in {-1, 0, +1}.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refdesign.formats.onnx_graph import OPSET, element_type, import_onnx

DOMAIN = "org.refdesign"
"""The domain of the project's ONNX functions."""

DOMAIN_VERSION = 1
"""The version of the domain; a reader refuses versions that it does not know."""

METADATA_PREFIX = "refdesign."
"""Before the keys of the project's own entries in a model's metadata."""

FLOAT_SIGN = "DitheredSign"
INTEGER_SIGN = "PeriodicThreshold"
INTEGER_CELLS = ("threshold", "direction", "constant", "zero_low", "zero_high")
"""The inputs of `PeriodicThreshold` behind x, fields of `refdesign.fold.Thresholds`."""


def dithered_sign() -> Any:
    """The function `DitheredSign` as an ONNX `FunctionProto`.

    >>> dithered_sign().domain, list(dithered_sign().input)
    ('org.refdesign', ['x', 'kernel', 'scale'])
    """
    body = _Body()
    channels = body.node("Gather", body.shape, body.index(1), axis=0)
    channel = body.node("Range", body.index(0), channels, body.index(1))
    group = body.node("Div", channel, body.attribute("channel_repeat", "int"))
    slices = body.node("Gather", body.node("Shape", "kernel"), body.index(2), axis=0)
    spread = body.node("Gather", body.over_map("kernel"), body.node("Mod", group, slices), axis=2)
    cells = body.node("Transpose", spread, perm=[2, 0, 1])
    z = body.node("Sub", "x", body.node("Mul", "scale", cells))
    boundary = body.attribute("boundary", "float")
    above, below = body.node("Greater", z, boundary), body.node("Less", z, boundary)
    tie = body.node("Cast", body.attribute("sign_at_boundary", "int"), to=element_type(np.float32))
    one, minus = body.float(1.0), body.float(-1.0)
    body.node("Where", above, one, body.node("Where", below, minus, tie), output="bits")
    return body.function(
        FLOAT_SIGN, ["x", "kernel", "scale"], ["origin", "channel_repeat", "boundary", "sign_at_boundary"]
    )


def periodic_threshold() -> Any:
    """The function `PeriodicThreshold` as an ONNX `FunctionProto`.

    >>> list(periodic_threshold().input)
    ['x', 'threshold', 'direction', 'constant', 'zero_low', 'zero_high']
    """
    body = _Body()
    threshold, direction, constant, low, high = (
        body.node("Transpose", body.over_map(name), perm=[2, 0, 1]) for name in INTEGER_CELLS
    )
    zero, one, minus = body.int32(0), body.int32(1), body.int32(-1)
    at_least, at_most = body.node("GreaterOrEqual", "x", threshold), body.node("LessOrEqual", "x", threshold)
    upwards, level = body.node("Greater", direction, zero), body.node("Equal", direction, zero)
    fires = body.node(
        "Or",
        body.node("And", upwards, at_least),
        body.node("And", body.node("Not", upwards), at_most),
    )
    sign = body.node("Where", level, constant, body.node("Where", fires, one, minus))
    tie = body.node("And", body.node("GreaterOrEqual", "x", low), body.node("LessOrEqual", "x", high))
    body.node("Cast", body.node("Where", tie, zero, sign), to=element_type(np.float32), output="bits")
    return body.function(INTEGER_SIGN, ["x", *INTEGER_CELLS], ["origin"])


class _Body:
    """The nodes of a function of a map x (N, C, H, W) and cells of a period."""

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self._names = self._fresh()
        self.nodes: list[Any] = []
        self.shape = self.node("Shape", "x")
        self._origin = self.attribute("origin", "ints")

    @staticmethod
    def _fresh() -> Iterator[str]:
        number = 0
        while True:
            yield f"t{number}"
            number += 1

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = next(self._names) if output is None else output
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def index(self, value: int) -> str:
        return self.node("Constant", value_int=value)

    def float(self, value: float) -> str:
        return self.node("Constant", value_float=value)

    def int32(self, value: int) -> str:
        return self.node("Cast", self.index(value), to=element_type(np.int32))

    def attribute(self, name: str, kind: str) -> str:
        """The function's attribute as a tensor."""
        types = self._onnx.AttributeProto
        number = {"int": types.INT, "ints": types.INTS, "float": types.FLOAT}[kind]
        node = self._onnx.helper.make_node("Constant", [], [next(self._names)])
        node.attribute.append(types(name=f"value_{kind}", ref_attr_name=name, type=number))
        self.nodes.append(node)
        return str(node.output[0])

    def over_map(self, cells: str) -> str:
        """Cells (m, n, slices) repeated over the map's pixels: (H, W, slices)."""
        for axis in (0, 1):
            extent = self.node("Gather", self.shape, self.index(axis + 2), axis=0)
            position = self.node("Range", self.index(0), extent, self.index(1))
            first = self.node("Gather", self._origin, self.index(axis), axis=0)
            period = self.node("Gather", self.node("Shape", cells), self.index(axis), axis=0)
            phase = self.node("Mod", self.node("Add", position, first), period)
            cells = self.node("Gather", cells, phase, axis=axis)
        return cells

    def function(self, name: str, inputs: list[str], attributes: list[str]) -> Any:
        return self._onnx.helper.make_function(
            DOMAIN, name, inputs, ["bits"], self.nodes,
            [self._onnx.helper.make_opsetid("", OPSET)], attributes, doc_string=__doc__,
        )  # fmt: skip
