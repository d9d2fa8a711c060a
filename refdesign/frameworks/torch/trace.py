"""What a module computes layer by layer, under the names of the reference."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.export import module_network
from refdesign.frameworks.torch.flow import split
from refdesign.frameworks.torch.modes import evaluating
from refdesign.frameworks.torch.residual import BinaryNetwork, as_output, network_outputs


def layer_outputs(module: nn.Module, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Run a sequential binary model in eval mode and keep what every layer gives.

    The mapping is that of `Network.run(images, outputs="all")` for the exported network, so both can be compared
    name by name.

    Args:
        module: what `to_network` accepts, sequential or a `BinaryNetwork`; its mode is restored afterwards.
        images: uint8, (N, H, W, C).

    Returns:
        `<layer>.accumulator` and `<layer>.pooled` (int32), `<layer>.real` (float32), `<layer>.bits` (int8) and
        `logits` (float32; int32 without a last batch norm), NHWC.

    Raises:
        RefdesignError: images of another dtype or number of axes, or accumulators that are no integers.

    >>> from refdesign.frameworks.torch import BinaryConv2d, BinaryLinear, PixelInput, Sign
    >>> model = nn.Sequential(PixelInput(), BinaryConv2d(1, 2, 3), Sign(), nn.Flatten(), BinaryLinear(12, 4))
    >>> outputs = layer_outputs(model, np.zeros((3, 4, 5, 1), np.uint8))
    >>> {name: array.shape for name, array in outputs.items()}
    {'1.accumulator': (3, 2, 3, 2), '1.bits': (3, 2, 3, 2), '4.accumulator': (3, 4), 'logits': (3, 4)}
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise RefdesignError(f"images: found {images.dtype} of shape {images.shape}, expected uint8 (N, H, W, C)")
    if isinstance(module, BinaryNetwork):
        shape = (images.shape[1], images.shape[2], images.shape[3])
        names = module_network(module, name="traced", input_shape=shape).output_names
        return network_outputs(module, names, images)
    _, parts = split(module)
    stages = [stage for part in parts for stage in (part.product.accumulator, part.activation) if stage is not None]
    # By module and in order of its calls: one module may stand in several places (a Sign shared by all layers).
    calls: dict[nn.Module, deque[Tensor]] = {stage: deque() for stage in stages}

    def keep(stage: nn.Module, _inputs: object, output: Tensor) -> None:
        calls[stage].append(output)

    handles = [stage.register_forward_hook(keep) for stage in calls]
    device = parts[0].product.weight.device
    try:
        with evaluating(module):
            logits = module(torch.tensor(images, device=device).permute(0, 3, 1, 2))
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, Tensor] = {}
    for part in parts:
        sums = calls[part.product.accumulator].popleft()
        _, scale = part.product.binarised()
        if part.pool is not None and scale is not None:
            # The module pools scaled sums. `to_network` pools before it scales, and so moves a negative scale's sign
            # into the weights.
            sums = torch.where(scale[:, None, None] < 0, -sums, sums)
        found[f"{part.name}.accumulator"] = sums
        if part.pool is not None:
            found[f"{part.name}.pooled"] = part.pool(sums)
        if part.activation is not None:
            found[f"{part.name}.bits"] = calls[part.activation].popleft()
    outputs = {name: as_output(name, value) for name, value in found.items()}
    outputs["logits"] = as_output("logits", logits, parts[-1].batch_norm is None)
    return outputs
