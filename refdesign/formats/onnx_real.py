"""Real streams of an imported graph: residual additions, average pools, several bases, and the real last layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, unpack
from refdesign.errors import RefdesignError
from refdesign.formats.onnx_context import Context, Value, described
from refdesign.formats.onnx_flow import FILL_NUMBERS, Draft, Flow, Step
from refdesign.formats.onnx_layers import as_float32, is_hardtanh, tail_of
from refdesign.formats.onnx_totals import terms_of
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    CombinedConv2d,
    Pair,
    PixelConv2d,
    RealDense,
    Shortcut,
    Stage,
)


def added(context: Context, a: Flow, b: Flow) -> Flow:
    """The sum of two maps: two bases of a layer, a residual addition, or terms of a sum that is spelled out."""
    if "total" in (a.kind, b.kind) or (a.kind == b.kind == "sums" and a.draft is b.draft):
        return terms_of(a, b)
    if a.kind != "sums" or b.kind != "sums" or a.draft is None or b.draft is None:
        raise RefdesignError(f"found the sum of {described(a)} and {described(b)}, expected two real maps")
    bases = _bases(context, a, b)
    if bases is not None:
        return bases
    order = [draft.name for draft in context.drafts]
    places = [order.index(flow.draft.name) if flow.draft and flow.draft.name in order else -1 for flow in (a, b)]
    return _with_shortcut(context, a, b) if places[0] > places[1] else _with_shortcut(context, b, a)


def _with_shortcut(context: Context, main: Flow, arriving: Flow) -> Flow:
    """The newest layer's values with an earlier layer's added, pooled and padded on the way."""
    if main.draft is None or main.draft is not context.drafts[-1] or not main.whole or len(main.shape) != 3:
        raise RefdesignError("found a residual addition to something else than the newest layer's map")
    if arriving.places.shape != main.places.shape:
        raise RefdesignError(f"found a residual addition of {arriving.places.shape} to {main.places.shape}")
    pool, source = 1, arriving
    if arriving.draft is not None and arriving.draft.kind is AveragePool and arriving.draft.source is not None:
        size, source = arriving.draft.fields["size"], arriving.draft.source
        if size[0] != size[1] or arriving.steps:
            raise RefdesignError(f"found a shortcut through an average pool of {size} with more behind it")
        pool = size[0]
    arriving_shape = arriving.shape
    numbers = np.empty(main.places.size, np.int64)
    numbers[main.places.ravel()] = arriving.places.ravel()
    numbers = numbers.reshape(main.shape)
    kept = np.flatnonzero((numbers >= 0).any(axis=(0, 1)))
    before = int(kept[0]) if kept.size else 0
    padding = (before, main.shape[2] - before - arriving_shape[2])
    plain = np.arange(int(np.prod(arriving_shape))).reshape(arriving_shape)
    expected = np.pad(plain, ((0, 0), (0, 0), padding), constant_values=FILL_NUMBERS[0]) if min(padding) >= 0 else plain
    if not np.array_equal(numbers, expected):
        raise RefdesignError(
            f"found a shortcut from {arriving_shape} to {main.shape} that is no zero padding of its channels"
        )
    name = context.real(source)
    step: Step = ("shortcut", Shortcut(source=name, average_pool=pool, channel_padding=padding))
    return replace(main, steps=(*main.steps, step))


def _bases(context: Context, a: Flow, b: Flow) -> Flow | None:
    """Two products of the same bits or pixels as one layer; None where they are none."""
    first, second = a.draft, b.draft
    if first is None or second is None or any(draft.name in context.found for draft in (first, second)):
        return None
    if second.kind is CombinedConv2d:
        first, second, a, b = second, first, b, a
    geometry = ("stride", "padding", "padding_mode", "dilation", "groups", "multiplier", "offset")
    alike = (
        len(first.reads) == len(second.reads) == 3
        and first.reads[0] == second.reads[0] and first.reads[2] == second.reads[2]
        and np.array_equal(first.reads[1], second.reads[1])
        and all(first.fields.get(key) == second.fields.get(key) for key in geometry)
        and first.shape == second.shape and np.array_equal(a.places, b.places) and "pool" not in second.fields
    )  # fmt: skip
    if not alike or not (_is_scale(a.steps) and _is_scale(b.steps)):
        return None
    fields = {key: value for key, value in first.fields.items() if key in geometry}
    largest = sum(
        draft.largest * (float(np.abs(flow.steps[0][1]).max()) if flow.steps else 1.0)
        for draft, flow in ((first, a), (second, b))
    )
    if first.kind is second.kind is PixelConv2d:
        grids = [_digits(draft, flow.steps) for draft, flow in ((first, a), (second, b))]
        if any(grid is None for grid in grids):
            return None
        total = np.asarray(sum(grids))
        if np.abs(total).max() >= 2**31:
            raise RefdesignError("found integer weights beyond int32 in several convolutions")
        draft = replace(first, fields={**fields, "weights": total.astype(np.int32)}, largest=largest)
    elif first.kind in (BinaryConv2d, CombinedConv2d) and second.kind is BinaryConv2d:
        (bases, scales), (basis, scale) = _planes(first, a.steps), _planes(second, b.steps)
        fields |= {"weights": (*bases, *basis), "scales": np.concatenate([scales, scale])}
        draft = replace(first, kind=CombinedConv2d, largest=largest, fields=fields)
    else:
        return None
    kept = [other for other in context.drafts if other is not first and other is not second]
    at = min(number for number, other in enumerate(context.drafts) if other is first or other is second)
    context.drafts[:] = [*kept[:at], replace(draft, name=context.drafts[at].name), *kept[at:]]
    return replace(a, draft=context.drafts[at], steps=())


def _is_scale(steps: tuple[Step, ...]) -> bool:
    return not steps or (len(steps) == 1 and steps[0][0] == "mul" and steps[0][1].ndim == 1)


def _digits(draft: Draft, steps: tuple[Step, ...]) -> Any:
    """A pixel layer's integer weights times the place of their digit; None where that is no integer."""
    weights = draft.fields["weights"]
    place = steps[0][1] if steps else np.ones(1, np.int32)
    if place.dtype.kind != "i":
        return None
    grid = unpack(weights) if isinstance(weights, PackedBits) else weights
    return grid.astype(np.int64) * place.astype(np.int64).reshape(-1, 1, 1, 1)


def _planes(draft: Draft, steps: tuple[Step, ...]) -> tuple[tuple[PackedBits, ...], NDArray[np.float32]]:
    if draft.kind is CombinedConv2d:
        if steps:
            raise RefdesignError("found a scale of several bases together, expected one for each")
        return draft.fields["weights"], draft.fields["scales"]
    scale = as_float32(np.asarray(steps[0][1]), "found scales") if steps else np.ones(draft.shape[-1], np.float32)
    return (draft.fields["weights"],), scale[np.newaxis]


def pooled(flow: Flow, size: Pair, name: str = "") -> Flow:
    """The average pool of a whole map's real values."""
    if flow.draft is None or not issubclass(flow.draft.kind, Stage) or len(flow.shape) != 3:
        raise RefdesignError(f"found an average pool of {described(flow)}, expected one of a layer's real values")
    extents = [flow.shape[axis] // size[axis] for axis in (0, 1)]
    if min(extents) < 1:
        raise RefdesignError(f"found an average pool of {size} on a map {flow.shape}")
    whole = Flow.of("sums", flow.shape, draft=flow.draft, steps=flow.steps)
    draft = Draft(name, AveragePool, {"size": size}, (*extents, flow.shape[2]), 0.0, source=whole)
    return Flow.of("sums", draft.shape, draft=draft).channels_first()


def real_dense(context: Context, flow: Flow, weights: NDArray[Any], bias: Value, name: str, spelling: str = "") -> Flow:
    """A real dense layer on real values.

    Args:
        context: gets the layer, and the average pool before it.
        flow: what it reads, with the batch norm of its inputs among its steps.
        weights: (O, I), inputs in the order (row, column, channel).
        bias: (O,) or None.
        name: of the node, which can be the layer's.
        spelling: the operator whose order of summation is its runtime's own; "" where the file spells it out.
    """
    if flow.steps and flow.steps[-1][0] == "wide":  # the products are of float64
        flow = replace(flow, steps=flow.steps[:-1])
    inputs, steps = flow, flow.steps
    if flow.draft is not None and flow.draft.kind is AveragePool:
        pool_layer(context, flow.draft)
    else:
        front, steps = _split(flow.steps)
        context.real(replace(flow, steps=front))
    norm = tail_of(tuple(_flattened(step, flow.shape) for step in steps), weights.shape[1])
    if norm.over_map is not None or norm.shortcut is not None or norm.hardtanh:
        raise RefdesignError("found more than a batch norm before a real dense layer")
    ours = name.endswith("/rounded")
    named = context.name(name.removesuffix("/rounded") if ours else "", "dense")
    fields: dict[str, Any] = {
        "weights": as_float32(weights, "found weights"), "bias": None,
        "input_batch_norm": norm.batch_norm,
    }  # fmt: skip
    if bias is not None:
        values = as_float32(np.asarray(bias).ravel(), "found a bias")
        fields["bias"] = np.ascontiguousarray(np.broadcast_to(values, weights.shape[:1]))
    if spelling:
        context.assumed.append(
            f"{named}: real products are summed in the order of its inputs; the order of {spelling} is its runtime's"
        )
    draft = Draft(named, RealDense, fields, (len(weights),), 0.0, source=inputs)
    context.drafts.append(draft)
    context.programs.add(norm.arithmetic)
    return Flow.of("sums", draft.shape, draft=draft)


def _split(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """A layer's own steps, and the batch norm of the next layer's inputs: behind a clamp, or the second of two."""
    clamps = [index for index, step in enumerate(steps) if is_hardtanh(step) or step[0] == "shortcut"]
    norms = [index for index, step in enumerate(steps) if step[0] == "bn"]
    at = clamps[-1] + 1 if clamps else norms[1] if len(norms) > 1 else len(steps)
    return steps[:at], steps[at:]


def _flattened(step: Step, shape: tuple[int, ...]) -> Step:
    """A step on a map as one on its flattened values (row, column, channel)."""
    kind, values = step
    if not isinstance(values, np.ndarray) or kind not in ("mul", "div", "add", "sub", "bn"):
        return step
    if kind == "bn":
        return kind, np.stack([np.broadcast_to(row, shape).ravel() for row in values])
    return kind, np.ascontiguousarray(np.broadcast_to(values, shape).ravel())


def pool_layer(context: Context, draft: Draft) -> Draft:
    """An average pool as a layer of its own, behind the layer whose real values it reads."""
    if draft.source is None:
        raise RefdesignError("found an average pool of nothing")
    context.real(draft.source)
    ours = draft.name.endswith("/mean")
    pool = replace(draft, name=context.name(draft.name.removesuffix("/mean") if ours else "", "pool"))
    context.drafts.append(pool)
    return pool
