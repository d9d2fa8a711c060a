"""Sums that a graph spells out term by term: average pools, and real products in a named order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.onnx_context import described
from refdesign.formats.onnx_flow import Flow, Term, same_steps
from refdesign.network import Pair

_LARGEST_TOTAL = 1 << 26
_MOST_TERMS = 1 << 16
_LONGEST_CHAIN = 1 << 12


def weighted(flow: Flow, weights: NDArray[Any]) -> Flow:
    """A part of a map times weights, which can make the tensor larger: the first term of a sum."""
    extents = np.broadcast_shapes(flow.places.shape, weights.shape)
    if int(np.prod(extents)) > _LARGEST_TOTAL:
        raise RefdesignError(f"found products {extents}, expected fewer")
    term = Term(np.broadcast_to(flow.places, extents), np.broadcast_to(weights, extents))
    return replace(flow, kind="total", terms=(term,), places=term.places, batch=0)


def terms_of(a: Flow, b: Flow) -> Flow:
    """A sum with one more term.

    Raises:
        RefdesignError: parts of different layers, or sums of sums, whose order would be lost.
    """
    parts = []
    for flow in (a, b):
        parts.append(flow.terms if flow.kind == "total" else (Term(flow.places, None),))
    (first, second), kinds = parts, {a.kind, b.kind} - {"total"}
    if a.draft is not b.draft or not same_steps(a.steps, b.steps) or not kinds <= {"sums", "pixels"}:
        raise RefdesignError(f"found the sum of {described(a)} and {described(b)}, of different layers")
    if len(second) > 1:
        first, second = second, first  # the sum of two numbers has no order
    if len(second) > 1 or first[0].places.shape != second[0].places.shape:
        raise RefdesignError("found sums of sums, or of parts of different shapes, expected one term after the other")
    if len(first) > _LONGEST_CHAIN:
        raise RefdesignError(f"found a sum of more than {_LONGEST_CHAIN} maps, expected fewer")
    if (first[0].weights is None) != (second[0].weights is None):
        raise RefdesignError("found terms with and without weights in one sum")
    return replace(a, kind="total", terms=(*first, *second), places=first[0].places)


def with_bias(flow: Flow, constant: NDArray[Any]) -> Flow:
    """A sum of weighted terms with a constant added behind them; a zero changes nothing."""
    if not constant.any():
        return flow
    if flow.bias is not None or any(term.weights is None for term in flow.terms):
        raise RefdesignError("found a constant added to a sum of maps, expected a bias behind weighted terms")
    return replace(flow, bias=np.broadcast_to(constant, flow.places.shape))


def spread(flow: Flow, axis: int, spelling: str = "", *, keep: bool = False) -> Flow:
    """A single term's elements along an axis as terms of a sum, in their order.

    Args:
        flow: a total of one term, such as a row times a matrix.
        axis: which is summed over.
        spelling: as in `Flow`.
        keep: whether the axis stays, with an extent of 1.
    """
    if len(flow.terms) != 1 or flow.terms[0].weights is None or flow.bias is not None:
        raise RefdesignError("found a sum along an axis of something else than products")
    term, weights = flow.terms[0], np.asarray(flow.terms[0].weights)
    axis %= term.places.ndim
    if not 1 <= term.places.shape[axis] <= _MOST_TERMS:
        raise RefdesignError(f"found a sum along axis {axis} of {term.places.shape}")
    # Views: `np.take` of one place would copy what was broadcast, whole, for every place.
    at = [(slice(None),) * axis + (slice(i, i + 1) if keep else i,) for i in range(term.places.shape[axis])]
    terms = tuple(Term(np.asarray(term.places[place]), np.asarray(weights[place])) for place in at)
    return replace(flow, terms=terms, places=terms[0].places, running=-1, spelling=spelling)


def stacked(parts: Sequence[Any], axis: int) -> Flow:
    """A sum, and products to be added to it one by one, put together along an axis; zeros are no terms.

    Raises:
        RefdesignError: parts of another form.
    """
    terms: tuple[Term, ...] = ()
    first: Flow | None = None
    for part in parts:
        if isinstance(part, np.ndarray) and not part.any() and not terms:
            continue
        if not isinstance(part, Flow) or part.kind != "total" or part.running >= 0 or part.bias is not None:
            raise RefdesignError("found products put together with something else than their sum")
        if first is not None and (part.draft is not first.draft or not same_steps(part.steps, first.steps)):
            raise RefdesignError("found products of different layers put together")
        extent = part.places.shape[axis]
        if len(part.terms) > 1 and (terms or extent != 1):
            raise RefdesignError("found a sum put behind products, expected it before")
        first = first or part
        terms += spread(part, axis, keep=True).terms if len(part.terms) == 1 else part.terms
    if first is None:
        raise RefdesignError("found no products put together")
    shape = list(terms[0].places.shape)
    shape[axis] = len(terms)
    return replace(first, terms=terms, places=np.broadcast_to(terms[0].places, shape))


def last_of(flow: Flow, axis: int, *, keep: bool) -> Flow:
    """The last place of a running sum along an axis: the sum of all."""
    if len(flow.terms) == 1:
        return spread(flow, axis, keep=keep)
    terms = flow.terms
    if not keep:
        terms = tuple(term.at(0, axis) for term in terms)
    return replace(flow, terms=terms, places=terms[0].places, running=-1)


def matrix_of(flow: Flow) -> NDArray[Any]:
    """The weights (O, I) of a sum of inputs times rows of weights, inputs in the map's order.

    Raises:
        RefdesignError: terms of another form or order.
    """
    inputs = int(np.prod(flow.shape))
    rows = []
    for number, term in enumerate(flow.terms):
        if term.weights is None or term.places.ndim != 2 or np.any(term.places != number) or term.places.size == 0:
            raise RefdesignError("found a sum of products that is no dense layer in the order (row, column, channel)")
        rows.append(term.weights[0])
    if len(rows) != inputs:
        raise RefdesignError(f"found a sum of {len(rows)} products on {inputs} inputs, expected all")
    return np.stack(rows, axis=1)


def windows(flow: Flow, count: float) -> Pair:
    """The windows, (rows, columns), whose mean a sum of parts of a map is, once divided by `count`.

    Raises:
        RefdesignError: another number of terms, or terms that are no windows, row by row.
    """
    if len(flow.terms) != count or any(term.weights is not None for term in flow.terms) or len(flow.shape) != 3:
        raise RefdesignError(f"found {len(flow.terms)} terms divided by {count:g}, expected the mean of windows")
    height, width, channels = flow.shape
    plain = np.arange(height * width * channels).reshape(flow.shape)
    for rows in range(1, int(count) + 1):
        columns = int(count) // rows
        if rows * columns != count or rows > height or columns > width:
            continue
        views = [
            plain[i : height // rows * rows : rows, j : width // columns * columns : columns].transpose(2, 0, 1)
            for i in range(rows) for j in range(columns)
        ]  # fmt: skip
        if all(np.array_equal(term.places[0], view) for term, view in zip(flow.terms, views, strict=True)):
            return rows, columns
    raise RefdesignError("found a mean of terms that are no windows of a map, row by row")
