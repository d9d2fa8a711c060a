"""Whole layers on Numba and on JAX beside torch's bare float32 `conv2d`, with the same threads, in one run.

    python -m benchmarks.engines [--batches 1 32] [--threads 1] [--repeats 15] [--json]

A whole layer starts from packed bits and ends in packed bits: padding, convolution, max pool where there is one,
thresholds. Its bits are compared with the reference's before anything is timed. Beside the times: how long each
engine's functions took to compile, and how much the process's memory grew while it ran them.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import _measure
from benchmarks.conv import LAYERS, Layer
from refdesign.bits import pack, unpack
from refdesign.network import BinaryConv2d, MaxPool

ENGINES = ("numba", "jax")
_TARGETS = {("numba", 1): 0.17, ("numba", 32): 0.17, ("jax", 1): 0.17, ("jax", 32): 0.25}


def on_numba(layer: Layer, data: BinaryConv2d) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
    """The layer on Numba: what is timed, and its bits."""
    from refdesign.frameworks.numba.layers import PackedConv
    from refdesign.frameworks.numba.thresholds import Decision

    convolve, decision = PackedConv(data, data.weights, (layer.shape.extent,) * 2), Decision(layer.thresholds)

    def run() -> Any:
        return convolve.bits(layer.packed, decision, data.pool)

    return run, lambda: unpack(run())


def on_jax(layer: Layer, data: BinaryConv2d) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
    """The layer on JAX, its inputs and outputs on the device."""
    import jax.numpy as jnp

    from refdesign.frameworks.jax.engine import layer_function
    from refdesign.frameworks.jax.packed import from_uint64, to_uint64

    function = layer_function(data, layer.thresholds, (layer.shape.extent,) * 2)
    words = jnp.asarray(from_uint64(layer.packed.words, layer.packed.length))

    def run() -> Any:
        return function(words).block_until_ready()

    def bits() -> np.ndarray:
        from refdesign.bits import PackedBits

        return unpack(PackedBits(to_uint64(np.asarray(run())), layer.shape.outputs))

    return run, bits


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def measure(images: int, repeats: int) -> dict[str, Any]:
    """Every layer at one batch size."""
    makers = {"numba": on_numba, "jax": on_jax}
    rows: list[dict[str, Any]] = []
    for shape in LAYERS:
        layer = Layer.random(shape, images)
        data = BinaryConv2d(
            name="layer",
            weights=pack(layer.weights),
            padding=(1, 1),
            padding_mode="symmetric",
            pool=MaxPool(size=(2, 2), stride=(2, 2)) if shape.pool else None,
        )
        expected = unpack(layer.run(layer.popcount))
        timed: dict[str, Callable[[], object]] = {"torch": layer.torch_convolution(channels_last=False)}
        row: dict[str, Any] = {"layer": shape.name}
        for name in ENGINES:
            before, start = peak_mb(), time.perf_counter()
            timed[name], bits = makers[name](layer, data)
            if not np.array_equal(bits(), expected):
                raise RuntimeError(f"{shape.name}: {name} differs from the reference")
            row[f"{name} first s"] = time.perf_counter() - start
            row[f"{name} memory MB"] = peak_mb() - before
        seconds = _measure.interleaved(timed, repeats)
        rows.append({**row, **{name: _measure.summary(times) for name, times in seconds.items()}})
    total: dict[str, Any] = {"layer": "total"}
    for name in ("torch", *ENGINES):
        total[name] = {key: sum(row[name][key] for row in rows) for key in ("median_ms", "least_ms")}
    for name in ENGINES:
        for what in ("first s", "memory MB"):
            total[f"{name} {what}"] = sum(row[f"{name} {what}"] for row in rows)
    rows.append(total)
    for row in rows:
        for name in ENGINES:
            row[f"{name} ratio"] = _measure.ratios(row[name], row["torch"])
    return {"batch": images, "rows": rows, "targets": {name: _TARGETS.get((name, images)) for name in ENGINES}}


def _text(result: dict[str, Any]) -> str:
    lines = []
    for batch in result["batches"]:
        targets = ", ".join(f"{name} {value}" for name, value in batch["targets"].items() if value)
        lines.append(
            f"\nbatch {batch['batch']}, {result['threads']} thread(s) on each side: milliseconds (median), ratios of "
            f"medians (of least times) to torch{f'; targets: {targets}' if targets else ''}"
        )
        rows = [
            [row["layer"], *(row[name]["median_ms"] for name in ("torch", *ENGINES))]
            + [f"{row[f'{name} ratio']['median']:.3f} ({row[f'{name} ratio']['least']:.3f})" for name in ENGINES]
            + [f"{row[f'{name} first s']:.2f} s, {row[f'{name} memory MB']:.0f} MB" for name in ENGINES]
            for row in batch["rows"]
        ]
        ratios = [f"{name}/torch" for name in ENGINES]
        first = [f"{name} first call" for name in ENGINES]
        lines.append(_measure.table(["layer", "torch", *ENGINES, *ratios, *first], rows))
    return "\n".join(lines)


def pin(threads: int) -> None:
    """Keep this process, with all threads that it will start, to so many cores, where the system can.

    XLA has no setting for its threads: it takes as many as there are cores that it may use.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], metavar="N", help="images at a time")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="cores, and threads on every side")
    parser.add_argument("--repeats", type=int, default=15, help="interleaved measurements of each function")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    pin(arguments.threads)  # before a framework is loaded and counts the cores
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache  # so that the first call shows what compiling costs
        import numba
        import torch

        torch.set_num_threads(arguments.threads)
        numba.set_num_threads(arguments.threads)
        batches = [measure(images, arguments.repeats) for images in arguments.batches]
    result = {"threads": arguments.threads, "batches": batches}
    _measure.report(result, _text(result), arguments.json)


if __name__ == "__main__":
    main()
