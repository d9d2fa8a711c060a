"""A network on an engine, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.frameworks import compile as compile_for
from refdesign.network import NetworkData
from refdesign.run import default_batch_size


def batches(
    network: NetworkData,
    pixels: NDArray[np.uint8],
    engine: str,
    outputs: tuple[str, ...],
    batch_size: int | None,
    progress: Callable[[int, int], None],
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The outputs of an engine, batch by batch; at least one batch, which may be empty.

    Args:
        network: what runs.
        pixels: uint8, (N, H, W, C).
        engine: one of `refdesign.frameworks.ENGINES`.
        outputs: by their names.
        batch_size: images at a time; None is what fits into memory.
        progress: called with the images done and their number.
    """
    run_batch = compile_for(network, engine)
    size = batch_size or default_batch_size(network)
    for start in range(0, max(len(pixels), 1), size):
        yield run_batch(pixels[start : start + size], outputs=outputs)
        progress(min(start + size, len(pixels)), len(pixels))
