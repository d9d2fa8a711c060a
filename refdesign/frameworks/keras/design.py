"""The sign after a periodic threshold on `keras.ops`, by itself and with the batch norm whose gamma scales it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.estimators import check_estimator
from refdesign.ops.dither import threshold_map
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.parameters import ThresholdKernel, check_kernel

Tensor = Any

_DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "clipped": lambda z: ops.cast(ops.abs(z) <= 1, z.dtype),
    "identity": ops.ones_like,
    "polynomial": lambda z: ops.maximum(2 - ops.abs(2 * z), 0),
}
"""Each estimator's value at z."""

_INTEGERS = {"float16": "int16", "bfloat16": "int16", "float32": "int32", "float64": "int64"}
"""For each type of number the integer of its size."""


def straight_through_sign(z: Tensor, estimator: str = "clipped", conventions: Conventions = PAPER) -> Tensor:
    """The sign of z forward, an estimator's gradient backward.

    Args:
        z: a tensor of the backend, floating point, any shape.
        estimator: one of `estimators.ESTIMATORS`; the gradient that arrives is multiplied by its value at z.
        conventions: `sign_at_zero` and `sign_rule` decide ties (docs/method.md, section 3).

    Returns:
        The dtype and shape of `z`, holding +1 and -1 (and 0 at exact zeros under `sign_at_zero=0`).

    Raises:
        RefdesignError: an unknown estimator.

    >>> z = ops.convert_to_tensor([-2.0, -0.5, 0.0, 0.75])
    >>> ops.convert_to_numpy(straight_through_sign(z)).tolist()
    [-1.0, -1.0, 1.0, 1.0]
    """
    check_estimator(estimator)

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def sign(z: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        def gradient(*arriving: Tensor, upstream: Tensor = None) -> Tensor:
            # Of the backends, only PyTorch's passes what arrives by name.
            return (arriving[0] if upstream is None else upstream) * _DERIVATIVES[estimator](z)

        return _signs(z, conventions), gradient

    # Reshaped, a variable is a plain tensor: through a variable, two of the backends would not find the gradient's way.
    signs: Tensor = sign(ops.reshape(z, ops.shape(z)))
    return signs


def _signs(z: Tensor, conventions: Conventions) -> Tensor:
    if conventions.sign_rule == "keras_round":
        return ops.cast(z > KERAS_ROUND_BOUNDARY, z.dtype) * 2 - 1
    # The number's bits as an integer, of which the least has those of -0.0: compared as they are, subnormal numbers
    # would be zeros to TensorFlow and JAX.
    integer = _INTEGERS[keras.backend.standardize_dtype(z.dtype)]
    pattern = ops.view(z, integer)
    sign = ops.where(pattern == np.iinfo(integer).min, 0, ops.sign(pattern))
    return ops.cast(ops.where(sign == 0, conventions.sign_at_zero, sign), z.dtype)


def known_extent(where: str, shape: tuple[int | None, ...]) -> tuple[int, int]:
    """Rows and columns of maps (N, H, W, C).

    Raises:
        RefdesignError: another number of axes, or rows and columns that are left open.

    >>> known_extent("conv1", (None, 5, 7, 3))
    (5, 7)
    """
    if len(shape) != 4 or shape[1] is None or shape[2] is None:
        raise RefdesignError(f"{where}: found shape {tuple(shape)}, expected (N, H, W, C) with known H and W")
    return shape[1], shape[2]


def dithered(
    y: Tensor, kernel: ThresholdKernel | None, conventions: Conventions, gamma: Tensor | None = None
) -> Tensor:
    """z = y - s*T over NHWC maps, or over (N, C), which counts as a map of one pixel.

    Args:
        y: the batch norm's output.
        kernel: the threshold kernel; None gives y back.
        conventions: `kernel_origin`, `channel_map` and `threshold_scale` are followed.
        gamma: (C,), the batch norm's scale; needed under `threshold_scale="gamma"`.

    Raises:
        RefdesignError: another number of axes, a kernel that does not divide the channels, or no gamma.

    >>> y = ops.ones((1, 1, 3, 1))
    >>> ops.convert_to_numpy(dithered(y, ThresholdKernel([[0.25, 1.0]]), PAPER)).ravel().tolist()
    [0.75, 0.0, 0.75]
    """
    if kernel is None:
        return y
    if len(y.shape) not in (2, 4):
        raise RefdesignError(f"DeSign: found shape {tuple(y.shape)}, expected (N, H, W, C) or (N, C)")
    height, width = known_extent("DeSign", y.shape) if len(y.shape) == 4 else (1, 1)
    cells = threshold_map(kernel, height, width, int(y.shape[-1]), conventions)
    threshold = ops.convert_to_tensor(cells if len(y.shape) == 4 else cells[0, 0], dtype=y.dtype)
    if conventions.threshold_scale == "gamma":
        if gamma is None:
            raise RefdesignError("DeSign: threshold_scale is 'gamma', expected the batch norm's gamma as well as y")
        threshold = gamma * threshold
    return y - threshold


class _Dithers:
    """What the layers below share: their three choices, checked, as plain data and back."""

    kernel: ThresholdKernel | None
    conventions: Conventions
    estimator: str

    def choose(self, kernel: ThresholdKernel | None, conventions: Conventions, estimator: str) -> None:
        check_estimator(estimator)
        check_kernel(type(self).__name__, kernel)
        self.kernel, self.conventions, self.estimator = kernel, conventions, estimator

    def choices(self) -> dict[str, Any]:
        kernel = None if self.kernel is None else self.kernel.values.tolist()
        return {"kernel": kernel, "conventions": self.conventions.to_dict(), "estimator": self.estimator}

    @staticmethod
    def chosen(config: dict[str, Any]) -> dict[str, Any]:
        """The configuration with its kernel and conventions made whole again."""
        values = config["kernel"]
        kernel = None if values is None else ThresholdKernel(np.array(values, np.float32))
        return {**config, "kernel": kernel, "conventions": Conventions.from_dict(config["conventions"])}


@keras.saving.register_keras_serializable(package="refdesign")
class DeSign(_Dithers, keras.layers.Layer):  # type: ignore[misc]
    """b = sign(y - s*T) over NHWC maps or (N, C), with a straight-through gradient (docs/method.md, section 1).

    Under `RELEASED_KERAS` it is the authors' layer: whole periods are tiled and the centre is cropped, ties give -1.

    Args:
        kernel: the threshold kernel; None is the plain sign.
        conventions: all choices of sign and dither. Under `threshold_scale="gamma"` the layer is called with
            `gamma=`; in a `Sequential`, where nothing can pass it, `BatchNormDeSign` has its own.
        estimator: one of `estimators.ESTIMATORS`.

    Raises:
        RefdesignError: no threshold kernel, or an unknown estimator.

    >>> bits = DeSign(ThresholdKernel([[0.0, 1.0], [2.0, 3.0]]))(np.full((1, 3, 5, 1), 1.5, np.float32))
    >>> ops.convert_to_numpy(bits)[0, :, :, 0].astype(int).tolist()
    [[1, 1, 1, 1, 1], [-1, -1, -1, -1, -1], [1, 1, 1, 1, 1]]
    """

    def __init__(
        self,
        kernel: ThresholdKernel | None = None,
        conventions: Conventions = PAPER,
        estimator: str = "clipped",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.choose(kernel, conventions, estimator)

    def call(self, y: Tensor, gamma: Tensor | None = None) -> Tensor:
        """The bits of y, in its dtype; gamma (C,) is the batch norm's scale, where the conventions ask for it."""
        z = dithered(y, self.kernel, self.conventions, gamma)
        return straight_through_sign(z, self.estimator, self.conventions)

    def get_config(self) -> dict[str, Any]:
        """Plain data, for saving."""
        return {**super().get_config(), **self.choices()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DeSign:
        """The inverse of `get_config`."""
        return cls(**cls.chosen(config))


@keras.saving.register_keras_serializable(package="refdesign")
class BatchNormDeSign(_Dithers, keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras's batch norm over the last axis with DeSign behind it, so that thresholds can be scaled by its gamma.

    Args:
        kernel, conventions, estimator: as in `DeSign`.
        settings: those of `keras.layers.BatchNormalization`.

    Raises:
        RefdesignError: no threshold kernel, or an unknown estimator.

    >>> layer = BatchNormDeSign(ThresholdKernel([[0.0, 1.0]]), PAPER.replace(threshold_scale="gamma"))
    >>> ops.convert_to_numpy(layer(np.full((1, 1, 3, 2), 0.75, np.float32)))[0, 0].astype(int).tolist()
    [[1, 1], [-1, -1], [1, 1]]
    """

    def __init__(
        self,
        kernel: ThresholdKernel | None = None,
        conventions: Conventions = PAPER,
        estimator: str = "clipped",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.choose(kernel, conventions, estimator)

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        """The bits of the normalised inputs."""
        y = super().call(inputs, training=training, mask=mask)
        gamma = self.gamma if self.scale else ops.ones((int(inputs.shape[-1]),))
        z = dithered(y, self.kernel, self.conventions, gamma)
        return straight_through_sign(z, self.estimator, self.conventions)

    def get_config(self) -> dict[str, Any]:
        """Plain data, for saving."""
        return {**super().get_config(), **self.choices()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BatchNormDeSign:
        """The inverse of `get_config`."""
        return cls(**cls.chosen(config))
