"""Threshold kernels of an imported network: the smallest that give its threshold maps, under one convention for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refdesign.formats.onnx_context import Found
from refdesign.formats.periodic import scaled_kernel, smallest_kernel
from refdesign.network import Stage
from refdesign.parameters import ThresholdKernel

CHANNEL_MAPS = ("tile", "repeat")


def kernels_of(entries: Sequence[Found]) -> tuple[str, str, dict[str, ThresholdKernel]]:
    """The channel map, the scale of thresholds, and by layer the kernel, that have the fewest slices in all.

    Thresholds that are gamma times a kernel, as the released PyTorch code has them, are found as such where that
    leaves fewer slices.

    Args:
        entries: the layers; those with a threshold map get a kernel.
    """
    maps = {entry.draft.name: entry for entry in entries if entry.tail.over_map is not None}
    best: tuple[int, str, str, dict[str, ThresholdKernel]] | None = None
    for scale in ("unit", "gamma"):
        for channel_map in CHANNEL_MAPS:
            kernels: dict[str, ThresholdKernel] = {}
            for name, entry in maps.items():
                over_map, norm = entry.tail.over_map, entry.tail.batch_norm
                if over_map is None or not issubclass(entry.draft.kind, Stage):
                    continue
                if scale == "unit":
                    kernels[name] = ThresholdKernel(smallest_kernel(over_map, channel_map))
                    continue
                gamma = np.ones(over_map.shape[2], np.float32) if norm is None else norm.gamma
                found = scaled_kernel(over_map, gamma, channel_map)
                if found is None:
                    break
                kernels[name] = ThresholdKernel(found)
            slices = sum(kernel.shape[2] for kernel in kernels.values())
            if len(kernels) == len(maps) and (best is None or slices < best[0]):
                best = slices, channel_map, scale, kernels
    return (best[1], best[2], best[3]) if best is not None else ("tile", "unit", {})
