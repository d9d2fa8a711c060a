"""Everything that the page can show, as tables: one entry for every state of every control.

The reference fills them: the fold for thresholds, the slow path's `explain` for windows, the simulator for cycles.
A state's feature map is then a matter of looking up, pixel by pixel, the window's nine bits, the sum that they give,
and the bit that this sum gives under this threshold.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docs.explorable import scene
from refdesign import design, naive
from refdesign.bits import PackedBits, pack, pack_bool, unpack, xnor_popcount
from refdesign.conventions import PAPER
from refdesign.design.classes import canonical
from refdesign.fold import Thresholds, fold
from refdesign.network import BinaryConv2d, BinaryDense, NetworkData, PixelConv2d, accumulator_domain
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.dither import phases
from refdesign.ops.pixels import pixel_conv2d
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.run import run
from simulator.run import Simulator
from simulator.schedule import fit
from simulator.trace import Tracer

Array = NDArray[Any]
SUMS = np.arange(-9, 10, 2, dtype=np.int32)
"""The sums of nine products of ±1."""
TAPS = 9
LEVELS = 1 + len(scene.LEVELS)
"""Thresholds that `conv` knows: 0 (plain Sign), then the re-scaled levels."""
PUBLISHED_2X2 = [[1, 1], [3, 3]]
"""`threshold_2x2_v2` of the released code."""


@dataclass
class Tables:
    """Named arrays in one block of bytes, with an index; and what is small enough for JSON.

    >>> made = Tables()
    >>> made.add("twos", np.array([2, 2], np.int16))
    >>> made.index["twos"], len(made.block())
    ({'type': 'Int16Array', 'shape': [2], 'start': 0}, 8)
    """

    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    index: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    arrays: dict[str, Array] = field(default_factory=dict, repr=False)
    _pieces: list[bytes] = field(default_factory=list, repr=False)

    def add(self, name: str, array: Array) -> None:
        """Add an array; it starts at a multiple of eight bytes, as typed arrays in a browser want."""
        kind = {"int": "Int", "uint": "Uint", "float": "Float"}[array.dtype.name.rstrip("0123456789")]
        start = sum(len(piece) for piece in self._pieces)
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        self._pieces.append(content + bytes(-len(content) % 8))
        self.arrays[name] = array
        self.index[name] = {
            "type": f"{kind}{array.dtype.itemsize * 8}Array", "shape": list(array.shape), "start": start
        }  # fmt: skip

    def block(self) -> bytes:
        """All arrays."""
        return b"".join(self._pieces)

    def compressed(self) -> bytes:
        """The block, gzipped without a date, so that the same tables give the same bytes."""
        return gzip.compress(self.block(), 9, mtime=0)

    def header(self) -> str:
        """The index and the facts as JSON."""
        return json.dumps({"index": self.index, **self.facts}, ensure_ascii=False, allow_nan=False)


def build() -> Tables:
    """All tables; about ten seconds."""
    made = Tables()
    _facts(made)
    _dots(made)
    _windows(made)
    _decisions(made)
    _dither(made)
    _sums_of_four(made)
    _hardware(made)
    _ranking(made)
    return made


def _facts(made: Tables) -> None:
    height, width = scene.photograph().shape
    mean, variance = scene.dots_statistics()
    made.add("photograph", scene.photograph())
    made.facts |= {
        "height": height,
        "width": width,
        "inputs": scene.INPUTS,
        "lights": list(scene.LIGHTS),
        "gammas": list(scene.GAMMAS),
        "betas": list(scene.BETAS),
        "zeros": list(scene.ZEROS),
        "dithers": scene.DITHERS,
        "filters": scene.FILTERS,
        "means": list(scene.MEANS),
        "variances": list(scene.VARIANCES),
        "epsilon": scene.EPSILON,
        "dots_mean": mean,
        "dots_variance": variance,
        "sums": SUMS.tolist(),
        "levels": [0.0, *scene.conv_levels()],
        "input_values": {name: scene.input_kernel(name).values[:, :, 0].tolist() for name in scene.INPUTS},
        "dither_values": {name: _values(scene.dither_kernel(name)) for name in scene.DITHERS},
        "conventions": [scene.conventions(zero).to_dict() for zero in scene.ZEROS],
    }


def _values(kernel: ThresholdKernel | None) -> list[Any]:
    """A kernel's float32 values, row by row, slice by slice; none is one cell of 0."""
    values: list[Any] = np.zeros((1, 1, 1)).tolist() if kernel is None else kernel.values.tolist()
    return values


def _dots(made: Tables) -> None:
    """The one-bit photograph under every kernel and brightness, and from which grey each cell fires."""
    photograph = scene.photograph()
    height, width = photograph.shape
    sums = scene.dots_sums(photograph)
    greys = np.arange(256, dtype=np.uint8)
    grey_sums = scene.dots_sums(greys[:, np.newaxis])[0, :, 0, 0]
    bits = np.zeros((len(scene.INPUTS), len(scene.LIGHTS), -(-height * width // 8)), np.uint8)
    fires = np.zeros((len(scene.INPUTS), len(scene.LIGHTS), 8, 8), np.uint16)
    for i, name in enumerate(scene.INPUTS):
        m, n, _ = scene.input_kernel(name).shape
        for j, light in enumerate(scene.LIGHTS):
            thresholds = fold_of(scene.dots_layer(name, light))
            ones = unpack(thresholds.apply(sums))[0, :, :, 0] > 0
            bits[i, j] = np.packbits(ones.ravel(), bitorder="little")
            # Every grey under every cell, asked of the fold: the first one that fires.
            asked = np.broadcast_to(grey_sums[:, np.newaxis, np.newaxis, np.newaxis], (256, m, n, 1))
            fired = unpack(thresholds.apply(np.ascontiguousarray(asked, dtype=np.int32)))[..., 0] > 0
            fires[i, j, :m, :n] = np.where(fired.any(axis=0), fired.argmax(axis=0), 256)
    made.add("dots", bits)
    made.add("dots_fires", fires)
    shapes = [scene.input_kernel(name).shape for name in scene.INPUTS]
    made.facts["input_shapes"] = [shape[:2] for shape in shapes]
    made.add("dots_row_phase", np.array([phases(height, shape[0], "top_left") for shape in shapes], np.uint8))
    made.add("dots_column_phase", np.array([phases(width, shape[1], "top_left") for shape in shapes], np.uint8))


def fold_of(layer: PixelConv2d) -> Thresholds:
    """The integer thresholds of `dots`."""
    if layer.batch_norm is None:
        raise ValueError(f"{layer.name}: expected a batch norm")
    domain = accumulator_domain(layer)
    return fold(layer.batch_norm, layer.kernel, fan_in=layer.fan_in, conventions=PAPER, domain=domain)


def patterns() -> NDArray[np.int8]:
    """All windows of nine bits: int8 (512, 3, 3, 1); bit 0 of the number is the top left tap, row by row."""
    numbers = np.arange(1 << TAPS)
    bits = (numbers[:, np.newaxis] >> np.arange(TAPS)) & 1
    return (2 * bits - 1).astype(np.int8).reshape(-1, 3, 3, 1)


def _windows(made: Tables) -> None:
    """For each of the 512 windows and each filter: which taps agree, how many, and the sum; from the slow path."""
    layer = BinaryConv2d(name="conv", weights=pack(scene.filters()))
    count = len(scene.FILTERS)
    agree = np.zeros((1 << TAPS, count), np.uint16)
    popcount = np.zeros((1 << TAPS, count), np.uint8)
    sums = np.zeros((1 << TAPS, count), np.int8)
    for number, window in enumerate(patterns()):
        for channel in range(count):
            found = naive.explain(layer, PAPER, window, (0, 0, channel)).windows[0]
            taps = [tap.agree[0] for tap in found.taps]
            agree[number, channel] = sum(bit << place for place, bit in enumerate(taps))
            popcount[number, channel] = found.popcount
            sums[number, channel] = found.accumulator
    made.add("agree", agree)
    made.add("popcount", popcount)
    made.add("accumulator", sums)


def all_norms() -> BatchNorm:
    """The batch norms of all filters, gammas and betas, as the channels of one."""
    filters, gammas, betas = np.meshgrid(np.arange(len(scene.FILTERS)), scene.GAMMAS, scene.BETAS, indexing="ij")
    chosen = filters.ravel()
    return BatchNorm(
        gammas.ravel().tolist(), betas.ravel().tolist(), np.array(scene.MEANS)[chosen].tolist(),
        np.array(scene.VARIANCES)[chosen].tolist(), scene.EPSILON,
    )  # fmt: skip


def all_levels() -> ThresholdKernel:
    """The thresholds that `conv` knows, as the rows of one kernel: (7, 1, 1)."""
    return ThresholdKernel([[0.0], *([level] for level in scene.conv_levels())])


def _decisions(made: Tables) -> None:
    """Batch norm's y for every sum, and the fold with its bits for every sum and threshold."""
    norms, kernel = all_norms(), all_levels()
    grid = (len(scene.FILTERS), len(scene.GAMMAS), len(scene.BETAS))
    everywhere = np.repeat(SUMS[:, np.newaxis], norms.channels, axis=1)
    y = dithered_batch_norm(everywhere, norms, None, PAPER)
    made.add("y", np.moveaxis(y, 0, -1).reshape(*grid, len(SUMS)).astype(np.float32))
    names = ("threshold", "direction", "constant", "zero_low", "zero_high")
    found: dict[str, list[Array]] = {name: [] for name in (*names, "bit")}
    maps = np.repeat(np.repeat(SUMS[:, np.newaxis], LEVELS, axis=1)[:, :, np.newaxis, np.newaxis], norms.channels, 3)
    for zero in scene.ZEROS:
        thresholds = fold(
            norms, kernel, fan_in=TAPS, conventions=scene.conventions(zero), domain=(-TAPS, TAPS, 2)
        )  # fmt: skip
        for name in names:
            found[name].append(_by_state(getattr(thresholds, name)[:, 0, :], grid))
        bits = unpack(thresholds.apply(np.ascontiguousarray(maps, dtype=np.int32)))[:, :, 0, :]
        found["bit"].append(np.stack([_by_state(one, grid) for one in bits], axis=-1))
    for name, arrays in found.items():
        made.add(name, np.stack(arrays).astype(np.int8))


def _by_state(values: Array, grid: tuple[int, ...]) -> Array:
    """(levels, channels) as (filter, gamma, beta, level)."""
    return np.moveaxis(values.reshape(len(values), *grid), 0, -1)


def _dither(made: Tables) -> None:
    """Which threshold every cell of a kernel of `conv` holds, and which cell stands over each pixel."""
    height, width = (extent - 2 for extent in scene.photograph().shape)
    cells = np.zeros((len(scene.DITHERS), 4, 4, 4), np.uint8)
    shapes, rows, columns = [], [], []
    for i, name in enumerate(scene.DITHERS):
        levels = np.full((1, 1, 1), -1) if name == "sign" else scene.dither_levels(name)
        m, n, g = levels.shape
        for channel in range(len(scene.FILTERS)):
            cells[i, channel, :m, :n] = 1 + levels[:, :, channel % g]
        shapes.append([m, n, g])
        rows.append(phases(height, m, "top_left"))
        columns.append(phases(width, n, "top_left"))
    made.add("cell", cells)
    made.facts["dither_shapes"] = shapes
    made.add("row_phase", np.array(rows, np.uint8))
    made.add("column_phase", np.array(columns, np.uint8))


def _sums_of_four(made: Tables) -> None:
    """What the layer `sum` makes of four bits, each -1, 0 or +1 (0 is a tie that was kept)."""
    four = np.stack(np.meshgrid(*[(-1, 0, 1)] * 4, indexing="ij"), axis=-1).astype(np.int8)
    bits = PackedBits(pack_bool(four > 0).words, 4, pack_bool(four != 0).words)
    made.add("sum4", xnor_popcount(bits, pack(np.ones(4, np.int8))).astype(np.int8))


def _hardware(made: Tables) -> None:
    """The matrix-vector-threshold unit of `conv`, cycle by cycle, from the simulator."""
    images = np.where(patterns() > 0, 255, 0).astype(np.uint8)
    tracer = _tracer(images, pe=4)
    trace = tracer.stage("conv")
    busy = np.flatnonzero(trace.fields["in_valid"] & trace.fields["in_ready"])
    shape = (len(images), TAPS, len(scene.FILTERS))
    made.add("trace_word", trace.fields["word"][busy, 0].reshape(shape[:2]).astype(np.uint8))
    for field_name in ("popcount", "accumulator"):
        made.add(f"trace_{field_name}", trace.fields[field_name][busy].reshape(shape).astype(np.int8))
    made.add("trace_valid", trace.fields["out_valid"][busy].reshape(shape[:2])[0].astype(np.uint8))
    photograph = scene.photograph()
    whole = Simulator(scene.State().network(), fit(scene.State().network(), pe=4, simd=1))
    times = whole.times(1)
    stage = times.stages["conv"]
    for name, cycles in (("start_cycle", stage.starts), ("last_cycle", stage.fold_ends())):
        made.add(name, cycles.astype(np.uint32).reshape(photograph.shape[0] - 2, -1))
    made.facts["cycles"] = int(times.cycles)
    made.facts["threshold_width"] = whole.stage("conv").config.threshold_width
    made.facts["accumulator_width"] = whole.stage("conv").config.accumulator_width
    for name, array in _threshold_memories().items():
        made.add(name, array)


def _tracer(images: Array, pe: int) -> Tracer:
    """The hardware on images of one window each: `dots` passes the bits on, `conv` has the page's filters."""
    dots = scene.dots_layer("one", 0.0)
    conv = scene.network(scene.State()).layers[1]
    last = BinaryDense(name="last", weights=pack(np.ones((1, len(scene.FILTERS)), np.int8)))
    network = NetworkData(name="windows", input_shape=(3, 3, 1), layers=(dots, conv, last))
    return Tracer(Simulator(network, fit(network, pe=pe, simd=1)), images)


def _threshold_memories() -> dict[str, Array]:
    """{flip, limit} of every state, read out of the threshold memory of a layer that has all of them as channels."""
    norms, kernel = all_norms(), all_levels()
    grid = (len(scene.FILTERS), len(scene.GAMMAS), len(scene.BETAS))
    found: dict[str, list[Array]] = {"limit": [], "flip": []}
    for zero in (1, -1):  # One bit holds no zero: the hardware has no third convention.
        weights = np.ones((norms.channels, 1, 1, TAPS), np.int8)
        layers = (
            BinaryConv2d(name="all", weights=pack(weights), batch_norm=norms, kernel=kernel),
            BinaryConv2d(name="last", weights=pack(np.ones((1, 1, 1, norms.channels), np.int8))),
        )
        first = PixelConv2d(
            name="dots", weights=pack(np.ones((TAPS, 1, 1, 1), np.int8)), multiplier=2, offset=-255,
            batch_norm=BatchNorm([1.0] * TAPS, [0.0] * TAPS, [0.0] * TAPS, [1.0] * TAPS, 0.0),
        )  # fmt: skip
        network = NetworkData(
            name="states", input_shape=(LEVELS, 1, 1), layers=(first, *layers), conventions=scene.conventions(zero)
        )
        memory = Simulator(network, fit(network, pe=1, simd=1)).memories[1]
        for name in found:
            values = getattr(memory, name)[0].reshape(norms.channels, LEVELS)
            found[name].append(values.reshape(*grid, LEVELS))
    return {name: np.stack(arrays).astype(np.int8) for name, arrays in found.items()}


def _ranking(made: Tables) -> None:
    """All 2x2 kernels, up to shifts, by the total variation that they leave of this photograph; the best proven."""
    photograph = scene.photograph()[np.newaxis]
    joint = design.image_joint_distribution(photograph, weights=design.AUTHORS_WEIGHTS)
    over_all = design.image_joint_distribution(photograph)
    for measured, expected in ((joint, scene.DESIGNED_2X2), (over_all, scene.DESIGNED_ALL)):
        best, _ = design.optimal_kernel(measured, (2, 2))
        if best.tolist() != expected:
            raise ValueError(f"explorable: found the best kernel {best.tolist()}, scene.py says {expected}")
    scores = design.all_scores(design.total_variation_table(joint), (2, 2))
    ranked = design.ranked_classes(scores, (2, 2), len(scene.LEVELS))
    indices = [np.array(np.unravel_index(place, (len(scene.LEVELS),) * 4)).reshape(2, 2) for place in ranked]
    made.facts["ranking"] = [
        {"levels": np.array(scene.LEVELS)[kernel].tolist(), "score": float(scores[place])}
        for kernel, place in zip(indices, ranked, strict=True)
    ]
    made.facts["kernels_in_all"] = scores.size
    smallest = [canonical(kernel) for kernel in indices]
    named = {
        "the best for this filter": scene.DESIGNED_2X2,
        "a published one": PUBLISHED_2X2,
        "best over all filters": scene.DESIGNED_ALL,
        "0 and 9": scene.CHEQUERBOARD,
    }
    made.facts["named"] = {
        name: smallest.index(canonical(np.searchsorted(scene.LEVELS, levels))) for name, levels in named.items()
    }


def reference(state: scene.State) -> dict[str, Array]:
    """The same by the reference, for one state: all outputs of the network on the photograph."""
    return run(state.network(), scene.photograph()[np.newaxis, :, :, np.newaxis], outputs="all")


def grey_sum(grey: int) -> int:
    """The accumulator of `dots` for a grey value.

    >>> grey_sum(128)
    1
    """
    layer = scene.dots_layer("one", 0.0)
    pixels = np.full((1, 1, 1, 1), grey, np.uint8)
    return int(pixel_conv2d(pixels, layer.weights, multiplier=2, offset=-255)[0, 0, 0, 0])
