"""What a walk through a graph has found so far, and what its operators share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.onnx_flow import Draft, Flow, Step
from refdesign.formats.onnx_layers import Tail, tail_of
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.parameters import BatchNorm

Value = NDArray[Any] | Flow | None
Rule = tuple[int | None, float]
"""The sign at the boundary (None where no sum meets it), and the boundary."""


@dataclass
class Context:
    """What a walk has found so far.

    Attributes:
        opset: the version of the standard operators.
        drafts: every layer's product, in order.
        stages: finished layers: draft, what stands behind its sums, and its sign's rule.
        input_shape: (H, W, C) of the images.
        assumed: lines for the report.
        signed: by layer name, the steps and the boundary of its sign.
    """

    opset: int
    drafts: list[Draft] = field(default_factory=list)
    stages: list[tuple[Draft, Tail, Rule]] = field(default_factory=list)
    input_shape: tuple[int, int, int] = (0, 0, 0)
    assumed: list[str] = field(default_factory=list)
    signed: dict[str, tuple[tuple[Step, ...], float]] = field(default_factory=dict)

    def tail(self, flow: Flow) -> Tail:
        """What stands behind a flow's sums."""
        return tail_of(flow.steps, flow.shape[-1])

    def finish(self, flow: Flow, tie: int, boundary: float, direction: int) -> Flow:
        """The bits of sums: +1 beyond the boundary in this direction, `tie` at it."""
        if flow.kind != "sums" or flow.draft is None:
            raise RefdesignError(f"found the sign of {flow.kind}, expected that of a layer's sums")
        tail = self.tail(flow)
        self.signed[flow.draft.name] = (flow.steps, boundary)
        if boundary not in (0.0, KERAS_ROUND_BOUNDARY) or (boundary and tie != -1):
            if tail.over_map is not None:
                raise RefdesignError(f"found a comparison with {boundary} behind a threshold map, expected 0")
            extents = flow.shape if len(flow.shape) == 3 else (1, 1, *flow.shape)
            tail, boundary = replace(tail, over_map=np.full(extents, boundary, np.float32)), 0.0
        if direction < 0:
            if boundary:
                raise RefdesignError("found a sign turned round at a boundary that is not 0")
            tail = _negated(tail, flow.shape[-1])
        return self.decided(flow, tail, (tie, boundary))

    def decided(self, flow: Flow, tail: Tail, rule: Rule) -> Flow:
        """The bits of a draft whose tail is known."""
        if flow.draft is None:
            raise RefdesignError(f"found the sign of {flow.kind}, expected that of a layer's sums")
        if any(draft is flow.draft or draft.name == flow.draft.name for draft, _, _ in self.stages):
            raise RefdesignError(f"found a second sign of layer {flow.draft.name!r}, expected one")
        self.stages.append((flow.draft, tail, rule))
        return replace(flow, kind="bits", steps=(), rule=(1, 0.0, 1))


def _negated(tail: Tail, channels: int) -> Tail:
    norm = tail.batch_norm
    if norm is None:
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        norm = BatchNorm(ones, zeros, zeros, ones, 0.0, k=ones, c=zeros)
    norm = replace(
        norm, gamma=-norm.gamma, beta=-norm.beta, k=None if norm.k is None else -norm.k,
        c=None if norm.c is None else -norm.c,
    )  # fmt: skip
    return replace(tail, batch_norm=norm, over_map=None if tail.over_map is None else -tail.over_map)


def only_flow(inputs: list[Value], place: int = 0) -> Flow:
    """The input that depends on the image, where all others must be constants."""
    flow = inputs[place] if place < len(inputs) else None
    if not isinstance(flow, Flow) or sum(isinstance(value, Flow) for value in inputs) != 1:
        raise RefdesignError("found an operation between two maps of the network, expected one map and constants")
    return flow


def scalar(value: Value, what: str) -> float:
    """A constant of one number."""
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise RefdesignError(f"found no single number as {what}")
    return float(value.ravel()[0])
