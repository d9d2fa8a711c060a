"""Counting where two arrays of one output differ, batch by batch, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.network import NetworkData, Stage
from refdesign.ops.dither import phases
from refdesign.verify.doors.words import UNDEFINED
from refdesign.verify.implementation import expected_shape
from refdesign.verify.rounding import Exact
from refdesign.verify.undefined import as_number

_BLOCK = 1 << 16  # values compared at once, so that the comparison stays in cache
FIRST_IMAGES = 20
"""How many differing images of each output are kept by number."""


def differ(ours: NDArray[Any], theirs: NDArray[Any], tolerance: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Where two arrays of one shape differ as numbers; beside them, True counts as +1 and False as -1.

    Args:
        ours, theirs: the arrays.
        tolerance: how far they may lie apart, broadcastable; None: not at all. Of real logits only.

    >>> differ(np.array([1, -1], np.int8), np.array([True, True]))
    array([False,  True])
    """
    if theirs.dtype == np.bool_ and ours.dtype != np.bool_:
        return np.asarray(ours != np.where(theirs, np.int8(1), np.int8(-1)))
    if tolerance is None:
        return np.asarray(ours != theirs)
    with np.errstate(invalid="ignore"):  # NaN is near nothing
        near = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)) <= tolerance
    return np.asarray((ours != theirs) & ~near)


def odd_values(output: str, theirs: NDArray[Any], *, ties: bool) -> str | None:
    """What values an output has that it cannot have; None: none.

    Args:
        output: its name.
        theirs: some of its values.
        ties: whether a bit can be 0, by the convention.

    >>> odd_values("conv1.bits", np.array([0, 1, 1]), ties=False)
    'found 0 and 1, expected -1 and 1 (or bool)'
    >>> odd_values("conv1.accumulator", np.array([3.5, 2]), ties=False)
    'found 3.5, expected integers'
    """
    part = output.rpartition(".")[2]
    if theirs.dtype == np.bool_:
        return None if part == "bits" else "found booleans, expected numbers"
    if theirs.dtype == np.int64:
        theirs = theirs[theirs != UNDEFINED]  # X and Z have findings of their own
    if theirs.dtype.kind == "f":
        theirs = theirs[np.isfinite(theirs)]  # so have NaN and infinities
    if part == "bits":
        found = np.unique(theirs)
        if not set(found.tolist()) <= ({-1, 0, 1} if ties else {-1, 1}):
            some = " and ".join(f"{value:g}" for value in found[:5].tolist()) + (", ..." if len(found) > 5 else "")
            return f"found {some}, expected -1 and 1{' (or bool)' if set(found.tolist()) <= {0, 1} else ''}"
    elif part in ("accumulator", "pooled") and theirs.dtype.kind == "f":
        broken = theirs[theirs != np.rint(theirs)]
        return f"found {broken.flat[0]:g}, expected integers" if broken.size else None
    return None


@dataclass
class OutputCount:
    """How one output compared, over all batches so far.

    Attributes:
        name: the output.
        shape: its shape without the batch axis.
        values: how many values were compared.
        left_out: how many were not, because the reference itself leaves them open (uncertain bits and what
            follows from them).
        differing: how many differ.
        rounded: how many are not the reference's own and do not differ either: they lie within the rounding bound.
        furthest: how far those are from the exact value, as a share of their bound, from 0 to 1.
        images: how many images have a differing value.
        image_step: the greatest number of which all of them are multiples apart; 0 below two.
        by_channel, by_position, by_phase: int64 counts, shapes (C,), (H, W) and (m, n); None where the output has
            no such axes.
        first: (image, *index) of the first difference, with the two values.
        first_images: the first differing images.
    """

    name: str
    shape: tuple[int, ...]
    period: tuple[int, int] | None = None
    origin: str = "top_left"
    values: int = 0
    left_out: int = 0
    differing: int = 0
    rounded: int = 0
    furthest: float = 0.0
    images: int = 0
    image_step: int = 0
    by_channel: NDArray[np.int64] = field(init=False)
    by_position: NDArray[np.int64] | None = None
    first: tuple[int, ...] | None = None
    first_values: tuple[float, float | str] | None = None
    first_images: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.by_channel = np.zeros(self.shape[-1:], dtype=np.int64)
        if len(self.shape) == 3:
            self.by_position = np.zeros(self.shape[:2], dtype=np.int64)

    @property
    def by_phase(self) -> NDArray[np.int64] | None:
        """Differences by phase of the dither, shape (m, n); None where the layer has none."""
        if self.by_position is None or self.period is None:
            return None
        counts = np.zeros(self.period, dtype=np.int64)
        rows = phases(self.shape[0], self.period[0], self.origin)
        columns = phases(self.shape[1], self.period[1], self.origin)
        np.add.at(counts, (rows[:, np.newaxis], columns), self.by_position)
        return counts

    def add(
        self,
        numbers: NDArray[np.intp],
        ours: NDArray[Any],
        theirs: NDArray[Any],
        open_: NDArray[np.bool_] | None = None,
        exact: Callable[[], Exact] | None = None,
    ) -> NDArray[np.bool_] | None:
        """Compare one batch.

        Args:
            numbers: the images' numbers, (N,).
            ours, theirs: (N, *shape).
            open_: where the reference leaves the value open: bool, broadcastable.
            exact: gives the unrounded values of real logits, (N, *shape); None: equality is asked for.

        Returns:
            Where they differ, (N, *shape), or None: nowhere.
        """
        self.values += ours.size
        if open_ is not None:
            open_ = np.broadcast_to(open_, ours.shape)
            self.left_out += int(open_.sum())
            self.values -= int(open_.sum())
        where = self._differing(ours, theirs)
        if where is not None and open_ is not None:
            where &= ~open_
        if where is not None and exact is not None and where.any() and theirs.dtype != np.bool_:
            where &= ~self._within(where, theirs, exact())
        if where is None or not where.any():
            return None
        each = where.reshape(len(where), -1).sum(axis=1)
        self.differing += int(each.sum())
        self.images += int((each > 0).sum())
        self.by_channel += where.reshape(-1, where.shape[-1]).sum(axis=0)
        if self.by_position is not None:
            self.by_position += where.sum(axis=(0, 3))
        differing = numbers[each > 0]
        if self.first is None:
            index = tuple(int(i) for i in np.unravel_index(int(where.argmax()), where.shape))
            self.first = (int(numbers[index[0]]), *index[1:])
            self.first_values = (float(ours[index]), as_number(theirs[index]))
        self.image_step = int(np.gcd.reduce([self.image_step, *(differing - self.first[0])]))
        self.first_images += [int(n) for n in differing[: FIRST_IMAGES - len(self.first_images)]]
        return where

    def _within(self, where: NDArray[np.bool_], theirs: NDArray[Any], exact: Exact) -> NDArray[np.bool_]:
        """Where values that are not the reference's own lie within the rounding bound; counts them."""
        bound = exact.bound(theirs.dtype)
        with np.errstate(invalid="ignore"):  # an infinity or NaN of theirs is within no bound
            distance = np.abs(theirs.astype(np.float64) - exact.values)
            within: NDArray[np.bool_] = where & (distance <= bound)
        if within.any():
            self.rounded += int(within.sum())
            self.furthest = max(self.furthest, float((distance / bound)[within].max()))
        return within

    def _differing(self, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_] | None:
        if ours.dtype == theirs.dtype and ours.flags.c_contiguous and theirs.flags.c_contiguous:
            a, b = ours.reshape(-1), theirs.reshape(-1)
            if all(np.array_equal(a[at : at + _BLOCK], b[at : at + _BLOCK]) for at in range(0, a.size, _BLOCK)):
                return None
        return differ(ours, theirs)


def count_for(network: NetworkData, name: str) -> OutputCount:
    """An empty count for one output of a network."""
    shape = expected_shape(network, name)
    period = None
    layer = None if name == "logits" else network.layer(name.rpartition(".")[0])
    # Accumulators know no phase; it is the bit, of a pooled pixel, that has one.
    if isinstance(layer, Stage) and layer.kernel is not None and name.endswith((".bits", ".real")):
        period = layer.kernel.shape[:2]
    return OutputCount(name, shape, period, network.conventions.kernel_origin)


@dataclass(frozen=True)
class FirstDifference:
    """The first differing value, with what stands behind it on the reference's side.

    Attributes:
        output, layer: where; the layer of `logits` is the last one.
        image: the number of the image.
        row, column: None in a dense layer.
        channel, word, bit: the channel, and the packed word and bit that hold it.
        ours, theirs: the two values; X stands for undefined bits.
        accumulator: the accumulator after the pool, on our side.
        threshold, direction: fires at a >= threshold (+1) or a <= threshold (-1); 0 where the channel is constant.
        rule: that in words.
        margin: how far the accumulator is beyond the threshold on the firing side: at 0 it just fires, below 0 it
            does not; None where the channel is constant.
        phase: (row, column) of the dither's cell; None where there is no dither.
        their_accumulator: what they answered for the accumulator (or pooled one), if they did.
        inputs_agree: whether they answered the layer's input bits as ours; None: they did not answer them.
    """

    output: str
    layer: str
    image: int
    row: int | None
    column: int | None
    channel: int
    word: int
    bit: int
    ours: float
    theirs: float | str
    accumulator: int | None = None
    threshold: int | None = None
    direction: int | None = None
    rule: str | None = None
    margin: int | None = None
    phase: tuple[int, int] | None = None
    their_accumulator: float | str | None = None
    inputs_agree: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("ours", "theirs", "their_accumulator"):
            value = plain[name]
            if isinstance(value, float) and value - value != 0:  # JSON has no infinities and no NaN
                plain[name] = str(value)
        return plain | {"phase": None if self.phase is None else list(self.phase)}


def first_difference(
    network: NetworkData,
    count: OutputCount,
    ours: dict[str, NDArray[Any]],
    theirs: dict[str, NDArray[Any]],
    thresholds: dict[str, Thresholds],
) -> FirstDifference:
    """The first difference of an output, explained.

    Args:
        network: the network.
        count: the output's count, with a first difference.
        ours: every output of the reference for that one image, without the batch axis.
        theirs: what they answered for it.
        thresholds: by layer name.

    Raises:
        RefdesignError: nothing differs.
    """
    if count.first is None:
        raise RefdesignError(f"{count.name}: found no difference, expected one to explain")
    image, *place = count.first
    index = tuple(place)
    row, column = (index[0], index[1]) if len(index) == 3 else (None, None)
    channel = index[-1]
    layer = network.layers[-1].name if count.name == "logits" else count.name.rpartition(".")[0]
    behind: dict[str, Any] = {}
    stage = network.layer(layer)
    source = f"{layer}.pooled" if f"{layer}.pooled" in ours else f"{layer}.accumulator"
    if source in ours and not count.name.endswith((".accumulator", ".pooled")):
        behind["accumulator"] = int(ours[source][index])
        if source in theirs:
            behind["their_accumulator"] = as_number(theirs[source][index])
        if layer in thresholds and isinstance(stage, Stage):
            behind |= _decision(network, stage, thresholds[layer], index, behind["accumulator"])
    elif source in ours:
        behind["accumulator"] = int(ours[count.name][index])
    position = [entry.name for entry in network.layers].index(layer)
    if position:
        name = f"{network.layers[position - 1].name}.bits"
        if name in theirs and name in ours:
            behind["inputs_agree"] = not differ(ours[name], theirs[name]).any()
    return FirstDifference(
        count.name, layer, image, row, column, channel, channel // WORD, channel % WORD,
        float(ours[count.name][index]), as_number(theirs[count.name][index]), **behind,
    )  # fmt: skip


def _decision(
    network: NetworkData, layer: Stage, thresholds: Thresholds, index: tuple[int, ...], accumulator: int
) -> dict[str, Any]:
    m, n, _ = thresholds.shape
    phase = (0, 0)
    if len(index) == 3:
        height, width, _ = network.shapes[layer.name].output
        origin = network.conventions.kernel_origin
        phase = (int(phases(height, m, origin)[index[0]]), int(phases(width, n, origin)[index[1]]))
    cell = (*phase, index[-1])
    threshold, direction = int(thresholds.threshold[cell]), int(thresholds.direction[cell])
    margin = direction * (accumulator - threshold) if direction else None
    return {
        "threshold": threshold,
        "direction": direction,
        "rule": thresholds.rule(*cell),
        "margin": margin,
        "phase": phase if layer.kernel is not None else None,
    }
