"""Whether a trained module and its exported network are the same, output by output, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.api import Network
from refdesign.errors import RefdesignError, missing_extra
from refdesign.run import default_batch_size

try:
    from torch import nn
except ImportError as error:
    raise missing_extra("train", "torch") from error

from refdesign.frameworks.torch import layer_outputs


@dataclass
class Agreement:
    """How much was compared, and what differs.

    Attributes:
        images: compared.
        outputs: the names of all outputs that were compared.
        compared: values in them.
        by_output: how many values differ, for each output where some do.
        predictions: images whose largest logits are at different places.

    >>> str(Agreement(images=2, compared=60))
    '2 images, 60 values in 0 outputs: 0 values and 0 predictions differ'
    """

    images: int = 0
    outputs: tuple[str, ...] = ()
    compared: int = 0
    by_output: dict[str, int] = field(default_factory=dict)
    predictions: int = 0

    @property
    def differing(self) -> int:
        """Values that differ, of all outputs."""
        return sum(self.by_output.values())

    def __str__(self) -> str:
        where = f" (in {', '.join(self.by_output)})" if self.by_output else ""
        return (
            f"{self.images:,} images, {self.compared:,} values in {len(self.outputs)} outputs: "
            f"{self.differing:,} values{where} and {self.predictions:,} predictions differ"
        )


def compare(
    module: nn.Module,
    network: Network,
    images: NDArray[np.uint8],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Compare all that a module in eval mode gives with the golden network's packed path, batch by batch.

    Accumulators, pooled accumulators, bits, real streams and logits are compared with equality; real ones by their
    bit patterns.

    Args:
        module: what `to_network` exported.
        network: what it became.
        images: uint8, (N, H, W, C).
        progress: called with the images done and their number.

    Raises:
        RefdesignError: outputs of other names or shapes.

    >>> from refdesign.api import pretrained
    >>> from refdesign.frameworks.torch import from_network
    >>> digits = pretrained("digits")
    >>> compare(from_network(digits), digits, np.zeros((2, 8, 8, 1), np.uint8)).differing
    0
    """
    size = default_batch_size(network)
    found = Agreement(images=len(images), outputs=network.output_names)
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        ours = network.run(batch, outputs="all")
        theirs = layer_outputs(module, batch)
        if ours.keys() != theirs.keys():
            raise RefdesignError(f"network {network.name!r}: outputs {', '.join(ours)}, expected {', '.join(theirs)}")
        for name, array in ours.items():
            if array.shape != theirs[name].shape:
                expected = theirs[name].shape
                raise RefdesignError(
                    f"network {network.name!r}, {name}: found shape {array.shape}, its module has {expected}"
                )
            found.compared += array.size
            differing = int(np.count_nonzero(_bit_pattern(array) != _bit_pattern(theirs[name])))
            if differing:
                found.by_output[name] = found.by_output.get(name, 0) + differing
        disagreeing = ours["logits"].argmax(axis=1) != theirs["logits"].argmax(axis=1)
        found.predictions += int(np.count_nonzero(disagreeing))
        if progress is not None:
            progress(min(start + size, len(images)), len(images))
    return found


def _bit_pattern(array: NDArray[Any]) -> NDArray[Any]:
    return array.view(np.int32) if array.dtype == np.float32 else array
