"""Binary layers of BinaryNet beside `torch.nn.functional.conv2d` in float32, on the same number of threads.

On our side a whole layer: packed bits in; convolution, max pool where there is one, dither and threshold; packed
bits out. On torch's side the bare convolution. The five layers after the first one, 3x3.

    python -m benchmarks.conv [--batches 1 32] [--repeats 15] [--json]

`popcount` is XNOR and popcount, `two-field` the matrix product for two output channels at a time, where its check
proves it exact. `two processes` splits a batch of 32 over two processes, beside torch on two threads.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks import _measure
from refdesign.bits import PackedBits, pack
from refdesign.conventions import PAPER
from refdesign.fold import Thresholds, fold
from refdesign.ops.conv import PreparedConv
from refdesign.ops.pool import max_pool2d
from refdesign.ops.two_field import TwoFieldConv
from refdesign.parameters import BatchNorm, ThresholdKernel


@dataclass(frozen=True)
class Shape:
    """A layer of BinaryNet: input and output channels, rows and columns, and whether a 2x2 max pool follows."""

    inputs: int
    outputs: int
    extent: int
    pool: bool

    @property
    def name(self) -> str:
        """As it is printed."""
        return f"{self.inputs}->{self.outputs} @{self.extent}" + (" pool" if self.pool else "")


LAYERS = (
    Shape(128, 128, 32, True),
    Shape(128, 256, 16, False),
    Shape(256, 256, 16, True),
    Shape(256, 512, 8, False),
    Shape(512, 512, 8, True),
)


@dataclass(frozen=True)
class Layer:
    """A layer with random weights and parameters, ready to run on either side."""

    shape: Shape
    inputs: np.ndarray
    weights: np.ndarray
    packed: PackedBits
    popcount: PreparedConv
    two_field: TwoFieldConv
    thresholds: Thresholds

    @classmethod
    def random(cls, shape: Shape, images: int) -> Layer:
        """Inputs and weights of ±1, a batch norm with both signs of gamma, a 2x2x4 kernel."""
        rng = np.random.default_rng(20)
        inputs = rng.choice([-1, 1], (images, shape.extent, shape.extent, shape.inputs))
        weights = rng.choice([-1, 1], (shape.outputs, 3, 3, shape.inputs))
        extent, fan_in = (shape.extent, shape.extent), 9 * shape.inputs
        normal = rng.normal(size=(4, shape.outputs)).astype(np.float32)
        batch_norm = BatchNorm(normal[0], normal[1], 9 * normal[2], fan_in * (1 + normal[3] ** 2), 1e-4)
        kernel = ThresholdKernel(rng.uniform(0, 2, (2, 2, 4)).astype(np.float32))
        settings: dict[str, Any] = {"padding": 1, "padding_mode": "symmetric"}
        return cls(
            shape,
            inputs,
            weights,
            pack(inputs),
            PreparedConv(pack(weights), extent, **settings),
            TwoFieldConv(pack(weights), extent, **settings),
            fold(batch_norm, kernel, fan_in=fan_in, conventions=PAPER, domain=(-fan_in, fan_in, 2)),
        )

    def run(self, convolve: Callable[[PackedBits], np.ndarray]) -> PackedBits:
        """The whole layer on our side."""
        accumulators = convolve(self.packed)
        return self.thresholds.apply(max_pool2d(accumulators, 2) if self.shape.pool else accumulators)

    def torch_convolution(self, channels_last: bool) -> Callable[[], object]:
        """The bare convolution on torch's side, in one of its memory formats."""
        import torch

        layout = torch.channels_last if channels_last else torch.contiguous_format
        x, w = (
            torch.from_numpy(array.astype(np.float32)).permute(0, 3, 1, 2).contiguous(memory_format=layout)
            for array in (self.inputs, self.weights)
        )

        def convolve() -> object:
            with torch.inference_mode():
                return torch.nn.functional.conv2d(x, w, padding=1)

        return convolve


def measure_batch(images: int, repeats: int) -> dict[str, Any]:
    """Every layer on one thread: torch in both memory formats, popcount, two-field."""
    rows = []
    for shape in LAYERS:
        layer = Layer.random(shape, images)
        if not np.array_equal(layer.run(layer.popcount).words, layer.run(layer.two_field).words):
            raise RuntimeError(f"{shape.name}: popcount and two-field differ")
        seconds = _measure.interleaved(
            {
                "torch": layer.torch_convolution(channels_last=False),
                "torch channels last": layer.torch_convolution(channels_last=True),
                "popcount": lambda layer=layer: layer.run(layer.popcount),  # type: ignore[misc]
                "two-field": lambda layer=layer: layer.run(layer.two_field),  # type: ignore[misc]
            },
            repeats,
        )
        rows.append({"layer": shape.name, **{name: _measure.summary(times) for name, times in seconds.items()}})
    total = {
        name: {key: sum(row[name][key] for row in rows) for key in ("median_ms", "least_ms")}  # type: ignore[index]
        for name in ("torch", "torch channels last", "popcount", "two-field")
    }
    rows.append({"layer": "total", **total})
    for row in rows:
        for ours in ("popcount", "two-field"):
            row[f"{ours} ratio"] = _measure.ratios(row[ours], row["torch"])  # type: ignore[arg-type]
    return {"batch": images, "threads": 1, "rows": rows}


def _serve(connection: Connection, images: int) -> None:
    """A worker: holds its share of every layer, and runs all layers whenever it is told to."""
    layers = [Layer.random(shape, images) for shape in LAYERS]
    connection.send("ready")
    while connection.recv() == "run":
        for layer in layers:
            layer.run(layer.popcount)
        connection.send("done")


def measure_two_processes(images: int, repeats: int) -> dict[str, Any]:
    """All layers, the batch split over two processes, beside torch on two threads."""
    import torch

    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    workers = [context.Process(target=_serve, args=(theirs, images // 2)) for _, theirs in pipes]
    for worker in workers:
        worker.start()
    ends = [ours for ours, _ in pipes]
    convolutions = [Layer.random(shape, images).torch_convolution(channels_last=False) for shape in LAYERS]

    def ours() -> None:
        for end in ends:
            end.send("run")
        for end in ends:
            end.recv()

    def theirs() -> None:
        for convolve in convolutions:
            convolve()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for end in ends:
            end.recv()
        seconds = _measure.interleaved({"torch": theirs, "popcount": ours}, repeats)
    finally:
        torch.set_num_threads(before)
        for end in ends:
            end.send("stop")
        for worker in workers:
            worker.join()
    found = {name: _measure.summary(times) for name, times in seconds.items()}
    return {
        "batch": images,
        "processes": 2,
        "torch threads": 2,
        **found,
        "popcount ratio": _measure.ratios(found["popcount"], found["torch"]),
    }


def _text(result: dict[str, Any]) -> str:
    lines = []
    for batch in result["batches"]:
        lines.append(f"\nbatch {batch['batch']}, one thread: milliseconds (median), ratios of medians (of least times)")
        names = ("torch", "torch channels last", "popcount", "two-field")
        rows = [
            [row["layer"]]
            + [row[name]["median_ms"] for name in names]
            + [
                f"{row[f'{ours} ratio']['median']:.2f} ({row[f'{ours} ratio']['least']:.2f})"
                for ours in ("popcount", "two-field")
            ]
            for row in batch["rows"]
        ]
        lines.append(_measure.table(["layer", *names, "popcount/torch", "two-field/torch"], rows))
    two = result["two processes"]
    ratio = two["popcount ratio"]
    lines.append(
        f"\nbatch {two['batch']}, two processes beside torch on two threads, all five layers: "
        f"{two['popcount']['median_ms']:.1f} ms to {two['torch']['median_ms']:.1f} ms, "
        f"ratio {ratio['median']:.2f} ({ratio['least']:.2f})"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conv", description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], metavar="N", help="images at a time")
    parser.add_argument("--repeats", type=int, default=15, help="interleaved measurements of each function")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    _measure.with_one_thread("benchmarks.conv")
    import torch

    torch.set_num_threads(1)
    result = {
        "batches": [measure_batch(images, arguments.repeats) for images in arguments.batches],
        "two processes": measure_two_processes(32, arguments.repeats),
    }
    _measure.report(result, _text(result), arguments.json)


if __name__ == "__main__":
    main()
