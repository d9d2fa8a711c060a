"""What a walk through a graph has found so far: products, signs and real streams, and how they become layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.onnx_choices import Choice
from refdesign.formats.onnx_flow import Draft, Flow, Step, same_steps
from refdesign.formats.onnx_layers import Tail, is_hardtanh, tail_of
from refdesign.formats.onnx_tabulated import tabulated
from refdesign.network import Stage
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.parameters import BatchNorm

Value = NDArray[Any] | Flow | None
Rule = tuple[int | None, float]
"""The sign at the boundary (None where no sum meets it), and the boundary: 0, or that of the Keras activation."""


@dataclass
class Found:
    """A layer whose bits or real values something reads.

    Attributes:
        draft: its product.
        tail: what stands behind its sums.
        rule: how its sign decides.
        steps: what stands before its sign, or makes its real values.
        choice: its sign; None where only its real values are read so far.
        exact: whether the sign is that of the real values: no thresholds found otherwise, and not turned round.
        before: what stands before the sign in the file, its own spelling included.
    """

    draft: Draft
    tail: Tail
    rule: Rule
    steps: tuple[Step, ...]
    choice: Choice | None
    scale: float = 1.0
    exact: bool = True
    before: tuple[Step, ...] = ()


@dataclass
class Context:
    """What a walk has found so far.

    Attributes:
        opset: the version of the standard operators.
        arithmetic: what the user says that the network is meant under; None where the file decides.
        drafts: every layer's product, in order.
        found: by name, the layers that are read.
        input_shape: (H, W, C) of the images.
        pixels: the layer that pixels are, where something takes their sign.
        assumed: lines for the report.
        tried: names of layers whose thresholds were found by trying every sum.
        programs: arithmetics that batch norms before real dense layers spell.
    """

    opset: int
    arithmetic: str | None = None
    drafts: list[Draft] = field(default_factory=list)
    found: dict[str, Found] = field(default_factory=dict)
    input_shape: tuple[int, int, int] = (0, 0, 0)
    pixels: Draft | None = None
    assumed: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    programs: set[str | None] = field(default_factory=set)

    def name(self, wished: str, kind: str) -> str:
        """A name for a new layer: the one wished for, or its kind and number."""
        taken = {draft.name for draft in self.drafts}
        if wished.isprintable() and wished not in taken | {"", "logits"} and not {".", "/"} & {*wished}:
            return wished
        number = 1 + len(self.drafts)
        while f"{kind}{number}" in taken:
            number += 1
        return f"{kind}{number}"

    def replace_draft(self, draft: Draft) -> None:
        """Put a draft in the place of the one with its name."""
        self.drafts[[other.name for other in self.drafts].index(draft.name)] = draft

    def _check_current(self, draft: Draft) -> None:
        """Refuse sums of a layer that has become another since: with a pool, or with further bases."""
        if issubclass(draft.kind, Stage) and all(draft is not other for other in self.drafts):
            raise RefdesignError(
                f"found values of layer {draft.name!r} from before its pool or its other bases, and those behind them"
            )

    def bits(self, flow: Flow) -> Flow:
        """The bits that a choice is, ±1 up to a scale.

        Raises:
            RefdesignError: values that are no sign, or a second, different sign of the same layer.
        """
        if flow.kind == "bits":
            return flow
        if flow.kind != "choice" or flow.draft is None or flow.choice is None:
            raise RefdesignError(f"found {described(flow)}, expected bits")
        self._check_current(flow.draft)
        try:
            choice = flow.choice.simplified()
            scale = _scale_of(choice)
            known = self.found.get(flow.draft.name)
            if known is None or known.choice is None:
                self.found[flow.draft.name] = self._signed(flow.draft, flow.steps, choice, scale, known)
            elif not (known.choice.same(choice) and same_steps(known.before, flow.steps)):
                raise RefdesignError("found a second sign, expected one")
            self.found[flow.draft.name].before = flow.steps
        except RefdesignError as error:
            raise RefdesignError(f"the sign of layer {flow.draft.name!r}: {error}") from error
        return replace(flow, kind="bits", choice=None, steps=(), scale=scale)

    def decided(self, flow: Flow, tail: Tail, rule: Rule) -> Flow:
        """The bits of sums whose integer thresholds are known."""
        if flow.draft is None or flow.draft.name in self.found:
            raise RefdesignError("found a second sign of a layer, expected one")
        self._check_current(flow.draft)
        self.found[flow.draft.name] = Found(flow.draft, tail, rule, flow.steps, None, exact=False)
        return replace(flow, kind="bits", steps=())

    def _signed(
        self, draft: Draft, steps: tuple[Step, ...], choice: Choice, scale: float, known: Found | None
    ) -> Found:
        if not issubclass(draft.kind, Stage):
            raise RefdesignError(f"found the sign of a {draft.kind.kind}, expected that of a layer with a batch norm")
        try:
            tail, rule, steps, at_zero = _plain(steps, choice, draft.shape, scale)
        except RefdesignError as error:
            if known is not None or any(kind == "shortcut" for kind, _ in steps):
                raise
            try:
                return self._tabulated(draft, steps, choice, scale)
            except RefdesignError as reason:
                raise RefdesignError(f"{error}; and {reason}") from error
        if known is not None and not same_steps(known.steps, steps):
            tail = self._joined(known, Found(draft, tail, rule, steps, choice))
            steps = known.steps if len(known.steps) > len(steps) else steps
        return Found(draft, tail, rule, steps, choice, scale, exact=at_zero)

    def real(self, flow: Flow) -> str:
        """The name of the layer whose real values a map has.

        Raises:
            RefdesignError: values that the layer's sign is not that of.
        """
        draft = flow.draft
        if flow.kind != "sums" or draft is None or not issubclass(draft.kind, Stage):
            raise RefdesignError(f"found {described(flow)}, expected the real values of a layer")
        self._check_current(draft)
        known = self.found.get(draft.name)
        made = Found(draft, tail_of(flow.steps, flow.shape[-1]), (None, 0.0), flow.steps, None)
        if known is None:
            self.found[draft.name] = made
        elif not known.exact:
            raise RefdesignError(f"found the real values of {draft.name!r}, whose sign is not taken at 0")
        elif not same_steps(known.steps, flow.steps):
            known.tail = self._joined(made, known)
            known.steps = max(known.steps, flow.steps, key=len)
        return draft.name

    def _tabulated(self, draft: Draft, steps: tuple[Step, ...], choice: Choice, scale: float) -> Found:
        """A sign as integer thresholds, found by trying every sum."""
        ternary = any(found.rule[0] == 0 for found in self.found.values())
        arithmetic = self.arithmetic if self.arithmetic not in (None, "real") else "onnxruntime"
        tail = tabulated(draft, steps, choice, scale, str(arithmetic), ternary_input=ternary)
        self.tried.append(draft.name)
        zeros = bool((choice.values == 0).any())
        return Found(draft, tail, (0 if zeros else None, 0.0), steps, choice, scale, exact=False)

    def settle_signs(self, entries: Sequence[Found]) -> None:
        """Leave one rule for sums at the boundary: layers with another become integer thresholds, which need none.

        Kept is the rule that gives a zero, where there is one, else that of most layers.

        Args:
            entries: every layer that is read.

        Raises:
            RefdesignError: another rule in a layer that integer thresholds cannot stand for.
        """
        rules = [entry.rule for entry in entries if entry.rule[0] is not None]
        if len(set(rules)) < 2:
            return
        kept = max(set(rules), key=lambda rule: (rule[0] == 0, rules.count(rule), rule))
        real = {entry.tail.shortcut.source for entry in entries if entry.tail.shortcut is not None}
        real |= {draft.source.draft.name for draft in self.drafts if draft.source and draft.source.draft}
        for entry in entries:
            if entry.rule[0] is None or entry.rule == kept:
                continue
            try:
                if entry.draft.name in real or entry.choice is None or self.arithmetic == "real":
                    raise RefdesignError("its real values are read, or exact ones are meant")
                made = self._tabulated(entry.draft, entry.before, entry.choice, entry.scale)
            except RefdesignError as reason:
                choices = ", ".join(f"{e.rule[0]:+d} in {e.draft.name}" for e in entries if e.rule[0] is not None)
                raise RefdesignError(
                    f"signs: found {choices} for a sum of zero, expected one choice in a network; integer thresholds "
                    f"in place of that of {entry.draft.name!r}: {reason}"
                ) from reason
            entry.tail, entry.rule = made.tail, made.rule

    @staticmethod
    def _joined(real: Found, signed: Found) -> Tail:
        """One tail of real values and a sign: a clamp to [-1, 1] between them changes no sign."""
        for longer, shorter in ((real, signed), (signed, real)):
            if longer.steps and is_hardtanh(longer.steps[-1]) and same_steps(longer.steps[:-1], shorter.steps):
                return replace(signed.tail, hardtanh=longer is real)
        raise RefdesignError(
            f"found the sign of {real.draft.name!r} and its real values behind different operations, expected the same"
        )


def _scale_of(choice: Choice) -> float:
    values = np.unique(np.asarray(choice.values, np.float64))
    scale = float(np.abs(values).max())
    if scale == 0 or not np.isin(values, (-scale, 0.0, scale)).all() or not {-scale, scale} <= set(values.tolist()):
        shown = ", ".join(f"{value:g}" for value in values[:6])
        raise RefdesignError(f"found activations of {shown}, expected -s and s (bits of 0 and 1 are 2*x - 1 first)")
    return scale


def _plain(
    steps: tuple[Step, ...], choice: Choice, shape: tuple[int, ...], scale: float
) -> tuple[Tail, Rule, tuple[Step, ...], bool]:
    """A sign at one point per element, in one direction per channel: its tail, its rule, and z.

    Returns:
        Also the steps that make z, and whether the sign is that of z itself.
    """
    if len(choice.points) != 1:
        raise RefdesignError(f"found a sign with {len(choice.points)} points")
    point = choice.points[0]
    below, at, above = (np.asarray(value, np.float64) / scale for value in choice.values)
    per_channel = all(value.ndim < 3 or value.shape[:2] == (1, 1) for value in (below, at, above))
    if not per_channel or np.any(below != -above) or np.any(above == 0) or np.any(at != at.ravel()[0]):
        raise RefdesignError("found a sign whose direction or tie changes over the map or the channels")
    tie = int(at.ravel()[0])
    steps, point, boundary = _peeled(steps, point, tie)
    tail = tail_of(steps, shape[-1])
    if np.any(point != 0):
        if tail.over_map is not None or tail.shortcut is not None or tail.hardtanh:
            raise RefdesignError("found a comparison with something else than 0 behind thresholds")
        extents = shape if len(shape) == 3 else (1, 1, *shape)
        over_map = np.broadcast_to(point, extents).astype(np.float32)
        if np.any(over_map != point):
            raise RefdesignError("found a comparison with numbers that float32 does not hold")
        tail = replace(tail, over_map=over_map)
    direction = np.broadcast_to(above.ravel(), shape[-1:]).astype(np.float32)
    if np.any(direction < 0):
        if boundary or tail.shortcut is not None:
            raise RefdesignError("found a sign turned round behind a shortcut, or in the released Keras activation")
        tail = _turned(tail, direction)
    return tail, (tie, boundary), steps, not np.any(point != 0) and not np.any(direction < 0)


def _peeled(
    steps: tuple[Step, ...], point: NDArray[np.float64], tie: int
) -> tuple[tuple[Step, ...], NDArray[np.float64], float]:
    """(z + 1)/2 compared with 1/2, the released Keras activation: z compared with 2**-24, as its roundings come to.

    A multiplication by a power of two in front of a comparison moves into the point, exactly.
    """
    forms = [_uniform(step) for step in steps[-2:]]
    if tie == -1 and np.all(point == 0.5):
        halves = (("mul", 0.5), ("div", 2.0))
        if (len(forms) == 2 and forms[0] == ("add", 1.0) and forms[1] in halves) or (
            len(forms) == 2 and forms[0] in halves and forms[1] == ("add", 0.5)
        ):
            return steps[:-2], np.zeros_like(point), KERAS_ROUND_BOUNDARY
        if forms and forms[-1] in halves:
            return steps[:-1], np.ones_like(point), 0.0
    return steps, point, 0.0


def _uniform(step: Step) -> tuple[str, float]:
    kind, values = step
    if isinstance(values, np.ndarray) and values.size and values.ndim < 3 and np.all(values == values.ravel()[0]):
        return kind, float(values.ravel()[0])
    return kind, np.nan


def _turned(tail: Tail, direction: NDArray[np.float32]) -> Tail:
    """What gives -z in channels of direction -1."""
    norm = tail.batch_norm
    ones, zeros = np.ones(direction.size, np.float32), np.zeros(direction.size, np.float32)
    if norm is None:
        norm = BatchNorm(ones, zeros, zeros, ones, 0.0, k=ones, c=zeros)
    k, c = (None if value is None else direction * value for value in (norm.k, norm.c))
    norm = replace(norm, gamma=direction * norm.gamma, beta=direction * norm.beta, k=k, c=c)
    return replace(tail, batch_norm=norm, over_map=None if tail.over_map is None else tail.over_map * direction)


def described(flow: Flow) -> str:
    """What a tensor is, in words."""
    words = {"sums": "a layer's real values", "choice": "a choice between values of a layer", "total": "a sum of maps"}
    return words.get(flow.kind, flow.kind)


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
