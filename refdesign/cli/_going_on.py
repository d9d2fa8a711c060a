"""Where a difference is not explained: the command that explains the first bit that differs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from refdesign.api import Network
from refdesign.cli import _common as common
from refdesign.network import Stage
from refdesign.verify.differences import FirstDifference


def explain_command(
    network: Network,
    first: FirstDifference,
    model: str,
    sources: Sequence[str],
    vectors: Path | None,
    seed: int,
    root: Path | None,
    resize: bool,
) -> str | None:
    """The `refdesign explain` of the bit that the first difference is in.

    Args:
        network: the reference.
        first: the first difference.
        model, sources, vectors, seed, root, resize: what `refdesign verify` was given.

    Returns:
        None where no single bit can be explained: in the last layer, in layers without integer sums, and beside the
        windows of a pool.
    """
    layer = network.layer(first.layer)
    if layer is network.layers[-1] or f"{layer.name}.accumulator" not in network.output_names:
        return None
    at = [first.channel]
    if first.row is not None and first.column is not None:
        at = [first.row, first.column, first.channel]
        if first.output.endswith(".accumulator") and isinstance(layer, Stage) and layer.pool is not None:
            at[:2] = (at[axis] // layer.pool.stride[axis] for axis in (0, 1))
            if any(at[axis] >= network.shapes[layer.name].output[axis] for axis in (0, 1)):
                return None
    if vectors is not None:
        given = [str(vectors / "images.npy"), "--index", str(first.image)]
    elif sources:
        given = _of_source(network, first.image, sources, root, resize)
    else:
        given = ["--seed", str(seed), "--index", str(first.image)]
    place = ["--layer", layer.name, "--at", ",".join(map(str, at))]
    return shlex.join(["refdesign", "explain", model, *given, *place])


def _of_source(network: Network, number: int, sources: Sequence[str], root: Path | None, resize: bool) -> list[str]:
    """The source that holds an image of several sources, with the image's number in it."""
    options = ([] if root is None else ["--root", str(root)]) + ["--resize"] * resize
    for source in sources[:-1]:
        count = len(common.load_images((source,), root, network.input_shape, resize=resize)[0])
        if number < count:
            return [source, "--index", str(number), *options]
        number -= count
    return [sources[-1], "--index", str(number), *options]
