"""DeSign: the sign after a periodic threshold, as a module."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.estimators import check_estimator
from refdesign.frameworks.torch.straight_through import straight_through_sign
from refdesign.parameters import NO_DITHER, ThresholdKernel, check_kernel


class DeSign(nn.Module):
    """b = sign(y - s*T[i mod m, j mod n, c mod g]), with a straight-through gradient (docs/method.md, section 1).

    The estimator is taken at z = y - s*T, so its window stands around the shifted threshold, as in the released
    Keras code. T has no gradient; gamma, where it scales T, has the one of the formula.

    Attributes:
        conventions: `kernel_origin`, `channel_map`, `threshold_scale`, `sign_at_zero` and `sign_rule` are followed;
            the arithmetic is PyTorch's own.
        estimator: the gradient, one of `estimators.ESTIMATORS`.

    Raises:
        RefdesignError: no threshold kernel, or an unknown estimator.

    >>> kernel = ThresholdKernel([[0.0, 1.0], [2.0, 3.0]])
    >>> DeSign(kernel)(torch.full((1, 1, 3, 5), 1.5)).int().tolist()
    [[[[1, 1, 1, 1, 1], [-1, -1, -1, -1, -1], [1, 1, 1, 1, 1]]]]
    """

    threshold: Tensor

    def __init__(
        self, kernel: ThresholdKernel, conventions: Conventions = PAPER, *, estimator: str = "clipped"
    ) -> None:
        super().__init__()
        check_estimator(estimator)
        check_kernel(type(self).__name__, kernel)
        self._given = kernel
        self.conventions = conventions
        self.estimator = estimator
        # The state dict carries the thresholds, so weights trained with one kernel do not load silently beside
        # another of a different period.
        self.register_buffer("threshold", torch.tensor(kernel.values).permute(2, 0, 1).contiguous())

    @property
    def kernel(self) -> ThresholdKernel:
        """The threshold kernel in use: the one given, or what a state dict has put in its place."""
        values = self.threshold.permute(1, 2, 0).float().cpu().numpy()
        return self._given if np.array_equal(values, self._given.values) else ThresholdKernel(values)

    def extra_repr(self) -> str:
        """The kernel's period and the estimator, for `print(module)`."""
        return f"kernel={self.kernel.shape}, estimator={self.estimator!r}"

    def threshold_map(self, channels: int, height: int, width: int) -> Tensor:
        """T for every position of a map, without the scale s: (C, H, W), the dtype and device of the module.

        Raises:
            RefdesignError: the kernel's slices do not divide the channels.

        >>> DeSign(ThresholdKernel([[0.0], [1.0]])).threshold_map(1, 3, 1).flatten().tolist()
        [0.0, 1.0, 0.0]
        """
        slices, rows, columns = self.threshold.shape
        if channels % slices:
            raise RefdesignError(
                f"DeSign, kernel: found g = {slices} slices, expected a divisor of {channels} channels"
            )
        channel = torch.arange(channels, device=self.threshold.device)
        by_channel = channel % slices if self.conventions.channel_map == "tile" else channel // (channels // slices)
        row = self._phases(height, rows)
        column = self._phases(width, columns)
        return self.threshold[by_channel[:, None, None], row[:, None], column]

    def _phases(self, extent: int, period: int) -> Tensor:
        start = 0
        if self.conventions.kernel_origin == "center_crop":
            start = (-(-extent // period) * period - extent) // 2
        return (torch.arange(extent, device=self.threshold.device) + start) % period

    def forward(self, y: Tensor, gamma: Tensor | None = None) -> Tensor:
        """The bits of y.

        Args:
            y: (N, C, H, W), or (N, C), which counts as a map of one pixel; the batch norm's output.
            gamma: (C,), the batch norm's scale; needed under `threshold_scale="gamma"`, unused otherwise.

        Returns:
            +1 and -1 (0 at exact ties under `sign_at_zero=0`) in the shape and dtype of `y`.

        Raises:
            RefdesignError: another number of axes, a kernel that does not divide the channels, or no gamma.
        """
        return self.sign(self.dithered(y, gamma)).to(y.dtype)

    def sign(self, z: Tensor) -> Tensor:
        """The sign of z by the named rule, with the estimator's gradient; any shape."""
        return straight_through_sign(z, self.estimator, self.conventions)

    def dithered(self, y: Tensor, gamma: Tensor | None = None) -> Tensor:
        """z = y - s*T, before the sign; the arguments and errors are those of `forward`."""
        if y.ndim not in (2, 4):
            raise RefdesignError(f"DeSign: found shape {tuple(y.shape)}, expected (N, C, H, W) or (N, C)")
        height, width = (int(y.shape[2]), int(y.shape[3])) if y.ndim == 4 else (1, 1)
        threshold = self.threshold_map(int(y.shape[1]), height, width)
        if self.conventions.threshold_scale == "gamma":
            if gamma is None:
                raise RefdesignError("DeSign: threshold_scale is 'gamma', expected the batch norm's gamma as well as y")
            threshold = gamma[:, None, None] * threshold
        return y - (threshold if y.ndim == 4 else threshold[:, 0, 0])


class Sign(DeSign):
    """The plain sign, T = 0, with a straight-through gradient.

    >>> Sign()(torch.tensor([[-0.5, 0.0, 3.0]])).tolist()
    [[-1.0, 1.0, 1.0]]
    """

    def __init__(self, conventions: Conventions = PAPER, *, estimator: str = "clipped") -> None:
        super().__init__(NO_DITHER, conventions.replace(threshold_scale="unit"), estimator=estimator)
