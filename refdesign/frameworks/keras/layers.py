"""Binary products on `keras.ops`, serialisable with their model; maps are NHWC."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from refdesign.conventions import PAPER
from refdesign.errors import RefdesignError
from refdesign.frameworks.estimators import check_estimator
from refdesign.frameworks.keras.design import known_extent, straight_through_sign
from refdesign.network import PADDING_MODES, Pair
from refdesign.ops.padding import FILLS, Windows, as_pair

Tensor = Any


def pad(x: Tensor, windows: Windows) -> Tensor:
    """Maps with what stands around them under the padding mode: (N, H, W, C), any dtype.

    >>> windows = Windows.of((1, 2), (1, 3), stride=1, padding=(0, 1), padding_mode="minus_ones", dilation=1)
    >>> ops.convert_to_numpy(pad(ops.ones((1, 1, 2, 1)), windows)).ravel().tolist()
    [-1.0, 1.0, 1.0, -1.0]
    """
    if windows.padding == (0, 0):
        return x
    rows, columns = windows.source(0), windows.source(1)
    outside = ((rows < 0)[:, np.newaxis] | (columns < 0))[:, :, np.newaxis]
    for axis, source in ((1, rows), (2, columns)):
        x = ops.take(x, ops.convert_to_tensor(np.maximum(source, 0).astype(np.int32)), axis=axis)
    if not outside.any():
        return x
    return ops.where(ops.convert_to_tensor(outside), ops.cast(FILLS[windows.padding_mode], x.dtype), x)


@keras.saving.register_keras_serializable(package="refdesign")
class PixelInput(keras.layers.Layer):  # type: ignore[misc]
    """What the first layer reads of pixels p: multiplier*p + offset, exact in float32.

    Args:
        multiplier, offset: 2 and -255, as in the released Keras code, or any other integers.

    >>> ops.convert_to_numpy(PixelInput()(np.array([[0, 128, 255]], np.uint8))).tolist()
    [[-255.0, 1.0, 255.0]]
    """

    def __init__(self, multiplier: int = 2, offset: int = -255, **settings: Any) -> None:
        super().__init__(**settings)
        self.multiplier, self.offset = int(multiplier), int(offset)

    def call(self, pixels: Tensor) -> Tensor:
        """float32, in the shape of the pixels."""
        return ops.cast(pixels, "float32") * self.multiplier + self.offset

    def get_config(self) -> dict[str, Any]:
        """Plain data, for saving."""
        return {**super().get_config(), "multiplier": self.multiplier, "offset": self.offset}


@keras.saving.register_keras_serializable(package="refdesign")
class BinaryConv2D(keras.layers.Layer):  # type: ignore[misc]
    """A convolution with weights of ±1 over NHWC maps, on latent weights (rows, columns, I/groups, O).

    Args:
        filters: O.
        kernel_size, strides, dilation: an integer or (rows, columns).
        padding: how much on each side, an integer or (rows, columns); not Keras's `"same"`, which may put an odd
            total on one side.
        padding_mode: one of `refdesign.network.PADDING_MODES`; the released code has `"symmetric"`.
        groups: how many groups, a divisor of I and O.
        estimator: the gradient of the weights' sign, one of `estimators.ESTIMATORS`.

    Raises:
        RefdesignError: a size that is none, an unknown estimator or padding mode, or groups that do not divide the
            channels.

    >>> layer = BinaryConv2D(2, (3, 3), padding=(1, 1))
    >>> layer.build((None, 2, 3, 5))
    >>> layer.set_weights([np.ones((3, 3, 5, 2), np.float32)])
    >>> ops.convert_to_numpy(layer(np.ones((1, 2, 3, 5), np.float32)))[0, :, :, 0].tolist()
    [[20.0, 30.0, 20.0], [20.0, 30.0, 20.0]]
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Pair,
        strides: int | Pair = (1, 1),
        padding: int | Pair = (0, 0),
        padding_mode: str = "zeros",
        dilation: int | Pair = (1, 1),
        groups: int = 1,
        estimator: str = "clipped",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_estimator(estimator)
        if padding_mode not in PADDING_MODES:
            raise RefdesignError(f"padding_mode: found {padding_mode!r}, expected one of {', '.join(PADDING_MODES)}")
        if groups < 1 or filters % groups:
            raise RefdesignError(f"groups: found {groups}, expected a divisor of {filters} filters")
        self.filters, self.groups, self.padding_mode, self.estimator = filters, groups, padding_mode, estimator
        self.kernel_size = as_pair("BinaryConv2D, kernel_size", kernel_size, 1)
        self.strides = as_pair("BinaryConv2D, strides", strides, 1)
        self.padding = as_pair("BinaryConv2D, padding", padding, 0)
        self.dilation = as_pair("BinaryConv2D, dilation", dilation, 1)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Draw the latent weights."""
        channels = int(shape[-1] or 0)
        if channels % self.groups:
            raise RefdesignError(f"groups: found {self.groups}, expected a divisor of {channels} channels")
        self.latent = self.add_weight(
            shape=(*self.kernel_size, channels // self.groups, self.filters),
            initializer="glorot_uniform",
            name="latent",
        )

    def call(self, x: Tensor) -> Tensor:
        """Accumulators (N, H', W', O) of x (N, H, W, I)."""
        weights = straight_through_sign(self.latent, self.estimator, PAPER)
        windows = Windows.of(
            known_extent(self.name, x.shape), self.kernel_size, stride=self.strides, padding=self.padding,
            padding_mode=self.padding_mode, dilation=self.dilation,
        )  # fmt: skip
        padded = pad(x, windows)
        # Keras refuses strides and dilation together; the products are taken tap by tap, and float32 sums of them
        # are exact up to 2**24 in any order.
        total: Tensor = 0
        for i, j in np.ndindex(*self.kernel_size):
            seen = padded[:, windows.reach(0, i), windows.reach(1, j)]
            total = total + self._products(seen, weights[i, j])
        return total

    def _products(self, seen: Tensor, weights: Tensor) -> Tensor:
        """(N, H', W', I) with (I/groups, O), each group with its own channels."""
        depth, per_group = int(weights.shape[0]), self.filters // self.groups
        parts = [
            ops.matmul(
                seen[..., group * depth : (group + 1) * depth],
                weights[:, group * per_group : (group + 1) * per_group],
            )
            for group in range(self.groups)
        ]
        return parts[0] if self.groups == 1 else ops.concatenate(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Plain data, for saving."""
        names = ("filters", "kernel_size", "strides", "padding", "padding_mode", "dilation", "groups", "estimator")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="refdesign")
class BinaryDense(keras.layers.Layer):  # type: ignore[misc]
    """A dense layer with weights of ±1 and no bias, on latent weights (I, O).

    Args:
        units: O.
        estimator: the gradient of the weights' sign, one of `estimators.ESTIMATORS`.

    Raises:
        RefdesignError: an unknown estimator.

    >>> layer = BinaryDense(1)
    >>> layer.build((None, 3))
    >>> layer.set_weights([np.array([[0.3], [0.2], [-2.0]], np.float32)])
    >>> ops.convert_to_numpy(layer(np.array([[1.0, 1.0, -1.0]], np.float32))).tolist()
    [[3.0]]
    """

    def __init__(self, units: int, estimator: str = "clipped", **settings: Any) -> None:
        super().__init__(**settings)
        check_estimator(estimator)
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
