"""What stands behind an accumulator, as ONNX nodes: integer thresholds, tables, or a program of float operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds, fold
from refdesign.formats.onnx_functions import DOMAIN, FLOAT_SIGN, INTEGER_CELLS, INTEGER_SIGN
from refdesign.formats.onnx_graph import GraphBuilder
from refdesign.network import (
    BinaryDense,
    CombinedConv2d,
    Domain,
    NetworkData,
    RealConv2d,
    Stage,
    accumulator_domain,
    fold_channels,
)
from refdesign.ops.batch_norm import batch_norm, dithered_batch_norm, scale_and_shift
from refdesign.ops.dither import first_phase, phases
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.parameters import NO_DITHER, BatchNorm, ThresholdKernel
from refdesign.paths import thresholds_of

_LARGEST_TABLE = 1 << 24
_BLOCK = 1 << 18
"""Values of a table that are computed at once: exact arithmetic takes some 200 bytes of scratch for each."""
_SINGLE_OPERATIONS = ("onnxruntime", "keras", "released_torch")
"""Float programs of single float32 operations, which ONNX can spell out; the others fuse or are exact."""


class Thresholding:
    """Makes the nodes behind accumulators, in one form, for one network."""

    def __init__(self, builder: GraphBuilder, network: NetworkData, form: str) -> None:
        self.builder = builder
        self.network = network
        self.conventions = network.conventions
        self.form = form
        self.thresholds = thresholds_of(network)
        self._domains = _domains(network, self.thresholds)

    def folded_bits(self, layer: Stage, sums: str) -> str:
        """The bits of a layer without a shortcut: float32 of int32 sums."""
        if self.form == "float":
            self._check_program(layer)
            return self._float_bits(layer, self._float_y(layer, sums), layer.kernel or NO_DITHER)
        found = self.thresholds[layer.name]
        cells = [
            self.builder.constant(getattr(found, name).astype(np.int32), f"{layer.name}/{name}")
            for name in INTEGER_CELLS
        ]
        kernel = layer.kernel or NO_DITHER
        return self._function(layer, INTEGER_SIGN, [sums, *cells], origin=self._origin(layer, kernel))

    def plain_bits(self, layer: Stage, real: str) -> str:
        """The signs of a real stream, float32."""
        return self._float_bits(layer, real, NO_DITHER)

    def normalised(self, layer: Stage, values: str, *, dithered: bool) -> str:
        """z, or y without the dither, float32, of a layer's sums."""
        if isinstance(layer, (RealConv2d, CombinedConv2d)):
            kernel = layer.kernel if dithered else None
            y = self.float_program(layer.name, values, fold_channels(layer), (1, 1))
            return y if kernel is None else self._minus_map(layer, y, kernel)
        if self.form == "float" and self.conventions.arithmetic in _SINGLE_OPERATIONS:
            y = self._float_y(layer, values)
            return y if not dithered or layer.kernel is None else self._minus_map(layer, y, layer.kernel)
        return self._table(layer, values, dithered)

    def _function(self, layer: Stage, kind: str, inputs: list[str], **attributes: Any) -> str:
        """A call of one of the project's functions; a dense layer counts as a map of one pixel."""
        if not isinstance(layer, BinaryDense):
            return self.builder.op(kind, *inputs, name=f"{layer.name}/bits", domain=DOMAIN, **attributes)
        axes = self.builder.constant([2, 3], f"{layer.name}/axes")
        pixel = self.builder.op("Unsqueeze", inputs[0], axes, name=f"{layer.name}/pixel")
        bits = self.builder.op(kind, pixel, *inputs[1:], name=f"{layer.name}/bits", domain=DOMAIN, **attributes)
        return self.builder.op("Squeeze", bits, axes, name=f"{layer.name}/row")

    def _extent(self, layer: Stage) -> tuple[int, int]:
        shape = self.network.shapes[layer.name].output
        return (shape[0], shape[1]) if len(shape) == 3 else (1, 1)

    def _origin(self, layer: Stage, kernel: ThresholdKernel) -> list[int]:
        origin = self.conventions.kernel_origin
        return [first_phase(self._extent(layer)[axis], kernel.shape[axis], origin) for axis in (0, 1)]

    def _float_bits(self, layer: Stage, y: str, kernel: ThresholdKernel) -> str:
        rule = self.conventions
        scale: NDArray[np.float32] = np.ones(1, np.float32)
        if rule.threshold_scale == "gamma" and kernel is not NO_DITHER:
            scale = fold_channels(layer).gamma.reshape(-1, 1, 1)
        repeat = layer.out_channels // kernel.shape[2] if rule.channel_map == "repeat" else 1
        inputs = [
            y,
            self.builder.constant(kernel.values, f"{layer.name}/kernel"),
            self.builder.constant(scale, f"{layer.name}/threshold_scale"),
        ]
        return self._function(
            layer, FLOAT_SIGN, inputs, origin=self._origin(layer, kernel), channel_repeat=repeat,
            boundary=KERAS_ROUND_BOUNDARY if rule.sign_rule == "keras_round" else 0.0,
            sign_at_boundary=rule.sign_at_zero,
        )  # fmt: skip

    def _check_program(self, layer: Stage) -> None:
        """Whether single float operations give the network's bits for every attainable accumulator."""
        if self.conventions.arithmetic in _SINGLE_OPERATIONS:
            return
        meant = self.thresholds[layer.name]
        domain = meant.certificate.domain
        program = self.conventions.replace(arithmetic="onnxruntime")
        try:
            spelled = fold(
                fold_channels(layer), layer.kernel, fan_in=layer.fan_in, conventions=program,
                domain=(domain.low, domain.high, domain.step),
            )  # fmt: skip
        except RefdesignError as error:
            raise RefdesignError(f"layer {layer.name!r}: {error}") from None
        different = np.any([getattr(meant, name) != getattr(spelled, name) for name in INTEGER_CELLS], axis=0)
        if different.any():
            raise RefdesignError(
                f"layer {layer.name!r}, arithmetic: found {self.conventions.arithmetic!r}, whose bits single float32 "
                f"operations do not give in {int(different.any(axis=(0, 1)).sum())} channels; expected the form "
                "'folded', which holds under every arithmetic"
            )

    def _float_y(self, layer: Stage, sums: str) -> str:
        value = self.builder.cast(sums, np.float32, f"{layer.name}/v")
        axes = () if isinstance(layer, BinaryDense) else (1, 1)
        batch_norm_ = fold_channels(layer)
        if self.conventions.arithmetic in _SINGLE_OPERATIONS:
            return self.float_program(layer.name, value, batch_norm_, axes)
        return self.float_program(layer.name, value, batch_norm_, axes, "onnxruntime")

    def float_program(
        self, name: str, value: str, bn: BatchNorm, axes: tuple[int, ...], arithmetic: str | None = None
    ) -> str:
        """y of float32 values, one float32 operation after the other.

        Args:
            name: the layer's.
            value: float32, channels on axis 1.
            bn: the batch norm.
            axes: (1, 1) where maps follow the channels, () where they stand last.
            arithmetic: one of `_SINGLE_OPERATIONS`; None is the network's.
        """
        arithmetic = arithmetic or self.conventions.arithmetic
        if arithmetic not in _SINGLE_OPERATIONS:
            raise RefdesignError(
                f"layer {name!r}, arithmetic: found {arithmetic!r} on real sums, which ONNX has no operators for; "
                f"expected one of {', '.join(_SINGLE_OPERATIONS)}"
            )
        steps: list[tuple[str, NDArray[np.float32]]] = []
        if bn.alpha is not None:
            steps.append(("Mul", bn.alpha))
        if arithmetic == "released_torch":
            deviation = np.sqrt(bn.variance + np.float32(bn.epsilon))
            steps += [("Sub", bn.mean), ("Div", deviation), ("Mul", bn.gamma), ("Add", bn.beta)]
        else:
            try:
                k, c = scale_and_shift(bn, arithmetic)
            except RefdesignError as error:
                raise RefdesignError(f"layer {name!r}: {error}") from None
            steps += [("Mul", k), ("Add", c)]
        for kind, parameter in steps:
            operand = self.builder.constant(parameter.reshape(-1, *axes), f"{name}/{kind.lower()}")
            value = self.builder.op(kind, value, operand, name=f"{name}/y")
        return value

    def _minus_map(self, layer: Stage, y: str, kernel: ThresholdKernel) -> str:
        """z = y - s*T with the map spelled out."""
        cells = kernel.values[:, :, self._slices(layer, kernel)]
        if self.conventions.threshold_scale == "gamma":
            cells = fold_channels(layer).gamma * cells
        over_map = self.builder.constant(self._over_map(layer, kernel, cells), f"{layer.name}/thresholds")
        return self.builder.op("Sub", y, over_map, name=f"{layer.name}/z")

    def _slices(self, layer: Stage, kernel: ThresholdKernel) -> NDArray[np.intp]:
        channel, g = np.arange(layer.out_channels), kernel.shape[2]
        return channel % g if self.conventions.channel_map == "tile" else channel // (layer.out_channels // g)

    def _over_map(self, layer: Stage, kernel: ThresholdKernel, cells: NDArray[Any]) -> NDArray[Any]:
        """Cells (m, n, C) over the layer's map: (C, H, W)."""
        height, width = self._extent(layer)
        origin = self.conventions.kernel_origin
        rows, columns = phases(height, kernel.shape[0], origin), phases(width, kernel.shape[1], origin)
        return np.asarray(cells[rows[:, np.newaxis], columns].transpose(2, 0, 1))

    def _table(self, layer: Stage, sums: str, dithered: bool) -> str:
        """The named arithmetic's own value of every attainable accumulator, looked up."""
        kernel = (layer.kernel or NO_DITHER) if dithered else NO_DITHER
        m, n, _ = kernel.shape
        low, high, step = self._domains[layer.name]
        size = int((high - low).max()) // step + 1
        if size * m * n * layer.out_channels > _LARGEST_TABLE:
            raise RefdesignError(
                f"layer {layer.name!r}: found {size} attainable sums under {m}x{n} phases in {layer.out_channels} "
                f"channels, expected at most {_LARGEST_TABLE} values of a real output in all"
            )
        values = self._values(layer, dithered, size)
        table = self.builder.constant(values.reshape(-1), f"{layer.name}/values")
        cell = np.arange(m * n * layer.out_channels, dtype=np.int32).reshape(m, n, -1) * np.int32(size)
        base = self._over_map(layer, kernel, cell) if not isinstance(layer, BinaryDense) else cell[0, 0]
        lowest = low.astype(np.int32).reshape((-1,) if isinstance(layer, BinaryDense) else (-1, 1, 1))
        index = self.builder.op(
            "Sub", sums, self.builder.constant(lowest, f"{layer.name}/lowest"), name=f"{layer.name}/above"
        )
        if step != 1:
            unit = self.builder.constant(np.int32(step), f"{layer.name}/step")
            index = self.builder.op("Div", index, unit, name=f"{layer.name}/steps")
        where = self.builder.constant(base.astype(np.int32), f"{layer.name}/cells")
        index = self.builder.op("Add", index, where, name=f"{layer.name}/index")
        return self.builder.op("Gather", table, index, name=f"{layer.name}/looked_up", axis=0)

    def _values(self, layer: Stage, dithered: bool, size: int) -> NDArray[np.float32]:
        """z, or y without the dither, of a layer's lowest attainable sums: (m, n, C, size), sums last."""
        kernel = (layer.kernel or NO_DITHER) if dithered else NO_DITHER
        m, n, _ = kernel.shape
        low, high, step = self._domains[layer.name]
        norm, from_top_left = fold_channels(layer), self.conventions.replace(kernel_origin="top_left")
        values = np.empty((m, n, layer.out_channels, size), np.float32)
        block = max(1, _BLOCK // (m * n * layer.out_channels))
        for start in range(0, size, block):
            places = np.arange(start, min(start + block, size), dtype=np.int64)
            attainable = np.minimum(low + step * places[:, np.newaxis], high).astype(np.int32)
            shape = (len(places), m, n, layer.out_channels)
            sums = np.ascontiguousarray(np.broadcast_to(attainable[:, np.newaxis, np.newaxis], shape))
            made = (
                dithered_batch_norm(sums, norm, kernel, from_top_left)
                if dithered
                else batch_norm(sums, norm, self.conventions.arithmetic)
            )
            values[..., places] = made.transpose(1, 2, 3, 0)
        return values


def _domains(network: NetworkData, thresholds: Mapping[str, Thresholds]) -> dict[str, Domain]:
    """The attainable sums of every layer that has integer ones, by layer name."""
    domains: dict[str, Domain] = {}
    ternary = False
    for layer in network.layers:
        if isinstance(layer, Stage):
            if not isinstance(layer, (RealConv2d, CombinedConv2d)):
                domains[layer.name] = accumulator_domain(layer, ternary_input=ternary)
            found = thresholds.get(layer.name)
            ternary = network.conventions.sign_at_zero == 0 if found is None else bool(found.ternary.any())
    return domains
