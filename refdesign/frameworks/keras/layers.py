"""Binary layers on `keras.ops`, serialisable with their model; maps are NHWC."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.ops.dither import threshold_map
from refdesign.ops.padding import FILLS, source_index
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.parameters import ThresholdKernel

Tensor = Any
ESTIMATORS = {
    "clipped": lambda z: ops.clip(z, -1.0, 1.0),
    "identity": lambda z: z,
    "polynomial": lambda z: ops.clip(z, -1.0, 1.0) * (2 - ops.abs(ops.clip(z, -1.0, 1.0))),
}
"""What is differentiated in place of the sign: its derivatives are those of `refdesign.frameworks.torch`."""


def straight_through_sign(z: Tensor, estimator: str, conventions: Conventions) -> Tensor:
    """The sign of z forward, an estimator's gradient backward; the dtype and shape of z.

    Args:
        z: floating point.
        estimator: one of `ESTIMATORS`.
        conventions: `sign_at_zero` and `sign_rule` decide ties (docs/method.md, section 3).

    Raises:
        RefdesignError: an unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise RefdesignError(f"estimator: found {estimator!r}, expected one of {', '.join(sorted(ESTIMATORS))}")
    if conventions.sign_rule == "keras_round":
        signs = _two_valued(z > KERAS_ROUND_BOUNDARY, z)
    elif conventions.sign_at_zero == 0:
        signs = ops.sign(z)
    else:
        signs = _two_valued(z >= 0 if conventions.sign_at_zero == 1 else z > 0, z)
    smooth = ESTIMATORS[estimator](z)
    # The difference is exactly 0, so that the bits stay exact; only its gradient is not.
    return ops.stop_gradient(signs) + (smooth - ops.stop_gradient(smooth))


def _two_valued(fires: Tensor, like: Tensor) -> Tensor:
    return ops.cast(fires, like.dtype) * 2 - 1


@keras.saving.register_keras_serializable(package="refdesign")
class DeSign(keras.layers.Layer):  # type: ignore[misc]
    """b = sign(y - T) over NHWC maps or (N, C), with a straight-through gradient (docs/method.md, section 1).

    Under `RELEASED_KERAS` it is the authors' layer: whole periods are tiled and the centre is cropped, ties give -1.

    Args:
        kernel: the threshold kernel; None is the plain sign.
        conventions: all choices of sign and dither; `threshold_scale="gamma"` is refused: no batch norm is at hand.
        estimator: one of `ESTIMATORS`.

    Raises:
        RefdesignError: thresholds scaled by gamma, or an unknown estimator.
    """

    def __init__(
        self,
        kernel: ThresholdKernel | None = None,
        conventions: Conventions = PAPER,
        estimator: str = "clipped",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if kernel is not None and conventions.threshold_scale == "gamma":
            raise RefdesignError("DeSign, threshold_scale: found 'gamma', which this layer has not, expected 'unit'")
        if estimator not in ESTIMATORS:
            raise RefdesignError(f"estimator: found {estimator!r}, expected one of {', '.join(sorted(ESTIMATORS))}")
        self.kernel, self.conventions, self.estimator = kernel, conventions, estimator

    def call(self, y: Tensor) -> Tensor:
        """The bits of y, in its dtype."""
        if self.kernel is None:
            return straight_through_sign(y, self.estimator, self.conventions)
        if len(y.shape) not in (2, 4):
            raise RefdesignError(f"DeSign: found shape {tuple(y.shape)}, expected (N, H, W, C) or (N, C)")
        height, width = (int(y.shape[1]), int(y.shape[2])) if len(y.shape) == 4 else (1, 1)
        cells = threshold_map(self.kernel, height, width, int(y.shape[-1]), self.conventions)
        z = y - ops.convert_to_tensor(cells if len(y.shape) == 4 else cells[0, 0], dtype=y.dtype)
        return straight_through_sign(z, self.estimator, self.conventions)

    def get_config(self) -> dict[str, Any]:
        """Plain data, for saving."""
        kernel = None if self.kernel is None else self.kernel.values.tolist()
        own = {"kernel": kernel, "conventions": self.conventions.to_dict(), "estimator": self.estimator}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DeSign:
        """The inverse of `get_config`."""
        kernel = config.pop("kernel")
        conventions = Conventions.from_dict(config.pop("conventions"))
        values = None if kernel is None else ThresholdKernel(np.array(kernel, np.float32))
        return cls(values, conventions, **config)


@keras.saving.register_keras_serializable(package="refdesign")
class BinaryConv2D(keras.layers.Layer):  # type: ignore[misc]
    """A convolution with weights of ±1 over NHWC maps, on latent weights (rows, columns, I, O).

    Args:
        filters: O.
        kernel_size, strides, dilation: rows and columns.
        padding: rows and columns on each side.
        padding_mode: one of `refdesign.network.PADDING_MODES`; the released code has `"symmetric"`.
        estimator: the gradient of the weights' sign.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: tuple[int, int],
        strides: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        padding_mode: str = "zeros",
        dilation: tuple[int, int] = (1, 1),
        estimator: str = "clipped",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.filters, self.kernel_size, self.strides = filters, tuple(kernel_size), tuple(strides)
        self.padding, self.padding_mode, self.dilation = tuple(padding), padding_mode, tuple(dilation)
        self.estimator = estimator

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Draw the latent weights."""
        self.latent = self.add_weight(
            shape=(*self.kernel_size, shape[-1], self.filters), initializer="glorot_uniform", name="latent"
        )

    def call(self, x: Tensor) -> Tensor:
        """Accumulators (N, H', W', O) of x (N, H, W, I)."""
        weights = straight_through_sign(self.latent, self.estimator, PAPER)
        for axis in (1, 2):
            x = self._padded(x, axis)
        # Keras refuses strides and dilation together; the products are taken tap by tap, and float32 sums of them
        # are exact up to 2**24 in any order.
        height, width = (
            (int(x.shape[axis + 1]) - self.dilation[axis] * (self.kernel_size[axis] - 1) - 1) // self.strides[axis] + 1
            for axis in (0, 1)
        )
        total: Tensor = 0
        for i, j in np.ndindex(*self.kernel_size):
            top, left = i * self.dilation[0], j * self.dilation[1]
            bottom = top + (height - 1) * self.strides[0] + 1
            right = left + (width - 1) * self.strides[1] + 1
            seen = x[:, top : bottom : self.strides[0], left : right : self.strides[1]]
            total = total + ops.matmul(seen, weights[i, j])
        return total

    def _padded(self, x: Tensor, axis: int) -> Tensor:
        extent, count = int(x.shape[axis]), self.padding[axis - 1]
        if not count:
            return x
        source = np.asarray(source_index(extent, count, self.padding_mode))
        taken = ops.take(x, ops.convert_to_tensor(np.maximum(source, 0).astype(np.int32)), axis=axis)
        if (source >= 0).all():
            return taken
        shape = tuple(len(source) if a == axis else 1 for a in range(4))
        outside = ops.convert_to_tensor((source < 0).reshape(shape).astype(np.float32))
        return taken * (1 - outside) + outside * FILLS[self.padding_mode]

    def get_config(self) -> dict[str, Any]:
        """Plain data, for saving."""
        names = ("filters", "kernel_size", "strides", "padding", "padding_mode", "dilation", "estimator")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="refdesign")
class BinaryDense(keras.layers.Layer):  # type: ignore[misc]
    """A dense layer with weights of ±1 and no bias, on latent weights (I, O).

    Args:
        units: O.
        estimator: the gradient of the weights' sign.
    """

    def __init__(self, units: int, estimator: str = "clipped", **settings: Any) -> None:
        super().__init__(**settings)
        self.units, self.estimator = units, estimator

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Draw the latent weights."""
        self.latent = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform", name="latent")

    def call(self, x: Tensor) -> Tensor:
        """Accumulators (N, O) of x (N, I)."""
        return ops.matmul(x, straight_through_sign(self.latent, self.estimator, PAPER))

    def get_config(self) -> dict[str, Any]:
        """Plain data, for saving."""
        return {**super().get_config(), "units": self.units, "estimator": self.estimator}
