"""The whole of BinaryNet on packed bits beside the same operations in eager torch, on one thread.

    python -m benchmarks.network [--batches 1 32] [--repeats 15] [--json]

Both sides start from uint8 images and end in logits; under the conventions' arithmetic `torch` they are the same
bit for bit, which is checked before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import _measure
from refdesign.api import Network
from refdesign.bits import PackedBits, unpack
from refdesign.conventions import PAPER
from refdesign.design import published
from refdesign.models.binarynet import binarynet
from refdesign.network import BinaryDense, Convolution, Stage
from refdesign.ops.dither import threshold_map
from refdesign.parameters import BatchNorm


def torch_network(network: Network) -> Callable[[np.ndarray], Any]:
    """The same operations in eager torch, in its default layout: NCHW, padding by mirroring one pixel."""
    import torch
    from torch.nn import functional as F

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array, dtype=np.float32))

    def normalisation(batch_norm: BatchNorm) -> tuple[torch.Tensor, ...]:
        return tuple(tensor(getattr(batch_norm, name)) for name in ("mean", "variance", "gamma", "beta"))

    one, minus_one = torch.tensor(1.0), torch.tensor(-1.0)
    steps: list[Callable[[torch.Tensor], torch.Tensor]] = []
    for layer in network.layers:
        if not isinstance(layer, Stage) or layer.batch_norm is None:
            raise TypeError(f"layer {layer.name!r} is none of BinaryNet's")
        weights = getattr(layer, "weights", None)
        if not isinstance(weights, PackedBits):
            raise TypeError(f"layer {layer.name!r}: weights of BinaryNet are packed bits")
        values = tensor(unpack(weights))
        parameters, epsilon = normalisation(layer.batch_norm), layer.batch_norm.epsilon
        thresholds = None
        if isinstance(layer, Convolution):
            kernel = values.permute(0, 3, 1, 2).contiguous()
            # A mirror with the edge, one pixel wide, is what torch calls replicate.
            steps.append(lambda x, w=kernel: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), w))  # type: ignore[misc]
            if layer.kernel is not None:
                height, width, channels = network.shapes[layer.name].output
                map_ = threshold_map(layer.kernel, height, width, channels, network.conventions)
                thresholds = tensor(map_).permute(2, 0, 1).contiguous()
        elif isinstance(layer, BinaryDense):
            before = network.shapes[layer.name].input
            if len(before) == 3:
                height, width, channels = before
                values = values.reshape(-1, height, width, channels).permute(0, 3, 1, 2).reshape(len(values), -1)
                steps.append(lambda x: x.flatten(1))
            matrix = values.contiguous()
            steps.append(lambda x, w=matrix: F.linear(x, w))  # type: ignore[misc]
        if layer.pool is not None:
            steps.append(lambda x, size=layer.pool.size: F.max_pool2d(x, size))  # type: ignore[misc]
        steps.append(lambda x, p=parameters, e=epsilon: F.batch_norm(x, *p, training=False, eps=e))  # type: ignore[misc]
        if layer is network.layers[-1]:
            continue
        if thresholds is not None:
            steps.append(lambda x, t=thresholds: x - t)  # type: ignore[misc]
        steps.append(lambda x: torch.where(x >= 0, one, minus_one))

    def run(images: np.ndarray) -> Any:
        with torch.inference_mode():
            x = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32).mul(2).sub(255).contiguous()
            for step in steps:
                x = step(x)
            return x

    return run


def measure(network: Network, theirs: Callable[[np.ndarray], Any], images: int, repeats: int) -> dict[str, Any]:
    """One batch size: both sides' times and their ratio, after the logits have been found equal."""
    batch = np.random.default_rng(5).integers(0, 256, (images, *network.input_shape), dtype=np.uint8)
    if not np.array_equal(network.run(batch)["logits"], theirs(batch).numpy()):
        raise RuntimeError("the two sides' logits differ")
    seconds = _measure.interleaved({"torch": lambda: theirs(batch), "refdesign": lambda: network.run(batch)}, repeats)
    found = {name: _measure.summary(times) for name, times in seconds.items()}
    return {"batch": images, "threads": 1, **found, "ratio": _measure.ratios(found["refdesign"], found["torch"])}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network", description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], metavar="N", help="images at a time")
    parser.add_argument("--repeats", type=int, default=15, help="interleaved measurements of either side")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    _measure.with_one_thread("benchmarks.network")
    import torch

    torch.set_num_threads(1)
    network = binarynet(kernel=published("threshold_2x2_v1"), conventions=PAPER.replace(arithmetic="torch"))
    theirs = torch_network(network)
    results = [measure(network, theirs, images, arguments.repeats) for images in arguments.batches]
    rows = [
        [result["batch"]]
        + [result[name]["median_ms"] for name in ("torch", "refdesign")]
        + [f"{result['ratio']['median']:.2f} ({result['ratio']['least']:.2f})"]
        for result in results
    ]
    text = "milliseconds (median), ratio of medians (of least times)\n" + _measure.table(
        ["batch", "torch", "refdesign", "ratio"], rows
    )
    _measure.report({"network": network.name, "results": results}, text, arguments.json)


if __name__ == "__main__":
    main()
