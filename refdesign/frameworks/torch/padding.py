"""All padding modes of the reference on NCHW tensors, with gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refdesign.errors import RefdesignError
from refdesign.network import PADDING_MODES, Pair

_FILL = {"zeros": 0.0, "ones": 1.0, "minus_ones": -1.0}


def pad(x: Tensor, padding: Pair, mode: str) -> Tensor:
    """Pad the rows and columns of a batch of maps on both sides.

    Slices are concatenated instead of gathered, so the gradient is deterministic on every device.

    Args:
        x: (N, C, H, W), any dtype.
        padding: (rows, columns) on each side.
        mode: one of `refdesign.network.PADDING_MODES` (docs/method.md, section 2).

    Returns:
        (N, C, H + 2*rows, W + 2*columns).

    Raises:
        RefdesignError: an unknown mode, or more padding than the map can mirror or wrap.

    >>> pad(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (0, 2), "symmetric").flatten().int().tolist()
    [2, 1, 1, 2, 3, 3, 2]
    """
    if mode not in PADDING_MODES:
        raise RefdesignError(f"padding_mode: found {mode!r}, expected one of {', '.join(PADDING_MODES)}")
    rows, columns = padding
    if mode in _FILL:
        return F.pad(x, (columns, columns, rows, rows), value=_FILL[mode]) if rows or columns else x
    return _pad_axis(_pad_axis(x, 2, rows, mode), 3, columns, mode)


def _pad_axis(x: Tensor, axis: int, count: int, mode: str) -> Tensor:
    if count == 0:
        return x
    extent = int(x.shape[axis])
    limit = extent - 1 if mode == "reflect" else extent
    if mode != "edge" and count > limit:
        raise RefdesignError(
            f"padding: found {count}, expected at most {limit} with {mode!r} on a map of {extent} pixels"
        )
    if mode == "symmetric":
        before, after = x.narrow(axis, 0, count).flip(axis), x.narrow(axis, extent - count, count).flip(axis)
    elif mode == "reflect":
        before, after = x.narrow(axis, 1, count).flip(axis), x.narrow(axis, extent - 1 - count, count).flip(axis)
    elif mode == "edge":
        repeats = [count if i == axis else -1 for i in range(x.ndim)]
        before, after = x.narrow(axis, 0, 1).expand(repeats), x.narrow(axis, extent - 1, 1).expand(repeats)
    else:
        before, after = x.narrow(axis, extent - count, count), x.narrow(axis, 0, count)
    return torch.cat([before, x, after], dim=axis)
