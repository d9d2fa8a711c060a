"""What a tensor of an imported graph stands for: elements of one map of a network, and what was done to them.

A `Flow` carries the number of the element of its map in every place, -1 and below where padding put a constant. Nodes
that only move elements (pad, flip, transpose, flatten) move the numbers; a convolution or dense product then sees
from the numbers how its input is padded or ordered, however the exporter spelled that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.onnx_choices import Choice
from refdesign.network import PADDING_MODES, Convolution, Layer, MaxPool, Pair
from refdesign.ops.padding import FILLS, source_index

Shape = tuple[int, ...]
Step = tuple[str, Any]
"""An operation on every element: its name, and its constant per channel (C,) or over the map, or its shortcut."""

FILL_NUMBERS = {value: -1 - index for index, value in enumerate(FILLS.values())}
"""The number that stands for a padded constant: 0, +1 and -1."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A layer under construction: its product and its pool.

    Attributes:
        name: the layer's name.
        kind, fields: the class of the layer and what is known of its fields.
        shape: of its map now, (H, W, C) or (C,).
        largest: the largest accumulator in size, for thresholds that are never reached.
        reads: what its product reads and how, the same for two bases of one layer.
        source: of a real layer (a pool or a dense layer), the map that it reads.
    """

    name: str
    kind: type[Layer]
    fields: dict[str, Any]
    shape: Shape
    largest: float
    reads: tuple[Any, ...] = ()
    source: Flow | None = None

    def pooled(self, pool: MaxPool) -> Draft:
        """The same layer with a max pool behind its product."""
        extents = [(self.shape[axis] - pool.size[axis]) // pool.stride[axis] + 1 for axis in (0, 1)]
        if min(extents) < 1:
            raise RefdesignError(f"found a pool of {pool.size} on a map {self.shape}")
        return replace(self, fields={**self.fields, "pool": pool}, shape=(*extents, self.shape[2]))


@dataclass(frozen=True, eq=False)
class Term:
    """One term of a sum that is spelled out: elements of a map, and what each is multiplied with (None: nothing).

    Attributes:
        places: element numbers in the tensor's order, without the batch's axis's meaning (its extent is 1).
        weights: of the shape of `places`.
    """

    places: NDArray[np.int64]
    weights: NDArray[Any] | None

    def at(self, place: int, axis: int) -> Term:
        """The part at one place of an axis, without the axis."""
        weights = None if self.weights is None else np.asarray(np.take(self.weights, place, axis))
        return Term(np.asarray(np.take(self.places, place, axis)), weights)


@dataclass(frozen=True, eq=False)
class Flow:
    """A tensor that depends on the image.

    Attributes:
        kind: `"pixels"`, `"sums"` (a layer's sums and what was done to them since), `"choice"` (a function of those
            with few values), `"bits"`, or `"total"` (a sum that is spelled out).
        shape: of the map, (H, W, C) or (C,); before the first product as the graph's input has it.
        places: element numbers of the map, int64, with an axis of 1 for the batch.
        draft: the layer; None for pixels.
        steps: what was done to each element.
        choice: the function that a choice is.
        scale: of bits, what they are instead of ±1.
        terms: of a total, in order.
        batch: the batch's axis.
        running: the axis of a running sum; -1 for none.
        bias: what is added to a total last.
        spelling: of a total, the operator whose order of summation is its runtime's own; "" where the file's.
    """

    kind: str
    shape: Shape
    places: NDArray[np.int64]
    draft: Draft | None = None
    steps: tuple[Step, ...] = ()
    choice: Choice | None = None
    scale: float = 1.0
    terms: tuple[Term, ...] = ()
    batch: int = 0
    running: int = -1
    bias: NDArray[Any] | None = None
    spelling: str = ""

    @classmethod
    def of(cls, kind: str, shape: Shape, **more: Any) -> Flow:
        """A map in its own order, (1, H, W, C)."""
        return cls(kind, shape, np.arange(int(np.prod(shape)), dtype=np.int64).reshape(1, *shape), **more)

    def channels_first(self) -> Flow:
        """The same map as ONNX's operators leave it, (1, C, H, W)."""
        return replace(self, places=np.moveaxis(self.places, -1, 1)) if len(self.shape) == 3 else self

    @property
    def held(self) -> int:
        """How many elements it keeps in memory, or a few more."""
        return self.places.size + len(self.steps) + len(self.terms)

    @property
    def whole(self) -> bool:
        """Whether every element of the map is there once."""
        size = int(np.prod(self.shape))
        return self.places.size == size and np.array_equal(np.sort(self.places.ravel()), np.arange(size))

    def over_map(self, constant: NDArray[Any]) -> NDArray[Any]:
        """A constant that broadcasts over the tensor, as it lies over the map: with the map's axes, or 1.

        Raises:
            RefdesignError: a constant that makes the tensor larger, or a tensor that is not the whole map.
        """
        try:
            full = np.broadcast_to(constant, np.broadcast_shapes(constant.shape, self.places.shape))
        except ValueError as error:
            raise RefdesignError(f"found a constant of shape {constant.shape} for {self.places.shape}") from error
        if full.shape != self.places.shape:
            raise RefdesignError(f"found a constant of shape {constant.shape}, which enlarges {self.places.shape}")
        if constant.size == 1:
            return np.asarray(constant).reshape((1,) * len(self.shape))
        if not self.whole:
            raise RefdesignError("found arithmetic on a part of a map or on a padded one")
        ordered = np.empty(self.places.size, dtype=constant.dtype)
        ordered[self.places.ravel()] = full.ravel()
        by_place = ordered.reshape(-1, self.shape[-1])
        if np.all(by_place == by_place[0]):
            row: NDArray[Any] = by_place[0]
            return row.reshape((1,) * (len(self.shape) - 1) + (-1,))
        return ordered.reshape(self.shape)

    def step(self, kind: str, constant: NDArray[Any]) -> Flow:
        """One more operation with a constant that broadcasts over the tensor; none where it changes nothing.

        Raises:
            RefdesignError: as `over_map`.
        """
        neutral = {"mul": 1, "div": 1, "quotient": 1, "add": 0, "sub": 0}.get(kind)
        value = self.over_map(constant)
        if neutral is not None and np.all(constant == neutral):
            return self
        if not self.whole:
            raise RefdesignError("found arithmetic on a part of a map or on a padded one")
        if self.kind == "pixels":
            value = np.ascontiguousarray(np.broadcast_to(value, self.shape))
        elif value.size in (1, self.shape[-1]):
            value = np.ascontiguousarray(np.broadcast_to(value.ravel(), self.shape[-1:]))
        return replace(self, steps=(*self.steps, (kind, value)))

    def after(self, kind: str, *numbers: float) -> Flow:
        """One more operation that is the same for every element, such as a clip."""
        return replace(self, steps=(*self.steps, (kind, np.array(numbers, np.float32))))


def same_steps(a: tuple[Step, ...], b: tuple[Step, ...]) -> bool:
    """Whether two maps were treated alike."""
    return a is b or (len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True)))


def _same(a: Step, b: Step) -> bool:
    if a[0] != b[0] or not (isinstance(a[1], np.ndarray) and isinstance(b[1], np.ndarray)):
        return a == b
    return a[1] is b[1] or (a[1].dtype == b[1].dtype and np.array_equal(a[1], b[1]))


def geometry(flow: Flow, kernel: Pair, found: dict[str, Any]) -> dict[str, Any]:
    """The padding of a convolution's input (1, C, H', W') and what its node says, as fields of `Convolution`.

    Args:
        flow: the input; its map is (H, W, C).
        kernel: rows and columns.
        found: the node's attributes.

    Raises:
        RefdesignError: an input that is no padded map, or padding that is not the same on both sides.
    """
    stride, dilation = pair(found, "strides"), pair(found, "dilations")
    pads = [int(value) for value in found.get("pads", (0, 0, 0, 0))]
    automatic = found.get("auto_pad", b"NOTSET")
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        spans = [extent * (taps - 1) + 1 for extent, taps in zip(dilation, kernel, strict=True)]
        totals = [max((-(-n // step) - 1) * step + span - n, 0)
                  for n, step, span in zip(flow.places.shape[2:], stride, spans, strict=True)]  # fmt: skip
        half, more = [total // 2 for total in totals], [-(-total // 2) for total in totals]
        pads = [*half, *more] if automatic == b"SAME_UPPER" else [*more, *half]
    elif automatic not in (b"NOTSET", b"VALID", ""):
        raise RefdesignError(f"found auto_pad {automatic!r}, expected NOTSET, VALID or SAME")
    if len(pads) != 4 or pads[:2] != pads[2:] or min(pads) < 0:
        raise RefdesignError(f"found pads {pads}, expected the same before and behind")
    fields = {"stride": stride, "dilation": dilation, "groups": int(found.get("group", 1))}
    height, width, channels = flow.shape
    rows, columns = flow.places.shape[2:]
    around = ((rows - height) // 2, (columns - width) // 2)
    if max(pads):
        if not _is_padded(flow, (0, 0), "zeros"):
            raise RefdesignError("found padding before a convolution that pads itself")
        return {**fields, "padding": (pads[0], pads[1]), "padding_mode": "zeros"}
    if min(around) >= 0 and flow.places.shape[1] == channels:
        for mode in PADDING_MODES:
            if _is_padded(flow, around, mode):
                return {**fields, "padding": around, "padding_mode": mode}
    raise RefdesignError(
        f"found an input of shape {flow.places.shape[1:]} made of a map {flow.shape} in a way that is no padding "
        f"(of {', '.join(PADDING_MODES)}, the same on both sides)"
    )


def pair(found: dict[str, Any], name: str) -> Pair:
    """An attribute of two positive integers, (1, 1) where it is missing."""
    values = tuple(int(value) for value in found.get(name, (1, 1)))
    if len(values) != 2 or not all(1 <= value <= 65_535 for value in values):
        raise RefdesignError(f"found {name} {values}, expected two positive integers")
    return values[0], values[1]


def _is_padded(flow: Flow, around: Pair, mode: str) -> bool:
    height, width, channels = flow.shape
    if flow.places.shape != (1, channels, height + 2 * around[0], width + 2 * around[1]):
        return False
    try:
        rows, columns = source_index(height, around[0], mode), source_index(width, around[1], mode)
    except RefdesignError:
        return False
    inside = (rows[:, np.newaxis] >= 0) & (columns >= 0)
    pixel = rows[:, np.newaxis] * width + columns
    numbers = pixel * channels + np.arange(channels)[:, np.newaxis, np.newaxis]
    fill = FILL_NUMBERS[FILLS.get(mode, 0)]
    return bool(np.array_equal(flow.places[0], np.where(inside, numbers, fill)))


def is_map(kind: type[Layer]) -> bool:
    """Whether a layer leaves a map (H, W, C)."""
    return issubclass(kind, Convolution)
