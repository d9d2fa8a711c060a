"""What TensorFlow makes of 1/sqrt, for files that hold a batch norm's parameters and not what is computed of them."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from refdesign.errors import RefdesignError


def reciprocal_root(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """TensorFlow's 1/sqrt on the CPU, eager or as a graph, which is not correctly rounded (docs/method.md, section 3).

    Args:
        values: variance + epsilon of all channels of a batch norm, float32 (C,), positive. All of them at once, as
            Keras asks for them: one alone may be rounded otherwise.

    Raises:
        RefdesignError: another backend than TensorFlow, on which the arithmetic `"keras"` is measured.

    >>> try:
    ...     error = float(abs(reciprocal_root(np.array([4.0, 2.0, 1.0], np.float32))[0] - 0.5))
    ... except RefdesignError:  # another backend
    ...     error = 0.0
    >>> error < 1e-6
    True
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RefdesignError(f"reciprocal_root: found the backend {backend!r}, expected 'tensorflow' (KERAS_BACKEND)")
    root: NDArray[np.float32] = np.asarray(ops.convert_to_numpy(ops.rsqrt(ops.convert_to_tensor(values))))
    return root
